"""A request to each operation of the Workspace API."""

from dataclasses import dataclass, field
from typing import Any

OWN, FOREIGN, ABSENT = "ws-a", "ws-b", "ws-c"
"""Names of workspaces: of whoever asks, of another, and of none."""


@dataclass(frozen=True)
class Example:
    """A request that is answered with this status to whoever may make it, on OWN."""

    status: int
    body: Any = None
    path: dict[str, str] = field(default_factory=dict)


EXAMPLES: dict[str, Example] = {
    "probe": Example(200),
    "readiness": Example(200),
    "metrics": Example(200),
    "openapi": Example(200),
    "docs": Example(200),
    "status": Example(200),
    "debug": Example(200),
    "list_workspaces": Example(200),
    "create_workspace": Example(201, {"preferred_name": "another", "default_owner": "eve"}),
    "watch_workspaces": Example(200),
    "get_workspace": Example(200),
    "edit_workspace": Example(202, {"add_memberships": [{"member": "carol", "role": "user"}]}),
    "delete_workspace": Example(204),
    "watch_workspace": Example(200),
    "list_activity": Example(200),
    "get_credentials": Example(200),
    "issue_token": Example(503),  # there is no token broker
    "change_member": Example(202, {"role": "admin"}, {"m": "joe"}),
    "remove_member": Example(204, path={"m": "joe"}),
    "hand_over": Example(202, {"member": "joe"}),
    "change_bucket": Example(202, {"discoverable": False}, {"b": OWN}),
    "remove_bucket": Example(204, path={"b": f"{OWN}-more"}),
    "request_access": Example(202, {"permission": "ReadOnly", "reason": "to look"}, {"b": f"{FOREIGN}-shared"}),
    "withdraw_request": Example(204, path={"b": FOREIGN}),
    "grant_access": Example(202, {"permission": "ReadOnly"}, {"b": OWN, "workspace": FOREIGN}),
    "end_grant": Example(204, path={"b": OWN, "workspace": FOREIGN}),
    "list_objects": Example(503, path={"b": OWN}),  # no object storage is named
    "measure_bucket": Example(503, path={"b": OWN}),
    "download_object": Example(422, path={"b": OWN}),  # no key is
    "remove_store": Example(404, path={"type": "database", "name": "absent"}),
    "rotate_store": Example(404, {}, {"type": "database", "name": "absent"}),
    "backup_store": Example(404, {}, {"type": "database", "name": "absent"}),
    "restore_store": Example(404, {}, {"type": "database", "name": "absent"}),
    "list_sessions": Example(200),
    "create_session": Example(201, {"name": "other"}),
    "open_session": Example(202, path={"s": "default"}),
    "change_session": Example(202, {"state": "stopped"}, {"s": "default"}),
    "remove_session": Example(204, path={"s": "default"}),
}
