"""What the overview of a workspace shows: its state, what hinders it, and what waits for its viewer. Pure."""

import datetime
from collections.abc import Mapping
from typing import Any

from datalabd.text import moment
from workspaces.permissions import Permission, Permissions
from workspaces.ui.buckets import is_granted
from workspaces.ui.sizes import readable

SOON = datetime.timedelta(days=14)
"""How long before its end a grant is spoken of."""


def context(
    view: Mapping[str, Any], more: Mapping[str, Any], allowed: Permissions, now: datetime.datetime
) -> dict[str, Any]:
    """State, usage, sessions, and what needs the viewer."""
    access = view["storage"]["bucket_access_requests"]
    name = view["name"]
    decides = Permission.MANAGE_BUCKETS in allowed
    return {
        "waits": view.get("conditions", []),
        "usage": view.get("resource_usage", {}).get("storage"),
        "readable": readable,
        "pending": [row for row in access if decides and row["workspace"] != name and is_pending(row)],
        "ending": [row for row in access if _ends_soon(row, now)],
        "sessions": view["datalab"]["sessions"],
        "may_start": bool(more["may_start"]),
        "may_delete": bool(more["may_delete"]),
    }


def is_pending(row: Mapping[str, Any]) -> bool:
    """Whether a request waits for its decision."""
    return bool(row.get("request_timestamp")) and not (row.get("grant_timestamp") or row.get("denied_timestamp"))


def _ends_soon(row: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Whether what is granted ends within days."""
    ends = moment(row.get("expires"))
    return is_granted(row) and ends is not None and now < ends <= now + SOON
