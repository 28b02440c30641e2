"""Leading on a real API server: from its own thread, in two processes, and with nothing sent after the deadline."""

import asyncio
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datalabd.errors import NotFound, NotLeading
from datalabd.kube import resources as kinds
from datalabd.kube.client import MERGE_PATCH, Client
from datalabd.kube.leader import Leader
from datalabd.kube.lease import Fence, Times
from hack.cluster import Cluster
from hack.deadlines import scaled

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
QUICK = Times(duration=3, renew_deadline=2.0, retry=0.4)


@contextlib.asynccontextmanager
async def running(leader: Leader, work: "Work") -> AsyncIterator[asyncio.Task[None]]:
    """A candidate, until the context ends."""
    task = asyncio.create_task(leader.run(work))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Work:
    """Work that lasts, and counts how often it was begun and ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.doing = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        self.doing.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.doing.clear()
            self.ended += 1


def candidate(cluster: Cluster, namespace: str, identity: str, fence: Fence, times: Times = QUICK) -> Leader:
    """One that stands for Lease `led` of a namespace."""

    async def connect() -> Client:
        return await Client.connect(str(cluster.kubeconfig))

    return Leader(connect, namespace, "led", identity, fence, times)


async def holder(client: Client, namespace: str) -> str:
    """Who holds the lease."""
    return str((await client.get(kinds.LEASES, namespace, "led"))["spec"]["holderIdentity"])


async def test_a_busy_loop_does_not_lose_the_lease(cluster: Cluster, client: Client, namespace: str) -> None:
    fence, work = Fence(), Work()
    async with running(candidate(cluster, namespace, "busy", fence), work):
        await asyncio.wait_for(work.doing.wait(), scaled(20))
        ends = time.monotonic() + 3 * QUICK.duration
        while time.monotonic() < ends:  # the main loop does not run at all
            assert fence.is_open()
            sum(range(10_000))
        spec = (await client.get(kinds.LEASES, namespace, "led"))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("busy", 1)
        assert (work.begun, work.ended) == (1, 0)


async def test_leading_ends_with_the_lease_and_begins_with_it_again(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    fence, work = Fence(), Work()
    async with running(candidate(cluster, namespace, "a", fence), work):
        await asyncio.wait_for(work.doing.wait(), scaled(20))
        stolen = {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 2}}
        await client.patch(kinds.LEASES, namespace, "led", stolen, MERGE_PATCH)
        async with asyncio.timeout(scaled(20)):
            while work.ended == 0:  # noqa: ASYNC110  what is awaited happens in another thread
                await asyncio.sleep(0.01)
        assert not fence.is_open()
        await asyncio.wait_for(work.doing.wait(), scaled(20))
        assert fence.is_open()
        assert await holder(client, namespace) == "a"
    assert (work.begun, work.ended) == (2, 2)
    assert not fence.is_open()
    assert await holder(client, namespace) == ""


async def test_a_failure_of_the_work_ends_leading_and_releases(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    async def fail() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await candidate(cluster, namespace, "a", Fence()).run(fail)
    assert await holder(client, namespace) == ""


async def test_a_failure_of_the_election_ends_leading(namespace: str) -> None:
    async def connect() -> Client:
        raise ValueError("no credentials")

    with pytest.raises(ValueError, match="no credentials"):
        await Leader(connect, namespace, "led", "a", Fence()).run(Work())


async def test_one_that_never_led_takes_nothing_away(cluster: Cluster, client: Client, namespace: str) -> None:
    work = Work()
    async with running(candidate(cluster, namespace, "first", Fence()), work):
        await asyncio.wait_for(work.doing.wait(), scaled(20))
        async with running(candidate(cluster, namespace, "second", Fence()), Work()):
            await asyncio.sleep(2 * QUICK.retry)
        assert await holder(client, namespace) == "first"


WRITER = """
import asyncio, signal, sys, time
from datalabd.errors import KubeError, NotLeading
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.kube.leader import Leader
from datalabd.kube.lease import Fence, Times

kubeconfig, namespace, identity = sys.argv[1:]

async def main():
    fence = Fence()
    client = (await Client.connect(kubeconfig, user_agent=identity)).fenced(fence.is_open)

    async def write():
        while True:
            body = {"data": {"by": identity, "at": str(time.time_ns())}}
            try:
                await client.patch(kinds.CONFIG_MAPS, namespace, "written", body)
            except NotLeading:
                print("kept", flush=True)
                await asyncio.sleep(0.01)
            except KubeError as error:
                print(error, file=sys.stderr, flush=True)

    # By the loop, and so not between the comparison with the deadline and the system call that follows it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signal.raise_signal, signal.SIGSTOP)

    async def work():
        print("leading", flush=True)
        await asyncio.gather(*(write() for _ in range(20)))

    leader = Leader(lambda: Client.connect(kubeconfig), namespace, "led", identity, fence, Times(3, 2.0, 0.4))
    await leader.run(work)

