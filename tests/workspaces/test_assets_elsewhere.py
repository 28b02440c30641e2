"""Scripts and styles at another origin than the pages, as an absolute FRONTEND_URL names it: in a real browser."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import hdrs, web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect

from hack import chromium
from hack.deadlines import scaled
from tests.workspaces.api import serving
from tests.workspaces.objects import KEYS, SETTINGS, datalab, secret, storage
from workspaces.ui.assets import STATIC, TYPES, Assets

pytestmark = pytest.mark.servers("Chromium")

NEEDED = {str(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN): "*"}
"""What the other server has to send beside the type, as docs/how-to/workspaces.md says."""


@contextlib.asynccontextmanager
async def elsewhere(headers: Mapping[str, str]) -> AsyncIterator[str]:
    """Address below which another server has a copy of our files."""
    digest = Assets("/ui").digest

    async def serve(request: web.Request) -> web.Response:
        path = STATIC / request.match_info["name"]
        return web.Response(body=path.read_bytes(), headers={**headers, hdrs.CONTENT_TYPE: TYPES[path.suffix]})

    app = web.Application()
    app.router.add_get(f"/files/{digest}/{{name}}", serve)
    async with TestServer(app) as server:
        yield str(server.make_url("/files"))


@contextlib.asynccontextmanager
async def opened(directory: Path, headers: Mapping[str, str]) -> AsyncIterator[tuple[Page, list[str], list[str]]]:
    """A page whose files are elsewhere, every address that it asks for, and what the browser's console says."""
    if lacking := chromium.missing():
        pytest.skip(lacking)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(elsewhere(headers))
        settings = replace(SETTINGS, auth_mode="no", ui_mode="ui", rates=None, frontend_url=url)
        found: dict[str, Any] = {"storages": [storage()], "datalabs": [datalab()], "secrets": [secret("ws-a", **KEYS)]}
        api = await stack.enter_async_context(serving(directory, settings, **found))
        browser = await stack.enter_async_context(chromium.launched())
        page = await browser.new_page()
        page.set_default_timeout(scaled(10) * 1000)
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(str(api.client.make_url("/workspaces/ws-a/credentials")))
        yield page, asked, said


async def test_pages_work_with_files_of_another_origin(tmp_path: Path) -> None:
    async with opened(tmp_path, NEEDED) as (page, asked, said):
        await page.locator("html[data-live=on]").wait_for(state="attached")
        other = {urlsplit(url).path.rpartition("/")[2] for url in asked if "/files/" in url}
        assert {"app.css", "live.js", "forms.js", "time.js"} <= other
        (sprite,) = {url for url in asked if url.endswith("sprite.svg")}
        assert urlsplit(sprite).netloc == urlsplit(page.url).netloc, "no browser takes symbols of another origin"
        assert await page.evaluate("document.styleSheets.length") == 1
        assert await page.locator("main").evaluate("one => getComputedStyle(one).fontFamily") != "Times New Roman"
        await page.evaluate("window.isSame = true")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text(KEYS["AWS_SECRET_ACCESS_KEY"], exact=True).first).to_be_visible()
        assert await page.evaluate("window.isSame"), "the answer was merged, by a module that is loaded then"
        assert said == []


async def test_without_their_headers_pages_work_as_without_scripts(tmp_path: Path) -> None:
    async with opened(tmp_path, {}) as (page, _, said):
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text(KEYS["AWS_SECRET_ACCESS_KEY"], exact=True).first).to_be_visible()
        assert await page.locator("html[data-live]").count() == 0
        assert any("CORS policy" in text for text in said)
