"""The provider of Storages: keys for each, in a Secret that is named after its principal.

Of the backend nothing is played: no bucket is made, no right given. As the real one does, it writes over any Secret of
that name, whoever made it. Two Storages of one principal share the Secret, and the first to go takes it along.
"""

import secrets

from datalabd.api.meta import Manifest
from datalabd.kube.client import Client, path
from datalabd.kube.resources import SECRETS, STORAGES
from datalabd.kube.store import key_of
from datalabd.live import condition, integer
from hack.standins.operator import Operator
from hack.standins.statefulsets import merged, values
from hack.standins.statefulsets import secret as secret_of

NOT_READY = "storages.pkg.internal/stand-in-trouble"
"""Annotation of a Storage: while it is there, the Storage says `Ready=False` with this message, and gets no keys."""
ENDPOINT, REGION = "https://s3.example.org", "eu-central-1"


class StorageProvider(Operator):
    """Writes Secret and conditions. Keys stay as they are for as long as the Secret has some."""

    def __init__(self, client: Client, endpoint: str = ENDPOINT, region: str = REGION) -> None:
        super().__init__(client, "storage-provider")
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
            return
        trouble = (known["metadata"].get("annotations") or {}).get(NOT_READY, "")
        if not trouble:
            await self._write_keys(namespace, _principal(known))
        await self._tell(known, trouble)

    async def _write_keys(self, namespace: str, principal: str) -> None:
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
