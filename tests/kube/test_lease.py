"""The Lease: who holds it, until when, and whether writes may leave. Time is played, and so is the one object."""

import asyncio
import copy
import datetime
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, NotFound, Unavailable
from datalabd.kube.client import Client
from datalabd.kube.lease import Fence, Lease, LeaseLost, is_fresh
from tests.kube import fake_time
from tests.kube.fake_time import FakeTimeLoop


class Leases(Client):
    """The one Lease as an API server keeps it, for as many clients as ask; and faults, which come first."""

    def __init__(self) -> None:
        self.live: Manifest | None = None
        self.faults: list[Callable[[], Awaitable[None]]] = []
        self.requests: list[str] = []

    async def _asked(self, verb: str) -> None:
        self.requests.append(verb)
        if self.faults:
            await self.faults.pop(0)()

    async def get(self, *_: Any) -> Manifest:
        """The object."""
        await self._asked("get")
        if self.live is None:
            raise NotFound(404, "NotFound", "no lease")
        return copy.deepcopy(self.live)

    async def create(self, _: Any, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """The object, if it is the first."""
        await self._asked("create")
        if self.live is not None:
            raise Conflict(409, "AlreadyExists", "there is one")
        return self._stored(manifest, 1)

    async def replace(self, _: Any, manifest: Manifest) -> Manifest:
        """The object, if the version is the live one."""
        await self._asked("replace")
        assert self.live is not None
        version = self.live["metadata"]["resourceVersion"]
        if manifest["metadata"]["resourceVersion"] != version:
            raise Conflict(409, "Conflict", "changed meanwhile")
        return self._stored(manifest, int(version) + 1)

    def _stored(self, manifest: Manifest, version: int) -> Manifest:
        self.live = copy.deepcopy(manifest)
        self.live["metadata"]["resourceVersion"] = str(version)
        return copy.deepcopy(self.live)

    @property
    def holder(self) -> str:
        """Who holds it."""
        assert self.live is not None
        return str(self.live["spec"]["holderIdentity"])


async def refuse() -> None:
    """The API server says no."""
    raise Unavailable(503, "ServiceUnavailable", "not now")


async def hang() -> None:
    """The API server says nothing."""
    await asyncio.Event().wait()


def candidate(leases: Leases, identity: str, loop: FakeTimeLoop, remedy: str = "") -> tuple[Lease, Fence]:
    """A replica's claim to the lease, and its fence."""
    fence = Fence(loop.time)
    return Lease(leases, "ns", "datalabd", identity, fence, remedy=remedy), fence


def test_nobody_may_write_before_the_lease_is_held() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        lease, fence = candidate(Leases(), "a", loop)
        assert not fence.is_open()
        await lease.acquire()
        assert fence.is_open()
        assert fence.left == 10

    fake_time.run(main)


def test_a_silent_holder_is_followed_after_fifteen_seconds() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        await candidate(leases, "a", loop)[0].acquire()
        began = loop.time()
        lease, fence = candidate(leases, "b", loop)
        await lease.acquire()
        assert leases.holder == "b"
        assert fence.is_open()
        assert 15 < loop.time() - began <= 15 + 2 * 2.2
        assert leases.live is not None
        assert leases.live["spec"]["leaseTransitions"] == 2

    fake_time.run(main)


def test_a_holder_that_renews_is_not_followed() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        waiting = asyncio.create_task(candidate(leases, "b", loop)[0].acquire())
        await asyncio.sleep(3600)
        assert fence.is_open()
        assert not holding.done()
        assert not waiting.done()
        assert leases.holder == "a"
        for task in (holding, waiting):
            task.cancel()

    fake_time.run(main)


@pytest.mark.parametrize("remedy", ["", "stop the other"])
def test_who_waits_says_for_whom_and_reminds_whoever_can_do_something(remedy: str) -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, _ = candidate(leases, "a", loop)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        assert leases.live is not None
        acquired = leases.live["spec"]["acquireTime"]
        with structlog.testing.capture_logs() as lines:
            waiting = asyncio.create_task(candidate(leases, "b", loop, remedy)[0].acquire())
            await asyncio.sleep(900)
        for task in (holding, waiting):
            task.cancel()
        event = {"event": "waiting for the lease", "lease": "ns/datalabd", "holder": "a"}
        if not remedy:
            assert lines == [event | {"log_level": "info"}]
            return
        renewed = [line.pop("renewed") for line in lines]
        assert renewed == sorted(set(renewed))
        assert lines == [event | {"log_level": "warning", "acquired": acquired, "remedy": remedy}] * 3

    fake_time.run(main)


def test_a_renewal_is_one_request_every_two_seconds() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, _ = candidate(leases, "a", loop)
        await lease.acquire()
        leases.requests.clear()
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(20.5)
        holding.cancel()
        assert leases.requests == ["replace"] * 10

    fake_time.run(main)


def test_a_renewer_whose_clock_is_wrong_is_not_followed() -> None:
    """What the holder says of the time is read by nobody."""

    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, _ = candidate(leases, "a", loop)
        await lease.acquire()
        waiting = asyncio.create_task(candidate(leases, "b", loop)[0].acquire())
        for number in range(30):
            await asyncio.sleep(2)
            assert leases.live is not None
            leases.live["spec"]["renewTime"] = f"1999-12-31T23:59:{number:02}.000000Z"
        assert not waiting.done()
        waiting.cancel()

    fake_time.run(main)


@pytest.mark.parametrize("fault", [pytest.param(refuse, id="refused"), pytest.param(hang, id="without an answer")])
def test_one_renewal_that_fails_does_not_lose_the_lease(fault: Callable[[], Awaitable[None]]) -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()
        leases.faults.append(fault)
        holding = asyncio.create_task(lease.hold())
        for _ in range(60):
            await asyncio.sleep(0.5)
            assert fence.is_open()
        assert not holding.done()
        holding.cancel()

    fake_time.run(main)


@pytest.mark.parametrize("fault", [pytest.param(refuse, id="refused"), pytest.param(hang, id="without an answer")])
def test_the_fence_closes_ten_seconds_after_the_last_renewal(fault: Callable[[], Awaitable[None]]) -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        began = loop.time()
        await lease.acquire()
        leases.faults += [fault] * 20
        with pytest.raises(LeaseLost, match="not renewed within 10 s"):
            await lease.hold()
        assert loop.time() - began == pytest.approx(10)
        assert not fence.is_open()

    fake_time.run(main)


def test_after_a_stop_nothing_leaves_before_the_lease_is_asked_for_again() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(30)
        loop.stop_time(30)
        assert not fence.is_open()
        leases.requests.clear()
        with pytest.raises(LeaseLost):
            await holding
        assert leases.requests == []  # what was lost is not renewed
        await lease.acquire()
        assert fence.is_open()

    fake_time.run(main)


def test_a_stop_in_the_midst_of_a_renewal_leaves_the_fence_closed() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()

        async def stopped() -> None:
            loop.stop_time(30)

        leases.faults.append(stopped)
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(2.5)
        assert not fence.is_open()
        with pytest.raises(LeaseLost):
            await holding

    fake_time.run(main)


def test_a_lease_that_another_took_is_lost_at_once() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        loop.stop_time(30)
        assert leases.live is not None
        leases.live["spec"]["holderIdentity"] = "b"
        leases.live["metadata"]["resourceVersion"] = "9"
        fence.open_until(loop.time() + 10)  # as if no time had passed here
        began = loop.time()
        with pytest.raises(LeaseLost, match="another replica holds the lease"):
            await holding
        assert loop.time() - began <= 2
        assert not fence.is_open()
        assert leases.holder == "b"

    fake_time.run(main)


def test_a_renewal_whose_answer_was_lost_is_made_again() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()

        async def lose_the_answer() -> None:
            assert leases.live is not None
            leases.live["metadata"]["resourceVersion"] = "7"
            await hang()

        leases.faults.append(lose_the_answer)
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(11)
        assert fence.is_open()
        assert not holding.done()
        holding.cancel()

    fake_time.run(main)


def test_a_released_lease_is_taken_at_once() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        first, fence = candidate(leases, "a", loop)
        await first.acquire()
        await first.release()
        assert not fence.is_open()
        began = loop.time()
        await candidate(leases, "b", loop)[0].acquire()
        assert loop.time() == began
        assert leases.holder == "b"

    fake_time.run(main)


def test_what_another_holds_is_not_released() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        await candidate(leases, "a", loop)[0].acquire()
        await candidate(leases, "b", loop)[0].release()
        assert leases.holder == "a"

    fake_time.run(main)


def test_a_restarted_holder_need_not_wait_for_itself() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        await candidate(leases, "a", loop)[0].acquire()
        began = loop.time()
        await candidate(leases, "a", loop)[0].acquire()
        assert loop.time() == began
        assert leases.live is not None
        assert leases.live["spec"]["leaseTransitions"] == 1

    fake_time.run(main)


@pytest.mark.parametrize("there", [False, True])
def test_of_two_that_ask_at_once_one_holds_it(there: bool) -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        if there:
            gone, _ = candidate(leases, "gone", loop)
            await gone.acquire()
            await gone.release()

        async def late() -> None:
            await asyncio.sleep(0.01)

        leases.faults += [late] * 4
        both = [candidate(leases, identity, loop) for identity in "ab"]
        tasks = [asyncio.create_task(lease.acquire()) for lease, _ in both]
        await asyncio.sleep(5)
        assert [task.done() for task in tasks].count(True) == 1
        assert [fence.is_open() for _, fence in both].count(True) == 1
        for task in tasks:
            task.cancel()

    fake_time.run(main)


def test_no_two_fences_are_ever_open_at_once() -> None:
    """Replicas are stopped, cut off and come back at random; each half second their fences are compared."""

    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        both = [candidate(leases, identity, loop) for identity in "ab"]
        cut = {"a": False, "b": False}

        class Cut(Leases):
            """One replica's way to the API server."""

            def __init__(self, identity: str) -> None:
                self.identity = identity

            async def get(self, *args: Any) -> Manifest:
                """The object, if the way is open."""
                return await leases.get(*args) if not cut[self.identity] else await self._lost()

            async def create(self, *args: Any, dry_run: bool = False) -> Manifest:
                """The object, if the way is open."""
                return await leases.create(*args) if not cut[self.identity] else await self._lost()

            async def replace(self, *args: Any) -> Manifest:
                """The object, if the way is open."""
                return await leases.replace(*args) if not cut[self.identity] else await self._lost()

            async def _lost(self) -> Manifest:
                raise Unavailable(0, "Unreachable", "cut off")

        async def live(lease: Lease) -> None:
            while True:
                await lease.acquire()
                try:
                    await lease.hold()
                except LeaseLost:
                    continue

        for (lease, _), identity in zip(both, "ab", strict=True):
            lease._client = Cut(identity)
        tasks = [asyncio.create_task(live(lease)) for lease, _ in both]
        held = {0: 0, 1: 0}
        for number in range(2000):
            await asyncio.sleep(0.5)
            cut["a"], cut["b"] = number // 70 % 3 == 0, number // 90 % 4 == 0
            are_open = [fence.is_open() for _, fence in both]
            assert not all(are_open)
            held = {index: held[index] + are_open[index] for index in held}
        assert min(held.values()) > 100  # both had it, for a while
        for task in tasks:
            task.cancel()

    fake_time.run(main)


def test_errors_are_waited_out_before_it_is_held() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        leases.faults += [refuse, hang, refuse]
        await candidate(leases, "a", loop)[0].acquire()
        assert leases.holder == "a"

    fake_time.run(main)


def test_an_error_at_release_is_no_failure() -> None:
    async def main(loop: FakeTimeLoop) -> None:
        leases = Leases()
        lease, fence = candidate(leases, "a", loop)
        await lease.acquire()
        leases.faults.append(hang)
        await lease.release()
        assert not fence.is_open()

    fake_time.run(main)


NOW = datetime.datetime(2026, 11, 30, 12, 0, 20, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, False, id="never held"),
        pytest.param({"holderIdentity": "a"}, False, id="without a time"),
        pytest.param({"holderIdentity": "", "renewTime": "2026-11-30T12:00:19.000000Z"}, False, id="released"),
        pytest.param({"holderIdentity": "a", "renewTime": "2026-11-30T12:00:05.000000Z"}, True, id="just renewed"),
        pytest.param({"holderIdentity": "a", "renewTime": "2026-11-30T12:00:04.900000Z"}, False, id="run out"),
        pytest.param(
            {"holderIdentity": "a", "renewTime": "2026-11-30T11:59:30.000000Z", "leaseDurationSeconds": 60},
            True,
            id="its own duration counts",
        ),
        pytest.param({"holderIdentity": "a", "renewTime": "2026-11-30T12:00:25.000000Z"}, True, id="a clock ahead"),
    ],
)
def test_freshness(spec: Manifest, expected: bool) -> None:
    assert is_fresh({"spec": spec}, NOW) is expected
