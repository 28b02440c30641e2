"""What a client may send and hold: bounded in bytes, in time and in connections."""

import asyncio
import contextlib
import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import http_parser, web
from structlog.testing import capture_logs

from datalabd.serving import Bodies, Bounds, NoRoom, Room, Runner

KIB, MIB = 1024, 1024 * 1024
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
async def running(app: web.Application, bounds: Bounds) -> AsyncIterator[tuple[str, int]]:
    """Where an application is served."""
    runner = Runner(app, bounds, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def served(bounds: Bounds, held: asyncio.Event | None = None) -> AsyncIterator[list[Client]]:
    """As many connections as there may be, and one more that is not opened yet."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/held" and held is not None:
            await held.wait()
        body = await request.content.read()
        return web.Response(body=body) if request.path == "/echo" else web.Response(text=str(len(body)))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    clients: list[Client] = []
    async with running(app, bounds) as (host, port):
        try:
            for _ in range(bounds.connections_max + 1):
                clients.append(Client(*await asyncio.open_connection(host, port)))
                await asyncio.sleep(0.02)  # they are accepted in this order
            yield clients
        finally:
            for client in clients:
                client.close()


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
    async with served(replace(one(BOUNDS), head_seconds=0.5, body_seconds=0.5), held) as (_, client):
        await client.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n12")
        await asyncio.sleep(0.7)
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


async def test_of_too_many_connections_one_that_waits_for_its_body_leaves() -> None:
    async with served(replace(BOUNDS, connections_max=2)) as (first, second, third):
        await second.send(length(60_000) + b"b")
        await third.send(HEAD % b"" + b"\r\n")  # makes the first leave, which has sent nothing
        assert await third.answer() == OK
        more = Client(*await asyncio.open_connection(*first.server))
        await more.send(HEAD % b"" + b"\r\n")
        assert [await first.answer(), await second.answer(), await more.answer()] == [b"", b"", OK]
        await third.send(HEAD % b"" + b"\r\n")
        assert await third.answer() == OK
        more.close()


async def test_those_that_have_waited_longest_leave_first() -> None:
    async with served(replace(BOUNDS, connections_max=2)) as (first, second, third):
        await asyncio.gather(first.answer(), second.send(length(9) + b"b"))
        await third.send(length(9) + b"b")
        more = Client(*await asyncio.open_connection(*first.server))
        assert await second.answer() == b""
        await third.send(b"b" * 8)
        assert await third.answer() == OK
        more.close()


STRANGER = "127.0.0.2"


@contextlib.asynccontextmanager
async def shared(
    bounds: Bounds, strangers: int
) -> AsyncIterator[tuple[Callable[..., Awaitable[Client]], list[Client]]]:
    """What opens a connection from an address, after a stranger has opened so many."""
    held, opened = asyncio.Event(), []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/held":
            await held.wait()
        return web.Response(text=str(len(await request.read())))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with running(app, bounds) as server:

        async def opening(address: str = "127.0.0.1") -> Client:
            opened.append(Client(*await asyncio.open_connection(*server, local_addr=(address, 0))))
            await asyncio.sleep(0.02)  # they are accepted in this order
            return opened[-1]

        try:
            yield opening, [await opening(STRANGER) for _ in range(strangers)]
        finally:
            held.set()
            for client in opened:
                client.close()


async def test_who_has_many_connections_takes_none_of_others() -> None:
    async with shared(replace(BOUNDS, connections_max=8), 8) as (opening, strangers):
        for stranger in strangers:
            await stranger.send(HEAD % b"held" + b"\r\n")
        ours = await opening()
        await ours.send(HEAD % b"" + b"\r\n")
        assert await ours.answer() == OK, "the share of an address is free for it, even of what is being answered"
        assert await strangers[0].answer() == b""
        for _ in range(8):
            assert await (await opening(STRANGER)).answer() == b""
        await ours.send(HEAD % b"" + b"\r\n")
        assert await ours.answer() == OK


async def test_one_address_alone_may_have_all_connections() -> None:
    async with shared(replace(BOUNDS, connections_max=8), 8) as (_, strangers):
        for stranger in strangers:
            await stranger.send(HEAD % b"" + b"\r\n")
        assert [await stranger.answer() for stranger in strangers] == [OK] * 8


async def test_a_request_that_has_just_begun_is_not_what_leaves() -> None:
    async with shared(replace(BOUNDS, connections_max=8), 7) as (opening, strangers):
        for stranger in strangers:
            await stranger.send(HEAD % b"" + b"\r\n")
            assert await stranger.answer() == OK
        begun = await opening()
        other = await opening("127.0.0.3")
        assert await strangers[0].answer() == b"", "one of too many that are idle leaves before"
        for client in (begun, other):
            await client.send(HEAD % b"" + b"\r\n")
            assert await client.answer() == OK


async def test_a_request_that_takes_long_is_what_leaves_whoever_sends_it() -> None:
    async with shared(replace(BOUNDS, connections_max=8, patience_seconds=0), 2) as (opening, strangers):
        others = [await opening(f"127.0.1.{number}") for number in range(6)]
        for client in (*strangers[1:], *others):
            await client.send(HEAD % b"" + b"\r\n")
            assert await client.answer() == OK
        more = await opening()
        await more.send(HEAD % b"" + b"\r\n")
        assert [await more.answer(), await strangers[0].answer()] == [OK, b""]


@contextlib.asynccontextmanager
async def answering(bounds: Bounds, size: int, *addresses: str) -> AsyncIterator[list[socket.socket]]:
    """Connections from these addresses, each with an answer of so many bytes on its way that nobody reads yet."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=bytes(size))

    app = web.Application()
    app.router.add_get("/", answer)
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    async with running(app, bounds) as server:
        try:
            for address in addresses:
                one = socket.socket()
                opened.append(one)
                one.setblocking(False)
                one.bind((address, 0))
                await loop.sock_connect(one, server)
                await loop.sock_sendall(one, HEAD % b"" + b"\r\n")
                await asyncio.sleep(0.05)
            yield opened
        finally:
            for one in opened:
                one.close()


async def read(connection: socket.socket, size: int, pause: float = 0.0) -> int:
    """How many of so many bytes come before the server ends the connection."""
    loop, found = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while found < size and (part := await loop.sock_recv(connection, 256 * KIB)):
                found += len(part)
                await asyncio.sleep(pause)
    return found


async def test_an_answer_that_nobody_reads_does_not_stay() -> None:
    async with answering(replace(BOUNDS, read_seconds=0.3, still_seconds=0.1), 32 * MIB, "127.0.0.1") as (client,):
        await asyncio.sleep(0.5)
        assert await read(client, 32 * MIB) < 32 * MIB


async def test_an_answer_that_is_read_slowly_is_read_to_its_end() -> None:
    async with answering(replace(BOUNDS, read_seconds=0.5, still_seconds=0.1), 32 * MIB, "127.0.0.1") as (client,):
        assert await read(client, 32 * MIB, pause=0.02) >= 32 * MIB


@pytest.mark.parametrize("limits", [{"still_seconds": 0.02}, {"unread_most": 64 * MIB}])
async def test_of_too_many_answers_that_nobody_reads_those_of_whoever_has_most_end(limits: dict[str, Any]) -> None:
    addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2")
    bounds = replace(BOUNDS, connections_max=9, unread_max=64 * MIB, **limits)
    async with answering(bounds, 32 * MIB, *addresses) as clients:
        found = await asyncio.gather(*(read(client, 32 * MIB) for client in clients))
    assert [size >= 32 * MIB for size in found] == [True, False, False, True]


async def test_many_who_read_at_once_all_have_their_answers() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=bytes(2 * MIB))

    app = web.Application()
    app.router.add_get("/", answer)
    async with running(app, replace(BOUNDS, connections_max=40, unread_max=MIB)) as server:
        clients = [Client(*await asyncio.open_connection(*server, limit=64 * KIB)) for _ in range(30)]
        try:
            await asyncio.gather(*(client.send(HEAD % b"" + b"\r\n") for client in clients))
            assert await asyncio.gather(*(client.answer() for client in clients)) == [OK] * 30
        finally:
            for client in clients:
                client.close()


