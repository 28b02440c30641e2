"""People come in by the realm's own page, and go; and what pages say once a login or a membership has ended."""

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from hack import chromium
from hack.keycloak import WORKSPACE_CLIENT, Realm
from hack.playground import ADMIN
from hack.scenery import FREE
from hack.site import OTHER, WORKSPACE, Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.integration.objects import unique
from workspaces.login import LOGOUT

HOME, MEMBERS = f"/workspaces/{WORKSPACE}", f"/workspaces/{FREE}/members"
LIFE_SECONDS = 15
"""Of access tokens, where a test waits for their end. They are renewed ten seconds before."""
LISTED = "() => [...document.querySelectorAll('main tbody th a')].map(one => one.textContent.trim())"


async def stranger(visit: Visit, site: Site) -> tuple[Visitor, Page]:
    """A browser that nobody has logged in with, and may be led to the issuer."""
    visitor = await visit("")
    visitor.goes_to(re.compile(re.escape(urlsplit(site.issuer).netloc)))
    return visitor, await visitor.page()


@contextlib.contextmanager
def short_lived_tokens(realm: Realm) -> Iterator[None]:
    """Have access tokens expire early."""
    client = realm.client(WORKSPACE_CLIENT)
    assert client is not None

    def set_life(seconds: str) -> None:
        attributes = client["attributes"] | {"access.token.lifespan": seconds}
        realm.request("PUT", f"/clients/{client['id']}", body=client | {"attributes": attributes})

    set_life(str(LIFE_SECONDS))
    try:
        yield
    finally:
        set_life("")


async def test_a_person_logs_in_comes_where_she_wanted_to_and_logs_out(site: Site, visit: Visit) -> None:
    visitor, page = await stranger(visit, site)
    await chromium.log_in(page, site, "mia", HOME)
    await expect(page.get_by_role("heading", level=1)).to_have_text(WORKSPACE)
    other = await visitor.open(HOME)
    await visitor.live(other)
    visitor.expects_status(401)
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url(f"{site.url}{LOGOUT}")
    await expect(other.get_by_role("link", name="Log in")).to_be_visible()
    await page.goto(f"{site.url}{HOME}")
    assert not page.url.startswith(site.url), "the issuer asks again"


async def test_to_log_out_ends_the_session_of_the_realm(site: Site, realm: Realm, visit: Visit) -> None:
    others = realm.sessions("mia")
    _, page = await stranger(visit, site)
    path = f"/workspaces?name={WORKSPACE}"
    await chromium.log_in(page, site, "mia", path)
    assert await page.get_by_label("Name contains").input_value() == WORKSPACE
    assert len(realm.sessions("mia") - others) == 1
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("link", name="Log in").click()
    await expect(page.locator("#username")).to_be_visible()
    assert realm.sessions("mia") == others
    await page.goto(f"{site.url}{path}")
    await expect(page.locator("#password")).to_be_visible()


