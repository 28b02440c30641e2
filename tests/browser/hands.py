"""Two ways to do the same task: with nothing but a keyboard, and in a browser that runs no scripts."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Literal

from playwright.async_api import Locator, Page, expect

from tests.browser.visitor import Visitor

Role = Literal["link", "button", "checkbox", "combobox", "textbox", "searchbox"]
FOCUS = """() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const box = one.getClientRects()[0] ?? { width: 0, height: 0 };
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return {
        isNowhere: one === document.body,
        isOutlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isUncovered: box.width > 0 && top !== null && (one.contains(top) || top.contains(one)),
        html: one.cloneNode(false).outerHTML,
    };
}"""
"""Where the focus is, and whether it can be seen there."""
TABS_MAX = 90


class Hands(ABC):
    """Somebody who does a task on one page; what a step waits for is what comes next."""

    def __init__(self, visitor: Visitor, page: Page) -> None:
        self.visitor = visitor
        self.page = page

    async def open(self, path: str) -> None:
        """Go to a page by its address."""
        await self.visitor.open(path, self.page)

    @abstractmethod
    async def press(self, role: Role, name: str, within: str = "body") -> None:
        """Follow a link, press a button, or tick a box, that is called so."""

    @abstractmethod
    async def write(self, name: str, text: str, role: Role = "textbox") -> None:
        """Have nothing but this text in a field."""

    @abstractmethod
    async def choose(self, name: str, option: str) -> None:
        """Choose one of a list."""

    @abstractmethod
    async def date(self, name: str, day: str) -> None:
        """Fill in the first minute of a day, as in 2030-12-31."""

    @abstractmethod
    async def hears(self, text: str) -> None:
        """Learn what came of it."""

    @abstractmethod
    async def is_at(self, role: Role, name: str) -> None:
        """Go on from there."""

    @abstractmethod
    async def is_at_content(self) -> None:
        """Go on from the beginning of what the page is about, as what was pressed is gone."""

    @abstractmethod
    async def copies(self, label: str, text: str) -> None:
        """Take what is called so elsewhere."""

    async def downloaded(self, link: str) -> bytes:
        """What a link to a file leads to."""
        async with self.page.expect_download() as started:
            await self.press("link", link)
        file = await (await started.value).path()
        return await asyncio.to_thread(file.read_bytes)

    def row(self, *texts: str) -> Locator:
        """The row of a table, or the entry of a list, in which all of this is."""
        found = self.page.locator("main :is(tr, li)")
        for text in texts:
            found = found.filter(has_text=text)
        return found

    async def sees(self, *texts: str) -> None:
        """Find one row with all of this."""
        await expect(self.row(*texts)).to_have_count(1)

    async def misses(self, *texts: str) -> None:
        """Find no such row any more."""
        await expect(self.row(*texts)).to_have_count(0)


class Keyboard(Hands):
    """Somebody who cannot use a mouse. Wherever the focus comes by, it has to be seen."""

    async def press(self, role: Role, name: str, within: str = "body") -> None:
        await self._tab_to(self.page.locator(within).get_by_role(role, name=name, exact=True), f"{role} “{name}”")
        await self.page.keyboard.press("Space" if role == "checkbox" else "Enter")

    async def write(self, name: str, text: str, role: Role = "textbox") -> None:
        await self._tab_to(self.page.get_by_role(role, name=name, exact=True), f"{role} “{name}”")
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.press("Delete")
        await self.page.keyboard.type(text)

    async def choose(self, name: str, option: str) -> None:
        field = self.page.get_by_role("combobox", name=name, exact=True)
        await self._tab_to(field, f"list “{name}”")
        await self.page.keyboard.type(option)
        await expect(self._focused(field).locator("option:checked")).to_have_text(option)

    async def date(self, name: str, day: str) -> None:
        field = self.page.get_by_label(name, exact=True)
        await self._tab_to(field, f"field “{name}”")
        year, month, of_month = day.split("-")
        await self.page.keyboard.type(f"{month}{of_month}{year}")
        await self.page.keyboard.press("ArrowRight")
        await self.page.keyboard.type("1200AM")
        await expect(self._focused(field)).to_have_value(f"{day}T00:00")

    async def hears(self, text: str) -> None:
        await expect(self.page.locator("[aria-live=polite]")).to_contain_text(text)

    async def is_at(self, role: Role, name: str) -> None:
        await expect(self._focused(self.page.get_by_role(role, name=name, exact=True))).to_have_count(1)

    async def is_at_content(self) -> None:
        await expect(self.page.locator("main:focus")).to_have_count(1)

    async def copies(self, label: str, text: str) -> None:
        await self.press("button", f"Copy: {label}")
        await self.hears("Copied")
        assert await self.page.evaluate("navigator.clipboard.readText()") == text

    def _focused(self, target: Locator) -> Locator:
        return target.and_(self.page.locator(":focus"))

    async def _tab_to(self, target: Locator, called: str) -> None:
        """Press Tab until that has the focus."""
        await target.first.wait_for()
        passed: list[str] = []
        for _ in range(TABS_MAX):
            if await self._focused(target).count():
                return
            await self.page.keyboard.press("Tab")
            focus: dict[str, Any] = await self.page.evaluate(FOCUS)
            if not focus["isNowhere"]:  # in the window around the page
                assert focus["isOutlined"], f"the focus cannot be seen: {focus['html']}"
                assert focus["isUncovered"], f"something covers the focus: {focus['html']}"
            passed.append(focus["html"])
        raise AssertionError("\n".join([f"Tab does not lead to {called}, but to:", *passed]))


class NoScripts(Hands):
    """Somebody whose browser runs no scripts: messages and dialogs are parts of the page."""

    async def press(self, role: Role, name: str, within: str = "body") -> None:
        await self.page.locator(within).get_by_role(role, name=name, exact=True).first.click()

    async def write(self, name: str, text: str, role: Role = "textbox") -> None:
        await self.page.get_by_role(role, name=name, exact=True).first.fill(text)

    async def choose(self, name: str, option: str) -> None:
        await self.page.get_by_role("combobox", name=name, exact=True).first.select_option(label=option)

    async def date(self, name: str, day: str) -> None:
        await self.page.get_by_role("dialog").get_by_label(name, exact=True).fill(f"{day}T00:00")

    async def hears(self, text: str) -> None:
        await expect(self.page.locator("#messages")).to_contain_text(text)

    async def copies(self, label: str, text: str) -> None:
        await expect(self.page.get_by_role("button", name=f"Copy: {label}")).to_be_hidden()
        await expect(self.page.get_by_text(text, exact=True).first).to_be_visible()

    async def is_at(self, role: Role, name: str) -> None:
        """A page that was loaded begins at its beginning."""

    async def is_at_content(self) -> None:
        """A page that was loaded begins at its beginning."""
