"""What the screen of activity shows: who did what, from the notes of Events. Pure."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

PAGE = 50
MINUTE = len("2026-01-01T00:00")
ACTS = {
    "create_workspace": N_("created the workspace"),
    "edit_workspace": N_("changed the workspace"),
    "delete_workspace": N_("deleted the workspace"),
    "change_member": N_("changed a role"),
    "remove_member": N_("removed a member"),
    "hand_over": N_("handed the workspace over"),
    "change_bucket": N_("changed a bucket"),
    "remove_bucket": N_("removed a bucket"),
    "request_access": N_("asked for a bucket"),
    "withdraw_request": N_("asks for a bucket no longer"),
    "grant_access": N_("decided on a request"),
    "end_grant": N_("ended a grant"),
    "remove_store": N_("removed a store"),
    "rotate_store": N_("had credentials replaced"),
    "backup_store": N_("had a server backed up"),
    "restore_store": N_("had a server restored"),
    "create_session": N_("added a session"),
    "open_session": N_("opened a session"),
    "change_session": N_("started or stopped a session"),
    "remove_session": N_("removed a session"),
}
"""What each operation of the table is called when somebody did it."""
CHANGES = {
    "Created": N_("Parts of the lab were made"),
    "Updated": N_("Parts of the lab were changed"),
    "Deleted": N_("Parts of the lab were removed"),
}
"""What an Event of the lab says, by its reason; its note lists the objects."""
SHORT = 160
"""Characters of a note that are shown at once."""
_NOTE = re.compile(r"(?P<who>.*?) asked for (?P<operation>[a-z_]+)(?:: (?P<what>.*))?", re.DOTALL)


def context(inputs: Inputs) -> Context:
    """One page of what happened, newest first."""
    page = inputs.more["page"]
    return {
        "rows": [_row(item) for before, item in pairwise([{}, *page["items"]]) if not _is_same(before, item)],
        "following": page.get("continue", ""),
        "is_later": bool(inputs.query.get("continue")),
        "acts": ACTS | CHANGES,
    }


def _is_same(before: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether both say what one request did: lab and storage of a workspace have an Event each, at one time."""
    return (
        before.get("message") == item["message"]
        and before["object"] != item["object"]
        and (before["time"] or "")[:MINUTE] == (item["time"] or "")[:MINUTE]
        and _NOTE.fullmatch(item["message"]) is not None
    )


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """An Event: `act` is an entry of both tables, where it is one; `what` is short, and `details` are what is left."""
    row = {"time": item["time"], "is_warning": item["type"] == "Warning", "reason": item["reason"]}
    row |= {"object": item["object"], "count": item["count"], "who": "", "act": "", "what": "", "details": ""}
    found = _NOTE.fullmatch(item["message"])
    if found is not None and found["operation"] in ACTS:
        return row | {"who": found["who"], "act": found["operation"], "what": found["what"] or ""}
    if item["reason"] in CHANGES and not row["is_warning"]:
        return row | {"act": item["reason"], "details": item["message"]}
    short, details = _shortened(item["message"])
    return row | {"what": short, "details": details}


def _shortened(note: str) -> tuple[str, str]:
    """The beginning of a note, to the end of a sentence or a word; and the whole of it, where that is more."""
    if len(note) <= SHORT:
        return note, ""
    start = note[:SHORT]
    sentence, dot, _ = start.rpartition(". ")
    return (f"{sentence}." if dot else f"{start.rpartition(' ')[0] or start} …"), note
