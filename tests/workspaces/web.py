"""A small application behind our authentication: what every request is answered with, and a browser that asks."""

import contextlib
import html
import ipaddress
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from workspaces.claims import Expected
from workspaces.identity import CALLER, ORIGIN, Authenticator, Gateway, middleware
from workspaces.issuer import Issuer
from workspaces.keys import Keys
from workspaces.login import PATHS, Login
from workspaces.proxies import Proxies
from workspaces.rates import RateLimits, Rates
from workspaces.refusals import Refusal
from workspaces.runner import Runner
from workspaces.tokens import Verifier

COOKIE_KEY = b"k" * 32


@web.middleware
async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer refusals as the Workspace API does."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except Refusal as refusal:
        return web.json_response({"detail": refusal.detail}, status=refusal.status, headers=dict(refusal.headers))


async def _who(request: web.Request) -> web.Response:
    caller = request[CALLER]
    return web.json_response({"name": caller.name, "roles": dict(caller.roles), "url": request[ORIGIN].url})


async def _stream(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"})
    await answer.prepare(request)
    for number in range(3):
        await answer.write(f"data: {number}\n\n".encode())
    return answer


@dataclass
class Served:
    """A running application."""

    url: str
    login: Login | None
    keys: Keys | None


@contextlib.asynccontextmanager
async def served(
    *,
    issuer_url: str = "",
    ca_file: str = "",
    client: tuple[str, str] | None = None,
    cookie_key: bytes = COOKIE_KEY,
    proxies: tuple[str, ...] = (),
    gateway_secret: str | None = None,
    rates: Rates | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Served]:
    """With an issuer tokens are verified; with a gateway's secret, empty or not, a gateway is believed."""
    trusted = Proxies(ipaddress.ip_network(network) for network in proxies)
    app = web.Application(middlewares=[refusals])
    async with contextlib.AsyncExitStack() as closing:
        verifier, gateway, login, keys = None, None, None, None
        if issuer_url:
            issuer = Issuer(issuer_url, ca_file=ca_file)
            closing.push_async_callback(issuer.close)
            keys = Keys(issuer)
            closing.push_async_callback(keys.close)
            verifier = Verifier(keys, Expected(issuer_url, "workspace-api"), now=now)
            if client is not None:
                login = Login(
                    issuer,
                    verifier,
                    client_id=client[0],
                    client_secret=client[1],
                    cookie_key=cookie_key,
                    origin_of=lambda request: request[ORIGIN],
                    now=now,
                )
                closing.push_async_callback(login.close)
                login.install(app)
        if gateway_secret is not None:
            gateway = Gateway(trusted, gateway_secret, "workspace-api")
        authenticator = Authenticator(verifier=verifier, gateway=gateway, login=login)
        app.middlewares.append(
            middleware(authenticator, trusted, RateLimits(rates), lambda request: request.path in PATHS)
        )
        app.router.add_get("/stream", _stream)
        app.router.add_route("*", "/{path:.*}", _who)
        runner = Runner(app)
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Served(f"http://127.0.0.1:{runner.addresses[0][1]}", login, keys)


class Browser:
    """Follows redirects with its cookies, as a browser does; fills in the one form that a login shows."""

    def __init__(self, ssl: Any = True) -> None:
        self.cookies = aiohttp.CookieJar(unsafe=True)  # takes those of addresses too
        self._session = aiohttp.ClientSession(cookie_jar=self.cookies, connector=aiohttp.TCPConnector(ssl=ssl))
        self.visited: list[str] = []
        """Every address that was asked for, in order."""

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        """One answer, read whole; no redirect is followed."""
        self.visited.append(url)
        answer = await self._session.request(method, URL(url, encoded=True), allow_redirects=False, **options)
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
