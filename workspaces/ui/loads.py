"""What each screen is read from, beside the workspace itself: as the API's own operations read it."""

from collections.abc import Awaitable, Callable
from typing import Any

from datalabd.kube import resources as kinds
from workspaces import answers, permissions, reads
from workspaces.call import Call
from workspaces.handlers import reading
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


LOADS: dict[str, Load] = {
    "workspaces": load_list,
    "activity": load_activity,
}
"""By the screen's name; a screen of a workspace that is not here is made of `load_workspace` alone."""
