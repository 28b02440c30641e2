"""What screen readers are told of each screen, kept in files: a change of one is to be looked at."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from hack.playground import ADMIN
from hack.site import OTHER, SLOW, WORKSPACE, Site
from tests.browser.conftest import Visit
from tests.browser.test_screens import address
from workspaces.ui.screens import NEW, SCREENS, Screen

SNAPSHOTS = Path(__file__).with_name("snapshots")
RENEWS = os.environ.get("SNAPSHOTS") == "write"
QUERIES = {"workspaces": f"?name={WORKSPACE}"}
"""What makes a screen the same whatever other tests left."""
UNSTEADY = (
    (re.compile(r"^ *- /url: .*\n", re.MULTILINE), ""),
    (re.compile(r"^( *- )'?row \".*\"'?:$", re.MULTILINE), r"\1row:"),  # whose name is what its cells say
    (
        re.compile(
            r"(?<!after )\b(?:in )?\d+ (?:second|minute|hour|day)s?(?: ago)?|\b\d+ (?:hr|min|sec)\b(?:, \d+ sec)?"
        ),
        "TIME",
    ),
    (re.compile(r"\"now\"|: now$", re.MULTILINE), "TIME"),
    (re.compile(r"^ *- option \"⟦.*\n", re.MULTILINE), ""),
)
"""Addresses, names of rows, times, and the pseudo-language."""
ROW = re.compile(r"^( +)- row:\n(?:\1 .*\n)+", re.MULTILINE)
OFFERED = f"Ask for {OTHER} …"
"""Of the buckets that may be asked for, as others come and go."""


def steady(screen: Screen, tree: str) -> str:
    """A tree without what is another in each run."""
    for pattern, instead in UNSTEADY:
        tree = pattern.sub(instead, tree)
    tree += "\n"
    if screen.name == "sharing":
        return ROW.sub(lambda row: "" if '- link "Ask for ' in row[0] and OFFERED not in row[0] else row[0], tree)
    return rows_once(tree) if screen.name == "activity" else tree


def rows_once(tree: str) -> str:
    """A tree with the table's head and one row, whatever has happened."""
    _, row, *others = [found[0] for found in ROW.finditer(tree)]
    for other in others:
        tree = tree.replace(other, "", 1)
    return tree.replace(row, re.sub(r"(?m)^( +)- (?:'?cell\b.*)\n(?:\1 .*\n)*", r"\1- cell\n", row))


def is_calm(site: Site) -> bool:
    """Whether everything in the workspace has become what it stays."""
    view: Any = site.ask(ADMIN, "GET", f"/workspaces/{WORKSPACE}")
    sessions = {row["name"]: row for row in view["datalab"]["sessions"]}
    is_ready = all(row["ready"] for row in view["datalab"]["stores"]) and sessions[SLOW].get("phase") == "Running"
    return is_ready and bool(sessions["default"].get("message"))  # that stores came after it had started


async def counted(page: Page) -> None:
    """Have the page with the numbers of objects, which come later if they take long."""
    await page.reload()
    await expect(page.locator("main")).to_contain_text("0 objects")


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
async def test_what_is_read_out_is_what_somebody_has_read(site: Site, visit: Visit, screen: Screen) -> None:
    site.until(lambda: is_calm(site), "stores and sessions")
    visitor = await visit(ADMIN if screen.name == NEW else "olga")
    page = await visitor.open(address(screen) + QUERIES.get(screen.name, ""))
    if screen.name in ("buckets", "bucket"):
        await counted(page)
    await visitor.live(page)
    tree = steady(screen, await page.locator("body").aria_snapshot())
    file = SNAPSHOTS / f"{screen.name}.yaml"
    if RENEWS:
        file.parent.mkdir(exist_ok=True)
        file.write_text(tree)
    assert tree == (file.read_text() if file.exists() else ""), "`make snapshots` writes it anew: read what changed"
