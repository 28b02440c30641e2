"""Which streams hear of which change."""

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.informers import Informers
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope
from hack.deadlines import scaled
from tests.kube.scripted import Scripted, serve
from tests.workspaces.api import Api, serving
from tests.workspaces.objects import SETTINGS, TODAY, datalab, secret, storage
from workspaces import reads, streams
from workspaces.cache import Cache
from workspaces.claims import Identity
from workspaces.permissions import Permissions
from workspaces.reads import Pieces
from workspaces.settings import Settings
from workspaces.streams import Stream, Streams, follow_all, number

NAMES = ("ws-a", "ws-b", "ws-c")
CALLERS = {
    "root": Identity("root", is_platform_admin=True),
    "alice": Identity("alice", roles={"ws-a": "ws_admin", "ws-b": "ws_access"}),
}
STREAMS = [("root", ""), ("alice", ""), ("alice", "ws-a"), ("root", "ws-c")]
"""Who listens, and to which workspace; without a name to all that may be seen."""

Heard = dict[tuple[str, str], dict[str, set[str]]]
"""Parts by workspace, by stream."""


class Listeners:
    """Open streams over a cache that a test changes."""

    def __init__(self, informers: Informers) -> None:
        self._informers = informers
        self._open: dict[tuple[str, str], Stream] = {}
        self._put(kinds.STORAGES, *map(storage, NAMES))
        self._put(kinds.DATALABS, *map(datalab, NAMES))

    @property
    def is_complete(self) -> bool:
        return len(self._open) == len(STREAMS)

    def app(self, streams: Streams) -> web.Application:
        async def listen(request: web.Request) -> web.StreamResponse:
            who, workspace = request.match_info["who"], request.query.get("workspace", "")
            async with streams.open(request, CALLERS[who], workspace) as stream:
                self._open[who, workspace] = stream
                await asyncio.Event().wait()
            return stream.response

        app = web.Application()
        app.router.add_get("/{who}", listen)
        return app

    def heard_of(self, kind: Resource, *objects: Manifest) -> Heard:
        """What each stream that hears anything hears once these are all objects of their kind."""
        for stream in self._open.values():
            stream.changes.clear()
        self._put(kind, *objects)
        return {about: stream.changes for about, stream in self._open.items() if stream.changes}

    async def next_of(self, about: tuple[str, str]) -> dict[str, set[str]]:
        """What a stream hears next."""
        stream = self._open[about]
        stream.changes.clear()
        for _ in range(2):  # once for what it has heard of already
            assert await stream.changed()
        return stream.changes

    def _put(self, kind: Resource, *objects: Manifest) -> None:
        scope = Scope() if kind in (kinds.RESOURCE_QUOTAS, kinds.VOLUME_CLAIMS) else Scope("workspace")
        self._informers.store(kind).replace(scope, list(objects))


@pytest.fixture
def settings() -> Settings:
    return SETTINGS


@pytest.fixture
async def listeners(tmp_path: Path, settings: Settings) -> AsyncIterator[Listeners]:
    async with serve(Scripted(), tmp_path) as client:
        informers = Informers(client)
        opened = Streams(Cache(client, informers, "workspace"), settings)
        listeners = Listeners(informers)
        async with TestClient(TestServer(listeners.app(opened), handler_cancellation=True)) as browser:
            for who, workspace in STREAMS:
                await browser.get(f"/{who}?workspace={workspace}")
            assert listeners.is_complete
            yield listeners


def version(obj: Manifest, number: str = "8") -> Manifest:
    return obj | {"metadata": obj["metadata"] | {"resourceVersion": number}}


def test_a_datalab_is_heard_of_by_whom_it_is_about(listeners: Listeners) -> None:
    changed = version(datalab("ws-b", users=["alice", "bob"]), "10")
    heard = listeners.heard_of(kinds.DATALABS, datalab("ws-a"), changed, datalab("ws-c"))
    assert heard == {("root", ""): {"ws-b": {"members"}}, ("alice", ""): {"ws-b": {"members"}}}


async def test_what_a_storage_offers_concerns_all_but_each_stream_takes_its_own(listeners: Listeners) -> None:
    """500 workspaces that change in 200 streams of one each are 200 notes."""
    offered = [{"bucketName": name, "discoverable": True} for name in ("ws-c", "ws-c-maps")]
    heard = listeners.heard_of(
        kinds.STORAGES, storage("ws-a"), storage("ws-b"), version(storage("ws-c", buckets=offered))
    )
    assert heard == {
        ("root", ""): {name: {"buckets"} for name in NAMES},
        ("alice", ""): {name: {"buckets"} for name in ("ws-a", "ws-b")},
        ("alice", "ws-a"): {"ws-a": {"buckets"}},
        ("root", "ws-c"): {"ws-c": {"buckets"}},
    }


