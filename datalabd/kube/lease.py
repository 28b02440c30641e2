"""The Lease by which replicas agree on who writes, and the fence that follows from it. The times are client-go's.

A holder may write until ten seconds after it last asked for a renewal that was granted. Others take over once they have
seen no renewal for fifteen: by their own clocks, so the clocks of two replicas need not agree.
"""

import asyncio
import datetime
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from datalabd import metrics
from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, KubeError, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import LEASES

log = structlog.get_logger()


@dataclass(frozen=True)
class Times:
    """Of an election, in seconds; the defaults are client-go's."""

    duration: int = 15
    """How long others wait after the last renewal they saw."""
    renew_deadline: float = 10.0
    """How long a holder goes on after the last renewal that was granted."""
    retry: float = 2.0
    """Between two renewals, or two attempts to take the lease."""

    @property
    def attempt(self) -> float:
        """How long one attempt may take: half of what is left, so that one that hangs leaves time for another."""
        return self.renew_deadline / 2


CLIENT_GO = Times()

REMIND_SECONDS = 300.0
"""Between two warnings that the lease is still waited for."""


class LeaseLost(Exception):
    """The lease could not be renewed in time, or somebody else holds it."""


def now() -> float:
    """Seconds on a clock that goes on while this process, or its machine, is stopped."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Fence:
    """Whether writes may leave: closed until the lease is held, and from its deadline on, whoever is late to notice.

    One thread opens it, others ask.
    """

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self.clock = clock
        self._until = -math.inf

    def is_open(self) -> bool:
        """Whether a write may leave now."""
        return self.clock() < self._until

    @property
    def left(self) -> float:
        """Seconds until it closes; 0 or less where it is closed."""
        return self._until - self.clock()

    def open_until(self, deadline: float) -> None:
        """Let writes leave until then, by this fence's clock."""
        self._until = deadline

    def close(self) -> None:
        """Let no write leave any more."""
        self._until = -math.inf


class Lease:
    """One Lease object and our claim to it; opens and closes a fence as it is held and lost.

    Replicas wait for it as a rule. Where a person should know, `remedy` says what to do, and waiting is a warning.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        fence: Fence,
        times: Times = CLIENT_GO,
        remedy: str = "",
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._fence = fence
        self._times = times
        self._remedy = remedy
        self._live: Manifest | None = None
        """The object as our last write left it; None where it may be another by now."""
        self._observed: tuple[Manifest, float] | None = None
        """What others wrote last, and when we first saw it."""

    async def acquire(self) -> None:
        """Return once the lease is ours. Errors of the API server are waited out."""
        lease, logged, remind_at = f"{self._namespace}/{self._name}", None, math.inf
        while True:
            try:
                async with asyncio.timeout(self._times.attempt):
                    acquired = await self._attempt()
                if acquired:
                    metrics.LEADER.set(1)
                    log.info("leading", lease=lease, identity=self._identity)
                    return
                spec = self._observed[0] if self._observed is not None else {}
                holder = spec.get("holderIdentity")
                if holder != logged or self._fence.clock() >= remind_at:
                    since = {"acquired": spec.get("acquireTime"), "renewed": spec.get("renewTime")}
                    if self._remedy:
                        log.warning("waiting for the lease", lease=lease, holder=holder, **since, remedy=self._remedy)
                        remind_at = self._fence.clock() + REMIND_SECONDS
                    else:
                        log.info("waiting for the lease", lease=lease, holder=holder)
                    logged = holder
            except (KubeError, TimeoutError) as error:
                log.warning("lease not acquired", error=str(error) or "no answer in time")
            # As client-go: so that those who wait do not all ask at once.
            await asyncio.sleep(self._times.retry * random.uniform(1.0, 2.2))

    async def hold(self) -> None:
        """Renew until cancelled; raises `LeaseLost` when the deadline passed, or somebody else holds the lease."""
        try:
            while True:
                await asyncio.sleep(min(self._times.retry, max(self._fence.left, 0.0)))
                if not self._fence.is_open():
                    raise LeaseLost(f"not renewed within {self._times.renew_deadline:g} s")
                try:
                    async with asyncio.timeout(min(self._times.attempt, self._fence.left)):
                        renewed = await self._attempt()
                except (KubeError, TimeoutError) as error:
                    log.warning("lease not renewed", error=str(error) or "no answer in time")
                    continue
                if not renewed:
                    raise LeaseLost("another replica holds the lease")
        finally:
            self._fence.close()
            metrics.LEADER.set(0)

    async def release(self) -> None:
        """Give the lease up if it is ours, so that the next holder need not wait for it to run out."""
        self._fence.close()
        metrics.LEADER.set(0)
        try:
            async with asyncio.timeout(self._times.attempt):
                live = await self._client.get(LEASES, self._namespace, self._name)
                if live["spec"].get("holderIdentity") == self._identity:
                    released = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _timestamp()}
                    await self._client.replace(LEASES, live | {"spec": live["spec"] | released})
        except NotFound:
            return  # never taken
        except (KubeError, TimeoutError) as error:
            log.info("lease not released", error=str(error) or "no answer in time")

    async def _attempt(self) -> bool:
        """Take or renew the lease; False while somebody else holds it."""
        for _ in range(2):
            began = self._fence.clock()
            live = self._live or await self._read()
            spec = live["spec"] if live is not None else {}
            if live is not None and not self._is_free(spec):
                return False
            try:
                self._live = await self._write(live, self._ours(spec))
            except Conflict:
                # Somebody wrote it meanwhile: another replica, or we by a request whose answer was lost.
                self._live = None
                continue
            except BaseException:
                self._live = None
                raise
            self._fence.open_until(began + self._times.renew_deadline)
            return True
        return False

    async def _read(self) -> Manifest | None:
        try:
            return await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            return None

    def _is_free(self, spec: Manifest) -> bool:
        """Whether we may have it: it is ours, nobody's, or its holder has been silent for too long."""
        if self._observed is None or self._observed[0] != spec:
            self._observed = (spec, self._fence.clock())
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        silent = self._fence.clock() - self._observed[1]
        return silent > float(spec.get("leaseDurationSeconds") or self._times.duration)

    def _ours(self, spec: Manifest) -> Manifest:
        same = spec.get("holderIdentity") == self._identity
        timestamp = _timestamp()
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._times.duration,
            "acquireTime": spec["acquireTime"] if same and "acquireTime" in spec else timestamp,
            "renewTime": timestamp,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if same else 1),
        }

    async def _write(self, live: Manifest | None, spec: Manifest) -> Manifest:
        if live is not None:
            return await self._client.replace(LEASES, live | {"spec": live["spec"] | spec})
        return await self._client.create(
            LEASES,
            {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"namespace": self._namespace, "name": self._name},
                "spec": spec,
            },
        )


def is_fresh(lease: Manifest, at: datetime.datetime) -> bool:
    """Whether somebody holds this Lease and renewed it within its duration before `at`, which has a time zone."""
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return False
    renewed = datetime.datetime.fromisoformat(spec["renewTime"])
    return (at - renewed).total_seconds() <= float(spec.get("leaseDurationSeconds") or Times.duration)


def _timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
