"""Every screen, as everybody sees it, in every state: what is shown and offered, and whether everybody can use it."""

from collections.abc import Sequence

import pytest
from playwright.async_api import Page, ViewportSize

from hack.playground import ADMIN
from hack.scenery import EMPTY, HINDERED, MANY, ODD
from hack.site import SLOW, WORKSPACE
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from workspaces.operations import Needs
from workspaces.permissions import ROLE_PERMISSIONS, Permission, Permissions, Role
from workspaces.ui.actions import BY_NAME as ACTIONS
from workspaces.ui.screens import NEW, SCREENS, Screen

EVERYTHING = frozenset(Permission)
ROLES: dict[str, Permissions] = {
    "olga": EVERYTHING,
    "adam": EVERYTHING,
    "mia": ROLE_PERMISSIONS[Role.ACCESS],
    "stan": frozenset(),
    ADMIN: EVERYTHING,
}
"""What owner, admin, member, stranger and platform admin may do on `WORKSPACE`; a machine has no login."""
OFFERED = """() => [...document.querySelectorAll('main form[method=post]')]
    .map(form => form.elements.namedItem('action').value)"""
OVERFLOW = "() => Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)"
OF_WORKSPACES = [screen for screen in SCREENS if screen.on_workspace and screen.path.count("{") == 1]
NARROW: ViewportSize = {"width": 320, "height": 640}
ZOOMED: ViewportSize = {"width": 640, "height": 400}
"""1,280 pixels at 200 %."""


def address(screen: Screen, workspace: str = WORKSPACE) -> str:
    """Where a screen is for a workspace."""
    return str(screen.address({"w": workspace, "b": workspace, "s": SLOW}))


def status(screen: Screen, person: str) -> int:
    """What a person is answered there."""
    if screen.name == NEW:
        return 200 if person == ADMIN else 403
    return 200 if screen.needs == Needs.TOKEN or may(screen.needs, person) else 403


def may(needs: Needs | Permission, person: str) -> bool:
    """Whether somebody is not refused what needs that."""
    match needs:
        case Permission():
            return needs in ROLES[person]
        case Needs.PLATFORM_ADMIN:
            return person == ADMIN
        case Needs.OWNER:
            return person in ("olga", ADMIN)
        case Needs.NOTHING | Needs.TOKEN:
            return True
        case _:
            return bool(ROLES[person])


@pytest.mark.parametrize("person", ROLES)
async def test_everybody_sees_what_is_theirs_and_is_offered_what_they_may_do(visit: Visit, person: str) -> None:
    visitor = await visit(person)
    page = await visitor.page()
    is_refusal_known = False
    for screen in SCREENS:
        code = status(screen, person)
        await visitor.open(address(screen), page, code)
        await page.get_by_role("heading", level=1).wait_for()
        offered = await page.evaluate(OFFERED)
        refused = [name for name in offered if not may(ACTIONS[name].operation.needs, person)]
        assert refused == [], screen.name
        if code >= 400:
            assert not offered, screen.name
            assert await page.locator(f"[data-error='{code}']").count() == 1, screen.name
            if is_refusal_known:
                continue
            is_refusal_known = True
        await visitor.check(page)
        assert await violations(visitor, page) == [], screen.name


@pytest.mark.parametrize("workspace", [EMPTY, HINDERED, ODD])
async def test_each_state_is_shown_to_everybody(visit: Visit, workspace: str) -> None:
    visitor = await visit(viewport=NARROW)
    page = await visitor.page()
    for screen in OF_WORKSPACES:
        await visitor.open(address(screen, workspace), page)
        await visitor.check(page)
        assert await violations(visitor, page) == [], screen.name
        assert await page.evaluate(OVERFLOW) == 0, screen.name


async def test_screens_may_be_dark_narrow_or_large(visit: Visit) -> None:
    visitor = await visit(ADMIN, color_scheme="dark", viewport=NARROW)
    page = await visitor.page()
    await _look(visitor, page, (NARROW, ZOOMED))


async def _look(visitor: Visitor, page: Page, sizes: Sequence[ViewportSize]) -> None:
    for screen in SCREENS:
        await visitor.open(address(screen), page)
        for size in sizes:
            await page.set_viewport_size(size)
            assert await page.evaluate(OVERFLOW) == 0, (screen.name, size)
            assert await violations(visitor, page) == [], (screen.name, size)


async def test_as_much_as_there_may_be(visit: Visit) -> None:
    visitor = await visit(viewport=NARROW)
    page = await visitor.page()
    for screen in OF_WORKSPACES:
        await visitor.open(address(screen, MANY), page)
        await visitor.live(page)
        assert await page.evaluate(OVERFLOW) == 0, screen.name
