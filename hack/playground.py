"""A control plane with Educates' stand-in and datalabd on it: what `make up`, `make demo` and the benchmarks run on.

python -m hack.playground up DIR      leave one running and print the export line of its kubeconfig
python -m hack.playground down DIR    end exactly what that started, and remove its files
python -m hack.playground clean DIR   remove the files of one that ended otherwise
"""

import argparse
import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hack import account
from hack.cluster import Cluster, ClusterError, binaries
from hack.deadlines import scaled
from hack.issuer import CLI, CLIENT_ID, CLIENT_SECRET
from hack.keycloak import WORKSPACE_CLIENT, Realm
from hack.minio import Account
from workspaces.login import CALLBACK

DOMAIN = "lab.example.org"
SAMPLES = Path(__file__).parents[1] / "manifests" / "samples"
READY_SECONDS = 60.0
NAMESPACE = "workspace"
ENVIRONMENT = "workspaces"
"""Of `manifests/samples`: storage Secrets are beside the claims there."""
ADMIN = "root"
"""A platform admin."""
IAM = "identity"
"""Namespace of the Secret by which datalabd manages a realm."""
API_SERVER = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": "kubernetes"},
    },
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["192.0.2.1"]}],
    "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
}
"""Where pods would reach the API server. It listens on loopback, which no endpoint may be: it publishes none itself."""


def start(
    directory: Path,
    *,
    detach: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    minio: Account | None = None,
) -> Cluster:
    """A running playground; its processes end with the cluster. Raises `ClusterError` where one does not come up.

    `tell` hears what is being done, as it takes some seconds. Buckets are made at the MinIO; without one, nowhere.
    """
    tell("starting etcd, an API server and its controllers (about 5 s) …")
    cluster = Cluster.start(directory, detach=detach)
    try:
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(API_SERVER))
        tell("starting the stand-ins for Educates and the operators (about 3 s) …")
        start_standins(cluster, minio)
        tell("starting datalabd (about 3 s) …")
        start_datalabd(cluster)
        cluster.restart_controllers()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def start_standins(cluster: Cluster, minio: Account | None = None) -> None:
    """Educates and kubelet, played; returns when their kinds are served."""
    argv = [sys.executable, "-m", "hack.standins", "--ingress-domain", DOMAIN]
    environ = {}
    if minio is not None:
        argv += ["--minio", minio.endpoint]
        environ = minio.environ
    log = cluster.run("standins", argv, cluster.educates_kubeconfig, environ)
    wait(cluster, "standins", log, lambda text: "playing" in text)


def start_datalabd(cluster: Cluster) -> Path:
    """datalabd, by its own account: policies that protect data let only that one pass. Its log, when it is ready."""
    argv = [sys.executable, "-m", "datalabd", "run", "--local"]
    log = cluster.run("datalabd", argv, account.kubeconfig(cluster))
    wait(cluster, "datalabd", log, lambda text: any(entry.get("event") == "ready" for entry in entries(text)))
    return log


@dataclass(frozen=True)
class WorkspaceApi:
    """Where it is, where tokens for it are, and its log."""

    url: str
    issuer: str
    log: Path

    def token_command(self, user: str) -> str:
        """What a person types to be shown a token."""
        extract = r"""sed 's/.*"access_token": "\([^"]*\)".*/\1/'"""
        return f"curl -s -d grant_type=password -d client_id={CLI} -d username={user} {self.issuer}/token | {extract}"

    def token(self, user: str) -> str:
        """An access token of whoever one wants to be."""
        form = {"grant_type": "password", "client_id": CLI, "username": user}
        answer = httpx.post(f"{self.issuer}/token", data=form, trust_env=False, timeout=30).raise_for_status()
        return str(answer.json()["access_token"])


def start_workspaces(cluster: Cluster, **settings: str) -> WorkspaceApi:
    """Start the Workspace API, and an issuer for trying it, on a playground that runs; they end with it.

    Settings are variables of its environment.
    """
    if cluster.api.get("namespaces", NAMESPACE) is None:
        cluster.api.create_namespace(NAMESPACE)
    return run_workspaces(cluster, start_issuer(cluster), **settings)


def start_issuer(cluster: Cluster) -> str:
    """The URL of an issuer that believes any name, for trying things."""
    argv = [sys.executable, "-m", "hack.issuer", "--kubeconfig", str(cluster.kubeconfig), "--admin", ADMIN]
    log = cluster.run("issuer", argv, cluster.kubeconfig)
    wait(cluster, "issuer", log, lambda text: "client_secret: " in text)
    return next(line.removeprefix("issuer: ") for line in log.read_text().splitlines() if line.startswith("issuer: "))


