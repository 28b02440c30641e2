"""Who shares which bucket with whom, over all Storages of the namespace; kept current one Storage at a time. Pure.

Only what a Storage decides on its own buckets counts. Requests and grants show on both sides.
"""

from collections.abc import Iterable, Iterator, KeysView, Sequence
from typing import Any

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.api.storage import Grant, Permission, Request, Storage, is_bucket_name, read
from datalabd.api.workspace import stamp

Row = dict[str, Any]
"""A `BucketAccessRequest` as JSON."""


class Sharing:
    """Every Storage as read, found by name, by principal, and by bucket."""

    def __init__(self, storages: Iterable[Manifest] = ()) -> None:
        self._storages: dict[str, Storage] = {}
        self._principals: dict[str, set[str]] = {}
        self._owners: dict[str, set[str]] = {}
        self._requesters: dict[str, set[str]] = {}
        self._granters: dict[str, set[str]] = {}
        self._discoverable: list[tuple[str, str]] | None = None
        self._decisions: dict[str, dict[tuple[str, str], Grant]] = {}
        self._requests: dict[str, dict[str, Request]] = {}
        for obj in storages:
            self.put(obj)

    def put(self, obj: Manifest) -> None:
        """Take up a Storage that is new, or has changed."""
        storage = read(obj)
        self.remove(storage.name)
        self._storages[storage.name] = storage
        self._discoverable = None
        for index, keys in self._keys(storage):
            for key in keys:
                index.setdefault(key, set()).add(storage.name)

    def remove(self, name: str) -> None:
        """Forget a Storage, if it is known."""
        storage = self._storages.pop(name, None)
        if storage is None:
            return
        self._decisions.pop(name, None)
        self._requests.pop(name, None)
        self._discoverable = None
        for index, keys in self._keys(storage):
            for key in keys:
                index[key].discard(name)
                if not index[key]:
                    del index[key]

    def _keys(self, storage: Storage) -> tuple[tuple[dict[str, set[str]], set[str]], ...]:
        return (
            (self._principals, {storage.principal} - {""}),
            (self._owners, {bucket.name for bucket in storage.buckets}),
            (self._requesters, {request.bucket for request in storage.requests}),
            (self._granters, {grant.grantee for grant in storage.grants}),
        )

    def __iter__(self) -> Iterator[Storage]:
        """Storages by name."""
        return (self._storages[name] for name in sorted(self._storages))

    @property
    def names(self) -> KeysView[str]:
        """Names of all Storages, as they are at any time."""
        return self._storages.keys()

    def get(self, name: str) -> Storage | None:
        """The Storage of that name."""
        return self._storages.get(name)

    def owners(self, bucket: str) -> list[str]:
        """Names of the Storages that have a bucket, in order; more than one is somebody's mistake."""
        return sorted(self._owners.get(bucket, ()))

    def of_principal(self, principal: str) -> list[str]:
        """Names of the Storages of a principal, in order."""
        return sorted(self._principals.get(principal, ()))

    def granters(self, principal: str) -> list[str]:
        """Names of the Storages that decided something on a principal, in order."""
        return sorted(self._granters.get(principal, ()))

    def discoverable(self) -> list[tuple[str, str]]:
        """Names of Storages, each with a bucket of it that others may ask for, in order."""
        if self._discoverable is None:
            self._discoverable = [offer for storage in self for offer in _offers(storage)]
        return self._discoverable

    def decision(self, bucket: str, principal: str) -> Grant | None:
        """What the bucket's owner decided on a principal; of several owners, the first who decided."""
        for owner in self.owners(bucket):
            if (grant := self._decisions_of(owner).get((bucket, principal))) is not None:
                return grant
        return None

    def asks(self, name: str, bucket: str) -> bool:
        """Whether the Storage of that name asks for a bucket."""
        return name in self._requesters.get(bucket, ())

    def _decisions_of(self, name: str) -> dict[tuple[str, str], Grant]:
        """What a Storage decided, by bucket and principal: put together when first needed."""
        if (found := self._decisions.get(name)) is None:
            found = self._decisions[name] = {
                (grant.bucket, grant.grantee): grant for grant in self._storages[name].grants
            }
        return found

    def _requests_of(self, name: str) -> dict[str, Request]:
        """What a Storage asks for, by bucket."""
        if (found := self._requests.get(name)) is None:
            found = self._requests[name] = {request.bucket: request for request in self._storages[name].requests}
        return found

    # ---- Whom a change concerns

    def partners(self, versions: Sequence[Storage]) -> set[str]:
        """Names of the workspaces that share something with a Storage, which was, and is, as these one or two versions.

        Its own is one of them, even when it is gone. All that differs for others is what they could ask it for.
        """
        found = set()
        for storage in versions:
            found.add(storage.name)
            found.update(*(self._owners.get(request.bucket, ()) for request in storage.requests))
            found.update(*(self._principals.get(grant.grantee, ()) for grant in storage.grants))
        if len(versions) < 2 or versions[0].principal != versions[1].principal:
            for storage in versions:
                found.update(self.granters(storage.principal))
                found |= self.names & set(map(names.claim_of_credentials, (storage.name, storage.principal)))
        for bucket in _differing([{bucket.name for bucket in storage.buckets} for storage in versions]):
            found.update(self._requesters.get(bucket, ()))
        return found

    def finders(self, versions: Sequence[Storage]) -> set[str]:
        """Names of those that may find another choice of buckets after a change of a Storage, beside its partners.

        Who has a bucket, or asks for it, sees it whether others find it or not.
        """
        differing = _differing([{bucket for _, bucket in _offers(storage)} for storage in versions])
        if not differing:
            return set()
        everywhere = (self._owners.get(bucket, set()) | self._requesters.get(bucket, set()) for bucket in differing)
        return self.names - set.intersection(*everywhere)

    # ---- What one workspace sees

    def access(self, name: str) -> list[Row]:
        """Requests and grants of a workspace on both sides, then buckets that it could ask for; [] if it is absent."""
        storage = self._storages.get(name)
        if storage is None:
            return []
        return [*self._outbound(storage), *self._inbound(storage), *self._available(storage)]

    def pending(self, name: str) -> int:
        """How many requests wait for a decision of a workspace."""
        storage = self._storages.get(name)
        if storage is None:
            return 0
        return sum(grant is None or asked_again(request, grant) for _, request, grant in self._asked(storage))

    def _outbound(self, storage: Storage) -> Iterator[Row]:
        if storage.principal:
            for request in storage.requests:
                yield _row(storage.name, request.bucket, request, self.decision(request.bucket, storage.principal))

    def _asked(self, storage: Storage) -> Iterator[tuple[str, Request, Grant | None]]:
        """What others ask of it, each by name, and what it decided."""
        decisions = self._decisions_of(storage.name)
        for bucket in storage.buckets:
            for name in sorted(self._requesters.get(bucket.name, ())):
                requester = self._storages[name]
                if requester is not storage and requester.principal:
                    request = self._requests_of(name)[bucket.name]
                    yield name, request, decisions.get((bucket.name, requester.principal))

    def _inbound(self, storage: Storage) -> Iterator[Row]:
        """What others ask of it, and what they have without having asked."""
        asked = set()
        for name, request, grant in self._asked(storage):
            asked.add((name, request.bucket))
            yield _row(name, request.bucket, request, grant)
        own = {bucket.name for bucket in storage.buckets}
        for grant in storage.grants:
            names = self.of_principal(grant.grantee) or [grant.grantee]
            if grant.bucket in own and not any((name, grant.bucket) in asked for name in names):
                yield _row(names[0], grant.bucket, None, grant)

    def _available(self, storage: Storage) -> Iterator[Row]:
        """Buckets of others that it did not ask for: those that can be found, and those that it was granted."""
        known = {request.bucket for request in storage.requests} | {bucket.name for bucket in storage.buckets}
        granted: dict[str, Grant] = {}
        for owner in self.granters(storage.principal):
            for grant in self._storages[owner].grants:
                if grant.grantee == storage.principal and owner in self._owners.get(grant.bucket, ()):
                    granted.setdefault(grant.bucket, grant)
        for _, bucket in self.discoverable():
            if bucket not in known:
                known.add(bucket)
                yield _row(storage.name, bucket, None, granted.pop(bucket, None))
        for bucket, grant in granted.items():
            if bucket not in known and grant.in_force:
                yield _row(storage.name, bucket, None, grant)


