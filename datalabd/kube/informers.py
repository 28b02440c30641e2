"""All reflectors of the process and the stores they feed."""

import asyncio
import contextlib
import contextvars
import datetime
from collections.abc import Callable

from datalabd.errors import Denied, KubeError
from datalabd.kube.client import Client
from datalabd.kube.reflector import CrdChanges, Reflector
from datalabd.kube.resources import CRDS, Resource
from datalabd.kube.store import Scope, Store

EVERYWHERE = Scope()


class Informers:
    """Starts, stops and waits for reflectors. `run` ends only by cancellation or with a reflector's fatal error."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stores: dict[Resource, Store] = {}
        self._reflectors: dict[Resource, dict[Scope, tuple[Reflector, asyncio.Task[None]]]] = {}
        self._failed: asyncio.Queue[BaseException] = asyncio.Queue()
        self._crds = CrdChanges()
        self._waiting: list[asyncio.Event] = []
        self._listeners: list[Callable[[], None]] = []
        self.store(CRDS).subscribe(lambda crd: self._crds.changed(crd["metadata"]["name"]))

    def store(self, resource: Resource) -> Store:
        """The store of a resource; empty until something is watched."""
        if resource not in self._stores:
            self._stores[resource] = Store(resource)
            self._stores[resource].subscribe_synced(self._scope_synced)
        return self._stores[resource]

    def watch(
        self, resource: Resource, scope: Scope = EVERYWHERE, *, optional: bool = False, anew: bool = False
    ) -> None:
        """Begin to keep a scope current; repeating it does nothing.

        An `optional` kind may be unknown to the API server now or later: it is taken up when its CRD appears. One that
        is listed `anew` after every outage of the API server can be waited for by `until_current`.
        """
        scopes = self._reflectors.setdefault(resource, {})
        if scope in scopes:
            return
        reflector = Reflector(
            self._client, self.store(resource), scope, self._crds if optional else None, self._changed, anew=anew
        )
        # In a context of its own: that of whoever began to watch names the lab of a pass, which ends before.
        task = asyncio.create_task(
            reflector.run(), name=f"reflector {resource} {scope.namespace}", context=contextvars.Context()
        )
        task.add_done_callback(self._ended)
        scopes[scope] = (reflector, task)

    def unwatch(self, resource: Resource, scope: Scope) -> None:
        """Stop keeping a scope current and forget its objects."""
        entry = self._reflectors.get(resource, {}).pop(scope, None)
        if entry is not None:
            entry[1].cancel()
            self.store(resource).drop(scope)
            self._progress()

    def scopes(self, resource: Resource) -> list[Scope]:
        """The scopes of a resource being watched."""
        return list(self._reflectors.get(resource, ()))

    def synced(self, resource: Resource, scope: Scope = EVERYWHERE) -> bool:
        """Whether the store can be believed about this scope."""
        return self.store(resource).synced(scope)

    def served(self, resource: Resource) -> bool:
        """Whether the API server knows this kind, as far as is known."""
        return all(reflector.served for reflector in self._of(resource))

    def denied(self, resource: Resource, scope: Scope) -> Denied | None:
        """Why a scope may not be read; None while it may, as far as is known."""
        entry = self._reflectors.get(resource, {}).get(scope)
        return entry[0].denied if entry is not None else None

    def unreadable(self, resource: Resource) -> KubeError | None:
        """Why an optional kind cannot be read, in the scope where that is so; None while it can, as far as is known."""
        return next((one.unreadable for one in self._of(resource) if one.unreadable is not None), None)

    def lost_at(self, *resources: Resource) -> datetime.datetime | None:
        """Since when the API server tells no changes of these, which it serves; None while it does."""
        found = [one.lost_at for resource in resources for one in self._of(resource)]
        return min((at for at in found if at is not None), default=None)

    def answered(self, resource: Resource) -> bool:
        """Whether the API server has answered for every scope of a resource, be it with an error."""
        found = self._of(resource)
        return bool(found) and all(reflector.answered for reflector in found)

    def _of(self, resource: Resource) -> list[Reflector]:
        return [reflector for reflector, _ in self._reflectors.get(resource, {}).values()]

    def pending(self) -> list[Resource]:
        """What has not been listed yet. Kinds not served or not readable, and single namespaces, do not count."""
        return [
            resource
            for resource, scopes in self._reflectors.items()
            for scope, (reflector, _) in scopes.items()
            if reflector.served
            and reflector.unreadable is None
            and not scope.namespace
            and not self.store(resource).synced(scope)
        ]

    async def until_synced(self, *required: Resource) -> None:
        """Return when everything that can be read has been listed, and what is `required` is among it."""
        while self.pending() or not all(map(self.synced, required)):
            synced = asyncio.Event()
            self._waiting.append(synced)
            await synced.wait()

    async def until_current(self, resource: Resource) -> None:
        """Return when nothing known of a resource is of before an outage of the API server."""
        for reflector in self._of(resource):
            await reflector.current.wait()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a kind is found to be unserved, unreadable or lost, or to be read or heard again."""
        self._listeners.append(listener)

    def _changed(self) -> None:
        self._progress()
        for listener in self._listeners:
            listener()

    async def listed(self, resource: Resource, scope: Scope, seconds: float) -> None:
        """Return when a scope that is being listed can be believed, or may not be read, or time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while scope in self._reflectors.get(resource, {}) and not self.synced(resource, scope):
                    if self.denied(resource, scope) is not None:
                        return
                    progress = asyncio.Event()
                    self._waiting.append(progress)
                    await progress.wait()

    def _scope_synced(self, _: Scope) -> None:
        self._progress()

    def _progress(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    async def run(self) -> None:
        """Wait for a reflector to fail for a reason that is not the API server's, and raise that: a restart is due."""
        raise await self._failed.get()

    async def stop(self) -> None:
        """End all reflectors."""
        tasks = [task for scopes in self._reflectors.values() for _, task in scopes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reflectors.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed.put_nowait(error)
