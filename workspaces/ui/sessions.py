"""What the screen of sessions shows, what its form for a new one asks for, and how far one is that starts. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from datalabd.api.v1beta2 import State
from datalabd.observed import Phase
from workspaces.permissions import Permission
from workspaces.ui import forms
from workspaces.ui.forms import Words
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

ASK_SECONDS = 5
"""How often a page that waits asks whether its session answers, as no event tells of that."""
STARTED = "started"
"""The box of a new session that is to start at once."""
_ADDRESS = re.compile(r"https?://[!-~]+", re.ASCII)
STEPS = (
    N_("It is asked for"),
    N_("The lab prepares it"),
    N_("It runs"),
    N_("It answers"),
)
"""What a session goes through until it can be used."""


def context(inputs: Inputs) -> Context:
    """Rows of sessions, and what may be done with them."""
    lab = inputs.view["datalab"]
    most = lab["max_sessions"]
    return {
        "rows": [row | {"how": how(row)} for row in lab["sessions"]],
        "most": most,
        "is_full": len(lab["sessions"]) >= most,
        "is_installed": lab["available"],
        "may_start": bool(inputs.more["may_start"]),
        "may_manage": Permission.MANAGE_SESSIONS in inputs.allowed and lab["available"],
    }


def how(row: Mapping[str, Any]) -> str:
    """How a session is, in a word that its page has a text for."""
    phase = row.get("phase", "")
    if row["state"] == State.STOPPED:
        return "stopping" if phase in (Phase.RUNNING, Phase.DELETING) else "stopped"
    if phase == Phase.FAILED:
        return "failed"
    return "running" if row["ready"] else "starting"


def added(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], Words]:
    """A session that is new."""
    values = dict(fields)
    state = State.STARTED if values.pop(STARTED, "") else State.STOPPED
    body, words = forms.body(values.items())
    return body | {"state": str(state)}, words


def waiting(inputs: Inputs) -> Context:
    """One session on its way: its steps, what is awaited, and where it leads once it answers."""
    row = next(row for row in inputs.view["datalab"]["sessions"] if row["name"] == inputs.parts["s"])
    state = how(row)
    row = row | {"how": state}
    url = row.get("url", "") if _ADDRESS.fullmatch(row.get("url", "")) else ""
    answers = bool(inputs.more["answers"] and url and row["state"] == State.STARTED)
    return {
        "row": row,
        "steps": steps(row, answers),
        "url": url if answers else "",
        "refresh": f"0; url={url}" if answers else "",
        "asks": ASK_SECONDS if state in ("starting", "running") and not answers else 0,
        "may_start": bool(inputs.more["may_start"]),
        "may_manage": Permission.MANAGE_SESSIONS in inputs.allowed,
    }


def steps(row: Mapping[str, Any], answers: bool) -> list[dict[str, Any]]:
    """The steps of a session: each `done`, `now`, `failed` or still to `come`."""
    if row["state"] == State.STOPPED:
        done = 0
    elif answers:
        done = len(STEPS)
    elif row["ready"]:
        done = 3
    else:
        done = 2 if row.get("phase") == Phase.RUNNING else 1
    current = "failed" if row.get("phase") == Phase.FAILED else "now"
    states = ["done"] * done + [current if row["state"] == State.STARTED else "come"] + ["come"] * len(STEPS)
    return [{"label": label, "state": state} for label, state in zip(STEPS, states, strict=False)]
