"""List and watch under faults: the store ends equal to the server's state whatever happens on the way."""

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from datalabd.kube import reflector
from datalabd.kube import resources as kinds
from datalabd.kube.reflector import Reflector
from datalabd.kube.store import Scope, Store
from hack.deadlines import scaled
from tests.kube.scripted import Reply, Scripted, listing, serve, status, stream


def namespace(name: str, version: str, **annotations: str) -> dict[str, Any]:
    """A Namespace as the API server sends it."""
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": version, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    """A watch event."""
    return {"type": kind, "object": obj}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries shrink, their order does not."""
    monkeypatch.setattr(reflector, "backoff", lambda failures, longest=60.0: 0.001 * failures)


async def reflected(tmp_path: Path, condition: Callable[[Store, Scripted], bool], *script: Reply) -> Scripted:
    """Run a reflector of Namespaces over the script until the condition holds."""
    server = Scripted(*script)
    store = Store(kinds.NAMESPACES)
    async with serve(server, tmp_path) as client:
        task = asyncio.create_task(Reflector(client, store).run())
        try:
            async with asyncio.timeout(scaled(10)):
                while not condition(store, server):
                    if task.done():
                        task.result()
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return server


def names(store: Store) -> set[str]:
    """Names in the store."""
    return {obj["metadata"]["name"] for obj in store}


async def test_lists_then_follows_changes(tmp_path: Path) -> None:
    changes = stream(
        event("ADDED", namespace("b", "2")),
        event("MODIFIED", namespace("a", "3", changed="yes")),
        event("DELETED", namespace("b", "4")),
    )
    await reflected(
        tmp_path,
        lambda store, _: names(store) == {"a"} and store.get("", "a")["metadata"]["annotations"] == {"changed": "yes"},  # type: ignore[index]
        listing("1", namespace("a", "1")),
        changes,
    )


async def test_what_the_store_trims_away_goes_though_the_watch_lasts(tmp_path: Path) -> None:
    obj = namespace("a", "1")
    entry = obj["metadata"]["managedFields"] = [{"manager": "somebody", "fieldsV1": {"f:trimmed": {}}}]

    def copies(store: Store, server: Scripted) -> bool:
        """Whether the watch stands, and nobody but this test has what was trimmed away."""
        alike = [held for held in gc.get_objects() if type(held) is list and held == entry and held is not entry]
        return len(server.requests) == 2 and names(store) == {"a"} and not alike

    await reflected(tmp_path, copies, listing("1", obj))


async def test_a_raw_next_line_character_does_not_break_the_stream(tmp_path: Path) -> None:
    """U+0085 counts as a line end to str.splitlines, and is legal inside a JSON string."""
    await reflected(
        tmp_path,
        lambda store, _: names(store) == {"a"},
        listing("1"),
        stream(event("ADDED", namespace("a", "2", note="one\u0085two\u2028three"))),
    )


async def test_an_event_in_two_halves_is_one_event(tmp_path: Path) -> None:
    await reflected(
        tmp_path,
        lambda store, _: names(store) == {"a"},
        listing("1"),
        stream(b'{"type": "ADDED", "object": {"metadata": {"name": "a", ', b'"uid": "u", "resourceVersion": "2"}}}\n'),
    )


async def test_a_watch_too_old_by_status_lists_again(tmp_path: Path) -> None:
    server = await reflected(
        tmp_path,
        lambda store, _: names(store) == {"b"},
        listing("1", namespace("a", "1")),
        status(410, "Expired"),
        listing("9", namespace("b", "8")),
    )
    assert [request.query.get("watch") for request in server.requests[:3]] == [None, "true", None]


async def test_a_watch_too_old_by_event_lists_again(tmp_path: Path) -> None:
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    await reflected(
        tmp_path,
        lambda store, _: names(store) == {"b"},
        listing("1", namespace("a", "1")),
        stream(expired),
        listing("9", namespace("b", "8")),
    )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(stream(b'{"type": "ADDED", "obj', abort=True), id="half a line, then gone"),
        pytest.param(stream(b"not json\n"), id="garbage"),
        pytest.param(stream(abort=True), id="dropped at once"),
        pytest.param(status(429, "TooManyRequests", headers={"Retry-After": "1"}), id="429"),
        pytest.param(status(403, "Forbidden"), id="403 for a moment"),
        pytest.param(status(500, "InternalError"), id="500"),
        pytest.param(stream({"type": "ERROR", "object": {"kind": "Status", "code": 500}}), id="an ERROR event"),
    ],
)
async def test_other_faults_resume_where_the_watch_was(tmp_path: Path, fault: Reply) -> None:
    server = await reflected(
        tmp_path,
        lambda store, _: names(store) == {"a", "b"},
        listing("1", namespace("a", "1")),
        fault,
        stream(event("ADDED", namespace("b", "2"))),
    )
    assert server.requests[2].query["resourceVersion"] == "1"


