"""The scripts of the pages in Chromium, over the whole application and an API server that a test speaks for."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.store import Scope
from hack import chromium
from hack.deadlines import scaled
from tests.workspaces.api import GATEWAY, Api, serving, token
from tests.workspaces.coverage import Coverage
from tests.workspaces.objects import KEYS, datalab, secret, storage

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.servers("Chromium"), pytest.mark.timeout(240)]

PAGES = replace(GATEWAY, ui_mode="ui", log_level="debug", session_probe="off")
MEMBERS, SESSIONS = "/workspaces/ws-a/members", "/workspaces/ws-a/sessions"
LAB: dict[str, Any] = {"users": ["alice", "joe"], "sessions": [{"name": "default", "state": "started"}]}
LEAST = 0.9
HIDING = """
    Object.defineProperty(document, "hidden", { get: () => globalThis.isHidden ?? false });
    globalThis.turn = (isHidden) => {
        globalThis.isHidden = isHidden;
        document.dispatchEvent(new Event("visibilitychange"));
    };
"""
"""A tab is never hidden without a window: a test says so."""


class Stage:
    """The application, and tabs of one browser of alice."""

    def __init__(self, api: Api, context: BrowserContext, coverage: Coverage) -> None:
        self.api = api
        self.context = context
        self.url = str(api.client.make_url("")).rstrip("/")
        self._coverage = coverage
        self._number = 100
        self.mistakes: list[str] = []
        context.on("weberror", lambda error: self.mistakes.append(str(error.error)))

    async def tab(self, path: str, *, live: bool = True) -> Page:
        page = await self.context.new_page()
        await self._coverage.start(page)
        await page.goto(f"{self.url}{path}")
        if live:
            await self.live(page)
        return page

    async def live(self, page: Page, state: str = "on") -> None:
        await page.locator(f"html[data-live={state}]").wait_for(state="attached")

    def change(self, **spec: Any) -> None:
        """Have the Datalab be another."""
        self._number += 1
        lab = datalab(**(LAB | spec))
        lab["metadata"] |= {"resourceVersion": str(self._number), "generation": self._number}
        self._put(lab)

    def report(self, **status: Any) -> None:
        """Have its status be another."""
        self._number += 1
        lab = datalab(**LAB) | {"status": status}
        lab["metadata"]["resourceVersion"] = str(self._number)
        self._put(lab)

    def _put(self, lab: Manifest) -> None:
        self.api.services.cache.informers.store(kinds.DATALABS).replace(Scope("workspace"), [lab])

    async def streams(self, count: int) -> None:
        """Wait for so many streams."""
        async with asyncio.timeout(scaled(5)):
            while len(self.api.services.streams) != count:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if lacking := chromium.missing():
        pytest.skip(lacking)
    expect.set_options(timeout=scaled(5) * 1000)
    async with chromium.launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    """What ran of our scripts in any test of this module."""
    return Coverage()


@pytest_asyncio.fixture(loop_scope="module")
async def stage(tmp_path: Path, browser: Browser, coverage: Coverage) -> AsyncIterator[Stage]:
    keys = secret("ws-a", **KEYS, AWS_REGION="r1")
    async with serving(tmp_path, PAGES, storages=[storage()], datalabs=[datalab(**LAB)], secrets=[keys]) as api:
        headers = {"Authorization": f"Bearer {token('alice', {'ws-a': 'ws_admin'})}"}
        context = await browser.new_context(
            extra_http_headers=headers, permissions=["clipboard-read", "clipboard-write"]
        )
        context.set_default_timeout(scaled(10) * 1000)
        await context.add_init_script(HIDING)
        stage = Stage(api, context, coverage)
        yield stage
        await coverage.stop(stage.url)
        await context.close()
        assert stage.mistakes == []


async def test_what_is_being_typed_survives_what_others_do(stage: Stage) -> None:
    page = await stage.tab(MEMBERS)
    await page.get_by_role("link", name="Add members …").click()
    names = page.get_by_label("User names")
    await names.fill("max, mia")
    await names.evaluate("field => field.setSelectionRange(1, 3)")
    await page.get_by_label("Role", exact=True).select_option("admin")
    await names.focus()
    stage.change(users=["alice", "joe", "zoe"])
    await expect(page.locator("#row-zoe")).to_be_attached()
    await expect(names).to_have_value("max, mia")
    await expect(page.get_by_label("Role", exact=True)).to_have_value("admin")
    await expect(names).to_be_focused()
    assert await names.evaluate("field => [field.selectionStart, field.selectionEnd]") == [1, 3]
    assert await page.locator("#add").evaluate("dialog => dialog.matches(':modal')")
    await page.get_by_role("link", name="Cancel").first.click()
    await expect(page.get_by_role("link", name="Add members …")).to_be_focused()


async def test_errors_stand_at_their_fields_until_the_form_is_sent_again(stage: Stage) -> None:
    page = await stage.tab(SESSIONS)
    await page.get_by_role("link", name="Add a session …").click()
    await page.get_by_label("Name", exact=True).fill("Not a name")
    await page.get_by_role("button", name="Add", exact=True).click()
    error = page.locator("[id$=-name-error]")
    await expect(error).to_be_visible()
    await expect(page.get_by_label("Name", exact=True)).to_be_focused()
    await expect(page.locator("#announcements")).to_have_text(await error.inner_text())
    stage.change(sessions=[*LAB["sessions"], {"name": "other", "state": "stopped"}])
    await expect(page.locator("#row-other")).to_be_attached()
    await expect(error).to_be_visible()


async def test_a_dialog_of_the_address_is_open(stage: Stage) -> None:
    page = await stage.tab(f"{SESSIONS}?dialog=add&done=add_session")
    assert await page.locator("#add").evaluate("dialog => dialog.matches(':modal')")
    await expect(page.locator("#announcements")).to_have_text("The session is added.")
    await page.keyboard.press("Escape")
    await expect(page).to_have_url(f"{stage.url}{SESSIONS}")


async def test_a_hidden_tab_sleeps_and_another_takes_over(stage: Stage) -> None:
    first, second = await stage.tab(MEMBERS), await stage.tab(MEMBERS)
    await stage.streams(1)
    await first.evaluate("turn(true)")
    await stage.live(second)
    await second.evaluate("turn(true)")
    await stage.streams(0)
    stage.change(users=["alice", "zoe"])
    await first.evaluate("turn(false)")
    await expect(first.locator("#row-zoe")).to_be_attached()
    await stage.live(first)
    await expect(second.locator("#row-zoe")).not_to_be_attached()
    await stage.streams(1)


async def test_without_a_network_nothing_is_lost_and_the_page_says_so(stage: Stage) -> None:
    page = await stage.tab(MEMBERS)
    await page.get_by_role("link", name="Add members …").click()
    await page.get_by_label("User names").fill("max")
    await stage.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text(re.compile(r"Not live since \d"))
    await stage.live(page, "off")
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator(".unsent")).to_contain_text("Not sent")
    await expect(page.get_by_label("User names")).to_have_value("max")
    stage.change(users=["alice", "zoe"])
    await stage.context.set_offline(False)
    await stage.live(page)
    await expect(page.locator("#row-zoe")).to_be_attached()
    await expect(page.locator("#connection")).to_be_hidden()


async def test_a_stream_that_says_nothing_is_opened_again(stage: Stage) -> None:
    await stage.context.clock.install()
    page = await stage.tab(MEMBERS)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url.removeprefix(stage.url).partition("?")[0]))
    await stage.context.clock.run_for(41_000)
    await stage.live(page, "connecting")
    await stage.context.clock.run_for(3_000)
    await stage.live(page)
    assert requests.count("/events") == 1


async def test_it_goes_on_by_asking_where_streams_are_refused(stage: Stage) -> None:
    await stage.context.clock.install()
    await stage.context.route("**/events*", lambda route: route.fulfill(status=429))
    page = await stage.tab(MEMBERS, live=False)
    await stage.live(page, "connecting")
    await stage.context.clock.run_for(2_500)
    await stage.live(page, "off")
    stage.change(users=["alice", "zoe"])
    await stage.context.clock.run_for(15_500)
    await expect(page.locator("#row-zoe")).to_be_attached()


async def test_what_is_copied_is_in_the_clipboard(stage: Stage) -> None:
    page = await stage.tab("/ui/components")
    await page.get_by_role("button", name="Copy the snippet").click()
    assert await page.evaluate("navigator.clipboard.readText()") == "export AWS_ENDPOINT_URL=https://s3.example.org"
    await expect(page.locator("#announcements")).to_have_text("Copied")
    await expect(page.locator("#facts time").nth(1)).to_have_text("5 minutes ago")
    await expect(page.locator("time[data-as=elapsed]")).to_have_text("3 hr")


async def test_credentials_go_when_the_tab_is_left(stage: Stage) -> None:
    page = await stage.tab("/workspaces/ws-a/credentials")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("[data-hides]")).to_be_attached()
    assert "SK" in await page.content()
    await page.evaluate("turn(true)")
    await expect(page.locator("[data-hides]")).not_to_be_attached()
    await page.evaluate("turn(false)")
    await expect(page.get_by_role("button", name="Show")).to_be_visible()


async def test_a_page_that_waits_leads_on(stage: Stage) -> None:
    await stage.context.route("https://lab.example/", lambda route: route.fulfill(body="<title>the lab</title>"))
    page = await stage.tab(f"{SESSIONS}/default")
    await expect(page.locator("[aria-current=step]")).to_contain_text("The lab prepares it")
    stage.report(sessions={"default": {"state": "started", "phase": "Running", "url": "https://lab.example/"}})
    await expect(page).to_have_url("https://lab.example/")


async def test_tabs_of_two_readers_hear_each_of_their_own_stream(stage: Stage) -> None:
    joe = {"Authorization": f"Bearer {token('joe', {'ws-a': 'ws_access'})}"}
    alices, joes = await stage.context.new_page(), await stage.context.new_page()
    await joes.set_extra_http_headers(joe)
    for page in (alices, joes):
        await page.goto(f"{stage.url}{MEMBERS}")
        await stage.live(page)
    await stage.streams(2)
    stage.change(users=["alice", "joe", "zoe"])
    for page in (alices, joes):
        await expect(page.locator("#row-zoe")).to_be_attached()
    # A tab belongs to whoever has logged in since, wherever that was.
    await alices.set_extra_http_headers(joe)
    stage.change(users=["alice", "joe", "zoe", "max"])
    await expect(alices.locator(".top bdi").last).to_have_text("joe")
    await stage.live(alices)
    await stage.streams(1)


async def test_nine_parts_in_ten_of_the_scripts_ran(coverage: Coverage) -> None:
    """Of all tests before."""
    assert coverage.share() >= LEAST, {name: round(sum(ran) / len(ran), 2) for name, ran in coverage.ran.items()}
