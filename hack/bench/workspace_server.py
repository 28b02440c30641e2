"""What the Workspace API costs as a process: starts, reads, writes and streams, with 500 workspaces and signed tokens.

    python -m hack.bench.workspace_server

Beside it stands what upstream does for the same: it asks the API server for each read, one request after the other, and
writes whole lists.
"""

import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil

from datalabd.kube import resources as kinds
from datalabd.kube.client import JSON_PATCH, MERGE_PATCH, Client, path
from hack import playground
from hack.bench.passes import IMPORTS, byte_code, cpu_ms, requests
from hack.bench.table import Table
from hack.bench.workspaces import (
    NAMESPACE,
    USERS,
    WORKSPACES,
    datalab_of,
    members_of,
    name_of,
    owner_of,
    secrets_of,
    storage_of,
    usage_of,
    workspaces_of,
)
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled

ROOT = Path(__file__).parents[2]
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:datalabd-workspaces"
AT_ONCE = 16
STARTS = 3
READS, LISTS, COLD_LISTS, ONE_BY_ONE = 10_000, 100, 30, 300
UPSTREAM = 11.2
"""Requests to the API server for which upstream tells of a workspace, measured; one after the other."""
EDITS = 50
MEMBER = [{"member": "by-us"}]
RACERS = 32
"""Edits of one workspace at once."""
STREAMS_EACH = 8
CHANGES, PAUSE_SECONDS = 150, 0.05
EVENT_SECONDS = 10.0


def measure(table: Table) -> None:
    """Print the figures, of a control plane without anything else."""
    with tempfile.TemporaryDirectory(prefix="datalabd-bench-") as scratch, serving_workspaces(Path(scratch)) as cluster:
        asyncio.run(_measure(table, cluster))


@contextlib.contextmanager
def serving_workspaces(scratch: Path) -> Iterator[Cluster]:
    """A control plane that serves the kinds of workspaces, which nobody works on; our modules are compiled."""
    with byte_code("datalabd.app", "workspaces.app"), Cluster.start(scratch) as cluster:
        for file in ("manifests/crd/datalabs.pkg.internal.yaml", "hack/schemas/storages.pkg.internal.yaml"):
            cluster.kubectl("create", "-f", str(ROOT / file))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.api.create_namespace(NAMESPACE)
        yield cluster


async def _measure(table: Table, cluster: Cluster) -> None:
    client = await Client.connect(str(cluster.kubeconfig), user_agent="bench")
    try:
        await fill(client)
        issuer = await asyncio.to_thread(playground.start_issuer, cluster)
        await asyncio.to_thread(_starts, table, cluster, issuer)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            bench = _Bench(cluster, client, session, issuer)
            await bench.reads(table)
            await bench.lists(table)
            await bench.edits(table)
            await bench.race(table)
            await bench.streams(table)
    finally:
        await client.close()


async def fill(client: Client) -> None:
    """Make all workspaces, their namespaces with what is used there included."""
    waiting = asyncio.Semaphore(AT_ONCE)

    async def make(number: int) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name_of(number)}}
        async with waiting:
            for kind, manifest in (
                (kinds.STORAGES, storage_of(number)),
                (kinds.DATALABS, datalab_of(number)),
                *((kinds.SECRETS, secret) for secret in secrets_of(number).values()),
                (kinds.NAMESPACES, namespace),
                *zip((kinds.RESOURCE_QUOTAS, kinds.VOLUME_CLAIMS), usage_of(number), strict=True),
            ):
                metadata = {key: manifest["metadata"].get(key) for key in ("name", "namespace")}
                kept = {key: value for key, value in metadata.items() if value}
                await client.create(kind, manifest | {"metadata": kept})

    async with asyncio.TaskGroup() as group:
        for number in range(WORKSPACES):
            group.create_task(make(number))


