"""What labs cost the reconciler: CPU, passes and requests of a burst, of edits at rest, of a restart.

    python -m hack.bench.passes [--labs 100]

CPU is datalabd's own (`/proc/PID/task/*/schedstat`), its share of admission included. A burst is all claims at once.
The floor is a bare writer: aiohttp and orjson, one POST of an object as large as a lab's, its answer decoded.
"""

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx
import orjson
import psutil
from prometheus_client.parser import text_string_to_metric_families

from datalabd.api.meta import ACCOUNT
from datalabd.kube import resources as kinds
from datalabd.kube.client import MERGE_PATCH, Client
from hack import account, labs, playground
from hack.bench import lag
from hack.bench.table import Table
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled

BURST = 30
ROUNDS = 3
EDITS = 20
RELABELS = 1000
WRITES = 300
QUIET_SECONDS = 2.0
"""How long nothing is reconciled before a measurement is over: between two looks at datalabd's metrics, which it has
to write each time."""
READY_SECONDS = 300.0
REGISTRATIONS = (
    "customresourcedefinitions",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
)
"""What says where datalabd is and who issued its certificate: written where that changed."""
IMPORTS = "import aiohttp, kr8s, pydantic, cryptography"


def measure(table: Table, count: int = 100) -> float | None:
    """All rows, on control planes of their own. Returns the floor: milliseconds of CPU of a bare write."""
    with byte_code("datalabd.app"):
        return _measure(table, count)


