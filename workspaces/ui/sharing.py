"""What the screen of sharing shows: what was asked of whom, and what came of it. Pure."""

from collections.abc import Mapping
from typing import Any

from datalabd.api.storage import Permission as Level
from workspaces.permissions import Permission, Permissions
from workspaces.ui.buckets import is_granted
from workspaces.ui.home import is_pending
from workspaces.ui.languages import N_

LEVELS = {
    Level.READ_ONLY: N_("Read"),
    Level.READ_WRITE: N_("Read and write"),
    Level.WRITE_ONLY: N_("Write"),
}
STATES = {
    "waits": ("warn", N_("Waiting")),
    "granted": ("ok", N_("Granted")),
    "denied": ("bad", N_("Denied")),
}
"""How a state of a request looks, and what it is called."""


def context(view: Mapping[str, Any], allowed: Permissions) -> dict[str, Any]:
    """Requests by who asks whom; buckets that may be asked for; and what may be done."""
    own = view["name"]
    rows = [row | {"state": _state(row)} for row in view["storage"]["bucket_access_requests"]]
    ours = [row for row in rows if row["workspace"] == own]
    return {
        "by_us": [row for row in ours if row["state"]],
        "of_us": [row for row in rows if row["workspace"] != own and row["state"] == "waits"],
        "given": [row for row in rows if row["workspace"] != own and row["state"] in ("granted", "denied")],
        "offered": [row for row in ours if not row["state"]],
        "buckets": [bucket["name"] for bucket in view["storage"]["buckets"]],
        "may_ask": Permission.VIEW_BUCKETS in allowed,
        "may_decide": Permission.MANAGE_BUCKETS in allowed,
        "levels": LEVELS,
        "states": STATES,
    }


def _state(row: Mapping[str, Any]) -> str:
    if is_granted(row):
        return "granted"
    if row.get("denied_timestamp"):
        return "denied"
    return "waits" if is_pending(row) else ""
