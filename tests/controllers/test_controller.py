"""What becomes of a pass that fails: how soon the next one comes, and what is counted and logged of it."""

import asyncio
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from controllers.controller import Controller, Result
from controllers.workqueue import Workqueue
from datalabd.api.meta import NamespacedName
from datalabd.errors import InternalError, Unavailable
from hack.deadlines import scaled

KEY = NamespacedName("team", "lab")
SECRET = "the-password"


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"controller": "tried"}) or 0.0


def parse(text: str) -> int:
    return int(text)


async def passes(times: int, failure: Any) -> list[dict[str, Any]]:
    """What is logged of so many passes over one claim that all end in this way."""

    async def reconcile(_: NamespacedName) -> Result:
        failure()
        return Result()

    controller = Controller("tried", reconcile, Workqueue("tried"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(times):
            await controller._once(KEY)
    return [dict(line) for line in logs]


def unforeseen() -> None:
    parse(SECRET)


def told() -> None:
    try:
        unforeseen()
    except ValueError as error:
        raise InternalError("somewhere") from error


@pytest.mark.parametrize("failure", [unforeseen, told])
async def test_a_defect_is_logged_with_its_stack_once_and_counted_each_time(failure: Any) -> None:
    before = counted("datalabd_reconcile_panics_total"), counted("datalabd_reconcile_errors_total")
    first, *others = await passes(3, failure)
    assert (first["event"], first["log_level"]) == ("reconcile failed", "error")
    assert first["error"].startswith("ValueError at ")
    assert [line for line in first["stack"] if line.endswith(", in parse")] != []
    assert [(line["event"], line["error"], "stack" in line) for line in others] == [
        ("reconcile failed", first["error"], False)
    ] * 2
    after = counted("datalabd_reconcile_panics_total"), counted("datalabd_reconcile_errors_total")
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 3]


async def test_what_a_defect_was_met_by_is_not_logged() -> None:
    assert SECRET not in str(await passes(1, unforeseen))


async def test_a_refusal_is_no_defect() -> None:
    def refuse() -> None:
        raise Unavailable(503, "ServiceUnavailable", "wait a moment")

    before = counted("datalabd_reconcile_panics_total")
    (line,) = await passes(1, refuse)
    assert (line["event"], line["log_level"], line["error"]) == ("reconcile failed", "warning", "wait a moment")
    assert counted("datalabd_reconcile_panics_total") == before


async def test_a_key_waits_until_what_is_known_is_current() -> None:
    """It is looked at then, not as it was before an outage."""
    current, waiting, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def until_current() -> None:
        waiting.set()
        await current.wait()

    async def reconcile(_: NamespacedName) -> Result:
        assert current.is_set()
        done.set()
        return Result()

    queue: Workqueue[NamespacedName] = Workqueue("tried")
    work = asyncio.create_task(Controller("tried", reconcile, queue, 1, until_current).run())
    queue.add(KEY)
    async with asyncio.timeout(scaled(10)):
        await waiting.wait()
        assert not done.is_set()
        current.set()
        await done.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
