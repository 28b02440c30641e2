"""Objects through the whole API: who may, where they are read, and how they leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from yarl import URL

from datalabd.client import WorkspaceClient, WorkspaceError
from datalabd.endpoints import origin
from tests.workspaces.api import GATEWAY, Api, serving, token
from tests.workspaces.objects import KEYS, datalab, secret, storage
from tests.workspaces.test_object_storage import answering, listing
from workspaces.object_storage import READER_DOWNLOADS_MAX
from workspaces.objects import DOWNLOAD_MAX, Place
from workspaces.signatures import Keys

OBJECTS = "/workspaces/ws-a/buckets/ws-a/objects"
CONTENT = "/workspaces/ws-a/buckets/ws-a/content"
SCRIPT = b"<script>alert(1)</script>"
PATIENCE = 0.5
"""Seconds that a client waits for whole answers."""


class Bucket:
    """Answers as an object storage does, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.rel_url.raw_path}")
        if request.path == "/ws-a":
            return web.Response(text=listing(2, "more"), content_type="application/xml")
        if request.path.endswith("absent"):
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        found = web.StreamResponse(headers={"Content-Type": "text/html", "Set-Cookie": "theirs=1"})
        found.content_length = DOWNLOAD_MAX + 1 if request.path.endswith("large") else len(SCRIPT)
        if request.path.endswith("cut"):
            found.content_length = 1000
        await found.prepare(request)
        if request.method == "GET":
            with contextlib.suppress(ConnectionError):
                await found.write(SCRIPT[:1])
                if request.path.endswith("slow"):
                    await asyncio.sleep(2 * PATIENCE)
                await found.write(SCRIPT[1:])
        if request.path.endswith("cut") and request.transport is not None:
            request.transport.close()
        return found


@pytest.fixture
async def bucket() -> Bucket:
    return Bucket()


@contextlib.asynccontextmanager
async def reading(directory: Path, bucket: Bucket, **settings: Any) -> AsyncIterator[Api]:
    """The API, whose workspace ws-a has its keys of this bucket."""
    async with answering(bucket.answer) as url:
        known = replace(GATEWAY, endpoint=url, **settings)
        keys = secret("ws-a", **KEYS | {"AWS_ENDPOINT_URL": f"{url}/"})
        async with serving(directory, known, storages=[storage()], datalabs=[datalab()], secrets=[keys]) as api:
            yield api


JOE: dict[str, Any] = {"user": "joe", "roles": {"ws-a": "ws_access"}}


def joe(api: Api) -> WorkspaceClient:
    """The client of the same."""
    return WorkspaceClient(str(api.client.make_url("")), token("joe", JOE["roles"]))


async def test_a_page_of_objects(tmp_path: Path, bucket: Bucket) -> None:
    async with reading(tmp_path, bucket) as api:
        answer = await api.ask("GET", f"{OBJECTS}?prefix=a/&limit=2", **JOE)
        stored = [{"key": "k", "size": 1}] * 2
        assert (answer.status, await answer.json()) == (
            200,
            {"bucket": "ws-a", "prefix": "a/", "prefixes": [], "objects": stored, "continue": "more"},
        )
        for query, name in (("limit=x", "limit"), ("continue=a%0Ab", "continue"), (f"prefix={'x' * 1025}", "prefix")):
            answer = await api.ask("GET", f"{OBJECTS}?{query}", **JOE)
            assert (answer.status, (await answer.json())["detail"][0]["loc"]) == (422, ["query", name])
        answer = await api.ask("GET", "/workspaces/ws-a/buckets/ws-b/objects", **JOE)
        assert (answer.status, await answer.json()) == (
            404,
            {"detail": {"error": "bucket_not_found", "bucket": "ws-b"}},
        )
        assert bucket.asked == ["GET /ws-a"]


async def test_a_secret_leads_nowhere_else(tmp_path: Path, bucket: Bucket) -> None:
    async with answering(bucket.answer) as url:
        keys = secret("ws-a", **KEYS | {"AWS_ENDPOINT_URL": url})
        known = replace(GATEWAY, endpoint="https://s3.example", storage_endpoints=(("http", "s3", 80),))
        async with serving(tmp_path, known, storages=[storage()], datalabs=[datalab()], secrets=[keys]) as api:
            for path in (OBJECTS, f"{CONTENT}?key=k", "/workspaces/ws-a/buckets/ws-a/usage"):
                answer = await api.ask("GET", path, **JOE)
                assert (answer.status, await answer.json()) == (
                    409,
                    {"detail": {"error": "endpoint_not_listed", "endpoint": url}},
                )
    assert bucket.asked == []