async def test_one_that_lists_anew_is_not_current_from_an_outage_until_then(tmp_path: Path) -> None:
    """etcd may have been restored meanwhile: what was known need not be there any more."""
    asked, listed = asyncio.Event(), asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        asked.set()
        await listed.wait()
        return await listing("9", namespace("b", "8"))(request)

    server = Scripted(listing("1", namespace("a", "1")), stream(abort=True), later)
    store = Store(kinds.NAMESPACES)
    async with serve(server, tmp_path) as client:
        made = Reflector(client, store, anew=True)
        task = asyncio.create_task(made.run())
        try:
            async with asyncio.timeout(scaled(10)):
                await asked.wait()
                assert (names(store), made.current.is_set()) == ({"a"}, False)
                listed.set()
                await made.current.wait()
            assert names(store) == {"b"}
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_is_known_since_when_no_changes_are_heard_of(tmp_path: Path) -> None:
    away, back, heard = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        away.set()
        await back.wait()
        return await stream()(request)

    server = Scripted(listing("1", namespace("a", "1")), stream(abort=True), later)
    told: list[bool] = []

    def changed() -> None:
        told.append(made.lost_at is not None)
        if not told[-1]:
            heard.set()

    async with serve(server, tmp_path) as client:
        made = Reflector(client, Store(kinds.NAMESPACES), on_change=changed)
        task = asyncio.create_task(made.run())
        try:
            async with asyncio.timeout(scaled(10)):
                await away.wait()
                assert made.lost_at is not None
                back.set()
                await heard.wait()
            assert told == [True, False]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_bookmarks_move_the_place_to_resume_from(tmp_path: Path) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}
    server = await reflected(
        tmp_path, lambda _, server: len(server.requests) >= 3, listing("1"), stream(bookmark), stream()
    )
    assert server.requests[2].query["resourceVersion"] == "77"


async def test_a_list_that_fails_is_tried_again(tmp_path: Path) -> None:
    await reflected(
        tmp_path,
        lambda store, _: store.synced(Scope()) and names(store) == {"a"},
        status(503, "ServiceUnavailable"),
        listing("1", namespace("a", "1")),
    )


async def test_what_vanished_between_lists_is_told(tmp_path: Path) -> None:
    told: list[str] = []

    def vanished(store: Store, _: Scripted) -> bool:
        if not told:
            told.append("subscribed")
            store.subscribe(lambda obj: told.append(obj["metadata"]["name"]))
        return told[1:] == ["a", "a"] and len(store) == 0

    await reflected(tmp_path, vanished, listing("1", namespace("a", "1")), status(410), listing("2"))


async def test_an_error_of_our_own_ends_the_process_instead_of_a_blind_cache(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await reflected(tmp_path, lambda *_: False, listing("1", {"no": "metadata"}))


@pytest.mark.parametrize("while_listing", [True, False])
async def test_retry_after_is_heeded(tmp_path: Path, while_listing: bool) -> None:
    asked: list[float] = []
    busy = status(429, "TooManyRequests", headers={"Retry-After": "1"})

    async def noted(request: web.Request) -> web.StreamResponse:
        asked.append(time.monotonic())
        return await (busy if len(asked) == 1 else listing("1") if while_listing else stream())(request)

    before = [] if while_listing else [listing("1")]
    await reflected(tmp_path, lambda *_: len(asked) == 2, *before, noted, noted)
    assert asked[1] - asked[0] >= 1


async def test_no_pause_is_longer_than_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "RETRY_AFTER_SECONDS", 0.1)
    busy = status(429, "TooManyRequests", headers={"Retry-After": "86400"})
    await reflected(tmp_path, lambda store, _: store.synced(Scope()), busy, listing("1"))
