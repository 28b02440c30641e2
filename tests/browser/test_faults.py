"""Servers go away and come back: pages say so, lose nothing that was typed, and are live again in time."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from hack.playground import ADMIN, NAMESPACE
from hack.scenery import FREE
from hack.site import Site
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.integration.objects import unique

MEMBERS = f"/workspaces/{FREE}/members"
RESUMES_SECONDS = 5.0


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def mended(site: Site) -> AsyncIterator[None]:
    """Whatever a test has ended is there again for the next one."""
    yield
    await asyncio.to_thread(site.cluster.start_apiserver)
    for name in site.replicas:
        if site.cluster.processes()[name] is None:
            await asyncio.to_thread(site.start, name)


def add_by_kubectl(site: Site, member: str) -> None:
    """Add a member past the API."""
    live = site.cluster.api.get("datalab", FREE, NAMESPACE)
    assert live is not None
    users = [*live["spec"]["users"], member]
    site.cluster.api.patch("datalab", FREE, {"spec": {"users": users}}, NAMESPACE)


async def resumed(visitor: Visitor, page: Page, member: str) -> None:
    """The page is live again in time, and shows what changed meanwhile."""
    seconds = visitor.seconds(RESUMES_SECONDS) * 1000
    await expect(page.locator("html")).to_have_attribute("data-live", "on", timeout=seconds)
    await expect(page.get_by_role("row").filter(has_text=member)).to_be_visible()
    await expect(page.locator("#connection")).to_be_hidden()


async def test_a_page_goes_on_with_the_other_replica(site: Site, visit: Visit) -> None:
    visitor = await visit()
    visitor.loses_servers()
    page = await visitor.open(MEMBERS)
    await visitor.live(page)
    for name in site.replicas:  # its stream is from one of them
        site.kill(name)
        add_by_kubectl(site, member := unique("m"))
        await resumed(visitor, page, member)
        await asyncio.to_thread(site.start, name)
    streams = [path for path in visitor.requests if path.startswith("/events")]
    assert len(streams) > 1, "it had to go on with another"


async def test_a_page_says_since_when_it_is_not_live_and_loses_nothing(site: Site, visit: Visit) -> None:
    visitor = await visit()
    visitor.loses_servers()
    page = await visitor.open(MEMBERS)
    await visitor.live(page)
    await page.get_by_role("link", name="Add members …").click()
    field = page.get_by_label("User names")
    await field.fill(typed := unique("m"))
    for name in site.replicas:
        site.kill(name)
    await expect(page.locator("#connection")).to_have_text(re.compile(r"Not live since \d+:\d\d:\d\d"))
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator("#announcements")).to_contain_text("What you typed is still there")
    await expect(field).to_have_value(typed)
    add_by_kubectl(site, member := unique("m"))
    await asyncio.to_thread(site.start, site.replicas[0])
    seconds = visitor.seconds(RESUMES_SECONDS) * 1000
    await expect(page.locator("html")).to_have_attribute("data-live", "on", timeout=seconds)
    await expect(page.locator("tr").filter(has_text=member)).to_be_attached()
    await expect(page.locator("#connection")).to_be_hidden()
    await expect(field).to_have_value(typed)
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.get_by_role("row").filter(has_text=typed)).to_be_visible()


async def test_without_network_a_page_says_so_at_once(visit: Visit, site: Site) -> None:
    visitor = await visit()
    visitor.loses_servers()
    page = await visitor.open(MEMBERS)
    await visitor.live(page)
    await visitor.context.set_offline(True)
    await expect(page.locator("#connection")).to_be_visible()
    add_by_kubectl(site, member := unique("m"))
    await visitor.context.set_offline(False)
    await resumed(visitor, page, member)


# An API server that starts answers before it has read its roles.
@pytest.mark.denied("get", "list", "watch", "create", "update", "patch")
async def test_while_the_api_server_is_away_pages_are_read_and_forms_refused(site: Site, visit: Visit) -> None:
    visitor, simple = await visit("adam"), await visit("adam", java_script_enabled=False)
    for person in (visitor, simple):
        person.expects_status(502, 503)  # while it starts it refuses all
    page, plain = await visitor.open(MEMBERS), await simple.open(MEMBERS)
    activity = await visitor.open(f"/workspaces/{FREE}")
    await visitor.live(page)
    site.cluster.stop_apiserver()
    await expect(page.locator("#connection")).to_contain_text("may be out of date since")
    # What is known is shown, as what it is.
    await visitor.open(MEMBERS, page)
    await expect(page.get_by_role("row").filter(has_text="mia")).to_be_visible()
    for one in (page, await simple.open(MEMBERS, plain)):
        await expect(one.locator("#connection")).to_contain_text("may be out of date since")
    # What is read from the API server says what to do, and comes by itself.
    await visitor.open(f"/workspaces/{FREE}/activity", activity, status=503)
    await expect(activity.get_by_role("heading", level=1)).to_have_text("Not available at the moment")
    await expect(activity.locator("main")).to_contain_text("tries again by itself")
    # A form says that it is refused, and keeps what was typed.
    typed = unique("m")
    for one in (page, plain):
        await one.get_by_role("link", name="Add members …").click()
        await one.get_by_label("User names").fill(f"{typed}\nhalf")
        await one.get_by_role("button", name="Add", exact=True).click()
        await expect(one.get_by_role("dialog").get_by_role("alert")).to_contain_text("Temporarily unavailable")
        await expect(one.get_by_label("User names")).to_have_value(f"{typed}\nhalf")
    await asyncio.to_thread(site.cluster.start_apiserver)
    await expect(activity.get_by_role("heading", level=1)).to_have_text("Activity", timeout=visitor.seconds(20) * 1000)
    await expect(page.locator("#connection")).to_be_hidden()
    for number, one in enumerate((page, plain)):
        await one.get_by_label("User names").fill(f"{typed}-{number}")
        await one.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_role("row").filter(has_text=f"{typed}-{number}")).to_be_visible()
    await simple.open(MEMBERS, plain)
    await expect(plain.get_by_role("row").filter(has_text=f"{typed}-1")).to_be_visible()
    site.ask(ADMIN, "DELETE", f"{MEMBERS}/{typed}-0")
    await expect(page.get_by_role("row").filter(has_text=f"{typed}-0")).to_have_count(0)
