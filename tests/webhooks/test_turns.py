"""Who has a turn, with work that notes each of its steps."""

import asyncio

import pytest

from datalabd.steps import Steps, run
from webhooks.turns import Turns


class Work:
    """Pieces of work that write down each step."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def of(self, name: str, steps: int) -> Steps[str]:
        """So many steps; returns the name."""
        for number in range(1, steps + 1):
            self.done.append(f"{name}{number}")
            if number < steps:
                yield
        return name


async def test_users_who_wait_are_served_in_turn() -> None:
    turns, work = Turns(slice_seconds=0), Work()
    answers = await asyncio.gather(
        *(turns.take("apiserver", "mallory", work.of(name, 3)) for name in ("m", "n", "o")),
        turns.take("apiserver", "ann", work.of("a", 2)),
        turns.take("apiserver", "bob", work.of("b", 2)),
    )
    assert answers == ["m", "n", "o", "a", "b"]
    assert work.done == ["m1", "m2", "a1", "b1", "n1", "a2", "b2", "o1", "m3", "n2", "o2", "n3", "o3"]


async def test_peers_are_served_in_turn_however_many_users_they_name() -> None:
    turns, work = Turns(slice_seconds=0), Work()
    await asyncio.gather(
        *(turns.take("stranger", f"forged{name}", work.of(name, 2)) for name in ("m", "n", "o", "p")),
        turns.take("apiserver", "ann", work.of("a", 2)),
        turns.take("apiserver", "bob", work.of("b", 1)),
    )
    assert work.done == ["m1", "m2", "a1", "n1", "b1", "o1", "a2", "p1", "n2", "o2", "p2"]


async def test_work_of_one_slice_is_done_at_once() -> None:
    turns, work = Turns(slice_seconds=60), Work()
    waiting = asyncio.ensure_future(turns.take("apiserver", "ann", work.of("a", 100)))
    await asyncio.sleep(0)
    assert waiting.done()
    assert await waiting == "a"


async def test_the_loop_goes_round_between_slices_of_one_user_alone() -> None:
    turns, work = Turns(slice_seconds=0), Work()
    asyncio.get_running_loop().call_soon(work.done.append, "other")
    await turns.take("apiserver", "ann", work.of("a", 2))
    assert work.done == ["a1", "other", "a2"]


async def test_work_that_fails_holds_nobody_up() -> None:
    def broken() -> Steps[str]:
        yield
        raise ValueError("broken")

    turns, work = Turns(slice_seconds=0), Work()
    failed, answer = await asyncio.gather(
        turns.take("apiserver", "mallory", broken()),
        turns.take("apiserver", "ann", work.of("a", 2)),
        return_exceptions=True,
    )
    assert isinstance(failed, ValueError)
    assert answer == "a"
    assert await turns.take("apiserver", "bob", work.of("b", 1)) == "b"


@pytest.mark.parametrize("rounds", range(6))
async def test_who_gives_up_holds_nobody_up(rounds: int) -> None:
    turns, work = Turns(slice_seconds=0), Work()
    tasks = [asyncio.ensure_future(turns.take("apiserver", user, work.of(user, 3))) for user in ("ann", "bob", "cyd")]
    for _ in range(rounds):
        await asyncio.sleep(0)
    tasks[1].cancel()
    assert (await tasks[0], await tasks[2]) == ("ann", "cyd")
    assert await turns.take("apiserver", "dan", work.of("d", 2)) == "d"


def test_run() -> None:
    work = Work()
    assert run(work.of("a", 3)) == "a"
    assert work.done == ["a1", "a2", "a3"]
