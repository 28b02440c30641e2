"""What is taken for a lab's, of objects that carry its labels."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datalabd.api.meta import APPLIED, CLAIM_UID, ENVIRONMENT, RETAINED, Manifest, NamespacedName
from datalabd.errors import EnvironmentInvalid, Invalid, Unreadable
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, key_of
from tests.factories import IAM, LABELS, claim, environment, lab
from tests.kube.scripted import Scripted, serve


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    """Caches that hold what a test puts there."""
    async with serve(Scripted(), tmp_path) as client:
        yield Cache(Informers(client))


def hold(cache: Cache, kind: Resource, *namespaces: str, **labels: str) -> None:
    """Objects of a kind, called `x`, with everything that is put on a lab's own."""
    cache.informers.store(kind).replace(EVERYWHERE, [labelled(kind, namespace, **labels) for namespace in namespaces])


def labelled(kind: Resource, namespace: str, **labels: str) -> Manifest:
    metadata = {"name": "x", "labels": LABELS | labels, "annotations": {APPLIED: "digest"}}
    return {"kind": kind.kind, "metadata": metadata | ({"namespace": namespace} if namespace else {})}


@pytest.mark.parametrize(
    ("kind", "namespaces", "expected"),
    [
        pytest.param(kinds.VOLUME_CLAIMS, ("lab", "lab-main", "evil"), ["lab"], id="what holds data"),
        pytest.param(kinds.SECRETS, ("team", "lab", "evil"), ["lab", "team"], id="what lies beside the claim"),
        pytest.param(kinds.WORKSHOPS, ("",), [""], id="what has no namespace"),
        pytest.param(
            kinds.NETWORK_POLICIES, ("lab", "lab-main"), ["lab", "lab-main"], id="policies, in sessions' namespaces too"
        ),
    ],
)
async def test_labels_alone_make_nothing_a_labs(
    cache: Cache, kind: Resource, namespaces: tuple[str, ...], expected: list[str]
) -> None:
    of = lab()
    hold(cache, kind, *namespaces)
    assert [key_of(obj).namespace for obj in cache.owned(of.key, of.uid)] == expected


async def test_what_was_left_behind_is_in_the_labs_own_namespace(cache: Cache) -> None:
    hold(cache, kinds.VOLUME_CLAIMS, "lab", "evil", **{RETAINED: "true", CLAIM_UID: "earlier"})
    assert [key_of(obj).namespace for obj in cache.view(lab()).owned] == ["lab"]


@pytest.mark.parametrize("later", [kinds.WORKSHOPS, kinds.WORKSHOP_ENVIRONMENTS])
async def test_a_workshop_and_its_copy_in_the_environment_are_held_once(cache: Cache, later: Resource) -> None:
    objects: dict[Resource, Manifest] = {
        kinds.WORKSHOPS: {"spec": {"session": {"budget": "medium"}}},
        kinds.WORKSHOP_ENVIRONMENTS: {
            "spec": {"workshop": {"name": "x"}},
            "status": {"educates": {"workshop": {"name": "x", "spec": {"session": {"budget": "medium"}}}}},
        },
    }
    for kind in sorted(objects, key=lambda kind: kind == later):
        cache.informers.store(kind).replace(EVERYWHERE, [labelled(kind, "") | objects[kind]])
    workshop, runtime = (cache.get(kind.kind, "", "x") for kind in objects)
    assert workshop is not None
    assert runtime is not None
    assert [workshop, runtime] == [labelled(kind, "") | fields for kind, fields in objects.items()]
    assert runtime["status"]["educates"]["workshop"]["spec"] is workshop["spec"]


async def test_a_copy_of_another_workshop_stays_as_it_is(cache: Cache) -> None:
    copy = {"educates": {"workshop": {"name": "x", "spec": {"old": True}}}}
    cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).replace(
        EVERYWHERE, [labelled(kinds.WORKSHOP_ENVIRONMENTS, "") | {"status": copy}]
    )
    cache.informers.store(kinds.WORKSHOPS).replace(EVERYWHERE, [labelled(kinds.WORKSHOPS, "") | {"spec": {}}])
    assert (runtime := cache.get("WorkshopEnvironment", "", "x")) is not None
    assert runtime["status"] == {"educates": {"workshop": {"name": "x", "spec": {"old": True}}}}


