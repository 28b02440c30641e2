"""What the pages cost those who look at them, and the process that makes them: Chromium, 500 workspaces, loopback.

    python -m hack.bench.pages

Beside them stands a static page: the same bytes, headers included, of which nothing runs, sent from memory by a bare
aiohttp.
"""

import asyncio
import contextlib
import gzip
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from playwright.async_api import Browser, Page

from datalabd.kube import resources as kinds
from datalabd.kube.client import JSON_PATCH, Client, path
from hack import chromium, playground
from hack.bench.passes import cpu_ms, requests
from hack.bench.table import Table
from hack.bench.workspace_server import ACCOUNT, fill, p95, serving_workspaces
from hack.bench.workspaces import MEMBERS, NAMESPACE, STREAMS, USERS, WORKSPACES, name_of, owner_of
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled
from workspaces.ui.assets import STATIC
from workspaces.ui.paging import PAGE

LOADS = 15
"""Of each page, in turn with the static one."""
RENDERS = 200
CHANGES = PAGE - MEMBERS
"""Members who are added: with those that there are, as many as one page shows."""
PAUSE_SECONDS = 0.1
SETTLE_SECONDS = 1.0
"""For how long after its load a page may not move."""
HTML: dict[str, str] = {hdrs.ACCEPT: "text/html", "Sec-Fetch-Site": "none"}
"""What a browser sends with the address that somebody types."""
SHIFTS = """() => new Promise(done => {
    let moved = 0;
    const what = new Set();
    new PerformanceObserver(list => {
        for (const one of list.getEntries()) {
            moved += one.value;
            for (const {node} of one.sources) what.add(node?.outerHTML?.slice(0, 60) ?? node?.nodeName ?? 'gone');
        }
    }).observe({type: 'layout-shift', buffered: true});
    setTimeout(() => done([moved, [...what].slice(0, 3).join(' ')]), SETTLE);
})""".replace("SETTLE", str(int(SETTLE_SECONDS * 1000)))
PAINT = """() => new Promise(done => new PerformanceObserver(list => {
    for (const one of list.getEntriesByName('first-contentful-paint')) done(one.startTime);
}).observe({type: 'paint', buffered: true}))"""
INTERACTIVE = """() => new Promise(done => new PerformanceObserver(list => {
    for (const one of list.getEntriesByName('interactive')) done(one.startTime);
}).observe({type: 'mark', buffered: true}))"""
SHOWS = """text => new Promise(done => {
    const looks = () => document.getElementById('main').textContent.includes(text) && (done(), true);
    if (!looks()) new MutationObserver((_, observer) => looks() && observer.disconnect())
        .observe(document.body, {subtree: true, childList: true, characterData: true});
})"""


def measure(table: Table) -> None:
    """Print the figures, of a control plane without anything else."""
    if lacking := chromium.missing():
        print(f"the pages are left out: {lacking}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch, serving_workspaces(Path(scratch)) as cluster:
        asyncio.run(_measure(table, cluster))


async def _measure(table: Table, cluster: Cluster) -> None:
    client = await Client.connect(str(cluster.kubeconfig), user_agent="bench")
    try:
        await fill(client)
        issuer = await asyncio.to_thread(playground.start_issuer, cluster)
        api = await asyncio.to_thread(
            lambda: playground.run_workspaces(cluster, issuer, RATE_LIMITS="off", UI_MODE="ui")
        )
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            chromium.launched() as browser,
        ):
            bench = _Bench(cluster, client, session, browser, api)
            await bench.loads(table)
            await bench.renders(table)
            await bench.changes(table)
    finally:
        await client.close()


