"""An object storage is asked in a bounded time and size, and nobody else is: whatever it answers."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from datalabd.endpoints import origin
from hack.deadlines import scaled
from tests.workspaces.web import silent
from webhooks.certificates import issue
from workspaces import object_storage, objects
from workspaces.object_storage import ObjectStorage
from workspaces.objects import Place
from workspaces.problems import Problem
from workspaces.signatures import Keys

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
EMPTY = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a server that answers everything in this way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def storage() -> AsyncIterator[ObjectStorage]:
    storage = ObjectStorage()
    yield storage
    await storage.close()


def place(url: str, public: str = "") -> Place:
    at = origin(url.rstrip("/"))
    assert at is not None
    return Place(at, "ws-a", Keys("AK", "SK", "eu"), origin(public))


async def refused(asking: Awaitable[object]) -> tuple[int, object]:
    with pytest.raises(Problem) as caught:
        await asking
    return caught.value.status, caught.value.detail


async def test_no_redirect_is_followed(storage: ObjectStorage) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=EMPTY)

    async with answering(elsewhere) as other:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{other}/secret"})

        async with answering(redirect) as url:
            at = place(url)
            elsewhere_is = (502, {"error": "storage_elsewhere"})
            assert await refused(storage.page(at, "", 100, "")) == elsewhere_is
            assert await refused(storage.usage(at)) == elsewhere_is
            assert await refused(storage.size(at, "k")) == elsewhere_is
            with pytest.raises(Problem, match="storage_elsewhere"):
                async with storage.opened(at, "k", "alice"):
                    pass
    assert asked == []


async def test_who_says_nothing_is_away_after_two_seconds(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert object_storage.ANSWER_SECONDS == 2.0
    monkeypatch.setattr(object_storage, "ANSWER_SECONDS", 0.1)
    async with silent() as (url, _, __):
        at = place(url)
        found = await asyncio.gather(*(refused(ask) for ask in (storage.page(at, "", 9, ""), storage.usage(at))))
        assert found == [(503, {"error": "storage_away"})] * 2
        assert await refused(storage.size(at, "k")) == (503, {"error": "storage_away"})


async def test_where_nobody_is_is_away(storage: ObjectStorage) -> None:
    assert await refused(storage.page(place("http://127.0.0.1:1"), "", 9, "")) == (503, {"error": "storage_away"})
    assert await refused(storage.page(place("http://nowhere.invalid"), "", 9, "")) == (503, {"error": "storage_away"})


async def test_a_certificate_has_to_be_trusted(storage: ObjectStorage, tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=EMPTY)

    certificate = issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    for name in ("certificate", "key", "ca"):
        (tmp_path / name).write_bytes(getattr(certificate, name))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    async with answering(answer, tls) as url:
        assert await refused(storage.page(place(url), "", 9, "")) == (502, {"error": "storage_untrusted"})
        trusting = ObjectStorage(str(tmp_path / "ca"))
        assert (await trusting.page(place(url), "", 9, ""))["objects"] == []
        await trusting.close()
    async with answering(answer) as url:
        plain = place(url.replace("http:", "https:"))
        assert await refused(storage.page(plain, "", 9, "")) == (502, {"error": "storage_untrusted"})


async def test_an_endless_answer_is_cut(storage: ObjectStorage) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(status=int(request.query.get("max-keys", "200")))
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await answer.write(b" " * 65536)
                sent += 65536
        return answer

    async with answering(endless) as url:
        assert await refused(storage.page(place(url), "", 200, "")) == (502, {"error": "storage_error"})
        assert sent < 3 * object_storage.DOCUMENT_MAX
        sent = 0
        assert await refused(storage.page(place(url), "", 403, "")) == (502, {"error": "storage_error"})
        assert sent < object_storage.DOCUMENT_MAX


@pytest.mark.parametrize("body", ["", "<html>welcome</html>", '<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult/>'])
async def test_what_is_no_object_storage_is_said_to_be_odd(storage: ObjectStorage, body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    async with answering(answer) as url:
        assert await refused(storage.page(place(url), "", 9, "")) == (502, {"error": "storage_error"})


def listing(count: int, token: str) -> str:
    """So many objects of a byte, and where the next page begins."""
    following = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    )
    return (
        f"<ListBucketResult>{'<Contents><Key>k</Key><Size>1</Size></Contents>' * count}{following}</ListBucketResult>"
    )


async def test_objects_are_counted_as_far_as_ten_thousand_and_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "ANSWER_SECONDS", scaled(20))
    pages: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        token = request.query.get("continuation-token", "0")
        pages.append(token)
        return web.Response(text=listing(int(request.query["max-keys"]), str(int(token) + 1)))

    clock = Clock()
    storage = ObjectStorage(clock=clock)
    async with answering(answer) as url:
        more = {"objects": 10_000, "bytes": 10_000, "complete": False}
        assert await asyncio.gather(*(storage.usage(place(url)) for _ in range(3))) == [more] * 3
        assert pages == [str(number) for number in range(10)]
        clock.now = object_storage.COUNT_SECONDS
        assert await storage.usage(place(url)) == more
        assert len(pages) == 20
        await storage.close()


async def test_what_was_counted_in_time_is_told(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        if "continuation-token" in request.query:
            await asyncio.sleep(60)
        return web.Response(text=listing(1000, "more"))

    monkeypatch.setattr(object_storage, "ANSWER_SECONDS", min(scaled(0.5), 8.0))  # below the patience with each answer
    async with answering(answer) as url:
        assert await storage.usage(place(url)) == {"objects": 1000, "bytes": 1000, "complete": False}


async def test_a_download_is_bounded(storage: ObjectStorage) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        found = web.StreamResponse()
        if request.path.endswith("large"):
            found.content_length = objects.DOWNLOAD_MAX + 1
        await found.prepare(request)
        with contextlib.suppress(ConnectionError):
            await found.write(b"x")
        return found

    async with answering(answer) as url:
        for key, problem in (("large", "object_too_large"), ("of no size", "storage_error")):
            with pytest.raises(Problem, match=problem):
                async with storage.opened(place(url), key, "alice"):
                    pass


async def test_nobody_downloads_all_at_once(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x")

    monkeypatch.setattr(object_storage, "DOWNLOADS_MAX", 5)
    async with answering(answer) as url, contextlib.AsyncExitStack() as opened:
        at = place(url)
        for _ in range(4):
            await opened.enter_async_context(storage.opened(at, "k", "alice"))
        with pytest.raises(Problem, match="too_many_downloads"):
            await opened.enter_async_context(storage.opened(at, "k", "alice"))
        await opened.enter_async_context(storage.opened(at, "k", "bob"))
        with pytest.raises(Problem, match="storage_away"):
            await opened.enter_async_context(storage.opened(at, "k", "bob"))
        await opened.aclose()
        async with storage.opened(at, "k", "alice") as download:
            assert [chunk async for chunk in download.chunks()] == [b"x"]


async def test_a_download_that_ends_too_early_is_not_whole(storage: ObjectStorage) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        found = web.StreamResponse()
        found.content_length = 10
        await found.prepare(request)
        await found.write(b"x")
        assert request.transport is not None
        request.transport.close()
        return found

    async with answering(answer) as url, storage.opened(place(url), "k", "alice") as download:
        with pytest.raises(Problem, match="storage_away"):
            assert [chunk async for chunk in download.chunks()]


def test_a_link_is_to_where_browsers_go() -> None:
    assert ObjectStorage.link(place("http://s3:9000"), "k") is None
    link = ObjectStorage.link(place("http://s3:9000", "https://files.example"), "a/ü b")
    assert link is not None
    assert link.startswith("https://files.example/ws-a/a/%C3%BC%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "X-Amz-Expires=300&" in link
    assert "response-content-disposition=attachment%3B%20filename%3D%22__b%22" in link
