"""What a tenant may try who has no more than the rights to edit in a namespace of his own."""

from collections.abc import Iterator

import pytest

from datalabd.api.meta import ABANDON
from datalabd.status import stalled_step
from hack.cluster import Cluster
from tests.integration.daemon import IMPATIENT, Daemon, eventually
from tests.integration.objects import read, unique
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TENANT = "--as=alice"
STEPS = "access,sessions,storage,runtime,credentials,identity"


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates and kubelet beside the daemon."""
    with standins(cluster, installed=False):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment, and a namespace in which the tenant may do as ClusterRole `edit` and with claims as he likes."""
    role = unique("tenant")
    cluster.kubectl("create", "clusterrole", role, "--verb=*", "--resource=datalabs.pkg.internal")
    for granted in ("edit", role):
        binding = ["create", "rolebinding", f"alice-{granted}", f"--clusterrole={granted}", "--user=alice"]
        cluster.kubectl(*binding, "-n", namespace)
    return Stage(cluster, namespace)


def abandon(stage: Stage, lab: str, steps: str, *options: str) -> str:
    """What the API server says to whoever has a deletion skip steps; empty: it was accepted."""
    answer = stage.cluster.kubectl(
        "annotate", "datalab", lab, "-n", stage.namespace, "--overwrite", f"{ABANDON}={steps}", *options, check=False
    )
    return answer.stderr


def test_a_running_session_is_not_left_without_its_claim(stage: Stage, datalabd: Daemon) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    assert "ended by those who may delete workshopsessions" in abandon(stage, lab, STEPS, TENANT)
    for user in ((), (TENANT,)):
        assert "this claim has no deletion that has stalled" in abandon(stage, lab, "access,storage", *user)
    hold = {"metadata": {"finalizers": ["example.org/hold"]}}
    stage.cluster.api.patch("workshopsession", f"{lab}-m", hold)
    stage.delete(lab, wait=False)
    waits = f"deleting sessions: waits for WorkshopSession {lab}-m"
    eventually(lambda: stage.condition(lab, "Reconciling").get("message", "").startswith(waits))
    assert "this claim has no deletion that has stalled" in abandon(stage, lab, "sessions")
    datalabd.restart(before=IMPATIENT)
    try:
        eventually(lambda: stalled_step(stage.get("datalab", lab) or {}) == "sessions")
        assert "this one has stalled at sessions" in abandon(stage, lab, "sessions,runtime")
        assert "ended by those who may delete workshopsessions" in abandon(stage, lab, "sessions", TENANT)
        assert abandon(stage, lab, "sessions", "--as=carol", "--as-group=system:masters") == ""
        stage.gone("datalab", lab, stage.namespace)
        assert "deletionTimestamp" in read(stage.cluster, "workshopsession", f"{lab}-m")["metadata"]
    finally:
        stage.cluster.api.patch("workshopsession", f"{lab}-m", {"metadata": {"finalizers": None}})
        datalabd.restart()


def test_steps_that_were_to_be_skipped_before_a_deletion_are_begun_all_the_same(stage: Stage, datalabd: Daemon) -> None:
    """As they could be before anybody refused that."""
    lab = stage.lab("m")
    stage.until_ready(lab)
    datalabd.stop()
    stage.annotate(lab, ABANDON, STEPS)
    datalabd.start()
    stage.delete(lab)
    stage.gone("workshopsession", f"{lab}-m")
    stage.gone("namespace", f"{lab}-m")


def test_a_secret_of_the_tenant_sends_the_node_nowhere(stage: Stage) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    before = stage.get("secret", f"{lab}-datalab") or {}
    elsewhere = {"AWS_ENDPOINT_URL": "http://169.254.169.254/latest"}
    stage.cluster.api.patch("secret", lab, {"stringData": elsewhere}, stage.namespace)
    message = stage.until(lab, "StorageReady", "False", "EndpointNotAllowed")["message"]
    assert message.startswith(f"Secret {stage.namespace}/{lab} names an endpoint, http://169.254.169.254:80, which")
    assert stage.get("secret", f"{lab}-datalab") == before
    assert stage.condition(lab, "SessionsReady")["status"] == "True"
    other = stage.lab("m", storage=False, secretName=lab)
    stage.until(other, "StorageReady", "False", "EndpointNotAllowed")
    assert stage.get("secret", f"{other}-datalab") is None
    stage.edit_environment({"storage": {"endpoints": ["http://169.254.169.254"]}})
    stage.until_ready(lab)
    assert stage.values(f"{lab}-datalab")["AWS_ENDPOINT_URL"] == elsewhere["AWS_ENDPOINT_URL"]