async def test_an_environment_of_an_endless_name_is_missed_in_few_words(cache: Cache) -> None:
    with pytest.raises(EnvironmentInvalid) as told:
        cache.environment("x" * 100_000)
    assert len(str(told.value)) < 300


GATEWAY = {"gateway": {"domain": "db.example.org", "parentName": "g", "parentNamespace": "gw", "sectionName": "s"}}
DATABASE = {"databases": {"pg": {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}}}
STORE = {"a": {"storage": "1Gi"}}


@pytest.mark.parametrize(
    ("broken", "data", "spec", "needed"),
    [
        pytest.param(kinds.WORKSHOPS, {}, {}, True, id="every lab needs the runtime"),
        pytest.param(kinds.CACHE_STORES, {}, {}, False, id="a lab without stores"),
        pytest.param(kinds.CACHE_STORES, {}, {"cacheStores": STORE}, True, id="a lab with a cache store"),
        pytest.param(kinds.DOCUMENT_STORES, {}, {"documentStores": STORE}, True, id="a lab with a document store"),
        pytest.param(kinds.VECTOR_STORES, {}, {"vectorStores": STORE}, True, id="a lab with a vector store"),
        pytest.param(kinds.VECTOR_STORES, {}, {"cacheStores": STORE}, False, id="a lab with another store"),
        pytest.param(kinds.POSTGRES_CLUSTERS, {}, DATABASE, True, id="a lab with a database"),
        pytest.param(kinds.TLS_ROUTES, {}, DATABASE, False, id="a database without a gateway"),
        pytest.param(kinds.TLS_ROUTES, {"database": GATEWAY}, DATABASE, True, id="a database behind a gateway"),
        pytest.param(kinds.APISIX_PLUGIN_CONFIGS, {}, {}, False, id="protected otherwise"),
        pytest.param(
            kinds.APISIX_PLUGIN_CONFIGS,
            {
                "ingress": {"domain": "lab.example.org", "protection": {"type": "apisix"}},
                "iam": IAM,
            },
            {},
            True,
            id="protected by APISIX",
        ),
    ],
)
async def test_a_kind_that_cannot_be_read_stops_the_labs_that_need_it(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, broken: Resource, data: Manifest, spec: Manifest, needed: bool
) -> None:
    error = Invalid(500, "InternalError", "conversion failed")
    monkeypatch.setattr(cache.informers, "unreadable", lambda kind: error if kind == broken else None)
    of = lab(environment(**data), **spec)
    if not needed:
        cache.require_readable(of)
        return
    with pytest.raises(Unreadable, match=f"{broken} cannot be read: conversion failed"):
        cache.view(of)


async def test_an_environment_that_cannot_be_read_is_not_missed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    error = Invalid(500, "InternalError", "conversion failed")
    monkeypatch.setattr(
        cache.informers, "unreadable", lambda kind: error if kind == kinds.CROSSPLANE_ENVIRONMENTS else None
    )
    with pytest.raises(EnvironmentInvalid) as told:
        cache.environment("courses")
    assert told.value.reason == "KindUnreadable"


def named(name: str, **ingress: str) -> Manifest:
    metadata = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": str(sorted(ingress.items()))}
    return {"kind": "EnvironmentConfig", "metadata": metadata, "data": {"ingress": ingress}}


def choosing(name: str, **effective: str) -> Manifest:
    made = claim()
    made["metadata"]["annotations"] = {ENVIRONMENT: name}
    return made | {"status": {"effective": effective}}


