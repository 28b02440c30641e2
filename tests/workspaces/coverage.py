"""Which parts of our scripts Chromium has run, over all tests of a module."""

from collections.abc import Mapping
from typing import Any

from playwright.async_api import CDPSession, Page

OTHERS = ("idiomorph",)
"""Scripts of somebody else's."""


class Coverage:
    """By name of each script, what ran of it."""

    def __init__(self) -> None:
        self._sessions: dict[Page, CDPSession] = {}
        self.ran: dict[str, bytearray] = {}
        """A byte for each character of each script, 1 if it ran."""

    async def start(self, page: Page) -> None:
        """Count what a tab runs from now on."""
        session = await page.context.new_cdp_session(page)
        await session.send("Profiler.enable")
        await session.send("Profiler.startPreciseCoverage", {"callCount": False, "detailed": True})
        self._sessions[page] = session

    async def stop(self, origin: str) -> None:
        """Add what all tabs have run of the scripts of this origin."""
        for session in self._sessions.values():
            for script in (await session.send("Profiler.takePreciseCoverage"))["result"]:
                if script["url"].startswith(f"{origin}/") and script["functions"]:
                    self._add(script)
        self._sessions.clear()

    def _add(self, script: Mapping[str, Any]) -> None:
        name = script["url"].rpartition("/")[2]
        if not name.endswith(".js") or name.startswith(OTHERS):
            return
        ranges = [part for function in script["functions"] for part in function["ranges"]]
        ran = bytearray(max(part["endOffset"] for part in ranges))
        for part in ranges:  # the outer ones come first
            start, end = part["startOffset"], part["endOffset"]
            ran[start:end] = bytes([part["count"] > 0]) * (end - start)
        known = self.ran.setdefault(name, bytearray(len(ran)))
        known[:] = bytes(one | other for one, other in zip(known, ran, strict=True))

    def share(self) -> float:
        """How much of all scripts ran, 0 to 1."""
        return sum(map(sum, self.ran.values())) / sum(map(len, self.ran.values()))
