"""Serves an application as aiohttp does, with bounds on what a client may send and hold.

aiohttp bounds each of 128 headers, and waits for a request as long as it takes: so anybody could fill the memory. What
it says of a header that is too long, or of bytes that are no HTTP, holds their beginning, in the answer and in a log
with its stack. Both may be a token, so nothing of them is repeated here.
"""

import asyncio
import contextlib
import socket
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

log = structlog.get_logger()

SMALL = 64 * 1024
"""Bytes of a body that is read at once: more than most have."""
WAITING_MAX = 64 * 1024
"""Bytes of an answer that may wait for their client without anybody's looking."""
SENT_MAX = 256 * 1024
"""Bytes of a connection in the system's buffers, which count for the memory of a pod, and would grow to megabytes."""
IDLE_SECONDS = 75.0
"""How long a connection is kept for another request; aiohttp keeps it for an hour."""
_END = b"\r\n\r\n"
_TOO_LARGE = {"detail": "Request header too large"}
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(orjson.dumps(_TOO_LARGE)), orjson.dumps(_TOO_LARGE))
)


@dataclass(frozen=True)
class Bounds:
    """What clients may send, and how many there may be."""

    field_max: int = 8190
    """Bytes of a header's name and value."""
    head_max: int = 32 * 1024
    """Bytes of the request line and all headers."""
    head_seconds: float = 10.0
    """From the connection, or the first byte of a later request, to the end of its headers."""
    body_seconds: float = 30.0
    """From there to the end of the body."""
    connections_max: int = 1024
    """Of the process. One more takes the place of one whose request is not complete, or that is idle.

    Each address has a quarter of them for sure: it takes more only while the others leave some.
    """
    patience_seconds: float = 1.0
    """A request that takes longer to arrive makes room for others, whoever sends it."""
    read_seconds: float = 60.0
    """In these a client has to read `read_min` bytes of an answer that waits for it, or all that is left."""
    read_min: int = 64 * 1024
    unread_max: int = 32 * 1024 * 1024
    """Bytes of answers of the process that clients have not read: beyond, who reads nothing for a while is cut off."""
    still_seconds: float = 2.0
    """That while. Who reads, however slowly, goes on; our own work, too, may keep us from sending."""
    unread_most: int = 96 * 1024 * 1024
    """Bytes beyond which anybody is cut off, as memory ends."""

    @property
    def share(self) -> int:
        """Connections that nobody else may take from an address."""
        return self.connections_max // 4


class NoRoom(Exception):
    """There was no room in time, or too many wait for it."""


class Room:
    """So much of something, given to whoever asks: to peers in turn, and to those of one peer as they came.

    Nobody is overtaken by a smaller one for which there were room: a larger one would wait for ever.
    """

    def __init__(self, size: int, *, waiting_max: int = sys.maxsize, seconds: float) -> None:
        """At most `waiting_max` of one peer wait, each for `seconds`."""
        self._free = size
        self._waiting_max = waiting_max
        self._seconds = seconds
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        """Sizes, by peer; the first peer is the next."""

    @contextlib.asynccontextmanager
    async def of(self, peer: str, size: int = 1) -> AsyncIterator[None]:
        """Have so much of it within the context; raises `NoRoom`."""
        await self._take(peer, size)
        try:
            yield
        finally:
            self._give_back(size)

    async def _take(self, peer: str, size: int) -> None:
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        mine = self._waiting.setdefault(peer, deque())
        if len(mine) >= self._waiting_max:
            raise NoRoom
        given = asyncio.get_running_loop().create_future()
        mine.append((size, given))
        try:
            async with asyncio.timeout(self._seconds):
                await given
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ValueError):  # where it was skipped, or given, just now
                mine.remove((size, given))
            if not mine and self._waiting.get(peer) is mine:
                del self._waiting[peer]
            self._give_back(0 if given.cancelled() else size)  # whoever is next may have waited for this one
            if isinstance(error, TimeoutError):
                raise NoRoom from None
            raise

    def _give_back(self, size: int) -> None:
        self._free += size
        while self._waiting:
            peer = next(iter(self._waiting))
            mine = self._waiting[peer]
            wanted, given = mine[0]
            if not given.done():  # else whoever waited for it has gone
                if wanted > self._free:
                    return
                self._free -= wanted
                given.set_result(None)
            mine.popleft()
            del self._waiting[peer]
            if mine:
                self._waiting[peer] = mine


class Bodies:
    """Reads the bodies of requests: small ones at once, larger ones in turn, as many at a time as there is room for.

    JSON takes up to 30 times its length once it is decoded, so a body has its room until its request is answered.
    """

    def __init__(
        self,
        body_max: int,
        *,
        room: int,
        small_room: int = 8 * 1024 * 1024,
        waiting_max: int = 64,
        seconds: float = 5.0,
    ) -> None:
        """`body_max` bytes of one body, `room` for all that are larger than `SMALL`, `small_room` for the others.

        At most `waiting_max` larger ones of a peer wait. One waits for `seconds`, and has as long to arrive once there
        is room: whoever sends slowly keeps others out. Small ones wait for room when they are here, so theirs is taken
        by nobody who sends slowly.
        """
        assert room >= body_max
        assert small_room >= SMALL
        self._body_max = body_max
        self._room = Room(room, waiting_max=waiting_max, seconds=seconds)
        self._small_room = Room(small_room, seconds=seconds)
        self._seconds = seconds

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body of a request that is answered within the context.

        Raises `web.HTTPUnsupportedMediaType` for one that is packed, `web.HTTPRequestEntityTooLarge`,
        `web.HTTPServiceUnavailable` where there is no room, and `web.HTTPRequestTimeout`.
        """
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="send the body as it is, without Content-Encoding\n")
        size = request.content_length or 0
        if hdrs.TRANSFER_ENCODING in request.headers:
            size = self._body_max  # it may turn out to be as large
        if size > self._body_max:
            raise web.HTTPRequestEntityTooLarge(self._body_max, size)
        async with contextlib.AsyncExitStack() as held:
            body = await self._arrived(request) if size <= SMALL else None
            room = self._room if body is None else self._small_room
            try:
                await held.enter_async_context(room.of(request.remote or "", size))
            except NoRoom:
                text = "too many requests at once; try again\n"
                raise web.HTTPServiceUnavailable(text=text, headers={hdrs.RETRY_AFTER: "1"}) from None
            if body is None:
                try:
                    async with asyncio.timeout(self._seconds):
                        body = await self._arrived(request)
                except TimeoutError:
                    raise web.HTTPRequestTimeout from None
            yield body

    async def _arrived(self, request: web.Request) -> bytes:
        """All of it. What `request.read` returns stays in memory until the connection ends or has another request."""
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._body_max:
                raise web.HTTPRequestEntityTooLarge(self._body_max, len(body))
        return bytes(body)


class _Connection(web.RequestHandler):
    """One connection of a client."""

    def __init__(self, server: "_Server", bounds: Bounds, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._bounds = bounds
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request that began."""
        self._head = 0
        """Bytes of a head that has no end yet."""
        self._last = b""
        """The last of them, as its end may come in parts."""
        self._deadline: asyncio.TimerHandle | None = None
        self.waits_since: float | None = None
        """When a request began that should be here soon, by the loop's clock; None while none is waited for."""
        self.peer = ""
        """The client's address."""
        self.stands_since: float | None = None
        """When an answer had to wait for its client, by the loop's clock; None while none does."""
        self.still_since = 0.0
        """Since when the client has read nothing of it."""
        self._left = 0
        """Bytes of it that were left when somebody last looked."""
        self._due = 0.0
        """When `read_min` bytes of it have to be read."""
        self._left_then = 0
        """Bytes that were left when that time began."""
        self._looking: asyncio.TimerHandle | None = None

    @property
    def unread(self) -> int:
        """Bytes of answers that the client has not read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._waiter is not None and not self._force_close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = (transport.get_extra_info("peername") or ("",))[0]
        super().connection_made(transport)
        transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(WAITING_MAX)
        if (connected := transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_MAX)
        self._expect(self._bounds.head_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._expect(None)
        self._is_read()
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        resp, was_reset = await super().finish_response(request, resp, start_time)
        if isinstance(resp, web.Response):
            resp.body = None  # aiohttp keeps an answer until the connection has another request
        return resp, was_reset

    def pause_writing(self) -> None:
        super().pause_writing()
        now = self._loop.time()
        self.stands_since = self.still_since = now
        self._left = self._left_then = self.unread
        self._due = now + self._bounds.read_seconds
        self._look_later()
        self._server.cut_off()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        self.stands_since = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look_later(self) -> None:
        self._looking = self._loop.call_later(self._bounds.still_seconds, self._look)

    def _look(self) -> None:
        """See whether the client reads."""
        now, left = self._loop.time(), self.unread
        if left < self._left:
            self.still_since = now
        self._left = left
        if now >= self._due:
            if self._left_then - left < self._bounds.read_min:
                log.info("answer is not read", peer=self.peer)
                self.drop()
                return
            self._left_then, self._due = left, now + self._bounds.read_seconds
        self._look_later()
        self._server.cut_off()

    def data_received(self, data: bytes) -> None:
        of_head = self._body.is_eof()
        if of_head and self._is_too_much(data):
            self._refuse()
            return
        begun = self._request_count
        super().data_received(data)
        if self._request_count != begun:
            self._body = self._messages[-1][1] if self._messages else EMPTY_PAYLOAD
            self._head, self._last = 0, b""
            if not self._body.is_eof():
                self._expect(self._bounds.body_seconds)
            elif self._body is EMPTY_PAYLOAD and data and not data.endswith(_END):  # another one has begun
                self._expect(self._bounds.head_seconds)
            else:
                self._expect(None)
        elif of_head and data:
            self._head += len(data)
            self._last = (self._last + data)[1 - len(_END) :]
            if self._deadline is None:
                self._expect(self._bounds.head_seconds)
        elif self._body.is_eof() and not self._head:
            self._expect(None)

    def _is_too_much(self, data: bytes) -> bool:
        room = self._bounds.head_max - self._head
        return len(data) > room and _END not in self._last + data[: max(room, 0)]

    def _refuse(self) -> None:
        log.info("request could not be read", error="HeadTooLarge", peer=self.peer)
        if self._waiter is not None and self.transport is not None:  # no answer is being written
            self.transport.write(_REFUSAL)
        self.force_close()

    def _expect(self, seconds: float | None) -> None:
        """Wait so long for the rest of what has begun; None waits for nothing."""
        if self._deadline is not None:
            self._deadline.cancel()
        if seconds is None:
            self.waits_since = None
        elif self.waits_since is None:
            self.waits_since = self._loop.time()
        self._deadline = None if seconds is None else self._loop.call_later(seconds, self.drop)

    def drop(self) -> None:
        """End it at once, whatever is on its way."""
        self._expect(None)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError) and self.transport is None:
            log.info("connection ended before its request", error=type(exc).__name__, peer=self.peer)
            return web.Response(status=status)  # nobody is there to read it
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("request could not be read", error=type(exc).__name__, peer=request.remote)
        code, detail = (431, _TOO_LARGE) if isinstance(exc, LineTooLong) else (400, {"detail": "Bad request"})
        answer = web.Response(status=code, body=orjson.dumps(detail), content_type="application/json")
        answer.force_close()
        return answer


class _Server(web.Server):
    """All connections of clients."""

    def __init__(self, bounds: Bounds, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self._bounds = bounds
        self._held: Counter[str] = Counter()
        """Connections, by the address of the client."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._bounds, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        made = cast(_Connection, handler)
        if len(self._connections) >= self._bounds.connections_max:
            leaves = self._who_leaves(made)
            if leaves is not None:
                leaves.drop()
            else:
                transport.abort()
        self._held[made.peer] += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        if handler in self._connections:
            peer = cast(_Connection, handler).peer
            self._held[peer] -= 1
            if not self._held[peer]:
                del self._held[peer]
        super().connection_lost(handler, exc)

    def cut_off(self) -> None:
        """End connections whose clients do not read, while there is too much for them: first whoever has most."""
        standing = [one for one in cast(list[_Connection], self.connections) if one.stands_since is not None]
        unread: Counter[str] = Counter()
        for one in standing:
            unread[one.peer] += one.unread
        total, latest = unread.total(), self._loop.time() - self._bounds.still_seconds
        for one in sorted(standing, key=lambda one: (-unread[one.peer], one.stands_since)):
            if total <= self._bounds.unread_max:
                return
            if one.still_since > latest and total <= self._bounds.unread_most:
                continue
            log.info("too much is not read", peer=one.peer)
            total -= one.unread
            one.drop()

    def _who_leaves(self, newcomer: _Connection) -> _Connection | None:
        """Whose place a newcomer takes; None if nobody's.

        Who has more than his share takes from others only what is above theirs. First leaves a request that takes long
        to arrive, or is one of too many; then what is idle; then a request that has just begun. What is being answered
        goes on, unless its client has more than his share and the newcomer less.
        """
        share, now = self._bounds.share, self._loop.time()
        has_share = self._held[newcomer.peer] >= share
        ranked: list[tuple[int, int, float, int]] = []
        known = cast(list[_Connection], self.connections)
        for number, one in enumerate(known):
            held = self._held[one.peer]
            is_other = one.peer != newcomer.peer
            if one.transport is None or (has_share and is_other and held <= share):
                continue
            since = one.waits_since
            if since is not None:
                rank = 0 if held > share or now - since >= self._bounds.patience_seconds else 2
            elif one.is_idle:
                rank = 1
            elif is_other and held > share and not has_share:
                rank = 3
            else:
                continue
            ranked.append((rank, -held, since or 0.0, number))
        return known[min(ranked)[-1]] if ranked else None


class Runner(web.AppRunner):
    """Runs an application. It gets bodies as they are sent: unpacking would be work for whoever sends anything."""

    def __init__(self, app: web.Application, bounds: Bounds, **options: Any) -> None:
        """Options are those of `web.AppRunner`."""
        super().__init__(
            app,
            access_log=None,
            max_field_size=bounds.field_max,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            **options,
        )
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(self._bounds, made.request_handler, request_factory=made.request_factory, **self._kwargs)