def manage_realm(cluster: Cluster, realm: Realm, url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Have logins of the Workspace API at `url` be those of a realm, where datalabd keeps its workspaces' clients.

    The realm gets the people with these passwords, of whom `ADMIN` is a platform admin. Returned are the variables of
    the Workspace API's environment that tell it of its client there.
    """
    secret = cluster.directory / "realm-client-secret"
    secret.touch(mode=0o600)
    secret.write_text(realm.add_workspace_client(f"{url}{CALLBACK}"))
    for person, password in passwords.items():
        realm.add_user(person, password)
    realm.give_role(ADMIN, WORKSPACE_CLIENT, "admin")
    cluster.api.create_namespace(IAM)
    values = {"client_id": realm.client_id, "client_secret": realm.client_secret}
    metadata = {"name": "admin", "namespace": IAM}
    cluster.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
    iam = {"url": realm.server.url, "realm": realm.name, "adminSecret": {"namespace": IAM, "name": "admin"}}
    cluster.api.patch("environmentconfig", ENVIRONMENT, {"data": {"iam": iam}})
    return {
        "OIDC_CLIENT_ID": WORKSPACE_CLIENT,
        "OIDC_CLIENT_SECRET_FILE": str(secret),
        "TOKEN_BROKER_TOKEN_ENDPOINT": realm.token_endpoint,
    }


def run_workspaces(cluster: Cluster, issuer: str, *, name: str = "workspaces", **settings: str) -> WorkspaceApi:
    """A replica of the Workspace API, once it is ready; `name` is that of its process and log."""
    secret = cluster.directory / "workspaces-client-secret"
    secret.touch(mode=0o600)
    secret.write_text(CLIENT_SECRET)
    environ = {
        "WORKSPACE_NAMESPACE": NAMESPACE,
        "WORKSPACE_HOST": "127.0.0.1",
        "WORKSPACE_PORT": "0",
        "OIDC_ISSUER": issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET_FILE": str(secret),
        "PROVIDER_ENVIRONMENT": ENVIRONMENT,
        "SESSION_PROBE": "off",  # names of Services lead nowhere outside a cluster
        "TOKEN_BROKER_TOKEN_ENDPOINT": f"{issuer}/token",
        **settings,
    }
    started = cluster.directory / "logs" / f"{name}.log"
    before = len(_ports(started.read_text())) if started.exists() else 0
    argv = [sys.executable, "-m", "datalabd", "workspaces"]
    log = cluster.run(name, argv, account.workspaces_kubeconfig(cluster, NAMESPACE), environ)
    wait(cluster, name, log, lambda text: len(_ports(text)) > before)
    url = f"http://127.0.0.1:{_ports(log.read_text())[-1]}"
    wait(cluster, name, log, lambda _: _is_ready(url))
    return WorkspaceApi(url, issuer, log)


def _ports(text: str) -> list[int]:
    found = [entry for entry in entries(text) if entry.get("event") == "listening"]
    return [entry["port"] for entry in found]


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def entries(text: str) -> list[dict[str, Any]]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def metrics_url(cluster: Cluster) -> str:
    """Where the last started datalabd of this cluster serves its metrics."""
    log = (cluster.directory / "logs" / "datalabd.log").read_text()
    sites = [entry for entry in entries(log) if entry.get("event") == "listening" and entry.get("site") == "metrics"]
    return f"http://127.0.0.1:{sites[-1]['port']}/metrics"


def wait(cluster: Cluster, name: str, log: Path, condition: Callable[[str], bool]) -> None:
    """Return when the log says so; `ClusterError` if the process ends before, or takes too long."""
    seconds = scaled(READY_SECONDS)
    deadline = time.monotonic() + seconds
    while not condition(text := log.read_text()):
        if cluster.processes()[name] is None:
            raise ClusterError(f"{name} ended while starting:\n{text[-2000:]}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{name} is not ready after {seconds:.0f} s; its log is {log}")
        time.sleep(0.05)


def programs() -> list[str]:
    """Directories of `datalabd` and, where there is no other, `kubectl`, to be put into PATH."""
    kubectl = [] if shutil.which("kubectl") else [str(binaries()["kubectl"].parent)]
    return [str(Path(sys.executable).parent), *kubectl]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 for a failure."""
    parser = argparse.ArgumentParser(prog="python -m hack.playground", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["up", "down", "clean"])
    parser.add_argument("directory", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        match given.verb:
            case "up":
                _up(given.directory)
            case "down":
                cluster = Cluster(given.directory)
                cluster.stop()
                cluster.remove()
                print("stopped")
            case "clean":
                Cluster(given.directory).remove()
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _up(directory: Path) -> None:
    cluster = start(directory, detach=True, tell=lambda text: print(text, file=sys.stderr, flush=True))
    print("starting the Workspace API, and an issuer that believes any name (about 3 s) …", file=sys.stderr, flush=True)
    try:
        api = start_workspaces(cluster, UI_MODE="ui")
    except BaseException:
        cluster.stop()
        raise
    path = ":".join(map(shlex.quote, programs()))
    print("datalabd runs on a local control plane. In your shell:\n")
    print(f"    export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    print(f"    export PATH={path}:$PATH")
    print("    kubectl apply -k manifests/samples && kubectl get datalabs -w\n")
    print(f"The Workspace API is at {api.url}. Anybody can have a token; {ADMIN} is a platform admin:\n")
    print(f"    token=$({api.token_command(ADMIN)})")
    print(f'    curl -H "Authorization: Bearer $token" {api.url}/workspaces\n')
    print(f"Its pages are at {api.url}/workspaces: log in by any name.\n")
    print(f"Logs are in {cluster.directory / 'logs'}; `make down` stops everything and removes them.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