@pytest.mark.parametrize(
    ("chosen", "effective", "expected"),
    [
        pytest.param("good", {"environment": "other"}, "good", id="the one chosen"),
        pytest.param("nope", {"environment": "other"}, "other", id="absent: the last good one"),
        pytest.param("bad", {"environment": "other"}, "other", id="invalid: the last good one"),
        pytest.param("nope", {"environment": "bad"}, None, id="the last one is no good any more"),
        pytest.param("nope", {}, None, id="there was none"),
    ],
)
async def test_an_environment_that_is_lost_is_replaced_by_the_last_good_one(
    cache: Cache, chosen: str, effective: dict[str, str], expected: str | None
) -> None:
    environments = [named("good", domain="good.org"), named("other", domain="other.org"), named("bad", domain="-")]
    cache.informers.store(kinds.ENVIRONMENT_CONFIGS).replace(EVERYWHERE, environments)
    made = choosing(chosen, **effective)
    if expected is None:
        with pytest.raises(EnvironmentInvalid) as told:
            cache.environment_of(made)
        assert told.value.name == chosen
    else:
        assert cache.environment_of(made).name == expected
    lost = cache.lost_environment(made)
    assert (None if lost is None else lost.name) == (None if chosen == "good" else chosen)


async def test_the_hosts_of_a_lab_stay_its_own_whatever_becomes_of_its_environment(cache: Cache) -> None:
    made = choosing("nope", environment="other", domain="other.org")
    cache.informers.store(kinds.DATALABS).replace(EVERYWHERE, [made])
    store = cache.informers.store(kinds.ENVIRONMENT_CONFIGS)

    def domain() -> str | None:
        ((claim, found),) = cache.labs_named("lab")
        assert claim == made
        assert cache.labs_below(found or "") == 1
        return found

    # Both are gone, and nobody has seen them since this process started.
    assert (cache.domains(), domain()) == ({"other": "other.org"}, "other.org")
    # The one that holds the lab has another domain now.
    store.replace(EVERYWHERE, [named("other", domain="new.org")])
    assert (cache.domains(), domain()) == ({"other": "new.org"}, "new.org")
    # The one it chooses is there, and of no use.
    store.replace(EVERYWHERE, [named("nope", domain="nope.org", secret="-")])
    assert domain() == "other.org"
    store.replace(EVERYWHERE, [named("nope", domain="nope.org")])
    assert domain() == "nope.org"
    assert cache.labs_below("other.org") == 0
    assert cache.labs_named("other") == []


LAB = NamespacedName("team", "lab")
LOGINS = {"postgres-operator.crunchydata.com/role": "pguser"}


@pytest.mark.parametrize(
    ("namespace", "name", "labels", "expected"),
    [
        pytest.param("team", "lab-datalab", {}, {LAB}, id="made beside the claim"),
        pytest.param("storage", "keys", {}, {LAB}, id="the one that the claim names"),
        pytest.param("lab", "workshop-config", {}, {LAB}, id="made by the runtime"),
        pytest.param("lab", "db-pguser-postgres", LOGINS, {LAB}, id="a login of a database"),
        pytest.param("lab", "lab-main-session", {}, set(), id="a session's own"),
        pytest.param("team", "other", {}, set(), id="somebody's"),
    ],
)
async def test_whose_secret_it_is(
    cache: Cache, namespace: str, name: str, labels: dict[str, str], expected: set[NamespacedName]
) -> None:
    cache.informers.store(kinds.DATALABS).replace(EVERYWHERE, [claim(secretName="keys")])
    assert cache.reading({"metadata": {"namespace": namespace, "name": name, "labels": labels}}) == expected


async def test_claims_by_what_stands_in_them(cache: Cache) -> None:
    cache.informers.store(kinds.DATALABS).replace(EVERYWHERE, [claim()])
    names = ("lab", "lab-main", "lab-main-vc", "la", "labs")
    assert {name: cache.deriving(name) for name in names} == {
        "lab": [LAB],
        "lab-main": [LAB],
        "lab-main-vc": [LAB],
        "la": [],
        "labs": [],
    }
    assert (cache.choosing("datalab"), cache.choosing("courses")) == ([LAB], [])
    assert (cache.followers(kinds.SECRETS, Scope("elsewhere")), cache.followers(kinds.WORKSHOPS, EVERYWHERE)) == (
        [],
        [LAB],
    )
