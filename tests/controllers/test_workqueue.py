import asyncio
import time
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from controllers.workqueue import MAX_RESTING, Workqueue, backoff
from hack.deadlines import scaled


class Clock:
    """The time of queue and event loop, which passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        """Let time pass, and let the loop do what is due."""
        self.now += seconds
        for _ in range(4):
            await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Workqueue[str]:
    return Workqueue(request.node.name)


@pytest.fixture
def metric(request: pytest.FixtureRequest) -> Callable[[str], float | None]:
    """The value of one of the queue's series."""
    labels = {"name": request.node.name, "controller": request.node.name}
    return lambda series: REGISTRY.get_sample_value(f"workqueue_{series}", labels)


async def drain(queue: Workqueue[str]) -> list[str]:
    """All keys that wait, taken and done with."""
    taken = []
    while len(queue):
        key = await queue.get()
        queue.done(key)
        taken.append(key)
    return taken


# --- adding and taking ------------------------------------------------------------------------------------------------


async def test_first_in_first_out(queue: Workqueue[str]) -> None:
    for key in "abc":
        queue.add(key)
    assert await drain(queue) == ["a", "b", "c"]


async def test_a_key_waits_once(queue: Workqueue[str]) -> None:
    for key in "aba":
        queue.add(key)
    assert await drain(queue) == ["a", "b"]


async def test_a_key_can_be_added_after_it_was_done(queue: Workqueue[str]) -> None:
    queue.add("a")
    await drain(queue)
    queue.add("a")
    assert await drain(queue) == ["a"]


