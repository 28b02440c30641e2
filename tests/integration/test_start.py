"""How datalabd comes up where something stands in its way: claims in an old version, a kind that nobody can read,
another datalabd."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from datalabd.api.meta import Manifest
from datalabd.kube.client import Client
from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.ports import free_port
from hack.standins import install_store_crds
from tests.integration.daemon import REGISTERED, ROOT, WEBHOOKS, Daemon, eventually, running, unregister
from tests.integration.gate import Gate
from tests.integration.objects import open_namespace
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CRD = "datalabs.pkg.internal"
REDIS = "redis.redis.redis.opstreelabs.in"
NOBODY = "https://127.0.0.1:9/convert"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own, as these tests change kinds."""
    with Cluster.start(tmp_path_factory.mktemp("own-control-plane")) as cluster:
        with standins(cluster, installed=False):
            yield cluster
        unregister(cluster, REGISTERED)


@contextlib.contextmanager
def as_ready(gate: Gate, daemon: Daemon) -> Iterator[list[bool]]:
    """Let connections through only while the daemon is ready, as a Service does; gives what it was found to be."""
    found: list[bool] = []
    stop = threading.Event()

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError, LookupError, FileNotFoundError):
            return httpx.get(f"{daemon.url}/readyz", trust_env=False, timeout=3).status_code == 200
        return False

    def probe() -> None:
        while not stop.wait(0.2):
            now = ready()
            if now and (not found or not found[-1]):
                gate.open()
            elif not now:
                gate.shut()
            found.append(now)

    gate.shut()
    thread = threading.Thread(target=probe, name="probe")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        gate.shut()


def definition(cluster: Cluster, name: str, **spec: Any) -> None:
    """Change the definition of a kind; `storage` names the version in which it is stored."""
    live = cluster.api.get("customresourcedefinition", name)
    assert live is not None
    storage = spec.pop("storage", "")
    for version in live["spec"]["versions"]:
        version["storage"] = version["name"] == storage if storage else version["storage"]
    cluster.kubectl("replace", "-f", "-", stdin=json.dumps(live | {"spec": live["spec"] | spec}))


def webhook(url: str) -> Manifest:
    """Conversion by a webhook."""
    config = {"clientConfig": {"url": url}, "conversionReviewVersions": ["v1"]}
    return {"strategy": "Webhook", "webhook": config}


def test_a_claim_stored_in_an_old_version_is_read_by_the_first_replica(own: Cluster, tmp_path: Path) -> None:
    """To list it the API server has to reach a ready replica: there is none that does not wait for the list."""
    port = free_port()
    with Gate(f"https://127.0.0.1:{port}") as gate:
        url = gate.url.replace("http:", "https:")
        daemon = Daemon(own, tmp_path / "log", webhook_url=url, DATALABD_WEBHOOK_PORT=str(port))
        with as_ready(gate, daemon) as found:
            daemon.start()
            stage = Stage(own, open_namespace(own))
            lab = stage.lab("main")
            stage.until_ready(lab, 90)
            daemon.kill()
            unregister(own, WEBHOOKS)
            definition(own, CRD, storage="v1beta1", conversion={"strategy": "None"})

            def stored() -> bool:
                change = ("label", f"datalabs.v1beta1.pkg.internal/{lab}", "-n", stage.namespace, "stored=v1beta1")
                return own.kubectl(*change, check=False).returncode == 0

            eventually(stored)
            definition(own, CRD, storage="v1beta2", conversion=webhook(f"{url}/convert"))
            eventually(lambda: not found[-1])
            daemon.start()
            assert found[-1]
            stage.patch(lab, {"op": "add", "path": "/spec/users", "value": ["ann", "joe"]})
            stage.until_ready(lab)
            stage.delete(lab)
            daemon.stop()


