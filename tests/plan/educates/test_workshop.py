import json
from typing import Any

import pytest

from datalabd.api.meta import ACCOUNT, Manifest
from datalabd.plan.data_browser import session_objects as data_objects
from datalabd.plan.educates.workshop import (
    live_session_policies,
    session_content,
    session_objects,
    withheld_secrets,
    workshop,
    workshop_spec,
)
from datalabd.plan.metadata import ours
from datalabd.plan.network_policies import session_policies, workshop_policies
from datalabd.plan.rights import binding
from datalabd.plan.volumes import data_mount
from tests.factories import environment, lab, running

STORAGE = {"storage": "1Gi"}
DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
GIT = {"git": {"url": "https://example.org/a.git", "ref": "main"}, "includePaths": ["/docs/**"]}
PRIVILEGED = environment(allowed={"policies": ["privileged"]}, defaults={"security": {"policy": "privileged"}})


def test_workshop() -> None:
    here = lab()
    seen = running(here)
    mount = data_mount(here)
    mount["metadata"].pop("namespace")
    assert workshop(here, seen) == ours(
        here,
        {
            "apiVersion": "training.educates.dev/v1beta1",
            "kind": "Workshop",
            "metadata": {"name": "lab"},
            "spec": {
                "title": "Default DataLab",
                "description": "A default DataLab environment.",
                "version": "1.0",
                "workshop": {"files": [], "packages": []},
                "session": {
                    "applications": {
                        "console": {"enabled": False},
                        "editor": {"enabled": True},
                        "slides": {"enabled": False},
                        "terminal": {"enabled": True},
                        "workshop": {"enabled": False},
                        "vcluster": {"enabled": False, "version": "1.34", "services": {"fromHost": []}},
                    },
                    "resources": {"memory": "2Gi", "volume": {"name": "$(session_name)-persistent"}},
                    "namespaces": {
                        "budget": "medium",
                        "role": "edit",
                        "security": {"policy": "baseline", "token": {"enabled": True}},
                    },
                    "envFrom": [{"secretRef": {"name": "lab-datalab"}}],
                    "dashboards": [
                        {"name": "Data", "url": "$(ingress_protocol)://data-$(session_name).$(ingress_domain)/"}
                    ],
                    "ingresses": [
                        {
                            "name": "data",
                            "protocol": "http",
                            "host": "data-$(session_name).$(workshop_namespace).svc.$(cluster_domain)",
                            "port": 8888,
                        }
                    ],
                    "objects": [
                        *session_policies(here, seen, ["$(session_namespace)"]),
                        binding(ACCOUNT, "datalabd-session", "$(session_namespace)"),
                        *data_objects(here),
                    ],
                },
                "environment": {
                    "secrets": [{"name": "lab-datalab", "namespace": "team"}],
                    "objects": [*workshop_policies(here, seen), mount, binding(ACCOUNT, "datalabd-lab")],
                },
            },
        },
    )


def session(**spec: Any) -> Manifest:
    """What the Workshop of such a claim says of sessions."""
    here = lab(PRIVILEGED if spec.pop("privileged", False) else environment(), **spec)
    return dict(workshop_spec(here, running(here))["session"])


