"""What each screen is read from, beside the workspace itself: as the API's own operations read it."""

from collections.abc import Awaitable, Callable
from typing import Any

from datalabd.api.v1beta2 import State
from datalabd.kube import resources as kinds
from workspaces import answers, browsers, permissions, reads, sessions
from workspaces.call import Call
from workspaces.handlers import opening, reading
from workspaces.operations import BY_NAME as OPERATIONS
from workspaces.ui import activity, listing

Load = Callable[[Call], Awaitable[dict[str, Any]]]


async def load_workspace(call: Call) -> dict[str, Any]:
    """The workspace without credentials, and what its viewer may do that permissions alone do not tell."""
    lab = call.cache.get(kinds.DATALABS, call.workspace)
    is_admin = call.caller.is_platform_admin
    return {
        "view": reads.without_secrets(reading.view(call)),
        "may_start": permissions.may_start(call.permissions, call.caller, call.settings.session_changes),
        "may_delete": is_admin,
        "owns": is_admin or permissions.owns(call.caller, call.workspace, lab),
    }


async def load_list(call: Call) -> dict[str, Any]:
    """One page of the list."""
    limit = answers.query_number(call.query, "limit", 1, 500) or listing.PAGE
    found = reading.listed(call, limit)
    rows = [
        row
        | {
            "may_start": permissions.may_start(
                call.permissions_on(row["name"]), call.caller, call.settings.session_changes
            )
        }
        for row in found.rows
    ]
    return {
        "rows": rows,
        "total": found.total,
        "following": found.following,
        "may_create": call.caller.is_platform_admin,
    }


async def load_activity(call: Call) -> dict[str, Any]:
    """One page of what happened."""
    limit = answers.query_number(call.query, "limit", 1, 500) or activity.PAGE
    return await load_workspace(call) | {"page": await reading.activity_page(call, limit)}


async def load_session(call: Call) -> dict[str, Any]:
    """One session, started first where a person opens one that is stopped, and whether it answers."""
    opened = Call(OPERATIONS["open_session"], call.request)
    lab, state = opening.declared(opened)
    found = await load_workspace(call)
    if _opens(call) and state is not State.STARTED and found["may_start"]:
        await opening.start(opened)
        found = await load_workspace(call)
    url = sessions.address(lab, call.part("s"))
    return found | {"answers": bool(url) and await opening.is_ready(opened, call.part("s"))}


def _opens(call: Call) -> bool:
    """Whether somebody opens the page, rather than that it is looked at again while it waits."""
    is_first = WAITS not in call.query and not call.is_head
    return is_first and browsers.is_navigation(call.request.method, call.request.headers)


WAITS = "wait"
"""In the query of a page that loads itself again."""
LOADS: dict[str, Load] = {
    "workspaces": load_list,
    "activity": load_activity,
    "session": load_session,
}
"""By the screen's name; a screen of a workspace that is not here is made of `load_workspace` alone."""
