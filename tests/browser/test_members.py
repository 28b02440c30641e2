"""Members are added, given roles and removed: with a keyboard alone, without scripts, and by two people at once."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from hack.playground import ADMIN
from hack.scenery import FREE
from hack.site import Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor, press, tab_to
from tests.integration.objects import unique

PATH = f"/workspaces/{FREE}/members"


def names(site: Site) -> dict[str, str]:
    """Roles by member, as the API has them."""
    rows: list[dict[str, Any]] = site.ask(ADMIN, "GET", f"/workspaces/{FREE}")["datalab"]["memberships"]
    return {row["member"]: row["role"] for row in rows}


async def add(page: Page, *members: str) -> None:
    """Open the dialog, and type."""
    await page.get_by_role("link", name="Add members …").click()
    await page.get_by_label("User names").fill("\n".join(members))


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_several_members_are_added_given_a_role_and_removed(site: Site, visit: Visit, scripts: bool) -> None:
    visitor = await visit("adam", java_script_enabled=scripts)
    page = await visitor.open(PATH)
    first, second = unique("m"), unique("m")
    await add(page, first, second)
    await page.get_by_role("button", name="Add", exact=True).click()
    row = page.get_by_role("row").filter(has_text=first)
    await expect(row).to_contain_text("User")
    assert {name: names(site).get(name) for name in (first, second)} == {first: "user", second: "user"}
    await page.get_by_role("button", name=f"Make {first} an administrator").click()
    await expect(row).to_contain_text("Administrator")
    await row.get_by_label(f"Remove {first} …").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row).to_have_count(0)
    assert {name: names(site).get(name) for name in (first, second)} == {first: None, second: "user"}


async def test_what_is_refused_says_so_at_its_field_and_is_still_there(visit: Visit) -> None:
    visitor = await visit("adam")
    visitor.expects_status(422)
    page = await visitor.open(PATH)
    await add(page, "x" * 256)
    await page.get_by_role("button", name="Add", exact=True).click()
    field = page.get_by_label("User names")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_have_value("x" * 256)
    await expect(field).to_have_accessible_description(re.compile("255"))
    assert await violations(visitor, page) == []
    await expect(field).to_be_focused()


async def test_a_member_is_added_with_the_keyboard_alone(site: Site, visit: Visit) -> None:
    visitor = await visit("adam")
    page = await visitor.open(PATH)
    member = unique("m")
    await press(page, "Tab", "Enter")  # to the content
    await tab_to(page, page.get_by_role("link", name="Add members …"))
    await press(page, "Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await tab_to(page, page.get_by_label("User names"))
    await page.keyboard.type(member)
    await tab_to(page, page.get_by_role("button", name="Add", exact=True))
    await press(page, "Enter")
    await expect(page.locator("#announcements")).to_contain_text("added")
    await expect(page.get_by_role("row").filter(has_text=member)).to_be_visible()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert names(site)[member] == "user"


async def test_two_people_see_each_others_changes_and_lose_nothing_typed(visit: Visit) -> None:
    visitors: list[Visitor] = [await visit("olga"), await visit("adam")]
    pages = [await visitor.open(PATH) for visitor in visitors]
    for visitor, page in zip(visitors, pages, strict=True):
        await visitor.live(page)
    hers, his = pages
    await add(hers, "half writ")
    await hers.get_by_label("User names").evaluate("field => field.setSelectionRange(2, 6)")
    member = unique("m")
    await add(his, member)
    await his.get_by_role("button", name="Add", exact=True).click()
    await expect(his.get_by_role("row").filter(has_text=member)).to_be_visible()
    await expect(hers.locator("tr").filter(has_text=member)).to_be_attached(timeout=visitors[0].seconds(1) * 1000)
    field = hers.get_by_label("User names")
    await expect(field).to_have_value("half writ")
    await expect(field).to_be_focused()
    assert await field.evaluate("field => [field.selectionStart, field.selectionEnd]") == [2, 6]
    await expect(hers.get_by_role("dialog")).to_be_visible()
    await field.fill(another := unique("m"))
    await hers.get_by_role("button", name="Add", exact=True).click()
    await expect(his.get_by_role("row").filter(has_text=another)).to_be_visible()