def test_a_request_concerns_who_asks_and_who_is_asked(listeners: Listeners) -> None:
    asked = [{"bucketName": "ws-a", "reason": "ReadOnly: maps", "requestedAt": TODAY}]
    changed = version(storage("ws-b", bucketAccessRequests=asked))
    assert listeners.heard_of(kinds.STORAGES, storage("ws-a"), changed, storage("ws-c")) == {
        ("root", ""): {name: {"requests"} for name in ("ws-a", "ws-b")},
        ("alice", ""): {name: {"requests"} for name in ("ws-a", "ws-b")},
        ("alice", "ws-a"): {"ws-a": {"requests"}},
    }


async def test_who_listens_to_a_workspace_hears_that_it_is_gone(listeners: Listeners) -> None:
    others = {name: {"buckets"} for name in ("ws-a", "ws-b")}
    assert listeners.heard_of(kinds.STORAGES, storage("ws-a"), storage("ws-b")) == {
        ("root", ""): {"ws-c": {"buckets", "status"}} | others,
        ("alice", ""): others,
        ("alice", "ws-a"): {"ws-a": {"buckets"}},
        ("root", "ws-c"): {"ws-c": {"buckets", "status"}},
    }


def offering(name: str, number: int) -> Manifest:
    """A Storage whose bucket can be found in versions of an even number."""
    bucket = {"bucketName": name, "discoverable": number % 2 == 0}
    return version(storage(name, buckets=[bucket]), str(number))


def test_a_bucket_that_nobody_finds_is_heard_of_by_its_workspace_alone(listeners: Listeners) -> None:
    made = version(storage("ws-c", buckets=[*storage("ws-c")["spec"]["buckets"], {"bucketName": "ws-c-maps"}]))
    assert listeners.heard_of(kinds.STORAGES, storage("ws-a"), storage("ws-b"), made) == {
        ("root", ""): {"ws-c": {"buckets"}},
        ("root", "ws-c"): {"ws-c": {"buckets"}},
    }


async def test_what_is_found_and_hidden_all_the_time_is_told_to_others_once_in_a_while(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "OFFERS_SECONDS", 0.2)
    others = [storage("ws-a"), storage("ws-b")]
    one = ("alice", "ws-a")
    assert one in listeners.heard_of(kinds.STORAGES, *others, offering("ws-c", 11))
    for turn in (12, 13, 14):
        heard = listeners.heard_of(kinds.STORAGES, *others, offering("ws-c", turn))
        assert heard == {about: {"ws-c": {"buckets"}} for about in (("root", ""), ("root", "ws-c"))}
    assert await listeners.next_of(one) == {"ws-a": {"buckets"}}


def test_a_change_that_shows_nowhere_is_heard_of_by_nobody(listeners: Listeners) -> None:
    assert listeners.heard_of(kinds.STORAGES, *(version(storage(name)) for name in NAMES)) == {}


def test_a_secret_concerns_the_workspace_that_it_is_named_after(listeners: Listeners) -> None:
    assert listeners.heard_of(kinds.SECRETS, secret("ws-c-datalab")) == {
        ("root", ""): {"ws-c": {"credentials"}},
        ("root", "ws-c"): {"ws-c": {"credentials"}},
    }


@pytest.mark.parametrize("settings", [replace(SETTINGS, storage_secret="keys-of-<principal>")])
def test_where_names_follow_a_template_a_secret_may_be_anybodys(listeners: Listeners) -> None:
    assert listeners.heard_of(kinds.SECRETS, secret("keys-of-ws-c"))["alice", "ws-a"] == {"ws-a": {"credentials"}}


def test_usage_concerns_the_workspace_of_the_namespace(listeners: Listeners) -> None:
    quota = {"metadata": {"name": "quota", "namespace": "ws-c", "resourceVersion": "1"}}
    assert listeners.heard_of(kinds.RESOURCE_QUOTAS, quota) == {
        ("root", ""): {"ws-c": {"usage"}},
        ("root", "ws-c"): {"ws-c": {"usage"}},
    }


Fields = dict[bytes, bytes]


