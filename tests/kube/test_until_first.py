"""Several things at once, until one of them ends."""

import asyncio

import pytest

from datalabd.kube.leader import Leader, until_first
from datalabd.kube.lease import Fence
from hack.deadlines import scaled

ended: list[str] = []


async def lasts(name: str) -> None:
    """Until cancelled, which it notes."""
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def fails() -> None:
    """At once."""
    raise ValueError("a defect")


async def ends() -> None:
    """At once, and well."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ended.clear()


async def test_the_first_that_ends_ends_the_others() -> None:
    await until_first(lasts("a"), ends(), lasts("b"))
    assert ended == ["a", "b"]


async def test_a_failure_ends_the_others_and_is_raised() -> None:
    with pytest.raises(ValueError, match="a defect"):
        await until_first(lasts("a"), fails())
    assert ended == ["a"]


async def test_a_failure_counts_for_more_than_an_end() -> None:
    with pytest.raises(ValueError, match="a defect"):
        await until_first(ends(), fails(), ends())


async def test_all_are_cancelled_with_it() -> None:
    task = asyncio.create_task(until_first(lasts("a"), lasts("b")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["a", "b"]


async def test_a_candidate_that_is_cancelled_at_once_leaves_no_thread() -> None:
    async def connect() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(Leader(connect, "ns", "led", "a", Fence()).run(lambda: lasts("a")))  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, scaled(10))
    assert ended == []
