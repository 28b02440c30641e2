"""Serves an application as aiohttp does, with bounds on what a client may send and hold.

aiohttp bounds each of 128 headers, and waits for a request as long as it takes: so anybody could fill the memory. What
it says of a header that is too long, or of bytes that are no HTTP, holds their beginning, in the answer and in a log
with its stack. Both may be a token, so nothing of them is repeated here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

log = structlog.get_logger()

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
    """Of the process. One more takes the place of one that has sent no whole request, or is idle."""


class Bodies:
    """Reads the bodies of requests: small ones at once, larger ones in turn, as many at a time as there is room for.

    JSON takes up to 25 times its length once it is decoded, so a body has its room until its request is answered.
    """

    def __init__(
        self, body_max: int, *, room: int, small: int = 64 * 1024, waiting_max: int = 64, seconds: float = 5.0
    ) -> None:
        """`body_max` bytes of one body, `room` for all that are larger than `small`; at most `waiting_max` wait.

        One waits for `seconds`, and has as long to arrive once there is room: whoever sends slowly keeps others out.
        """
        assert room >= body_max
        self._body_max = body_max
        self._free = room
        self._small = small
        self._waiting_max = waiting_max
        self._seconds = seconds
        self._waiting = 0
        self._next = asyncio.Lock()
        self._released = asyncio.Event()

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body of a request that is answered within the context.

        Raises `web.HTTPRequestEntityTooLarge`, `web.HTTPServiceUnavailable` where there is no room, and
        `web.HTTPRequestTimeout`. The application's `client_max_size` has to be `body_max`.
        """
        size = request.content_length or 0
        if hdrs.TRANSFER_ENCODING in request.headers or hdrs.CONTENT_ENCODING in request.headers:
            size = self._body_max  # it may turn out to be as large
        if size <= self._small:
            yield await request.read()
            return
        if size > self._body_max:
            raise web.HTTPRequestEntityTooLarge(self._body_max, size)
        await self._take(size)
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    body = await request.read()
            except TimeoutError:
                raise web.HTTPRequestTimeout from None
            yield body
        finally:
            self._free += size
            self._released.set()

    async def _take(self, size: int) -> None:
        """Wait for so much room; who came first has it first."""
        no_room = web.HTTPServiceUnavailable(
            text="too many large requests at once; try again\n", headers={hdrs.RETRY_AFTER: "1"}
        )
        if self._waiting >= self._waiting_max:
            raise no_room
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds), self._next:
                while self._free < size:
                    self._released.clear()
                    await self._released.wait()
                self._free -= size
        except TimeoutError:
            raise no_room from None
        finally:
            self._waiting -= 1


class _Connection(web.RequestHandler):
    """One connection of a client."""

    def __init__(self, server: "_Server", bounds: Bounds, **options: Any) -> None:
        super().__init__(server, **options)
        self._bounds = bounds
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request that began."""
        self._head = 0
        """Bytes of a head that has no end yet."""
        self._last = b""
        """The last of them, as its end may come in parts."""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_incomplete(self) -> bool:
        """Whether a request is waited for that should be here soon."""
        return self._deadline is not None and self.is_idle

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._waiter is not None and not self._force_close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect(self._bounds.head_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

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
        log.info("request could not be read", error="HeadTooLarge", peer=(self.peername or ("",))[0])
        if self._waiter is not None and self.transport is not None:  # no answer is being written
            self.transport.write(_REFUSAL)
        self.force_close()

    def _expect(self, seconds: float | None) -> None:
        """Wait so long for the rest of what has begun; None waits for nothing."""
        if self._deadline is not None:
            self._deadline.cancel()
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

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._bounds, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        if len(self._connections) >= self._bounds.connections_max:
            known = cast(list[_Connection], self.connections)
            leaves = next((one for one in known if one.is_incomplete), None)
            leaves = leaves or next((one for one in known if one.is_idle), None)
            if leaves is not None:
                leaves.drop()
            else:
                transport.abort()
        super().connection_made(handler, transport)


class Runner(web.AppRunner):
    """Runs an application."""

    def __init__(self, app: web.Application, bounds: Bounds, **options: Any) -> None:
        """Options are those of `web.AppRunner`."""
        super().__init__(app, access_log=None, max_field_size=bounds.field_max, **options)
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(self._bounds, made.request_handler, request_factory=made.request_factory, **self._kwargs)