@contextlib.asynccontextmanager
async def listening(
    tmp_path: Path, query: str = ""
) -> AsyncIterator[tuple[Informers, Callable[[], Awaitable[Fields]]]]:
    """Caches, and what returns the next event of the list's stream that they feed."""
    async with serve(Scripted(), tmp_path) as client:
        informers = Informers(client)
        opened = Streams(Cache(client, informers, "workspace"), SETTINGS)

        async def listen(request: web.Request) -> web.StreamResponse:
            async with opened.open(request, CALLERS["root"]) as stream:
                await follow_all(stream, lambda: b"[]", lambda: {"ws-a": "1/1"}, lambda: opened.stale_since)
            return stream.response

        app = web.Application()
        app.router.add_get("/", listen)
        async with TestClient(TestServer(app)) as browser, browser.get(f"/{query}") as response:

            async def following() -> Fields:
                async with asyncio.timeout(scaled(10)):
                    block = await response.content.readuntil(b"\n\n")
                fields = (line.partition(b": ") for line in block.splitlines())
                return {name: value for name, _, value in fields if name}

            assert (await following()).keys() == {b"retry"}
            yield informers, following


async def first_event(tmp_path: Path, query: str) -> tuple[bytes, bytes]:
    """Name and id of the first event of the list's stream."""
    async with listening(tmp_path, query) as (_, following):
        fields = await following()
        return fields[b"event"], fields.get(b"id", b"")


async def test_who_reads_the_list_is_told_that_it_may_be_out_of_date_unless_that_passes_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime.datetime(2026, 5, 5, 20, tzinfo=datetime.UTC)
    lost: list[datetime.datetime | None] = [None]
    monkeypatch.setattr(Cache, "lost_at", property(lambda _: lost[-1]))
    monkeypatch.setattr("workspaces.streams.STALE_SECONDS", 0.05)
    async with listening(tmp_path) as (informers, following):
        assert (await following())[b"event"] == b"snapshot"
        for found in (at, None, at):  # of which the first passes
            lost.append(found)
            informers._changed()
        stale = {b"event": b"stale", b"data": b'{"since":"2026-05-05T20:00:00Z"}'}
        assert await following() == stale
        lost.append(None)
        informers._changed()
        assert await following() == {b"event": b"stale", b"data": b'{"since":null}'}


async def test_a_list_begins_with_a_snapshot_unless_its_state_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspaces.streams.BEAT_SECONDS", 0.01)
    known = number({"ws-a": "1/1"})
    assert await first_event(tmp_path, "?after=older") == (b"snapshot", known.encode())
    assert await first_event(tmp_path, f"?after={known}") == (b"beat", b"")


class Client:
    """Whoever reads a stream of one workspace."""

    def __init__(self, api: Api, user: str, role: str, workspace: str = "ws-a") -> None:
        self._api = api
        self.user = user
        self.roles = {workspace: role}
        self.workspace = workspace
        self._answer: aiohttp.ClientResponse | None = None

    async def snapshot(self) -> dict[str, Any]:
        """The next."""
        if self._answer is None:
            path = f"/workspaces/{self.workspace}/events"
            self._answer = await self._api.ask("GET", path, self.user, roles=self.roles)
            assert self._answer.status == 200, await self._answer.text()
        async with asyncio.timeout(scaled(10)):
            while not (event := await self._answer.content.readuntil(b"\n\n")).startswith(b"id: "):
                assert event
        found: dict[str, Any] = json.loads(event.partition(b"data: ")[2])
        return found


async def test_streams_that_show_the_same_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: a bucket that is found and hidden again costs a view for each workspace and role."""
    rendered: list[tuple[str, int]] = []

    def counted(
        pieces: Pieces, sharing: Any, offer: Any, settings: Any, allowed: Permissions, **more: bool
    ) -> reads.View:
        rendered.append((pieces.storage["metadata"]["name"], len(allowed)))
        return view(pieces, sharing, offer, settings, allowed, **more)

    view = reads.anybodys
    monkeypatch.setattr(reads, "anybodys", counted)
    storages = [storage(name) for name in NAMES]
    async with serving(tmp_path, storages=storages, datalabs=[datalab(name) for name in NAMES]) as api:
        clients = [Client(api, f"user-{number}", "ws_admin") for number in range(6)]
        clients += [Client(api, f"reader-{number}", "ws_access") for number in range(6)]
        clients += [Client(api, "machine", "ws_api"), Client(api, "other", "ws_admin", "ws-b")]
        expected = [("ws-a", 1), ("ws-a", 6), ("ws-a", 11), ("ws-b", 11)]
        for hidden in (False, True):
            if hidden:
                api.services.cache.informers.store(kinds.STORAGES).observe(offering("ws-c", 11))
                clients = [client for client in clients if client.user != "machine"]
            snapshots = [await client.snapshot() for client in clients]
            assert [found["user"]["name"] for found in snapshots] == [client.user for client in clients]
            shown = [[row["bucket"] for row in found["storage"]["bucket_access_requests"]] for found in snapshots]
            assert {"ws-c" in buckets for buckets in shown if buckets} == {not hidden}
            assert sorted(rendered) == expected
            rendered.clear()