async def test_an_idle_connection_keeps_no_answer() -> None:
    async with served(one(BOUNDS)) as (_, client):
        tracemalloc.start()
        try:
            await client.send(length(900_000).replace(b"/", b"/echo", 1) + b"b" * 900_000)
            assert await client.answer() == OK
            assert tracemalloc.get_traced_memory()[0] < 500_000
        finally:
            tracemalloc.stop()


async def test_a_connection_that_ends_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with served(one(BOUNDS)) as (_, client):
        with capture_logs() as lines:
            await client.send(length(60_000) + b"b")
            more = Client(*await asyncio.open_connection(*client.server))
            await more.send(HEAD % b"" + b"\r\n")
            assert [await client.answer(), await more.answer()] == [b"", OK]
            more.close()
    ended = {"event": "connection ended before its request", "error": "ConnectionResetError", "peer": "127.0.0.1"}
    assert lines == [ended | {"log_level": "info"}]
    assert not caplog.records


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Reading:
    """An application that answers how long a body is, once it may: at once, if it is small."""

    def __init__(self, bodies: Bodies, held_from: int) -> None:
        self.bodies = bodies
        self.held_from = held_from
        self.may_answer = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        """Released once for each request of which the head has come."""
        self.is_read = asyncio.Event()
        """Whether a large body has come."""
        self.held = self.most_held = 0
        """Bytes of large bodies, now and at most."""
        self.app = web.Application()
        self.app.router.add_post("/", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.begun.release()
        async with self.bodies.read(request) as body:
            if len(body) > self.held_from:
                self.held += len(body)
                self.most_held = max(self.most_held, self.held)
                self.is_read.set()
                await self.may_answer.wait()
                self.held -= len(body)
            return web.Response(text=str(len(body)))


@contextlib.asynccontextmanager
async def reading(
    body_max: int,
    clients: int,
    *,
    room: int = 0,
    small_room: int = MIB,
    waiting_max: int = 64,
    seconds: float = 60.0,
    held_from: int = 64 * KIB,
) -> AsyncIterator[tuple[Reading, list[Client], tuple[str, int]]]:
    """Such an application, connections to it, and where it is."""
    bodies = Bodies(body_max, room=room or body_max, small_room=small_room, waiting_max=waiting_max, seconds=seconds)
    served = Reading(bodies, held_from)
    async with running(served.app, Bounds()) as server:
        opened = [Client(*await asyncio.open_connection(*server)) for _ in range(clients)]
        try:
            yield served, opened, server
        finally:
            served.may_answer.set()
            for client in opened:
                client.close()


def length(size: int) -> bytes:
    """The head of a request with a body of so many bytes."""
    return POST + b"Content-Length: %d\r\n\r\n" % size


def whole(size: int) -> bytes:
    """A request with a body of so many bytes."""
    return length(size) + b"b" * size


def sent(server: tuple[str, int], request: bytes) -> bytes:
    """The beginning of the answer to a request that is sent as fast as it is taken; in a thread of its own."""
    with socket.create_connection(server, 60) as connection:
        connection.sendall(request)
        return connection.recv(15)


async def test_many_large_bodies_at_once_take_no_more_memory_than_a_few() -> None:
    size, many = 4 * MIB, 32
    request = whole(size)
    loop = asyncio.get_running_loop()
    async with reading(size, 1) as (served, (other,), server):
        threads = ThreadPoolExecutor(many)
        tracemalloc.start()
        try:
            senders = [loop.run_in_executor(threads, sent, server, request) for _ in range(many)]
            for _ in range(many):
                await served.begun.acquire()
            await other.send(whole(64 * KIB))
            assert await other.answer() == OK, "what is small waits for nobody"
            served.may_answer.set()
            assert await asyncio.gather(*senders) == [OK] * many
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            threads.shutdown(wait=False, cancel_futures=True)
    assert served.most_held == size
    assert peak < 12 * size  # of 32: one is read and copied, and of each other that waits something was received


async def test_a_larger_body_is_not_overtaken_for_ever() -> None:
    async with reading(400 * KIB, 3, room=500 * KIB) as (served, (first, second, third), _):
        await first.send(whole(300 * KIB))
        await served.is_read.wait()
        await second.send(whole(400 * KIB))
        await third.send(whole(100 * KIB))  # there were room for it
        await asyncio.sleep(0.1)
        assert served.held == 300 * KIB
        served.may_answer.set()
        assert [await client.answer() for client in (first, second, third)] == [OK] * 3


async def test_there_are_not_many_that_wait() -> None:
    async with reading(MIB, 3, waiting_max=1) as (served, (first, second, third), _):
        await first.send(whole(MIB))
        await served.is_read.wait()
        await second.send(whole(100 * KIB))
        await third.send(whole(100 * KIB))
        assert await third.answer() == b"HTTP/1.1 503 Service Unavailable"
        served.may_answer.set()
        assert [await first.answer(), await second.answer()] == [OK] * 2


async def test_nor_do_they_wait_for_long() -> None:
    async with reading(MIB, 2, seconds=0.5) as (served, (first, second), _):
        await first.send(whole(MIB))
        await served.is_read.wait()
        await second.send(whole(100 * KIB))
        assert await second.answer() == b"HTTP/1.1 503 Service Unavailable"
        served.may_answer.set()
        assert await first.answer() == OK
        await second.send(whole(100 * KIB))
        assert await second.answer() == OK


async def test_who_sends_slowly_makes_room_for_others() -> None:
    async with reading(MIB, 2, seconds=0.5) as (served, (slow, other), _):
        served.may_answer.set()
        await slow.send(length(MIB) + b"b" * 100)
        assert await slow.answer() == b"HTTP/1.1 408 Request Timeout"
        await other.send(whole(MIB))
        assert await other.answer() == OK


async def test_what_may_turn_out_to_be_large_counts_as_large() -> None:
    async with reading(MIB, 2, seconds=0.5) as (served, (first, second), _):
        await first.send(whole(100 * KIB))
        await served.is_read.wait()
        await second.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert await second.answer() == b"HTTP/1.1 503 Service Unavailable"


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"identity, gzip"])
async def test_a_body_that_is_packed_is_refused(coding: bytes) -> None:
    async with reading(MIB, 1) as (_, (client,), _server):
        await client.send(POST + b"Content-Length: 3\r\nContent-Encoding: " + coding + b"\r\n\r\nabc")
        assert await client.answer() == b"HTTP/1.1 415 Unsupported Media Type"


