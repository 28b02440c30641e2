"""What is known of the cluster, and what it is taken for while some of it may not be read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.errors import Denied
from datalabd.kube import reflector
from datalabd.kube import resources as kinds
from datalabd.kube.informers import Informers
from hack.deadlines import scaled
from tests.kube.scripted import Reply, Routed, listing, serve, status, stream
from tests.workspaces.objects import datalab, grant, request, secret, storage
from workspaces.cache import Cache, Unknown, spec_fields

SCRIPTS = {
    "customresourcedefinitions": [listing("1")],
    "storages": [listing("1", storage())],
    "datalabs": [listing("1", datalab())],
    "secrets": [listing("1", secret() | {"metadata": secret()["metadata"] | {"resourceVersion": "1"}})],
}
"""Everything can be read, and then nothing happens."""


def refused(plural: str, group: str = "") -> list[Reply]:
    """The API server keeps saying that this may not be read."""
    said = f'User "ann" cannot list resource "{plural}" in API group "{group}" in the namespace "workspace"'
    return [status(403, "Forbidden", message=said)] * 10_000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "backoff", lambda failures, longest=60.0: 0.005)
    monkeypatch.setattr(reflector, "DENIED_SECONDS", 0.1)
    monkeypatch.setattr(reflector, "UNREADABLE_SECONDS", 0.1)


@asynccontextmanager
async def caching(tmp_path: Path, **scripts: list[Reply]) -> AsyncIterator[Cache]:
    """A cache of a server where all can be read but what the scripts say."""
    async with serve(Routed(**SCRIPTS | scripts), tmp_path) as client:
        cache = Cache(client, Informers(client), "workspace")
        cache.start()
        try:
            yield cache
        finally:
            await cache.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(scaled(10)):
        while not condition():  # noqa: ASYNC110  # many things tell of it
            await asyncio.sleep(0.005)


async def test_all_is_known_once_it_is_listed(tmp_path: Path) -> None:
    async with caching(tmp_path) as cache:
        assert cache.missing() == [
            "storages.pkg.internal of namespace workspace are not listed",
            "datalabs.pkg.internal of namespace workspace are not listed",
            "secrets of namespace workspace are not listed",
            "customresourcedefinitions.apiextensions.k8s.io are not listed",
        ]
        await until(lambda: not cache.missing())
        assert cache.withheld(kinds.SECRETS) is None
        assert cache.secret("ws-a") is not None


async def test_secrets_that_may_not_be_read_hold_nothing_else_up(tmp_path: Path) -> None:
    async with caching(tmp_path, secrets=refused("secrets")) as cache:
        await until(lambda: not cache.missing())
        assert isinstance(cache.withheld(kinds.SECRETS), Denied)
        cache.require(kinds.STORAGES, kinds.DATALABS)
        with pytest.raises(Unknown):
            cache.require(kinds.SECRETS)


async def test_secrets_are_forgotten_once_they_may_not_be_read_any_more(tmp_path: Path) -> None:
    heard: list[str] = []
    async with caching(tmp_path, secrets=[*SCRIPTS["secrets"], stream(), *refused("secrets")]) as cache:
        await until(lambda: cache.secret("ws-a"))
        cache.on_change(lambda kind, before, after, _: heard.append(f"{kind} {after}"))
        await until(lambda: cache.withheld(kinds.SECRETS))
        assert cache.secret("ws-a") is None
        assert heard == ["secrets None"]
        assert cache.missing() == []


async def test_without_definitions_no_kind_is_found_but_what_is_served(tmp_path: Path) -> None:
    scripts = {"customresourcedefinitions": refused("customresourcedefinitions", "apiextensions.k8s.io")}
    async with caching(tmp_path, **scripts) as cache:
        await until(lambda: not cache.missing())
        assert (cache.are_crds_known, cache.crds, cache.has(kinds.DATALABS)) == (True, frozenset(), True)


@pytest.mark.parametrize("plural", ["storages", "datalabs"])
async def test_what_nothing_goes_without_is_said_to_be_refused(tmp_path: Path, plural: str) -> None:
    """Datalabs say who was removed: without them nobody is let in."""
    async with caching(tmp_path, **{plural: refused(plural, "pkg.internal")}) as cache:
        await until(lambda: cache.missing() == [f"{plural}.pkg.internal of namespace workspace may not be listed"])
        with pytest.raises(Unknown):
            cache.require(kinds.STORAGES, kinds.DATALABS)


def version(name: str, *fields: str, served: bool = True) -> dict[str, Any]:
    properties = {"spec": {"type": "object", "properties": {field: {} for field in fields}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {"name": name, "served": served, "schema": schema}


@pytest.mark.parametrize(
    ("versions", "fields"),
    [
        pytest.param([version("v1beta1", "a"), version("v1beta2", "b", "c")], {"b", "c"}, id="of our version"),
        pytest.param([version("v1beta1", "a"), version("v1beta2", "b", served=False)], {"a"}, id="else of the first"),
        pytest.param([version("v1beta2")], set(), id="none"),
        pytest.param([{"name": "v1beta2", "served": True}], set(), id="no schema"),
        pytest.param([version("v1beta2", "a", served=False)], set(), id="nothing served"),
    ],
)
def test_fields_of_a_schema(versions: list[dict[str, Any]], fields: set[str]) -> None:
    assert spec_fields({"spec": {"versions": versions}}) == fields


async def test_a_workspace_is_another_where_whoever_shares_with_it_is(tmp_path: Path) -> None:
    """By what is known alone, whatever came first: replicas say the same."""

    def of(name: str, version: str, **spec: Any) -> Manifest:
        made = storage(name, **spec)
        return made | {"metadata": made["metadata"] | {"resourceVersion": version}}

    async with caching(tmp_path, storages=[listing("1")]) as cache:
        await until(lambda: not cache.missing())
        observe = cache.informers.store(kinds.STORAGES).observe
        observe(of("ws-a", "7"))
        observe(of("ws-b", "8"))
        alone = cache.versions("ws-a"), cache.versions("ws-b")
        observe(of("ws-b", "9", bucketAccessRequests=[request("ws-a")]))
        asked = cache.versions("ws-a")
        observe(of("ws-c", "10"))
        assert (cache.versions("ws-a"), asked == alone[0]) == (asked, False)
        observe(of("ws-b", "11"))
        assert (cache.versions("ws-a"), cache.versions("ws-b") == alone[1]) == (alone[0], False)
        observe(of("ws-b", "12", bucketAccessGrants=[grant("ws-b", "ws-a")]))
        granted = cache.versions("ws-a")
        observe(of("ws-b", "13", bucketAccessGrants=[grant("ws-b", "ws-a", "None")]))
        assert len({alone[0], granted, cache.versions("ws-a")}) == 3
        assert cache.versions("nobody") == "//" + alone[0].rpartition("/")[2]
