"""The plan against what the reference composition renders for the same claims.

Equal but for the differences below, each of which is meant.
"""

import base64
from typing import Any

import pytest
import yaml

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import MANAGED_BY, PREFIX, STORAGE_CLAIM, Manifest
from datalabd.lab import Lab, environment_name, resolve
from datalabd.observed import Observed, storage_keys
from datalabd.plan import plan
from datalabd.plan.credentials import REMOTE
from tests.reference import vector

FURTHER_POLICIES = ("allow-session-egress", "allow-api-server-egress")
"""Sessions reach their own namespaces and the API server also where the pods' network is closed to labs."""
NODE_LOCAL_DNS = {"ipBlock": {"cidr": "169.254.20.10/32"}}


def lab(claim: str) -> Lab:
    """The lab of a vector's claim, in the environment that it chooses."""
    manifest = yaml.safe_load(vector(f"claims/{claim}.yaml").read_text())
    environments = {
        environment["metadata"]["name"]: environment
        for environment in yaml.safe_load_all(vector("environmentconfig.yaml").read_text())
    }
    return resolve(manifest, EnvironmentConfig.parse(environments[environment_name(manifest)]))


def rendered(name: str) -> list[Manifest]:
    """The objects that the reference renders, out of their wrappers."""
    documents = yaml.safe_load_all(vector(f"expected/{name}.yaml").read_text())
    return [
        document["spec"]["forProvider"]["manifest"] if document["kind"] == "Object" else document
        for document in documents
    ]


def expected(file: str, kind: str, name: str) -> Manifest:
    """One object that the reference renders."""
    (found,) = [obj for obj in rendered(file) if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def planned(lab: Lab, kind: str) -> Manifest:
    """The one object of a kind that we plan before anything is seen, without our marks."""
    stages = plan(lab, Observed(api_server=(("10.0.0.1", 6443),)), "password").stages
    (found,) = [obj for stage in stages for obj in stage.objects if obj["kind"] == kind]
    return dict(unmarked(found))


def unmarked(value: Any) -> Any:
    """An object without our own labels and annotations, in whatever depth."""
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: unmarked(item) for key, item in value.items()}
    if isinstance(metadata := value.get("metadata"), dict):
        for marks in ("labels", "annotations"):
            kept = {key: item for key, item in metadata.pop(marks, {}).items() if not key.startswith(PREFIX)}
            kept.pop(MANAGED_BY, None)
            if kept:
                metadata[marks] = kept
    return value


def as_the_reference(workshop: Manifest, lab: Lab) -> Manifest:
    """Our Workshop without what is meant to differ."""
    spec = workshop["spec"]
    environment_objects = [
        obj for obj in spec["environment"]["objects"] if obj["metadata"]["name"] not in FURTHER_POLICIES
    ]
    for obj in environment_objects:
        if obj["metadata"]["name"] == "allow-dns-egress":
            obj["spec"]["egress"] = [rule for rule in obj["spec"]["egress"] if rule["to"] != [NODE_LOCAL_DNS]]
    session = spec["session"] | {
        # The namespaces of sessions are closed too.
        "objects": [obj for obj in spec["session"]["objects"] if obj["kind"] != "NetworkPolicy"],
        # The home directory lasts, also that of a session declared later.
        "resources": {"memory": spec["session"]["resources"]["memory"], "storage": lab.storage},
    }
    environment = spec["environment"] | {"objects": environment_objects}
    return workshop | {"spec": spec | {"session": session, "environment": environment}}


def without_policy(workshop: Manifest, name: str) -> Manifest:
    """The Workshop but for one of the policies of its environment."""
    environment = workshop["spec"]["environment"]
    kept = [obj for obj in environment["objects"] if obj["metadata"]["name"] != name]
    return workshop | {"spec": workshop["spec"] | {"environment": environment | {"objects": kept}}}


def test_001_workshop() -> None:
    joe = lab("001-lab")
    assert as_the_reference(planned(joe, "Workshop"), joe) == expected("001-lab", "Workshop", "s-joe")


def test_002_workshop() -> None:
    """Without external egress the reference closes DNS too; here names are resolved all the same."""
    jeff = lab("002-lab")
    ours = without_policy(as_the_reference(planned(jeff, "Workshop"), jeff), "allow-dns-egress")
    assert ours == expected("002-lab", "Workshop", "s-jeff")


@pytest.mark.parametrize(("file", "name"), [("001-lab", "s-joe"), ("002-lab", "s-jeff")])
def test_workshop_environment(file: str, name: str) -> None:
    assert planned(lab(file), "WorkshopEnvironment") == expected(file, "WorkshopEnvironment", name)


def test_001_volume_of_the_object_storage() -> None:
    """The one that is kept current by us equals the one in the Workshop, which the reference has too."""
    wanted = expected("001-lab", "Workshop", "s-joe")["spec"]["environment"]["objects"][-1]
    wanted["metadata"]["namespace"] = "s-joe"
    assert planned(lab("001-lab"), "PersistentVolumeClaim") == wanted


def test_002_storage_part_of_the_credentials() -> None:
    """Of the keys built so far; the remote has a fixed name, so that no key turns up in paths and logs."""
    jeff = lab("002-lab")
    (found,) = [
        document["status"]["atProvider"]["manifest"]
        for document in yaml.safe_load_all(vector("observed/002-lab.yaml").read_text())
        if document["metadata"]["name"] == "observe-storage-secret-s-jeff"
    ]
    found["metadata"]["annotations"] = {STORAGE_CLAIM: "default/s-jeff"}
    keys, problem = storage_keys(jeff, found)
    assert keys is not None, problem
    stages = plan(jeff, Observed(storage=keys), "password").stages
    (ours,) = [obj for stage in stages if stage.name == "credentials" for obj in stage.objects]
    written = {key: base64.b64decode(value).decode() for key, value in ours["data"].items()}
    reference = expected("002x-lab", "Secret", "s-jeff-datalab")["stringData"]
    renamed = {"remote": REMOTE, "configData": reference["configData"].replace("[jeff-access-key]", f"[{REMOTE}]")}
    assert written == {key: reference[key] for key in written} | renamed
