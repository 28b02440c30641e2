"""How half an edit is taken back, and which state a write is meant for."""

import pytest

from tests.workspaces.objects import applied, datalab, storage
from workspaces.patches import patch
from workspaces.problems import Problem
from workspaces.writes import Pair, changes, inverse, require_match


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"users": ["alice", "carol"]}, id="an entry more"),
        pytest.param({"users": []}, id="an entry less"),
        pytest.param({"sessions": [{"name": "default", "state": "started"}]}, id="a field more"),
        pytest.param({"userOverrides": {"alice": {"role": "admin"}}, "users": ["alice", "dan"]}, id="two fields"),
    ],
)
def test_what_takes_a_patch_back(change: dict[str, object]) -> None:
    before = datalab("ws-a")
    after = before | {"spec": before["spec"] | change}
    operations = patch(before, after)
    written = applied(operations, before)
    assert written == after
    assert applied(inverse(before, written, operations), written) == before


def test_annotations_are_taken_back_one_by_one() -> None:
    before = storage("ws-a", {"other/kept": "yes"})
    changed = {"other/kept": "yes", "storages.pkg.internal/grant-expiry": "{}"}
    after = before | {"metadata": before["metadata"] | {"annotations": changed}}
    operations = patch(before, after)
    back = inverse(before, after, operations)
    assert [operation["path"] for operation in back] == [
        "/metadata/annotations/storages.pkg.internal~1grant-expiry",
    ] * 2
    assert applied(back, after) == before


def test_what_others_changed_meanwhile_is_not_taken_back() -> None:
    before = datalab("ws-a")
    after = before | {"spec": before["spec"] | {"users": ["alice", "carol"]}}
    operations = patch(before, after)
    later = before | {"spec": before["spec"] | {"users": ["alice", "carol", "dan"]}}
    with pytest.raises(AssertionError):
        applied(inverse(before, after, operations), later)


@pytest.mark.parametrize("said", ["", "*", "{tag}", "W/{tag}", '"other", {tag}'])
def test_a_write_that_is_meant_for_this_state(said: str) -> None:
    pair = Pair(storage(), datalab())
    require_match(pair, said.format(tag=pair.tag))


def test_a_write_that_is_meant_for_another_state() -> None:
    pair = Pair(storage(), datalab())
    with pytest.raises(Problem) as refused:
        require_match(Pair(storage("ws-b"), datalab()), pair.tag)
    assert refused.value.status == 412


def test_status_alone_is_no_other_state() -> None:
    pair, later = Pair(storage(), datalab()), datalab() | {"status": {"phase": "Ready"}}
    later["metadata"]["resourceVersion"] = "10"
    assert Pair(storage(), later).tag == pair.tag


def test_what_is_told_of_a_patch() -> None:
    before = datalab("ws-a", sessions=[{"name": "default", "state": "started"}])
    sessions = [{"name": "default", "state": "stopped"}]
    after = before | {"spec": before["spec"] | {"users": ["alice", "carol"], "sessions": sessions}}
    assert changes(patch(before, after)) == [
        {"path": "/spec/sessions/0/state", "before": "started", "after": "stopped"},
        {"path": "/spec/users/-", "after": "carol"},
    ]