@pytest.mark.parametrize("path", [b"/", b"/absent"])
async def test_nothing_is_unpacked_for_anybody(path: bytes) -> None:
    packed = gzip.compress(bytes(16 * MIB))
    head = POST.replace(b"/", path, 1) + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(http_parser, "DeflateBuffer", None)
        async with reading(MIB, 1) as (_, (client,), _server):
            await client.send(head + packed)
            assert await client.answer() in (b"HTTP/1.1 415 Unsupported Media Type", b"HTTP/1.1 404 Not Found")


async def test_what_is_too_large_is_refused_before_it_comes() -> None:
    async with reading(MIB, 1) as (_, (client,), _server):
        await client.send(length(MIB + 1))
        assert await client.answer() == b"HTTP/1.1 413 Request Entity Too Large"


async def test_what_turns_out_to_be_too_large_is_refused_then() -> None:
    async with reading(100 * KIB, 1) as (_, (client,), _server):
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % (101 * KIB) + b"b" * 101 * KIB)
        assert await client.answer() == b"HTTP/1.1 413 Request Entity Too Large"


async def test_small_ones_have_room_for_a_few_at_a_time_as_well() -> None:
    async with reading(MIB, 0, small_room=100 * KIB, seconds=0.5, held_from=0) as (served, _, server):
        first, second, stranger = [
            Client(*await asyncio.open_connection(*server, local_addr=(address, 0)))
            for address in ("127.0.0.1", "127.0.0.1", STRANGER)
        ]
        await stranger.send(length(64 * KIB) + b"b" * 100)  # has no room before it is here
        await first.send(whole(64 * KIB))
        await served.is_read.wait()
        await second.send(whole(64 * KIB))
        assert await second.answer() == b"HTTP/1.1 503 Service Unavailable"
        await second.send(whole(30 * KIB), whole(64 * KIB))
        served.may_answer.set()
        assert [await second.answer(), await first.answer(), await second.answer()] == [OK] * 3
        assert served.most_held == 94 * KIB
        for client in (first, second, stranger):
            client.close()


