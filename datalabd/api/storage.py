"""Storage v1beta1 as it is read: the kind belongs to others, so nothing here raises, and what is odd is left out.

Only the odd entry itself is left out: it spoils neither the rest of its Storage nor what others see.
"""

import datetime
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import orjson

from datalabd.api.meta import V1BETA1, Manifest
from datalabd.live import dig, objects, text
from datalabd.text import moment

Entry = TypeVar("Entry")

API_VERSION = V1BETA1
KIND = "Storage"
PLURAL = "storages"
CRD = f"{PLURAL}.pkg.internal"
PREFIX = "storages.pkg.internal"
ENVIRONMENT = f"{PREFIX}/environment"
"""Annotation that chooses the environment."""
DISCOVERABLE = f"{PREFIX}/discoverable"
"""Label without which controllers of Storages do not look at the grants of one."""
GRANT_EXPIRY = f"{PREFIX}/grant-expiry"
"""Annotation: when grants end, as JSON `{"<bucket>/<grantee>": <RFC 3339>}`. A grant's own `expiresAt` wins."""
GRANT_REASONS = f"{PREFIX}/grant-reasons"
"""Annotation: what was said to a grant or a denial, as JSON `{"<bucket>/<grantee>": <text>}`."""
CREATED_FOR = "workspaces.pkg.internal/created-for"
"""Annotation of a Storage that the Workspace API made: the workspace's owner, or nothing."""

BUCKET_CLAIM = "buckets.pkg.internal/claim"
"""Annotation: buckets that a Storage is about to have, as JSON `{"<bucket>": <RFC 3339>}`: since when."""

ENTRIES_MAX = 1 << 18
"""Characters of an annotation with such a JSON object; what an object's annotations may have in all."""

