"""Credentials are in the page when they are asked for, and gone when nobody looks any more."""

import base64

from playwright.async_api import expect

from hack.playground import NAMESPACE
from hack.site import WORKSPACE, Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit

PATH = f"/workspaces/{WORKSPACE}/credentials"
LEAVES = """() => {
    Object.defineProperty(document, 'hidden', {value: true, configurable: true});
    document.dispatchEvent(new Event('visibilitychange'));
}"""


def key(site: Site) -> str:
    """The secret key of the object storage."""
    secret = site.cluster.api.get("secret", WORKSPACE, NAMESPACE)
    assert secret is not None
    return base64.b64decode(secret["data"]["AWS_SECRET_ACCESS_KEY"]).decode()


async def test_they_are_shown_copied_and_gone_when_the_tab_is_left(site: Site, visit: Visit) -> None:
    visitor = await visit("mia", permissions=["clipboard-read", "clipboard-write"])
    page = await visitor.open(PATH)
    await visitor.live(page)
    async with visitor.showing():
        await page.get_by_role("button", name="Show").click()
        shown = page.get_by_text(key(site), exact=True).first
        await expect(shown).to_be_visible()
        assert await violations(visitor, page) == []
        await page.get_by_role("button", name="Copy: Secret key").click()
        await expect(page.locator("#announcements")).not_to_be_empty()
        assert await page.evaluate("navigator.clipboard.readText()") == key(site)
        await page.evaluate(LEAVES)
        await expect(shown).to_have_count(0)
    await visitor.check(page)


async def test_they_are_hidden_after_a_minute(site: Site, visit: Visit) -> None:
    visitor = await visit("mia")
    page = await visitor.page()
    await page.clock.install()
    await visitor.open(PATH, page)
    async with visitor.showing():
        await page.get_by_role("button", name="Show").click()
        shown = page.get_by_text(key(site), exact=True).first
        await expect(shown).to_be_visible()
        await page.clock.fast_forward(61_000)
        await expect(shown).to_have_count(0)
    await expect(page.get_by_role("button", name="Show")).to_be_visible()