@pytest.mark.parametrize(
    ("spec", "application", "expected"),
    [
        pytest.param({"files": [GIT]}, "workshop", {"enabled": True}, id="instructions come with files"),
        pytest.param({}, "docker", None, id="no docker"),
        pytest.param(
            {"privileged": True}, "docker", {"enabled": True, "storage": "20Gi"}, id="docker where privileged"
        ),
        pytest.param({}, "registry", None, id="no registry"),
        pytest.param(
            {"registry": {"enabled": True}},
            "registry",
            {"enabled": True, "storage": "5Gi"},
            id="registry of usual size",
        ),
        pytest.param(
            {"registry": {"enabled": True, "storage": "3Gi"}},
            "registry",
            {"enabled": True, "storage": "3Gi"},
            id="registry of chosen size",
        ),
        pytest.param(
            {"vcluster": True, "databases": {"pg1": DATABASE, "pg0": DATABASE}},
            "vcluster",
            {
                "enabled": True,
                "version": "1.34",
                "services": {
                    "fromHost": [
                        {"from": "$(workshop_namespace)/pg0-primary", "to": "$(workshop_namespace)/pg0-primary"},
                        {"from": "$(workshop_namespace)/pg1-primary", "to": "$(workshop_namespace)/pg1-primary"},
                    ]
                },
            },
            id="databases are mirrored into virtual clusters, sorted",
        ),
    ],
)
def test_applications(spec: dict[str, Any], application: str, expected: Manifest | None) -> None:
    assert session(**spec)["applications"].get(application) == expected


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(
            {"quota": {"memory": "6Gi"}},
            "resources",
            {"memory": "6Gi", "volume": {"name": "$(session_name)-persistent"}},
            id="memory",
        ),
        pytest.param(
            {"sessions": []},
            "resources",
            {"memory": "2Gi", "volume": {"name": "$(session_name)-persistent"}},
            id="the lasting volume, also before any session is declared",
        ),
        pytest.param(
            {
                "quota": {"budget": "x-large"},
                "security": {"policy": "restricted", "kubernetesAccess": False, "kubernetesRole": "view"},
            },
            "namespaces",
            {"budget": "x-large", "role": "view", "security": {"policy": "restricted", "token": {"enabled": False}}},
            id="namespaces",
        ),
        pytest.param({"data": {"enabled": False}}, "dashboards", [], id="no tab without data"),
        pytest.param({"data": {"enabled": False}}, "ingresses", [], id="no host without data"),
    ],
)
def test_session(spec: dict[str, Any], field: str, expected: Any) -> None:
    assert session(**spec)[field] == expected


def test_files_are_passed_on_as_written() -> None:
    package = {"name": "rclone", "files": [{"image": {"url": "example.org/rclone:1"}, "anything": "else"}]}
    here = lab(environment(packages=[package]), files=[GIT])
    assert workshop_spec(here, running(here))["workshop"] == {"files": [GIT], "packages": [package]}


def test_no_mount_in_the_workshop_without_data() -> None:
    here = lab(data={"enabled": False})
    objects = workshop_spec(here, running(here))["environment"]["objects"]
    assert {obj["kind"] for obj in objects} == {"NetworkPolicy", "RoleBinding"}


def described(objects: list[Manifest]) -> list[str]:
    """Kind and namespace of objects, each once."""
    return list(dict.fromkeys(f"{obj['kind']} {obj['metadata']['namespace']}" for obj in objects))


@pytest.mark.parametrize(
    ("network", "spec", "expected"),
    [
        pytest.param(
            {},
            {"data": {"enabled": False}},
            ["NetworkPolicy $(session_namespace)", "RoleBinding $(session_namespace)"],
            id="policies and our rights only",
        ),
        pytest.param(
            {},
            {"vcluster": True},
            [
                "NetworkPolicy $(session_namespace)",
                "NetworkPolicy $(session_namespace)-vc",
                "RoleBinding $(session_namespace)",
                "RoleBinding $(session_namespace)-vc",
                "Deployment $(workshop_namespace)",
                "Service $(workshop_namespace)",
            ],
            id="policies of both namespaces first",
        ),
        pytest.param(
            {"serviceCIDR": "10.43.0.0/16"},
            {"vcluster": True, "data": {"enabled": False}},
            [
                "NetworkPolicy $(session_namespace)",
                "NetworkPolicy $(session_namespace)-vc",
                "RoleBinding $(session_namespace)",
                "RoleBinding $(session_namespace)-vc",
                "ConfigMap $(session_namespace)-vc",
            ],
            id="network of Services for the virtual cluster",
        ),
        pytest.param(
            {"serviceCIDR": "10.43.0.0/16"},
            {"data": {"enabled": False}},
            ["NetworkPolicy $(session_namespace)", "RoleBinding $(session_namespace)"],
            id="not without one",
        ),
    ],
)
def test_session_objects(network: dict[str, Any], spec: dict[str, Any], expected: list[str]) -> None:
    here = lab(environment(network=network), **spec)
    assert described(session_objects(here, running(here))) == expected


