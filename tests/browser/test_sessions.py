"""Sessions are started, waited for, opened and stopped."""

import re
from typing import Any

import pytest
from playwright.async_api import Route, expect

from hack.playground import ADMIN, DOMAIN
from hack.scenery import FREE
from hack.site import Site
from tests.browser.conftest import Visit
from tests.integration.objects import unique

PATH = f"/workspaces/{FREE}/sessions"
LAB = re.compile(rf"^https://[a-z0-9-]+\.{re.escape(DOMAIN)}/")


def states(site: Site) -> dict[str, str]:
    """State by session, as the API has them."""
    rows: list[dict[str, Any]] = site.ask(ADMIN, "GET", PATH)
    return {row["name"]: row["state"] for row in rows}


async def _lab(route: Route) -> None:
    await route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>The lab</title>")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_a_session_is_added_opened_stopped_and_removed(site: Site, visit: Visit, scripts: bool) -> None:
    visitor = await visit("adam", java_script_enabled=scripts)
    visitor.goes_to(re.compile(rf"\.{re.escape(DOMAIN)}$"))
    await visitor.context.route(LAB, _lab)
    page = await visitor.open(PATH)
    name = unique("s")
    await page.get_by_role("link", name="Add a session …").first.click()
    await page.get_by_role("dialog").get_by_label("Name").fill(name)
    await page.get_by_role("dialog").get_by_role("button", name="Add").click()
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row).to_contain_text("Stopped")
    await page.get_by_role("button", name=f"Start session {name}").click()
    await expect(page.get_by_role("button", name=f"Stop session {name}")).to_be_visible()
    await visitor.open(f"{PATH}/{name}", page)
    await page.wait_for_url(LAB, timeout=visitor.seconds(30) * 1000)
    await visitor.open(PATH, page)
    await page.get_by_role("button", name=f"Stop session {name}").click()
    await expect(page.get_by_role("button", name=f"Start session {name}")).to_be_visible()
    assert states(site)[name] == "stopped"
    await page.get_by_label(f"Remove session {name} …").click()
    await page.get_by_role("dialog").get_by_label("Type the name").fill(name)
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row).to_have_count(0)
    assert name not in states(site)
