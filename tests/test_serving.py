"""What a client may send and hold: bounded in bytes, in time and in connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from datalabd.serving import Bounds, Runner

BOUNDS = Bounds(head_max=32 * 1024, head_seconds=30, body_seconds=30, connections_max=3)
HEAD = b"GET /%b HTTP/1.1\r\nHost: a\r\n"
OK, TOO_LARGE = b"HTTP/1.1 200 OK", b"HTTP/1.1 431 Request Header Fields Too Large"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.server: tuple[str, int] = writer.get_extra_info("peername")[:2]

    async def send(self, *chunks: bytes) -> None:
        """Send chunks that the server reads one by one, until it closes."""
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                self._writer.write(chunk)
                await self._writer.drain()
                await asyncio.sleep(0.01)

    async def answer(self) -> bytes:
        """The first line of an answer, whose rest is read too; empty if the connection ends without one."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.timeout(20):
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await self._reader.readexactly(int(length or 0))
                return head.partition(b"\r\n")[0]
        return b""

    def close(self) -> None:
        """End it."""
        self._writer.close()


@contextlib.asynccontextmanager
async def served(bounds: Bounds, held: asyncio.Event | None = None) -> AsyncIterator[list[Client]]:
    """As many connections as there may be, and one more that is not opened yet."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/held" and held is not None:
            await held.wait()
        return web.Response(text=str(len(await request.read())))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = Runner(app, bounds, shutdown_timeout=0.1)
    await runner.setup()
    clients: list[Client] = []
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        for _ in range(bounds.connections_max + 1):
            clients.append(Client(*await asyncio.open_connection(host, port)))
            await asyncio.sleep(0.02)  # they are accepted in this order
        yield clients
    finally:
        for client in clients:
            client.close()
        await runner.cleanup()


def one(bounds: Bounds) -> Bounds:
    """Bounds under which one connection leaves room."""
    return replace(bounds, connections_max=1)


async def test_all_headers_of_a_request_are_bounded_together() -> None:
    async with served(one(BOUNDS)) as (_, client):
        await client.send(HEAD % b"", *(b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(9)))
        assert await client.answer() == TOO_LARGE


async def test_a_head_is_too_large_in_one_piece_as_well() -> None:
    async with served(one(BOUNDS)) as (_, client):
        lines = (b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(9))
        await client.send(HEAD % b"" + b"".join(lines) + b"\r\n")
        assert await client.answer() == TOO_LARGE


async def test_each_request_of_a_connection_may_be_as_large() -> None:
    lines = [b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(7)]
    async with served(one(BOUNDS)) as (_, client):
        for body in (b"", b"b" * 100_000, b""):
            length = b"Content-Length: %d\r\n\r" % len(body)
            await client.send((HEAD % b"").replace(b"GET", b"POST"), *lines, length, b"\n" + body)
            assert await client.answer() == OK


async def test_a_head_has_to_come_in_time() -> None:
    async with served(replace(one(BOUNDS), head_seconds=0.2)) as (_, client):
        await client.send(HEAD % b"")
        assert await client.answer() == b""


async def test_a_later_head_has_to_come_in_time() -> None:
    async with served(replace(one(BOUNDS), head_seconds=0.5)) as (_, client):
        await client.send(HEAD % b"" + b"\r\n")
        assert await client.answer() == OK
        await asyncio.sleep(0.7)  # idle meanwhile, which is no fault
        await client.send(HEAD % b"" + b"\r\n")
        assert await client.answer() == OK
        await client.send(HEAD % b"" + b"\r\n" + HEAD % b"")
        assert await client.answer() == OK
        assert await client.answer() == b""


async def test_a_body_has_to_come_in_time() -> None:
    async with served(replace(one(BOUNDS), body_seconds=0.2)) as (_, client):
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", b"1234")
        assert await client.answer() == b""


async def test_an_answer_may_take_longer_than_its_request() -> None:
    held = asyncio.Event()
    async with served(replace(one(BOUNDS), head_seconds=0.1, body_seconds=0.1), held) as (_, client):
        await client.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n12")
        await asyncio.sleep(0.3)
        held.set()
        assert await client.answer() == OK


async def test_of_too_many_connections_one_without_a_request_leaves() -> None:
    async with served(replace(BOUNDS, connections_max=2)) as (first, second, third):
        assert await first.answer() == b""
        for client in (second, third):
            await client.send(HEAD % b"" + b"\r\n")
            assert await client.answer() == OK


async def test_what_is_being_answered_goes_on_and_more_are_refused() -> None:
    held = asyncio.Event()
    async with served(one(BOUNDS), held) as (_, client):
        await client.send(HEAD % b"held" + b"\r\n")
        more = Client(*await asyncio.open_connection(*client.server))
        try:
            assert await more.answer() == b""
        finally:
            more.close()
        held.set()
        assert await client.answer() == OK