def test_network_of_services_of_the_virtual_cluster() -> None:
    here = lab(environment(network={"serviceCIDR": "10.43.0.0/16"}), vcluster=True)
    assert session_objects(here, running(here))[-1] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "vc-cidr-my-vcluster", "namespace": "$(session_namespace)-vc"},
        "data": {"cidr": "10.43.0.0/16"},
    }


def test_live_policies_are_those_of_the_workshop_with_variables_filled_in() -> None:
    """The digest stays: it is that of the Workshop's form, so that what Educates made counts as up to date."""
    here = lab(vcluster=True)
    seen = running(here)
    listed = [obj for obj in session_objects(here, seen) if obj["kind"] == "NetworkPolicy"]
    filled = json.loads(json.dumps(listed).replace("$(session_namespace)", "lab-main"))
    assert live_session_policies(here, seen, "main") == filled


def test_no_variable_is_left_in_live_policies() -> None:
    here = lab(vcluster=True)
    assert "$(" not in json.dumps(live_session_policies(here, running(here), "main"))


BEFORE = lab(environment(network={"externalEgressCIDRs": ["0.0.0.0/0"]}))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"quota": {"memory": "4Gi"}}, id="memory"),
        pytest.param({"files": [GIT]}, id="files"),
        pytest.param({"data": {"readOnlyMount": True}}, id="objects of sessions"),
        pytest.param({"registry": {"enabled": True}}, id="applications"),
    ],
)
def test_a_session_takes_over(spec: dict[str, Any]) -> None:
    after = lab(BEFORE.environment, **spec)
    assert session_content(BEFORE) != session_content(after)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"security": {"externalEgress": False}}, id="policies are kept current"),
        pytest.param({"users": ["ann", "bob"]}, id="members"),
        pytest.param({"sessions": [{"name": "main"}, {"name": "second"}]}, id="another session"),
        pytest.param({"quota": {"storage": "2Gi"}}, id="size of the home directory"),
    ],
)
def test_a_session_does_not_take_over(spec: dict[str, Any]) -> None:
    after = lab(BEFORE.environment, **spec)
    assert session_content(BEFORE) == session_content(after)


def test_a_session_takes_over_all_of_the_workshop_but_policies_and_rights() -> None:
    here = lab(environment(network={"serviceCIDR": "10.43.0.0/16"}), vcluster=True, registry={"enabled": True})
    spec = workshop_spec(here, running(here))
    objects = [obj for obj in spec["session"]["objects"] if obj["kind"] not in ("NetworkPolicy", "RoleBinding")]
    assert session_content(here) == {
        "session": spec["session"] | {"objects": objects},
        "workshop": spec["workshop"],
    }


def test_secrets_of_files_that_the_workshop_does_not_list_are_withheld() -> None:
    own = {"image": {"url": "registry.example.org/a:1", "secretRef": {"name": "lab-datalab"}}}
    needing = {
        "url": "https://example.org/a.git",
        "ref": "main",
        "verification": {"publicKeysSecretRef": {"name": "keys"}},
        "secretRef": {"name": "mine"},
    }
    here = lab(files=[GIT, own, {"git": needing}])
    signed = here.claim.spec.files[2]
    assert withheld_secrets(here) == [
        ("spec.files[2].git.secretRef", signed),
        ("spec.files[2].git.verification.publicKeysSecretRef", signed),
    ]
    listed = workshop_spec(here, running(here))["environment"]["secrets"]
    assert listed == [{"name": "lab-datalab", "namespace": "team"}]
