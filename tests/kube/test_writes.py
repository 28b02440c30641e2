"""Objects that are written over and over are counted, by kind."""

import pytest
from prometheus_client import REGISTRY

from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from datalabd.kube.writes import OFTEN, Writes


class Clock:
    """Time that passes as the test says."""

    def __init__(self) -> None:
        self.now = 6000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def counted(resource: Resource) -> float:
    return REGISTRY.get_sample_value("datalabd_objects_written_often_total", {"resource": str(resource)}) or 0.0


def write(counts: Writes, times: int, resource: Resource = kinds.CONFIG_MAPS, name: str = "a") -> None:
    for _ in range(times):
        counts.count(resource, "lab", name)


def test_an_object_counts_once_a_minute_however_often_it_is_written(clock: Clock) -> None:
    counts, before = Writes(clock), counted(kinds.CONFIG_MAPS)
    write(counts, 3 * OFTEN)
    assert counted(kinds.CONFIG_MAPS) == before + 1
    clock.now += 60
    write(counts, OFTEN)
    assert counted(kinds.CONFIG_MAPS) == before + 2


def test_writes_of_different_objects_or_minutes_do_not_add_up(clock: Clock) -> None:
    counts, before = Writes(clock), counted(kinds.CONFIG_MAPS)
    for name in ("a", "b"):
        write(counts, OFTEN - 1, name=name)
    clock.now += 60
    write(counts, OFTEN - 1)
    assert counted(kinds.CONFIG_MAPS) == before


@pytest.mark.parametrize("resource", [kinds.EVENTS, kinds.LEASES], ids=str)
def test_what_is_there_to_be_written_is_not_counted(clock: Clock, resource: Resource) -> None:
    write(Writes(clock), 2 * OFTEN, resource)
    assert counted(resource) == 0