def _starts(table: Table, cluster: Cluster, issuer: str) -> None:
    libraries = statistics.median(_seconds_of(IMPORTS) for _ in range(STARTS))
    seconds = []
    for _ in range(STARTS):
        began = time.perf_counter()
        playground.run_workspaces(cluster, issuer)
        seconds.append(time.perf_counter() - began)
        cluster.end("workspaces")
    what = f"time from start to ready with {WORKSPACES} workspaces"
    note = f"beside {libraries:.2f} s in which Python imports its libraries"
    table.row(what, statistics.median(seconds), "s", floor=libraries, goal=3, note=note)


def _seconds_of(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


class _Bench:
    """Two replicas of the Workspace API; the first is measured."""

    def __init__(self, cluster: Cluster, client: Client, session: aiohttp.ClientSession, issuer: str) -> None:
        self._cluster = cluster
        self._client = client
        self._http = session
        self._api = playground.run_workspaces(cluster, issuer, RATE_LIMITS="off")
        self._other = playground.run_workspaces(cluster, issuer, name="workspaces-2", RATE_LIMITS="off")
        process = cluster.processes()["workspaces"]
        if process is None:
            raise ClusterError("the Workspace API does not run")
        self._process: psutil.Process = process

    async def _token(self, user: str) -> dict[str, str]:
        """A header with a new token, which holds five minutes."""
        return {"Authorization": f"Bearer {await asyncio.to_thread(self._api.token, user)}"}

    # ---- Reads

    async def reads(self, table: Table) -> None:
        """Workspaces one by one, by their members."""
        headers = [await self._token(owner_of(user)) for user in range(USERS)]
        readable = [(f"/workspaces/{name_of(n)}", headers[user]) for user in range(USERS) for n in workspaces_of(user)]
        asked = list(itertools.islice(itertools.cycle(readable), READS))
        await self._cpu_of(asked[:500])
        bare = await self._cpu_of([("/probe", header) for _, header in asked[: READS // 4]])
        offset = self._audited()
        one = await self._cpu_of(asked)
        made = self._requests_since(offset)
        seconds = [await self._get(*read) for read in asked[:ONE_BY_ONE]]
        hand = [await _seconds(self._as_upstream(number)) * 1000 for number in range(30)]
        note = f"tokens of {len(headers[0]['Authorization'])} bytes; verified once, then known"
        table.row("CPU of GET /probe, which reads nothing", bare, "ms", note=note)
        table.row(
            "CPU of GET /workspaces/{w}", one, "ms", floor=bare, goal=1, note=f"{1000 / one:.0f} a second and core"
        )
        by_hand = statistics.median(hand)
        what = "time of 11 reads of the API server, one after the other"
        table.row(what, by_hand, "ms", note="by hand, as upstream for one workspace; the floor of the next row")
        table.row("time of GET /workspaces/{w}, p50", statistics.median(seconds) * 1000, "ms", floor=by_hand, goal=2)
        note = f"upstream: {UPSTREAM * READS:.0f}"
        table.row(f"requests to the API server of {READS} such reads", len(made), goal=0, note=note)

    async def _as_upstream(self, number: int) -> None:
        """What upstream asks for one workspace."""
        name = name_of(number)
        crd = [path(kinds.CRDS, "", kind.crd) for kind in (kinds.DATALABS, kinds.STORAGES)]
        storages, datalabs = path(kinds.STORAGES, NAMESPACE), path(kinds.DATALABS, NAMESPACE, name)
        secrets = [path(kinds.SECRETS, NAMESPACE, secret["metadata"]["name"]) for secret in secrets_of(number).values()]
        usage = [path(kind, name) for kind in (kinds.RESOURCE_QUOTAS, kinds.VOLUME_CLAIMS)]
        for where in ("/apis", "/apis", f"{storages}/{name}", *crd * 2, datalabs, storages, *secrets, *usage):
            await self._client.request("GET", where)

    async def lists(self, table: Table) -> None:
        """All workspaces at once."""
        header = await self._token(playground.ADMIN)
        listed = await self._cpu_of([("/workspaces", header)] * LISTS, at_once=1)
        began = time.process_time()
        for _ in range(5):
            for kind in (kinds.STORAGES, kinds.DATALABS):
                await self._client.request("GET", path(kind, NAMESPACE))
        hand = (time.process_time() - began) / 5 * 1000
        what = f"CPU to list {WORKSPACES} Storages and Datalabs at the API server"
        table.row(what, hand, "ms", note="by hand, as upstream for its list; the floor of the next two")
        table.row(f"CPU of GET /workspaces, {WORKSPACES} of them", listed, "ms", floor=hand, goal=15)
        table.row("the same with a change of a Storage before each", await self._cold_list(header), "ms", floor=hand)

    async def _cold_list(self, header: dict[str, str]) -> float:
        """CPU of a list when nothing of the one before is left, the change included."""
        before = cpu_ms(self._process)
        for number in range(COLD_LISTS):
            bucket = {"bucketName": f"{name_of(number)}-cold", "discoverable": False}
            await self._patch(kinds.STORAGES, number, "/spec/buckets/-", "add", bucket)
            await asyncio.sleep(PAUSE_SECONDS)  # until the cache has it
            await self._get("/workspaces", header)
        return (cpu_ms(self._process) - before) / COLD_LISTS

    async def _get(self, where: str, header: dict[str, str]) -> float:
        """Seconds of a read."""
        began = time.perf_counter()
        async with self._http.get(self._api.url + where, headers=header) as response:
            response.raise_for_status()
            await response.read()
        return time.perf_counter() - began

    async def _cpu_of(self, asked: list[tuple[str, dict[str, str]]], at_once: int = AT_ONCE) -> float:
        """CPU of the process for each of these reads, milliseconds."""
        left = iter(asked)

        async def read() -> None:
            for one in left:
                await self._get(*one)

        before = cpu_ms(self._process)
        await asyncio.gather(*(read() for _ in range(at_once)))
        return (cpu_ms(self._process) - before) / len(asked)

    def _audited(self) -> int:
        """Where the API server's audit log ends."""
        return self._cluster.audit_log.stat().st_size

    def _requests_since(self, offset: int) -> list[tuple[str, str]]:
        """Verb and resource of what both replicas asked since; watches, the Lease and Events left out."""
        made = requests(self._cluster.audit_log, offset, ACCOUNT)
        return [(verb, resource) for verb, resource in made if verb != "watch" and resource != "events"]

    # ---- Writes

    async def edits(self, table: Table) -> None:
        """Edits of one object, and of both, each after the same by hand."""
        header = await self._token(playground.ADMIN)

        async def edit(method: str, where: str, body: Any) -> None:
            async with self._http.request(method, self._api.url + where, json=body, headers=header) as response:
                response.raise_for_status()

        async def one_by_hand(number: int) -> None:
            await self._patch(
                kinds.DATALABS, number, f"/spec/userOverrides/{members_of(number)[1]}/role", "replace", "user"
            )

        async def one(number: int) -> None:
            member = members_of(number)[2]
            await edit("PATCH", f"/workspaces/{name_of(number)}/members/{member}", {"role": "user"})

        async def both_by_hand(number: int) -> None:
            for dry_run in (True, False):
                await self._patch(kinds.DATALABS, number, "/spec/users/-", "add", "by-hand", dry_run)
                await self._patch(kinds.STORAGES, number, "/spec/buckets/1/lifecycleRules", "add", [], dry_run)

        async def both(number: int) -> None:
            bucket = {"name": f"{name_of(number)}-1", "lifecycle_rules": []}
            await edit("PUT", f"/workspaces/{name_of(number)}", {"add_memberships": MEMBER, "add_buckets": [bucket]})

        async def bucket_by_hand(number: int) -> None:
            bucket = {"bucketName": f"{name_of(number)}-hand", "discoverable": False}
            await self._client.get(kinds.DATALABS, NAMESPACE, name_of(number))
            await self._patch(kinds.STORAGES, number, "/spec/buckets/-", "add", bucket, dry_run=True)
            await self._patch(kinds.STORAGES, number, "/metadata/annotations", "add", {"by": "hand"})
            await self._patch(kinds.STORAGES, number, "/spec/buckets/-", "add", bucket)

        async def bucket(number: int) -> None:
            await edit("PUT", f"/workspaces/{name_of(number)}", {"add_buckets": [{"name": f"{name_of(number)}-us"}]})

        for what, asked, hand, ours in (
            ("an edit of one object, one patch", 1, one_by_hand, one),
            ("an edit of both, a dry run and a patch of each", 4, both_by_hand, both),
            ("a new bucket, a read, a dry run and two patches", 4, bucket_by_hand, bucket),
        ):
            offset, cpu = self._audited(), cpu_ms(self._process)
            pairs = [
                (await _seconds(hand(number + EDITS)) * 1000, await _seconds(ours(number)) * 1000)
                for number in range(EDITS)
            ]
            cpu, made = (cpu_ms(self._process) - cpu) / EDITS, self._requests_since(offset)
            by_hand, by_us = (statistics.median(times) for times in zip(*pairs, strict=True))
            more = statistics.median(us - them for them, us in pairs)
            table.row(
                f"time of {what}, p50", by_us, "ms", floor=by_hand, note=f"CPU {cpu:.2f} ms; by hand {by_hand:.2f} ms"
            )
            table.row("the same, beyond what it takes by hand", more, "ms", goal=5)
            table.row("requests of such an edit, Events left out", len(made) / EDITS, goal=asked)

    async def _patch(
        self, kind: kinds.Resource, number: int, where: str, verb: str, value: Any, dry_run: bool = False
    ) -> None:
        """A JSON Patch of one field."""
        params = {"dryRun": "All"} if dry_run else {}
        body = [{"op": verb, "path": where, "value": value}]
        at = path(kind, NAMESPACE, name_of(number))
        await self._client.request("PATCH", at, params=params, body=body, content_type=JSON_PATCH)

    async def race(self, table: Table) -> None:
        """Many edits of one workspace at once, through two replicas."""
        header = await self._token(playground.ADMIN)

        async def by_hand(member: str, _: int) -> bool:
            live = await self._client.get(kinds.DATALABS, NAMESPACE, name_of(0))
            users = [*live["spec"]["users"], member]
            await self._client.patch(kinds.DATALABS, NAMESPACE, name_of(0), {"spec": {"users": users}}, MERGE_PATCH)
            return True

        async def ours(member: str, number: int) -> bool:
            url = (self._api, self._other)[number % 2].url
            body = {"add_memberships": [{"member": member}]}
            async with self._http.put(f"{url}/workspaces/{name_of(1)}", json=body, headers=header) as response:
                return response.ok

        for what, note, number, add in (
            ("lists written whole, by hand", "as upstream does", 0, by_hand),
            ("two replicas of ours", "", 1, ours),
        ):
            names = [f"racer-{racer:02}" for racer in range(RACERS)]
            taken = await asyncio.gather(*(add(member, racer) for racer, member in enumerate(names)))
            live = await self._client.get(kinds.DATALABS, NAMESPACE, name_of(number))
            lost = {name for name, is_taken in zip(names, taken, strict=True) if is_taken} - set(live["spec"]["users"])
            said = f"{sum(taken)} accepted" + (f"; {note}" if note else "")
            goal = None if number == 0 else 0
            table.row(f"edits that are lost of {RACERS} at once: {what}", len(lost), goal=goal, note=said)

    # ---- Streams

    async def streams(self, table: Table) -> None:
        """Memory, and how soon changes are told, with many streams."""
        before = self._resident()
        table.row(f"resident with {WORKSPACES} workspaces", before, "MiB", goal=160)
        seen = _Seen()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(seen.end)
            for user in range(USERS):
                header = await self._token(owner_of(user))
                for number in workspaces_of(user)[: STREAMS_EACH - 1]:
                    await seen.follow(
                        self._http, f"{self._api.url}/workspaces/{name_of(number)}/events", header, name_of(number)
                    )
                await seen.follow(self._http, f"{self._api.url}/events", header)
            count = USERS * STREAMS_EACH
            note = f"{USERS} users with {STREAMS_EACH} each; without them {before:.1f} MiB"
            table.row(f"resident with {count} streams", self._resident(), "MiB", goal=160, note=note)
            await seen.watch(self._client)
            cpu = cpu_ms(self._process)
            for number in range(CHANGES):
                seen.changed(name_of(number))
                await self._patch(kinds.DATALABS, number, "/spec/users/-", "add", "somebody-new")
                await asyncio.sleep(PAUSE_SECONDS)
            await seen.all()
            cpu = (cpu_ms(self._process) - cpu) / CHANGES
        hand, ours = p95(seen.by_hand), p95(seen.told)
        table.row("change of a Datalab to the event of a bare watch, p95", hand, "ms", note="by hand")
        note = f"two streams follow each workspace; CPU {cpu:.2f} ms for each change"
        table.row(f"the same to the events of {count} streams, p95", ours, "ms", floor=hand, goal=300, note=note)

    def _resident(self) -> float:
        return self._process.memory_info().rss / 2**20


class _Seen:
    """Changes, and when streams and a bare watch told of them."""

    def __init__(self) -> None:
        self.told: list[float] = []
        """Milliseconds."""
        self.by_hand: list[float] = []
        self._changed: dict[str, float] = {}
        self._expected = 0
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def changed(self, workspace: str) -> None:
        """Somebody is about to change a workspace."""
        self._changed[workspace] = time.perf_counter()
        self._expected += 2

    async def all(self) -> None:
        """Return once all streams have told of all changes."""
        async with asyncio.timeout(scaled(EVENT_SECONDS)):
            while len(self.told) < self._expected or len(self.by_hand) < len(self._changed):
                self._enough.clear()
                await self._enough.wait()

    async def follow(
        self, session: aiohttp.ClientSession, url: str, header: dict[str, str], workspace: str = ""
    ) -> None:
        """Listen to a stream; returns once its first snapshot is there."""
        first = asyncio.Event()
        self._begin(self._follow(session, url, header, workspace, first))
        async with asyncio.timeout(scaled(EVENT_SECONDS)):
            await first.wait()

    async def _follow(
        self, session: aiohttp.ClientSession, url: str, header: dict[str, str], workspace: str, first: asyncio.Event
    ) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.get(url, headers=header, timeout=timeout, read_bufsize=2**20) as response:
            response.raise_for_status()
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if first.is_set():
                    self._note(self.told, workspace or orjson.loads(line[6:]).get("workspace", ""))
                first.set()

    async def watch(self, client: Client) -> None:
        """Watch all Datalabs by hand."""
        _, since = await client.list(kinds.DATALABS, NAMESPACE)
        self._begin(self._watch(client, since))

    async def _watch(self, client: Client, since: str) -> None:
        async for kind, obj in client.watch(kinds.DATALABS, NAMESPACE, since):
            if kind == "MODIFIED":
                self._note(self.by_hand, obj["metadata"]["name"])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _note(self, where: list[float], workspace: str) -> None:
        """Somebody was told of a workspace, be it of our change or, as of its usage, of one that we did not make."""
        if (began := self._changed.get(workspace)) is not None:
            where.append((time.perf_counter() - began) * 1000)
            self._enough.set()

    async def end(self) -> None:
        """Listen no more."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def p95(figures: list[float]) -> float:
    """What nineteen of twenty are below."""
    return statistics.quantiles(figures, n=20)[-1]


if __name__ == "__main__":
    try:
        measure(Table())
    except ClusterError as error:
        sys.exit(str(error))
