"""The reference of the Workspace API, from the tables that it runs by: operations, roles, settings."""

from dataclasses import fields
from itertools import groupby

from workspaces.operations import OPERATIONS, PARAMETERS, Needs, Operation
from workspaces.permissions import ROLE_PERMISSIONS, Permission, Role
from workspaces.rates import Rates
from workspaces.settings import Settings

_NEEDS = {
    Needs.NOTHING: "nothing",
    Needs.TOKEN: "a token",
    Needs.ANY: "any permission",
    Needs.EDIT: "by entry, see below",
    Needs.OWNER: "to be the owner, or a platform admin",
    Needs.PLATFORM_ADMIN: "to be a platform admin",
}
_HEAD = """# Workspace API

Answers and bodies are JSON, described by [openapi.json](openapi.json); `/docs` shows the same as a page. Permissions
are those on the workspace of the path. Nobody without one learns whether the workspace exists: the answer is 403
`{"detail": "Forbidden"}` either way.

"""
_EDIT = """
`PUT /workspaces/{w}` needs MANAGE_MEMBERS, MANAGE_STORES and MANAGE_BUCKETS for the lists that have entries. Each entry
of `patch_bucket_access_requests` is looked at by itself: a request of `{w}` needs VIEW_BUCKETS; a decision on another's
needs MANAGE_BUCKETS, on a bucket of `{w}` that the other asked for, or that was decided on before. An empty body needs
any permission.

"""
_ROLES = """
## Roles

A token's `resource_access` has roles by client. Role `admin` of client `workspace-api` makes a platform admin, who has
every permission on every workspace. Any other client is a workspace; of several roles the first of these decides:

"""
_CAPS = """
Who is removed, or is an administrator no longer, is kept from what an older token says: for a day, or until added or
promoted again. With `SESSION_CHANGES=operators` nobody but platform admins has MANAGE_SESSIONS, and opening a stopped
session is refused.

## Settings

`datalabd workspaces` reads these variables of its environment once. A wrong one is named on standard error, with exit
code 2.

| Variable | Default | Meaning |
|---|---|---|
| `KUBECONFIG` | the pod's account | how to reach the API server |
"""


def page() -> str:
    """Endpoints, roles and settings as tables."""
    return _HEAD + _endpoints() + _EDIT + _queries() + _ROLES + _roles() + _CAPS + _settings()


def _endpoints() -> str:
    found = ""
    for tag, operations in groupby(sorted(OPERATIONS, key=_order), key=lambda one: one.tag):
        rows = "".join(
            f"| `{one.method}` | `{one.path}` | {_needs(one)} | {one.summary} | {one.status} |\n" for one in operations
        )
        found += f"## {tag}\n\n| Method | Path | Needs | What it does | Status |\n|---|---|---|---|---|\n{rows}\n"
    return found.rstrip() + "\n"


def _order(one: Operation) -> int:
    return list(dict.fromkeys(operation.tag for operation in OPERATIONS)).index(one.tag)


def _needs(one: Operation) -> str:
    return str(one.needs) if isinstance(one.needs, Permission) else _NEEDS[one.needs]


def _queries() -> str:
    rows = ""
    for name, said in PARAMETERS.items():
        of = [f"`{one.method} {one.path}`" for one in OPERATIONS if name in one.parameters]
        if of or name == "dry_run":
            rows += f"| `{name}` | {', '.join(of) or 'every write'} | {said['description']} |\n"
    return f"## Parameters of the query\n\n| Parameter | Of | Meaning |\n|---|---|---|\n{rows}"


def _roles() -> str:
    roles = (Role.ADMIN, Role.ACCESS, Role.API)
    rows = "".join(
        f"| {permission} | {' | '.join('yes' if permission in ROLE_PERMISSIONS[role] else '' for role in roles)} |\n"
        for permission in sorted(Permission)
    )
    return f"| Permission | {' | '.join(f'`{role}`' for role in roles)} |\n|---|---|---|---|\n{rows}"


def _settings() -> str:
    return "".join(
        f"| `{entry.metadata['variable']}` | {_default(entry.default)} | {entry.metadata['meaning']} |\n"
        for entry in fields(Settings)
    )


def _default(value: object) -> str:
    match value:
        case None | "" | ():
            return "none"
        case frozenset():
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`{' '.join(map(str, value))}`"
        case float():
            return f"`{value:g}`"
        case Rates(reads=reads, writes=writes):
            return f"`reads={reads},writes={writes}`"
        case _:
            return f"`{value}`"
