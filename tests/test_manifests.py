"""What operators apply is complete, accepted by the API server, and enough for the process to start with."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from datalabd.api.meta import ACCOUNT, Manifest
from datalabd.config import Settings
from datalabd.metrics import REGISTRY
from datalabd.plan import rights
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import eventually
from webhooks.registration import CLAIMS
from webhooks.serving_certificate import CERTIFICATE_SECRET
from workspaces.cache import USAGE_KINDS
from workspaces.operations import OPERATIONS

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "manifests"
READY_SECONDS = 60.0


def load(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def container() -> Manifest:
    (deployment,) = load("deployment/deployment.yaml")
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


# ---- What can be told without a cluster


ALERTS = ["monitoring", "workspaces/monitoring"]


@pytest.mark.parametrize("name", ["rbac", "local", "webhook", "deployment", "samples", "workspaces", *ALERTS])
def test_every_file_is_in_its_kustomization(name: str) -> None:
    files = {path.name for path in (MANIFESTS / name).glob("*.yaml")} - {"kustomization.yaml"}
    (kustomization,) = load(f"{name}/kustomization.yaml")
    assert set(kustomization["resources"]) == files


def test_everything_is_installed_but_monitoring_and_samples() -> None:
    crds = {f"crd/{path.name}" for path in (MANIFESTS / "crd").glob("*.yaml")}
    (kustomization,) = load("kustomization.yaml")
    assert set(kustomization["resources"]) == crds | {"rbac", "webhook", "deployment"}


def test_no_file_registers_the_ingress_webhooks() -> None:
    names = {
        manifest["metadata"]["name"]
        for path in MANIFESTS.rglob("*.yaml")
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"].endswith("WebhookConfiguration")
    }
    assert names == {CLAIMS}


def test_the_image_is_of_this_version() -> None:
    assert container()["image"] == f"datalabd:{version('datalabd')}"


def test_ports_are_the_process_own() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"webhook": Settings().webhook_port, "metrics": Settings().metrics_port}


def rules(directory: str) -> list[dict[str, Any]]:
    """Every alert of a directory."""
    (alerts,) = load(f"{directory}/alerts.yaml")
    return [rule for group in alerts["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("directory", ALERTS)
def test_alerts_speak_of_metrics_that_exist(directory: str) -> None:
    exposed = {sample.name for family in REGISTRY.collect() for sample in family.samples} | {
        f"{family.name}{suffix}"
        for family in REGISTRY.collect()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket"]}.get(family.type, [""])
    }
    used = {
        name
        for rule in rules(directory)
        for name in re.findall(r"\b(?:datalabd|workqueue|rest_client)_\w+", re.sub(r"\{.*?\}", "", rule["expr"]))
    }
    assert used
    assert used <= exposed


@pytest.mark.parametrize("directory", ALERTS)
def test_every_alert_looks_at_one_process(directory: str) -> None:
    """Both processes have every series: a Workspace API that leads must not stand for a datalabd that does not."""
    series = r"\b(?:(?:datalabd|workqueue|rest_client)_\w+|up\b)(?:\{(.*?)\})?"
    (service,) = load(f"{directory}/service.yaml")
    for rule in rules(directory):
        found = re.findall(series, re.sub(r"by \(.*?\)", "", rule["expr"]))
        assert found, rule["alert"]
        jobs = {job for matchers in found for job in re.findall(r'\bjob="([^"]+)"', matchers) or [""]}
        assert jobs == {service["metadata"]["name"]}, f"{rule['alert']}: what a ServiceMonitor calls the job"


def test_alerts_name_routes_codes_and_results_of_the_workspace_api() -> None:
    routes = {operation.path for operation in OPERATIONS}
    results = set(re.findall(r'result = "(\w+)"', (ROOT / "workspaces" / "tokens.py").read_text()))
    said = " ".join(rule["expr"] for rule in rules("workspaces/monitoring"))
    found = {route for match in re.findall(r'route!?[=~]+"([^"]+)"', said) for route in match.split("|")}
    assert found == {"/readyz", "/probe", "/metrics"}
    assert found <= routes
    assert set(re.findall(r'result="(\w+)"', said)) == {"unavailable"} <= results
    assert set(re.findall(r'resource!~"([^"]+)"', said)) == {"|".join(map(str, USAGE_KINDS))}


def test_prometheus_gets_in_where_the_workspace_api_is_scraped() -> None:
    """ServiceMonitor to Service to pods to port, and the NetworkPolicy of those pods lets it through."""
    (monitor,) = load("workspaces/monitoring/service-monitor.yaml")
    (service,) = load("workspaces/monitoring/service.yaml")
    (deployment,) = load("workspaces/deployment.yaml")
    (policy,) = load("workspaces/network-policy.yaml")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,), (port,) = monitor["spec"]["endpoints"], service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (listening,) = pod["spec"]["containers"][0]["ports"]
    assert (port["targetPort"], port["port"]) == (listening["name"], listening["containerPort"])
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["ingress"] == [{"ports": [{"port": listening["name"], "protocol": "TCP"}]}]  # from anywhere


def test_the_workspace_api_sees_secrets_of_its_own_namespace_alone() -> None:
    everywhere = [role for role in load("workspaces/roles.yaml") if role["kind"] == "ClusterRole"]
    assert [rule["resources"] for role in everywhere for rule in role["rules"]] == [
        ["customresourcedefinitions"],
        ["customresourcedefinitions"],
        ["resourcequotas"],
        ["persistentvolumeclaims"],
    ]


# ---- What only an API server can tell


@pytest.mark.cluster
def test_the_workspace_api_can_be_applied_to_a_bare_cluster(tmp_path: Path) -> None:
    with Cluster.start(tmp_path / "cluster") as bare:
        bare.kubectl("create", "namespace", "workspace")
        bare.kubectl("apply", "-k", str(MANIFESTS / "workspaces"), "--dry-run=server")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of this module's own: an installation without its pods refuses claims."""
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.kubectl("apply", "--filename", str(MANIFESTS / "deployment" / "namespace.yaml"))
        yield cluster


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The control plane with everything applied, but for what reaches beyond the process' own namespace and labs.

    Else Secrets that it needs for itself would be open to it for another reason.
    """
    cluster.kubectl("apply", "--server-side", "--kustomize", str(MANIFESTS))
    cluster.kubectl("delete", "clusterrolebinding", rights.CLAIMS)
    return cluster


@contextlib.contextmanager
def process(installed: Cluster, log: Path, event: str) -> Iterator[None]:
    """A process with no rights but those of its manifests, from the moment it tells of an event until it is stopped."""
    environ = os.environ | {
        "DATALABD_WEBHOOK_HOST": "127.0.0.1",
        "DATALABD_WEBHOOK_PORT": "0",
        "DATALABD_METRICS_HOST": "127.0.0.1",
        "DATALABD_METRICS_PORT": "0",
    }
    kubeconfig = installed.kubeconfig_for("datalabd/datalabd")
    command = [sys.executable, "-m", "datalabd", "run", "--kubeconfig", str(kubeconfig)]
    with log.open("w") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as started:
        try:
            deadline = time.monotonic() + scaled(READY_SECONDS)
            while not any(line.get("event") == event for line in lines(log)):
                assert started.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            started.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def running(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The ports, by name, of a ready process."""
    log = tmp_path_factory.mktemp("process") / "log"
    with process(installed, log, "ready"):
        yield {line["site"]: line["port"] for line in lines(log) if line.get("event") == "listening"}


