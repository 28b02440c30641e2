"""What the screen of activity shows: who did what, from the notes of Events. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from workspaces.ui.languages import N_

PAGE = 50
ACTS = {
    "create_workspace": N_("made the workspace"),
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
_NOTE = re.compile(r"(?P<who>.*?) asked for (?P<operation>[a-z_]+)(?:: (?P<what>.*))? \(request [^ ()]*\)", re.DOTALL)


def context(page: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of what happened, newest first; `page` is an `ActivityPage`."""
    return {
        "rows": [_row(item) for item in page["items"]],
        "following": page.get("continue", ""),
        "is_later": bool(query.get("continue")),
        "acts": ACTS,
    }


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """An Event; `act` names the operation where somebody asked for one, who is `who`, of `what`."""
    found = _NOTE.fullmatch(item["message"])
    is_known = found is not None and found["operation"] in ACTS
    row = {"who": "", "act": "", "what": item["message"]}
    if found is not None and is_known:
        row = {"who": found["who"], "act": found["operation"], "what": found["what"] or ""}
    return (
        {"time": item["time"], "is_warning": item["type"] == "Warning", "reason": item["reason"]}
        | row
        | {
            "object": item["object"],
            "count": item["count"],
        }
    )
