"""What the overview of a workspace shows: its state, what hinders it, and what waits for its viewer. Pure."""

import datetime
from collections.abc import Mapping
from typing import Any

from datalabd.api.quantity import held
from datalabd.text import moment
from workspaces.permissions import Permission
from workspaces.ui import access, keys
from workspaces.ui.inputs import Context, Inputs

SOON = datetime.timedelta(days=14)
"""How long before its end a grant is spoken of."""
LATELY = datetime.timedelta(days=7)
"""How long replaced credentials are spoken of."""
WAITING_MAX = 10
"""Requests that are named here; all of them stand on the screen of sharing."""


def context(inputs: Inputs) -> Context:
    """State, usage, sessions, and what needs the viewer."""
    view, now = inputs.view, inputs.now
    name = view["name"]
    rows = access.rows(view)
    decides = Permission.MANAGE_BUCKETS in inputs.allowed
    pending = [row for row in rows if decides and row["workspace"] != name and row["state"] == access.WAITS]
    ending = [row for row in rows if row["state"] == access.GRANTED and _is_soon(row.get("expires"), now)]
    return {
        "waits": view.get("conditions", []),
        "usage": (usage := view.get("resource_usage", {}).get("storage")),
        "filled": _filled(usage or {}),
        "pending": pending[:WAITING_MAX],
        "more_pending": max(len(pending) - WAITING_MAX, 0),
        "ending": ending,
        "rotated": [
            one for one in keys.ages(view) if one["rotating"] or (one["rotated"] and _is_late(one["since"], now))
        ],
        "sessions": view["datalab"]["sessions"],
        "may_start": bool(inputs.more["may_start"]),
        "may_delete": bool(inputs.more["may_delete"]),
    }


def _filled(usage: Mapping[str, Any]) -> tuple[int, int] | None:
    """Bytes that volumes take, and those that they may; None where that is not limited, or not known."""
    requested, quota = (held(usage.get(name)) for name in ("requested", "quota"))
    return None if requested is None or not quota else (int(requested), int(quota))


def _is_soon(time: Any, now: datetime.datetime) -> bool:
    """Whether a time comes within days."""
    at = moment(time)
    return at is not None and now < at <= now + SOON


def _is_late(time: Any, now: datetime.datetime) -> bool:
    """Whether a time was within the last days."""
    at = moment(time)
    return at is not None and now - LATELY < at
