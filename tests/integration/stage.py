"""The cluster as a lab needs it: stand-ins in a thread of their own, and what tests say about labs."""

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import Educates, Kubelet, Timing, install, install_store_crds, secrets_manager
from hack.standins.kubelet import Trouble
from hack.standins.operator import Operator
from tests.integration.daemon import eventually
from tests.integration.objects import environment, unique
from tests.reference import SHARED

QUICK = Timing().scaled(0.1)
"""Educates' pauses, ten times as short: its five minutes are thirty seconds."""


@contextlib.contextmanager
def background(name: str, entered: Callable[[], AbstractAsyncContextManager[object]]) -> Iterator[None]:
    """An asynchronous context, entered in a thread with a loop of its own and left when this one ends.

    What fails in it fails the test.
    """
    ready = threading.Event()
    failures: list[BaseException] = []
    stopping: list[Callable[[], object]] = []

    async def stay() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with entered():
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(stay())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        assert ready.wait(scaled(90)), f"{name} is not ready"
        if failures:
            raise failures[0]
        yield
    finally:
        if not failures:
            for stop in stopping:
                stop()
        thread.join(scaled(30))
    if failures:
        raise failures[0]


def install_educates(cluster: Cluster) -> None:
    """Have the API server serve Educates' kinds, with nobody who works on them."""

    async def installing() -> None:
        client = await Client.connect(str(cluster.educates_kubeconfig), user_agent="standins")
        try:
            await install(client, SHARED if SHARED.exists() else None)
        finally:
            await client.close()

    asyncio.run(installing())


@contextlib.contextmanager
def standins(
    cluster: Cluster,
    timing: Timing = QUICK,
    trouble: Trouble = lambda _: None,
    *,
    installed: bool = True,
    stores: Sequence[Callable[[Client], Operator]] = (),
) -> Iterator[None]:
    """Educates, kubelet and the operators of these stores, playing while the context lasts.

    Their own failures fail the test that ends it.
    """

    @contextlib.asynccontextmanager
    async def playing() -> AsyncIterator[None]:
        client = await Client.connect(str(cluster.educates_kubeconfig), user_agent="standins")
        try:
            if not installed:
                await install(client, SHARED if SHARED.exists() else None)
            if stores:
                await install_store_crds(client, SHARED / "crds" if SHARED.exists() else None)
            async with contextlib.AsyncExitStack() as entered:
                copying = await entered.enter_async_context(secrets_manager(client, cluster.educates_kubeconfig))
                educates = Educates(client, copying, domain="lab.example.org", timing=timing)
                for standin in (educates, Kubelet(client, trouble), *(store(client) for store in stores)):
                    await entered.enter_async_context(standin)
                yield
        finally:
            await client.close()

    with background("standins", playing):
        yield


