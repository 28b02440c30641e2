"""What the screen of sharing shows: what was asked of whom, and what came of it. Pure."""

from datalabd.api.storage import Permission as Level
from workspaces.permissions import Permission
from workspaces.ui import access, paging
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

PAGE = 25
"""Rows of a part that are shown at once."""
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


def context(inputs: Inputs) -> Context:
    """Requests by who asks whom; buckets that may be asked for; and what may be done."""
    own = inputs.view["name"]
    text = paging.wanted(inputs.query)
    rows = [row for row in access.rows(inputs.view) if text in row["bucket"] or text in row["workspace"]]
    ours = [row for row in rows if row["workspace"] == own]
    others = [row for row in rows if row["workspace"] != own]
    parts = {
        "of_us": [row for row in others if row["state"] == access.WAITS],
        "given": [row for row in others if row["state"] in (access.GRANTED, access.DENIED)],
        "by_us": [row for row in ours if row["state"]],
        "offered": [row for row in ours if not row["state"]],
    }
    longest = max(map(len, parts.values()))
    return {name: paging.part(found, inputs.query, name, PAGE) for name, found in parts.items()} | {
        **paging.filtering(inputs.query, longest, PAGE),
        "buckets": [bucket["name"] for bucket in inputs.view["storage"]["buckets"]],
        "may_ask": Permission.VIEW_BUCKETS in inputs.allowed,
        "may_decide": Permission.MANAGE_BUCKETS in inputs.allowed,
        "levels": LEVELS,
        "states": STATES,
    }