asyncio.run(main())
"""


async def started(cluster: Cluster, namespace: str, identity: str) -> asyncio.subprocess.Process:
    """A process that writes without a pause while it leads, twenty times at once."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, str(cluster.kubeconfig), namespace, identity),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        cwd=ROOT,
        limit=1 << 24,
    )


async def leads(process: asyncio.subprocess.Process) -> None:
    """Return once the process says so."""
    assert process.stdout is not None
    async with asyncio.timeout(scaled(60)):
        while (line := await process.stdout.readline()) != b"leading\n":
            assert line, "it ended"


async def has_stopped(process: asyncio.subprocess.Process) -> None:
    """Return once the process does nothing until it is told to go on."""
    async with asyncio.timeout(scaled(20)):
        while state(process.pid) != "T":  # noqa: ASYNC110  # the kernel tells nobody but its parent
            await asyncio.sleep(0.01)


def state(pid: int) -> str:
    """A process' state, as the kernel calls it."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]


def writes(cluster: Cluster, agent: str) -> list[datetime.datetime]:
    """When the API server received what such a client wrote, by its audit log."""
    found = []
    with cluster.audit_log.open() as log:
        for line in log:
            if not line.endswith("\n") or f'"userAgent":"{agent}"' not in line:
                continue
            entry = json.loads(line)
            if entry["verb"] == "patch" and entry["stage"] == "ResponseComplete":
                found.append(datetime.datetime.fromisoformat(entry["requestReceivedTimestamp"]))
    return found


async def written(cluster: Cluster, agent: str, count: int) -> None:
    """Return once such a client has written so often."""
    async with asyncio.timeout(scaled(60)):
        while len(writes(cluster, agent)) < count:  # noqa: ASYNC110  # the API server only logs them
            await asyncio.sleep(0.2)


async def test_a_stopped_leader_writes_nothing_when_it_goes_on(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    """Two processes: the second follows the first, which was stopped while twenty writes were under way.

    They wait for connections, answers, turns and room; none is stopped between the comparison with the deadline and the
    system call, which nothing in a process can exclude (decision 0008).
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "written", "namespace": namespace},
        "data": {},
    }
    await client.create(kinds.CONFIG_MAPS, config_map)
    agents = f"{namespace}-first", f"{namespace}-second"
    first = await started(cluster, namespace, agents[0])
    try:
        await leads(first)
        second = await started(cluster, namespace, agents[1])
        try:
            await written(cluster, agents[0], 100)
            first.send_signal(signal.SIGUSR1)
            await has_stopped(first)
            stopped = datetime.datetime.now(datetime.UTC)
            await leads(second)
            first.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)  # in which it would send what it was about to
            await written(cluster, agents[1], 20)
            assert await holder(client, namespace) == agents[1]
            second.kill()
            await second.wait()
            await leads(first)  # it went on, and follows in its turn
        finally:
            with contextlib.suppress(ProcessLookupError):
                second.kill()
            await second.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            first.kill()
        await first.wait()
    before, after = writes(cluster, agents[0]), writes(cluster, agents[1])
    deadline = stopped + datetime.timedelta(seconds=QUICK.renew_deadline)
    assert [at for at in before if deadline < at < after[-1]] == []


async def test_a_fenced_client_reads_and_does_not_write(cluster: Cluster, client: Client, namespace: str) -> None:
    fence = Fence()
    fenced = client.fenced(fence.is_open)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": namespace}}
    attempts = (
        lambda: fenced.create(kinds.SECRETS, secret),
        lambda: fenced.apply(kinds.SECRETS, secret),
        lambda: fenced.patch(kinds.SECRETS, namespace, "a", {}),
        lambda: fenced.replace(kinds.SECRETS, secret | {"metadata": secret["metadata"] | {"resourceVersion": "1"}}),  # type: ignore[operator]
        lambda: fenced.delete(kinds.SECRETS, namespace, "a", "uid"),
    )
    for attempt in attempts:
        with pytest.raises(NotLeading):
            await attempt()
    with pytest.raises(NotFound):
        await fenced.get(kinds.SECRETS, namespace, "a")
    await client.create(kinds.SECRETS, secret)
    fence.open_until(fence.clock() + 60)
    await fenced.patch(kinds.SECRETS, namespace, "a", {"metadata": {"labels": {"a": "b"}}})
    fence.close()
    live = await fenced.get(kinds.SECRETS, namespace, "a")
    assert live["metadata"]["labels"] == {"a": "b"}
