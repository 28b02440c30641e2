"""The provider of Storages: keys for each, in a Secret that is named after its principal.

As the real one does, it writes over any Secret of that name, whoever made it. Two Storages of one principal share the
Secret, and the first to go takes it along. With a MinIO it makes buckets, user and rights there, and looks at each
Storage again after a while: nothing tells it that another has decided. Without one no bucket is made, no right given.
"""

import asyncio
import secrets

from datalabd.api.meta import Manifest
from datalabd.api.storage import DISCOVERABLE
from datalabd.kube.client import Client, path
from datalabd.kube.resources import SECRETS, STORAGES
from datalabd.kube.store import key_of
from datalabd.live import condition, integer, labels, objects, text
from hack.minio import Account
from hack.standins import object_storage
from hack.standins.object_storage import Backend
from hack.standins.operator import Operator
from hack.standins.statefulsets import merged, values
from hack.standins.statefulsets import secret as secret_of

NOT_READY = "storages.pkg.internal/stand-in-trouble"
"""Annotation of a Storage: while it is there, the Storage says `Ready=False` with this message, and gets no keys."""
POLL_SECONDS = 60.0
"""How often the real one looks at a Storage."""
ENDPOINT, REGION = "https://s3.example.org", "eu-central-1"


class StorageProvider(Operator):
    """Writes Secret and conditions. Keys stay as they are for as long as the Secret has some."""

    def __init__(
        self,
        client: Client,
        endpoint: str = ENDPOINT,
        region: str = REGION,
        *,
        minio: Account | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__(client, "storage-provider")
        self._backend = None if minio is None else Backend(minio)
        self._poll_seconds = poll_seconds
        if minio is not None:
            endpoint, region = minio.endpoint, minio.root.region
        self._settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": region, "AWS_S3_FORCE_PATH_STYLE": "true"}
        self._secrets = self.watch(SECRETS, self._secret_changed)
        self._storages = self.watch(STORAGES, self._changed)

    def _changed(self, live: Manifest) -> None:
        self.schedule(key_of(live), lambda: self._sync(live))

    def _secret_changed(self, secret: Manifest) -> None:
        for live in self._storages:
            if (live["metadata"]["namespace"], _principal(live)) == key_of(secret):
                self._changed(live)

    async def _sync(self, live: Manifest) -> None:
        namespace, name = key_of(live)
        known = self._storages.get(namespace, name)
        if known is None:
            await self.client.request("DELETE", path(SECRETS, namespace, _principal(live)))
            if self._backend is not None:
                await asyncio.to_thread(self._remove, self._backend, live)
            return
        trouble = (known["metadata"].get("annotations") or {}).get(NOT_READY, "")
        if not trouble:
            secret = await self._write_keys(namespace, _principal(known))
            if self._backend is not None:
                others = [other for other in self._storages if key_of(other).namespace == namespace]
                await asyncio.to_thread(self._make, self._backend, known, secret, others)
                self.schedule(("again", key_of(live)), lambda: self._sync(live), self._poll_seconds)
        await self._tell(known, trouble)

    @staticmethod
    def _make(backend: Backend, live: Manifest, secret: str, others: list[Manifest]) -> None:
        """Buckets, policies and user of a Storage, and what others granted it."""
        principal, user = _principal(live), _user(live)
        own = [text(bucket, "bucketName").strip() for bucket in objects(live, "spec", "buckets")]
        for bucket in own:
            backend.make_bucket(bucket)
            backend.put_policy(f"{principal}.{bucket}", object_storage.owner(bucket))
        for grant in objects(live, "spec", "bucketAccessGrants"):
            bucket, grantee = text(grant, "bucketName").strip(), text(grant, "grantee").strip()
            if (grantee, bucket) not in {(principal, name) for name in own}:
                statements = object_storage.granted(bucket, text(grant, "permission"))
                backend.put_policy(f"{grantee}.{bucket}", statements)
        before = backend.policies(user)
        if before is None:
            backend.put_user(user, secret)
        asked = [text(request, "bucketName").strip() for request in objects(live, "spec", "bucketAccessRequests")]
        wanted = [
            f"{principal}.{bucket}" for bucket in [*own, *(one for one in asked if _is_granted(live, one, others))]
        ]
        backend.set_policies(user, dict.fromkeys(wanted))
        for policy in set(before or ()) - set(wanted):
            bucket = policy.removeprefix(f"{principal}.")
            if bucket not in asked:
                backend.remove_policy(policy)
                backend.remove_bucket(bucket)

    @staticmethod
    def _remove(backend: Backend, live: Manifest) -> None:
        """Take user, policies and empty buckets of a Storage."""
        backend.remove_user(_user(live))
        for bucket in objects(live, "spec", "buckets"):
            name = text(bucket, "bucketName").strip()
            backend.remove_policy(f"{_principal(live)}.{name}")
            backend.remove_bucket(name)

    async def _write_keys(self, namespace: str, principal: str) -> str:
        """Have a Secret with keys; the secret one of them."""
        present = self._secrets.get(namespace, principal)
        held = {} if present is None else values(present)
        keys = {
            "AWS_ACCESS_KEY_ID": held.get("AWS_ACCESS_KEY_ID") or f"{principal}-1",
            "AWS_SECRET_ACCESS_KEY": held.get("AWS_SECRET_ACCESS_KEY") or secrets.token_urlsafe(48),
        }
        wanted = secret_of(principal, keys | self._settings) | {"type": "Opaque"}
        if present is None:
            await self.create(wanted, namespace)
        elif held | keys | self._settings != held:
            await self.patch(SECRETS, namespace, principal, {"data": wanted["data"]})
        return keys["AWS_SECRET_ACCESS_KEY"]

    async def _tell(self, live: Manifest, trouble: str) -> None:
        said = {
            "Synced": {"status": "True", "reason": "ReconcileSuccess"},
            "Ready": {"status": "False", "reason": "Creating", "message": trouble}
            if trouble
            else {"status": "True", "reason": "Available"},
        }
        now = live["metadata"]["creationTimestamp"]
        conditions = [
            {"type": kind, "lastTransitionTime": now, "observedGeneration": integer(live, "metadata", "generation")}
            | what
            for kind, what in said.items()
        ]
        if any(
            merged(condition(live, one["type"], "status"), one) != condition(live, one["type"], "status")
            for one in conditions
        ):
            await self.patch(STORAGES, *key_of(live), {"status": {"conditions": conditions}}, "status")


def _principal(live: Manifest) -> str:
    return str(live["spec"].get("principal") or live["metadata"]["name"])


def _user(live: Manifest) -> str:
    return f"{_principal(live)}-1"


def _is_granted(live: Manifest, bucket: str, others: list[Manifest]) -> bool:
    """Whether the first other Storage that has the bucket and an opinion on this principal says yes."""
    for other in others:
        is_peer = labels(other).get(DISCOVERABLE) == "true" and key_of(other) != key_of(live)
        has = any(text(one, "bucketName").strip() == bucket for one in objects(other, "spec", "buckets"))
        levels = {
            text(grant, "permission")
            for grant in objects(other, "spec", "bucketAccessGrants")
            if (text(grant, "bucketName").strip(), text(grant, "grantee").strip()) == (bucket, _principal(live))
        }
        if is_peer and has and levels:
            return "None" not in levels and bool(levels & {"ReadWrite", "ReadOnly", "WriteOnly"})
    return False
