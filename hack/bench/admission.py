"""What an admission costs: CPU of mutate and validate together, and how long others wait beside large claims.

    python -m hack.bench.admission

Reviews go straight to datalabd's webhooks over TLS, as the API server sends them, and the same ones to a bare handler
(`hack.bench.handler`), by turns. CPU is each process' own (`/proc/PID/task/*/schedstat`).
"""

import argparse
import asyncio
import contextlib
import copy
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ENVIRONMENT, Manifest
from datalabd.defaults import default
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.steps import Steps
from datalabd.submission import Submission
from hack import labs, playground
from hack.bench.passes import all_ready
from hack.bench.table import Table
from hack.cluster import Cluster, ClusterError
from webhooks import validate
from webhooks.decoding import decoded
from webhooks.review import AdmissionRequest
from webhooks.server import BODY_MAX

ROUNDS = 3
REQUESTS = 2001
"""Admissions of each kind, in all rounds together."""
CHUNK = 100
"""Admissions of one side in a row."""
BURST = 100
BURST_SECONDS = 30.0
"""How long admissions are measured in a burst, or until all its labs are Ready."""
LATENCIES = 400
LARGE = 20
"""Largest claims at once."""
ENVIRONMENT_CONFIG = {
    "apiVersion": "pkg.internal/v1beta1",
    "kind": "EnvironmentConfig",
    "metadata": {"name": "generous"},
    "data": {
        "ingress": {"domain": "generous.example.org"},
        "storage": {"secretNamespace": labs.SECRETS},
        "allowed": {"limits": {"sessions": 1000, "stores": 1000, "volumes": "1Pi", "memory": "1Pi"}},
    },
}
"""An environment that allows the largest claim."""

Edit = Callable[[Manifest, int], None]


def measure(table: Table) -> None:
    """All rows, on a control plane of their own."""
    with table.part("admissions"), _control_plane() as (cluster, bare):
        asyncio.run(_measure(table, cluster, bare))
    with table.part("the longest step of an admission"):
        _largest_steps(table)
        _decoding_steps(table)


@contextlib.contextmanager
def _control_plane() -> Iterator[tuple[Cluster, "subprocess.Popen[str]"]]:
    with (
        tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch,
        playground.start(Path(scratch, "cluster")) as cluster,
        _bare_handler() as bare,
    ):
        yield cluster, bare


def _label(claim: Manifest, number: int) -> None:
    claim["metadata"]["labels"] = {"example.org/edited": str(number)}


def _users(claim: Manifest, number: int) -> None:
    claim["spec"]["users"] = ["ann", f"user-{number}"]


def _quota(claim: Manifest, number: int) -> None:
    claim["spec"]["quota"] = {"memory": f"{1000 + number}Mi"}


EDITS: dict[str, tuple[Edit, float]] = {"label": (_label, 3), "users": (_users, 8), "quota": (_quota, 8)}
"""How a claim is edited, and how many times the bare handler's CPU that may cost."""


