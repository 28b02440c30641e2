"""Pictures of all screens for the documentation: as they are, dark, narrow and in German.

    python -m hack.screenshots [--only SCREEN]

Look at each of them before you commit it.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from hack import chromium, nginx, scenery
from hack.cluster import ClusterError
from hack.playground import ADMIN
from hack.site import SLOW, WORKSPACE, Site
from workspaces.ui.screens import NEW, SCREENS, Screen

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
VARIANTS: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "narrow": {"viewport": NARROW},
    "german": {"viewport": WIDE, "locale": "de-DE"},
}
TALLEST = 2000
"""Pixels of a page that are shown."""


def address(screen: Screen) -> str:
    """Where a screen is."""
    return screen.address({"w": WORKSPACE, "b": f"{WORKSPACE}-results", "s": SLOW})


@contextlib.contextmanager
def _site() -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datalabd-screenshots-")))
        site = stack.enter_context(Site.started(scratch))
        scenery.build(site)
        yield site


async def _take(site: Site, only: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    async with chromium.launched([chromium.trusting(site.certificate)]) as browser:
        for variant, options in VARIANTS.items():
            for screen in SCREENS:
                if only in ("", screen.name):
                    await _take_one(browser, site, screen, variant, options)


async def _take_one(browser: Browser, site: Site, screen: Screen, variant: str, options: dict[str, Any]) -> None:
    context = await browser.new_context(**options)
    try:
        page = await context.new_page()
        await chromium.log_in(page, site, ADMIN if screen.name == NEW else "olga", address(screen))
        await page.locator("html[data-live=on]").wait_for(state="attached")
        height = await page.evaluate("() => document.documentElement.scrollHeight")
        size = options["viewport"]
        await page.set_viewport_size({"width": size["width"], "height": min(max(height, size["height"]), TALLEST)})
        name = re.sub(r"[^a-z0-9]+", "-", screen.name)
        await page.screenshot(path=IMAGES / f"{name}-{variant}.png", animations="disabled")
        print(f"docs/images/{name}-{variant}.png", flush=True)
    finally:
        await context.close()


def main() -> int:
    """Exit code 0; 1 for a failure."""
    parser = argparse.ArgumentParser(prog="python -m hack.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="SCREEN", help="one screen by its name, such as members")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if lacking := chromium.missing() or nginx.missing():
        print(lacking, file=sys.stderr)
        return 1
    try:
        with _site() as site:
            asyncio.run(_take(site, given.only))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
