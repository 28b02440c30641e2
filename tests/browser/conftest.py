"""One stage for all tests of the pages, a browser that stays, and a context of its own for each test and person."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState, expect

from hack import chromium, nginx, scenery
from hack.deadlines import scaled
from hack.minio import MinIO
from hack.site import Site
from tests.browser.visitor import Visitor
from tests.servers import minio_server as minio_server


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Have all tests of this directory share a loop, as they do the browser; the first one waits for the stage."""
    item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    item.add_marker(pytest.mark.cluster)
    item.add_marker(pytest.mark.servers("Chromium", "nginx", "MinIO"))
    item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, minio_server: MinIO) -> Iterator[Site]:
    """The pages of all workspaces of `scenery`, with logins at our own issuer and buckets at a MinIO."""
    if lacking := chromium.missing() or nginx.missing():
        pytest.skip(lacking)
    with Site.started(tmp_path_factory.mktemp("site"), minio=minio_server) as site:
        scenery.build(site)
        yield site


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(site: Site) -> AsyncIterator[Browser]:
    """Chromium, which takes nginx for whom it says to be."""
    expect.set_options(timeout=scaled(5) * 1000)
    async with chromium.launched([chromium.trusting(site.certificate)]) as browser:
        yield browser


class Logins:
    """People's cookies, by a real login each that is kept for the next test."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser = browser
        self._site = site
        self._states: dict[str, StorageState] = {}

    async def state(self, person: str) -> StorageState:
        """Cookies of somebody who has logged in."""
        if person not in self._states:
            context = await self._browser.new_context()
            try:
                await chromium.log_in(await context.new_page(), self._site, person, "/workspaces")
                self._states[person] = await context.storage_state()
            finally:
                await context.close()
        return self._states[person]


@pytest.fixture(scope="session")
def logins(browser: Browser, site: Site) -> Logins:
    """Who has logged in."""
    return Logins(browser, site)


@pytest.fixture(scope="session")
def links() -> dict[tuple[str, str], int]:
    """What was answered to which person at which link."""
    return {}


class Visit(Protocol):
    """Makes a person's browser, logged in unless that is nobody."""

    async def __call__(self, person: str = "olga", **options: Any) -> Visitor: ...


@pytest_asyncio.fixture(loop_scope="session")
async def visit(
    browser: Browser, site: Site, logins: Logins, links: dict[tuple[str, str], int]
) -> AsyncIterator[Visit]:
    """Makes browsers of people; in the end none of them may have met a fault."""
    visitors: list[Visitor] = []

    async def made(person: str = "olga", **options: Any) -> Visitor:
        if person:
            options["storage_state"] = await logins.state(person)
        visitor = Visitor(await browser.new_context(**options), person, site, links)
        visitors.append(visitor)
        return visitor

    yield made
    for visitor in visitors:
        await visitor.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []
