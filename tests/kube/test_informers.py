"""Reflectors come and go with what is asked of the caches."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from datalabd.kube import reflector
from datalabd.kube import resources as kinds
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.store import Scope
from hack.deadlines import scaled
from tests.kube.scripted import Reply, Routed, Scripted, listing, serve, status

TEAM = Scope("team")


def obj(name: str) -> dict[str, Any]:
    """An object as the API server lists it."""
    return {"metadata": {"name": name, "namespace": "team", "resourceVersion": "1"}}


@asynccontextmanager
async def informers(tmp_path: Path, **scripts: Sequence[Reply]) -> AsyncIterator[tuple[Informers, Scripted]]:
    """Informers of a server that follows the scripts."""
    server = Routed(**scripts)
    async with serve(server, tmp_path) as client:
        made = Informers(client)
        try:
            yield made, server
        finally:
            await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail where it does not in time."""
    deadline = asyncio.get_running_loop().time() + scaled(10)
    while asyncio.get_running_loop().time() < deadline:
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came to be")


DENIED = status(
    403, "Forbidden", message='User "ann" cannot list resource "secrets" in API group "" in the namespace "team"'
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once, and what lasts a tenth of a second is said."""
    monkeypatch.setattr(reflector, "backoff", lambda failures, longest=60.0: 0.005)
    monkeypatch.setattr(reflector, "DENIED_SECONDS", 0.1)
    monkeypatch.setattr(reflector, "UNREADABLE_SECONDS", 0.1)


@pytest.mark.usefixtures("pauses")
async def test_a_scope_that_may_not_be_read_says_so_until_it_may(tmp_path: Path) -> None:
    opened = asyncio.Event()

    async def denied_until_opened(request: web.Request) -> web.StreamResponse:
        return await (listing("1", obj("a")) if opened.is_set() else DENIED)(request)

    async with informers(tmp_path, secrets=[denied_until_opened] * 1000) as (made, _):
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: made.denied(kinds.SECRETS, TEAM) is not None)
        assert not made.synced(kinds.SECRETS, TEAM)
        opened.set()
        await until(lambda: made.synced(kinds.SECRETS, TEAM))
        assert made.denied(kinds.SECRETS, TEAM) is None


async def test_rights_that_come_late_are_not_told_however_often_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged by time: an API server that starts refuses for a moment what is granted."""
    monkeypatch.setattr(reflector, "backoff", lambda failures, longest=60.0: 0.001)
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        await held.wait()
        return await listing("1")(request)

    async with informers(tmp_path, secrets=[DENIED] * 30 + [hold]) as (made, server):
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: len(server.requests) == 31)
        assert made.denied(kinds.SECRETS, TEAM) is None
        held.set()


@pytest.mark.usefixtures("pauses")
async def test_denials_apart_from_each_other_are_not_one(tmp_path: Path) -> None:
    denied_twice: list[Reply] = [DENIED, listing("1"), status(410, "Expired")] * 60
    async with informers(tmp_path, secrets=denied_twice) as (made, server):
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: len(server.requests) == 180)
        assert made.denied(kinds.SECRETS, TEAM) is None


BROKEN = [
    pytest.param(status(500, "InternalError", "conversion webhook for Redis failed"), id="500"),
    pytest.param(status(429, "TooManyRequests", "storage is (re)initializing"), id="429"),
    pytest.param(DENIED, id="no rights"),
]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("fault", BROKEN)
async def test_an_optional_kind_that_cannot_be_read_holds_nobody_up(tmp_path: Path, fault: Reply) -> None:
    mended = asyncio.Event()
    changes: list[bool] = []

    async def broken(request: web.Request) -> web.StreamResponse:
        return await (listing("1", obj("a")) if mended.is_set() else fault)(request)

    async with informers(tmp_path, redis=[broken] * 1000, namespaces=[listing("1")]) as (made, _):
        made.subscribe(lambda: changes.append(made.unreadable(kinds.CACHE_STORES) is not None))
        made.watch(kinds.CACHE_STORES, optional=True)
        made.watch(kinds.NAMESPACES)
        await asyncio.wait_for(made.until_synced(kinds.NAMESPACES), scaled(10))
        assert made.unreadable(kinds.CACHE_STORES) is not None
        assert made.unreadable(kinds.NAMESPACES) is None
        assert made.pending() == []
        assert changes[-1] is True
        mended.set()
        await until(lambda: made.synced(kinds.CACHE_STORES))
        assert made.unreadable(kinds.CACHE_STORES) is None
        assert changes[-1] is False


