"""Claims written in one version and read in the other, through the API server and our conversion webhook."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from hack.cluster import Cluster
from tests.integration.daemon import WEBHOOKS, Daemon, eventually
from tests.integration.objects import claim, create, environment, open_namespace, read, replace, unique

pytestmark = pytest.mark.cluster

ENVIRONMENT = "conversion"

OLD = "datalabs.v1beta1.pkg.internal"
NEW = "datalabs.v1beta2.pkg.internal"
SERVER = {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.fixture(scope="module", autouse=True)
def environments(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    cluster.api.create(environment(ENVIRONMENT))
    yield
    datalabd.clear()  # it would not let an environment go that claims still use
    cluster.kubectl("delete", "dlenv", ENVIRONMENT)


def stored(cluster: Cluster, namespace: str, version: str, **spec: Any) -> str:
    """The name of a new claim."""
    manifest = claim(namespace, ENVIRONMENT, version, **spec)
    cluster.api.create(manifest)
    return str(manifest["metadata"]["name"])


def annotated(manifest: Manifest) -> set[str]:
    return set(manifest["metadata"].get("annotations", {}))


def test_a_claim_of_v1beta1_is_read_as_v1beta2(cluster: Cluster, namespace: str) -> None:
    sessions = ["a", {"name": "b"}, {"name": "c", "state": "Paused"}]
    name = stored(
        cluster, namespace, V1BETA1, sessions=sessions, databases={"pg0": SERVER | {"storageClassName": "fast"}}
    )
    live = read(cluster, NEW, name, namespace)
    assert live["apiVersion"] == V1BETA2
    assert live["spec"]["sessions"] == [
        {"name": "a", "state": "started"},
        {"name": "b", "state": "started"},
        {"name": "c", "state": "stopped"},
    ]
    assert live["spec"]["databases"] == {"pg0": SERVER}


def test_a_claim_of_v1beta1_is_read_back_as_it_was_written(cluster: Cluster, namespace: str) -> None:
    sessions = ["a", {"name": "b"}, {"name": "c", "state": "Paused"}]
    databases = {"pg0": SERVER | {"storageClassName": "fast", "backupStorageClassName": "slow"}}
    name = stored(cluster, namespace, V1BETA1, sessions=sessions, databases=databases)
    live = read(cluster, OLD, name, namespace)
    assert live["apiVersion"] == V1BETA1
    assert (live["spec"]["sessions"], live["spec"]["databases"]) == (sessions, databases)
    assert annotated(live) == {"datalabs.pkg.internal/environment"}


def test_a_claim_of_v1beta2_is_read_as_v1beta1(cluster: Cluster, namespace: str) -> None:
    name = stored(cluster, namespace, V1BETA2, sessions=[{"name": "a"}, {"name": "b", "state": "stopped"}])
    assert read(cluster, OLD, name, namespace)["spec"]["sessions"] == ["a", {"name": "b", "state": "stopped"}]


def test_a_stopped_session_survives_a_client_of_v1beta1(cluster: Cluster, namespace: str) -> None:
    name = stored(cluster, namespace, V1BETA2, sessions=[{"name": "a", "state": "stopped"}, {"name": "b"}])
    assert replace(cluster, read(cluster, OLD, name, namespace)).returncode == 0
    sessions = read(cluster, NEW, name, namespace)["spec"]["sessions"]
    assert sessions == [{"name": "a", "state": "stopped"}, {"name": "b", "state": "started"}]


def test_classes_of_database_servers_survive_a_client_of_v1beta2(cluster: Cluster, namespace: str) -> None:
    databases = {"pg0": SERVER | {"storageClassName": "fast"}}
    name = stored(cluster, namespace, V1BETA1, databases=databases)

    live = read(cluster, NEW, name, namespace)
    live["spec"]["users"] = ["joe", "jane"]
    assert replace(cluster, live).returncode == 0
    live = read(cluster, OLD, name, namespace)
    assert (live["spec"]["users"], live["spec"]["databases"]) == (["joe", "jane"], databases)


def test_an_edit_of_v1beta2_wins_over_what_v1beta1_said(cluster: Cluster, namespace: str) -> None:
    name = stored(cluster, namespace, V1BETA1, sessions=[{"name": "a", "state": "paused"}])
    patch = json.dumps({"spec": {"sessions": [{"name": "a", "state": "started"}]}})
    cluster.kubectl("patch", NEW, name, "-n", namespace, "--type=merge", "-p", patch)
    assert read(cluster, OLD, name, namespace)["spec"]["sessions"] == ["a"]


def test_generation_stays_when_a_client_of_v1beta1_changes_nothing(cluster: Cluster, namespace: str) -> None:
    name = stored(cluster, namespace, V1BETA1, sessions=["a", {"name": "b", "state": "paused"}])
    generation = read(cluster, NEW, name, namespace)["metadata"]["generation"]
    assert replace(cluster, read(cluster, OLD, name, namespace)).returncode == 0
    assert read(cluster, NEW, name, namespace)["metadata"]["generation"] == generation


@pytest.mark.parametrize(
    ("kind", "spelled"),
    [
        pytest.param(OLD, [["a"], ["b"]], id="v1beta1"),
        pytest.param(NEW, [[{"name": "a", "state": "started"}], [{"name": "b", "state": "started"}]], id="v1beta2"),
    ],
)
def test_lists_hold_claims_of_both_versions(
    cluster: Cluster, namespace: str, kind: str, spelled: list[list[Any]]
) -> None:
    stored(cluster, namespace, V1BETA1, name=unique("lab-1"), sessions=["a"])
    stored(cluster, namespace, V1BETA2, name=unique("lab-2"), sessions=[{"name": "b"}])
    items = json.loads(cluster.kubectl("get", kind, "-n", namespace, "-o", "json").stdout)["items"]
    assert [item["spec"]["sessions"] for item in items] == spelled


def test_status_is_read_in_both_versions(cluster: Cluster, namespace: str) -> None:
    name = stored(cluster, namespace, V1BETA1, sessions=["a"])
    eventually(lambda: read(cluster, NEW, name, namespace).get("status", {}).get("conditions"))
    old, new = (
        {item["type"] for item in read(cluster, kind, name, namespace)["status"]["conditions"]} for kind in (OLD, NEW)
    )
    assert old == new


def test_server_side_apply_in_both_versions(cluster: Cluster, namespace: str) -> None:
    manifest = claim(namespace, ENVIRONMENT, V1BETA1, sessions=["a"], users=["joe"])
    name = manifest["metadata"]["name"]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    newer = manifest | {
        "apiVersion": V1BETA2,
        "spec": {"users": ["joe"], "sessions": [{"name": "a", "state": "stopped"}]},
    }
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(newer))
    assert read(cluster, OLD, name, namespace)["spec"]["sessions"] == [{"name": "a", "state": "stopped"}]


# --- what no schema and no webhook checked ----------------------------------------------------------------------------

BROKEN = [None, 3, {}, {"name": 5}, ["a"], {"name": "a", "state": {"is": "odd"}}]
"""Sessions that v1beta1's schema cannot refuse."""