async def test_peers_have_room_in_turn() -> None:
    room, order = Room(1, waiting_max=3, seconds=5), []

    async def asks(peer: str) -> None:
        async with room.of(peer):
            order.append(peer)
            await asyncio.sleep(0)

    await asyncio.gather(*(asks(peer) for peer in "aaaabb"))
    assert order == ["a", "a", "b", "a", "b", "a"]


async def test_who_gives_up_leaves_room_to_others() -> None:
    room = Room(4, waiting_max=2, seconds=0.1)

    async def asks(peer: str, size: int) -> str:
        async with room.of(peer, size):
            return peer

    async with room.of("a", 2):
        large, gone = asyncio.ensure_future(asks("b", 4)), asyncio.ensure_future(asks("b", 1))
        await asyncio.sleep(0)
        with pytest.raises(NoRoom):
            await asks("b", 1)
        small = asyncio.ensure_future(asks("c", 2))
        await asyncio.sleep(0)
        gone.cancel()
        large.cancel()
        assert await small == "c", "what a larger one waited for was free"
        with pytest.raises(NoRoom):
            await asks("b", 4)
    async with room.of("a", 4):
        given = asyncio.ensure_future(asks("b", 4))
        await asyncio.sleep(0)
    given.cancel()  # after it was given room, before it knows
    with pytest.raises(asyncio.CancelledError):
        await given
    assert await asks("c", 4) == "c"
