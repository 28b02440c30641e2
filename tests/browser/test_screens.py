"""Every screen, as everybody sees it, in every state: what is shown and offered, and whether everybody can use it."""

from collections.abc import Sequence

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, ViewportSize

from hack.playground import ADMIN
from hack.scenery import EMPTY, GONE, HINDERED, LONGEST, MANY, ODD
from hack.site import MACHINE, SLOW, WORKSPACE, Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Logins, Visit
from tests.browser.visitor import Visitor
from workspaces.operations import Needs
from workspaces.permissions import ROLE_PERMISSIONS, Permission, Permissions, Role
from workspaces.ui.actions import BY_NAME as ACTIONS
from workspaces.ui.actions import Action
from workspaces.ui.screens import NEW, SCREENS, Screen

EVERYTHING = frozenset(Permission)
ROLES: dict[str, Permissions] = {
    "olga": EVERYTHING,
    "adam": EVERYTHING,
    "mia": ROLE_PERMISSIONS[Role.ACCESS],
    "stan": frozenset(),
    MACHINE: ROLE_PERMISSIONS[Role.API],
    ADMIN: EVERYTHING,
}
"""What owner, admin, member, stranger, the workspace's own client and platform admin may do on `WORKSPACE`."""
OFFERED = """() => [...document.querySelectorAll('main form[method=post]')]
    .map(form => form.elements.namedItem('action').value)"""
IDLE = """() => [...document.querySelectorAll('main button, main input[type=submit], main [role=button]')]
    .filter(one => !one.form && !('copy' in one.dataset)).map(one => one.outerHTML)"""
"""Controls that no form has, and no script of ours."""
EDITS = {
    "add_members": Permission.MANAGE_MEMBERS,
    "add_bucket": Permission.MANAGE_BUCKETS,
    "add_store": Permission.MANAGE_STORES,
}
"""What actions need that add to a workspace, by what they add."""
FULL = frozenset({"add_session"})
"""Not offered where there are as many as may be."""
SECOND = frozenset({"change_rules", "rotate", "backup", "restore", "remove_store"})
"""Actions whose forms are there once the first step of two was answered."""
OVERFLOW = "() => Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)"
OF_WORKSPACES = [screen for screen in SCREENS if screen.on_workspace]
SESSIONS = {WORKSPACE: SLOW, GONE: SLOW, ODD: LONGEST}
"""The one that is looked at; the page of one that is stopped starts it, unless it is looked at again."""
BUCKETS = {ODD: f"{ODD}-{'b' * (62 - len(ODD))}"}
NARROW: ViewportSize = {"width": 320, "height": 640}
ZOOMED: ViewportSize = {"width": 640, "height": 400}
"""1,280 pixels at 200 %."""


def address(screen: Screen, workspace: str = WORKSPACE) -> str:
    """Where a screen is for a workspace."""
    parts = {"w": workspace, "b": BUCKETS.get(workspace, workspace), "s": SESSIONS.get(workspace, "default")}
    found = str(screen.address(parts))
    return f"{found}?wait=yes" if screen.name == "session" else found


def screens_of(workspace: str) -> list[Screen]:
    """Its screens; without that of a session that runs, which goes on to the lab."""
    has_page = workspace == EMPTY or workspace in SESSIONS
    return [screen for screen in OF_WORKSPACES if has_page or screen.name != "session"]


def status(screen: Screen, person: str) -> int:
    """What a person is answered there."""
    if screen.name == NEW:
        return 200 if person == ADMIN else 403
    return 200 if screen.needs == Needs.TOKEN or may(screen.needs, person) else 403


def may(needs: Needs | Permission, person: str) -> bool:
    """Whether somebody is not refused what needs that."""
    if needs is Needs.EDIT:
        raise LookupError("it depends on what is edited")
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


def may_do(action: Action, person: str) -> bool:
    """Whether somebody is not refused an action."""
    return may(EDITS.get(action.name, action.operation.needs), person)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def everything(logins: Logins, browser: Browser, site: Site) -> dict[str, set[str]]:
    """Actions that are offered to who may do everything, by screen."""
    context = await browser.new_context(storage_state=await logins.state(ADMIN))
    page = await context.new_page()
    found = {}
    for screen in SCREENS:
        await page.goto(f"{site.url}{address(screen)}")
        found[screen.name] = set(await page.evaluate(OFFERED))
    await context.close()
    return found


async def test_every_action_has_a_form(everything: dict[str, set[str]]) -> None:
    for screen in SCREENS:
        known = {action.name for action in ACTIONS.values() if action.screen == screen.name}
        assert known - SECOND - FULL <= everything[screen.name] <= known, screen.name


@pytest.mark.parametrize("person", ROLES)
async def test_everybody_sees_what_is_theirs_and_is_offered_exactly_what_they_may_do(
    visit: Visit, everything: dict[str, set[str]], person: str
) -> None:
    visitor = await visit(person)
    page = await visitor.page()
    is_refusal_known = False
    for screen in SCREENS:
        code = status(screen, person)
        await visitor.open(address(screen), page, code)
        await page.get_by_role("heading", level=1).wait_for()
        allowed = {name for name in everything[screen.name] if may_do(ACTIONS[name], person)}
        assert set(await page.evaluate(OFFERED)) == (allowed if code == 200 else set()), screen.name
        assert await page.evaluate(IDLE) == [], screen.name
        started = await page.locator("main a[href*='/sessions/']", has_text="Start").count()
        assert not started or person != MACHINE, "it may not start any"
        if code >= 400:
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
    for screen in screens_of(workspace):
        is_absent = workspace == EMPTY and screen.name == "session"
        await visitor.open(address(screen, workspace), page, 404 if is_absent else 200)
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
    for screen in screens_of(MANY):
        await visitor.open(address(screen, MANY), page)
        await visitor.live(page)
        assert await page.evaluate(OVERFLOW) == 0, screen.name
