"""Objects as a real object storage has them: signatures, keys of any form, pages, rights and errors."""

import datetime
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from datalabd.endpoints import origin
from hack.minio import MinIO
from hack.standins.object_storage import Backend, granted, owner
from tests.servers import minio_server as minio_server
from tests.workspaces.api import GATEWAY, serving
from tests.workspaces.objects import datalab, secret
from tests.workspaces.objects import storage as storage_of
from workspaces import objects
from workspaces.object_storage import ObjectStorage
from workspaces.objects import Place
from workspaces.problems import Problem
from workspaces.signatures import Keys

pytestmark = pytest.mark.servers("MinIO")

ODD = ("a//b", "dir/", "ü ö+%20&=?#", "a\tb", "x" * 1024, "<script>", "a/b/c.txt", "مرحبا/é")


@pytest.fixture
def place(minio_server: MinIO) -> Place:
    """A bucket of its own, by keys that may do everything."""
    name = f"ws-{uuid.uuid4().hex[:12]}"
    Backend(minio_server).make_bucket(name)
    at = origin(minio_server.endpoint)
    assert at is not None
    return Place(at, name, minio_server.root, at)


@pytest.fixture
async def storage() -> AsyncIterator[ObjectStorage]:
    storage = ObjectStorage()
    yield storage
    await storage.close()


def put(minio: MinIO, place: Place, key: str, content: bytes = b"x") -> bool:
    """Store an object, if the server takes its key."""
    return minio.ask("PUT", place.path(key), content=content).is_success


async def detail(asking: Any) -> Any:
    with pytest.raises(Problem) as caught:
        await asking
    return caught.value.status, caught.value.detail["error"] if isinstance(caught.value.detail, dict) else "invalid"


async def test_keys_of_any_form_are_listed_and_read(minio_server: MinIO, storage: ObjectStorage, place: Place) -> None:
    kept = [key for key in ODD if put(minio_server, place, key, key.encode())]
    assert set(ODD) - set(kept) <= {"a//b", "x" * 1024}  # this server has files of these names, and of those none
    found: set[str] = set()
    prefixes = [""]
    while prefixes:
        page = await storage.page(place, prefixes.pop(), 100, "")
        found |= {one["key"] for one in page["objects"]}
        prefixes += page["prefixes"]
    assert found == set(kept)
    for key in kept:
        async with storage.opened(place, key, "alice") as download:
            assert b"".join([chunk async for chunk in download.chunks()]) == key.encode()


async def test_pages_follow_each_other(minio_server: MinIO, storage: ObjectStorage, place: Place) -> None:
    keys = [f"{number:02}" for number in range(5)] + ["below/1", "below/2"]
    for key in keys:
        assert put(minio_server, place, key, b"12")
    first = await storage.page(place, "", 4, "")
    second = await storage.page(place, "", 4, first["continue"])
    assert [one["key"] for one in first["objects"] + second["objects"]] == keys[:5]
    assert (second["prefixes"], "continue" in second) == (["below/"], False)
    assert {one["size"] for one in first["objects"]} == {2}
    assert await storage.usage(place) == {"objects": 7, "bytes": 14, "complete": True}
    assert await detail(storage.page(place, "", 4, "!")) == (422, "invalid")


