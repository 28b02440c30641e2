"""What every test asserts of its browsers can fail: each kind of fault is found where there is one."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from hack.site import WORKSPACE, Site
from tests.browser.conftest import Logins
from tests.browser.visitor import Visitor

HOME = f"/workspaces/{WORKSPACE}"
FAULTY = f"{HOME}/faulty"
BODY = """
<img alt="" src="https://elsewhere.example/x.png">
<script>console.info("said")</script>
<script>throw new Error("broken")</script>
<p id="one"></p><p id="one"></p>
<label for="none">x</label>
<input>
<a href="/workspaces/ws-none">x</a>
<a href="javascript:void 0">x</a>
<p><table><tr><td></p></table>
"""
FAULTS = (
    "asked another host: https://elsewhere.example/x.png",
    "console, info: said",
    "error of a page: ",
    "id one is there twice",
    "leads nowhere",
    "has no label",
    "is answered 403",
    "a link leads to javascript:",
    "may be kept by caches: private",
    "unexpected-",
)
KEEPS = {
    "page": "secret => { document.querySelector('main').append(secret) }",
    "local": "secret => localStorage.setItem('x', secret)",
    "session": "secret => sessionStorage.setItem('x', secret)",
    "history": "secret => history.replaceState({secret}, '')",
    "cache": "secret => caches.open('x').then(cache => cache.put('/x', new Response(secret)))",
    "scripts' cookie": "secret => { document.cookie = `x=${secret}; secure` }",
    "database": """secret => new Promise(done => {
        const opening = indexedDB.open('x', 1);
        opening.onupgradeneeded = () => opening.result.createObjectStore('kept').put(secret, 1);
        opening.onsuccess = () => { opening.result.close(); done(); };
    })""",
    "request": "secret => fetch(`/workspaces?name=${secret}`).then(one => one.text())",
}
"""What leaves a credential where it must not be."""


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(
    browser: Browser, site: Site, logins: Logins, links: dict[tuple[str, str], int]
) -> AsyncIterator[Visitor]:
    """Somebody of whose faults nobody asserts that there are none."""
    context = await browser.new_context(storage_state=await logins.state("olga"))
    yield Visitor(context, "olga", site, links, {})
    await context.close()


async def test_every_fault_of_a_page_is_found(visitor: Visitor, site: Site) -> None:
    async def answer(route: Route) -> None:
        html = f"<!doctype html><html lang='en'><head><title>Faulty</title></head><body>{BODY}</body></html>"
        await route.fulfill(body=html, content_type="text/html", headers={"Cache-Control": "private"})

    await visitor.context.route(f"{site.url}{FAULTY}", answer)
    await visitor.context.route("https://elsewhere.example/**", lambda route: route.fulfill(body=""))
    await visitor.open(FAULTY)
    await visitor.close()
    assert [fault for fault in FAULTS if not any(fault in found for found in visitor.faults)] == [], visitor.faults


async def test_a_credential_is_found_wherever_it_is_kept(visitor: Visitor, site: Site) -> None:
    kept = {where: f"{where[:4]}-of-nobody-else" for where in KEEPS}
    site.secrets.update(kept.values())
    try:
        page: Page = await visitor.open(HOME)
        for where, script in KEEPS.items():
            await page.evaluate(script, kept[where])
        await visitor.close()
    finally:
        site.secrets.difference_update(kept.values())
    unfound = [where for where in KEEPS if not any(f"a credential, {where[:4]}…" in one for one in visitor.faults)]
    assert unfound == [], visitor.faults
    assert not [secret for secret in kept.values() if secret in "".join(visitor.faults)], "nor is it told"


async def test_a_violation_of_the_policy_is_found(visitor: Visitor) -> None:
    page = await visitor.open(HOME)
    await page.evaluate("() => document.body.setAttribute('style', 'color: red')")
    await visitor.close()
    assert [fault for fault in visitor.faults if "Content Security Policy" in fault]


async def test_a_page_without_a_fault_has_none(visitor: Visitor) -> None:
    await visitor.live(await visitor.open(HOME))
    await visitor.close()
    assert visitor.faults == []
