"""A proxy in front of a real server, which records requests and does to them what a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

Interference = Callable[[str, str], Awaitable[web.Response | None]]
"""Given method and path before a request is passed on; an answer is given instead of the server's."""

_OF_ONE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


async def nothing(method: str, path: str) -> None:
    """No interference."""


class Relay:
    """Passes requests on, and records them in order of arrival as (method, path)."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.before: Interference = nothing
        self.after: Interference = nothing
        """As `before`, once the server has answered."""
        self._upstream = upstream
        self._session = session

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Those requests that change something; asking for a token does not."""
        return [(method, path) for method, path in self.requests if method != "GET" and not path.endswith("/token")]

    @property
    def logins(self) -> int:
        """How often a token was asked for."""
        return sum(path.endswith("/token") for _, path in self.requests)

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        self.requests.append((request.method, request.path))
        if (said := await self.before(request.method, request.path)) is not None:
            return said
        async with self._session.request(
            request.method,
            f"{self._upstream}{request.path_qs}",
            headers=request.headers,  # the host included: it is in the tokens
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _OF_ONE_CONNECTION}
            passed = web.Response(status=answer.status, headers=headers, body=await answer.read())
        return await self.after(request.method, request.path) or passed


@asynccontextmanager
async def relay(upstream: str) -> AsyncIterator[Relay]:
    """A running relay in front of this address."""
    async with aiohttp.ClientSession() as session:
        running = Relay(upstream, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", running.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield running
        finally:
            await runner.cleanup()
