"""What is taken for a lab's, of objects that carry its labels."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datalabd.api.meta import APPLIED, CLAIM_UID, RETAINED, Manifest
from datalabd.errors import EnvironmentInvalid
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource
from datalabd.kube.store import key_of
from tests.factories import LABELS, lab
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


async def test_an_environment_of_an_endless_name_is_missed_in_few_words(cache: Cache) -> None:
    with pytest.raises(EnvironmentInvalid) as told:
        cache.environment("x" * 100_000)
    assert len(str(told.value)) < 300