def lines(log: Path) -> list[dict[str, Any]]:
    """The complete JSON lines of a log so far."""
    return [
        json.loads(line) for line in log.read_text().splitlines(keepends=True) if line[0] == "{" and line[-1] == "\n"
    ]


def ca_bundles(cluster: Cluster) -> list[str]:
    """Whom the API server trusts to convert, default and validate claims."""
    paths = {
        "crd/datalabs.pkg.internal": "{.spec.conversion.webhook.clientConfig.caBundle}",
        f"mutatingwebhookconfiguration/{CLAIMS}": "{.webhooks[0].clientConfig.caBundle}",
        f"validatingwebhookconfiguration/{CLAIMS}": "{.webhooks[0].clientConfig.caBundle}",
    }
    return [cluster.kubectl("get", what, "--output", f"jsonpath={path}").stdout for what, path in paths.items()]


@pytest.mark.cluster
def test_the_api_server_accepts_every_object(cluster: Cluster) -> None:
    built = cluster.kubectl("kustomize", str(MANIFESTS)).stdout
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "--output", "name")
    accepted = cluster.kubectl("apply", *flags, "--filename", "-", stdin=built).stdout.splitlines()
    assert len(accepted) == len(list(yaml.safe_load_all(built)))


@pytest.mark.cluster
@pytest.mark.parametrize("directory", ALERTS)
def test_monitoring_builds(cluster: Cluster, directory: str) -> None:
    built = cluster.kubectl("kustomize", str(MANIFESTS / directory)).stdout
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(built)]
    assert sorted(kinds) == ["PrometheusRule", "Service", "ServiceMonitor"]


@pytest.mark.cluster
def test_the_pod_meets_the_restricted_standard(installed: Cluster) -> None:
    (deployment,) = load("deployment/deployment.yaml")
    template = deployment["spec"]["template"]
    metadata = template["metadata"] | {"name": "probe", "namespace": "datalabd"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    installed.kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(pod))


