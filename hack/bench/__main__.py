"""Speed and memory of datalabd on a local control plane.

    python -m hack.bench [--labs 100] [--write]

Each figure stands beside the same work done by hand in the same run, so that a noisy machine shows in both.
"""

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest
from datalabd.defaults import default
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.lab import resolve
from datalabd.observed import Observed, StorageKeys
from datalabd.plan import plan
from datalabd.render import Objects, render
from hack import keycloak, labs, playground
from hack.bench import admission, identity, pages, passes, tokens, workspace_server, workspaces
from hack.bench.table import PAGE, Table
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled

ROUNDS = 200
ONE_BY_ONE = 10
"""Labs made one after the other."""


def main() -> int:
    """Run all benchmarks and print a table; returns 1 where a row failed."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--labs", type=int, default=100, help="claims in the larger burst, %(default)s")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} as well")
    given = parser.parse_args()
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    table = Table()
    floor = passes.measure(table, given.labs)
    admission.measure(table)
    with table.part("labs one after the other"), _playground() as cluster:
        asyncio.run(_one_by_one(table, cluster))
    with table.part("the pure core"):
        _planning(table, floor)
    with table.part("tokens of the Workspace API"):
        tokens.measure(table)
    with table.part("what the Workspace API decides"):
        workspaces.measure(table)
    with table.part("the Workspace API"):
        workspace_server.measure(table)
    with table.part("the pages"):
        pages.measure(table)
    if lacking := keycloak.missing():
        print(f"Keycloak is left out: {lacking}", file=sys.stderr)
    else:
        with table.part("Keycloak"):
            identity.measure(table)
    if given.write:
        PAGE.write_text(table.page(passes.ROUNDS))
    table.tell("done, but for rows that failed" if table.failed else "done")
    return int(table.failed)


@contextlib.contextmanager
def _playground() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch,
        playground.start(Path(scratch, "cluster")) as cluster,
    ):
        yield cluster


async def _one_by_one(table: Table, cluster: Cluster) -> None:
    names = [f"bench-{number:02}" for number in range(ONE_BY_ONE)]
    await asyncio.to_thread(labs.prepare, cluster, names)
    client = await Client.connect(str(cluster.kubeconfig))
    try:
        table.row("resident without labs", labs.resident_mib(cluster), "MiB")
        bare = await _admission(table, client)
        timings = [await _one_lab(client, name) for name in names]
        for index, what in enumerate(("first object", "Workshop", "session Running", "lab Ready")):
            seconds = [timing[index] for timing in timings]
            note = f"worst {max(seconds):.3f} s"
            table.row(f"claim to {what}", statistics.median(seconds), "s", floor=bare, note=note)
    finally:
        await client.close()


async def _one_lab(client: Client, name: str) -> tuple[float, float, float, float]:
    """Seconds from writing a claim to its first object, its Workshop, its running session, and itself being Ready."""
    began = time.perf_counter()
    await client.create(kinds.DATALABS, labs.claim(name))
    first = asyncio.create_task(_seen(client, kinds.SECRETS, "default", f"{name}-", began))
    workshop = asyncio.create_task(_seen(client, kinds.WORKSHOPS, "", name, began))
    running = asyncio.create_task(
        _seen(client, kinds.WORKSHOP_SESSIONS, "", f"{name}-main", began, lambda obj: _educates(obj) == "Running")
    )
    ready = asyncio.create_task(_seen(client, kinds.DATALABS, "default", name, began, labs.is_ready))
    return min(await first, await workshop), await workshop, await running, await ready


async def _seen(
    client: Client,
    resource: kinds.Resource,
    namespace: str,
    prefix: str,
    began: float,
    condition: Callable[[Manifest], bool] = lambda _: True,
) -> float:
    """Seconds until an object of that prefix meets the condition, told by a watch."""
    async with asyncio.timeout(scaled(120)):
        items, since = await client.list(resource, namespace)
        for obj in items:
            if obj["metadata"]["name"].startswith(prefix) and condition(obj):
                return time.perf_counter() - began
        async for _, obj in client.watch(resource, namespace, since):
            if obj["metadata"].get("name", "").startswith(prefix) and condition(obj):
                return time.perf_counter() - began
    raise ClusterError(f"the watch of {resource} ended")


async def _admission(table: Table, client: Client) -> float:
    """What our webhooks add to a write; returns the seconds of one that nobody is asked about."""
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "namespace": "default"}}
    bare = await _timed(lambda: client.create(kinds.CONFIG_MAPS, plain, dry_run=True))
    claim = labs.claim("bench-dry-run")
    asked = await _timed(lambda: client.create(kinds.DATALABS, claim, dry_run=True))
    table.row("dry-run create of a ConfigMap", bare * 1000, "ms")
    table.row("dry-run create of a claim, three webhook calls", asked * 1000, "ms", floor=bare * 1000)
    return bare


async def _timed(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        await call()  # type: ignore[misc]  # both callers pass a coroutine function
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _planning(table: Table, floor: float | None) -> None:
    """CPU of the pure part, for a claim with every backend: from claim and environment to all objects."""
    environments = [_read("environment.yaml", index) for index in range(2)]
    environment = EnvironmentConfig.parse(environments[0])
    claim = to_v1beta2(default(_read("s-jeff.yaml", 0)))
    claim["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000", "generation": 1}
    seen = Observed(storage=StorageKeys("key", "not-a-secret", "https://s3.example.org", "eu"))
    rendered = render([claim], environments, Objects(), _fresh)
    live = Objects().joined(rendered.objects)
    for what, work in {
        "resolve and plan one claim": lambda: plan(resolve(claim, environment), seen, _fresh),
        "render one claim, nothing there": lambda: render([claim], environments, Objects(), _fresh),
        "render one claim, all there": lambda: render([claim], environments, live, _fresh),
    }.items():
        table.row(f"CPU to {what}", _cpu(work), "ms", floor=floor)


def _cpu(work: Callable[[], object]) -> float:
    """Milliseconds of CPU of one call, once everything that is made only once is made."""
    work()
    began = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - began) / ROUNDS * 1000


def _fresh() -> str:
    return "not-a-secret"


def _read(sample: str, index: int) -> Manifest:
    """One document of a sample."""
    documents: list[Manifest] = list(yaml.safe_load_all((playground.SAMPLES / sample).read_text()))
    return documents[index]


def _educates(obj: Manifest) -> str:
    return str(((obj.get("status") or {}).get("educates") or {}).get("phase") or "")


if __name__ == "__main__":
    sys.exit(main())
