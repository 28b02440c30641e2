"""The screen of activity: who did what, as Events have it."""

from typing import Any

import pytest

from datalabd.api.meta import Manifest
from tests.workspaces.objects import TODAY
from tests.workspaces.screens import inputs
from workspaces.audit import Act, Audit
from workspaces.claims import Identity
from workspaces.operations import OPERATIONS
from workspaces.ui import activity


def item(message: str, kind: str = "Normal", reason: str = "ChangedByRequest") -> dict[str, Any]:
    return {"time": TODAY, "type": kind, "reason": reason, "message": message, "object": "Datalab", "count": 1}


def row(**more: Any) -> dict[str, Any]:
    found = {"time": TODAY, "is_warning": False, "reason": "ChangedByRequest", "object": "Datalab", "count": 1}
    return found | {"who": "", "act": "", "what": "", "details": ""} | more


def shown(page: dict[str, Any], query: dict[str, str] | None = None) -> dict[str, Any]:
    return activity.context(inputs({}, {"page": page}, query=query))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("jane asked for remove_member: member joe", row(who="jane", act="remove_member", what="member joe")),
        ("a b asked for edit_workspace", row(who="a b", act="edit_workspace")),
        ("x asked for y asked for hand_over: m", row(who="x asked for y", act="hand_over", what="m")),
        ("jane asked for tea", row(what="jane asked for tea")),
        ("scaled up", row(what="scaled up")),
        ("", row()),
    ],
)
def test_who_did_what(message: str, expected: dict[str, Any]) -> None:
    assert shown({"items": [item(message)]})["rows"] == [expected]


@pytest.mark.parametrize("reason", activity.CHANGES)
def test_what_the_lab_is_made_of_is_told_in_short(reason: str) -> None:
    note = "Namespace ws-a, NetworkPolicy deny"
    assert shown({"items": [item(note, reason=reason)]})["rows"] == [row(reason=reason, act=reason, details=note)]
    warned = shown({"items": [item(note, "Warning", reason)]})["rows"]
    assert warned == [row(reason=reason, is_warning=True, what=note)]


@pytest.mark.parametrize(
    ("note", "short"),
    [
        ("No node has room. " + "x" * 200, "No node has room."),
        ("no node has room for " + "x" * 200, "no node has room for …"),
        ("x" * 200, "x" * activity.SHORT + " …"),
    ],
)
def test_a_long_note_is_shown_in_short_with_all_of_it_below(note: str, short: str) -> None:
    assert shown({"items": [item(note, "Warning", "Failed")]})["rows"] == [
        row(reason="Failed", is_warning=True, what=short, details=note)
    ]


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
    rows = shown({"items": [item(note) for note in notes]})["rows"]
    assert [(found["who"], found["act"], found["what"]) for found in rows] == [
        ("jane", name, "member joe") for name in writes
    ]


def test_warnings_and_pages() -> None:
    page = {"items": [item("no pod", "Warning", "Failed")], "continue": "50"}
    found = shown(page, {"continue": "1"})
    assert found["rows"] == [row(is_warning=True, reason="Failed", what="no pod")]
    assert (found["following"], found["is_later"]) == ("50", True)
    assert shown({"items": []})["following"] == ""


def test_what_one_request_did_is_one_row() -> None:
    """Lab and storage of a workspace have an Event each; what the cluster says twice is there twice."""
    lab, later, words = item("jane asked for edit_workspace"), {"time": "2026-01-01T00:09:59Z"}, item("scaled up")
    storage = lab | {"object": "Storage"}
    rows = shown({"items": [lab, storage, storage, lab | later, storage | later, words, words]})["rows"]
    found = [(entry["act"] or entry["what"], entry["object"]) for entry in rows]
    act = "edit_workspace"
    assert found == [(act, "Datalab"), (act, "Storage"), (act, "Datalab"), *[("scaled up", "Datalab")] * 2]
