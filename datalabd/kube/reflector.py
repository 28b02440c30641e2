"""List and watch that never ends: keeps one scope of one store equal to the API server."""

import asyncio
import datetime
import random
from collections.abc import Callable

import structlog

from datalabd import metrics
from datalabd.errors import Denied, Expired, KubeError, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, Store

log = structlog.get_logger()

DENIED_SECONDS = 15.0
"""How long a scope is refused before that is said: rights given with a namespace take a moment to count, and an API
server that starts answers before it has read its roles."""
UNREADABLE_SECONDS = 10.0
"""How long a kind that may be absent fails to be read before what does not need it goes on without."""
RETRY_AFTER_SECONDS = 60.0
"""The longest pause that the API server is granted."""
SERVED_SECONDS = 15.0
"""How long after a change of its CRD a kind is asked for again: the API server serves a new one a moment later."""


class CrdChanges:
    """Counts changes of CRDs, so that whoever waits for one misses none that came while it was looking elsewhere."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    def count(self, name: str) -> int:
        """How often the CRD of this name has changed."""
        return self._counts.get(name, 0)

    def changed(self, name: str) -> None:
        """Tell of a change."""
        self._counts[name] = self.count(name) + 1
        self._waiting.pop(name, asyncio.Event()).set()

    async def wait(self, name: str, seen: int) -> None:
        """Return once the CRD has changed more often than `seen`."""
        while self.count(name) <= seen:
            await self._waiting.setdefault(name, asyncio.Event()).wait()


def backoff(failures: int, longest: float = 60.0) -> float:
    """Seconds before the next try after `failures` ≥ 1 in a row: 0.5·2ⁿ⁻¹, at most `longest`, ±10 %."""
    return float(min(longest, 0.5 * 2 ** min(failures - 1, 20)) * random.uniform(0.9, 1.1))


class Reflector:
    """One list+watch. `run` returns only by cancellation; any error but the API server's own ends the process."""

    def __init__(
        self,
        client: Client,
        store: Store,
        scope: Scope = Scope(),  # noqa: B008  an immutable value
        crds: CrdChanges | None = None,
        on_change: Callable[[], None] = lambda: None,
        *,
        anew: bool = False,
    ) -> None:
        self._client = client
        self._store = store
        self._scope = scope
        self._crds = crds
        """Changes of CRDs, for kinds that may not be served."""
        self._on_change = on_change
        """Told when this kind is found to be unserved, unreadable or readable again, of a first error, and when changes
        are heard of no longer, or again."""
        self._anew = anew
        """Whether to list after an outage rather than go on where the watch was."""
        self.current = asyncio.Event()
        """Of one that lists anew: set while nothing known is of before an outage, after which etcd may be another."""
        self.answered = False
        """Whether the API server answered, be it with an error."""
        self.served = True
        """False while the API server does not know this kind."""
        self.denied: Denied | None = None
        """Why this scope may not be read, while that lasts."""
        self.unreadable: KubeError | None = None
        """Why a kind that may be absent cannot be read, rights included, while that lasts."""
        self.lost_at: datetime.datetime | None = None
        """Since when nothing is heard of changes, while that lasts and there are any."""
        self._failing: tuple[type[KubeError], float] | None = None
        """Since when the API server answers with an error, and whether it is one of rights."""

    @property
    def resource(self) -> Resource:
        """What is being watched."""
        return self._store.resource

    async def run(self) -> None:
        """Keep the store current until cancelled."""
        loop = asyncio.get_running_loop()
        since: str | None = None
        failures = 0
        expected_until = 0.0
        while True:
            began = loop.time()
            changes = self._crds.count(self.resource.crd) if self._crds is not None else 0
            retry_after = 0.0
            try:
                if since is None:
                    since = await self._list()
                    self.current.set()
                    self.served = True
                    self._mark_read()
                watch = self._client.watch(
                    self.resource, self._scope.namespace, since, opened=self._mark_heard, **self._scope.params
                )
                async for kind, obj in watch:
                    since = obj["metadata"]["resourceVersion"]
                    failures = 0
                    self._mark_read()
                    if kind != "BOOKMARK":
                        self._store.update(self._scope, kind, obj)
                reason = "short"
            except Expired:
                since, reason = None, "expired"
                self.current.clear()
            except KubeError as error:
                reason = error.reason or type(error).__name__
                log.debug("watch ended", resource=str(self.resource), error=str(error))
                if isinstance(error, NotFound) and self._crds is not None and self.resource.group:
                    # Not polled: the kind comes back with its CRD, and that is watched; one of the core has none. What
                    # was known is forgotten, which deletes nothing: nobody prunes by absence.
                    since = None
                    self._mark_unserved()
                    if loop.time() >= expected_until:
                        await self._crds.wait(self.resource.crd, changes)
                        failures, expected_until = 0, loop.time() + SERVED_SECONDS
                    failures += 1
                    await asyncio.sleep(backoff(failures, 2.0) / 5)
                    continue
                if since is not None and loop.time() - began > 1:
                    self._mark_read()  # the watch stood until now
                self._mark_failed(error, loop.time())
                self._mark_lost()
                if isinstance(error, Denied):
                    since = None
                if self._anew and error.code == 0:
                    since = None
                    self.current.clear()
                retry_after = min(error.retry_after or 0.0, RETRY_AFTER_SECONDS)
            if reason == "short" and loop.time() - began > 1:
                self._mark_read()
                continue
            metrics.WATCH_RESTARTS.labels(resource=str(self.resource), reason=reason).inc()
            failures += 1
            await asyncio.sleep(max(backoff(failures, 5.0), retry_after))

    async def _list(self) -> str:
        """Set the scope to what is there now; returns the version to watch from."""
        # All that the store trims away goes with its page: held together, it would be most of the memory of a start.
        kept, version = await self._client.list(
            self.resource, self._scope.namespace, keep=self._store.kept, **self._scope.params
        )
        self._store.replace(self._scope, kept, are_kept=True)
        return version

    def _mark_lost(self) -> None:
        if self.lost_at is None:
            self.lost_at = datetime.datetime.now(datetime.UTC)
            self._on_change()

    def _mark_heard(self) -> None:
        if self.lost_at is not None:
            self.lost_at = None
            self._on_change()

    def _mark_read(self) -> None:
        if self.unreadable is not None:
            log.info("can be read again", **self._names)
            self._forget_failures()
            self._on_change()
        self._forget_failures()

    def _forget_failures(self) -> None:
        if self.unreadable is not None:
            metrics.UNREADABLE.labels(resource=str(self.resource)).set(0)
        self.answered = True
        self.denied = self.unreadable = self._failing = None

    def _mark_failed(self, error: KubeError, now: float) -> None:
        """Judge a failure by how long it lasts; one without an answer says nothing of the kind."""
        if error.code == 0:
            self._failing = None
            return
        kind = Denied if isinstance(error, Denied) else KubeError
        if self._failing is None or self._failing[0] is not kind:
            self._failing = (kind, now)
        first = not self.answered
        self.answered = True
        lasted = now - self._failing[1]
        if isinstance(error, Denied) and lasted >= DENIED_SECONDS:
            if self.denied is None:
                log.warning("may not be read", **self._names)
            self.denied = error
        if self._crds is not None and lasted >= UNREADABLE_SECONDS:
            if self.unreadable is None:
                log.warning("cannot be read", **self._names, error=str(error))
                metrics.UNREADABLE.labels(resource=str(self.resource)).set(1)
            first |= self.unreadable is None
            self.unreadable = error
        if first:
            self._on_change()

    @property
    def _names(self) -> dict[str, str]:
        return {"resource": str(self.resource), "namespace": self._scope.namespace}

    def _mark_unserved(self) -> None:
        if self.served:
            log.info("kind not served", resource=str(self.resource))
        self._forget_failures()
        self.served, self.lost_at = False, None
        self._store.drop(self._scope)
        self._on_change()
