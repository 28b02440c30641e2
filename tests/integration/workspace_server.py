"""The Workspace API as an operator runs it, a process of its own that a test asks over HTTP."""

import base64
import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from datalabd.api.meta import Manifest
from hack.account import workspaces_kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.issuer import Issuer
from tests.integration.daemon import ROOT, _parsed, eventually
from tests.integration.objects import unique

MANIFESTS = ROOT / "manifests"
STORAGE_CRD = ROOT / "hack" / "schemas" / "storages.pkg.internal.yaml"
READY_SECONDS = 30.0
KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_ENDPOINT_URL": "https://s3.example"}
USERS: dict[str, dict[str, list[str]]] = {
    "root": {"workspace-api": ["admin"]},
    "alice": {"ws-a": ["ws_admin"]},
    "joe": {"ws-a": ["ws_access"]},
    "robot": {"ws-a": ["ws_api"]},
    "bob": {"ws-b": ["ws_admin"]},
    "stranger": {},
}
"""Roles by user, as the issuer puts them into tokens."""


def install_kinds(cluster: Cluster) -> None:
    """Have the cluster serve Datalabs and Storages, unless it does: a datalabd has changed the CRD where it ran."""
    for crd, file in (
        ("datalabs.pkg.internal", MANIFESTS / "crd" / "datalabs.pkg.internal.yaml"),
        ("storages.pkg.internal", STORAGE_CRD),
    ):
        if cluster.api.get("customresourcedefinitions", crd) is None:
            cluster.kubectl("create", "-f", str(file))
        eventually(functools.partial(_is_established, cluster, crd))


def _is_established(cluster: Cluster, crd: str) -> bool:
    live = cluster.api.get("customresourcedefinitions", crd) or {}
    conditions = (live.get("status") or {}).get("conditions") or ()
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


def new_namespace(cluster: Cluster) -> str:
    """A namespace for workspaces, in a cluster that serves their kinds."""
    install_kinds(cluster)
    name = unique("ws")
    cluster.api.create_namespace(name)
    return name


class Server:
    """`datalabd workspaces` on a free port of 127.0.0.1."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, issuer: Issuer, **environ: str) -> None:
        self.namespace = namespace
        self.issuer = issuer
        self.log = log
        self._kubeconfig = kubeconfig
        self._environ = os.environ | {
            "WORKSPACE_NAMESPACE": namespace,
            "WORKSPACE_HOST": "127.0.0.1",
            "WORKSPACE_PORT": "0",
            "OIDC_ISSUER": issuer.url,
            "RATE_LIMITS": "off",
            "SESSION_PROBE": "off",
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        self.url = ""

    def start(self, *, ready: bool = True, before: str = "") -> None:
        """Start it, and unless told otherwise wait until it is ready; `before` is Python that it runs first."""
        assert self._process is None, "it runs already"
        self._began = self.log.stat().st_size if self.log.exists() else 0
        main = f"{before}\nimport sys\nfrom datalabd.__main__ import main\nsys.exit(main())"
        program = ["-c", main] if before else ["-m", "datalabd"]
        command = [sys.executable, *program, "workspaces", "--kubeconfig", str(self._kubeconfig)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.url = f"http://127.0.0.1:{self.wait_for('listening')['port']}"
        if ready:
            eventually(lambda: httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200, READY_SECONDS)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log line of this event since the start, once it is there."""

        def line() -> dict[str, Any] | None:
            found = next((line for line in self.lines() if line["event"] == event), None)
            ended = self._process is not None and self._process.poll() is not None
            assert found or not ended, f"it ended before it was {event!r}:\n{self.log.read_text()}"
            return found

        return eventually(line, READY_SECONDS)

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """What it logged since the last start, of this event if one is named."""
        found = [_parsed(line) for line in self.log.read_bytes()[self._began :].decode(errors="replace").splitlines()]
        return [line for line in found if not event or line["event"] == event]

    def ended(self) -> int:
        """Its exit code, once it ended of itself."""
        assert self._process is not None, "it does not run"
        process, self._process = self._process, None
        return process.wait(scaled(20))

    def kill(self) -> None:
        """End it by SIGKILL; without effect if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> tuple[int, float]:
        """End it by SIGTERM; exit code, and the seconds that took."""
        assert self._process is not None, "it does not run"
        began = time.monotonic()
        self._process.terminate()
        try:
            return self._process.wait(scaled(20)), time.monotonic() - began
        finally:
            self.kill()

    def as_(self, user: str = "", **options: Any) -> httpx.Client:
        """A client that sends this user's token."""
        headers = {"Authorization": f"Bearer {self.issuer.access_token(user)}"} if user else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=scaled(20), **options)


@contextlib.contextmanager
def serving(cluster: Cluster, namespace: str, log: Path, issuer: Issuer, **environ: str) -> Iterator[Server]:
    """A server that runs while the context lasts, by its own account and with the rights of its manifests."""
    server = Server(workspaces_kubeconfig(cluster, namespace), namespace, log, issuer, **environ)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def away(kubeconfig: Path, namespace: str, log: Path, issuer: Issuer) -> Iterator[Server]:
    """The same where it cannot become ready."""
    server = Server(kubeconfig, namespace, log, issuer)
    server.start(ready=False)
    try:
        yield server
    finally:
        server.kill()


def storage(namespace: str, name: str, **spec: Any) -> Manifest:
    """A Storage with a bucket that others see."""
    return {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "Storage",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"principal": name, "buckets": [{"bucketName": name, "discoverable": True}]} | spec,
    }


def datalab(namespace: str, name: str, **spec: Any) -> Manifest:
    """A Datalab of one member."""
    return {
        "apiVersion": "pkg.internal/v1beta2",
        "kind": "Datalab",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"users": ["alice"], "secretName": name} | spec,
    }


def secret(namespace: str, name: str, **values: str) -> Manifest:
    """A Secret of these values."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}


def workspace(cluster: Cluster, namespace: str, name: str, **spec: Any) -> None:
    """Make a workspace by its objects, with whole credentials."""
    cluster.api.create(storage(namespace, name))
    cluster.api.create(datalab(namespace, name, **spec))
    cluster.api.create(secret(namespace, name, **KEYS))
