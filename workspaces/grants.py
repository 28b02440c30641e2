"""Requests for buckets of others, and decisions on those of others: how they come, change and end. Pure."""

import datetime
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.api.patterns import DNS_NAME
from datalabd.api.storage import GRANT_EXPIRY, GRANT_REASONS, Permission, Storage, entries, key, read, spoken
from datalabd.api.workspace_bodies import BucketAccess, GrantPut, RequestPut
from datalabd.live import text
from workspaces.patches import Draft, listed, require_room, set_entries
from workspaces.problems import Location, problem, wrong
from workspaces.sharing import Sharing, asked_again

NAME_MAX = 253
"""Characters of an object's name."""
EXPIRED = "The grant has expired"
"""What is said to a grant that ended by itself."""
_ENTRIES = "patch_bucket_access_requests"


def apply(draft: Draft, changes: Sequence[BucketAccess], sharing: Sharing, now: datetime.datetime) -> None:
    """Requests of the workspace's own, and its decisions on those of others.

    Times to come are of now: what was asked for later than it was denied waits again, and for ever if nobody can deny
    it as late.
    """
    access = _Access(draft)
    for index, entry in enumerate(changes):
        if entry.workspace == draft.name:
            access.refuse_own(entry.bucket, ("body", _ENTRIES, index, "bucket"))
            draft.words[("spec", "bucketAccessRequests", len(access.requested))] = (_ENTRIES, index)
            if access.request(entry.bucket) is None:
                access.ask(entry.bucket, spoken(entry.permission, ""), min(entry.request_timestamp, now))
        else:
            _decide(access, index, entry, sharing, now)
    access.close()


def _decide(access: "_Access", index: int, entry: BucketAccess, sharing: Sharing, now: datetime.datetime) -> None:
    """Whoever never asked is answered like whoever does not exist."""
    if entry.bucket not in access.buckets:
        raise wrong(("body", _ENTRIES, index, "bucket"), f"must be a bucket of {access.draft.name}", entry.bucket)
    other = sharing.get(entry.workspace)
    grantee = entry.workspace if other is None else other.principal
    asked = sharing.asks(entry.workspace, entry.bucket)
    if not asked and not (grantee and access.is_decided(entry.bucket, grantee)):
        raise problem(400, "invalid_workspace", workspace=entry.workspace)
    if not grantee:
        raise problem(400, "missing_principal", workspace=entry.workspace)
    access.draft.words[("spec", "bucketAccessGrants", len(access.granted))] = (_ENTRIES, index)
    if entry.denied_timestamp is not None:
        access.decide(entry.bucket, grantee, Permission.NONE, min(entry.denied_timestamp, now))
    elif entry.grant_timestamp is not None:
        access.decide(entry.bucket, grantee, entry.permission, min(entry.grant_timestamp, now))


def request(draft: Draft, bucket: str, asked: RequestPut, sharing: Sharing, now: datetime.datetime) -> None:
    """Ask for a bucket that can be found, or that there is a decision on; ask again after a denial."""
    access = _Access(draft)
    access.refuse_own(bucket, ("path", "b"))
    own = access.own
    decision = sharing.decision(bucket, own.principal)
    known = next((request for request in own.requests if request.bucket == bucket), None)
    found = any(name == bucket for _, name in sharing.discoverable())
    if known is None and decision is None and not found:
        raise problem(404, "not_discoverable", bucket=bucket)
    words = spoken(asked.permission, asked.reason)
    entry = access.request(bucket)
    denied = decision is not None and not decision.in_force and not asked_again(known, decision)
    if known is None or entry is None:
        access.ask(bucket, words, now)
    elif entry.get("reason") != words or denied:
        entry["reason"] = words
        if denied:
            entry["requestedAt"] = now.isoformat()


def withdraw(draft: Draft, bucket: str) -> None:
    """Ask for a bucket no longer."""
    access = _Access(draft)
    if (entry := access.request(bucket)) is None:
        raise problem(404, "request_not_found", bucket=bucket)
    access.requested.remove(entry)


def grant(
    draft: Draft, bucket: str, workspace: str, decision: GrantPut, sharing: Sharing, now: datetime.datetime
) -> None:
    """Decide what another workspace gets of a bucket, whether it asked or not, and whether it exists or not."""
    access = _Access(draft)
    if bucket not in access.buckets:
        raise problem(404, "bucket_not_found", bucket=bucket)
    grantee = principal_of(workspace, sharing)
    if workspace == draft.name or grantee == access.own.principal:
        raise wrong(("path", "workspace"), "must be another workspace", workspace)
    if len(workspace) > NAME_MAX or not re.fullmatch(DNS_NAME, workspace):
        raise wrong(("path", "workspace"), "must be the name of a workspace", workspace)
    given = decision.permission is not Permission.NONE
    if given and decision.expires is not None and decision.expires <= now:
        raise wrong(("body", "expires"), "must be in the future", decision.expires.isoformat())
    ends = decision.expires if given else None
    entry = access.decide(bucket, grantee, decision.permission, now)
    entry.pop("expiresAt", None)
    access.note(GRANT_EXPIRY, bucket, grantee, "" if ends is None else ends.isoformat())
    access.note(GRANT_REASONS, bucket, grantee, decision.reason)
    access.close()