async def test_a_key_being_worked_on_is_given_to_nobody_else(queue: Workqueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0


async def test_a_key_added_meanwhile_is_worked_on_again_once(queue: Workqueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    queue.done(key)
    assert await drain(queue) == ["a"]


async def test_a_wish_for_later_outlives_work_that_covers_what_came_meanwhile(queue: Workqueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add_after(key, 0.05)
    queue.add(key)
    queue.cover(key)
    queue.done(key)
    assert len(queue) == 0
    assert await asyncio.wait_for(queue.get(), scaled(10)) == "a"


async def test_a_key_not_added_meanwhile_is_not(queue: Workqueue[str]) -> None:
    queue.add("a")
    queue.done(await queue.get())
    assert len(queue) == 0


async def test_get_waits_for_a_key(queue: Workqueue[str]) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.add("a")
    assert await waiting == "a"


async def test_several_workers_get_a_key_each(queue: Workqueue[str]) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    done, waiting = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {task.result() for task in done} == {"a", "b"}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_worker_that_is_cancelled_takes_no_key_along(queue: Workqueue[str]) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    queue.add("a")
    assert await drain(queue) == ["a"]


# --- later ------------------------------------------------------------------------------------------------------------


async def test_a_key_comes_when_it_is_due(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    await clock.advance(9.9)
    assert len(queue) == 0
    await clock.advance(0.2)
    assert await drain(queue) == ["a"]


async def test_the_earliest_wish_counts(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    await clock.advance(5)
    assert await drain(queue) == ["a"]
    await clock.advance(20)
    assert len(queue) == 0


async def test_keys_come_in_the_order_they_are_due(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("late", 3)
    queue.add_after("early", 1)
    queue.add_after("middle", 2)
    await clock.advance(10)
    assert await drain(queue) == ["early", "middle", "late"]


async def test_the_next_key_is_awaited_after_the_first_came(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("a", 1)
    queue.add_after("b", 2)
    await clock.advance(1)
    assert await drain(queue) == ["a"]
    await clock.advance(1)
    assert await drain(queue) == ["b"]


async def test_adding_at_once_overtakes_the_wish_for_later(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("a", 5)
    queue.add("a")
    assert await drain(queue) == ["a"]
    await clock.advance(10)
    assert len(queue) == 0


async def test_a_key_that_waits_already_is_not_added_again_later(queue: Workqueue[str], clock: Clock) -> None:
    queue.add("a")
    queue.add_after("a", 5)
    assert await drain(queue) == ["a"]
    await clock.advance(10)
    assert len(queue) == 0


async def test_later_while_being_worked_on(queue: Workqueue[str], clock: Clock) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add_after("a", 5)
    queue.done(key)
    assert len(queue) == 0
    await clock.advance(5)
    assert await drain(queue) == ["a"]


async def test_due_while_being_worked_on(queue: Workqueue[str], clock: Clock) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add_after("a", 5)
    await clock.advance(5)
    assert len(queue) == 0
    queue.done(key)
    assert await drain(queue) == ["a"]


async def test_no_delay_at_all(queue: Workqueue[str], clock: Clock) -> None:
    queue.add_after("a", 0)
    await clock.advance(0)
    assert await drain(queue) == ["a"]


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param(1, 0.5, id="first"),
        pytest.param(2, 1.0, id="second"),
        pytest.param(5, 8.0, id="doubling"),
        pytest.param(10, 256.0, id="last before the longest"),
        pytest.param(11, 300.0, id="longest"),
        pytest.param(100_000, 300.0, id="after a year"),
    ],
)
def test_backoff(failures: int, expected: float) -> None:
    delays = [backoff(failures) for _ in range(200)]
    assert min(delays) >= expected * 0.9
    assert max(delays) <= expected * 1.1


def test_backoffs_of_many_keys_spread() -> None:
    assert len({backoff(1) for _ in range(20)}) > 1


async def test_retry_comes_after_its_backoff(queue: Workqueue[str], clock: Clock) -> None:
    delay = queue.retry("a")
    assert 0.45 <= delay <= 0.55
    await clock.advance(delay - 0.01)
    assert len(queue) == 0
    await clock.advance(0.02)
    assert await drain(queue) == ["a"]


async def fail(queue: Workqueue[str], clock: Clock, key: str) -> float:
    """Work on a key that fails again; returns the delay that follows."""
    delay = queue.retry(key)
    await clock.advance(delay)
    assert await drain(queue) == [key]
    return delay


async def test_failures_of_a_key_are_counted(queue: Workqueue[str], clock: Clock) -> None:
    delays = [await fail(queue, clock, "a") for _ in range(4)]
    assert [0.9 * 2**n <= delay / 0.5 <= 1.1 * 2**n for n, delay in enumerate(delays)] == [True] * 4


async def test_failures_of_another_key_are_not(queue: Workqueue[str], clock: Clock) -> None:
    for _ in range(4):
        await fail(queue, clock, "a")
    assert await fail(queue, clock, "b") <= 0.55


async def test_forget_starts_anew(queue: Workqueue[str], clock: Clock) -> None:
    for _ in range(4):
        await fail(queue, clock, "a")
    queue.forget("a")
    assert await fail(queue, clock, "a") <= 0.55


def test_forget_what_never_failed(queue: Workqueue[str]) -> None:
    queue.forget("a")
    assert len(queue) == 0


async def test_a_longer_pause_that_was_asked_for_wins(queue: Workqueue[str], clock: Clock) -> None:
    assert queue.retry("a", at_least=30.0) == 30.0


async def test_a_shorter_pause_that_was_asked_for_does_not(queue: Workqueue[str], clock: Clock) -> None:
    for _ in range(4):
        await fail(queue, clock, "a")
    assert queue.retry("a", at_least=0.1) > 5


async def test_a_change_does_not_wait_for_the_backoff(queue: Workqueue[str], clock: Clock) -> None:
    queue.retry("a", at_least=100.0)
    queue.add("a")
    assert await drain(queue) == ["a"]


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_depth_and_adds(queue: Workqueue[str], metric: Callable[[str], float | None]) -> None:
    for key in "aab":
        queue.add(key)
    assert (metric("depth"), metric("adds_total")) == (2, 2)
    await queue.get()
    assert metric("depth") == 1


async def test_retries(queue: Workqueue[str], clock: Clock, metric: Callable[[str], float | None]) -> None:
    queue.retry("a")
    assert metric("retries_total") == 1


async def test_time_waited(queue: Workqueue[str], clock: Clock, metric: Callable[[str], float | None]) -> None:
    queue.add("a")
    await clock.advance(3)
    await queue.get()
    assert metric("queue_duration_seconds_sum") == 3


async def test_time_worked(queue: Workqueue[str], clock: Clock, metric: Callable[[str], float | None]) -> None:
    queue.add("a")
    key = await queue.get()
    await clock.advance(4)
    queue.done(key)
    assert metric("work_duration_seconds_sum") == 4


async def test_work_in_progress(queue: Workqueue[str], clock: Clock, metric: Callable[[str], float | None]) -> None:
    queue.add("a")
    queue.add("b")
    await queue.get()
    await clock.advance(4)
    await queue.get()
    await clock.advance(1)
    assert (metric("unfinished_work_seconds"), metric("longest_running_processor_seconds")) == (6, 5)


def test_no_work_in_progress(queue: Workqueue[str], metric: Callable[[str], float | None]) -> None:
    assert (metric("unfinished_work_seconds"), metric("longest_running_processor_seconds")) == (0, 0)


# --- resting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def resting(request: pytest.FixtureRequest, clock: Clock) -> Workqueue[str]:
    """A queue whose keys rest for two seconds."""
    return Workqueue(request.node.name, pause=2.0)


async def test_the_first_time_a_key_need_not_rest(resting: Workqueue[str]) -> None:
    resting.add("a")
    assert await drain(resting) == ["a"]


async def test_what_comes_while_a_key_rests_is_worked_on_together(resting: Workqueue[str], clock: Clock) -> None:
    resting.add("a")
    await drain(resting)
    await clock.advance(0.5)
    resting.add("a")
    resting.add("a")
    assert len(resting) == 0
    await clock.advance(1.0)
    assert len(resting) == 0
    await clock.advance(0.5)
    assert await drain(resting) == ["a"]


async def test_what_came_during_work_waits_for_the_rest(resting: Workqueue[str], clock: Clock) -> None:
    resting.add("a")
    await resting.get()
    resting.add("a")
    resting.done("a")
    assert len(resting) == 0
    await clock.advance(2.0)
    assert await drain(resting) == ["a"]


async def test_one_key_rests_alone(resting: Workqueue[str]) -> None:
    resting.add("a")
    await drain(resting)
    resting.add("b")
    assert await drain(resting) == ["b"]


async def test_a_change_comes_before_a_later_timer(resting: Workqueue[str], clock: Clock) -> None:
    resting.add("a")
    await drain(resting)
    resting.add_after("a", 60.0)
    resting.add("a")
    await clock.advance(2.0)
    assert await drain(resting) == ["a"]
    await clock.advance(60.0)
    assert len(resting) == 0


async def test_many_keys_rest_and_are_forgotten(resting: Workqueue[str], clock: Clock) -> None:
    for number in range(MAX_RESTING):
        resting.add(str(number))
    await drain(resting)
    await clock.advance(2.0)
    resting.add("last")
    await drain(resting)
    assert list(resting._rested) == ["last"]


async def test_what_a_pass_has_looked_at_does_not_bring_it_back(queue: Workqueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.cover("a")
    queue.done("a")
    assert len(queue) == 0


async def test_what_comes_after_that_look_does(queue: Workqueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.cover("a")
    queue.add("a")
    queue.done("a")
    assert await drain(queue) == ["a"]
