"""What the Workspace API costs as a process: reads over HTTP with signed tokens, out of 500 workspaces.

python -m hack.bench.workspace_server
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

from datalabd.api.meta import V1BETA2, Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from hack import playground
from hack.bench.table import Table
from hack.bench.workspaces import WORKSPACES, datalab_of, secrets_of, storage_of
from hack.cluster import Cluster, ClusterError

ROOT = Path(__file__).parents[2]
READS, LISTS, ONE_BY_ONE = 3000, 30, 300
WRITERS = READERS = 16


def measure(table: Table) -> None:
    """Print the figures, of a control plane without anything else."""
    with tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch, Cluster.start(Path(scratch)) as cluster:
        for file in ("manifests/crd/datalabs.pkg.internal.yaml", "hack/schemas/storages.pkg.internal.yaml"):
            cluster.kubectl("create", "-f", str(ROOT / file))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.api.create_namespace(playground.NAMESPACE)
        asyncio.run(_fill(cluster))
        api = playground.start_workspaces(cluster, RATE_LIMITS="off")
        process = cluster.processes()["workspaces"]
        if process is None:
            raise ClusterError("the Workspace API does not run")
        asyncio.run(_measure(table, api.url, api.token(playground.ADMIN), process))


async def _fill(cluster: Cluster) -> None:
    client = await Client.connect(str(cluster.kubeconfig))
    waiting = asyncio.Semaphore(WRITERS)

    async def make(kind: kinds.Resource, manifest: Manifest) -> None:
        metadata = {"name": manifest["metadata"]["name"], "namespace": playground.NAMESPACE}
        async with waiting:
            await client.create(kind, manifest | {"metadata": metadata})

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(WORKSPACES):
                storage = storage_of(number)
                group.create_task(make(kinds.STORAGES, storage))
                lab = {"apiVersion": V1BETA2, "kind": "Datalab"} | datalab_of(storage)
                group.create_task(make(kinds.DATALABS, lab))
                for secret in secrets_of(storage).values():
                    group.create_task(make(kinds.SECRETS, {"apiVersion": "v1", "kind": "Secret"} | secret))
    finally:
        await client.close()


async def _measure(table: Table, url: str, token: str, process: psutil.Process) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def get(path: str) -> float:
            began = time.perf_counter()
            async with session.get(url + path) as response:
                response.raise_for_status()
                await response.read()
            return time.perf_counter() - began

        async def cpu_of(paths: list[str], at_once: int) -> float:
            """CPU of the process for each of these, milliseconds."""
            left = iter(paths)

            async def read() -> None:
                for path in left:
                    await get(path)

            before = sum(process.cpu_times()[:2])
            await asyncio.gather(*(read() for _ in range(at_once)))
            return (sum(process.cpu_times()[:2]) - before) / len(paths) * 1000

        paths = [f"/workspaces/ws-{number % WORKSPACES:03}" for number in range(READS)]
        await cpu_of(paths[:100], READERS)
        bare = await cpu_of(["/probe"] * READS, READERS)
        one = await cpu_of(paths, READERS)
        listed = await cpu_of(["/workspaces"] * LISTS, 1)
        seconds = [await get(path) for path in paths[:ONE_BY_ONE]]
    table.row("CPU of GET /probe, which reads nothing", bare, "ms")
    table.row("CPU of GET /workspaces/{w}", one, "ms", floor=bare, goal=1, note=f"{1000 / one:.0f} a second and core")
    table.row("time of GET /workspaces/{w}, one by one", statistics.median(seconds) * 1000, "ms", goal=2)
    table.row(f"CPU of GET /workspaces, {WORKSPACES} of them", listed, "ms", floor=bare, goal=15)
    memory = process.memory_info().rss / 2**20
    table.row(f"resident memory with {WORKSPACES} workspaces", memory, "MiB", goal=160)


if __name__ == "__main__":
    try:
        measure(Table())
    except ClusterError as error:
        sys.exit(str(error))