@pytest.mark.usefixtures("pauses")
async def test_a_kind_that_was_read_before_can_become_unreadable(tmp_path: Path) -> None:
    script = [listing("1", obj("a")), *[status(500, "InternalError")] * 1000]
    async with informers(tmp_path, redis=script) as (made, _):
        made.watch(kinds.CACHE_STORES, optional=True)
        await until(lambda: made.unreadable(kinds.CACHE_STORES) is not None)
        assert made.synced(kinds.CACHE_STORES)  # what was known is kept


@pytest.mark.usefixtures("pauses")
async def test_an_api_server_that_is_away_makes_nothing_unreadable(tmp_path: Path) -> None:
    async def gone(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with informers(tmp_path, redis=[gone] * 60) as (made, server):
        made.watch(kinds.CACHE_STORES, optional=True)
        await until(lambda: len(server.requests) > 60)
        assert made.unreadable(kinds.CACHE_STORES) is None
        assert not made.answered(kinds.CACHE_STORES)


@pytest.mark.parametrize("fault", [*BROKEN, pytest.param(status(404, "NotFound"), id="not served")])
async def test_an_error_is_an_answer(tmp_path: Path, fault: Reply) -> None:
    asked = asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        await asked.wait()
        return await fault(request)

    async with informers(tmp_path, datalabs=[later, fault]) as (made, server):
        made.watch(kinds.DATALABS, optional=True)
        await until(lambda: len(server.requests) == 1)
        assert not made.answered(kinds.DATALABS)
        asked.set()
        await until(lambda: made.answered(kinds.DATALABS))
        assert not made.synced(kinds.DATALABS)


async def test_nobody_is_denied_what_is_not_watched(tmp_path: Path) -> None:
    async with informers(tmp_path) as (made, _):
        assert made.denied(kinds.SECRETS, TEAM) is None


async def test_a_watched_scope_becomes_known(tmp_path: Path) -> None:
    async with informers(tmp_path, secrets=[listing("1", obj("a"))]) as (made, _):
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: made.synced(kinds.SECRETS, TEAM))
        assert [found["metadata"]["name"] for found in made.store(kinds.SECRETS)] == ["a"]


async def test_until_synced_waits_for_all_that_is_watched_everywhere(tmp_path: Path) -> None:
    async with informers(tmp_path, namespaces=[listing("1")], leases=[listing("1")], secrets=[listing("1")]) as (
        made,
        _,
    ):
        made.watch(kinds.SECRETS, TEAM)
        made.watch(kinds.LEASES)
        made.watch(kinds.NAMESPACES)
        assert made.pending() == [kinds.LEASES, kinds.NAMESPACES]  # one namespace holds nobody up
        async with asyncio.timeout(scaled(10)):
            await made.until_synced(kinds.NAMESPACES)
        assert made.pending() == []


async def test_until_synced_does_not_wait_for_what_is_watched_no_longer(tmp_path: Path) -> None:
    async with informers(tmp_path, namespaces=[listing("1")]) as (made, _):
        made.watch(kinds.NAMESPACES)
        await until(lambda: made.synced(kinds.NAMESPACES))
        made.watch(kinds.SECRETS)
        waiting = asyncio.create_task(made.until_synced(kinds.NAMESPACES))
        await asyncio.sleep(0)
        made.unwatch(kinds.SECRETS, EVERYWHERE)
        async with asyncio.timeout(scaled(10)):
            await waiting


async def test_watching_twice_is_watching_once(tmp_path: Path) -> None:
    async with informers(tmp_path, secrets=[listing("1")]) as (made, server):
        made.watch(kinds.SECRETS, TEAM)
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: len(server.requests) == 2)  # one list, one watch
        assert made.scopes(kinds.SECRETS) == [TEAM]
        assert [request.query.get("watch") for request in server.requests] == [None, "true"]


async def test_what_is_watched_no_longer_is_forgotten(tmp_path: Path) -> None:
    async with informers(tmp_path, secrets=[listing("1", obj("a"))]) as (made, _):
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: made.synced(kinds.SECRETS, TEAM))
        made.unwatch(kinds.SECRETS, TEAM)
        assert (made.scopes(kinds.SECRETS), made.synced(kinds.SECRETS, TEAM)) == ([], False)
        assert len(made.store(kinds.SECRETS)) == 0


async def test_what_was_never_watched_can_be_given_up(tmp_path: Path) -> None:
    async with informers(tmp_path) as (made, server):
        made.unwatch(kinds.SECRETS, TEAM)
        assert server.requests == []