@pytest.mark.cluster
def test_the_process_becomes_ready_with_its_rights(running: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{running['metrics']}/readyz", timeout=scaled(10)) as answer:
        assert answer.status == 200


CROSSPLANE: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "environmentconfigs.apiextensions.crossplane.io"},
    "spec": {
        "group": "apiextensions.crossplane.io",
        "names": {"kind": "EnvironmentConfig", "plural": "environmentconfigs", "singular": "environmentconfig"},
        "scope": "Cluster",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"data": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@pytest.mark.cluster
def test_environments_of_crossplane_are_read(installed: Cluster, running: dict[str, Any]) -> None:
    installed.api.create(CROSSPLANE)
    spec = CROSSPLANE["spec"]
    environment = {
        "apiVersion": f"{spec['group']}/v1beta1",
        "kind": "EnvironmentConfig",
        "metadata": {"name": "other"},
        "data": {"ingress": {"domain": "lab.example.org"}},
    }
    create = ["create", "--filename", "-"]
    eventually(lambda: installed.kubectl(*create, stdin=json.dumps(environment), check=False).returncode == 0)
    sample = f'datalabd_store_objects{{resource="{CROSSPLANE["metadata"]["name"]}"}} 1.0'

    def exposed() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{running['metrics']}/metrics", timeout=scaled(10)) as answer:
            return str(answer.read().decode())

    eventually(lambda: sample in exposed())


@pytest.mark.cluster
@pytest.mark.usefixtures("running")
def test_a_certificate_that_is_no_use_is_replaced(installed: Cluster, tmp_path: Path) -> None:
    secret = ("secret", CERTIFICATE_SECRET, "-n", "datalabd")
    installed.kubectl("patch", *secret, "--type=merge", "-p", '{"data": {"tls.crt": "bm9uZQ=="}}')
    with process(installed, tmp_path / "log", "serving certificate loaded"):
        data = json.loads(installed.kubectl("get", *secret, "-o", "json").stdout)["data"]
    assert b64decode(data["tls.crt"]).startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.cluster
@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("flags", [("--server-side",), ()], ids=["server-side", "client-side"])
def test_applying_the_files_again_leaves_the_certificates(installed: Cluster, flags: tuple[str, ...]) -> None:
    before = ca_bundles(installed)
    assert all(before)
    installed.kubectl("apply", *flags, "--kustomize", str(MANIFESTS))
    assert ca_bundles(installed) == before


def bindings(built: str) -> list[tuple[str, str]]:
    """Kind and name of the bindings among built manifests."""
    manifests = list(yaml.safe_load_all(built))
    return [
        (obj["kind"], obj["roleRef"]["name"])
        for obj in manifests
        if obj["kind"].endswith("Binding") and "roleRef" in obj
    ]


@pytest.mark.cluster
def test_an_overlay_confines_it(cluster: Cluster, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    base = os.path.relpath(MANIFESTS, overlay)
    text = {"resources": [base], "components": [f"{base}/confined"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(text))
    everywhere = bindings(cluster.kubectl("kustomize", str(MANIFESTS)).stdout)
    confined = bindings(cluster.kubectl("kustomize", str(overlay)).stdout)
    assert set(everywhere) - set(confined) == {("ClusterRoleBinding", "datalabd-claims")}
    assert set(confined) <= set(everywhere)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        pytest.param("view", ["get", "list", "watch"], ["create", "delete"], id="view"),
        pytest.param("edit", ["get", "list", "watch", "create", "update", "patch", "delete"], [], id="edit"),
        pytest.param("admin", ["get", "list", "watch", "create", "update", "patch", "delete"], [], id="admin"),
    ],
)
def test_users_of_a_namespace_may(installed: Cluster, role: str, may: list[str], may_not: list[str]) -> None:
    user = f"{role}er"
    installed.kubectl("create", "rolebinding", user, "-n", "default", f"--clusterrole={role}", f"--user={user}")

    def can(verb: str, what: str, namespace: str = "default", subresource: str = "") -> bool:
        asked = ["auth", "can-i", verb, what, "-n", namespace, "--as", user, f"--subresource={subresource}"]
        return installed.kubectl(*asked, check=False).stdout.strip() == "yes"

    eventually(lambda: can("list", "datalabs.pkg.internal"))  # aggregated by a controller
    assert [verb for verb in [*may, *may_not] if can(verb, "datalabs.pkg.internal")] == may
    assert can("get", "datalabs.pkg.internal", subresource="status")
    assert not can("patch", "datalabs.pkg.internal", subresource="status")
    assert not can("list", "datalabs.pkg.internal", "kube-system")
    assert not can("create", "environmentconfigs.pkg.internal")


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        pytest.param("create", "crd/others.example.org", id="another CRD"),
        pytest.param("patch", "validatingwebhookconfiguration/others", id="another webhook"),
        pytest.param("create", "pods", id="pods"),
        pytest.param("delete", "pods", id="pods of labs, elsewhere"),
        pytest.param("create", "persistentvolumeclaims", id="volumes"),
        pytest.param("create", "networkpolicies.networking.k8s.io", id="network policies"),
        pytest.param("create", "rolebindings.rbac.authorization.k8s.io", id="role bindings"),
        pytest.param("create", "namespaces", id="namespaces"),
        pytest.param("delete", "datalabs.pkg.internal", id="claims"),
        pytest.param("escalate", "roles.rbac.authorization.k8s.io", id="grant what it may not do itself"),
        pytest.param("create", "clusterroles.rbac.authorization.k8s.io", id="cluster roles"),
    ],
)
def test_the_process_may_not(installed: Cluster, verb: str, what: str) -> None:
    done = installed.kubectl("auth", "can-i", verb, what, "--all-namespaces", "--as", ACCOUNT, check=False)
    assert done.stdout.strip() == "no"
