"""Names of new buckets, which two replicas must not give to two workspaces at the same moment.

Whoever is about to have a bucket says so in an annotation of his Storage, then reads all Storages from the API server,
and has it only if no other Storage has the name or is about to: of two, at least the later one sees the other. What is
written afterwards is of the very version with the annotation, so that who was given up meanwhile writes nothing.
"""

import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Set

import structlog

from datalabd.api.meta import Manifest
from datalabd.api.storage import BUCKET_CLAIM
from datalabd.errors import Conflict, KubeError
from datalabd.kube import resources as kinds
from datalabd.kube.client import JSON_PATCH, Client
from workspaces import buckets, problems

log = structlog.get_logger()

_PATH = f"/metadata/annotations/{BUCKET_CLAIM.replace('/', '~1')}"


class BucketNames:
    """Claims names in one namespace. Raises `Problem` for what is taken; after a `Conflict` it may be tried again."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    @contextlib.asynccontextmanager
    async def claimed(self, storage: Manifest, names: Set[str]) -> AsyncIterator[Manifest]:
        """The Storage, which says that it is about to have these buckets, and may within the context.

        Whatever fails there takes that back.
        """
        name, claim = storage["metadata"]["name"], buckets.claim(names, _now())
        live = await self._annotate(storage, claim)
        try:
            await self.require_free(names, name)
            yield live
        except BaseException:
            await self._let_go(name, claim)
            raise

    async def require_free(self, names: Set[str], workspace: str) -> None:
        """Raise `Problem` for a bucket of another Storage, `Conflict` for one that another is about to have."""
        found, _ = await self._client.list(kinds.STORAGES, self._namespace)
        others = [storage for storage in found if storage["metadata"]["name"] != workspace]
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
        """The Storage with another claim; `Conflict` unless it is as it was read."""
        metadata = storage["metadata"]
        said = {"resourceVersion": metadata["resourceVersion"], "annotations": {BUCKET_CLAIM: claim}}
        return await self._client.patch(kinds.STORAGES, self._namespace, metadata["name"], {"metadata": said})

    async def _let_go(self, name: str, claim: str) -> None:
        patch = [{"op": "test", "path": _PATH, "value": claim}, {"op": "remove", "path": _PATH}]
        try:
            await self._client.patch(kinds.STORAGES, self._namespace, name, patch, JSON_PATCH)
        except KubeError as error:  # it went with what was written, or ends by itself
            log.info("claim of a bucket's name stays for a while", storage=name, error=str(error))


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