@dataclass
class Handler:
    """Whoever answers reviews, and what that costs him."""

    session: aiohttp.ClientSession
    pid: int
    mutate: str
    validate: str

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU since the process began."""
        tasks = Path("/proc", str(self.pid), "task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    async def admit(self, operation: str, new: Manifest, old: Manifest | None, user: str = "ann") -> None:
        """One admission: both webhooks, the second with what the first made of the claim."""
        await self._ask(self.mutate, operation, new, old, user)
        await self._ask(self.validate, operation, default(new), old, user)

    async def _ask(self, url: str, operation: str, new: Manifest, old: Manifest | None, user: str) -> None:
        request = {
            "uid": "00000000-0000-0000-0000-000000000000",
            "kind": {"group": "pkg.internal", "version": "v1beta2", "kind": "Datalab"},
            "resource": {"group": "pkg.internal", "version": "v1beta2", "resource": "datalabs"},
            "operation": operation,
            "name": new["metadata"]["name"],
            "namespace": new["metadata"]["namespace"],
            "userInfo": {"username": user, "groups": ["system:authenticated"]},
            "object": new,
            "oldObject": old,
            "dryRun": True,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        async with self.session.post(url, data=orjson.dumps(review)) as response:
            answer = orjson.loads(await response.read())
        if not answer["response"]["allowed"]:
            raise ClusterError(f"a claim was refused: {answer['response']['status']['message']}")


async def _measure(table: Table, cluster: Cluster, bare_process: "subprocess.Popen[str]") -> None:
    assert bare_process.stdout is not None
    bare_url = f"https://127.0.0.1:{bare_process.stdout.readline().strip()}/"
    process = cluster.processes()["datalabd"]
    assert process is not None
    url = _webhook_url(cluster)
    await asyncio.to_thread(labs.prepare, cluster, [name for turn in range(ROUNDS) for name in _burst_names(turn)])
    await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=json.dumps(ENVIRONMENT_CONFIG))
    client = await Client.connect(str(cluster.kubeconfig), user_agent="bench")
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    try:
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            ours = Handler(session, process.pid, f"{url}/mutate/datalabs", f"{url}/validate/datalabs")
            bare = Handler(session, bare_process.pid, bare_url, bare_url)
            full = await client.create(kinds.DATALABS, labs.full("full"))
            await asyncio.sleep(5)  # until its lab is made, which is not to be measured
            creates = [_renamed(labs.full("full-new"), number) for number in range(REQUESTS)]
            with table.part(f"{REQUESTS} admissions: create"):
                await _ratio(table, ours, bare, "create", 8, creates, None)
            for what, (edit, goal) in EDITS.items():
                claims = [_edited(full, edit, number) for number in range(REQUESTS)]
                with table.part(f"{REQUESTS} admissions: edit of {what}"):
                    await _ratio(table, ours, bare, f"edit of {what}", goal, claims, full)
            with table.part("admissions of the largest claim"):
                await _large(table, ours, bare)
            with table.part(f"admissions in bursts of {BURST} labs"):
                await _bursts(table, ours, bare, client, full)
    finally:
        await client.close()


async def _ratio(
    table: Table, ours: Handler, bare: Handler, what: str, goal: float, claims: list[Manifest], old: Manifest | None
) -> None:
    """CPU of these admissions, over that of the same reviews at the bare handler."""
    operation = "CREATE" if old is None else "UPDATE"
    for handler in (ours, bare):
        await handler.admit(operation, claims[0], old)
    rounds = []
    for turn in range(ROUNDS):
        part = claims[turn::ROUNDS]
        spent = {id(ours): 0.0, id(bare): 0.0}
        for start in range(0, len(part), CHUNK):
            for handler in (ours, bare):
                before = handler.cpu_ms
                for claim in part[start : start + CHUNK]:
                    await handler.admit(operation, claim, old)
                spent[id(handler)] += handler.cpu_ms - before
        rounds.append((spent[id(ours)] / len(part), spent[id(bare)] / len(part)))
    note = f"{statistics.median(cpu for cpu, _ in rounds):.2f} ms"
    note += f", a bare handler {statistics.median(floor for _, floor in rounds):.2f} ms"
    ratio = statistics.median(cpu / floor for cpu, floor in rounds)
    table.row(f"CPU of an admission over a bare handler's: {what}", ratio, "×", goal=goal, note=note)


async def _large(table: Table, ours: Handler, bare: Handler) -> None:
    """What the largest claims cost, and how long somebody else waits beside many of them."""
    largest = _in_generous(labs.largest("largest"))
    small = [_renamed(labs.claim("small"), number) for number in range(LATENCIES)]
    cpu, floor = [
        statistics.median([await _largest_cpu(handler, largest) for _ in range(ROUNDS)]) for handler in (ours, bare)
    ]
    note = f"{len(orjson.dumps(largest)) // 1024} KiB, a bare handler {floor:.1f} ms"
    table.row("CPU of an admission: the largest claim", cpu, "ms", floor=floor, goal=60, note=note)
    waited, alone = [await _beside(handler, largest, small) for handler in (ours, bare)]
    what = f"p99 of another user's admission beside {LARGE} of the largest at once"
    table.row(what, waited * 1000, "ms", floor=alone * 1000, note=f"{alone * 1000:.0f} ms at a bare handler")


async def _largest_cpu(handler: Handler, largest: Manifest) -> float:
    """Milliseconds of CPU of one admission of the largest claim."""
    before = handler.cpu_ms
    for number in range(LARGE):
        await handler.admit("CREATE", _renamed(largest, number), None)
    return (handler.cpu_ms - before) / LARGE


async def _beside(handler: Handler, largest: Manifest, small: list[Manifest]) -> float:
    """Seconds that another user waits at most, 99 times of 100, while one writes many of the largest claims."""

    async def write(number: int) -> None:
        for turn in range(3):
            await handler.admit("CREATE", _renamed(largest, number * 3 + turn), None, user="mallory")

    writes = asyncio.gather(*(write(number) for number in range(LARGE)))
    beside: list[float] = []
    while not writes.done():
        beside.append(await _seconds(handler, small[len(beside) % len(small)]))
    await writes
    return _p99(beside)


async def _bursts(table: Table, ours: Handler, bare: Handler, client: Client, full: Manifest) -> None:
    """How much longer admissions take while many labs are made."""
    idle, burst = [], []
    for turn in range(ROUNDS):
        table.tell(f"burst {turn + 1} of {ROUNDS}, and the rest before it")
        idle.append(await _quotient(ours, bare, full, lambda done: done >= LATENCIES))
        burst.append(await _amid_burst(ours, bare, client, full, _burst_names(turn)))
    at_rest, amid = statistics.median(idle), statistics.median(burst)
    what = f"p99 of an admission over a bare handler's, in a burst of {BURST} labs"
    table.row(what, amid, "×", goal=3, note=f"{amid / at_rest:.1f} times that at rest")
    table.row("p99 of an admission over a bare handler's, at rest", at_rest, "×")


async def _amid_burst(ours: Handler, bare: Handler, client: Client, full: Manifest, names: list[str]) -> float:
    ready = asyncio.create_task(all_ready(client, set(names)))
    made = asyncio.gather(*(client.create(kinds.DATALABS, labs.claim(name)) for name in names))
    until = time.monotonic() + BURST_SECONDS
    quotient = await _quotient(ours, bare, full, lambda _: ready.done() or time.monotonic() > until)
    await made
    await ready
    return quotient


def _burst_names(turn: int) -> list[str]:
    return [f"burst-{turn}-{number:03}" for number in range(BURST)]


async def _quotient(ours: Handler, bare: Handler, full: Manifest, enough: Callable[[int], bool]) -> float:
    seconds: dict[int, list[float]] = {id(ours): [], id(bare): []}
    done = 0
    while not enough(done):
        for handler in (ours, bare):
            edited = _edited(full, _quota, done)
            began = time.perf_counter()
            await handler.admit("UPDATE", edited, full)
            seconds[id(handler)].append(time.perf_counter() - began)
        done += 1
    return _p99(seconds[id(ours)]) / _p99(seconds[id(bare)])


async def _seconds(handler: Handler, claim: Manifest) -> float:
    began = time.perf_counter()
    await handler.admit("CREATE", claim, None)
    return time.perf_counter() - began


def _largest_steps(table: Table) -> None:
    """The longest time that judging the largest claim holds an event loop; what is there stays, as in the process."""
    gc.collect()
    gc.freeze()
    environment = EnvironmentConfig.parse(ENVIRONMENT_CONFIG)
    old = default(labs.largest("largest"))
    cases = {"create": (old, None), "quota": (_edited(old, _quota, 1), old), "users": (_reversed(old), old)}
    for what, (new, before) in cases.items():
        longest = []
        for _ in range(5):
            operation = "CREATE" if before is None else "UPDATE"
            request = AdmissionRequest("u", operation, "default", "largest", new, before, dry_run=True, username="ann")
            longest.append(_longest_step(request, environment))
        floor = _decode_ms(orjson.dumps(new))
        note = f"orjson decodes that claim in {floor:.1f} ms"
        step = statistics.median(longest)
        table.row(f"CPU of the longest step, the largest claim: {what}", step, "ms", floor=floor, goal=20, note=note)


def _decode_ms(text: bytes, times: int = LARGE) -> float:
    """Milliseconds of CPU that decoding a text at once takes."""
    began = time.thread_time()
    for _ in range(times):
        orjson.loads(text)
    return (time.thread_time() - began) / times * 1000


def _decoding_steps(table: Table) -> None:
    """The longest time that decoding the largest review holds an event loop: of claims, and of nothing but braces."""
    claim = orjson.dumps(labs.largest("largest"))
    objects = b",".join([claim] * (BODY_MAX // (len(claim) + 1)))
    fields = b",".join(b'"f:%07d":{}' % number for number in range(BODY_MAX // 15))
    for what, text in {
        "claims": b'{"objects":[%b]}' % objects,
        "managed fields": b'{"objects":[{%b}]}' % fields,
    }.items():
        floor = _decode_ms(text, 3)
        step = statistics.median(_longest(decoded(text)) for _ in range(5))
        note = f"orjson decodes it in {floor:.0f} ms"
        table.row(f"CPU of the longest step of decoding 8 MiB of {what}", step, "ms", goal=20, note=note)


def _longest_step(request: AdmissionRequest, environment: EnvironmentConfig) -> float:
    assert request.object is not None
    old = None if request.old_object is None else Submission(request.old_object, environment)
    return _longest(validate.datalab(request, Submission(request.object, environment), old))


def _longest(steps: Steps[Any]) -> float:
    """Milliseconds of CPU of the longest of these steps."""
    longest, ended = 0.0, False
    while not ended:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration:
            ended = True
        longest = max(longest, time.thread_time() - began)
    return longest * 1000


def _renamed(claim: Manifest, number: int) -> Manifest:
    metadata = claim["metadata"] | {"name": f"{claim['metadata']['name']}-{number}"}
    return claim | {"metadata": metadata, "spec": claim["spec"] | {"secretName": metadata["name"]}}


def _edited(claim: Manifest, edit: Edit, number: int) -> Manifest:
    edited = copy.deepcopy(claim)
    edit(edited, number)
    return edited


def _reversed(claim: Manifest) -> Manifest:
    return claim | {"spec": claim["spec"] | {"users": claim["spec"]["users"][::-1]}}


def _in_generous(claim: Manifest) -> Manifest:
    annotations = {ENVIRONMENT: ENVIRONMENT_CONFIG["metadata"]["name"]}  # type: ignore[index]
    return claim | {"metadata": claim["metadata"] | {"annotations": annotations}}


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[min(int(len(seconds) * 0.99), len(seconds) - 1)]


def _webhook_url(cluster: Cluster) -> str:
    log = (cluster.directory / "logs" / "datalabd.log").read_text()
    sites = [entry for entry in playground.entries(log) if entry.get("event") == "listening"]
    return f"https://127.0.0.1:{next(site['port'] for site in reversed(sites) if site['site'] == 'webhook')}"


@contextlib.contextmanager
def _bare_handler() -> Iterator["subprocess.Popen[str]"]:
    argv = [sys.executable, "-m", "hack.bench.handler"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def main() -> int:
    """Print the rows."""
    argparse.ArgumentParser(prog="python -m hack.bench.admission", description=__doc__.splitlines()[0]).parse_args()
    table = Table()
    measure(table)
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
