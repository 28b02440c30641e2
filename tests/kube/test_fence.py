"""No byte of a fenced write leaves once the fence is closed, whatever it waited for until then."""

import asyncio
import contextlib
import datetime
import socket
import threading
from pathlib import Path

import pytest
from aiohttp import web

from datalabd.errors import NotLeading
from datalabd.kube import resources as kinds
from datalabd.kube.client import MAX_WRITES, Client
from datalabd.kube.lease import Fence
from tests.kube.scripted import Scripted, serve, text, write_kubeconfig
from webhooks import certificates

LARGE = {"data": {"large": "x" * (8 << 20)}}
"""More than the buffers of both ends of a connection hold."""


class Peer:
    """Whoever is at the other end of a connection, and reads when told to."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.may_read = asyncio.Event()
        self.received = bytearray()
        self.ended = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read until the client ends the connection."""
        self.connected.set()
        await self.may_read.wait()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 16):
                self.received += chunk
        writer.close()
        self.ended.set()


def opened() -> Fence:
    """A fence that is open until it is closed."""
    fence = Fence()
    fence.open_until(fence.clock() + 3600)
    return fence


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_the_rest_of_a_large_write_does_not_leave(tmp_path: Path) -> None:
    peer, fence = Peer(), opened()
    async with await asyncio.start_server(peer.talk, "127.0.0.1", 0, limit=1 << 10) as server:
        write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "secret")
        client = await Client.connect(str(tmp_path / "kubeconfig"))
        write = asyncio.create_task(client.fenced(fence.is_open).patch(kinds.CONFIG_MAPS, "ns", "a", LARGE))
        await peer.connected.wait()
        await asyncio.sleep(0.1)  # until the buffers are full
        fence.close()
        peer.may_read.set()
        with pytest.raises(NotLeading, match="configmaps/a was kept back"):
            await write
        await client.close()
        await peer.ended.wait()
    assert 0 < len(peer.received) < len(LARGE["data"]["large"])


async def test_a_write_that_waited_for_its_connection_does_not_leave(tmp_path: Path) -> None:
    """The API server takes its time to answer the handshake."""
    bundle = certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    context = certificates.server_context()
    certificates.load(context, bundle)
    accepted, go_on, fence = threading.Event(), threading.Event(), opened()

    def answer(listening: socket.socket) -> bytes:
        plain, _ = listening.accept()
        with plain:
            accepted.set()
            go_on.wait(10)
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    return connection.recv(4096)
            except OSError:
                return b""

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answered = asyncio.create_task(asyncio.to_thread(answer, listening))
        write_kubeconfig(
            tmp_path / "kubeconfig", f"https://127.0.0.1:{listening.getsockname()[1]}", "secret", bundle.ca
        )
        client = await Client.connect(str(tmp_path / "kubeconfig"))
        write = asyncio.create_task(client.fenced(fence.is_open).patch(kinds.CONFIG_MAPS, "ns", "a", {}))
        assert await asyncio.to_thread(accepted.wait, 10)
        fence.close()
        go_on.set()
        with pytest.raises(NotLeading):
            await write
        await client.close()
        assert await answered == b""


async def test_a_write_that_waited_for_others_does_not_leave(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return await text(200, "{}")(request)

    server, fence = Scripted(*[slow] * MAX_WRITES), opened()
    async with serve(server, tmp_path) as client:
        fenced = client.fenced(fence.is_open)
        writes = [asyncio.create_task(fenced.patch(kinds.CONFIG_MAPS, "ns", "a", {})) for _ in range(MAX_WRITES + 1)]
        while len(server.requests) < MAX_WRITES:  # noqa: ASYNC110  # a script tells nobody
            await asyncio.sleep(0.01)
        fence.close()
        go_on.set()
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [dict] * MAX_WRITES + [NotLeading]
    assert len(server.requests) == MAX_WRITES


async def test_reads_and_other_clients_writes_leave_at_any_time(tmp_path: Path) -> None:
    """Over the same connections."""
    server, fence = Scripted(*[text(200, "{}")] * 4), opened()
    async with serve(server, tmp_path) as client:
        fenced = client.fenced(fence.is_open)
        await fenced.patch(kinds.CONFIG_MAPS, "ns", "a", {})
        fence.close()
        await fenced.get(kinds.CONFIG_MAPS, "ns", "a")
        with pytest.raises(NotLeading):
            await fenced.patch(kinds.CONFIG_MAPS, "ns", "a", {})
        await client.patch(kinds.CONFIG_MAPS, "ns", "a", {})
        fence.open_until(fence.clock() + 3600)
        await fenced.patch(kinds.CONFIG_MAPS, "ns", "a", {})
    assert [request.method for request in server.requests] == ["PATCH", "GET", "PATCH", "PATCH"]
