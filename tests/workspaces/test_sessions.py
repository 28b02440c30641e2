"""Sessions: what is declared, and single entries of it that come, change and go (WS 6.17 to 6.41)."""

import datetime
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import State
from datalabd.api.workspace_bodies import SessionCreate
from datalabd.errors import EnvironmentInvalid
from datalabd.status import PATIENCE_SECONDS
from datalabd.status import refused as refused_status
from datalabd.text import bounded
from tests.workspaces.objects import NOW, TODAY, changes, datalab, storage
from workspaces import sessions
from workspaces.patches import Draft
from workspaces.problems import Problem


def lab(*declared: Any, **status: Any) -> Manifest:
    return datalab(sessions=list(declared)) | ({"status": status} if status else {})


def draft(*declared: Any, **status: Any) -> Draft:
    return Draft(storage(), lab(*declared, **status))


def refused(act: Any) -> tuple[int, Any]:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value.status, caught.value.detail


DEFAULT = {"name": "default", "state": "started"}
STOPPED = {"name": "analysis", "state": "stopped", "extra": 1}
URL = {"default": {"url": "https://ws-a-default.lab", "state": "started"}}


def test_declared_sessions_in_order_each_once() -> None:
    live = lab(
        "old", DEFAULT, STOPPED, DEFAULT | {"state": "stopped"}, {"name": "Bad Name"}, {"name": "x", "state": 5}, 7
    )
    assert sessions.declared(live) == {
        "old": State.STARTED,
        "default": State.STARTED,
        "analysis": State.STOPPED,
        "x": State.STARTED,
    }


@pytest.mark.parametrize("live", [None, {}, {"spec": {"sessions": "default"}}])
def test_nothing_is_declared(live: Any) -> None:
    assert sessions.rows(live) == []


def test_sessions_are_told_with_what_the_runtime_says() -> None:
    """WS 6.36: a started one with url and ready, a stopped one without url and not ready."""
    condition = {"type": "SessionsReady", "status": "True", "lastTransitionTime": TODAY}
    said = URL | {
        "late": {"phase": "Pending", "message": "no node fits"},
        "off": {"url": "https://x", "state": "stopped"},
    }
    live = lab(DEFAULT, STOPPED, "late", {"name": "off", "state": "stopped"}, sessions=said, conditions=[condition])
    assert sessions.rows(live) == [
        {"name": "default", "state": "started", "url": "https://ws-a-default.lab", "ready": True, "since": TODAY},
        {"name": "analysis", "state": "stopped", "ready": False},
        {"name": "late", "state": "started", "ready": False, "since": TODAY}
        | {"phase": "Pending", "message": "no node fits"},
        {"name": "off", "state": "stopped", "url": "https://x", "ready": False},
    ]


def condition(kind: str, status: str, message: str) -> Manifest:
    return {"type": kind, "status": status, "reason": "Why", "message": message}


MISSING = "environment labs does not exist; make it, or choose another"
NOT_SYNCED = [condition("Ready", "False", MISSING), condition("Synced", "False", MISSING)]
STALLED = condition("Stalled", "True", MISSING)
WAITS = "the lab's environment is not running yet"


@pytest.mark.parametrize(
    ("conditions", "reported", "expected"),
    [
        pytest.param(NOT_SYNCED, {}, {"phase": "Pending", "message": MISSING}, id="cannot be acted upon"),
        pytest.param([*NOT_SYNCED, STALLED], {}, {"phase": "Failed", "message": MISSING}, id="needs a person"),
        pytest.param([STALLED], {}, {"phase": "Failed", "message": MISSING}, id="of another controller"),
        pytest.param(
            [condition("Ready", "False", "host lab.example is taken"), condition("Synced", "True", "")],
            {},
            {"phase": "Pending", "message": "host lab.example is taken"},
            id="not ready",
        ),
        pytest.param(
            NOT_SYNCED, {"message": WAITS}, {"phase": "Pending", "message": f"{WAITS}; {MISSING}"}, id="both say"
        ),
        pytest.param(
            [condition("Ready", "False", "session other: no node fits"), condition("Synced", "True", "")],
            {"message": WAITS},
            {"phase": "Pending", "message": WAITS},
            id="another session is the lab's trouble",
        ),
        pytest.param(
            NOT_SYNCED,
            {"phase": "Running", "message": "pulling its image"},
            {"phase": "Running", "message": "pulling its image"},
            id="runs already",
        ),
        pytest.param([condition("Ready", "True", "usable"), condition("Synced", "True", "")], {}, {}, id="all well"),
        pytest.param([condition("Ready", "False", ""), condition("Synced", "False", "")], {}, {}, id="without words"),
        pytest.param([condition("Synced", "Unknown", "?")], {"message": WAITS}, {"message": WAITS}, id="unknown"),
    ],
)
def test_a_session_that_its_lab_keeps_from_starting_says_why(
    conditions: list[Manifest], reported: Manifest, expected: Manifest
) -> None:
    live = lab(DEFAULT, STOPPED, conditions=conditions, sessions={"default": reported})
    assert sessions.rows(live) == [
        DEFAULT | {"ready": False} | expected,
        {"name": "analysis", "state": "stopped", "ready": False},
    ]
    assert sessions.message(live, "default") == expected.get("message", "")


