"""What the screen of sharing shows: what was asked of whom, and what came of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datalabd.api.storage import Permission as Level
from workspaces.permissions import Permission
from workspaces.ui import access
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

PAGE = 25
"""Rows of a part that are shown at once."""
FILTER = "name"
"""Parameter: what the name of the other workspace, or of the bucket, has in it."""
LEVELS = {
    Level.READ_ONLY: N_("Read"),
    Level.READ_WRITE: N_("Read and write"),
    Level.WRITE_ONLY: N_("Write"),
}
STATES = {
    access.WAITS: ("warn", N_("Waiting")),
    access.GRANTED: ("ok", N_("Granted")),
    access.DENIED: ("bad", N_("Denied")),
}
"""How a state of a request looks, and what it is called."""


@dataclass(frozen=True)
class Part:
    """One part of the screen, of which a page is shown."""

    rows: list[dict[str, Any]]
    total: int
    first: int
    """How many rows are before those that are shown."""
    earlier: str | None
    """The query that shows those before; None where there are none."""
    later: str | None


def context(inputs: Inputs) -> Context:
    """Requests by who asks whom; buckets that may be asked for; and what may be done."""
    own = inputs.view["name"]
    text = inputs.query.get(FILTER, "").strip().lower()
    rows = [row for row in access.rows(inputs.view) if text in row["bucket"] or text in row["workspace"]]
    ours = [row for row in rows if row["workspace"] == own]
    others = [row for row in rows if row["workspace"] != own]
    parts = {
        "of_us": [row for row in others if row["state"] == access.WAITS],
        "given": [row for row in others if row["state"] in (access.GRANTED, access.DENIED)],
        "by_us": [row for row in ours if row["state"]],
        "offered": [row for row in ours if not row["state"]],
    }
    return {name: _part(name, found, inputs.query) for name, found in parts.items()} | {
        "filter": inputs.query.get(FILTER, ""),
        "is_long": bool(text) or any(len(found) > PAGE for found in parts.values()),
        "buckets": [bucket["name"] for bucket in inputs.view["storage"]["buckets"]],
        "may_ask": Permission.VIEW_BUCKETS in inputs.allowed,
        "may_decide": Permission.MANAGE_BUCKETS in inputs.allowed,
        "levels": LEVELS,
        "states": STATES,
    }


def _part(name: str, rows: list[dict[str, Any]], query: Mapping[str, str]) -> Part:
    """The page of a part that the query asks for, by the number of rows before it; of what is none, the nearest."""
    wanted = query.get(name, "")
    number = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else 0
    first = min(number, max(len(rows) - 1, 0)) // PAGE * PAGE

    def elsewhere(at: int) -> str | None:
        return urlencode({**query, name: at}) if 0 <= at < len(rows) else None

    return Part(rows[first : first + PAGE], len(rows), first, elsewhere(first - PAGE), elsewhere(first + PAGE))
