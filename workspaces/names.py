"""Names of new buckets, which two replicas must not give to two workspaces at the same moment.

Whoever is about to have a bucket says so in an annotation of his Storage, then looks at all Storages as they were at
that moment or later, and has it only if no other Storage has the name or is about to: of two, at least the later one
sees the other. What is written afterwards is of the very version with the annotation, so that who was given up
meanwhile writes nothing.

A watch tells of changes in their order. Once it tells of the annotation, the cache holds all that was there before;
where it does not soon, all Storages are read from the API server.
"""

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Set

import structlog

from datalabd.api.meta import Manifest
from datalabd.api.storage import BUCKET_CLAIM
from datalabd.errors import Conflict, KubeError
from datalabd.kube import resources as kinds
from datalabd.kube.client import JSON_PATCH, Client
from datalabd.kube.resources import Resource
from workspaces import buckets, problems
from workspaces.cache import Cache

log = structlog.get_logger()

HEARD_SECONDS = 0.5
"""How long the watch may take to tell of a claim."""

_PATH = f"/metadata/annotations/{BUCKET_CLAIM.replace('/', '~1')}"


class BucketNames:
    """Claims names in one namespace. Raises `Problem` for what is taken; after a `Conflict` it may be tried again."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._namespace = cache.namespace

    @contextlib.asynccontextmanager
    async def claimed(self, storage: Manifest, names: Set[str]) -> AsyncIterator[Manifest]:
        """The Storage, which says that it is about to have these buckets, and may within the context.

        Whatever fails there takes that back.
        """
        name, claim = storage["metadata"]["name"], buckets.claim(names, _now())
        with _heard(self._cache, name) as heard:
            live = await self._annotate(storage, claim)
            try:
                if await heard.until(live["metadata"]["resourceVersion"], HEARD_SECONDS):
                    await self._require_free(names, name, self._cache.storages())
                else:
                    await self.require_free(names, name)
                yield live
            except BaseException:
                await self._let_go(name, claim)
                raise

    async def require_free(self, names: Set[str], workspace: str) -> None:
        """Raise `Problem` for a bucket of another Storage, `Conflict` for one that another is about to have."""
        storages, _ = await self._client.list(kinds.STORAGES, self._namespace)
        await self._require_free(names, workspace, storages)

    async def _require_free(self, names: Set[str], workspace: str, storages: Iterable[Manifest]) -> None:
        others = [storage for storage in storages if storage["metadata"]["name"] != workspace]
        now = _now()
        standings = [(storage, buckets.standing(storage, names, now)) for storage in others]
        for _, standing in standings:
            if standing.has:
                raise problems.problem(409, "bucket_exists", bucket=min(standing.has))
        for storage, standing in standings:
            if standing.is_about_to:
                raise Conflict(409, "Claimed", f"Storage {storage['metadata']['name']} is about to have it")
            if standing.was_about_to:
                await self._annotate(storage, None)

    async def _annotate(self, storage: Manifest, claim: str | None) -> Manifest:
        """The Storage with another claim; `Conflict` unless it is as it was read. The cache is left to hear of it."""
        metadata = storage["metadata"]
        said = {"resourceVersion": metadata["resourceVersion"], "annotations": {BUCKET_CLAIM: claim}}
        return await self._client.patch(kinds.STORAGES, self._namespace, metadata["name"], {"metadata": said})

    async def _let_go(self, name: str, claim: str) -> None:
        patch = [{"op": "test", "path": _PATH, "value": claim}, {"op": "remove", "path": _PATH}]
        try:
            await self._client.patch(kinds.STORAGES, self._namespace, name, patch, JSON_PATCH)
        except KubeError as error:  # it went with what was written, or ends by itself
            log.info("claim of a bucket's name stays for a while", storage=name, error=str(error))


class _Heard:
    """Versions of an object that the cache was told of."""

    def __init__(self) -> None:
        self._versions: set[str] = set()
        self._more = asyncio.Event()

    def add(self, version: str) -> None:
        """It was told of this one."""
        self._versions.add(version)
        self._more.set()

    async def until(self, version: str, seconds: float) -> bool:
        """Whether it is told of this one within that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while version not in self._versions:
                    self._more.clear()
                    await self._more.wait()
        return version in self._versions


@contextlib.contextmanager
def _heard(cache: Cache, storage: str) -> Iterator[_Heard]:
    """What the cache is told of a Storage from now on."""
    heard = _Heard()

    def note(kind: Resource, _: Manifest | None, after: Manifest | None, __: object) -> None:
        if kind == kinds.STORAGES and after is not None and after["metadata"]["name"] == storage:
            heard.add(after["metadata"]["resourceVersion"])

    forget = cache.on_change(note)
    try:
        yield heard
    finally:
        forget()


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