@pytest.mark.parametrize(
    ("person", "role", "status"),
    [
        ("olga", "owner", 200),
        ("adam", "admin", 200),
        ("mia", "member", 200),
        ("stan", "stranger", 403),
        (ADMIN, "platform admin", 200),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
@pytest.mark.usefixtures("realm")
async def test_everybody_comes_in_by_the_realm(site: Site, visit: Visit, person: str, role: str, status: int) -> None:
    visitor, page = await stranger(visit, site)
    await chromium.log_in(page, site, person, "/workspaces")
    await expect(page.locator("header.top")).to_contain_text(person)
    listed = await page.evaluate(LISTED)
    assert (WORKSPACE in listed, OTHER in listed) == (status == 200, person in ("stan", ADMIN)), role
    await visitor.open(HOME, page, status)
    assert (await page.locator("nav a").count() > 0) is (status == 200)


async def test_a_password_that_is_wrong_lets_nobody_in(site: Site, realm: Realm, visit: Visit) -> None:
    others = realm.sessions("olga")
    _, page = await stranger(visit, site)
    await page.goto(f"{site.url}{HOME}")
    await page.fill("#username", "olga")
    await page.fill("#password", "a guess")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Invalid username or password.")).to_be_visible()
    assert page.url.startswith(realm.issuer)
    assert realm.sessions("olga") == others


async def test_when_the_realm_ends_a_session_pages_say_so_and_nothing_typed_is_lost(
    site: Site, realm: Realm, visit: Visit
) -> None:
    others = realm.sessions("adam")
    visitor, writing = await stranger(visit, site)
    visitor.expects_status(401)
    with short_lived_tokens(realm):
        await chromium.log_in(writing, site, "adam", MEMBERS)
        reading = await visitor.open(HOME)
        await visitor.live(reading)
        await visitor.live(writing)
        (session,) = realm.sessions("adam") - others
        realm.end_session(session)
        await writing.bring_to_front()
        await writing.get_by_role("link", name="Add members …").click()
        field = writing.get_by_label("User names")
        await field.fill(member := unique("m"))
        deadline = visitor.seconds(LIFE_SECONDS + 10) * 1000

        # Who reads is shown nothing old; who writes goes on.
        await expect(reading.get_by_role("heading", level=1)).to_have_text("You are not logged in", timeout=deadline)
        await expect(reading.locator("header")).not_to_contain_text("adam")
        await expect(reading.locator("nav a")).to_have_count(0)
        notice = writing.get_by_role("dialog").locator(".ended")
        await expect(notice).to_contain_text("Your login has ended", timeout=deadline)
    await expect(writing.locator("#announcements")).to_contain_text("Your login has ended")
    await expect(writing.locator("#connection")).to_contain_text("Not live since")
    await expect(field).to_have_value(member)
    assert await violations(visitor, writing) == []
    await writing.get_by_role("button", name="Add", exact=True).click()
    await expect(notice).to_be_visible()
    await expect(field).to_have_value(member)

    async with visitor.context.expect_page() as opened:
        await notice.get_by_role("link", name="Log in").click()
    login = await opened.value
    await login.fill("#username", "adam")
    await login.fill("#password", site.password)
    await login.keyboard.press("Enter")
    await login.wait_for_url(f"{site.url}{MEMBERS}")
    await login.close()
    await visitor.live(writing)
    await expect(notice).to_have_count(0)
    await expect(field).to_have_value(member)
    await writing.get_by_role("button", name="Add", exact=True).click()
    await expect(writing.get_by_role("row").filter(has_text=member)).to_be_visible()
    await reading.get_by_role("link", name="Log in").click()
    await expect(reading.get_by_role("heading", level=1)).to_have_text(WORKSPACE)


async def test_a_removed_member_stays_out_however_she_logs_in(site: Site, realm: Realm, visit: Visit) -> None:
    visitor, page = await stranger(visit, site)
    visitor.expects_status(403)
    await chromium.log_in(page, site, "mia", f"/workspaces/{FREE}")
    await visitor.live(page)
    site.ask(ADMIN, "DELETE", f"/workspaces/{FREE}/members/mia")
    try:
        await expect(page.get_by_role("heading", level=1)).to_have_text("This is not open to you")
        site.until(lambda: "mia" not in realm.members(FREE), "the realm without her")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url(f"{site.url}{LOGOUT}")
        await chromium.log_in(page, site, "mia", "/workspaces")
        listed = await page.evaluate(LISTED)
        assert (WORKSPACE in listed, FREE in listed) == (True, False)
        await visitor.open(f"/workspaces/{FREE}", page, 403)
    finally:
        again = {"add_memberships": [{"member": "mia", "role": "user"}]}
        site.ask(ADMIN, "PUT", f"/workspaces/{FREE}", again)
        site.until(lambda: "mia" in realm.members(FREE), "her in the realm")