_BUCKET_NAME = re.compile(r"(?!.*(?:\.\.|\.-|-\.))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


class Permission(StrEnum):
    """Level of a grant."""

    READ_WRITE = "ReadWrite"
    READ_ONLY = "ReadOnly"
    WRITE_ONLY = "WriteOnly"
    NONE = "None"


_PERMISSIONS = frozenset(level.value for level in Permission)


class Mode(StrEnum):
    """What a lifecycle rule does."""

    NOTIFY = "Notify"
    DELETE = "Delete"


TARGET = r"^(\*|[^*]+(\*)?)$"
AGE = r"^\+?[0-9]+[smhdw]$"


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """What becomes of objects after an age or at a time; exactly one of the two is given."""

    target: str
    mode: Mode
    min_age: str | None
    at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of a Storage's own buckets."""

    name: str
    discoverable: bool
    rules: tuple[LifecycleRule, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a Storage asks of somebody else's bucket."""

    bucket: str
    reason: str
    requested_at: datetime.datetime

    @property
    def permission(self) -> Permission:
        """The level that its reason speaks of."""
        return wanted(self.reason)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a Storage decided on one of its buckets and another principal."""

    bucket: str
    grantee: str
    permission: Permission
    granted_at: datetime.datetime
    """When it was granted, or denied."""
    expires_at: datetime.datetime | None
    reason: str

    @property
    def in_force(self) -> bool:
        """Whether it gives anything."""
        return self.permission is not Permission.NONE


@dataclass(frozen=True, slots=True)
class Storage:
    """A Storage as read."""

    name: str
    principal: str
    """Empty where there is none."""
    buckets: tuple[Bucket, ...]
    requests: tuple[Request, ...]
    grants: tuple[Grant, ...]
    created: datetime.datetime | None


def is_rule(item: object) -> bool:
    """Whether an entry of `lifecycleRules` is one that `read` understands."""
    return isinstance(item, dict) and _rule(item) is not None


def is_bucket_name(name: str) -> bool:
    """Whether S3 takes it: 3 to 63 of a-z, 0-9, `.` and `-`; neither at an end; no `..`, `.-`, `-.`."""
    return _BUCKET_NAME.fullmatch(name) is not None


_NO_WORDS = "requesting access"
"""What a reason says where nobody said anything."""


def wanted(reason: str) -> Permission:
    """The level that a reason speaks of, by its first word where that is a level, else by any mention of one.

    Readers of earlier programs go by mentions alone; ReadWrite is what they take where there is none.
    """
    first = reason.partition(":")[0].strip().lower()
    said = reason.lower()
    for level in (Permission.READ_ONLY, Permission.WRITE_ONLY, Permission.READ_WRITE):
        if first == level.lower():
            return level
    if "readonly" in said or "read-only" in said:
        return Permission.READ_ONLY
    if "writeonly" in said or "write-only" in said:
        return Permission.WRITE_ONLY
    return Permission.READ_WRITE


def spoken(permission: Permission, words: str) -> str:
    """The reason that speaks of this level, and then says these words."""
    return f"{permission}: {words or _NO_WORDS}"


def words(reason: str) -> str:
    """What a reason says beside its level: what `spoken` was given, or all of one that begins with no level."""
    first, colon, rest = reason.partition(":")
    found = rest.strip() if colon and first.strip() in list(Permission) else reason
    return "" if found == _NO_WORDS else found


def key(bucket: str, grantee: str) -> str:
    """What annotations call a grant."""
    return f"{bucket}/{grantee}"


def read(obj: Manifest) -> Storage:
    """What a live Storage says. Entries with the same key count once, as the first of them says."""
    expiry, reasons = entries(obj, GRANT_EXPIRY), entries(obj, GRANT_REASONS)
    grants = [_grant(item, expiry, reasons) for item in objects(obj, "spec", "bucketAccessGrants")]
    return Storage(
        name=text(obj, "metadata", "name"),
        principal=text(obj, "spec", "principal").strip(),
        buckets=_first(map(_bucket, objects(obj, "spec", "buckets")), lambda bucket: bucket.name),
        requests=_first(map(_request, objects(obj, "spec", "bucketAccessRequests")), lambda request: request.bucket),
        grants=_first(grants, lambda grant: (grant.bucket, grant.grantee)),
        created=moment(dig(obj, "metadata").get("creationTimestamp")),
    )


def entries(obj: Manifest, annotation: str) -> dict[str, str]:
    """The texts of an annotation that holds a JSON object, by key; empty for anything else."""
    said = text(obj, "metadata", "annotations", annotation)
    if not said or len(said) > ENTRIES_MAX:
        return {}
    try:
        found = orjson.loads(said)
    except ValueError:
        return {}
    return {name: value for name, value in dig(found).items() if isinstance(value, str)}


def _first(found: Iterable[Entry | None], key_of: Callable[[Entry], Hashable]) -> tuple[Entry, ...]:
    """Each key's first entry, in order."""
    kept: dict[Hashable, Entry] = {}
    for entry in found:
        if entry is not None:
            kept.setdefault(key_of(entry), entry)
    return tuple(kept.values())


def _bucket(item: Manifest) -> Bucket | None:
    name = text(item, "bucketName") or text(item, "bucket")
    if not name:
        return None
    rules = _first(map(_rule, objects(item, "lifecycleRules")), lambda rule: rule.target)
    return Bucket(name, _is_true(item.get("discoverable")), rules)


def _rule(item: Manifest) -> LifecycleRule | None:
    target, mode, age, at = text(item, "target"), item.get("mode", "Delete"), text(item, "minAge"), item.get("at")
    if mode not in ("Notify", "Delete") or not re.fullmatch(TARGET, target):
        return None
    if at is None:
        return LifecycleRule(target, Mode(mode), age, None) if re.fullmatch(AGE, age, re.ASCII) else None
    time = moment(at)
    return LifecycleRule(target, Mode(mode), None, time) if time is not None and "minAge" not in item else None


def _request(item: Manifest) -> Request | None:
    bucket, at = text(item, "bucketName"), moment(item.get("requestedAt"))
    return Request(bucket, text(item, "reason"), at) if bucket and at is not None else None


def _grant(item: Manifest, expiry: dict[str, str], reasons: dict[str, str]) -> Grant | None:
    bucket, grantee, permission = text(item, "bucketName"), text(item, "grantee").strip(), text(item, "permission")
    at = moment(item.get("grantedAt"))
    if not bucket or not grantee or at is None or permission not in _PERMISSIONS:
        return None
    name = key(bucket, grantee)
    ends = moment(item.get("expiresAt")) or moment(expiry.get(name))
    return Grant(bucket, grantee, Permission(permission), at, ends, reasons.get(name, ""))


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1", "y", "t"))
