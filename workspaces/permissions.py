"""Who may do what: roles, their permissions, and what keeps a former member out until Keycloak follows. Pure."""

import datetime
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

import orjson

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Role as MemberRole
from datalabd.api.workspace_bodies import BucketAccess, WorkspaceEdit
from datalabd.live import dig, text, texts
from datalabd.text import moment, timestamp
from workspaces.claims import Identity
from workspaces.memory import Memory

CAPS = "workspaces.pkg.internal/caps"
"""Annotation of a Datalab: what tokens of former members, and of former administrators, give at most.

JSON: `{"<digest of the user>": {"role": "none" or "ws_access", "since": <RFC 3339>}}`. With `*` in place of a digest,
role `claimed`, nobody's token gives more than the claim does. So it is, too, where the annotation cannot be read.
"""
CAPS_MAX = 1 << 15
"""Characters of it: some 380 former members of one day. With more, `*` takes their place."""
EVERYBODY, CLAIMED = "*", "claimed"
_DIGEST = re.compile("[0-9a-f]{32}", re.ASCII)
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
    storage: Manifest | None,
    datalab: Manifest | None,
    session_changes: SessionChanges,
    now: datetime.datetime,
) -> Permissions:
    """What somebody may do on a workspace, which need not exist; the objects are its own, where there are any."""
    if identity.is_platform_admin:
        return EVERYTHING
    if any(obj is not None and not _knew(identity, obj) for obj in (storage, datalab)):
        return NOTHING
    role = Role(identity.roles[workspace]) if workspace in identity.roles else Role.NONE
    if role is Role.NONE:
        return NOTHING
    found = ROLE_PERMISSIONS[role]
    if (cap := _cap(identity.name, datalab, now)) is not None:
        found &= ROLE_PERMISSIONS[cap]
    return found - {Permission.MANAGE_SESSIONS} if session_changes is SessionChanges.OPERATORS else found


def _knew(identity: Identity, obj: Manifest) -> bool:
    """Whether the object was there when the token was issued: an earlier one tells of another that had its name.

    Both times are of whole seconds; a token of the same second counts as later.
    """
    made = moment(dig(obj, "metadata").get("creationTimestamp"))
    return made is not None and identity.issued_at is not None and identity.issued_at >= made.timestamp()


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


Caps = Mapping[str, tuple[str, datetime.datetime]]
"""The role and since when, by digest of the user, of days gone too."""


def _cap(user: str, datalab: Manifest | None, now: datetime.datetime) -> Role | None:
    """What tokens of this user give at most; None where that is what they say."""
    if not (caps := _caps(datalab, now)):
        return None
    if _holds(caps, EVERYBODY, now):
        return _claimed(user, datalab)
    return Role(caps[key][0]) if _holds(caps, key := _key(user), now) else None


def _claimed(user: str, datalab: Manifest | None) -> Role:
    """The role that the claim gives a user."""
    users = [name.strip() for name in texts(datalab, "spec", "users")]
    known = next((name for name in users if name.lower() == user.lower()), "")
    if not known:
        return Role.NONE
    is_admin = known == users[0] or text(datalab, "spec", "userOverrides", known, "role") == MemberRole.ADMIN
    return Role.ADMIN if is_admin else Role.ACCESS


def _caps(datalab: Manifest | None, now: datetime.datetime) -> Caps:
    """What the annotation says; that everybody is capped, where it cannot be read."""
    value = dig(datalab, "metadata", "annotations").get(CAPS)
    if not value and isinstance(value, str | None):
        return {}
    uid = text(datalab, "metadata", "uid")
    known = _PARSED.get(uid, 0.0)
    if known is None or known[0] != value:
        known = value, _read(value)
        _PARSED.put(uid, known, len(value) if isinstance(value, str) else 0, math.inf)
    return {EVERYBODY: (CLAIMED, now)} if known[1] is None else known[1]


_PARSED: Memory[str, tuple[object, Caps | None]] = Memory(4 << 20)
"""Annotations by uid of the Datalab, each parsed once, however many requests it decides on; a few times their size."""


def _holds(caps: Caps, key: str, now: datetime.datetime) -> bool:
    return key in caps and now - caps[key][1] < CAP_HOLDS


def _held(datalab: Manifest | None, now: datetime.datetime) -> dict[str, tuple[str, str]]:
    """Those that still hold, as they are written."""
    caps = _caps(datalab, now)
    return {key: (role, timestamp(since)) for key, (role, since) in caps.items() if _holds(caps, key, now)}


def _read(value: object) -> Caps | None:
    """What an annotation says, of days gone too; None if any of it cannot be read."""
    if not isinstance(value, str) or len(value) > CAPS_MAX:
        return None
    try:
        caps = orjson.loads(value)
    except ValueError:
        return None
    if not isinstance(caps, dict):
        return None
    found = {}
    for key, cap in caps.items():
        role, since = text(cap, "role"), moment(text(cap, "since"))
        is_cap = role == CLAIMED if key == EVERYBODY else _DIGEST.fullmatch(key) and role in (Role.NONE, Role.ACCESS)
        if not is_cap or since is None:
            return None
        found[key] = role, since
    return found


def with_cap(datalab: Manifest, user: str, role: Role | None, now: datetime.datetime) -> str:
    """The annotation with another cap of this user, None taking it away, and without those that hold no more.

    Empty: nothing is left to say.
    """
    held = _held(datalab, now)
    if EVERYBODY in held:
        held = {EVERYBODY: held[EVERYBODY] if role is None else (CLAIMED, timestamp(now))}
    elif role is None:
        held.pop(_key(user), None)
    else:
        held[_key(user)] = role, timestamp(now)
    said = _written(held)
    return said if len(said) <= CAPS_MAX else _written({EVERYBODY: (CLAIMED, timestamp(now))})


def _written(held: Mapping[str, tuple[str, str]]) -> str:
    caps = {key: {"role": role, "since": since} for key, (role, since) in held.items()}
    return orjson.dumps(caps).decode() if caps else ""


def is_capped(datalab: Manifest, user: str, now: datetime.datetime) -> bool:
    """Whether a cap of their own keeps tokens of this user from what they say."""
    return _holds(_caps(datalab, now), _key(user), now)


def _key(user: str) -> str:
    """What a user is known by in caps: as short as this whatever the name, so that nobody's names use up the room."""
    return hashlib.sha256(user.lower().encode("utf-8", "surrogatepass")).hexdigest()[:32]


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
