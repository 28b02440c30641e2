"""Which parts of our scripts Chromium has run, over all tests."""

from collections.abc import Mapping
from typing import Any

from playwright.async_api import CDPSession, Page

from hack.site import Site

OTHERS = ("idiomorph",)
"""Scripts of somebody else's."""


class Coverage:
    """By name of each script, what ran of it."""

    def __init__(self, site: Site) -> None:
        self._origin = site.url
        self._sessions: dict[Page, CDPSession] = {}
        self.ran: dict[str, bytearray] = {}
        """A byte for each character of each script, 1 if it ran."""

    async def start(self, page: Page) -> None:
        """Count what a tab runs from now on."""
        session = await page.context.new_cdp_session(page)
        await session.send("Profiler.enable")
        await session.send("Profiler.startPreciseCoverage", {"callCount": False, "detailed": True})
        self._sessions[page] = session

    async def stop(self, page: Page) -> None:
        """Add what a tab has run."""
        if session := self._sessions.pop(page, None):
            for script in (await session.send("Profiler.takePreciseCoverage"))["result"]:
                self._add(script)

    def _add(self, script: Mapping[str, Any]) -> None:
        name = script["url"].rpartition("/")[2]
        if not script["url"].startswith(f"{self._origin}/") or name.startswith(OTHERS) or not script["functions"]:
            return
        ranges = [part for function in script["functions"] for part in function["ranges"]]
        length = max(part["endOffset"] for part in ranges)
        ran = bytearray(length)
        for part in ranges:  # the outer ones come first
            start, end = part["startOffset"], part["endOffset"]
            ran[start:end] = bytes([part["count"] > 0]) * (end - start)
        known = self.ran.setdefault(name, bytearray(length))
        for index, one in enumerate(ran):
            known[index] |= one

    def share(self) -> float:
        """How much of all scripts ran, 0 to 1."""
        return sum(map(sum, self.ran.values())) / sum(map(len, self.ran.values()))
