"""Pictures of all screens for the documentation: as they are, dark, narrow and in German; and of some dialogs.

    python -m hack.screenshots [--only SCREEN]

pngquant makes them small: 256 colours are enough for pages. Ages of what is shown are those of a lab in use, so that
pictures change with the pages alone. Look at each of them before you commit it.
"""

import argparse
import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from hack import chromium, lab, minio, nginx
from hack.cluster import ClusterError
from hack.playground import ADMIN
from hack.site import Site
from workspaces.ui.screens import NEW, SCREENS, Screen

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
VARIANTS: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "narrow": {"viewport": NARROW},
    "german": {"viewport": WIDE, "locale": "de-DE"},
}
DIALOGS = {
    "members": ("add", {"names": "sofia.rossi, p.novak"}),
    "bucket": ("edit-rules", {}),
    "sharing": ("grant-", {"reason": "For the paper on sea level; please cite us"}),
}
"""Of some screens: how the id of a dialog begins that is shown in one more picture, and what is typed into it."""
TALLEST = 2000
"""Pixels of a page that are shown."""
DAY = 24 * 60
AGES = {
    "home": (200, 24 * DAY),
    "bucket": (26 * DAY, 26 * DAY, 3 * DAY, 9 * DAY, 2 * DAY, 2 * DAY),
    "sharing": (200, 6 * DAY, 7 * DAY, 2 * DAY, 3 * DAY, 8 * DAY, 4 * DAY, 5 * DAY),
    "session": (2,),
    "stores": (24 * DAY, 24 * DAY, 3 * DAY, 24 * DAY),
    "credentials": (24 * DAY, 3 * DAY, 24 * DAY),
    "activity": (4, 9, 14, 17, 21, 26, 33, 34, 41, 46, 48, 50, 55, 57),
}
"""Minutes since each time of a screen, from its top; the last one holds for what is left, and 24 days elsewhere."""
AGED = """async ages => {
    const { localise, now } = await import(document.querySelector("link[href$='/time.js']").href);
    const past = [...document.querySelectorAll("time[datetime]")].filter(one => Date.parse(one.dateTime) < now());
    past.forEach((one, at) => {
        const minutes = ages[Math.min(at, ages.length - 1)];
        one.dateTime = new Date(now() - minutes * 60000).toISOString();
        one.removeAttribute("title");
    });
    localise(document);
}"""


def address(screen: Screen) -> str:
    """Where a screen is."""
    return screen.address({"w": lab.LAB, "b": lab.bucket(), "s": lab.BATCH})


@contextlib.contextmanager
def _site() -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datalabd-screenshots-")))
        storage = stack.enter_context(minio.MinIO(scratch / "minio"))
        site = stack.enter_context(Site.started(scratch, minio=storage))
        lab.build(site)
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
        await chromium.log_in(page, site, ADMIN if screen.name == NEW else lab.OWNER, address(screen))
        await page.locator("html[data-live=on]").wait_for(state="attached")
        await page.evaluate(AGED, AGES.get(screen.name, (24 * DAY,)))
        height = await page.evaluate("() => document.documentElement.scrollHeight")
        size = options["viewport"]
        await page.set_viewport_size({"width": size["width"], "height": min(max(height, size["height"]), TALLEST)})
        await _keep(page, f"{screen.name}-{variant}")
        if variant == "light" and screen.name in DIALOGS:
            await page.set_viewport_size(size)
            start, typed = DIALOGS[screen.name]
            await page.locator(f"[data-opens^='{start}']").first.click()
            for name, text in typed.items():
                await page.locator(f"dialog[open] [name={name}]").fill(text)
            await _keep(page, f"{screen.name}-dialog")
    finally:
        await context.close()


async def _keep(page: Page, name: str) -> None:
    """Write a picture, of as few bytes as show it."""
    path = IMAGES / f"{re.sub('[^a-z0-9]+', '-', name)}.png"
    await page.screenshot(path=path, animations="disabled", caret="hide")
    small = ["pngquant", "--force", "--skip-if-larger", "--strip", "--speed=1", "--output", str(path), "--", str(path)]
    done = await asyncio.to_thread(subprocess.run, small, capture_output=True, text=True)
    if done.returncode not in (0, 98):  # 98: it was as small as that before
        raise ClusterError(f"pngquant: {done.stderr.strip()}")
    print(path.relative_to(IMAGES.parents[1]), flush=True)


def missing() -> str | None:
    """What is to be installed before pictures can be taken; None if nothing is."""
    lacking = chromium.missing() or nginx.missing() or minio.missing()
    if lacking or shutil.which("pngquant"):
        return lacking
    return "no pngquant: install it (on Debian, pngquant)"


def main() -> int:
    """Exit code 0; 1 for a failure."""
    parser = argparse.ArgumentParser(prog="python -m hack.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="SCREEN", help="one screen by its name, such as members")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if lacking := missing():
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
