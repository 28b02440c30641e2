"""Requests for buckets of others, and decisions on those of others: how they come, change and end. Pure."""

import datetime
import re
from collections.abc import Iterable, Sequence

from datalabd.api.meta import Manifest
from datalabd.api.patterns import DNS_NAME
from datalabd.api.storage import GRANT_EXPIRY, GRANT_REASONS, Permission, Storage, key, read, spoken
from datalabd.api.workspace_bodies import BucketAccess, GrantPut, RequestPut
from datalabd.live import text
from workspaces.patches import Draft, listed, set_entry
from workspaces.problems import Location, problem, wrong
from workspaces.sharing import Sharing, asked_again

NAME_MAX = 253
"""Characters of an object's name."""
EXPIRED = "The grant has expired"
"""What is said to a grant that ended by itself."""
_ENTRIES = "patch_bucket_access_requests"


def apply(draft: Draft, entries: Sequence[BucketAccess], sharing: Sharing) -> None:
    """Requests of the workspace's own, and its decisions on those of others."""
    for index, entry in enumerate(entries):
        if entry.workspace == draft.name:
            _refuse_own(draft, entry.bucket, ("body", _ENTRIES, index, "bucket"))
            at = len(listed(draft.storage, "bucketAccessRequests"))
            draft.words[("spec", "bucketAccessRequests", at)] = (_ENTRIES, index)
            if _request(draft.storage, entry.bucket) is None:
                _ask(draft.storage, entry.bucket, spoken(entry.permission, ""), entry.request_timestamp)
        else:
            _decide(draft, index, entry, sharing)


def _decide(draft: Draft, index: int, entry: BucketAccess, sharing: Sharing) -> None:
    """Whoever never asked is answered like whoever does not exist."""
    own = read(draft.storage)
    if entry.bucket not in {bucket.name for bucket in own.buckets}:
        raise wrong(("body", _ENTRIES, index, "bucket"), f"must be a bucket of {draft.name}", entry.bucket)
    other = sharing.get(entry.workspace)
    grantee = entry.workspace if other is None else other.principal
    asked = other is not None and any(request.bucket == entry.bucket for request in other.requests)
    decided = grantee and any((grant.bucket, grant.grantee) == (entry.bucket, grantee) for grant in own.grants)
    if not asked and not decided:
        raise problem(400, "invalid_workspace", workspace=entry.workspace)
    if not grantee:
        raise problem(400, "missing_principal", workspace=entry.workspace)
    at = len(listed(draft.storage, "bucketAccessGrants"))
    draft.words[("spec", "bucketAccessGrants", at)] = (_ENTRIES, index)
    if entry.denied_timestamp is not None:
        _set(draft.storage, entry.bucket, grantee, Permission.NONE, entry.denied_timestamp)
    elif entry.grant_timestamp is not None:
        _set(draft.storage, entry.bucket, grantee, entry.permission, entry.grant_timestamp)


def request(draft: Draft, bucket: str, asked: RequestPut, sharing: Sharing, now: datetime.datetime) -> None:
    """Ask for a bucket that can be found, or that there is a decision on; ask again after a denial."""
    _refuse_own(draft, bucket, ("path", "b"))
    own = read(draft.storage)
    decision = sharing.decision(bucket, own.principal)
    known = next((request for request in own.requests if request.bucket == bucket), None)
    found = any(name == bucket for _, name in sharing.discoverable())
    if known is None and decision is None and not found:
        raise problem(404, "not_discoverable", bucket=bucket)
    words = spoken(asked.permission, asked.reason)
    entry = _request(draft.storage, bucket)
    denied = decision is not None and not decision.in_force and not asked_again(known, decision)
    if known is None or entry is None:
        _ask(draft.storage, bucket, words, now)
    elif entry.get("reason") != words or denied:
        entry["reason"] = words
        if denied:
            entry["requestedAt"] = now.isoformat()


def withdraw(draft: Draft, bucket: str) -> None:
    """Ask for a bucket no longer."""
    if (entry := _request(draft.storage, bucket)) is None:
        raise problem(404, "request_not_found", bucket=bucket)
    listed(draft.storage, "bucketAccessRequests").remove(entry)


