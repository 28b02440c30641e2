"""What keeps the namespace of a lab from going."""

from pathlib import Path
from typing import Any

import pytest

from controllers.teardown import STEPS, durable_left
from datalabd.api.meta import APPLIED, TEARDOWN_STEPS
from datalabd.kube.cache import STORE_KINDS, Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import CRDS
from tests.kube.scripted import Scripted, listing, serve, status


def volume(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "lab", "uid": name} | metadata}


LEFT = volume("data-docs-0")
GOING = volume("data-docs-1", deletionTimestamp="2026-01-01T00:00:00Z")
OURS = volume("lab-datalab", annotations={APPLIED: "x"})


@pytest.mark.parametrize(
    ("volumes", "retains", "expected"),
    [
        pytest.param(
            [OURS, GOING, LEFT], True, "PersistentVolumeClaim lab/data-docs-0, which may hold data", id="kept"
        ),
        pytest.param([OURS, GOING], True, "", id="none"),
        pytest.param([LEFT], False, "", id="nothing is to be kept"),
    ],
)
async def test_volumes_of_an_operator_that_is_uninstalled(
    tmp_path: Path, volumes: list[dict[str, Any]], retains: bool, expected: str
) -> None:
    """They carry no label of ours, and the kind that would tell of them is gone."""
    script = [listing("1"), *[status(404, "NotFound")] * len(STORE_KINDS), listing("1", *volumes)]
    async with serve(Scripted(*script), tmp_path) as client:
        cache = Cache(Informers(client))
        cache.informers.store(CRDS).replace(EVERYWHERE, [])
        said = await durable_left(client, cache, "lab", retains=retains)
    assert said.startswith(expected) if expected else said == ""


def test_the_steps_that_may_be_abandoned_are_those_of_a_deletion() -> None:
    assert tuple(STEPS) == TEARDOWN_STEPS
