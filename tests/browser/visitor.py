"""One person's browser, and everything that must not happen in it whatever a test is about."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import html5lib
import httpx
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

from hack.deadlines import scaled
from hack.site import Site

REFERENCES = Path(__file__).with_name("references.js").read_text()
LINKS = """() => [...document.links]
    .filter(one => one.closest('main') || !document.querySelector('[data-error]')).map(one => one.href)"""
"""Where a page leads; the head of one that has become an error still names what is gone."""
STARTS = re.compile(r"/sessions/[^/]+$")
"""Links that start a session which is stopped: to follow one changes something."""
GONE = ("No resource with given identifier", "navigated away from", "has been closed")
"""What is said of an answer that somebody did not wait for."""
KEPT = Path(__file__).with_name("kept.js").read_text()


def source_faults(text: str) -> list[str]:
    """What a strict parser does not accept in a page."""
    parser = html5lib.HTMLParser(strict=False)
    parser.parse(text)
    return [f"{position}: {error} {data}" for position, error, data in parser.errors]


class Visitor:
    """One person's browser. What goes wrong in it is kept in `faults`, which a fixture wants empty in the end."""

    def __init__(
        self,
        context: BrowserContext,
        person: str,
        site: Site,
        links: dict[tuple[str, str], int],
        headers: Mapping[str, str],
    ) -> None:
        """`headers` are those that it sends with every request beside its own."""
        self.context = context
        self.person = person
        self.faults: list[str] = []
        self._site = site
        self._links = links
        self._headers = headers
        self._origin = site.url
        self._hosts = [re.compile(re.escape(urlsplit(site.url).netloc) + "$")]
        self._expected: list[re.Pattern[str]] = []
        self._is_showing = False
        self._loses_servers = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_paused = False
        self.requests: list[str] = []
        """Every address that was asked for, of this origin, in order."""
        context.set_default_timeout(scaled(10) * 1000)
        context.set_default_navigation_timeout(scaled(15) * 1000)
        context.on("request", self._requested)
        context.on("response", self._responded)
        context.on("console", self._logged)
        context.on("weberror", self._failed)

    # ---- What a test says of itself

    def expects(self, *patterns: str) -> None:
        """Let messages of the console pass that match one of these."""
        self._expected += map(re.compile, patterns)

    def expects_status(self, *codes: int) -> None:
        """Let pass what Chromium says of an answer with one of these codes."""
        self.expects(*(rf"^Failed to load resource: the server responded with a status of {code} " for code in codes))

    def loses_servers(self) -> None:
        """Let the proxy say that nobody answers behind it, and Chromium that nobody answers at all."""
        self._loses_servers = True
        self.expects(r"^Failed to load resource: (net::ERR_|the server responded with a status of 50[24] )")

    def goes_to(self, host: re.Pattern[str]) -> None:
        """Let requests to further hosts pass."""
        self._hosts.append(host)

    @contextlib.asynccontextmanager
    async def showing(self) -> AsyncIterator[None]:
        """Let credentials be in pages, as they were asked for; afterwards they have to be gone."""
        self._is_showing = True
        try:
            yield
            await asyncio.gather(*self._tasks)
        finally:
            self._is_showing = False

    @staticmethod
    def seconds(idle: float) -> float:
        """A deadline of an idle machine, as this one is."""
        return scaled(idle)

    # ---- What it does

    async def page(self) -> Page:
        """A new tab."""
        return await self.context.new_page()

    async def open(self, path: str, page: Page | None = None, status: int = 200) -> Page:
        """A tab with the page at this path, which is answered with this status."""
        page = page or await self.page()
        if status >= 400:
            self.expects_status(status)
        response = await page.goto(f"{self._origin}{path}")
        assert response is not None
        assert response.status == status, f"{path}: {response.status}\n{(await response.text())[:2000]}"
        return page

    async def live(self, page: Page) -> None:
        """Return once the page hears of changes."""
        await page.locator("html[data-live=on]").wait_for(state="attached")

    async def paused(self, what: Callable[[], Awaitable[Any]]) -> Any:
        """Do something while nothing is watched: a tool of the test, that breaks rules of the page."""
        self._is_paused = True
        try:
            return await what()
        finally:
            await asyncio.sleep(0.05)  # its messages are on their way
            self._is_paused = False

    # ---- What is looked at

    async def check(self, page: Page) -> None:
        """Look at the page as it is now: references, links, credentials."""
        where = page.url.partition("?")[0]
        self.faults += [f"{where}: {fault}" for fault in await page.evaluate(REFERENCES)]
        await self._follow(page)
        self._look_for_secrets(f"{where} as it is", await page.content())
        self._look_for_secrets(f"what {where} keeps", await page.evaluate(KEPT))

    async def close(self) -> None:
        """Look at all that is open, and close it."""
        for page in self.context.pages:
            if page.url.startswith(self._origin):
                await self.check(page)
        await asyncio.gather(*self._tasks)
        state = await self.context.storage_state(indexed_db=True)
        self._look_for_secrets("cookies and databases", json.dumps(state))
        await self.context.close()

    async def _follow(self, page: Page) -> None:
        hrefs: list[str] = await page.evaluate(LINKS)
        for href in sorted({urldefrag(href).url for href in hrefs} - {page.url, page.url.partition("?")[0]}):
            if not href.startswith(f"{self._origin}/"):
                if not href.startswith(("https://", "mailto:")):
                    self.faults.append(f"{page.url}: a link leads to {href}")
                continue
            key = (self.person, href)
            if key not in self._links and not STARTS.search(href):
                self._links[key] = await self._answered(href)
            if (code := self._links.get(key, 0)) >= 400:
                self.faults.append(f"{page.url}: link {href} is answered {code}")

    async def _answered(self, href: str) -> int:
        """Status of the answer at an address of ours, to this person."""
        cookies = "; ".join(f"{one['name']}={one['value']}" for one in await self.context.cookies(href))
        headers = {"Accept": "text/html", "Cookie": cookies, **self._headers}
        async with httpx.AsyncClient(verify=self._site.trust, trust_env=False, timeout=scaled(20)) as client:
            return (await client.get(href, headers=headers)).status_code

    def _look_for_secrets(self, where: str, text: str) -> None:
        found = [] if self._is_showing else [secret for secret in self._site.secrets if secret in text]
        self.faults += [f"{where}: has a credential, {secret[:4]}…" for secret in found]

    # ---- What happens

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and not any(host.search(parts.netloc) for host in self._hosts):
            self.faults.append(f"asked another host: {request.url}")
        elif request.url.startswith(self._origin):
            self.requests.append(request.url.removeprefix(self._origin))
        self._look_for_secrets("the address of a request", request.url)

    def _responded(self, response: Response) -> None:
        is_proxys = self._loses_servers and response.status in (502, 504)
        if response.url.startswith(self._origin) and not 300 <= response.status < 400 and not is_proxys:
            task = asyncio.create_task(self._read(response))
            self._tasks.add(task)

    async def _read(self, response: Response) -> None:
        headers: Mapping[str, str] = response.headers
        kind = headers.get("content-type", "").partition(";")[0]
        if kind not in ("text/html", "application/json"):
            return
        if "no-store" not in headers.get("cache-control", ""):
            self.faults.append(f"{response.url} may be kept by caches: {headers.get('cache-control')}")
        try:
            text = await response.text()
        except Exception as error:
            if not any(words in str(error) for words in GONE):
                self.faults.append(f"{response.url} cannot be read: {error}")
            return  # somebody went on before it could be read
        self._look_for_secrets(response.url, text)
        if kind == "text/html":
            self.faults += [f"{response.url} {fault}" for fault in source_faults(text)]

    def _logged(self, message: ConsoleMessage) -> None:
        if self._is_paused or any(pattern.search(message.text) for pattern in self._expected):
            return
        if message.page is not None and not message.page.url.startswith(self._origin):
            return  # what the issuer's page says is its own
        self.faults.append(f"console, {message.type}: {message.text} ({message.location})")

    def _failed(self, error: WebError) -> None:
        if error.page is None or error.page.url.startswith(self._origin):
            self.faults.append(f"error of a page: {error.error}")
