"""Members are edited: what is refused says so, and two people at once lose nothing."""

import re

from playwright.async_api import Page, expect

from hack.scenery import FREE
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.integration.objects import unique

PATH = f"/workspaces/{FREE}/members"


async def add(page: Page, *members: str) -> None:
    """Open the dialog, and type."""
    await page.get_by_role("link", name="Add members …").click()
    await page.get_by_label("User names").fill("\n".join(members))


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