async def test_a_count_goes_from_page_to_page_and_ends(
    minio_server: MinIO, storage: ObjectStorage, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAGE_MAX", 2)
    monkeypatch.setattr(objects, "COUNTED_MAX", 4)
    for count, expected in ((3, (3, True)), (4, (4, True)), (5, (4, False))):
        for number in range(count):
            assert put(minio_server, place, f"below/{number}")
        found = await storage._count(place)
        assert (found["objects"], found["complete"]) == expected


async def test_the_api_reads_a_real_bucket_by_the_keys_of_a_tenant(
    minio_server: MinIO, place: Place, tmp_path: Path
) -> None:
    backend, user, key = Backend(minio_server), f"u-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    backend.put_user(user, key)
    backend.put_policy(f"{user}.o", owner(place.bucket))
    backend.set_policies(user, [f"{user}.o"])
    assert put(minio_server, place, "a/ü.txt", b"hello")
    keys = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": key, "AWS_ENDPOINT_URL": minio_server.endpoint}
    own = storage_of("ws-a", buckets=[{"bucketName": place.bucket}, {"bucketName": "ws-a-absent"}])
    settings = replace(GATEWAY, endpoint=minio_server.endpoint)
    bucket = f"/workspaces/ws-a/buckets/{place.bucket}"
    joe: dict[str, Any] = {"user": "joe", "roles": {"ws-a": "ws_access"}}
    async with serving(
        tmp_path, settings, storages=[own], datalabs=[datalab()], secrets=[secret("ws-a", **keys)]
    ) as api:
        answer = await api.ask("GET", f"{bucket}/objects?prefix=a/", **joe)
        (found,) = (await answer.json())["objects"]
        assert (found["key"], found["size"]) == ("a/ü.txt", 5)
        assert await (await api.ask("GET", f"{bucket}/usage", **joe)).json() == {
            "objects": 1,
            "bytes": 5,
            "complete": True,
        }
        answer = await api.ask("GET", f"{bucket}/content?key=a/ü.txt", **joe)
        assert (answer.status, await answer.read()) == (200, b"hello")
        answer = await api.ask("GET", "/workspaces/ws-a/buckets/ws-a-absent/objects", **joe)
        assert (answer.status, (await answer.json())["detail"]["error"]) in [
            (403, "storage_forbids"),
            (404, "bucket_not_made"),
        ]


async def test_a_link_is_an_attachment_for_five_minutes(
    minio_server: MinIO, storage: ObjectStorage, place: Place
) -> None:
    assert put(minio_server, place, "a/ü b.html", b"<script>")
    link = storage.link(place, "a/ü b.html")
    assert link is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(link)
        forged = await client.get(link.replace("b.html", "c.html"))
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == objects.attachment("a/ü b.html")
    assert forged.status_code == 403
    assert "X-Amz-Expires=300" in urlsplit(link).query


async def test_what_the_server_refuses(minio_server: MinIO, storage: ObjectStorage, place: Place) -> None:
    assert put(minio_server, place, "k")
    assert await detail(storage.size(place, "absent")) == (404, "object_not_found")
    assert await detail(storage.page(replace(place, bucket="ws-absent"), "", 9, "")) == (404, "bucket_not_made")
    wrong = replace(place, keys=replace(place.keys, secret="wrong-secret"))
    assert await detail(storage.page(wrong, "", 9, "")) == (502, "storage_refuses_keys")
    unknown = replace(place, keys=Keys("nobody", "x" * 40, "us-east-1"))
    assert await detail(storage.page(unknown, "", 9, "")) == (502, "storage_refuses_keys")

    backend, user = Backend(minio_server), f"u-{uuid.uuid4().hex[:8]}"
    secret = uuid.uuid4().hex
    backend.put_user(user, secret)
    limited = replace(place, keys=Keys(user, secret, "us-east-1"))
    assert await detail(storage.page(limited, "", 9, "")) == (403, "storage_forbids")
    backend.put_policy(f"{user}.w", granted(place.bucket, "WriteOnly"))
    backend.set_policies(user, [f"{user}.w"])
    assert (await storage.page(limited, "", 9, ""))["objects"][0]["key"] == "k"
    assert await detail(storage.size(limited, "k")) == (403, "storage_forbids")
    backend.put_policy(f"{user}.w", granted(place.bucket, "ReadOnly"))
    assert await storage.size(limited, "k") == 1
    backend.remove_user(user)


async def test_a_clock_that_is_wrong_is_said(
    minio_server: MinIO, storage: ObjectStorage, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    monkeypatch.setattr("workspaces.object_storage._now", lambda: late)
    with pytest.raises(Problem) as caught:
        await storage.page(place, "", 9, "")
    assert caught.value.detail == {"error": "storage_refuses_keys", "reason": "RequestTimeTooSkewed"}


def test_what_was_stored_is_there_after_a_restart(minio_server: MinIO, place: Place) -> None:
    assert put(minio_server, place, "k", b"kept")
    minio_server.stop()
    minio_server.start()
    assert minio_server.ask("GET", place.path("k")).content == b"kept"
