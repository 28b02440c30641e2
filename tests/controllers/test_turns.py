"""How long work lets everything else of the loop go on."""

import asyncio
import time

from controllers.turns import STEP_SECONDS, Turns


def work(seconds: float) -> None:
    """Take CPU."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_a_step_that_took_its_time_lets_others_go_on() -> None:
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "another")
    turn = Turns().begin()
    await turn.pause()
    order.append("short")
    work(STEP_SECONDS)
    await turn.pause()
    order.append("long")
    assert order == ["short", "another", "long"]


async def test_steps_of_several_passes_take_turns_with_the_rest() -> None:
    """Between any two of them the loop goes round."""
    order: list[str] = []
    turns = Turns()

    async def one(name: str) -> None:
        await turns.begin().next()
        order.append(name)
        asyncio.get_running_loop().call_soon(order.append, "rest")

    await asyncio.gather(*(one(name) for name in "abc"))
    await asyncio.sleep(0)
    assert order == ["a", "rest", "b", "rest", "c", "rest"]
