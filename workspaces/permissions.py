"""Who may do what: roles, their permissions, and what keeps a former member out until Keycloak follows. Pure."""

import datetime
from collections.abc import Iterable, Mapping
from enum import StrEnum

import orjson

from datalabd.api.meta import Manifest
from datalabd.api.workspace_bodies import BucketAccess, WorkspaceEdit
from datalabd.live import dig, text, texts
from datalabd.text import moment, timestamp
from workspaces.claims import Identity

CAPS = "workspaces.pkg.internal/caps"
"""Annotation of a Datalab: what tokens of former members, and of former administrators, give at most.

JSON: `{"<user>": {"role": "none" or "ws_access", "since": <RFC 3339>}}`.
"""
CAPS_MAX = 1 << 16
"""Characters of it that are read."""
CAP_HOLDS = datetime.timedelta(days=1)
"""How long a cap holds: no access token lives longer, and Keycloak has followed by then."""


class Permission(StrEnum):
    """What somebody may do on a workspace."""

    ISSUE_TOKENS = "ISSUE_TOKENS"
    MANAGE_BUCKETS = "MANAGE_BUCKETS"
    MANAGE_MEMBERS = "MANAGE_MEMBERS"
    MANAGE_SESSIONS = "MANAGE_SESSIONS"
    MANAGE_STORES = "MANAGE_STORES"
    VIEW_BUCKETS = "VIEW_BUCKETS"
    VIEW_BUCKET_CREDENTIALS = "VIEW_BUCKET_CREDENTIALS"
    VIEW_MEMBERS = "VIEW_MEMBERS"
    VIEW_RESOURCE_USAGE = "VIEW_RESOURCE_USAGE"
    VIEW_SESSIONS = "VIEW_SESSIONS"
    VIEW_STORES = "VIEW_STORES"


Permissions = frozenset[Permission]


class Role(StrEnum):
    """What a token says somebody is to a workspace; `NONE` is what a cap may leave of it."""

    ADMIN = "ws_admin"
    ACCESS = "ws_access"
    API = "ws_api"
    NONE = "none"


NOTHING: Permissions = frozenset()
EVERYTHING: Permissions = frozenset(Permission)
ROLE_PERMISSIONS: Mapping[Role, Permissions] = {
    Role.ADMIN: EVERYTHING,
    Role.ACCESS: frozenset(
        {
            Permission.VIEW_BUCKETS,
            Permission.VIEW_BUCKET_CREDENTIALS,
            Permission.VIEW_MEMBERS,
            Permission.VIEW_RESOURCE_USAGE,
            Permission.VIEW_SESSIONS,
            Permission.VIEW_STORES,
        }
    ),
    Role.API: frozenset({Permission.VIEW_BUCKET_CREDENTIALS}),
    Role.NONE: NOTHING,
}


class SessionChanges(StrEnum):
    """Who starts, stops, adds and removes sessions."""

    ADMINS = "admins"
    OPERATORS = "operators"


def permissions(
    identity: Identity,
    workspace: str,
    datalab: Manifest | None,
    session_changes: SessionChanges,
    now: datetime.datetime,
) -> Permissions:
    """What somebody may do on a workspace, which need not exist; `datalab` is its Datalab, where there is one."""
    if identity.is_platform_admin:
        return EVERYTHING
    role = Role(identity.roles[workspace]) if workspace in identity.roles else Role.NONE
    if role is Role.NONE:
        return NOTHING
    found = ROLE_PERMISSIONS[role]
    if (cap := _cap(identity.name, datalab, now)) is not None:
        found &= ROLE_PERMISSIONS[cap]
    return found - {Permission.MANAGE_SESSIONS} if session_changes is SessionChanges.OPERATORS else found


def owns(identity: Identity, workspace: str, datalab: Manifest | None) -> bool:
    """Whether somebody who may do something on the workspace is its owner: the first of its members."""
    users = texts(datalab, "spec", "users")
    return workspace in identity.roles and bool(users) and users[0].strip().lower() == identity.name.lower()


def may_start(found: Permissions, identity: Identity, session_changes: SessionChanges) -> bool:
    """Whether opening a stopped session starts it, rather than being refused."""
    if identity.is_platform_admin:
        return True
    return session_changes is SessionChanges.ADMINS and Permission.VIEW_SESSIONS in found


# ---- Caps


def _cap(user: str, datalab: Manifest | None, now: datetime.datetime) -> Role | None:
    said = text(datalab, "metadata", "annotations", CAPS)
    return _caps(said, now).get(user.lower(), (None, ""))[0] if said else None


def _caps(said: str, now: datetime.datetime) -> dict[str, tuple[Role, str]]:
    """The role and since when, by user in lower case, of caps that still hold. What cannot be read caps nobody."""
    if len(said) > CAPS_MAX:
        return {}
    try:
        found = orjson.loads(said)
    except ValueError:
        return {}
    held: dict[str, tuple[Role, str]] = {}
    for user, cap in dig(found).items():
        role, since = text(cap, "role"), text(cap, "since")
        at = moment(since)
        if role in (Role.NONE, Role.ACCESS) and at is not None and now - at < CAP_HOLDS:
            held[user.lower()] = (Role(role), since)
    return held


def with_cap(datalab: Manifest, user: str, role: Role | None, now: datetime.datetime) -> str:
    """The annotation with another cap of this user, None taking it away, and without those that hold no more.

    Empty: nothing is left to say.
    """
    held = _caps(text(datalab, "metadata", "annotations", CAPS), now)
    held.pop(user.lower(), None)
    if role is not None:
        held[user.lower()] = (role, timestamp(now))
    return orjson.dumps({user: {"role": cap, "since": since} for user, (cap, since) in held.items()}).decode() * bool(
        held
    )


def is_capped(datalab: Manifest, user: str, now: datetime.datetime) -> bool:
    """Whether something keeps tokens of this user from what they say."""
    return _cap(user, datalab, now) is not None


# ---- What an edit needs


def needed(edit: WorkspaceEdit, workspace: str) -> Permissions:
    """Everything that somebody has to be allowed for the whole of an edit; nothing for an empty one."""
    found: set[Permission] = set()
    if edit.add_memberships:
        found.add(Permission.MANAGE_MEMBERS)
    if edit.add_stores:
        found.add(Permission.MANAGE_STORES)
    if edit.add_buckets:
        found.add(Permission.MANAGE_BUCKETS)
    return frozenset(found | _needed_for_access(edit.patch_bucket_access_requests, workspace))


def _needed_for_access(entries: Iterable[BucketAccess], workspace: str) -> set[Permission]:
    """A request of the workspace's own needs less than a decision on that of another."""
    return {Permission.VIEW_BUCKETS if entry.workspace == workspace else Permission.MANAGE_BUCKETS for entry in entries}