def end(draft: Draft, bucket: str, workspace: str, sharing: Sharing) -> None:
    """Forget what was decided on another workspace; its request waits again."""
    grantee = principal_of(workspace, sharing)
    access = _Access(draft)
    if (entry := access.grant(bucket, grantee)) is None:
        raise problem(404, "grant_not_found", bucket=bucket, workspace=workspace)
    access.granted.remove(entry)
    access.forget(bucket, grantee)
    access.close()


def forget(draft: Draft, grantee: str) -> None:
    """Forget all that was decided on a principal that is nobody's any more."""
    access = _Access(draft)
    for known in access.own.grants:
        if known.grantee == grantee:
            access.forget(known.bucket, grantee)
    access.granted[:] = [item for item in access.granted if text(item, "grantee").strip() != grantee]
    access.close()


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
    access = _Access(draft)
    for known in access.own.grants:
        if known.in_force and known.expires_at is not None and known.expires_at <= now:
            access.decide(known.bucket, known.grantee, Permission.NONE, now).pop("expiresAt", None)
            access.note(GRANT_REASONS, known.bucket, known.grantee, EXPIRED)
            ended.append((known.bucket, known.grantee))
    access.close()
    return ended


def _ends(storage: Storage) -> list[datetime.datetime]:
    return [grant.expires_at for grant in storage.grants if grant.in_force and grant.expires_at is not None]


# ---- Entries


def principal_of(workspace: str, sharing: Sharing) -> str:
    """Whom a decision on a workspace is about: by its name, where it does not exist or says nothing else."""
    known = sharing.get(workspace)
    return workspace if known is None or not known.principal else known.principal


class _Access:
    """Requests and decisions of a Storage under edit: read once, found by name, and written back by `close`."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.own = read(draft.storage)
        self.buckets = {bucket.name for bucket in self.own.buckets}
        self._decided = {(grant.bucket, grant.grantee) for grant in self.own.grants}
        self._notes: dict[str, dict[str, str]] = {}

    @cached_property
    def requested(self) -> list[Any]:
        """The requests as they stand in `spec`."""
        return listed(self.draft.storage, "bucketAccessRequests")

    @cached_property
    def granted(self) -> list[Any]:
        """The decisions as they stand in `spec`."""
        return listed(self.draft.storage, "bucketAccessGrants")

    @cached_property
    def _requests(self) -> dict[str, Manifest]:
        return {text(item, "bucketName"): item for item in reversed(self.requested) if isinstance(item, dict)}

    @cached_property
    def _grants(self) -> dict[tuple[str, str], Manifest]:
        items = (item for item in reversed(self.granted) if isinstance(item, dict))
        return {(text(item, "bucketName"), text(item, "grantee").strip()): item for item in items}

    def refuse_own(self, bucket: str, where: Location) -> None:
        """Raise `Problem` for a bucket of the workspace itself."""
        if bucket in self.buckets:
            raise wrong(where, "must be a bucket of another workspace", bucket)

    def is_decided(self, bucket: str, grantee: str) -> bool:
        """Whether there was a decision before this edit."""
        return (bucket, grantee) in self._decided

    def request(self, bucket: str) -> Manifest | None:
        """The entry of a request."""
        return self._requests.get(bucket)

    def grant(self, bucket: str, grantee: str) -> Manifest | None:
        """The entry of a decision."""
        return self._grants.get((bucket, grantee))

    def ask(self, bucket: str, reason: str, at: datetime.datetime) -> None:
        """A request that is there without a time gets one."""
        entry = self.request(bucket)
        if entry is None:
            require_room(self.requested, "bucket_access_requests")
            entry = self._requests[bucket] = {"bucketName": bucket}
            self.requested.append(entry)
        entry |= {"reason": reason, "requestedAt": at.isoformat()}

    def decide(self, bucket: str, grantee: str, permission: Permission, at: datetime.datetime) -> Manifest:
        """The entry with this decision; one that denies has no end, nor what was said to the grant."""
        entry = self.grant(bucket, grantee)
        if entry is None:
            require_room(self.granted, "bucket_access_grants")
            entry = self._grants[bucket, grantee] = {"bucketName": bucket, "grantee": grantee}
            self.granted.append(entry)
        entry |= {"permission": str(permission), "grantedAt": at.isoformat()}
        if permission is Permission.NONE:
            self.forget(bucket, grantee)
        return entry

    def note(self, annotation: str, bucket: str, grantee: str, value: str) -> None:
        """What an annotation says of a decision; nothing if it is empty."""
        if annotation not in self._notes:
            self._notes[annotation] = entries(self.draft.storage, annotation)
        self._notes[annotation][key(bucket, grantee)] = value

    def forget(self, bucket: str, grantee: str) -> None:
        """Take away all that annotations say of a decision."""
        for annotation in (GRANT_EXPIRY, GRANT_REASONS):
            self.note(annotation, bucket, grantee, "")

    def close(self) -> None:
        """Write the annotations that say something else now."""
        for annotation, said in self._notes.items():
            set_entries(self.draft.storage, annotation, said)
