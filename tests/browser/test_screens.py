"""Every screen, as everybody sees it, in every state: what is shown and offered, and whether everybody can use it."""

import pytest

from hack.playground import ADMIN
from hack.site import SLOW, WORKSPACE
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from workspaces.operations import Needs
from workspaces.permissions import ROLE_PERMISSIONS, Permission, Permissions, Role
from workspaces.ui.actions import BY_NAME as ACTIONS
from workspaces.ui.screens import NEW, SCREENS, Screen

EVERYTHING = frozenset(Permission)
ROLES: dict[str, Permissions] = {
    "olga": EVERYTHING,
    "adam": EVERYTHING,
    "mia": ROLE_PERMISSIONS[Role.ACCESS],
    "machine": ROLE_PERMISSIONS[Role.API],
    "stan": frozenset(),
    ADMIN: EVERYTHING,
}
"""What owner, admin, member, machine, stranger and platform admin may do on `WORKSPACE`."""
OFFERED = """() => [...document.querySelectorAll('main form[method=post]')]
    .map(form => form.elements.namedItem('action').value)"""


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


@pytest.mark.parametrize("person", ["olga"])
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
