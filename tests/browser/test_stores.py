"""Stores are added, and removed once it is clear what that means."""

from typing import Any

import pytest
from playwright.async_api import expect

from hack.playground import ADMIN
from hack.scenery import FREE
from hack.site import Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.integration.objects import unique

PATH = f"/workspaces/{FREE}/stores"


def names(site: Site) -> set[str]:
    """Names of its stores, as the API has them."""
    rows: list[dict[str, Any]] = site.ask(ADMIN, "GET", f"/workspaces/{FREE}")["datalab"]["stores"]
    return {row["name"] for row in rows}


@pytest.mark.parametrize("scripts", [True], ids=["scripts"])
async def test_a_store_is_added_and_removed(site: Site, visit: Visit, scripts: bool) -> None:
    visitor = await visit("adam", java_script_enabled=scripts)
    visitor.expects_status(422)
    page = await visitor.open(PATH)
    name = unique("s")
    await page.get_by_role("link", name="Add a store …").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Kind").select_option("cache")
    await dialog.get_by_label("Name").fill(name)
    await dialog.get_by_label("Size", exact=True).fill("1Gi")
    await dialog.get_by_role("button", name="Add").click()
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row).to_be_visible()
    assert name in names(site)
    await row.get_by_role("button", name="Remove …").click()
    await expect(dialog).to_be_visible()
    assert await violations(visitor, page) == []
    await dialog.get_by_role("textbox").fill("another")
    await dialog.get_by_role("button").first.click()
    await expect(dialog.get_by_role("textbox")).to_have_accessible_description(f"must be {name}")
    assert name in names(site)
    await dialog.get_by_role("textbox").fill(name)
    await dialog.get_by_role("button").first.click()
    await expect(row).to_have_count(0)
    assert name not in names(site)