class Broken(NamedTuple):
    """Two claims of one namespace."""

    namespace: str
    misshapen: str
    misnamed: str


@pytest.fixture(scope="module")
def broken(cluster: Cluster, datalabd: Daemon) -> Broken:
    """Claims that were created while the API server asked no webhook about them."""
    namespace = open_namespace(cluster, "broken")
    misshapen = claim(namespace, ENVIRONMENT, V1BETA1, sessions=BROKEN)
    misnamed = claim(namespace, ENVIRONMENT, V1BETA1, sessions=["A b"])

    def unchecked(manifest: Manifest) -> bool:
        """datalabd puts its registrations right again, each time a little later; the API server hears of it late."""
        for kind in WEBHOOKS:
            nobody = [{"op": "add", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"is": "nobody"}}}]
            cluster.kubectl("patch", kind, "datalabd", "--type=json", "-p", json.dumps(nobody))
        return create(cluster, manifest, check=False).returncode == 0

    for manifest in (misshapen, misnamed):
        eventually(partial(unchecked, manifest), 60)
    datalabd.restart()
    return Broken(namespace, misshapen["metadata"]["name"], misnamed["metadata"]["name"])


def test_an_invalid_claim_is_read_in_both_versions(cluster: Cluster, broken: Broken) -> None:
    namespace, name, _ = broken
    assert len(read(cluster, OLD, name, namespace)["spec"]["sessions"]) == len(BROKEN)
    assert len(read(cluster, NEW, name, namespace)["spec"]["sessions"]) == len(BROKEN)


def test_an_invalid_claim_is_listed_among_the_others(cluster: Cluster, broken: Broken) -> None:
    for kind in (OLD, NEW):
        assert cluster.kubectl("get", kind, "-n", broken[0], "-o", "name").stdout.count("\n") == 2


def test_status_of_an_invalid_claim_names_the_field(cluster: Cluster, broken: Broken) -> None:
    def message() -> str:
        live = read(cluster, NEW, broken.misnamed, broken.namespace)
        conditions = {item["type"]: item for item in live.get("status", {}).get("conditions", [])}
        return str(conditions.get("Synced", {}).get("message", ""))

    assert eventually(message).startswith('spec.sessions[0].name: Invalid value: "A b": must be lower-case letters')


def test_an_invalid_claim_does_not_disturb_the_admission_of_others(
    cluster: Cluster, broken: Broken, namespace: str
) -> None:
    answer = create(cluster, claim(namespace, ENVIRONMENT), "--dry-run=server", check=False)
    assert answer.returncode == 0, answer.stderr


def test_an_invalid_claim_can_be_mended(cluster: Cluster, broken: Broken) -> None:
    namespace, name, _ = broken
    patch = json.dumps({"spec": {"sessions": ["a"]}})
    answer = cluster.kubectl("patch", OLD, name, "-n", namespace, "--type=merge", "-p", patch, check=False)
    assert answer.returncode == 0, answer.stderr
    assert read(cluster, NEW, name, namespace)["spec"]["sessions"] == [{"name": "a", "state": "started"}]
