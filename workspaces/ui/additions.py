"""What a form adds and that is there already: pages refuse it, rather than say that it is done. Pure.

An edit by the API gives whom it names the role that it says, and leaves buckets and stores that are there as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import WorkspaceEdit
from workspaces.problems import Problem, wrong_value


def require_new(edit: WorkspaceEdit, view: Mapping[str, Any]) -> None:
    """Raise `Problem` for what its viewer can see in the workspace already."""
    if found := [*_members(edit, view), *_buckets(edit, view), *_stores(edit, view)]:
        raise Problem(422, found)


def _members(edit: WorkspaceEdit, view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {row["member"].lower() for row in view["datalab"]["memberships"]}
    for at, new in enumerate(edit.add_memberships):
        if new.member.lower() in known:
            place = ("body", "add_memberships", at)
            yield wrong_value(place, f"{new.member} is a member already; change the role in the list", new.member)


def _buckets(edit: WorkspaceEdit, view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {row["name"] for row in view["storage"]["buckets"]}
    for at, new in enumerate(edit.add_buckets):
        if new.name in known:
            yield wrong_value(("body", "add_buckets", at, "name"), "is a bucket already", new.name)


def _stores(edit: WorkspaceEdit, view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows = view["datalab"]["stores"]
    known = {(row["type"], row["name"]) for row in rows}
    has_server = any(kind == StoreType.DATABASE for kind, _ in known)
    for at, new in enumerate(edit.add_stores):
        place = ("body", "add_stores", at)
        if (new.type, new.name) in known:
            yield wrong_value((*place, "name"), "is a store of this kind already", new.name)
        elif new.type is StoreType.DATABASE and has_server:
            for member, given in (("storage", new.storage), ("backup_storage", new.backup_storage)):
                if given:
                    yield wrong_value(
                        (*place, member), "is the server's, which is there already: leave it blank", given
                    )
