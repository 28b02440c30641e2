"""Two writers of one field, on a real API server: what others put on goes, and nobody is fought at full speed."""

import functools
import time
from collections.abc import Callable, Iterator

import pytest

from datalabd.api.meta import RETAINED, Manifest
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import Daemon, eventually
from tests.integration.stage import Stage, standins

pytestmark = pytest.mark.cluster

RIVAL = "over-eager"
RECONCILES = 'datalabd_reconcile_total{controller="datalab",result="success"}'


@pytest.fixture(scope="module")
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates and kubelet beside the daemon."""
    with standins(cluster, installed=False):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


@pytest.fixture
def lab(stage: Stage) -> str:
    """A ready lab without a session."""
    name = stage.lab()
    stage.until_ready(name)
    return name


def passes_in_three_seconds(daemon: Daemon) -> float:
    before = daemon.metrics()[RECONCILES]
    time.sleep(3)
    return daemon.metrics()[RECONCILES] - before


def policy(stage: Stage, lab: str, name: str) -> Manifest:
    found = stage.get("networkpolicy", name, lab)
    assert found is not None
    return found


def is_unmarked(stage: Stage, kind: str, name: str, namespace: str) -> bool:
    live = stage.get(kind, name, namespace)
    assert live is not None
    return RETAINED not in live["metadata"]["labels"]


def test_a_retained_label_that_somebody_put_on_goes_and_passes_end(stage: Stage, datalabd: Daemon, lab: str) -> None:
    """Server-side apply takes away only what its own manager set, and empty rules make each apply a change."""
    for kind, name, namespace in (("networkpolicy", "deny-ingress", lab), ("workshopenvironment", lab, "")):
        where = ("-n", namespace) if namespace else ()
        stage.cluster.kubectl("label", kind, name, *where, f"{RETAINED}=true")
        eventually(functools.partial(is_unmarked, stage, kind, name, namespace))
    assert passes_in_three_seconds(datalabd) <= 3
    assert stage.condition(lab, "Ready")["status"] == "True"


def test_a_condition_of_our_types_that_somebody_left_goes_and_others_stay(
    stage: Stage, datalabd: Daemon, lab: str
) -> None:
    for kind in ("Stalled", "Reviewed"):
        left = {"type": kind, "status": "True", "reason": "Old", "message": "left by another tool"}
        left["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        operations = [{"op": "add", "path": "/status/conditions/-", "value": left}]
        stage.cluster.api.patch("datalab", lab, operations, stage.namespace, subresource="status")
    eventually(lambda: stage.condition(lab, "Stalled") == {})
    assert stage.condition(lab, "Reviewed")["reason"] == "Old"
    assert stage.condition(lab, "Ready")["status"] == "True"
    assert passes_in_three_seconds(datalabd) <= 3


def put_back_after(reset: Callable[[], None], is_right: Callable[[], bool]) -> float:
    """Seconds until what `reset` changes is right again."""
    reset()
    began = time.monotonic()
    eventually(is_right, 20)
    return time.monotonic() - began


def test_who_opens_a_network_policy_again_and_again_is_named_and_never_has_it_open_for_long(
    stage: Stage, lab: str
) -> None:
    def open_egress() -> None:
        patch = '{"spec":{"egress":[{}]}}'
        stage.cluster.kubectl(
            "patch", "networkpolicy", "deny-egress", "-n", lab, "--type=merge", "-p", patch, f"--field-manager={RIVAL}"
        )

    def closed() -> bool:
        return "egress" not in policy(stage, lab, "deny-egress")["spec"]

    pauses = [put_back_after(open_egress, closed) for _ in range(8)]
    assert max(pauses[:5]) < scaled(4)  # at once
    assert [pause for pause in pauses[6:] if not 4 < pause < 10 + scaled(2)] == []
    told = stage.until(lab, "Synced", "False", "Contested")
    assert told["message"].startswith(f"NetworkPolicy {lab}/deny-egress does not stay as it is applied: field manager ")
    assert RIVAL in told["message"]
    eventually(lambda: "Contested" in stage.events(lab))


def test_a_fight_over_anything_else_slows_down(stage: Stage, datalabd: Daemon, lab: str) -> None:
    def retitle() -> bool:
        live = stage.get("workshop", lab, "")
        assert live is not None
        was_right = bool(live["spec"]["title"] != RIVAL)
        if was_right:
            patch = '{"spec":{"title":"' + RIVAL + '"}}'
            stage.cluster.kubectl("patch", "workshop", lab, "--type=merge", "-p", patch, f"--field-manager={RIVAL}")
        return was_right

    deadline = time.monotonic() + 15
    repaired = 0
    while time.monotonic() < deadline:
        repaired += retitle()
        time.sleep(0.05)
    assert 3 <= repaired <= 6  # at once, and after 1, 2, 4 and 8 seconds
    told = stage.until(lab, "Synced", "False", "Contested")
    assert told["message"].startswith(f"Workshop {lab} does not stay as it is applied: field manager {RIVAL} ")
    assert datalabd.metrics()["datalabd_contested_objects"] >= 1
