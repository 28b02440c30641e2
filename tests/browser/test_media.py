"""Screens as they are where colours are forced, nothing may move, and texts are twice as long."""

from playwright.async_api import Page

from hack.playground import ADMIN
from hack.site import Site
from tests.browser.conftest import Visit
from tests.browser.test_screens import NARROW, OF_WORKSPACES, OVERFLOW, address
from workspaces.ui.components import COMPONENTS
from workspaces.ui.languages import COOKIE, PSEUDO
from workspaces.ui.screens import SCREENS

PARTS = COMPONENTS.path
UNSEEN = """() => {
    const opaque = (colour) => !/^rgba\\(.*, 0\\)$/.test(colour);
    const ground = (one) => {
        for (let at = one; at; at = at.parentElement) {
            const { backgroundColor } = getComputedStyle(at);
            if (opaque(backgroundColor)) return backgroundColor;
        }
        return "rgb(255, 255, 255)";
    };
    const isEdged = (one) => {
        const { borderTopWidth, borderTopColor } = getComputedStyle(one);
        const outside = ground(one.parentElement);
        return ground(one) !== outside || (parseFloat(borderTopWidth) > 0 && borderTopColor !== outside);
    };
    const bounded = "button:not(.quiet), .button:not(.quiet), .field > :is(input, select, textarea), .card, .badge";
    const unseen = [];
    for (const one of document.querySelectorAll("body *")) {
        if (!one.checkVisibility({ visibilityProperty: true })) continue;
        const isWritten = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        const isText = isWritten && getComputedStyle(one).color === ground(one);
        const isSymbol = one.matches("svg.symbol") && getComputedStyle(one).stroke === ground(one);
        if (isText || isSymbol || (one.matches(bounded) && !isEdged(one))) unseen.push(one.outerHTML.slice(0, 160));
    }
    return unseen;
}"""
"""What cannot be told from what is behind it: text, symbols, and the edges of what is bounded."""
MOVING = """() => document.getAnimations()
    .filter((one) => one.effect.getComputedTiming().activeDuration > 1)
    .map((one) => `${one.animationName ?? one.transitionProperty} of ${one.effect.target.outerHTML.slice(0, 100)}`)"""
"""Animations and transitions that take more than a millisecond."""


async def test_where_colours_are_forced_everything_can_be_told_from_its_ground(visit: Visit) -> None:
    visitor = await visit(ADMIN, forced_colors="active")
    page = await visitor.page()
    for where in (PARTS, *map(address, SCREENS)):
        await visitor.open(where, page)
        assert await page.evaluate("matchMedia('(forced-colors: active)').matches")
        assert await page.evaluate(UNSEEN) == [], where


async def test_nothing_moves_where_nothing_should(visit: Visit) -> None:
    async def moving(page: Page, where: str) -> list[str]:
        found: list[str] = await (await visitor.open(where, page)).evaluate(MOVING)
        return found

    visitor = await visit(ADMIN)
    assert await moving(await visitor.page(), PARTS) != []
    visitor = await visit(ADMIN, reduced_motion="reduce")
    page = await visitor.page()
    for where in (PARTS, *map(address, SCREENS)):
        assert await moving(page, where) == [], where


async def test_texts_of_twice_the_length_fit_into_narrow_windows(site: Site, visit: Visit) -> None:
    visitor = await visit(ADMIN, viewport=NARROW)
    await visitor.context.add_cookies([{"name": COOKIE, "value": PSEUDO, "url": site.url}])
    page = await visitor.page()
    dialogs = [f"{address(screen)}?dialog=add" for screen in OF_WORKSPACES if screen.symbol]
    for where in (PARTS, *map(address, SCREENS), *dialogs):
        await visitor.open(where, page)
        assert where == PARTS or "⟦" in await page.locator("main").inner_text()
        assert await page.evaluate(OVERFLOW) == 0, where
