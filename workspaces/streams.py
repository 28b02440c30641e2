"""Server-sent events: what changes in workspaces, told from the caches, without a request to the API server."""

import asyncio
import contextlib
import hashlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet

import orjson
import structlog
from aiohttp import hdrs, web

from datalabd import metrics
from datalabd.api.meta import Manifest
from datalabd.api.storage import Storage
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from datalabd.text import timestamp
from workspaces import credentials
from workspaces.cache import Cache
from workspaces.claims import Identity
from workspaces.memory import Memory
from workspaces.problems import Problem
from workspaces.reads import changed
from workspaces.settings import Settings

log = structlog.get_logger()

STREAMS_MAX = 8
"""Of one user."""
PERIOD_SECONDS = 0.2
"""Between two events of a stream at the least."""
BEAT_SECONDS = 15.0
"""After which a stream that has nothing to tell says that it is there."""
COMMENT = b":\n\n"
BEAT = b"event: beat\ndata: {}\n\n"
"""What a browser's script hears of, as it does not of comments."""
UNSENT_MAX = 1024 * 1024
"""Bytes."""
WRITE_SECONDS = 30.0
RETRY_MS = (1000, 4000)
PARTS = {
    kinds.SECRETS: "credentials",
    kinds.RESOURCE_QUOTAS: "usage",
    kinds.VOLUME_CLAIMS: "usage",
}
OFFERS_SECONDS = 2.0
"""Between two times that all are told which buckets can be found: each administrator may change that all the time."""
STALE_SECONDS = 3.0
"""How long no changes are heard of before that is told: the API server ends each watch now and then."""
RENDERED_MAX = 16 * 1024 * 1024
"""Bytes that are kept of what several streams show."""


class Stream:
    """One client that listens."""

    def __init__(self, request: web.Request, caller: Identity, workspaces: AbstractSet[str] | None) -> None:
        """It is about these workspaces; None for all."""
        self.caller = caller
        self._workspaces = workspaces
        self.changes: dict[str, set[str]] = {}
        """Parts that changed, by workspace."""
        self.closing = False
        self._request = request
        self._wake = asyncio.Event()
        self._response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
                hdrs.CACHE_CONTROL: "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        self.beat = COMMENT
        self.last_id = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        """Of the event that the client has already."""

    @property
    def response(self) -> web.StreamResponse:
        """What is being sent."""
        return self._response

    @property
    def has_expired(self) -> bool:
        """Whether the token holds no longer."""
        return self.caller.expires_at is not None and time.time() >= self.caller.expires_at

    async def begin(self) -> None:
        """Send the headers, and how long to wait before a reconnect."""
        await self._response.prepare(self._request)
        await self.write(b"retry: %d\n\n" % random.randint(*RETRY_MS))

    def note(self, workspaces: AbstractSet[str], parts: Iterable[str]) -> None:
        """Take note of changes of those that it is about."""
        concerned = workspaces if self._workspaces is None else workspaces & self._workspaces
        for workspace in concerned:
            self.changes.setdefault(workspace, set()).update(parts)
        if concerned:
            self._wake.set()

    @property
    def is_connected(self) -> bool:
        """Whether the client is still there. One that has gone is noticed by the next write, which may be a while."""
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    def close(self) -> None:
        """Have the stream end."""
        self.closing = True
        self._wake.set()

    def wake(self) -> None:
        """Have it look for what there is to tell."""
        self._wake.set()

    async def send(self, event: str, data: bytes, number: str) -> None:
        """Send an event."""
        self.last_id = number
        await self.write(b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), event.encode(), data))

    async def write(self, chunk: bytes) -> None:
        """Send bytes; ConnectionError for a client that does not read them."""
        transport = self._request.transport
        if transport is None or transport.get_write_buffer_size() > UNSENT_MAX:
            raise ConnectionResetError("the client does not read")
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._response.write(chunk)
        except TimeoutError:
            transport.abort()
            raise ConnectionResetError("the client does not read") from None

    async def changed(self) -> bool:
        """Whether there are changes to be told, once there are; False when the stream is to end."""
        while not (self.closing or self.has_expired):
            if self._wake.is_set():
                self._wake.clear()
                return True
            left = BEAT_SECONDS
            if self.caller.expires_at is not None:
                left = min(left, max(0.0, self.caller.expires_at - time.time()) + 0.01)
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                if left == BEAT_SECONDS:
                    await self.write(self.beat)
        return False

    async def end(self) -> None:
        """Tell the client that nothing follows."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._response.write_eof()


class Streams:
    """All streams of this replica."""

    def __init__(self, cache: Cache, settings: Settings) -> None:
        self._cache = cache
        self._settings = settings
        self._open: set[Stream] = set()
        self._closing = False
        self._finders: set[str] = set()
        """Who is to be told next what can be found."""
        self._pause: asyncio.TimerHandle | None = None
        self._rendered = _nothing_rendered()
        self.stale_since = ""
        """Since when the caches hear of no changes (RFC 3339); empty while they do."""
        self._doubt: asyncio.TimerHandle | None = None
        cache.on_change(self._noted)
        cache.informers.subscribe(self._heard_or_lost)

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Tell every client to connect again, elsewhere."""
        self._closing = True
        for stream in list(self._open):
            stream.close()

    @contextlib.asynccontextmanager
    async def open(self, request: web.Request, caller: Identity, workspace: str = "") -> AsyncIterator[Stream]:
        """A stream to a client, to be written to while the context lasts. Raises `Problem` for one too many.

        It is about one workspace, or without a name about all on which the caller may have a permission.
        """
        if self._closing:
            raise Problem(503, "Stopping", headers={"Retry-After": "1"})
        self._require_room(caller.counts_as)
        stream = Stream(request, caller, {workspace} if workspace else _visible(caller))
        self._open.add(stream)
        metrics.HTTP_STREAMS.inc()
        try:
            await stream.begin()
            yield stream
        except ConnectionError:
            pass  # nobody listens any more
        finally:
            metrics.HTTP_STREAMS.dec()
            self._open.discard(stream)
            await stream.end()

    def _require_room(self, user: str) -> None:
        """Raise `Problem` for one stream too many; those of pages that the user has left end, and count no longer."""
        connected = 0
        for stream in self._open:
            if stream.caller.counts_as != user:
                continue
            if stream.is_connected:
                connected += 1
            else:
                stream.close()
        if connected >= STREAMS_MAX:
            raise Problem(429, "Too many streams", headers={"Retry-After": "5"})

    def rendered(self, what: Hashable, render: Callable[[], bytes]) -> bytes:
        """What `render` returns, once for all streams that show the same, until anything changes."""
        if (found := self._rendered.get(what, 0.0)) is None:
            found = render()
            self._rendered.put(what, found, len(found), math.inf)
        return found

    def _noted(
        self, kind: Resource, before: Manifest | None, after: Manifest | None, storages: Sequence[Storage]
    ) -> None:
        self._rendered = _nothing_rendered()
        if not self._open:
            return
        parts = changed(before, after) if kind in (kinds.STORAGES, kinds.DATALABS) else frozenset({PARTS[kind]})
        if not parts:
            return
        concerned = self._concerned(kind, (after or before or {})["metadata"], storages)
        self._tell(concerned, parts)
        if found := self._cache.sharing.finders(storages) - concerned:
            self._finders |= found
            if self._pause is None:
                self._tell_finders()

    def _heard_or_lost(self) -> None:
        """Know soon whether what the caches have is still so."""
        if self._doubt is not None:
            self._doubt.cancel()
        seconds = STALE_SECONDS if self._cache.lost_at is not None else 0
        self._doubt = asyncio.get_running_loop().call_later(seconds, self._judge)

    def _judge(self) -> None:
        lost = self._cache.lost_at
        since = "" if lost is None else timestamp(lost)
        if since != self.stale_since:
            self.stale_since = since
            for stream in self._open:
                stream.wake()

    def _tell(self, concerned: AbstractSet[str], parts: Iterable[str]) -> None:
        for stream in self._open:
            stream.note(concerned, parts)

    def _tell_finders(self) -> None:
        """Tell whom it concerns what can be found, and no more of it for a while."""
        self._pause = None
        if self._finders:
            self._tell(self._finders, ("buckets",))
            self._finders = set()
            self._pause = asyncio.get_running_loop().call_later(OFFERS_SECONDS, self._tell_finders)

    def _concerned(self, kind: Resource, metadata: Manifest, storages: Sequence[Storage]) -> AbstractSet[str]:
        """Workspaces that an object is about."""
        if kind == kinds.DATALABS:
            return {metadata["name"]}
        if kind == kinds.STORAGES:
            return self._cache.sharing.partners(storages)
        if kind == kinds.SECRETS:
            return credentials.holders(metadata["name"], self._cache.sharing, self._settings)
        return {str(metadata.get("namespace", ""))}