@contextlib.contextmanager
def byte_code(*modules: str) -> Iterator[None]:
    """Have processes find our modules compiled, as they do where datalabd is installed."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch:
        os.environ["PYTHONPYCACHEPREFIX"] = scratch
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        try:
            _cpu_of_process("\n".join([IMPORTS, *(f"import {module}" for module in modules)]))
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _measure(table: Table, count: int) -> float | None:
    floor = None
    with table.part("a bare writer"):
        floor = _bare_writer()
        table.row("CPU of a bare writer, per object", floor, "ms")
    with table.part(f"bursts of {BURST} labs"), _playground() as bench:
        bursts = []
        for turn in range(ROUNDS):
            table.tell(f"burst {turn + 1} of {ROUNDS}")
            bursts.append(bench.burst([f"burst-{turn}-{number:02}" for number in range(BURST)]))
        _burst_rows(table, bursts, BURST, floor)
    with table.part(f"bursts of {count} labs"):
        _many(table, count, floor)
    return floor


def _many(table: Table, count: int, floor: float | None) -> None:
    """Bursts of many labs, each on a control plane of its own, and what the labs of the last one cost at rest."""
    names = [f"lab-{number:03}" for number in range(count)]
    bursts, resident, watches = [], [], []
    for turn in range(ROUNDS):
        with _playground() as bench:
            table.tell(f"burst {turn + 1} of {ROUNDS}")
            before = bench.connections()
            bursts.append(bench.burst(names))
            resident.append(labs.resident_mib(bench.cluster))
            watches.append((bench.connections() - before) / count)
            if turn == ROUNDS - 1:
                _burst_rows(table, bursts, count, floor)
                table.row(f"resident with {count} labs", statistics.median(resident), "MiB", goal=130)
                table.row("watches per lab", statistics.median(watches), goal=1)
                _at_rest(table, bench, names, floor)


def _burst_rows(table: Table, bursts: list["Spent"], count: int, floor: float | None) -> None:
    what = f"of a burst of {count} labs, claim to Ready"
    cpu = _median(burst.cpu_ms / count for burst in bursts)
    requests = _median(burst.requests / count for burst in bursts)
    note = "" if floor is None else f"{cpu / requests / floor:.1f}× as much as its requests alone"
    table.row(f"CPU per lab {what}", cpu, "ms", floor=floor, goal=60, note=note)
    table.row(f"passes per lab {what}", _median(burst.passes / count for burst in bursts), goal=8)
    table.row(f"requests per lab {what}", requests, goal=18)
    table.row(f"seconds {what}", _median(burst.seconds for burst in bursts), "s")
    late = _median(burst.lag_ms for burst in bursts)
    idle = _median(burst.idle_lag_ms for burst in bursts)
    table.row(f"event loop late, p99 {what}", late, "ms", floor=idle, note=f"an idle process {idle:.1f} ms")
    table.row("the same, above the idle process", _median(b.lag_ms - b.idle_lag_ms for b in bursts), "ms", goal=30)


def _at_rest(table: Table, bench: "Bench", names: list[str], floor: float | None) -> None:
    with table.part(f"{RELABELS} changes by others that change nothing, {ROUNDS} times"):
        spent = [bench.spent(partial(bench.relabel, names[0], turn)) for turn in range(ROUNDS)]
        cpu = _median(one.cpu_ms / RELABELS for one in spent)
        table.row("CPU of a change by others that changes nothing", cpu, "ms", floor=floor, goal=1)
    # Before claims say for themselves what they take from their environment.
    with table.part(f"edits of the environment of {len(names)} labs"):
        spent = [bench.spent(partial(bench.edit_environment, turn)) for turn in range(ROUNDS)]
        cpu = _median(one.cpu_ms / len(names) for one in spent)
        table.row("CPU of an edit of their environment, per lab", cpu, "ms", floor=floor, goal=12)
        table.row("requests of such an edit, per lab", _median(one.requests / len(names) for one in spent))
    with table.part(f"{EDITS} edits of claims at rest, {ROUNDS} times"):
        spent = [bench.spent(partial(bench.edit, names[:EDITS], turn)) for turn in range(ROUNDS)]
        cpu, edits = _median(one.cpu_ms for one in spent), min(EDITS, len(names))
        table.row("CPU of an edit of one claim at rest", cpu / edits, "ms", floor=floor, goal=15)
        table.row("requests of such an edit", _median(one.requests for one in spent) / edits, goal=3.5)
    with table.part("restarts"):
        _restart(table, bench, names, floor)


def _restart(table: Table, bench: "Bench", names: list[str], floor: float | None) -> None:
    bare = _median(_cpu_of(IMPORTS) for _ in range(ROUNDS))
    ours = _median(_cpu_of("import datalabd.app") for _ in range(ROUNDS))
    table.row("CPU of `import datalabd.app`", ours, "s", floor=bare, note=f"its libraries alone {bare:.2f} s")
    table.row("the same, over its libraries alone", ours / bare, "×", goal=1.6)
    starts = [bench.restart(len(names)) for _ in range(ROUNDS)]
    imported = _median(_cpu_of_process("import datalabd.app") for _ in range(ROUNDS))
    cpu = _median(start.cpu_ms for start in starts) / 1000 - imported
    over = None if floor is None else floor / 1000
    table.row(f"CPU of a restart with {len(names)} labs, import left out", cpu, "s", floor=over, goal=1.0)
    written = sum((start.written for start in starts), Counter[tuple[str, str]]())
    own = Counter({key: number for key, number in written.items() if key[1] in REGISTRATIONS})
    others = written - own
    table.row(f"writes to labs' objects and Events of {ROUNDS} restarts", others.total(), goal=0, note=_named(others))
    table.row(f"writes to registrations of {ROUNDS} restarts", own.total(), note=_named(own))
    table.row("lists and reads of a restart", _median(start.requests - start.written.total() for start in starts))


def _named(written: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{number} × {verb} {resource}" for (verb, resource), number in sorted(written.items()))


def _median(figures: Iterable[float]) -> float:
    return statistics.median(figures)


def _cpu_of(statement: str) -> float:
    """Seconds of CPU of a process that runs a statement, over those of one that does nothing."""
    return _cpu_of_process(statement) - _cpu_of_process("pass")


def _cpu_of_process(statement: str) -> float:
    code = f"import time\n{statement}\nprint(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _bare_writer() -> float:
    """Milliseconds of CPU of one write by aiohttp alone."""
    with tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch, Cluster.start(Path(scratch, "c")) as cluster:
        return statistics.median(asyncio.run(_write(cluster, turn)) for turn in range(ROUNDS))


async def _write(cluster: Cluster, turn: int) -> float:
    context = ssl.create_default_context(cafile=cluster.directory / "pki" / "apiserver.crt")
    headers = {"Authorization": f"Bearer {cluster.admin_token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def write(number: int) -> None:
            metadata = {"name": f"bare-{turn}-{number}", "namespace": "default"}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": "x" * 2000}}
            url = f"{cluster.url}/api/v1/namespaces/default/configmaps"
            async with session.post(url, data=orjson.dumps(body)) as response:
                response.raise_for_status()
                orjson.loads(await response.read())

        await write(-1)
        began = time.process_time()
        for number in range(WRITES):
            await write(number)
        return (time.process_time() - began) / WRITES * 1000


def cpu_ms(process: psutil.Process) -> float:
    """Milliseconds of CPU of a process since it began."""
    tasks = Path("/proc", str(process.pid), "task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


@dataclass
class Spent:
    """What datalabd spent on something."""

    cpu_ms: float
    passes: float
    requests: int
    written: Counter[tuple[str, str]]
    """How often which verb was used on which resource."""
    seconds: float
    lag_ms: float = 0.0
    idle_lag_ms: float = 0.0


class Bench:
    """A playground whose datalabd is measured."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self._lag, self._idle = directory / "lag", directory / "idle"
        self._starts = 0
        cluster.run("idle", [sys.executable, "-m", "hack.bench.lag", str(self._idle)], cluster.kubeconfig)
        self._start()

    def _start(self) -> None:
        argv = [sys.executable, "-m", "hack.bench.lag", str(self._lag), "run", "--local"]
        log = self.cluster.run("datalabd", argv, account.kubeconfig(self.cluster))
        self._starts += 1
        playground.wait(self.cluster, "datalabd", log, lambda text: _starts(text) == self._starts)
        self._settled()

    def restart(self, count: int) -> Spent:
        """Stop datalabd and start it again; returns what the new one spent until it had looked at all labs."""
        self.cluster.end("datalabd")
        cpu, offset, began = -self._cpu_of("idle"), self.cluster.audit_log.stat().st_size, time.monotonic()
        self._start()
        until = began + scaled(READY_SECONDS)
        while self._passes() < count:
            if time.monotonic() > until:
                raise ClusterError(
                    f"after {READY_SECONDS:.0f} s a restarted datalabd had looked at fewer labs than {count}"
                )
            time.sleep(0.5)
        self._settled()
        return self._since(cpu, 0.0, offset, began)

    def burst(self, names: list[str]) -> Spent:
        """Make all these labs at once; returns what that took until all were Ready."""
        labs.prepare(self.cluster, names)
        self._settled()

        async def make() -> None:
            async with _client(self.cluster) as client:
                ready = asyncio.create_task(all_ready(client, set(names)))
                await asyncio.gather(*(client.create(kinds.DATALABS, labs.claim(name)) for name in names))
                await ready

        return self.spent(make)

    def spent(self, work: Callable[[], Awaitable[None]]) -> Spent:
        """What datalabd spends on something, until nothing more comes of it."""
        passes, cpu = self._passes(), self._cpu()
        offset, began = self.cluster.audit_log.stat().st_size, time.monotonic()
        asyncio.run(_done(work))
        ended = time.monotonic()
        self._settled()
        spent = self._since(cpu, passes, offset, began)
        spent.seconds = ended - began
        spent.lag_ms = lag.percentile(self._lag, began, ended) * 1000
        spent.idle_lag_ms = lag.percentile(self._idle, began, ended) * 1000
        return spent

    async def relabel(self, name: str, turn: int) -> None:
        """Have somebody else change a label of an object of a lab's, again and again."""
        async with _client(self.cluster) as client:
            for number in range(RELABELS):
                body = {"metadata": {"labels": {"example.org/relabelled": f"{turn}-{number}"}}}
                await client.patch(kinds.WORKSHOPS, "", name, body, MERGE_PATCH)

    async def edit(self, names: list[str], turn: int) -> None:
        """Edit claims one after the other, each in a way that new sessions take over."""
        async with _client(self.cluster) as client:
            for number in range(EDITS):
                body = {"spec": {"quota": {"memory": f"{3 + turn}Gi"}}}
                await client.patch(kinds.DATALABS, "default", names[number], body)
                await asyncio.sleep(0.5)

    async def edit_environment(self, turn: int) -> None:
        """Edit the environment of all labs, likewise."""
        async with _client(self.cluster) as client:
            body = {"data": {"defaults": {"quota": {"memory": f"{3 + turn}Gi"}}}}
            await client.patch(kinds.ENVIRONMENT_CONFIGS, "", "datalab", body)

    def connections(self) -> int:
        """Connections of datalabd to the API server that are open: each watch holds one."""
        port = urlsplit(self.cluster.url).port
        return sum(bool(one.raddr) and one.raddr.port == port for one in self._process().net_connections("tcp"))

    def _since(self, cpu: float, passes: float, offset: int, began: float) -> Spent:
        counted = Counter(requests(self.cluster.audit_log, offset, ACCOUNT))
        written = Counter({key: number for key, number in counted.items() if _writes(*key)})
        seconds = time.monotonic() - began
        return Spent(self._cpu() - cpu, self._passes() - passes, counted.total(), written, seconds)

    def _settled(self) -> None:
        """Return once nothing is reconciled any more."""
        until, before = time.monotonic() + scaled(READY_SECONDS), -1.0
        while (now := self._passes()) != before:
            if time.monotonic() > until:
                raise ClusterError(f"datalabd still reconciles after {READY_SECONDS:.0f} s")
            before = now
            time.sleep(QUIET_SECONDS)

    def _cpu(self) -> float:
        """Milliseconds of CPU of datalabd, over those that the measuring of its loop costs the idle process."""
        return self._cpu_of("datalabd") - self._cpu_of("idle")

    def _cpu_of(self, name: str) -> float:
        """Milliseconds of CPU of a process since it began."""
        return cpu_ms(self._process(name))

    def _process(self, name: str = "datalabd") -> psutil.Process:
        process = self.cluster.processes()[name]
        if process is None:
            raise ClusterError(f"{name} is not running")
        return process

    def _passes(self) -> float:
        return sum(
            value
            for name, labels, value in self._metrics()
            if name == "datalabd_reconcile_total" and labels["controller"] == "datalab"
        )

    def _metrics(self) -> list[tuple[str, dict[str, str], float]]:
        text = httpx.get(playground.metrics_url(self.cluster), trust_env=False).text
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]


