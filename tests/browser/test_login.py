"""People come in by the issuer's own page, and go."""

import re
from urllib.parse import urlsplit

from playwright.async_api import expect

from hack import chromium
from hack.site import WORKSPACE, Site
from tests.browser.conftest import Visit
from workspaces.login import LOGOUT

HOME = f"/workspaces/{WORKSPACE}"


async def test_a_person_logs_in_comes_where_she_wanted_to_and_logs_out(site: Site, visit: Visit) -> None:
    visitor = await visit("")
    visitor.goes_to(re.compile(re.escape(urlsplit(site.issuer).netloc)))
    page = await visitor.page()
    await chromium.log_in(page, site, "mia", HOME)
    await expect(page.get_by_role("heading", level=1)).to_have_text(WORKSPACE)
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url(f"{site.url}{LOGOUT}")
    await page.goto(f"{site.url}{HOME}")
    assert not page.url.startswith(site.url), "the issuer asks again"
