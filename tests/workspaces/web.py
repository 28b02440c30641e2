"""A small application behind our authentication: what every request is answered with, and a browser that asks."""

import asyncio
import contextlib
import html
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from hack import issuer as provider
from workspaces.authentication import Authentication
from workspaces.identity import CALLER, ORIGIN
from workspaces.login import PATHS
from workspaces.problems import Problem
from workspaces.runner import Runner
from workspaces.settings import Settings

COOKIE_KEY = b"k" * 32


@web.middleware
async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer problems as the Workspace API does."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except Problem as problem:
        return web.json_response({"detail": problem.detail}, status=problem.status, headers=problem.headers)


async def _public(request: web.Request) -> web.Response:
    return web.json_response({"url": request[ORIGIN].url, "known": CALLER in request})


async def _who(request: web.Request) -> web.Response:
    caller = request[CALLER]
    about = {"name": caller.name, "roles": dict(caller.roles), "admin": caller.is_platform_admin}
    return web.json_response(about | {"url": request[ORIGIN].url})


_RELEASED = web.AppKey("released", asyncio.Event)


async def _stream(request: web.Request) -> web.StreamResponse:
    """One event at once; two more when `/release` is asked for, or at once where nobody says `hold`."""
    answer = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"})
    await answer.prepare(request)
    await answer.write(b"data: 0\n\n")
    if "hold" in request.query:
        await request.app[_RELEASED].wait()
    await answer.write(b"data: 1\n\n")
    await answer.write(b"data: 2\n\n")
    return answer


async def _release(request: web.Request) -> web.Response:
    request.app[_RELEASED].set()
    return web.Response()


@contextlib.asynccontextmanager
async def served(
    settings: Settings, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[str]:
    """The address of a running application with these settings."""
    authentication = Authentication(settings, now=now, clock=clock)
    app = web.Application(
        middlewares=[problems, authentication.middleware(lambda request: request.path in PATHS | {"/public"})]
    )
    authentication.install(app)
    app.router.add_get("/stream", _stream)
    app.router.add_get("/release", _release)
    app[_RELEASED] = asyncio.Event()
    app.router.add_get("/public", _public)
    app.router.add_route("*", "/{path:.*}", _who)
    runner = Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await authentication.close()


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[asyncio.StreamWriter], asyncio.Event]]:
    """Address of a server that accepts and says nothing, its connections, and whether there are any."""
    held: list[asyncio.StreamWriter] = []
    arrived = asyncio.Event()

    def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        arrived.set()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", held, arrived
    finally:
        for writer in held:
            writer.close()
        server.close()


def logins(issuer: provider.Issuer, **more: Any) -> Settings:
    """Settings by which people log in at an issuer that runs."""
    return Settings(
        oidc_issuer=issuer.url,
        oidc_client_id=provider.CLIENT_ID,
        **{"oidc_client_secret": provider.CLIENT_SECRET, "cookie_key": COOKIE_KEY} | more,
    )


class Browser:
    """Follows redirects with its cookies, as a browser does; fills in the one form that a login shows."""

    def __init__(self, ssl: Any = True, trusted: Sequence[str] = ()) -> None:
        """`trusted` are origins on loopback, to which it sends cookies for TLS alone as other browsers do."""
        # Cookies of addresses are taken too.
        self.cookies = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=list(map(URL, trusted)))
        self.session = aiohttp.ClientSession(cookie_jar=self.cookies, connector=aiohttp.TCPConnector(ssl=ssl))
        self.visited: list[str] = []
        """Every address that was asked for, in order."""

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def ask(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        """One answer, read whole; no redirect is followed."""
        self.visited.append(url)
        answer = await self.session.request(method, URL(url, encoded=True), allow_redirects=False, **options)
        await answer.read()
        return answer

    async def open(self, url: str, **form: str) -> aiohttp.ClientResponse:
        """What is shown after all redirects, and after the form of a login, which is sent once."""
        answer = await self.ask("GET", url, headers={"Accept": "text/html"})
        while True:
            if answer.status in (302, 303):
                target = str(answer.url.join(URL(answer.headers["Location"], encoded=True)))
                answer = await self.ask("GET", target, headers={"Accept": "text/html"})
            elif form and (found := re.search(r'<form[^>]*\baction="([^"]+)"', await answer.text())):
                target = str(answer.url.join(URL(html.unescape(found[1]), encoded=True)))
                answer = await self.ask("POST", target, data=form, headers={"Accept": "text/html"})
                form = {}
            else:
                return answer

    def cookie(self, name: str, url: str) -> str | None:
        """The value of a cookie that would be sent there."""
        found = self.cookies.filter_cookies(URL(url)).get(name)
        return found.value if found else None
