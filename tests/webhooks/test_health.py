"""When a replica is ready: when it can answer, and never only after somebody else reached it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from datalabd.errors import Unavailable
from datalabd.kube import resources as kinds
from datalabd.kube.informers import Informers
from datalabd.kube.resources import Resource
from tests.kube.scripted import Reply, Routed, Scripted, listing, serve, status
from tests.kube.test_informers import until
from webhooks import health

BROKEN = status(500, "InternalError", "conversion webhook failed")
CORE: dict[str, list[Reply]] = {"namespaces": [listing("1")], "environmentconfigs": [listing("1"), listing("1")]}


@pytest.fixture
async def informers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Informers]:
    """Informers of an API server that answers as the test's `answers` say, by plural; nothing else is answered."""
    server = Routed(**request.param)
    async with serve(server, tmp_path) as client:
        made = Informers(client)
        made.watch(kinds.NAMESPACES)
        for kind in (kinds.DATALABS, kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS):
            made.watch(kind, optional=True)
        for kind in (kinds.CACHE_STORES, kinds.WORKSHOPS):
            made.watch(kind, optional=True)
        yield made
        await made.stop()


@pytest.mark.parametrize(
    "informers",
    [
        pytest.param(CORE | {"datalabs": [listing("1")]}, id="Datalabs are listed"),
        pytest.param(CORE | {"datalabs": [BROKEN]}, id="Datalabs are answered with an error"),
        pytest.param(CORE | {"datalabs": [status(404, "NotFound")]}, id="there is no such kind yet"),
        pytest.param(CORE | {"datalabs": [status(429, "TooManyRequests")]}, id="the API server is busy with them"),
    ],
    indirect=True,
)
async def test_ready(informers: Informers) -> None:
    """Though nothing was heard of Redis and Workshops."""
    await until(lambda: list(health.missing(informers)) == [])


@pytest.mark.parametrize(
    ("informers", "expected"),
    [
        pytest.param(CORE, ["datalabs.pkg.internal: the API server has not answered yet"], id="Datalabs"),
        pytest.param(
            {"datalabs": [BROKEN], "environmentconfigs": CORE["environmentconfigs"]}, ["namespaces"], id="a core kind"
        ),
        pytest.param(
            {"datalabs": [BROKEN], "namespaces": [listing("1")]},
            ["environmentconfigs.pkg.internal", "environmentconfigs.apiextensions.crossplane.io"],
            id="environments",
        ),
    ],
    indirect=["informers"],
)
async def test_not_ready(informers: Informers, expected: list[str]) -> None:
    await until(lambda: list(health.missing(informers)) == expected)


@pytest.mark.parametrize("informers", [CORE | {"datalabs": [listing("1")]}], indirect=True)
@pytest.mark.parametrize(
    ("broken", "is_ready"), [(kinds.ENVIRONMENT_CONFIGS, False), (kinds.CROSSPLANE_ENVIRONMENTS, True)], ids=str
)
async def test_our_own_environments_have_to_be_readable(
    informers: Informers, monkeypatch: pytest.MonkeyPatch, broken: Resource, is_ready: bool
) -> None:
    await until(lambda: list(health.missing(informers)) == [])
    error = Unavailable(500, "InternalError", "no")
    monkeypatch.setattr(informers, "unreadable", lambda kind: error if kind == broken else None)
    assert (list(health.missing(informers)) == []) is is_ready


async def test_nothing_is_ready_before_it_was_asked_for(tmp_path: Path) -> None:
    async with serve(Scripted(), tmp_path) as client:
        assert list(health.missing(Informers(client))) != []


async def test_the_site_says_what_is_missing() -> None:
    reasons = ["namespaces", "stopping"]
    async with TestClient(TestServer(health.application(lambda: reasons))) as site:
        answer = await site.get("/readyz")
        assert (answer.status, await answer.text()) == (503, "namespaces\nstopping\n")
        reasons.clear()
        answer = await site.get("/readyz")
        assert (answer.status, await answer.text()) == (200, "ok\n")
        answer = await site.get("/healthz")
        assert (answer.status, await answer.text()) == (200, "ok\n")
        assert "datalabd_leader" in await (await site.get("/metrics")).text()