@pytest.fixture
def daemon(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running datalabd."""
    with running(own, tmp_path_factory) as daemon:
        yield daemon


def broken_redis(cluster: Cluster) -> None:
    """A Redis of somebody else's, stored in an old version, and no operator of Redis that would convert it."""

    async def install() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        try:
            await install_store_crds(client, None, "Redis")
        finally:
            await client.close()

    if cluster.api.get("customresourcedefinition", REDIS) is not None:
        definition(cluster, REDIS, conversion=webhook(NOBODY))  # another test has made the rest
        return
    asyncio.run(install())
    live = cluster.api.get("customresourcedefinition", REDIS)
    assert live is not None
    (new,) = live["spec"]["versions"]
    definition(cluster, REDIS, versions=[new | {"storage": False}, new | {"name": "v1beta1", "storage": True}])
    redis = {
        "apiVersion": "redis.redis.opstreelabs.in/v1beta1",
        "kind": "Redis",
        "metadata": {"name": "other", "namespace": open_namespace(cluster)},
        "spec": {"kubernetesConfig": {"image": "x"}},
    }
    made = json.dumps(redis)
    eventually(lambda: cluster.kubectl("create", "-f", "-", stdin=made, check=False).returncode == 0)
    definition(cluster, REDIS, conversion=webhook(NOBODY))


def test_a_kind_that_cannot_be_read_holds_up_the_labs_that_need_it_alone(own: Cluster, daemon: Daemon) -> None:
    broken_redis(own)
    daemon.restart()
    assert httpx.get(f"{daemon.url}/readyz", trust_env=False).status_code == 200
    assert daemon.wait_for("cannot be read")["resource"] == REDIS
    assert daemon.metrics()[f'datalabd_kind_unreadable{{resource="{REDIS}"}}'] == 1
    stage = Stage(own, open_namespace(own))
    other, needy = stage.lab("main"), stage.lab(cacheStores={"cache": {"storage": "1Gi"}})
    stage.until_ready(other, 90)
    said = stage.until(needy, "Synced", "False", "KindUnreadable")["message"]
    assert said.startswith(f"{REDIS} cannot be read: ")
    assert "conversion webhook" in said
    definition(own, REDIS, conversion={"strategy": "None"})
    stage.until(needy, "Synced", "True", seconds=60)
    assert daemon.metrics()[f'datalabd_kind_unreadable{{resource="{REDIS}"}}'] == 0
    for lab in (other, needy):
        stage.delete(lab)


def test_a_kind_that_becomes_unreadable_is_said_of_labs_at_rest(own: Cluster, daemon: Daemon) -> None:
    broken_redis(own)
    definition(own, REDIS, conversion={"strategy": "None"})
    stage = Stage(own, open_namespace(own))
    needy = stage.lab(cacheStores={"cache": {"storage": "1Gi"}})
    stage.until(needy, "Synced", "True", seconds=60)
    definition(own, REDIS, conversion=webhook(NOBODY))
    stage.until(needy, "Synced", "False", "KindUnreadable", seconds=60)
    definition(own, REDIS, conversion={"strategy": "None"})
    stage.until(needy, "Synced", "True", seconds=60)
    stage.delete(needy)


# --- another datalabd -------------------------------------------------------------------------------------------------


def run_installed(cluster: Cluster, log: Path) -> subprocess.Popen[bytes]:
    """`datalabd run` as in its pod."""
    environ = os.environ | {"DATALABD_WEBHOOK_PORT": "0", "DATALABD_METRICS_PORT": "0"}
    command = [sys.executable, "-m", "datalabd", "run", "--kubeconfig", str(kubeconfig(cluster, confined=True))]
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def registrations(cluster: Cluster) -> dict[str, Manifest]:
    """The `clientConfig` of each webhook for claims, without its authority."""
    return {
        webhook["name"]: {key: value for key, value in webhook["clientConfig"].items() if key != "caBundle"}
        for kind in WEBHOOKS
        for webhook in (cluster.api.get(kind, "datalabd") or {}).get("webhooks", ())
    }


def test_an_installed_run_is_refused_beside_a_local_one(own: Cluster, daemon: Daemon, tmp_path: Path) -> None:
    """Who forgets `--local` would have every claim refused for want of a Service."""
    before = registrations(own)
    run = run_installed(own, tmp_path / "log")
    assert run.wait(scaled(30)) == 1
    said = (tmp_path / "log").read_text()
    assert "a local run of datalabd answers for this cluster at https://127.0.0.1:" in said
    assert "holds Lease kube-system/datalabd as datalabd-0: stop it first" in said
    assert registrations(own) == before != {}


def test_an_installed_run_replaces_a_local_one_that_is_gone(own: Cluster, daemon: Daemon, tmp_path: Path) -> None:
    before = registrations(own)
    assert all("url" in config for config in before.values())
    daemon.kill()
    lease = own.api.get("lease", "datalabd", "kube-system")
    assert lease is not None
    lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    own.kubectl("replace", "-f", "-", stdin=json.dumps(lease))
    run = run_installed(own, tmp_path / "log")
    try:
        eventually(lambda: all("service" in config for config in registrations(own).values()), 30)
        assert registrations(own).keys() == before.keys()
    finally:
        run.terminate()
        assert run.wait(scaled(30)) == 0
        unregister(own, REGISTERED)
        own.api.delete("secret", "datalabd-serving-cert", "datalabd")
