"""What becomes of pages that are open, and what is shown where there is nothing: on every screen, and to everybody."""

import asyncio
from collections.abc import Mapping

import pytest
from playwright.async_api import Page, expect

from hack.playground import ADMIN
from hack.scenery import FREE, GONE
from hack.site import WORKSPACE, Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.browser.test_screens import OF_WORKSPACES, address
from tests.browser.visitor import Visitor

INVALID = (
    ("home", "delete", {"Type the name of the workspace": "another"}, 422),
    ("members", "add", {"User names": "x" * 256}, 422),
    ("buckets", "add", {"Name": "Not a name"}, 422),
    ("bucket", "edit-rules", {"Path": "tmp/*", "From this age on": "soon"}, 422),
    ("sharing", "share", {"Workspace": "Not a name"}, 422),
    ("sessions", "add", {"Name": "Not a name"}, 422),
    ("stores", "add", {"Name": "Not a name"}, 422),
)
"""What is not taken, by screen and dialog."""


async def tabs(visitor: Visitor, workspace: str) -> Mapping[str, Page]:
    """A tab with each screen of a workspace, all of them live."""
    found = {}
    for screen in OF_WORKSPACES:
        found[screen.name] = await visitor.open(address(screen, workspace))
        await visitor.live(found[screen.name])
    return found


async def test_whoever_loses_a_workspace_learns_it_on_every_screen(site: Site, visit: Visit) -> None:
    member, owner = await visit("mia"), await visit("olga")
    member.expects_status(403)
    owner.expects_status(404)
    theirs, hers = await tabs(member, GONE), await tabs(owner, GONE)
    await asyncio.to_thread(site.ask, ADMIN, "DELETE", f"/workspaces/{GONE}/members/mia")
    for name, page in theirs.items():
        await expect(page.locator("[data-error='403']"), name).to_be_visible()
        await expect(page.locator("main form"), name).to_have_count(0)
    await asyncio.to_thread(site.ask, ADMIN, "DELETE", f"/workspaces/{GONE}")
    for name, page in hers.items():
        await expect(page.locator("[data-error='404']"), name).to_be_visible()
        await expect(page.get_by_role("heading", level=1), name).to_have_text("There is nothing here")
        await expect(page.get_by_role("link", name="All workspaces"), name).to_be_visible()
        assert await violations(owner, page) == [], name


async def test_without_network_every_screen_says_so_and_goes_on(visit: Visit) -> None:
    visitor = await visit()
    visitor.loses_servers()
    pages = await tabs(visitor, WORKSPACE)
    await visitor.context.set_offline(True)
    for name, page in pages.items():
        await expect(page.get_by_role("status"), name).to_contain_text("Not live since")
        assert await violations(visitor, page) == [], name
    await visitor.context.set_offline(False)
    for page in pages.values():
        await visitor.live(page)
        await expect(page.locator("#connection")).to_be_hidden()


# An API server that starts answers before it has read its roles.
@pytest.mark.denied("get", "list", "watch", "create", "update", "patch")
async def test_while_the_cluster_is_away_every_screen_says_so_and_goes_on(site: Site, visit: Visit) -> None:
    visitor = await visit()
    visitor.expects_status(502, 503)
    pages = await tabs(visitor, WORKSPACE)
    await asyncio.to_thread(site.cluster.stop_apiserver)
    try:
        for name, page in pages.items():
            await expect(page.get_by_role("status"), name).to_contain_text("may be out of date since")
            assert await violations(visitor, page) == [], name
    finally:
        await asyncio.to_thread(site.cluster.start_apiserver)
    for name, page in pages.items():
        await expect(page.locator("#connection"), name).to_be_hidden(timeout=visitor.seconds(15) * 1000)


async def test_whoever_has_no_workspace_is_told_how_to_get_one(visit: Visit) -> None:
    visitor = await visit("nell")
    page = await visitor.open("/workspaces")
    await expect(page.locator("main")).to_contain_text("Ask the owner of one to add you")
    assert await violations(visitor, page) == []


async def test_a_list_that_is_filtered_or_goes_on_can_be_left(visit: Visit) -> None:
    visitor = await visit("olga")
    page = await visitor.open("/workspaces?name=zzz")
    await expect(page.locator("main")).to_contain_text("No workspace is like that")
    assert await violations(visitor, page) == []
    await visitor.open("/workspaces?limit=2", page)
    await page.get_by_role("link", name="Next page").click()
    await expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert await violations(visitor, page) == []


@pytest.mark.parametrize(("name", "dialog", "fields", "status"), INVALID)
async def test_each_form_says_what_it_does_not_take(
    visit: Visit, name: str, dialog: str, fields: dict[str, str], status: int
) -> None:
    visitor = await visit(ADMIN)
    visitor.expects_status(status)
    screen = next(screen for screen in OF_WORKSPACES if screen.name == name)
    page = await visitor.open(f"{address(screen, FREE)}?dialog={dialog}")
    shown = page.get_by_role("dialog")
    for label, text in fields.items():
        await shown.get_by_label(label).first.fill(text)
    await shown.locator("form button").first.click()
    wrong = shown.locator("[aria-invalid=true]").first
    await expect(wrong).to_be_focused()
    assert await violations(visitor, page) == []
    for label, text in fields.items():
        await expect(shown.get_by_label(label).first).to_have_value(text)


async def test_every_dialog_can_be_used(visit: Visit) -> None:
    visitor = await visit(ADMIN)
    page = await visitor.page()
    for screen in OF_WORKSPACES:
        await visitor.open(address(screen), page)
        for dialog in await page.locator("main dialog").all():
            await dialog.evaluate("one => one.showModal()")
            assert await violations(visitor, page) == [], (screen.name, await dialog.get_attribute("id"))
            await dialog.evaluate("one => one.close()")