def _nothing_rendered() -> Memory[Hashable, bytes]:
    return Memory(RENDERED_MAX)


def _visible(caller: Identity) -> AbstractSet[str] | None:
    """Workspaces on which somebody may have a permission; None for all."""
    return None if caller.is_platform_admin else caller.roles.keys()


async def follow(stream: Stream, workspace: str, render: Callable[[], bytes]) -> None:
    """Send a workspace as it is, and again whenever it is another, until `render` raises `Problem`."""
    while True:
        stream.changes.clear()
        try:
            body = render()
        except Problem as problem:
            await stream.send("gone", orjson.dumps({"workspace": workspace, "status": problem.status}), "gone")
            return
        if (number := digest(body)) != stream.last_id:
            await stream.send("snapshot", body, number)
        del body  # of a megabyte, perhaps, until something changes
        await asyncio.sleep(PERIOD_SECONDS)
        if not await stream.changed():
            return


async def follow_all(
    stream: Stream,
    render: Callable[[], bytes],
    versions: Callable[[], dict[str, str]],
    stale_since: Callable[[], str] = lambda: "",
) -> None:
    """Send the list of workspaces, and which of them change; `versions` are those that the viewer may see.

    Since when all of it may be out of date is told, too, as long as it is.
    """
    stream.beat = BEAT
    sent = ""
    known = versions()
    if (at := number(known)) != stream.last_id:
        await stream.send("snapshot", render(), at)
    while True:
        if (since := stale_since()) != sent:
            sent = since
            await stream.write(b"event: stale\ndata: %s\n\n" % orjson.dumps({"since": since or None}))
        if not await stream.changed():
            return
        changes, stream.changes = stream.changes, {}
        now = versions()
        at = number(now)
        for workspace in sorted(changes.keys() & (now.keys() | known.keys())):
            change = {"workspace": workspace, "parts": sorted(changes[workspace]), "version": now.get(workspace)}
            await stream.send("changed", orjson.dumps(change), at)
        known = now
        await asyncio.sleep(PERIOD_SECONDS)


def digest(body: bytes) -> str:
    """What an event is known by."""
    return hashlib.sha256(body).hexdigest()[:24]


def number(versions: dict[str, str]) -> str:
    """What the state of these workspaces is known by, as `id` of an event of the list is."""
    return digest(orjson.dumps(versions, option=orjson.OPT_SORT_KEYS))
