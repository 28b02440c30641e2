"""Sessions of a workspace: what is told of them, and how they are declared, started, stopped and removed. Pure."""

import re
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.api.patterns import DNS_LABEL
from datalabd.api.v1beta2 import State
from datalabd.api.workspace import stamp
from datalabd.api.workspace_bodies import SessionCreate
from datalabd.live import condition, dig, objects, text
from datalabd.observed import Phase
from datalabd.text import bounded, moment
from workspaces.patches import Draft, listed
from workspaces.problems import not_found, problem

_LABEL = re.compile(DNS_LABEL, re.ASCII)


def declared(datalab: Manifest | None) -> dict[str, State]:
    """Desired states by session in order, of each name the first; what has no proper name is left out."""
    found: dict[str, State] = {}
    for item in _items(datalab):
        name = _name(item)
        if _LABEL.fullmatch(name):
            found.setdefault(name, State.STOPPED if text(item, "state") == State.STOPPED else State.STARTED)
    return found


def rows(datalab: Manifest | None) -> list[dict[str, Any]]:
    """The sessions as `Session`s."""
    since = moment(condition(datalab, "SessionsReady", "status").get("lastTransitionTime"))
    return [_row(datalab, name, state) | _since(state, since) for name, state in declared(datalab).items()]


def _since(state: State, since: Any) -> dict[str, str]:
    return {} if since is None or state is not State.STARTED else {"since": stamp(since)}


def _row(datalab: Manifest | None, name: str, state: State) -> dict[str, Any]:
    status = dig(datalab, "status", "sessions", name)
    row: dict[str, Any] = {"name": name, "state": str(state)}
    if url := text(status, "url"):
        row["url"] = url
    row["ready"] = bool(url) and (text(status, "state") or state) == State.STARTED
    phase, message = text(status, "phase"), text(status, "message")
    if state is State.STARTED and not row["ready"] and not phase:
        phase, message = _not_begun(datalab, message)
    return row | {member: value for member, value in (("phase", phase), ("message", message)) if value}


def _not_begun(datalab: Manifest | None, own: str) -> tuple[str, str]:
    """Phase and message of a started session that the runtime does not know yet; its `own` message may be empty."""
    if not (why := hindrance(datalab)):
        return "", own
    if own and not _message_while(datalab, "Synced", "False"):
        why = own
    elif own:
        why = f"{own}; {why}"  # what it waits for, and why that does not come
    return Phase.FAILED if _message_while(datalab, "Stalled", "True") else Phase.PENDING, bounded(why)


def hindrance(datalab: Manifest | None) -> str:
    """What keeps a lab from being whole, as its conditions say: the one that explains most; empty where none does."""
    known = {(text(one, "type"), text(one, "status")): one for one in objects(datalab, "status", "conditions")}
    messages = (text(known.get(kind), "message") for kind in _HINDRANCES)
    return bounded(next(filter(None, messages), ""))


_HINDRANCES = ("Synced", "False"), ("Ready", "False"), ("Stalled", "True")
"""Conditions with what they say of a lab that is not whole, the one that explains most first."""


def _message_while(datalab: Manifest | None, kind: str, status: str) -> str:
    """The message of a condition, if it has this status."""
    found = condition(datalab, kind, "status")
    return text(found, "message") if found.get("status") == status else ""


def message(datalab: Manifest | None, name: str) -> str:
    """What a session that is to run waits for; empty where nobody says anything."""
    return str(_row(datalab, name, State.STARTED).get("message", ""))


def address(datalab: Manifest | None, name: str) -> str:
    """Where a session can be reached, as the claim's status says; empty: nowhere yet."""
    return text(datalab, "status", "sessions", name, "url")


def create(draft: Draft, new: SessionCreate, most: int) -> dict[str, Any]:
    """Declare a session, of at most so many; the answer."""
    if draft.datalab is None:
        raise not_found()
    items = listed(draft.datalab, "sessions")
    if any(_name(item) == new.name for item in items):
        raise problem(409, "session_exists", session=new.name)
    if len(items) >= most:
        raise problem(422, "session_limit_exceeded", max_sessions=most)
    draft.words[("spec", "sessions", len(items))] = ()
    draft.words[("spec", "sessions", len(items), "name")] = ("name",)
    items.append({"name": new.name, "state": str(new.state)})
    return {"name": new.name, "state": str(new.state), "ready": False}


def change(draft: Draft, name: str, state: State) -> dict[str, Any]:
    """Start or stop a session; the answer."""
    items, at = _known(draft, name)
    if declared(draft.read_datalab).get(name) is not state or not isinstance(items[at], dict):
        draft.words[("spec", "sessions", at, "state")] = ("state",)
        items[at] = (items[at] if isinstance(items[at], dict) else {"name": name}) | {"state": str(state)}
    answer: dict[str, Any] = {"name": name, "state": str(state)}
    url = address(draft.read_datalab, name) if state is State.STARTED else ""
    return answer | ({"url": url} if url else {}) | {"ready": bool(url)}


def remove(draft: Draft, name: str) -> None:
    """Take a session out; its data goes with it."""
    items, at = _known(draft, name)
    del items[at]


def _known(draft: Draft, name: str) -> tuple[list[Any], int]:
    """All entries, and where the session's is."""
    if draft.datalab is None:
        raise not_found()
    items = listed(draft.datalab, "sessions")
    at = next((at for at, item in enumerate(items) if _name(item) == name), None)
    if at is None:
        raise problem(404, "session_not_found", session=name)
    return items, at


def _items(datalab: Manifest | None) -> list[Any]:
    found = dig(datalab, "spec").get("sessions")
    return found if isinstance(found, list) else []


def _name(item: Any) -> str:
    return item if isinstance(item, str) else text(item, "name")
