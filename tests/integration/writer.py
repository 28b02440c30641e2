"""A client that goes on writing whatever happens, and remembers what it was answered, and when."""

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import aiohttp

from datalabd.api.meta import V1BETA2, Manifest
from datalabd.kube.client import MERGE_PATCH, Connector
from tests.integration.objects import claim
from tests.integration.stage import Stage, background

PAUSE_SECONDS = 0.25
"""Between the starts of two writes, whether or not the earlier was answered."""
TIMEOUT_SECONDS = 60.0
WHAT = ("claim edited", "ingress edited", "claim tried")


@dataclass(frozen=True)
class Write:
    """One request, answered or broken."""

    what: str
    began: float
    """Unix time."""
    ended: float
    refusal: str
    """Empty if it was done."""

    def __str__(self) -> str:
        return f"{self.what}, {self.ended - self.began:.1f} s: {self.refusal or 'done'}"


class Writer:
    """Edits a claim, tries a new one, and gives an Ingress another name below the labs' domain; in turn, and again.

    Each is a connection of its own: one that stays open would say nothing of those who come.
    """

    def __init__(self, stage: Stage, lab: str, ingress: str) -> None:
        self._stage = stage
        self._lab = lab
        self._ingress = ingress
        self._writes: list[Write] = []
        self._sent = 0
        self._going: dict[int, float] = {}
        """When those began that were not answered yet."""
        self.before_each: Callable[[], Future[None]] | None = None
        """What is done first, as long as no other write waits for its answer."""

    def refused(self, since: float) -> list[Write]:
        """The writes begun since then that were not done, in order of their begin."""
        return sorted(
            (write for write in self._writes if write.began >= since and write.refusal), key=lambda w: w.began
        )

    def done(self, since: float) -> set[str]:
        """Which kinds of writes begun since then were done."""
        return {write.what for write in self._writes if write.began >= since and not write.refusal}

    def rounds(self, since: float) -> int:
        """How often everything was written since then, be it done or refused."""
        begun = [write.what for write in self._writes if write.began >= since]
        return min(map(begun.count, WHAT))

    def answered(self, until: float) -> bool:
        """Whether all that began before then is known."""
        return all(began >= until for began in list(self._going.values()))

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while the context lasts."""
        cluster = self._stage.cluster
        trust = ssl.create_default_context(cafile=cluster.directory / "pki" / "apiserver.crt")
        headers = {"Authorization": f"Bearer {cluster.admin_token}"}
        async with (
            aiohttp.ClientSession(
                cluster.url,
                headers=headers,
                connector=Connector(ssl=trust, force_close=True, limit=0),
                timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS),
            ) as session,
            asyncio.TaskGroup() as writes,
        ):
            going = writes.create_task(self._go_on(session, writes))
            try:
                yield
            finally:
                going.cancel()

    async def _go_on(self, session: aiohttp.ClientSession, writes: asyncio.TaskGroup) -> None:
        namespace = self._stage.namespace
        claims = f"/apis/{V1BETA2}/namespaces/{namespace}/datalabs"
        ingresses = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"
        for number in itertools.count():
            edit: Manifest = {"metadata": {"annotations": {"edit": str(number)}}}
            rules: Manifest = {"spec": {"rules": [rule(f"h{number}.lab.example.org")]}}
            trial = claim(namespace, self._stage.environment, sessions=[{"name": "main"}])
            for what, method, path, body in zip(
                WHAT,
                ("PATCH", "PATCH", "POST"),
                (f"{claims}/{self._lab}", f"{ingresses}/{self._ingress}", f"{claims}?dryRun=All"),
                (edit, rules, trial),
                strict=True,
            ):
                if self.before_each is not None and not self._going:
                    await asyncio.wrap_future(self.before_each())
                writes.create_task(self._write(session, what, method, path, body))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _write(self, session: aiohttp.ClientSession, what: str, method: str, path: str, body: Manifest) -> None:
        content_type = MERGE_PATCH if method == "PATCH" else "application/json"
        self._sent += 1
        number, began = self._sent, time.time()
        self._going[number] = began
        try:
            async with session.request(
                method, path, data=json.dumps(body), headers={"Content-Type": content_type}
            ) as answer:
                refusal = "" if answer.ok else f"{answer.status} {await answer.text()}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            refusal = repr(error)
        self._writes.append(Write(what, began, time.time(), refusal))
        del self._going[number]


@contextlib.contextmanager
def writing(stage: Stage, lab: str) -> Iterator[Writer]:
    """A writer at work, with an Ingress of its own."""
    name = f"{lab}-written"
    stage.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": stage.namespace},
            "spec": {"rules": [rule("h.lab.example.org")]},
        }
    )
    writer = Writer(stage, lab, name)
    with background("writer", writer.writing):
        yield writer


def rule(host: str) -> Manifest:
    """What an Ingress says of a host, whatever answers for it."""
    backend = {"service": {"name": "none", "port": {"number": 80}}}
    return {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