async def test_an_object_is_passed_on_as_nothing_that_runs(tmp_path: Path, bucket: Bucket) -> None:
    async with reading(tmp_path, bucket) as api:
        with structlog.testing.capture_logs() as lines:
            answer = await api.ask("GET", f"{CONTENT}?key=a/x.html", **JOE)
            assert (answer.status, await answer.read()) == (200, SCRIPT)
        kept = ("Content-Type", "Content-Disposition", "Content-Security-Policy", "X-Content-Type-Options")
        assert [answer.headers[name] for name in kept] == [
            "application/octet-stream",
            "attachment; filename=\"x.html\"; filename*=UTF-8''x.html",
            "sandbox; default-src 'none'",
            "nosniff",
        ]
        assert (answer.headers["Cache-Control"], "Set-Cookie" in answer.headers) == ("no-store", False)
        (line,) = [line for line in lines if line["event"] == "audit"]
        assert (line["operation"], line["user"], line["what"]) == (
            "download_object",
            "joe",
            {"bucket": "ws-a", "key": "a/x.html"},
        )
        answer = await api.ask("HEAD", f"{CONTENT}?key=a//x.html", **JOE)
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(SCRIPT)))
        assert bucket.asked == ["GET /ws-a/a/x.html", "HEAD /ws-a/a//x.html"]


@pytest.mark.parametrize(
    ("key", "status", "error"),
    [("large", 413, "object_too_large"), ("absent", 404, "object_not_found"), ("", 422, None), ("a/../b", 422, None)],
)
async def test_what_is_not_passed_on(tmp_path: Path, bucket: Bucket, key: str, status: int, error: str | None) -> None:
    async with reading(tmp_path, bucket) as api:
        answer = await api.ask("GET", f"{CONTENT}?key={key}", **JOE)
        detail = (await answer.json())["detail"]
        assert (answer.status, detail["error"] if error else None) == (status, error)


async def test_downloads_of_machines_are_their_workspaces(tmp_path: Path, bucket: Bucket) -> None:
    machine = token("robot", {"ws-a": "ws_api"}, azp="ws-a")
    async with reading(tmp_path, bucket) as api, AsyncExitStack() as stack:
        where = origin(api.services.settings.endpoint)
        assert where is not None
        at = Place(where, "ws-a", Keys("AK", "SK", "us-east-1"), None)
        for _ in range(READER_DOWNLOADS_MAX):
            await stack.enter_async_context(api.services.objects.opened(at, "k", "client ws-a"))
        answer = await api.ask("GET", f"{CONTENT}?key=k", headers={"Authorization": f"Bearer {machine}"})
        assert (answer.status, await answer.json()) == (429, {"detail": {"error": "too_many_downloads"}})
        assert (await api.ask("GET", f"{CONTENT}?key=k", **JOE)).status == 200


async def test_an_object_that_ends_too_early_is_not_taken_for_whole(tmp_path: Path, bucket: Bucket) -> None:
    async with reading(tmp_path, bucket) as api, joe(api) as client:
        with pytest.raises(Exception, match=r"(?i)payload|disconnected|connection"):
            assert [piece async for piece in client.download("ws-a", "ws-a", "cut")] == []


async def test_a_download_takes_longer_than_other_answers(tmp_path: Path, bucket: Bucket) -> None:
    async with (
        answering(bucket.answer) as public,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
    ):
        for way, settings in (("passed on", {}), ("by a link", {"browser_endpoint": public})):
            async with reading(tmp_path, bucket, **settings) as api:
                client = WorkspaceClient(str(api.client.make_url("")), token("joe", JOE["roles"]), session)
                assert b"".join([piece async for piece in client.download("ws-a", "ws-a", "slow")]) == SCRIPT, way


async def test_browsers_get_a_link(tmp_path: Path, bucket: Bucket) -> None:
    async with answering(bucket.answer) as public, reading(tmp_path, bucket, browser_endpoint=public) as api:
        answer = await api.ask("GET", f"{CONTENT}?key=a/ü", **JOE)
        assert (answer.status, await answer.read(), answer.headers["Cache-Control"]) == (302, b"", "no-store")
        link = URL(answer.headers["Location"], encoded=True)
        assert (str(link.origin()), link.raw_path) == (public, "/ws-a/a/%C3%BC")
        assert link.query["X-Amz-Expires"] == "300"
        absent = await api.ask("GET", f"{CONTENT}?key=absent", **JOE)
        assert absent.status == 404
        async with joe(api) as client:
            assert b"".join([piece async for piece in client.download("ws-a", "ws-a", "k")]) == SCRIPT


async def test_the_client_reads_objects(tmp_path: Path, bucket: Bucket) -> None:
    async with reading(tmp_path, bucket) as api, joe(api) as client:
        page = await client.objects("ws-a", "ws-a", "a/")
        assert ([one.key for one in page.objects], page.continue_) == (["k", "k"], "more")
        assert (await client.objects("ws-a", "ws-a", "a/", page.continue_ or "")).prefix == "a/"
        usage = await client.bucket_usage("ws-a", "ws-a")
        assert (usage.objects, usage.complete) == (20, False)
        assert b"".join([piece async for piece in client.download("ws-a", "ws-a", "k")]) == SCRIPT
        with pytest.raises(WorkspaceError, match="object_not_found"):
            assert [piece async for piece in client.download("ws-a", "ws-a", "absent")] == []
