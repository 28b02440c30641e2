"""What the screens of sessions are made of."""

from typing import Any

import pytest

from tests.workspaces.screens import inputs
from workspaces.permissions import Permission
from workspaces.ui import sessions

STOPPED = {"name": "a", "state": "stopped", "ready": False}
ASKED = {"name": "a", "state": "started", "ready": False}
PENDING = ASKED | {"phase": "Pending", "message": "no node"}
FAILED = ASKED | {"phase": "Failed", "message": "no image"}
RUNS = ASKED | {"phase": "Running"}
READY = RUNS | {"ready": True, "url": "https://a.example/"}
MANAGER = frozenset({Permission.VIEW_SESSIONS, Permission.MANAGE_SESSIONS})
VIEWER = frozenset({Permission.VIEW_SESSIONS})


def view(*rows: dict[str, Any], most: int = 2, available: bool = True) -> dict[str, Any]:
    return {"datalab": {"sessions": list(rows), "max_sessions": most, "available": available}}


def waiting(row: dict[str, Any], *, answers: bool = False) -> dict[str, Any]:
    return sessions.waiting(inputs(view(row), {"may_start": True, "answers": answers}, VIEWER, s="a"))


@pytest.mark.parametrize(
    ("row", "how"),
    [
        (STOPPED, "stopped"),
        (STOPPED | {"phase": "Running"}, "stopping"),
        (STOPPED | {"phase": "Deleting"}, "stopping"),
        (STOPPED | {"phase": "Failed"}, "stopped"),
        (ASKED, "starting"),
        (PENDING, "starting"),
        (FAILED, "failed"),
        (RUNS, "starting"),
        (READY, "running"),
    ],
)
def test_how_a_session_is(row: dict[str, Any], how: str) -> None:
    assert sessions.how(row) == how


def test_a_manager_may_do_everything_while_there_is_room() -> None:
    assert sessions.context(inputs(view(READY), {"may_start": True}, MANAGER)) == {
        "rows": [READY | {"how": "running"}],
        "most": 2,
        "is_full": False,
        "is_installed": True,
        "may_start": True,
        "may_manage": True,
    }


@pytest.mark.parametrize(
    ("rows", "available", "allowed", "expected"),
    [
        ([READY, STOPPED], True, MANAGER, (True, True)),
        ([READY], True, VIEWER, (False, False)),
        ([], False, MANAGER, (False, False)),
    ],
)
def test_what_is_full_and_what_may_be_managed(
    rows: list[dict[str, Any]], available: bool, allowed: frozenset[Permission], expected: tuple[bool, bool]
) -> None:
    found = sessions.context(inputs(view(*rows, available=available), {"may_start": False}, allowed))
    assert (found["is_full"], found["may_manage"]) == expected


def test_a_new_session_is_stopped_unless_its_box_is_ticked() -> None:
    assert sessions.added([("name", "lab")])[0] == {"name": "lab", "state": "stopped"}
    body, words = sessions.added([("name", "lab"), ("started", "true")])
    assert body == {"name": "lab", "state": "started"}
    assert words == {("name",): "name"}


@pytest.mark.parametrize(
    ("row", "answers", "states"),
    [
        (STOPPED, False, ["come", "come", "come", "come"]),
        (PENDING, False, ["done", "now", "come", "come"]),
        (FAILED, False, ["done", "failed", "come", "come"]),
        (RUNS, False, ["done", "done", "now", "come"]),
        (READY, False, ["done", "done", "done", "now"]),
        (READY, True, ["done", "done", "done", "done"]),
    ],
)
def test_steps(row: dict[str, Any], answers: bool, states: list[str]) -> None:
    assert [step["state"] for step in waiting(row, answers=answers)["steps"]] == states


def test_the_page_leads_on_once_the_session_answers() -> None:
    found = waiting(READY, answers=True)
    assert (found["url"], found["refresh"], found["asks"]) == ("https://a.example/", "0; url=https://a.example/", 0)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a.example/\r\nX: y", "https://ä.example/", ""])
def test_it_leads_to_no_address_that_is_none(url: str) -> None:
    found = waiting(READY | {"url": url}, answers=True)
    assert (found["url"], found["refresh"]) == ("", "")


@pytest.mark.parametrize(
    ("row", "asks"), [(PENDING, sessions.ASK_SECONDS), (READY, sessions.ASK_SECONDS), (FAILED, 0), (STOPPED, 0)]
)
def test_it_asks_while_something_is_on_its_way(row: dict[str, Any], asks: int) -> None:
    assert waiting(row)["asks"] == asks
