"""The API server takes our definitions, and refuses by them what it should."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.reference import vector

pytestmark = pytest.mark.cluster
MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "crd"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={scaled(60):.0f}s")
        yield cluster


def create(cluster: Cluster, name: str, spec: Any) -> subprocess.CompletedProcess[str]:
    claim = {"apiVersion": "pkg.internal/v1beta2", "kind": "Datalab", "metadata": {"name": name}, "spec": spec}
    return cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(claim), check=False)


@pytest.mark.parametrize("name", ["datalabs.pkg.internal", "environmentconfigs.pkg.internal"])
def test_schemas_are_structural(cluster: Cluster, name: str) -> None:
    crd = json.loads(cluster.kubectl("get", "crd", name, "-o", "json").stdout)
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("sample", ["environment", "s-jeff", "s-jane"])
def test_samples_are_accepted(cluster: Cluster, sample: str) -> None:
    assert "created" in cluster.kubectl("create", "-f", str(MANIFESTS / "samples" / f"{sample}.yaml")).stdout


def test_reference_environments_are_accepted_as_our_kind(cluster: Cluster) -> None:
    documents = list(yaml.safe_load_all(vector("environmentconfig.yaml").read_text()))
    ours = [
        document | {"apiVersion": "pkg.internal/v1beta1", "metadata": {"name": f"reference-{index}"}}
        for index, document in enumerate(documents)
    ]
    assert "created" in cluster.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(ours)).stdout


def test_defaults_are_written_out(cluster: Cluster) -> None:
    created = json.loads(create(cluster, "bare", {"sessions": [{"name": "a"}]}).stdout)
    assert created["spec"] == {
        "users": [],
        "userOverrides": {},
        "sessions": [{"name": "a", "state": "started"}],
        "databases": {},
        "documentStores": {},
        "cacheStores": {},
        "vectorStores": {},
        "vcluster": False,
        "data": {"enabled": True, "readOnlyMount": False},
        "registry": {"enabled": False},
        "persistence": {},
        "files": [],
    }


def kstatus(live: dict[str, Any]) -> str:
    """What kstatus says of an object of a kind that it does not know (sigs.k8s.io/cli-utils, `pkg/kstatus/status`)."""
    status = live.get("status") or {}
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    if live["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", live["metadata"]["generation"]) != live["metadata"]["generation"]:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def test_a_claim_that_nobody_has_looked_at_is_not_current(cluster: Cluster) -> None:
    live = json.loads(create(cluster, "unseen", {"users": ["ann"]}).stdout)
    assert (live["status"], kstatus(live)) == ({"observedGeneration": -1}, "InProgress")
    read = json.loads(cluster.kubectl("get", "datalab", "unseen", "-o", "json").stdout)
    assert (read["status"], kstatus(read)) == ({"observedGeneration": -1}, "InProgress")


STORES = {f"store-{number}": {"storage": "1Gi"} for number in range(50)}
LARGEST: dict[str, Any] = {
    "users": [f"user-{number}" for number in range(500)],
    "userOverrides": {f"user-{number}": {"role": "admin"} for number in range(500)},
    "sessions": [{"name": f"session-{number}"} for number in range(100)],
    "databases": {f"pg-{number}": {"names": ["app"], "storage": "1Gi", "backupStorage": "1Gi"} for number in range(50)},
    "documentStores": STORES,
    "cacheStores": STORES,
    "vectorStores": STORES,
}


def test_the_largest_claim_is_accepted(cluster: Cluster) -> None:
    assert json.loads(create(cluster, "largest", LARGEST).stdout)["spec"]["users"] == LARGEST["users"]


def test_what_was_written_for_the_composition_passes_strict_validation(cluster: Cluster) -> None:
    crossplane = {"compositionRef": {"name": "datalab"}, "resourceRefs": [{"kind": "Object", "name": "x"}]}
    assert (
        json.loads(create(cluster, "composed", {"crossplane": crossplane}).stdout)["spec"]["crossplane"] == crossplane
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(
            {"quota": {"memory": "0"}},
            'spec.quota.memory: Invalid value: "0": must be greater than zero',
            id="no memory",
        ),
        pytest.param({"quota": {"memory": "512m"}}, "should match", id="a fraction of a byte"),
        pytest.param({"quota": {"memory": 5}}, "must be of type string", id="number for a quantity"),
        pytest.param(
            {"files": [{"path": "."}]}, "spec.files[0]: Invalid value: must have exactly one of", id="no source"
        ),
        pytest.param(
            {"files": [{"git": {"url": "https://a/b", "ref": "m"}, "http": {"url": "https://a"}}]},
            "must have exactly one of image, git and http",
            id="two sources",
        ),
        pytest.param(
            {"sessions": [{"name": "a"}, {"name": "a"}]}, "spec.sessions[1]: Duplicate value", id="same name twice"
        ),
        pytest.param({"sessions": [{"name": "A"}]}, "spec.sessions[0].name", id="name in capitals"),
        pytest.param({"sessions": [{"name": "a", "state": "running"}]}, "Unsupported value", id="unknown state"),
        pytest.param({"users": [" joe"]}, "spec.users[0]", id="user with white space"),
        pytest.param({"quota": {"colour": "blue"}}, 'unknown field "spec.quota.colour"', id="unknown field"),
        pytest.param(None, "spec", id="no spec"),
    ],
)
def test_is_refused_by_the_schema(cluster: Cluster, spec: Any, said: str) -> None:
    answer = create(cluster, "refused", spec)
    assert answer.returncode == 1
    assert said in answer.stderr


def test_a_malformed_quantity_is_told_once(cluster: Cluster) -> None:
    assert create(cluster, "refused", {"quota": {"memory": "zzz"}}).stderr.count("spec.quota.memory:") == 1


def test_columns(cluster: Cluster) -> None:
    create(cluster, "columns", {"users": ["joe"]})
    status = {
        "started": "1/2",
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": "Why",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind, value in (("Synced", "True"), ("Ready", "False"))
        ],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "dl", "columns", "--subresource=status", "--type=merge", "-p", patch)
    head, row = cluster.kubectl("get", "dl", "columns").stdout.splitlines()
    assert head.split() == ["NAME", "SYNCED", "READY", "SESSIONS", "REASON", "AGE"]
    assert row.split()[:5] == ["columns", "True", "False", "1/2", "Why"]
