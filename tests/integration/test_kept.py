"""What an edit, a deletion or a lost finalizer must not take from a lab: what it has, and its name."""

import json
from collections.abc import Callable, Iterator

import pytest

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from hack.cluster import Cluster
from hack.standins import STORES
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import claim, replace, unique
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GROWING = {"storageClassName": "growing"}
SERVER = {"names": ["app"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates, kubelet and the operators of stores beside the daemon."""
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


def apply(stage: Stage, manifest: Manifest) -> None:
    """Server-side apply by one field manager, as GitOps does it; what is in its way is a failure."""
    options = ("--server-side", "--field-manager=kustomize-controller", "-f", "-")
    stage.cluster.kubectl("apply", *options, stdin=json.dumps(manifest))


def put(stage: Stage, manifest: Manifest) -> None:
    """`kubectl create` or `kubectl replace`: all that the manifest does not say goes."""
    if stage.get("datalab", manifest["metadata"]["name"]) is None:
        stage.create(manifest)
    else:
        answer = replace(stage.cluster, manifest)
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("write", [apply, put])
def test_a_switch_of_version_keeps_classes_and_takes_away_what_is_declared_no_more(
    stage: Stage, write: Callable[[Stage, Manifest], None]
) -> None:
    name = unique()
    stage.storage_secret(name)
    older = claim(
        stage.namespace,
        stage.environment,
        V1BETA1,
        name,
        sessions=["main", {"name": "other", "state": "paused"}],
        databases={"pg0": SERVER | GROWING},
    )
    newer = claim(
        stage.namespace, stage.environment, V1BETA2, name, sessions=[{"name": "main"}], databases={"pg0": SERVER}
    )
    newer["spec"]["users"] = ["joe", "bob"]

    write(stage, older)
    server = eventually(lambda: stage.get("postgrescluster", "pg0", name))
    write(stage, newer)
    spec = (stage.get("datalab", name) or {})["spec"]
    assert (spec["users"], spec["sessions"]) == (["joe", "bob"], [{"name": "main", "state": "started"}])
    read = stage.get("datalabs.v1beta1.pkg.internal", name) or {}
    assert read["spec"]["databases"] == {"pg0": SERVER | GROWING}
    stage.until(name, "Synced", "True")
    assert (stage.get("postgrescluster", "pg0", name) or {})["spec"] == server["spec"] | {
        "users": [*server["spec"]["users"], {"name": "bob"}]
    }
    write(stage, older)
    read = stage.get("datalabs.v1beta1.pkg.internal", name) or {}
    assert (read["spec"]["sessions"], read["spec"]["databases"]) == (
        older["spec"]["sessions"],
        older["spec"]["databases"],
    )


def test_a_class_that_a_claim_lost_is_taken_back_from_its_volume(stage: Stage) -> None:
    name = unique()
    stage.storage_secret(name)
    manifest = claim(stage.namespace, stage.environment, V1BETA1, name, databases={"pg0": SERVER | GROWING})
    stage.create(manifest)
    eventually(lambda: stage.get("postgrescluster", "pg0", name))
    # As earlier releases let it be lost.
    lost = json.dumps({"databases": {"pg0": {"storageClassName": ""}}})
    stage.annotate(name, "datalabs.pkg.internal/conversion", lost)
    other = manifest | {"spec": {"users": ["joe"], "databases": {"pg0": SERVER | {"storageClassName": "other"}}}}
    assert 'must stay "growing"' in replace(stage.cluster, other).stderr
    answer = replace(stage.cluster, manifest)
    assert answer.returncode == 0, answer.stderr


def test_a_deletion_that_orphans_leaves_nothing_that_blocks_the_next_claim(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    assert stage.get("secret", f"{lab}-login") is not None
    stage.cluster.kubectl("delete", "datalab", lab, "-n", stage.namespace, "--cascade=orphan")
    assert stage.list("secrets", f"datalabs.pkg.internal/name={lab}", stage.namespace) == []
    stage.lab("main", name=lab)
    stage.until_ready(lab)
