"""Requests of admissions to the API server: anybody may cause some, and the reconciler needs the connections too."""

import contextlib
from collections.abc import AsyncIterator

from datalabd.api.meta import Manifest
from datalabd.errors import NotFound, Unavailable
from datalabd.kube.client import Client, path
from datalabd.kube.resources import Resource
from datalabd.serving import NoRoom, Room


class Lookups:
    """The requests of one admission. Each waits until there is room, and raises `KubeError` where none is in time."""

    def __init__(self, client: Client, room: Room, peer: str) -> None:
        """`room` is for the requests of all admissions, and `peer` who sent this one."""
        self._client = client
        self._room = room
        self._peer = peer

    async def get(self, resource: Resource, name: str) -> Manifest:
        """A live object of a kind without namespaces; `NotFound` where there is none."""
        async with self._turn():
            return await self._client.get(resource, "", name)

    async def find(self, resource: Resource, name: str) -> Manifest | None:
        """The same by a list, whatever the name looks like; None where there is none, or no such kind."""
        async with self._turn():
            try:
                found, _ = await self._client.list(resource, fieldSelector=f"metadata.name={name}")
            except NotFound:
                return None
        return next(iter(found), None)

    async def review(self, resource: Resource, body: Manifest) -> Manifest:
        """The answer to a review, which is asked by creating it."""
        async with self._turn():
            return await self._client.request("POST", path(resource), body=body)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with self._room.of(self._peer):
                yield
        except NoRoom as error:
            raise Unavailable(0, "Timeout", "too many requests of admissions wait for the API server") from error
