"""Objects of buckets: as many as there may be, of odd keys, and of a storage that takes its time."""

import asyncio
import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from hack.minio import MinIO
from hack.playground import ADMIN
from hack.scenery import FREE
from hack.site import Site
from tests.browser.accessibility import violations
from tests.browser.conftest import Visit
from tests.integration.objects import unique

BUCKETS = f"/workspaces/{FREE}/buckets"
OBJECTS, PAGE, COUNTED = 3_000, 100, 10_000
BOUND_SECONDS = 2.0
ODD = (
    "<script>alert(1)</script>.txt",
    "שלום עולם.csv",
    "zoe\u0301\u0323.bin",
    "a \"quoted\" & 'half'.txt",
    f"{'k' * 200}.dat",
)
MOVED = """
    globalThis.moved = 0;
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) globalThis.moved += entry.value;
    }).observe({type: 'layout-shift', buffered: true});
"""


@pytest.fixture
def bucket(site: Site, minio_server: MinIO) -> str:
    """A bucket that is empty, and not counted yet."""
    name = f"{FREE}-{unique('b')}"
    site.ask(ADMIN, "PUT", f"/workspaces/{FREE}", {"add_buckets": [{"name": name}]})
    site.until(lambda: minio_server.ask("GET", f"/{name}").is_success, "the bucket")
    site.until(lambda: _is_readable(site, name), "rights to it")
    return name


def _is_readable(site: Site, name: str) -> bool:
    return "objects" in site.ask(ADMIN, "GET", f"{BUCKETS}/{name}/objects")


async def names(page: Page) -> list[str]:
    """Names of the objects that a page shows."""
    return await page.locator("#objects tbody th bdi").all_inner_texts()


async def test_three_thousand_objects_are_seen_page_by_page(visit: Visit, minio_server: MinIO, bucket: str) -> None:
    keys = [f"run-{number:05}.dat" for number in range(OBJECTS)]
    await asyncio.to_thread(minio_server.fill, bucket, keys)
    visitor = await visit("mia")
    page = await visitor.page()
    began = time.monotonic()
    await visitor.open(f"{BUCKETS}/{bucket}", page)
    assert time.monotonic() - began < visitor.seconds(BOUND_SECONDS)
    await expect(page.locator("#usage")).to_have_text(re.compile(r"^3.?000 objects, "))
    assert await names(page) == keys[:PAGE]
    assert await violations(visitor, page) == []
    await page.get_by_role("link", name="Next page").click()
    await expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert await names(page) == keys[PAGE : 2 * PAGE]
    await page.get_by_label("Key begins with").fill("run-029")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("link", name="Next page")).to_have_count(0)
    assert await names(page) == keys[2900:]


async def test_of_more_than_are_counted_a_page_says_so(visit: Visit, minio_server: MinIO, bucket: str) -> None:
    await asyncio.to_thread(minio_server.fill, bucket, (f"{number:05}" for number in range(COUNTED + 1)))
    visitor = await visit("mia")
    page = await visitor.open(f"{BUCKETS}/{bucket}")
    await expect(page.locator("#usage")).to_have_text(re.compile("^more than [1-9].*objects, more than "))
    assert len(await names(page)) == PAGE
    await visitor.open(BUCKETS, page)
    await expect(page.get_by_role("row").filter(has_text=bucket)).to_contain_text("more than")


async def test_keys_are_shown_as_they_are_and_downloaded(visit: Visit, minio_server: MinIO, bucket: str) -> None:
    for key in ODD:
        assert minio_server.ask("PUT", f"/{bucket}/{key}", content=key.encode()).is_success
    visitor = await visit("mia")
    page = await visitor.open(f"{BUCKETS}/{bucket}")
    await page.get_by_role("link", name="<script>alert(1)</").click()
    await expect(page.get_by_role("navigation", name="Place in the bucket")).to_contain_text("<script>alert(1)<")
    assert await names(page) == ["script>.txt"]
    assert await violations(visitor, page) == []
    await page.go_back()
    assert set(await names(page)) == {"<script>alert(1)</", *ODD[1:]}
    assert await violations(visitor, page) == []
    for key in ODD[1:]:
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name=f"Download {key}", exact=True).click()
        kept = await (await downloading.value).path()
        assert await asyncio.to_thread(Path(kept).read_text) == key


async def test_a_storage_that_does_not_answer_is_waited_for_no_longer_than_it_may(
    visit: Visit, minio_server: MinIO, bucket: str
) -> None:
    visitor = await visit("mia")
    page, listed = await visitor.page(), await visitor.page()
    with minio_server.paused():
        began = time.monotonic()
        await visitor.open(f"{BUCKETS}/{bucket}", page)
        assert time.monotonic() - began < visitor.seconds(BOUND_SECONDS + 1)
        await expect(page.locator("#objects")).to_contain_text("does not answer")
        assert await violations(visitor, page) == []
        await visitor.open(BUCKETS, listed)
        await expect(listed.get_by_text("does not answer").first).to_be_visible()
        assert await violations(visitor, listed) == []
    await page.get_by_role("link", name="Try again").click()
    await expect(page.locator("#objects")).to_contain_text("There are no objects yet")


async def test_counts_that_take_a_while_come_by_themselves_and_move_nothing(
    visit: Visit, minio_server: MinIO, bucket: str
) -> None:
    visitor = await visit("mia")
    await visitor.context.add_init_script(MOVED)
    page = await visitor.page()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=bucket, exact=True))
    with minio_server.paused():
        await visitor.open(BUCKETS, page)
        await visitor.live(page)
        await expect(row).to_contain_text("…")
    await expect(row).to_contain_text("0 objects, 0 B")
    assert await page.evaluate("moved") == 0
