"""What each screen is read from, as the API's own operations read it: what has to be waited for, then the workspace."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from datalabd.api.v1beta2 import State
from datalabd.kube import resources as kinds
from workspaces import answers, browsers, permissions, sessions
from workspaces.call import Call
from workspaces.handlers import objects, opening, reading
from workspaces.objects import is_open
from workspaces.operations import BY_NAME as OPERATIONS
from workspaces.permissions import Permission
from workspaces.problems import Problem, problem
from workspaces.ui import activity, buckets, listing

log = structlog.get_logger()

Load = Callable[[Call], Awaitable[dict[str, Any]]]


def workspace(call: Call) -> dict[str, Any]:
    """The workspace without credentials, and what its viewer may do that permissions alone do not tell.

    It may take some MB, so nobody is to wait for anything while it is held.
    """
    lab = call.cache.get(kinds.DATALABS, call.workspace)
    is_admin = call.caller.is_platform_admin
    return {
        "view": reading.view(call, credentials=False),
        "may_start": opening.may_start(call, call.permissions),
        "may_delete": is_admin,
        "owns": is_admin or permissions.owns(call.caller, call.workspace, lab),
    }


async def load_list(call: Call) -> dict[str, Any]:
    """One page of the list."""
    limit = answers.query_number(call.query, "limit", 1, 500) or listing.PAGE
    found = reading.listed(call, limit)
    rows = [row | {"may_start": opening.may_start(call, call.permissions_on(row["name"]))} for row in found.rows]
    return {
        "rows": rows,
        "total": found.total,
        "following": found.following,
        "may_create": call.caller.is_platform_admin,
    }


async def load_activity(call: Call) -> dict[str, Any]:
    """One page of what happened."""
    limit = answers.query_number(call.query, "limit", 1, 500) or activity.PAGE
    return {"page": await reading.activity_page(call, limit)}


async def load_session(call: Call) -> dict[str, Any]:
    """One session, started first where a person opens one that is stopped, and whether it answers."""
    opened = Call(OPERATIONS["open_session"], call.request)
    lab, state = opening.declared(opened)
    if _opens(call) and state is not State.STARTED and opening.may_start(call, call.permissions):
        await opening.start(opened)
    url = sessions.address(lab, call.part("s"))
    return {"answers": bool(url) and await opening.is_ready(opened, call.part("s"))}


def _opens(call: Call) -> bool:
    """Whether somebody opens the page, rather than that it is looked at again while it waits."""
    is_first = WAITS not in call.query and not call.is_head
    return is_first and browsers.is_navigation(call.request.method, call.request.headers)


MEASURED_MAX = 30
"""Buckets of a list that are counted; of further ones their own pages tell."""
MEASURED_SECONDS = 0.7
"""How long a page waits for counts. Those that come later are there when it looks again."""
LOOKED_SECONDS = 2.5
"""The same for a page that looks again: until each count has come, or has failed, which nobody remembers."""
ASK_SECONDS = 2


async def load_buckets(call: Call) -> dict[str, Any]:
    """How much is in the buckets that are shown."""
    reading.known(call)
    storage = call.cache.sharing.get(call.workspace)
    own = () if storage is None else [{"name": bucket.name} for bucket in storage.buckets]
    names = [bucket["name"] for bucket in buckets.listed(own, call.query).rows]
    usage, asks = await _usage(call, names[:MEASURED_MAX])
    _log(call, {measured["word"]: measured["problem"] for measured in usage.values() if "problem" in measured})
    return {"usage": usage, "asks": asks}


async def load_bucket(call: Call) -> dict[str, Any]:
    """How much is in a bucket, and a page of that."""
    reading.known(call)
    name, sharing = call.part("b"), call.cache.sharing
    storage = sharing.get(call.workspace)
    if storage is None or not is_open(name, storage, sharing, call.now):
        raise problem(404, "bucket_not_found", bucket=name)
    usage: dict[str, Any] = {}
    page, trouble, asks = None, None, 0
    if Permission.VIEW_BUCKET_CREDENTIALS in call.permissions:
        try:
            (usage, asks), page = await asyncio.gather(_usage(call, [name]), objects.page(call))
        except Problem as refusal:
            if refusal.status == 422:
                raise
            trouble = _trouble(refusal)
            _log(call, {trouble["word"]: trouble["problem"]})
    return {"usage": usage, "page": page, "trouble": trouble, "asks": asks}


async def _usage(call: Call, names: list[str]) -> tuple[dict[str, Any], int]:
    """How much is in each bucket, as far as that is known soon, or what keeps it from being known.

    Beside it the seconds after which the page looks again, where something is still being counted; else 0.
    """
    if Permission.VIEW_BUCKET_CREDENTIALS not in call.permissions:
        return {}, 0
    counting = {name: asyncio.create_task(_count(call, name)) for name in names}
    is_first = browsers.is_navigation(call.request.method, call.request.headers)
    if counting:
        await asyncio.wait(counting.values(), timeout=MEASURED_SECONDS if is_first else LOOKED_SECONDS)
    found = {name: task.result() for name, task in counting.items() if task.done()}
    for task in counting.values():
        task.cancel()  # the count itself goes on, for whoever asks next
    return found, 0 if len(found) == len(names) else ASK_SECONDS


async def _count(call: Call, name: str) -> dict[str, Any]:
    try:
        return await call.services.objects.usage(objects.place(call, name))
    except Problem as refusal:
        return _trouble(refusal)


def _trouble(refusal: Problem) -> dict[str, str]:
    """What keeps objects from being read: in the API's word for programs, if it has one, and in a sentence."""
    word = refusal.detail.get("error", "") if isinstance(refusal.detail, dict) else ""
    return {"word": word, "problem": refusal.sentence}


def _log(call: Call, troubles: Mapping[str, str]) -> None:
    """Log what pages do not tell, as it is the operator's to mend."""
    for word in troubles.keys() & buckets.OF_OPERATORS:
        log.warning("objects cannot be read", workspace=call.workspace, error=troubles[word])


WAITS = "wait"
"""In the query of a page that loads itself again."""
LOADS: dict[str, Load] = {
    "workspaces": load_list,
    "activity": load_activity,
    "bucket": load_bucket,
    "buckets": load_buckets,
    "session": load_session,
}
"""By the screen's name; a screen of a workspace that is not here is made of that alone."""