@contextlib.contextmanager
def _playground() -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch,
        Cluster.start(Path(scratch, "cluster")) as cluster,
    ):
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(playground.API_SERVER))
        playground.start_standins(cluster)
        yield Bench(cluster, Path(scratch))


@contextlib.asynccontextmanager
async def _client(cluster: Cluster) -> AsyncIterator[Client]:
    client = await Client.connect(str(cluster.kubeconfig), user_agent="bench")
    try:
        yield client
    finally:
        await client.close()


async def all_ready(client: Client, names: set[str]) -> None:
    """Return when all labs of these names are Ready, told by a watch."""
    async with asyncio.timeout(scaled(READY_SECONDS)):
        waiting = set(names)
        items, since = await client.list(kinds.DATALABS, "default")
        waiting -= {item["metadata"]["name"] for item in items if labs.is_ready(item)}
        async for _, obj in client.watch(kinds.DATALABS, "default", since):
            if labs.is_ready(obj):
                waiting.discard(obj["metadata"]["name"])
            if not waiting:
                return
    raise ClusterError(f"the watch ended while {len(waiting)} labs were not ready")


async def _done(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def requests(audit_log: Path, offset: int, account: str) -> Iterator[tuple[str, str]]:
    """Verb and resource of an account's requests since that many bytes of the log; its lease left out."""
    with audit_log.open("rb") as log:
        log.seek(offset)
        for line in log:
            if not line.endswith(b"\n"):
                return  # still being written
            entry = orjson.loads(line)
            resource = (entry.get("objectRef") or {}).get("resource", "")
            if entry["user"].get("username") != account or resource == "leases":
                continue
            if entry["verb"] == "watch" and entry["stage"] != "ResponseStarted":
                continue
            is_dry = "dryRun=All" in entry["requestURI"]
            yield "dry run" if is_dry else entry["verb"], resource


def _writes(verb: str, resource: str) -> bool:
    """Whether such a request changes anything: questions are created, and kept nowhere."""
    return verb not in ("get", "list", "watch", "dry run") and not resource.endswith("reviews")


def _starts(text: str) -> int:
    return sum(entry.get("event") == "ready" for entry in playground.entries(text))


def main() -> int:
    """Only these rows."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench.passes", description=__doc__.splitlines()[0])
    parser.add_argument("--labs", type=int, default=100)
    table = Table()
    measure(table, parser.parse_args().labs)
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
