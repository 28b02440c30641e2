"""The screen of activity: who did what, as Events have it."""

from typing import Any

import pytest

from datalabd.api.meta import Manifest
from tests.workspaces.objects import TODAY
from workspaces.audit import Act, Audit
from workspaces.claims import Identity
from workspaces.operations import OPERATIONS
from workspaces.ui import activity


def item(message: str, kind: str = "Normal", reason: str = "ChangedByRequest") -> dict[str, Any]:
    return {"time": TODAY, "type": kind, "reason": reason, "message": message, "object": "Datalab", "count": 1}


def row(**more: Any) -> dict[str, Any]:
    found = {"time": TODAY, "is_warning": False, "reason": "ChangedByRequest", "object": "Datalab", "count": 1}
    return found | {"who": "", "act": "", "what": ""} | more


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "jane asked for remove_member: member joe (request 1-2)",
            row(who="jane", act="remove_member", what="member joe"),
        ),
        ("a b asked for edit_workspace (request 1)", row(who="a b", act="edit_workspace")),
        (
            "x asked for y asked for hand_over: m (request 1) (request 2)",
            row(who="x asked for y", act="hand_over", what="m (request 1)"),
        ),
        ("jane asked for tea (request 1)", row(what="jane asked for tea (request 1)")),
        ("scaled up", row(what="scaled up")),
        ("", row()),
    ],
)
def test_who_did_what(message: str, expected: dict[str, Any]) -> None:
    page = {"items": [item(message)]}
    assert activity.context(page, {})["rows"] == [expected]


async def test_notes_of_the_audit_are_understood() -> None:
    """As they are written, whatever was done."""
    notes: list[str] = []

    class Recorder:
        async def emit(self, about: Manifest, kind: str, reason: str, action: str, note: str) -> None:
            notes.append(note)

    audit = Audit(Recorder())  # type: ignore[arg-type]  # all that is used of it
    writes = [operation.name for operation in OPERATIONS if operation.is_write]
    for name in writes:
        audit.changed(Act(name, "ws-a", Identity(name="jane", subject="1"), "r-1", {"member": "joe"}), [{}])
    await audit.close()
    rows = activity.context({"items": [item(note) for note in notes]}, {})["rows"]
    assert [(found["who"], found["act"], found["what"]) for found in rows] == [
        ("jane", name, "member joe") for name in writes
    ]


def test_warnings_and_pages() -> None:
    page = {"items": [item("no pod", "Warning", "Failed")], "continue": "50"}
    found = activity.context(page, {"continue": "1"})
    assert found["rows"] == [row(is_warning=True, reason="Failed", what="no pod")]
    assert (found["following"], found["is_later"]) == ("50", True)
    assert activity.context({"items": []}, {})["following"] == ""