def _row(workspace: str, bucket: str, request: Request | None, grant: Grant | None) -> Row:
    """Level: what is granted; until then, and once it is denied, what is wanted. Who asks again waits again."""
    if asked_again(request, grant):
        grant = None
    wanted = Permission.READ_WRITE if request is None else request.permission
    row = {
        "workspace": workspace,
        "bucket": bucket,
        "permission": str(grant.permission if grant is not None and grant.in_force else wanted),
    }
    if request is not None:
        row["request_timestamp"] = stamp(request.requested_at)
    if grant is not None:
        row["grant_timestamp" if grant.in_force else "denied_timestamp"] = stamp(grant.granted_at)
        if grant.reason:
            row["decision"] = grant.reason
        if grant.in_force and grant.expires_at is not None:
            row["expires"] = stamp(grant.expires_at)
    if request is not None and request.reason:
        row["reason"] = request.reason
    return row


def _offers(storage: Storage) -> list[tuple[str, str]]:
    """Its name with each bucket that others may ask for."""
    return [(storage.name, one.name) for one in storage.buckets if one.discoverable and is_bucket_name(one.name)]


def _differing(sets: Sequence[set[str]]) -> set[str]:
    """What is in one of two sets alone; all of a single one."""
    return set.symmetric_difference(*sets) if len(sets) > 1 else set().union(*sets)


def asked_again(request: Request | None, grant: Grant | None) -> bool:
    """Whether somebody asks for what was denied before."""
    return request is not None and grant is not None and not grant.in_force and request.requested_at > grant.granted_at
