"""List and watch that never ends: keeps one scope of one store equal to the API server."""

import asyncio
import random
from collections.abc import Callable

import structlog

from datalabd import metrics
from datalabd.errors import Denied, Expired, KubeError, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, Store

log = structlog.get_logger()

DENIALS = 3
"""How often in a row a scope is refused before that is said: rights given with a namespace take a moment to count."""
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
        on_unserved: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._store = store
        self._scope = scope
        self._crds = crds
        """Changes of CRDs, for kinds that may not be served."""
        self._on_unserved = on_unserved
        self.served = True
        """False while the API server does not know this kind."""
        self.denied: Denied | None = None
        """Why this scope may not be read, while so."""

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
            try:
                if since is None:
                    items, since = await self._client.list(self.resource, self._scope.namespace, **self._scope.params)
                    self._store.replace(self._scope, items)
                    self.served, self.denied = True, None
                watch = self._client.watch(self.resource, self._scope.namespace, since, **self._scope.params)
                async for kind, obj in watch:
                    since = obj["metadata"]["resourceVersion"]
                    failures, self.denied = 0, None
                    if kind != "BOOKMARK":
                        self._store.update(self._scope, kind, obj)
                reason = "short"
            except Expired:
                since, reason = None, "expired"
            except KubeError as error:
                reason = error.reason or type(error).__name__
                log.debug("watch ended", resource=str(self.resource), error=str(error))
                if isinstance(error, NotFound) and self._crds is not None:
                    # Not polled: the kind comes back with its CRD, and that is watched. What was known is forgotten,
                    # which deletes nothing: nobody prunes by absence.
                    since = None
                    self._mark_unserved()
                    if loop.time() >= expected_until:
                        await self._crds.wait(self.resource.crd, changes)
                        failures, expected_until = 0, loop.time() + SERVED_SECONDS
                    failures += 1
                    await asyncio.sleep(backoff(failures, 2.0) / 5)
                    continue
                if isinstance(error, Denied):
                    since = None
                    if failures + 1 == DENIALS:
                        log.warning("may not be read", resource=str(self.resource), namespace=self._scope.namespace)
                    if failures + 1 >= DENIALS:
                        self.denied = error
            if reason == "short" and loop.time() - began > 1:
                continue
            metrics.WATCH_RESTARTS.labels(resource=str(self.resource), reason=reason).inc()
            failures += 1
            await asyncio.sleep(backoff(failures, 5.0))

    def _mark_unserved(self) -> None:
        if self.served:
            log.info("kind not served", resource=str(self.resource))
        self.served = False
        self._store.drop(self._scope)
        self._on_unserved()
