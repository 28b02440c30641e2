"""Pages show what is, and say so when they cannot know."""

import asyncio
import re
import time

from playwright.async_api import expect

from hack.playground import ADMIN
from hack.scenery import FREE
from hack.site import WORKSPACE, Site
from tests.browser.conftest import Visit
from tests.integration.objects import unique

MEMBERS = f"/workspaces/{FREE}/members"
TABS = 10
DAY_MS = 24 * 3600 * 1000
WRONG_CLOCK = f"""
    const Right = Date;
    globalThis.Date = class Date extends Right {{
        constructor(...given) {{ given.length ? super(...given) : super(Right.now() + {DAY_MS}); }}
        static now() {{ return Right.now() + {DAY_MS}; }}
    }};
"""


def add(site: Site, member: str) -> None:
    """Add a member by the API."""
    site.ask(ADMIN, "PUT", f"/workspaces/{FREE}", {"add_memberships": [{"member": member, "role": "user"}]})


async def test_ten_tabs_of_one_browser_are_live(site: Site, visit: Visit) -> None:
    visitor = await visit()
    pages = [await visitor.open(MEMBERS) for _ in range(TABS)]
    await asyncio.gather(*map(visitor.live, pages))
    streams = [path for path in visitor.requests if path.startswith("/events")]
    assert len(streams) == 1, "HTTP/1.1 has six connections for a host"
    add(site, member := unique("m"))
    for page in pages:
        await expect(page.get_by_role("row").filter(has_text=member)).to_be_visible()
    # The tab with the stream goes, and another takes over.
    await pages[0].close()
    add(site, member := unique("m"))
    for page in pages[1:]:
        await expect(page.get_by_role("row").filter(has_text=member)).to_be_visible()


async def test_a_wrong_clock_changes_no_time(visit: Visit) -> None:
    visitor = await visit()
    await visitor.context.add_init_script(WRONG_CLOCK)
    page = await visitor.open(f"/workspaces/{WORKSPACE}")
    assert await page.evaluate("Date.now()") - time.time() * 1000 > DAY_MS / 2
    made = page.locator("main dt", has_text="Created").locator("xpath=following-sibling::dd[1]//time")
    await expect(made).to_have_text(re.compile(r"(second|minute|hour)s? ago|now"))
