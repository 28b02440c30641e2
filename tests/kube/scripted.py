"""An API server that says what a test tells it to, for faults a real one cannot be made to show."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from datalabd.kube.client import Client

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """Answers requests in order from a script, and records them; what comes after hangs, as a quiet watch does."""

    def __init__(self, *script: Reply) -> None:
        self.script = list(script)
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.requests.append(request)
        if self.script:
            return await self.script.pop(0)(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()  # until the client, or the test's end, cancels it
        return response


class Routed(Scripted):
    """A server with a script for each kind, by its plural."""

    def __init__(self, **scripts: Sequence[Reply]) -> None:
        super().__init__()
        self._scripts = {plural: list(script) for plural, script in scripts.items()}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.script = self._scripts.get(request.path.rpartition("/")[2], [])
        return await super().handle(request)


def status(code: int, reason: str = "", message: str = "", headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """A refusal in the API server's form."""

    async def reply(_: web.Request) -> web.Response:
        body = {"kind": "Status", "code": code, "reason": reason, "message": message} | more
        return web.json_response(body, status=code, headers=headers)

    return reply


def text(code: int, body: str) -> Reply:
    """An answer that is no JSON, as proxies give."""

    async def reply(_: web.Request) -> web.Response:
        return web.Response(status=code, text=body)

    return reply


def listing(version: str, *items: dict[str, Any], token: str = "") -> Reply:
    """A list, or a page of one."""

    async def reply(_: web.Request) -> web.Response:
        metadata = {"resourceVersion": version} | ({"continue": token} if token else {})
        return web.json_response({"kind": "List", "metadata": metadata, "items": list(items)})

    return reply


def stream(*chunks: bytes | dict[str, Any], abort: bool = False) -> Reply:
    """A watch that sends these chunks and ends, or breaks off."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(
                chunk if isinstance(chunk, bytes) else json.dumps(chunk, ensure_ascii=False).encode() + b"\n"
            )
        if abort:
            assert request.transport is not None
            request.transport.abort()
        return response

    return reply


@asynccontextmanager
async def serve(server: Scripted, directory: Path, token: str = "secret") -> AsyncIterator[Client]:
    """A client of the scripted server."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    kubeconfig = directory / "kubeconfig"
    write_kubeconfig(kubeconfig, f"http://127.0.0.1:{port}", token)
    client = await Client.connect(str(kubeconfig))
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


def write_kubeconfig(path: Path, url: str, token: str, authority: bytes = b"") -> None:
    """A kubeconfig with one cluster, reached by TLS if it has an authority, and one token."""
    cluster = {"server": url} | (
        {"certificate-authority-data": base64.b64encode(authority).decode()} if authority else {}
    )
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": {"token": token}}],
            }
        )
    )