class Stage:
    """One environment, and labs in it."""

    def __init__(self, cluster: Cluster, namespace: str, **data: Any) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.environment = unique("env")
        self.create(
            environment(
                self.environment,
                ingress={
                    "domain": "lab.example.org",
                    "protection": {
                        "type": "nginx",
                        "authURL": "https://auth.lab.example.org/oauth2/auth",
                        "signinURL": "https://auth.lab.example.org/oauth2/start",
                    },
                },
                storage={"endpoint": "https://s3.example.org", "region": "eu"},
                **data,
            )
        )

    def lab(self, *sessions: str, name: str = "", storage: bool = True, **spec: Any) -> str:
        """A new lab, with its storage Secret unless told otherwise; returns its name."""
        name = name or unique()
        if storage:
            self.storage_secret(name)
        self.create(self.claim(name, *sessions, **spec))
        return name

    def claim(self, name: str, *sessions: str, **spec: Any) -> Manifest:
        """The claim of such a lab."""
        return {
            "apiVersion": "pkg.internal/v1beta2",
            "kind": "Datalab",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "annotations": {"datalabs.pkg.internal/environment": self.environment},
            },
            "spec": {"users": ["ann"], "sessions": [{"name": session} for session in sessions]} | spec,
        }

    def storage_secret(self, name: str, secret_key: str = "not-a-secret") -> None:
        """The storage Secret of a lab, new or changed."""
        self.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": self.namespace},
                "stringData": {"AWS_ACCESS_KEY_ID": f"key-{name}", "AWS_SECRET_ACCESS_KEY": secret_key},
            }
        )

    def create(self, manifest: Manifest) -> None:
        """Create or change an object."""
        self.cluster.api.apply(manifest)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """A live object, None if there is none."""
        return self.cluster.api.get(kind, name, self.namespace if namespace is None else namespace)

    def list(self, kind: str, selector: str, namespace: str = "") -> list[Manifest]:
        """Live objects by label."""
        return self.cluster.api.list(kind, namespace, selector)

    def condition(self, lab: str, kind: str) -> Manifest:
        """One condition of a lab, empty if it is not reported."""
        return _condition(self.get("datalab", lab) or {}, kind)

    def phase(self, kind: str, name: str) -> str:
        """What Educates says of one of its objects, empty if that is nothing yet."""
        status = (self.get(kind, name, "") or {}).get("status") or {}
        return str((status.get("educates") or {}).get("phase") or "")

    def events(self, lab: str = "") -> set[str]:
        """Reasons of the Events in the namespace of claims: of one lab, or of all."""
        events = self.cluster.api.list("events", self.namespace)
        return {event["reason"] for event in events if lab in ("", event["involvedObject"]["name"])}

    def until(self, lab: str, kind: str, status: str, reason: str = "", seconds: float = 40) -> Manifest:
        """The condition once it has this status, and reason, for the claim's present generation."""

        def reached() -> Manifest:
            live = self.get("datalab", lab) or {}
            condition = _condition(live, kind)
            fits = condition.get("status") == status and reason in ("", condition.get("reason"))
            # What was said of the claim before its last edit says nothing of it now.
            return condition if fits and condition["observedGeneration"] == live["metadata"]["generation"] else {}

        try:
            return eventually(reached, seconds)
        except AssertionError as error:
            error.add_note(json.dumps(self.get("datalab", lab), indent=1)[-4000:])
            raise

    def requests(self, text: str) -> Sequence[Manifest]:
        """Entries of the audit log in which the text stands; the last line may be half written."""
        lines = self.cluster.audit_log.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n") and text.encode() in line]

    def until_ready(self, lab: str, seconds: float = 40) -> None:
        """Return when the lab is Ready."""
        self.until(lab, "Ready", "True", seconds=seconds)

    def patch(self, lab: str, *operations: Manifest) -> None:
        """JSON-patch a claim."""
        self.cluster.api.patch("datalab", lab, list(operations), self.namespace)

    def annotate(self, lab: str, key: str, value: str) -> None:
        """Annotate a claim."""
        self.cluster.api.annotate("datalab", lab, {key: value}, self.namespace)

    def edit_environment(self, data: Manifest) -> None:
        """Lay these keys over the data of the environment; those of value None are taken away."""
        self.cluster.api.patch("environmentconfig", self.environment, {"data": data})

    def values(self, name: str, namespace: str | None = None) -> dict[str, str]:
        """What a Secret holds, empty if there is none."""
        data = (self.get("secret", name, namespace) or {}).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def set_state(self, lab: str, index: int, state: str) -> None:
        """Start or stop the session of that index."""
        self.patch(lab, {"op": "replace", "path": f"/spec/sessions/{index}/state", "value": state})

    def gone(self, kind: str, name: str, namespace: str = "", seconds: float = 60) -> None:
        """Return when an object is gone."""
        eventually(lambda: self.get(kind, name, namespace) is None, seconds)

    def delete(self, lab: str, *, wait: bool = True) -> None:
        """Delete a claim."""
        self.cluster.api.delete("datalab", lab, self.namespace)
        if wait:
            self.gone("datalab", lab, self.namespace)


def _condition(claim: Manifest, kind: str) -> Manifest:
    conditions = (claim.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), {})
