"""axe-core on a page, as it is."""

from typing import Any

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page

from tests.browser.visitor import Visitor

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
OPTIONS = {"runOnly": {"type": "tag", "values": list(TAGS)}, "resultTypes": ["violations"]}


async def violations(visitor: Visitor, page: Page) -> list[str]:
    """A line for each part of the page that breaks a rule of WCAG 2.2 AA or a best practice, whatever its impact."""

    async def run() -> Any:
        return await Axe().run(page, options=OPTIONS)

    found = (await visitor.paused(run)).response["violations"]
    return [f"{rule['id']} ({rule['impact']}): {node['html'][:200]}" for rule in found for node in rule["nodes"]]