async def test_each_kind_has_one_store(tmp_path: Path) -> None:
    async with informers(tmp_path) as (made, _):
        assert made.store(kinds.SECRETS) is made.store(kinds.SECRETS)
        assert made.store(kinds.SECRETS) is not made.store(kinds.LEASES)


async def test_an_optional_kind_that_is_unknown_holds_nobody_up(tmp_path: Path) -> None:
    async with informers(tmp_path, namespaces=[listing("1")], workshops=[status(404, "NotFound")]) as (made, _):
        made.watch(kinds.NAMESPACES)
        await until(lambda: made.synced(kinds.NAMESPACES))
        made.watch(kinds.WORKSHOPS, optional=True)
        async with asyncio.timeout(scaled(10)):
            await made.until_synced(kinds.NAMESPACES)
        assert (made.served(kinds.WORKSHOPS), made.synced(kinds.WORKSHOPS), made.pending()) == (False, False, [])


@pytest.mark.usefixtures("pauses")
async def test_a_kind_of_the_core_waits_for_no_crd(tmp_path: Path) -> None:
    """It has none; that it is not served is a fault that passes."""
    async with informers(tmp_path, secrets=[status(404, "NotFound"), listing("1", obj("a"))]) as (made, _):
        made.watch(kinds.SECRETS, TEAM, optional=True)
        await until(lambda: made.synced(kinds.SECRETS, TEAM))
        assert made.served(kinds.SECRETS)


async def test_an_optional_kind_that_is_required_is_awaited(tmp_path: Path) -> None:
    async with informers(tmp_path, workshops=[status(404, "NotFound")]) as (made, _):
        made.watch(kinds.WORKSHOPS, optional=True)
        waiting = asyncio.create_task(made.until_synced(kinds.WORKSHOPS))
        await until(lambda: not made.served(kinds.WORKSHOPS))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_an_optional_kind_is_taken_up_when_its_crd_appears(tmp_path: Path) -> None:
    async with informers(tmp_path, workshops=[status(404, "NotFound"), listing("1", obj("a"))]) as (made, server):
        made.watch(kinds.WORKSHOPS, optional=True)
        await until(lambda: not made.served(kinds.WORKSHOPS))
        crd = {"metadata": {"name": "workshops.training.educates.dev", "resourceVersion": "1"}}
        assert len(server.requests) == 1
        made.store(kinds.CRDS).replace(EVERYWHERE, [crd])
        await until(lambda: made.synced(kinds.WORKSHOPS))
        assert made.served(kinds.WORKSHOPS)


async def test_a_kind_that_is_not_watched_counts_as_served(tmp_path: Path) -> None:
    async with informers(tmp_path) as (made, _):
        assert made.served(kinds.WORKSHOPS)


async def test_a_mistake_of_our_own_ends_the_run(tmp_path: Path) -> None:
    """Better no process than one with a cache that has gone blind."""
    async with informers(tmp_path, secrets=[listing("1", {"kind": "Secret"})]) as (made, _):
        made.watch(kinds.SECRETS, TEAM)
        async with asyncio.timeout(scaled(10)):
            with pytest.raises(KeyError, match="metadata"):
                await made.run()


async def test_giving_up_a_scope_does_not_end_the_run(tmp_path: Path) -> None:
    async with informers(tmp_path, secrets=[listing("1")]) as (made, _):
        running = asyncio.create_task(made.run())
        made.watch(kinds.SECRETS, TEAM)
        await until(lambda: made.synced(kinds.SECRETS, TEAM))
        made.unwatch(kinds.SECRETS, TEAM)
        await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_stop_ends_all(tmp_path: Path) -> None:
    async with informers(tmp_path, namespaces=[listing("1")], secrets=[listing("1")]) as (made, _):
        made.watch(kinds.SECRETS, TEAM)
        made.watch(kinds.NAMESPACES)
        await until(lambda: made.pending() == [])
        await made.stop()
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("reflector")] == []


async def test_what_is_heard_is_nobodys_pass(tmp_path: Path) -> None:
    """A pass that begins to watch ends before; what its task knew is not what the watch goes by."""
    present = ContextVar("present", default="nothing")
    heard: list[str] = []
    async with informers(tmp_path, secrets=[listing("1", obj("a"))]) as (made, _):
        made.store(kinds.SECRETS).subscribe(lambda _: heard.append(present.get()))
        token = present.set("a pass")
        made.watch(kinds.SECRETS, TEAM)
        present.reset(token)
        await until(lambda: bool(heard))
    assert heard == ["nothing"]
