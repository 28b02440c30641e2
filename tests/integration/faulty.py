"""A way to the API server on which a test has requests fail, and watches fall silent or end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from datalabd.api.meta import Manifest
from datalabd.kube.client import Connector
from hack.cluster import Cluster
from tests.integration.stage import background

_OF_ONE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    at: float
    """Unix time."""
    method: str
    plural: str
    """The kind that it is about."""
    is_watch: bool


Fault = Callable[[Asked], web.Response | None]
"""What is answered instead of the API server; None leaves that to it."""


def refusal(code: int, reason: str, retry_after: int | None = None) -> web.Response:
    """An error in the API server's form."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return web.json_response(body | {"message": "etcdserver: of nobody's business"}, status=code, headers=headers)


@dataclass
class FaultyWay:
    """Hands requests on, and notes them."""

    upstream: str
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    fault: Fault = lambda _: None  # a default, which a test replaces
    silent: frozenset[str] = frozenset()
    """Kinds of whose watches nothing arrives any more, though they stay open."""
    swallowed: int = 0
    """How often something was kept from arriving."""
    _watches: list[tuple[str, web.Request]] = field(default_factory=list)

    def times(self, method: str, plural: str, *, watch: bool = False) -> list[float]:
        """When this was asked for."""
        wanted = (method, plural, watch)
        return [one.at for one in list(self.asked) if (one.method, one.plural, one.is_watch) == wanted]

    def end_watches(self, plural: str) -> None:
        """Break the watches of a kind off."""
        for of, request in list(self._watches):
            if of == plural:
                self._loop.call_soon_threadsafe(_abort, request)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve."""
        self._loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(connector=Connector(), auto_decompress=False) as session:
            self._session = session
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        after = parts.index("namespaces") + 2 if "namespaces" in parts[:-2] else {"api": 2}.get(parts[0], 3)
        plural, is_watch = (parts[after:] or [""])[0], request.query.get("watch") == "true"
        asked = Asked(time.time(), request.method, plural, is_watch)
        self.asked.append(asked)
        if (said := self.fault(asked)) is not None:
            return said
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host"}}
        async with self._session.request(
            request.method,
            f"{self.upstream}{request.path_qs}",
            headers=headers,
            data=await request.read(),
            ssl=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            watch = (plural, request)
            if is_watch:
                self._watches.append(watch)
            try:
                async for chunk in answer.content.iter_any():
                    if is_watch and plural in self.silent:
                        self.swallowed += 1
                        await asyncio.Event().wait()  # until whoever waits gives up
                    await response.write(chunk)
            finally:
                if is_watch:
                    self._watches = [one for one in self._watches if one is not watch]
            return response


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.contextmanager
def faulty_way(cluster: Cluster) -> Iterator[FaultyWay]:
    """A way to this cluster's API server, while the context lasts."""
    way = FaultyWay(cluster.url)
    with background("faulty way", way.running):
        yield way


def leading_over(way: FaultyWay, kubeconfig: Path, directory: Path) -> Path:
    """The same kubeconfig for whoever is to come by that way."""
    config: Any = yaml.safe_load(kubeconfig.read_text())
    clusters: list[Manifest] = [entry["cluster"] for entry in config["clusters"]]
    for entry in clusters:
        entry.clear()
        entry["server"] = way.url
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