@dataclass
class _Load:
    """One page that was loaded with an empty cache."""

    paint: float
    """Milliseconds."""
    interactive: float = 0.0
    moved: float = 0.0
    what_moved: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each answer as they were sent, headers included."""


class _Bench:
    """One process with pages, and browsers of the platform admin and of an owner."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        session: aiohttp.ClientSession,
        browser: Browser,
        api: playground.WorkspaceApi,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._http = session
        self._browser = browser
        self._api = api
        process = cluster.processes()["workspaces"]
        if process is None:
            raise ClusterError("the Workspace API does not run")
        self._process = process

    async def _token(self, user: str) -> dict[str, str]:
        return {hdrs.AUTHORIZATION: f"Bearer {await asyncio.to_thread(self._api.token, user)}"}

    # ---- Loads

    async def loads(self, table: Table) -> None:
        """First pages and further ones."""
        pages = (("the list of workspaces", "/workspaces"), ("a workspace", f"/workspaces/{name_of(0)}"))
        for what, where in pages:
            headers = await self._token(playground.ADMIN)
            async with self._static(where, headers) as static:
                await self._load(static, headers, is_live=False)
                await self._load(self._api.url + where, headers)
                pairs = [
                    (
                        await self._load(static, headers, is_live=False),
                        await self._load(self._api.url + where, headers),
                    )
                    for _ in range(LOADS)
                ]
            floors, paints = zip(*((one.paint, other.paint) for one, other in pairs), strict=True)
            bare, paint = statistics.median(floors), statistics.median(paints)
            later = statistics.median(one.interactive - one.paint for _, one in pairs)
            last = pairs[-1][1]
            note = f"static {bare:.0f} ms; at best {min(paints):.0f} and {min(floors):.0f} ms"
            table.row(f"first contentful paint of {what}", paint, "ms", floor=bare, note=note)
            table.row("the same, over the static page", paint / bare, "×", goal=1.5)
            table.row("from there until it is interactive", max(0.0, later), "ms", goal=100)
            table.row(f"bytes of {what}, cold cache", sum(last.sizes.values()) / 1000, "kB", goal=60)
            table.row("requests of that", len(last.sizes), goal=8)
            moved = max((one for _, one in pairs), key=lambda one: one.moved)
            table.row("layout shift", moved.moved, goal=0, note=moved.what_moved)
        for what, kind, goal in (("scripts", "js", 20), ("style", "css", 12)):
            files = sorted(STATIC.glob(f"*.{kind}"))
            packed = sum(len(gzip.compress(file.read_bytes())) for file in files)
            note = "those of all pages, " + ", ".join(file.name for file in files)
            table.row(f"{what}, packed", packed / 1000, "kB", goal=goal, note=note)
        for (what, where), (_, first) in zip(pages, reversed(pages), strict=True):
            further = await self._further(first, where)
            table.row(f"bytes of {what}, after the other", sum(further.sizes.values()) / 1000, "kB", goal=20)

    async def _load(self, url: str, headers: Mapping[str, str], *, is_live: bool = True) -> _Load:
        """A page in a browser that knows nothing; one that is not live never says that it is interactive."""
        context = await self._browser.new_context(extra_http_headers=dict(headers))
        try:
            page = await context.new_page()
            sizes = await _sizes(page)
            await page.goto(url, wait_until="load")
            load = _Load(await page.evaluate(PAINT))
            if is_live:
                load.interactive = await page.evaluate(INTERACTIVE)
                load.moved, load.what_moved = await page.evaluate(SHIFTS)
            load.sizes = dict(sizes)
            return load
        finally:
            await context.close()

    async def _further(self, first: str, second: str) -> _Load:
        """The second of two pages in the same browser."""
        context = await self._browser.new_context(extra_http_headers=await self._token(playground.ADMIN))
        try:
            page = await context.new_page()
            await page.goto(self._api.url + first, wait_until="load")
            await page.evaluate(INTERACTIVE)
            sizes = await _sizes(page)
            await page.goto(self._api.url + second, wait_until="load")
            load = _Load(await page.evaluate(PAINT))
            await page.evaluate(INTERACTIVE)
            load.sizes = dict(sizes)
            return load
        finally:
            await context.close()

    @contextlib.asynccontextmanager
    async def _static(self, where: str, headers: Mapping[str, str]) -> AsyncIterator[str]:
        """The same page and files with their headers, scripts as comments of as many bytes, from memory."""
        page = await self._copied(where, {**headers, **HTML})
        files: dict[str, tuple[bytes, CIMultiDict[str]]] = {}
        for found in sorted(set(re.findall(r'(?:href|src)="(/[^"#]+\.(?:css|js|svg))', page[0].decode()))):
            content, kept = await self._copied(found, {})
            if found.endswith(".js"):
                content = b"/*" + content.replace(b"*/", b"**")[4:] + b"*/"
            files[found] = gzip.compress(content), kept
        packed = gzip.compress(page[0]), page[1]

        async def answer(request: web.Request) -> web.Response:
            body, kept = files.get(request.path, packed)
            return web.Response(body=body, headers=kept)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()

    async def _copied(self, where: str, headers: Mapping[str, str]) -> tuple[bytes, CIMultiDict[str]]:
        """What an answer of ours holds, and its headers as they are where it is packed."""
        async with self._http.get(self._api.url + where, headers=headers) as response:
            response.raise_for_status()
            kept = response.headers.copy()
            for name in (hdrs.CONTENT_LENGTH, hdrs.DATE, hdrs.SERVER):
                kept.popall(name, None)
            kept[hdrs.CONTENT_ENCODING] = "gzip"
            return await response.read(), kept

    # ---- What the process spends

    async def renders(self, table: Table) -> None:
        """CPU of a page."""
        for what, user, where, goal in (
            (f"the list of {WORKSPACES}, a page of it", playground.ADMIN, "/workspaces", 10),
            ("a workspace", owner_of(0), f"/workspaces/{name_of(0)}", 5),
        ):
            headers = {**await self._token(user), **HTML}
            for _ in range(5):
                await self._get(where, headers)
            before = cpu_ms(self._process)
            for _ in range(RENDERS):
                await self._get(where, headers)
            table.row(f"CPU to make the page of {what}", (cpu_ms(self._process) - before) / RENDERS, "ms", goal=goal)

    async def _get(self, where: str, headers: Mapping[str, str]) -> None:
        async with self._http.get(self._api.url + where, headers=headers) as response:
            response.raise_for_status()
            await response.read()

    # ---- Changes

    async def changes(self, table: Table) -> None:
        """How soon somebody sees what kubectl changed, while a client program holds many streams."""
        before = self._resident()
        timeout = aiohttp.ClientTimeout(total=None)
        context = await self._browser.new_context(extra_http_headers=await self._token(playground.ADMIN))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(context.close)
            readers: list[asyncio.Task[None]] = []
            stack.push_async_callback(_ended, readers)
            offset = self._cluster.audit_log.stat().st_size
            for user in range(USERS):
                header = await self._token(owner_of(user))
                for _ in range(STREAMS // USERS):
                    answer = await stack.enter_async_context(
                        self._http.get(f"{self._api.url}/events", headers=header, timeout=timeout)
                    )
                    answer.raise_for_status()
                    readers.append(asyncio.create_task(_drained(answer)))
            await asyncio.sleep(SETTLE_SECONDS)
            cost = self._resident() - before
            page = await context.new_page()
            await page.goto(f"{self._api.url}/workspaces/{name_of(0)}/members")
            await page.locator("html[data-live=on]").wait_for(state="attached")
            delays = [await self._visible_after(page, f"somebody-{number:03}") for number in range(CHANGES)]
            made = Counter(requests(self._cluster.audit_log, offset, ACCOUNT))
            made -= Counter({one: 1 for one in made if one[0] == "watch"})  # which begins anew every few minutes
        note = f"{CHANGES} members added, p50 {statistics.median(delays):.0f} ms"
        table.row(
            f"change by kubectl visible in a page, {STREAMS} streams, p95", p95(delays), "ms", goal=1000, note=note
        )
        table.row(f"memory of {STREAMS} streams", max(0.0, cost), "MiB", goal=40)
        verbs = ", ".join(f"{count} × {' '.join(one)}" for one, count in made.items())
        table.row("requests to the API server meanwhile", made.total(), goal=0, note=verbs)

    async def _visible_after(self, page: Page, member: str) -> float:
        """Milliseconds from a change to its being on the page."""
        shown = asyncio.create_task(page.evaluate(SHOWS, member))
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        body: list[dict[str, Any]] = [{"op": "add", "path": "/spec/users/-", "value": member}]
        at = path(kinds.DATALABS, NAMESPACE, name_of(0))
        await self._client.request("PATCH", at, body=body, content_type=JSON_PATCH)
        async with asyncio.timeout(scaled(20)):
            await shown
        return (time.perf_counter() - began) * 1000

    def _resident(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


async def _ended(readers: Sequence[asyncio.Task[None]]) -> None:
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def _drained(answer: aiohttp.ClientResponse) -> None:
    async for _ in answer.content.iter_any():
        pass


async def _sizes(page: Page) -> dict[str, int]:
    """Bytes by address, filled in as answers end; streams do not."""
    session = await page.context.new_cdp_session(page)
    addresses: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def begins(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["request"]["url"]

    def ends(event: dict[str, Any]) -> None:
        size = int(event["encodedDataLength"])
        if size and event["requestId"] in addresses:
            sizes[addresses[event["requestId"]]] = size

    session.on("Network.requestWillBeSent", begins)
    session.on("Network.loadingFinished", ends)
    await session.send("Network.enable")
    return sizes


if __name__ == "__main__":
    try:
        measure(Table())
    except ClusterError as error:
        sys.exit(str(error))