@pytest.mark.parametrize(("waited", "phase"), [(0.0, "Pending"), (PATIENCE_SECONDS, "Failed")])
def test_an_environment_that_is_missing_is_told_at_the_sessions_of_its_labs(waited: float, phase: str) -> None:
    """In the words of the status that datalabd writes: it may come for a while, then a person is needed."""
    live = lab(DEFAULT)
    problem = EnvironmentInvalid("labs", "EnvironmentNotFound", MISSING)
    for moment in (NOW, NOW + datetime.timedelta(seconds=waited)):
        live["status"] = refused_status(live, problem, moment)
    assert sessions.rows(live) == [DEFAULT | {"ready": False, "phase": phase, "message": MISSING}]


def test_a_session_that_can_be_used_needs_no_word_of_its_lab() -> None:
    live = lab(DEFAULT, sessions=URL, conditions=NOT_SYNCED)
    assert sessions.rows(live) == [DEFAULT | {"url": "https://ws-a-default.lab", "ready": True}]


def test_what_a_lab_says_is_told_in_part_where_it_is_long() -> None:
    live = lab(DEFAULT, conditions=[condition("Synced", "False", "x" * 5000)])
    assert sessions.message(live, "default") == bounded("x" * 5000)


def test_a_session_whose_state_is_not_told_is_as_it_is_wanted() -> None:
    assert sessions.rows(lab("s", sessions={"s": {"url": "https://x"}}))[0]["ready"] is True


def test_a_session_is_declared_at_the_end() -> None:
    """WS 6.37."""
    found = draft(DEFAULT)
    answer = sessions.create(found, SessionCreate(name=" Analysis ", state=State.STOPPED), 3)
    assert answer == {"name": "analysis", "state": "stopped", "ready": False}
    assert changes(found.datalab_patch) == [
        {"op": "add", "path": "/spec/sessions/-", "value": {"name": "analysis", "state": "stopped"}}
    ]


@pytest.mark.parametrize(("spec", "op"), [({}, "add"), ({"sessions": None}, "replace")])
def test_the_list_is_made_where_there_is_none(spec: dict[str, Any], op: str) -> None:
    """WS 6.38."""
    found = Draft(storage(), datalab(**spec))
    sessions.create(found, SessionCreate(name="s"), 3)
    assert changes(found.datalab_patch) == [
        {"op": op, "path": "/spec/sessions", "value": [{"name": "s", "state": "stopped"}]}
    ]


def test_a_session_of_that_name_exists() -> None:
    found = refused(lambda: sessions.create(draft("s", "t", "u"), SessionCreate(name="s"), 3))
    assert found == (409, {"error": "session_exists", "session": "s"})


def test_there_are_enough_sessions() -> None:
    """WS 6.39: whatever is declared counts, odd or not."""
    found = refused(lambda: sessions.create(draft("s", 5, "s"), SessionCreate(name="x"), 3))
    assert found == (422, {"error": "session_limit_exceeded", "max_sessions": 3})


def test_a_session_is_started_by_its_state_alone() -> None:
    """WS 6.21, 6.35: others, texts and further keys are left alone."""
    found = draft("old", STOPPED, sessions={"analysis": {"url": "https://x"}})
    assert sessions.change(found, "analysis", State.STARTED) == {
        "name": "analysis",
        "state": "started",
        "url": "https://x",
        "ready": True,
    }
    assert changes(found.datalab_patch) == [{"op": "replace", "path": "/spec/sessions/1/state", "value": "started"}]


def test_a_text_becomes_an_object() -> None:
    """WS 6.22."""
    for state in State:
        found = draft("old")
        sessions.change(found, "old", state)
        assert changes(found.datalab_patch) == [
            {"op": "replace", "path": "/spec/sessions/0", "value": {"name": "old", "state": str(state)}}
        ]


def test_a_session_is_stopped() -> None:
    """WS 6.23, 6.40."""
    found = draft(DEFAULT, sessions=URL)
    answer = sessions.change(found, "default", State.STOPPED)
    assert answer == {"name": "default", "state": "stopped", "ready": False}
    assert changes(found.datalab_patch) == [{"op": "replace", "path": "/spec/sessions/0/state", "value": "stopped"}]


def test_a_state_that_is_left_out_is_added() -> None:
    found = draft({"name": "s"})
    sessions.change(found, "s", State.STOPPED)
    assert changes(found.datalab_patch) == [{"op": "add", "path": "/spec/sessions/0/state", "value": "stopped"}]


def test_the_same_state_changes_nothing() -> None:
    found = draft(DEFAULT)
    assert sessions.change(found, "default", State.STARTED) == DEFAULT | {"ready": False}
    assert found.datalab_patch == []


def test_a_session_is_removed() -> None:
    """WS 6.41."""
    found = draft("old", DEFAULT)
    sessions.remove(found, "old")
    assert changes(found.datalab_patch) == [{"op": "remove", "path": "/spec/sessions/0"}]


def test_the_address_of_a_session() -> None:
    assert sessions.address(lab(DEFAULT, sessions=URL), "default") == "https://ws-a-default.lab"
    assert sessions.address(None, "default") == ""


@pytest.mark.parametrize(
    "act",
    [
        lambda found: sessions.create(found, SessionCreate(name="s"), 3),
        lambda found: sessions.change(found, "s", State.STOPPED),
        lambda found: sessions.remove(found, "s"),
    ],
)
def test_there_are_no_sessions_without_a_datalab(act: Any) -> None:
    assert refused(lambda: act(Draft(storage(), None))) == (404, "Not Found")


def test_a_session_that_is_not_there() -> None:
    expected = (404, {"error": "session_not_found", "session": "s"})
    assert refused(lambda: sessions.change(draft(DEFAULT), "s", State.STARTED)) == expected
    assert refused(lambda: sessions.remove(draft(DEFAULT), "s")) == expected
