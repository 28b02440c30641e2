"""Leader election: whoever holds the Lease writes. The times are client-go's defaults."""

import asyncio
import datetime

import structlog

from datalabd import metrics
from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, KubeError, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import LEASES

log = structlog.get_logger()

DURATION_SECONDS = 15
RENEW_SECONDS = 5.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


class LeaseLost(Exception):
    """The lease could not be renewed in time: stop writing at once."""


class Lease:
    """One Lease object and our claim to it."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seen: tuple[Manifest, float] | None = None

    async def acquire(self) -> None:
        """Return once the lease is ours. Errors of the API server are waited out."""
        lease, told = f"{self._namespace}/{self._name}", None
        while True:
            try:
                if await self._try():
                    metrics.LEADER.set(1)
                    log.info("leading", lease=lease, identity=self._identity)
                    return
                holder = self._seen[0]["holderIdentity"] if self._seen is not None else None
                if holder != told:
                    log.info("waiting for the lease", lease=lease, holder=holder)
                    told = holder
            except KubeError as error:
                log.warning("lease not acquired", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def hold(self) -> None:
        """Renew until cancelled; raises `LeaseLost` when that failed for ten seconds or somebody else holds it."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            began = loop.time()
            try:
                # A request that hangs must not carry us past the moment when others may take over.
                async with asyncio.timeout_at(renewed + RENEW_DEADLINE_SECONDS):
                    held = await self._try()
                if not held:
                    raise LeaseLost("another replica holds the lease")
                renewed = began
            except TimeoutError as error:
                raise LeaseLost(f"not renewed within {RENEW_DEADLINE_SECONDS:.0f} s") from error
            except KubeError as error:
                if loop.time() - renewed > RENEW_DEADLINE_SECONDS:
                    raise LeaseLost(str(error)) from error
                log.warning("lease not renewed", error=str(error))

    async def release(self) -> None:
        """Give the lease up, so that the next holder need not wait for it to run out."""
        metrics.LEADER.set(0)
        try:
            live = await self._client.get(LEASES, self._namespace, self._name)
            if live["spec"].get("holderIdentity") == self._identity:
                await self._write(live, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except KubeError as error:
            log.info("lease not released", error=str(error))

    async def _try(self) -> bool:
        """Take or renew the lease; False while somebody else holds it."""
        try:
            live = await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            await self._write(None, self._ours({}))
            return True
        spec = live["spec"]
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity and not self._expired(spec):
            return False
        try:
            await self._write(live, self._ours(spec))
        except Conflict:
            return False
        return True

    def _expired(self, spec: Manifest) -> bool:
        """By our own clock since we last saw it change: the clocks of two replicas need not agree."""
        now = asyncio.get_running_loop().time()
        if self._seen is None or self._seen[0] != spec:
            self._seen = (spec, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)

    def _ours(self, spec: Manifest) -> Manifest:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        same = spec.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": spec["acquireTime"] if same and "acquireTime" in spec else now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if same else 1),
        }

    async def _write(self, live: Manifest | None, spec: Manifest) -> None:
        if live is None:
            manifest = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"namespace": self._namespace, "name": self._name},
                "spec": spec,
            }
            await self._client.create(LEASES, manifest)
            return
        await self._client.replace(LEASES, live | {"spec": live["spec"] | spec})