def grant(
    draft: Draft, bucket: str, workspace: str, decision: GrantPut, sharing: Sharing, now: datetime.datetime
) -> None:
    """Decide what another workspace gets of a bucket, whether it asked or not, and whether it exists or not."""
    own = read(draft.storage)
    if bucket not in {known.name for known in own.buckets}:
        raise problem(404, "bucket_not_found", bucket=bucket)
    grantee = _principal(workspace, sharing)
    if workspace == draft.name or grantee == own.principal:
        raise wrong(("path", "workspace"), "must be another workspace", workspace)
    if len(workspace) > NAME_MAX or not re.fullmatch(DNS_NAME, workspace):
        raise wrong(("path", "workspace"), "must be the name of a workspace", workspace)
    given = decision.permission is not Permission.NONE
    if given and decision.expires is not None and decision.expires <= now:
        raise wrong(("body", "expires"), "must be in the future", decision.expires.isoformat())
    ends = decision.expires if given else None
    entry = _set(draft.storage, bucket, grantee, decision.permission, now)
    entry.pop("expiresAt", None)
    set_entry(draft.storage, GRANT_EXPIRY, key(bucket, grantee), "" if ends is None else ends.isoformat())
    set_entry(draft.storage, GRANT_REASONS, key(bucket, grantee), decision.reason)


def end(draft: Draft, bucket: str, workspace: str, sharing: Sharing) -> None:
    """Forget what was decided on another workspace; its request waits again."""
    grantee = _principal(workspace, sharing)
    if (entry := _grant(draft.storage, bucket, grantee)) is None:
        raise problem(404, "grant_not_found", bucket=bucket, workspace=workspace)
    listed(draft.storage, "bucketAccessGrants").remove(entry)
    _forget(draft.storage, bucket, grantee)


# ---- Grants that end by themselves


def due(storages: Iterable[Storage], now: datetime.datetime) -> list[str]:
    """Names of Storages with grants whose end has come."""
    return [storage.name for storage in storages if any(end <= now for end in _ends(storage))]


def next_due(storages: Iterable[Storage]) -> datetime.datetime | None:
    """When the next grant ends; None: none does."""
    return min((end for storage in storages for end in _ends(storage)), default=None)


def end_due(draft: Draft, now: datetime.datetime) -> list[tuple[str, str]]:
    """End every grant whose time has come; bucket and grantee of each."""
    ended = []
    for known in read(draft.storage).grants:
        if known.in_force and known.expires_at is not None and known.expires_at <= now:
            _set(draft.storage, known.bucket, known.grantee, Permission.NONE, now).pop("expiresAt", None)
            set_entry(draft.storage, GRANT_REASONS, key(known.bucket, known.grantee), EXPIRED)
            ended.append((known.bucket, known.grantee))
    return ended


def _ends(storage: Storage) -> list[datetime.datetime]:
    return [grant.expires_at for grant in storage.grants if grant.in_force and grant.expires_at is not None]


# ---- Entries


def _principal(workspace: str, sharing: Sharing) -> str:
    """Whom a decision on a workspace is about: by its name, where it does not exist or says nothing else."""
    known = sharing.get(workspace)
    return workspace if known is None or not known.principal else known.principal


def _refuse_own(draft: Draft, bucket: str, where: Location) -> None:
    if any(known.name == bucket for known in read(draft.storage).buckets):
        raise wrong(where, "must be a bucket of another workspace", bucket)


def _request(storage: Manifest, bucket: str) -> Manifest | None:
    items = listed(storage, "bucketAccessRequests")
    return next((item for item in items if isinstance(item, dict) and text(item, "bucketName") == bucket), None)


def _grant(storage: Manifest, bucket: str, grantee: str) -> Manifest | None:
    items = listed(storage, "bucketAccessGrants")
    return next(
        (
            item
            for item in items
            if isinstance(item, dict)
            and text(item, "bucketName") == bucket
            and text(item, "grantee").strip() == grantee
        ),
        None,
    )


def _ask(storage: Manifest, bucket: str, reason: str, at: datetime.datetime) -> None:
    """A request that is there without a time gets one."""
    entry = _request(storage, bucket)
    if entry is None:
        entry = {"bucketName": bucket}
        listed(storage, "bucketAccessRequests").append(entry)
    entry |= {"reason": reason, "requestedAt": at.isoformat()}


def _set(storage: Manifest, bucket: str, grantee: str, permission: Permission, at: datetime.datetime) -> Manifest:
    """The entry with this decision; one that denies has no end, nor what was said to the grant."""
    entry = _grant(storage, bucket, grantee)
    if entry is None:
        entry = {"bucketName": bucket, "grantee": grantee}
        listed(storage, "bucketAccessGrants").append(entry)
    entry |= {"permission": str(permission), "grantedAt": at.isoformat()}
    if permission is Permission.NONE:
        _forget(storage, bucket, grantee)
    return entry


def _forget(storage: Manifest, bucket: str, grantee: str) -> None:
    for annotation in (GRANT_EXPIRY, GRANT_REASONS):
        set_entry(storage, annotation, key(bucket, grantee), "")
