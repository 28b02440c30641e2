"""What every stand-in is made of: caches of what it watches, work per object, and an end that hides no failure."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from types import TracebackType
from typing import Any, Self

import structlog

from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, Invalid, KubeError, NotFound
from datalabd.kube.client import MERGE_PATCH, Client, path
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, Store

log = structlog.get_logger()

ERROR_PAUSE_SECONDS = 1.0


class Operator:
    """An async context: inside it, watches run and listeners are called. Entered once everything has been listed.

    Leaving it raises an ExceptionGroup of whatever went wrong in the background that was not the API server's doing.
    """

    def __init__(self, client: Client, manager: str) -> None:
        self.client = client
        self._manager = manager
        self._informers = Informers(client)
        self._watched: list[Resource] = []
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._failed = asyncio.Event()
        self._due: set[Hashable] = set()
        self._locks: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)

    def watch(self, resource: Resource, listener: Callable[[Manifest], None]) -> Store:
        """The cache of a kind; `listener` gets every object that appears, changes or vanishes. Before entering only."""
        self._watched.append(resource)
        store = self._informers.store(resource)
        store.subscribe(listener)
        return store

    async def __aenter__(self) -> Self:
        listed = []
        for resource in self._watched:
            event = asyncio.Event()
            self._informers.store(resource).subscribe_synced(_setter(event))
            self._informers.watch(resource, EVERYWHERE)
            listed.append(event)
        self.spawn(self._informers.run())
        for event in listed:
            await event.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._informers.stop()
        if self._failures:
            raise BaseExceptionGroup(f"{self._manager} failed", self._failures)

    async def run(self) -> None:
        """Return when something failed; leaving the context then says what."""
        await self._failed.wait()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until done or until the context is left."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def schedule(self, key: Hashable, work: Callable[[], Awaitable[None]], delay: float = 0.0) -> None:
        """Work on a key after `delay` seconds: once for all calls that come meanwhile, and never twice at a time.

        What the API server refuses because the object changed or went is dropped, as its event will come; other
        refusals are tried again after a second.
        """
        if key not in self._due:
            self._due.add(key)
            self.spawn(self._perform(key, work, delay))

    async def _perform(self, key: Hashable, work: Callable[[], Awaitable[None]], delay: float) -> None:
        await asyncio.sleep(delay)
        async with self._locks[key]:
            self._due.discard(key)
            try:
                await work()
            except (NotFound, Conflict) as error:
                log.debug("changed meanwhile", key=key, error=str(error))
            except KubeError as error:
                log.warning("tried again later", key=key, error=str(error))
                self.schedule(key, work, ERROR_PAUSE_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)
            self._failed.set()

    async def resource_for(self, manifest: Manifest) -> Resource:
        """The resource of any object, by discovery. Raises `Invalid` or `NotFound` for what the API server lacks."""
        version, kind = manifest.get("apiVersion"), manifest.get("kind")
        if not isinstance(version, str) or not isinstance(kind, str):
            raise Invalid(422, "Invalid", "an object needs apiVersion and kind")
        if (version, kind) not in self._kinds:
            found = await self.client.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")
            for item in found["resources"]:
                if "/" not in item["name"]:
                    resource = Resource(version, item["name"], item["kind"], namespaced=item["namespaced"])
                    self._kinds[version, item["kind"]] = resource
        if (version, kind) not in self._kinds:
            raise NotFound(404, "NotFound", f'no matches for kind "{kind}" in version "{version}"')
        return self._kinds[version, kind]

    async def create(self, manifest: Manifest, namespace: str = "", *, client: Client | None = None) -> Manifest:
        """The created object; a namespaced one that names no namespace goes to the given one.

        `client` is that of another account.
        """
        resource = await self.resource_for(manifest)
        metadata = manifest.get("metadata") or {}
        place = (metadata.get("namespace") or namespace) if resource.namespaced else ""
        if place:
            manifest = manifest | {"metadata": metadata | {"namespace": place}}
        return await (client or self.client).request(
            "POST", path(resource, place), params={"fieldManager": self._manager}, body=manifest
        )

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Manifest,
        subresource: str = "",
        *,
        client: Client | None = None,
    ) -> Manifest:
        """The object after a merge patch; `client` is that of another account."""
        return await (client or self.client).request(
            "PATCH",
            path(resource, namespace, name, subresource),
            params={"fieldManager": self._manager},
            body=body,
            content_type=MERGE_PATCH,
        )


def adopt(child: Manifest, owner: Manifest) -> Manifest:
    """The child as kopf's `adopt` leaves it: owned by `owner`, with those of its labels that the child lacks."""
    metadata = child.get("metadata") or {}
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = (owner["metadata"].get("labels") or {}) | (metadata.get("labels") or {})
    references = [*(metadata.get("ownerReferences") or []), reference]
    return child | {"metadata": metadata | {"labels": labels, "ownerReferences": references}}


def _setter(event: asyncio.Event) -> Callable[[Scope], None]:
    return lambda _: event.set()
