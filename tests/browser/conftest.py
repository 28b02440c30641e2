"""One stage for all tests of the pages, a browser that stays, and a context of its own for each test and person."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState, expect

from hack import chromium, keycloak, nginx, scenery
from hack.deadlines import scaled
from hack.keycloak import Realm
from hack.minio import MinIO
from hack.site import MACHINE, Site
from tests.browser.visitor import Visitor
from tests.servers import minio_server as minio_server
from tests.servers import shared_directory


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Have all tests of this directory share a loop, as they do the browser; the first one waits for the stage."""
    item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    item.add_marker(pytest.mark.cluster)
    item.add_marker(pytest.mark.servers("Chromium", "nginx", "MinIO", *(() if keycloak.missing() else ("Keycloak",))))
    item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, minio_server: MinIO
) -> Iterator[Site]:
    """The pages of all workspaces of `scenery`, with logins at a real Keycloak and buckets at a MinIO.

    Where Keycloak cannot run, people log in at our own issuer, and tests that need a realm are skipped. The page of all
    parts and the pseudo-language are there, as they are for who develops them.
    """
    if lacking := chromium.missing() or nginx.missing():
        pytest.skip(lacking)
    with contextlib.ExitStack() as stack:
        server = None
        if not keycloak.missing():
            server = stack.enter_context(keycloak.shared(shared_directory(request.config)))
        site = stack.enter_context(
            Site.started(tmp_path_factory.mktemp("site"), server, minio_server, LOG_LEVEL="debug")
        )
        scenery.build(site)
        yield site


@pytest.fixture(scope="session")
def realm(site: Site) -> Realm:
    """Where people log in; skipped where that is no Keycloak."""
    if site.realm is None:
        pytest.skip(keycloak.missing() or "no Keycloak")
    return site.realm


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
    """Makes a person's browser, logged in unless that is nobody; the machine's sends its token instead."""

    async def __call__(self, person: str = "olga", **options: Any) -> Visitor: ...


@pytest_asyncio.fixture(loop_scope="session")
async def visit(
    browser: Browser, site: Site, logins: Logins, links: dict[tuple[str, str], int]
) -> AsyncIterator[Visit]:
    """Makes browsers of people; in the end none of them may have met a fault."""
    visitors: list[Visitor] = []

    async def made(person: str = "olga", **options: Any) -> Visitor:
        headers = {}
        if person == MACHINE:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(site.token, person)}"
        elif person:
            options["storage_state"] = await logins.state(person)
        context = await browser.new_context(**options, extra_http_headers=headers)
        visitor = Visitor(context, person, site, links, headers)
        visitors.append(visitor)
        return visitor

    yield made
    for visitor in visitors:
        await visitor.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []
