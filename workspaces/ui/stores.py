"""What the screen of stores shows, and what its forms ask for. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datalabd.api.workspace import StoreType
from workspaces.permissions import Permission
from workspaces.ui.forms import Words, body
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

KINDS = {
    StoreType.DATABASE: N_("Database (PostgreSQL)"),
    StoreType.VECTOR: N_("Vector store (Qdrant)"),
    StoreType.CACHE: N_("Cache (Redis)"),
    StoreType.DOCUMENT: N_("Document store (MongoDB)"),
}
JOBS = {
    "Requested": ("idle", N_("asked for")),
    "Running": ("warn", N_("goes on")),
    "Succeeded": ("ok", N_("done")),
    "Failed": ("bad", N_("failed")),
}
"""How a state of a backup or a restore looks, and what it is called."""


@dataclass(frozen=True)
class Deed:
    """What can be done with a store, in words."""

    name: str
    """Of the action that does it; `check_<name>` asks what that would do."""
    label: str
    title: str
    effects: Mapping[StoreType, str]
    """What it does, by each type that it can be done with."""
    is_destructive: bool = True


_LOSES = N_(
    "Programs that have the old credentials are refused when they connect anew. Stop and start sessions afterwards."
)
_ROTATE = Deed(
    "rotate",
    N_("Replace credentials"),
    N_("Replace the credentials?"),
    {
        StoreType.DATABASE: _LOSES,
        StoreType.DOCUMENT: _LOSES,
        StoreType.CACHE: N_(
            "The server starts anew, once. The old password holds until then. Stop and start sessions afterwards."
        ),
        StoreType.VECTOR: N_(
            "The server starts anew, and is away meanwhile. Old keys are refused. Stop and start sessions afterwards."
        ),
    },
)
_BACKUP = Deed(
    "backup",
    N_("Back up"),
    N_("Back up the server?"),
    {StoreType.DATABASE: N_("All databases of the server are backed up in full. The server goes on meanwhile.")},
    is_destructive=False,
)
_RESTORE = Deed(
    "restore",
    N_("Restore"),
    N_("Restore the server?"),
    {
        StoreType.DATABASE: N_(
            "All databases of the server become what they were. What was written since is lost, and the server is away "
            "meanwhile."
        )
    },
)
_REMOVE = Deed(
    "remove_store",
    N_("Remove"),
    N_("Remove the store?"),
    dict.fromkeys(KINDS, N_("The store is taken out of the workspace. Programs that use it are cut off at once.")),
)
DEEDS = {deed.name: deed for deed in (_ROTATE, _BACKUP, _RESTORE, _REMOVE)}
CHECK = "check_"
"""What names of actions begin with that only ask what would happen."""


def context(inputs: Inputs) -> Context:
    """Rows of stores, and what may be done with them.

    For something that was checked, the dialog that does it shows what it would do.
    """
    lab, outcome = inputs.view["datalab"], inputs.outcome
    rows = [row | {"databases": _beside(row, lab["stores"])} for row in lab["stores"]]
    return {
        "rows": rows,
        "types": lab["available_store_types"],
        "is_available": lab["available"],
        "may_manage": Permission.MANAGE_STORES in inputs.allowed and lab["available"],
        "kinds": KINDS,
        "jobs": JOBS,
        "deeds": DEEDS,
        "checked": outcome and DEEDS.get(outcome.action.removeprefix(CHECK)),
        "asked": outcome.asked if outcome else {},
        "effects": list(outcome.body.get("warnings", ())) if outcome else [],
    }


def _beside(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Databases that are on the same server as this one; none of other kinds."""
    if "server" not in row:
        return []
    return [other["name"] for other in rows if other.get("server") == row["server"]]


def added(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], Words]:
    """An edit that adds one store."""
    made, words = body(fields)
    place = ("add_stores", 0)
    return {"add_stores": [made]}, {place: "name"} | {(*place, *inner): name for inner, name in words.items()}
