"""A local control plane without nodes: etcd, API server and controller-manager of the pinned release on 127.0.0.1.

Tests, demo and benchmarks start it through `Cluster`; people through the command line:

    python -m hack.cluster build         build what is missing; prints the directory, usable as KUBEBUILDER_ASSETS
    python -m hack.cluster start DIR     start detached; prints the export line of its kubeconfig
    python -m hack.cluster status DIR    its processes; exit code 1 unless all run
    python -m hack.cluster stop DIR

Each binary is taken from `$KUBEBUILDER_ASSETS`, else from `$PATH`, else from the cache
`${XDG_CACHE_HOME:-~/.cache}/datalabd/controlplane/`, else built into that cache by Go from `hack/controlplane`.

No kubelet runs: pods stay Pending, and nothing answers behind a Service. A namespace takes five seconds to go (a
constant of its controller), and the garbage collector learns of a new CRD within thirty.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx
import psutil
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hack import cache
from hack.api import Api
from hack.deadlines import scaled
from hack.ports import bound, free_port

ROOT = Path(__file__).absolute().parent.parent
MODULE = ROOT / "hack" / "controlplane"
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
# On two cores, in this order, each with what the ones before it left for the rest.
COLD_BUILD_SECONDS = {
    "etcd": 40,
    "etcdutl": 5,
    "kube-apiserver": 160,
    "kube-controller-manager": 50,
    "kubectl": 25,
}

EDUCATES = "system:serviceaccount:educates:session-manager"
"""The account of Educates' operator, which is a cluster administrator unless it is installed otherwise."""
SERVICE_CIDR = "10.43.0.0/16"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
# What labs rely on. Left out: everything about nodes (the pod garbage collector would remove pods of nodes that only
# pretend to be there), certificates, bootstrap tokens, cloud volumes and autoscaling.
CONTROLLERS = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "validatingadmissionpolicy-status-controller",
]

START_SECONDS = 60.0  # deadline for each step of a start, of the usual three in all
STOP_SECONDS = 2.0  # from SIGTERM to SIGKILL; an API server with watches open would take twelve, and keeps no data


class ClusterError(Exception):
    """The control plane cannot be built, started or found; the message says what to do."""


# ---- Binaries


def kubernetes_version() -> str:
    """The pinned release, such as `v1.35.4`."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{MODULE / 'go.mod'} does not require k8s.io/kubernetes")
    return found[1]


def cache_directory() -> Path:
    """Where binaries of exactly these pins are kept; it may not exist yet."""
    pins = (MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()
    return cache.directory() / "controlplane" / f"{kubernetes_version()}-{hashlib.sha256(pins).hexdigest()[:12]}"


def binaries() -> dict[str, Path]:
    """The path of each program in `PACKAGES`; builds those found nowhere, which takes minutes the first time."""
    found = {name: _installed(name) for name in PACKAGES}
    kept = build([name for name, path in found.items() if path is None])
    return {name: path or kept / name for name, path in found.items()}


def build(names: Sequence[str] = tuple(PACKAGES)) -> Path:
    """The cache directory, with these programs in it: the missing ones are built, by one process at a time."""
    kept = cache_directory()
    if not _missing(kept, names):
        return kept
    kept.mkdir(parents=True, exist_ok=True)
    with cache.lock(kept / ".lock", "the control plane"):
        missing = _missing(kept, names)  # another process may have built some while we waited
        for number, name in enumerate(missing, start=1):
            _go_build(name, kept, f"[{number}/{len(missing)}]")
    return kept


def _installed(name: str) -> Path | None:
    """The program in `$KUBEBUILDER_ASSETS` or `$PATH`, whatever its version."""
    for path in (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH")):
        if path and (found := shutil.which(name, path=path)):
            return Path(found).absolute()
    return None


def _missing(kept: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not (kept / name).exists()]


def _go_build(name: str, kept: Path, number: str) -> None:
    """Put one program into the cache, telling on stderr how long it takes."""
    if shutil.which("go") is None:
        raise ClusterError(
            f"{name} is neither in KUBEBUILDER_ASSETS nor in PATH, and there is no Go to build it: install Go "
            f"1.25 or newer (https://go.dev/dl/), or put {name} into one of the two"
        )
    version = kubernetes_version()
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = " ".join(f"-X {package}.gitVersion={version}" for package in packages)  # without it clients complain
    unfinished = kept / f".{name}.unfinished"
    output = kept / f".{name}.log"
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {stamps}", "-o", str(unfinished)]
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    about = COLD_BUILD_SECONDS[name]
    estimate = f"{about} s" if about < 90 else f"{about / 60:.0f} min"
    text = f"{number} building {name} (first time only, about {estimate}) …"
    if cache.run(text, [*command, PACKAGES[name]], output, MODULE, environment) != 0:
        raise ClusterError(f"go build of {name} failed:\n{output.read_text()}")
    unfinished.replace(kept / name)
    output.unlink()


# ---- Processes

RARE_COLLECTION = {"GOGC": "300"}
"""Go collects garbage for a quarter of the API server's CPU; what lives for minutes can have the memory instead."""


def _spawn(
    argv: list[str], log: Path, stdin: int | None = None, environ: Mapping[str, str] = os.environ
) -> psutil.Process:
    """A process in a session of its own, so that Ctrl-C in our terminal leaves it to us to stop it in order.

    `subprocess.Popen` is not used because a detached process outlives the object that would watch it.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
    ]
    return psutil.Process(os.posix_spawn(argv[0], argv, environ, file_actions=actions, setsid=True))


def _started(process: psutil.Process) -> float:
    """Seconds from boot to the start of the process: unlike a time of day, no clock adjustment changes it."""
    return process.create_time() - psutil.boot_time()


def _find(pid: int, started: float) -> psutil.Process | None:
    """The running process of that pid, if it is the one that started then and not a later one with a reused pid."""
    try:
        process = psutil.Process(pid)
        same = abs(_started(process) - started) < 0.02  # the kernel counts hundredths
        return process if same and not _gone(process) else None
    except psutil.NoSuchProcess:
        return None


def _end(process: psutil.Process, patience: float = STOP_SECONDS) -> None:
    """SIGTERM, and SIGKILL after so many seconds, or at once; returns when the process is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if patience:
            process.terminate()
        deadline = time.monotonic() + patience
        while not _gone(process):
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.01)


def _gone(process: psutil.Process) -> bool:
    """Whether it has ended. Our child is reaped; a detached one counts as gone before init gets round to reaping it.

    A zombie with threads has ended its first thread only and still holds its sockets.
    """
    ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(0)
        return True
    return ended


def _option(argv: Sequence[str], name: str) -> str:
    """The value of `name=value` among arguments."""
    return next(argument for argument in argv if argument.startswith(f"{name}=")).partition("=")[2]


def _listens(process: psutil.Process | None, port: int) -> bool:
    """Whether it is this process that listens there, and not another that came first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process is not None and any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in process.net_connections("tcp")
        )
    return False


def _egress(services: Path) -> dict[str, Any]:
    """What has the API server reach Services through a UNIX socket, and everything else directly."""
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(services)}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }


# ---- The cluster


class Cluster:
    """A running control plane, all of whose files are in one directory (mode 0700, as it holds tokens and keys).

    Leaving its context stops it. Made by `Cluster.start` and `Cluster.attach`.
    """

    directory: Path
    kubeconfig: Path  #: of user `admin`, group system:masters
    educates_kubeconfig: Path  #: of Educates' operator, group system:masters: policies know it from `admin`
    audit_log: Path  #: one JSON object per answered request, level Metadata; never rotated
    url: str  #: https://127.0.0.1:PORT

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.kubeconfig = self.directory / "kubeconfig"
        self.educates_kubeconfig = self.directory / "educates.kubeconfig"
        self.audit_log = self.directory / "audit.log"
        self._state = self.directory / "cluster.json"
        self._certificate = self.directory / "pki" / "apiserver.crt"
        self._kubectl: Path | None = None
        self._guard: tuple[psutil.Process, int] | None = None

    @classmethod
    def start(cls, directory: Path, *, detach: bool = False, services: Path | None = None) -> Self:
        """A fresh, ready cluster, with its default namespace and service account; the remains of a stopped one in
        `directory` are removed.

        Unless `detach`, it ends with the process that started it, however that ends. What the API server sends to
        Services goes to the UNIX socket `services`, if given: HTTP CONNECT with cluster IP and port. Raises
        `ClusterError`, with the end of the log of what failed, after stopping what had started.
        """
        cluster = cls(directory)
        programs = binaries()
        cluster._kubectl = programs["kubectl"]
        cluster._make_directory()
        try:
            cluster._boot(programs, detach=detach, services=services)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """The cluster that another process started there. Raises `ClusterError` unless all of it is running."""
        cluster = cls(directory)
        stopped = [name for name, process in cluster.processes().items() if process is None]
        if stopped or not cluster._state.exists():
            raise ClusterError(
                f"no cluster runs in {cluster.directory}" + "".join(f"; {n} is stopped" for n in stopped)
            )
        cluster.url = cluster._read()["url"]
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def admin_token(self) -> str:
        """Bearer token of user `admin`, group system:masters."""
        return self._token("admin")

    @cached_property
    def api(self) -> Api:
        """The API server as `admin`, in this process; closed when the cluster is stopped."""
        return Api(self.url, self._certificate, self.admin_token)

    def processes(self) -> dict[str, psutil.Process | None]:
        """By program name, in order of start; None if it is not running. Empty if none was ever started here."""
        return {name: _find(p["pid"], p["started"]) for name, p in self._read()["processes"].items()}

    def stop(self) -> None:
        """End all processes, the API server's clients first; without effect on a stopped cluster. Files remain."""
        if "api" in self.__dict__:
            self.api.close()
        for process in reversed([p for p in self.processes().values() if p is not None]):
            _end(process)
        if self._guard is not None:
            guard, lifeline = self._guard
            self._guard = None
            _end(guard)
            os.close(lifeline)

    def remove(self) -> None:
        """Remove the directory of a stopped cluster; without effect where none was started.

        Raises `ClusterError` while any of it runs.
        """
        if any(self.processes().values()):
            raise ClusterError(f"a cluster is running in {self.directory}: stop it first")
        if self._state.exists():
            shutil.rmtree(self.directory)

    def stop_apiserver(self) -> None:
        """End the API server alone; returns when it is gone. Without effect if it is stopped."""
        if process := self.processes()["kube-apiserver"]:
            _end(process)

    def start_apiserver(self) -> None:
        """Start it again with the same port, certificate and data; returns when it is ready."""
        if self.processes()["kube-apiserver"] is None:
            self._run(self._argv("kube-apiserver"))
        self._wait_ready()

    def restart_controllers(self) -> None:
        """Have the controllers know every kind that is served now: the first deletion would wait for that otherwise."""
        argv = self._argv("kube-controller-manager")
        self.end("kube-controller-manager")
        self._run(argv)

    def snapshot(self, file: Path) -> None:
        """Write a snapshot of etcd as it is now, as `etcdctl snapshot save` does."""
        url = _option(self._argv("etcd"), "--listen-client-urls")
        with (
            httpx.stream("POST", f"{url}/v3/maintenance/snapshot", content="{}", trust_env=False) as answer,
            file.open("wb") as out,
        ):
            answer.raise_for_status()
            for line in answer.iter_lines():
                out.write(b64decode(json.loads(line)["result"].get("blob", "")))

    def restore(self, file: Path) -> None:
        """Go back to a snapshot of etcd, as Kubernetes advises; returns when the API server is ready again.

        All that watches is made to list anew: revisions go on far beyond those that anybody saw, and those before
        count as compacted.
        """
        etcd, manager = self._argv("etcd"), self._argv("kube-controller-manager")
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            if process := self.processes()[name]:
                _end(process)
        data = Path(_option(etcd, "--data-dir"))
        shutil.rmtree(data)
        revisions = ("--bump-revision=1000000000", "--mark-compacted")
        done = subprocess.run(
            [binaries()["etcdutl"], "snapshot", "restore", file, f"--data-dir={data}", *revisions],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ClusterError(f"the snapshot cannot be restored:\n{done.stderr}")
        self._run(etcd)
        port = int(_option(etcd, "--listen-client-urls").rpartition(":")[2])
        self._wait("etcd", lambda: _listens(self.processes()["etcd"], port))
        self._run(self._argv("kube-apiserver"))
        self._wait_answers("kube-apiserver", "/readyz")
        self._run(manager)
        self._wait_ready()

    def run(
        self, name: str, argv: Sequence[str], kubeconfig: Path, environ: Mapping[str, str] = MappingProxyType({})
    ) -> Path:
        """Run a client of this cluster, to be ended with it; returns the path of its log. It finds KUBECONFIG set."""
        merged = os.environ | {"KUBECONFIG": str(kubeconfig), **environ}
        log = self.directory / "logs" / f"{name}.log"
        self._record(name, list(argv), _spawn(list(argv), log, environ=merged))
        return log

    def end(self, name: str, *, killed: bool = False) -> None:
        """End one such client, or kill it; returns when it is gone. Without effect if it is stopped."""
        if process := self.processes()[name]:
            _end(process, 0 if killed else STOP_SECONDS)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """kubectl as admin, its output captured. `--kubeconfig` or `--as` among `args` make it act as somebody else.

        Raises `CalledProcessError`, with what kubectl said as a note, unless `check` is False.
        """
        if self._kubectl is None:
            self._kubectl = binaries()["kubectl"]
        common = ["--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.directory / "kubectl-cache")]
        try:
            return subprocess.run(
                [self._kubectl, *common, *args], input=stdin, check=check, capture_output=True, text=True
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def kubeconfig_for(self, service_account: str) -> Path:
        """A new kubeconfig of the existing service account `namespace/name`, good for a year."""
        namespace, name = service_account.split("/")
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "8760h").stdout.strip()
        path = self.directory / "serviceaccounts" / namespace / f"{name}.kubeconfig"
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._write_kubeconfig(path, f"system:serviceaccount:{namespace}:{name}", token)

    # -- Starting

    def _make_directory(self) -> None:
        if any(self.processes().values()):
            raise ClusterError(f"a cluster is running in {self.directory}: stop it first")
        if self._state.exists():
            self._state.unlink()
            for name in ("etcd", "pki", "logs", "serviceaccounts", "kubectl-cache"):
                shutil.rmtree(self.directory / name, ignore_errors=True)
            self.audit_log.unlink(missing_ok=True)
        elif self.directory.exists() and any(self.directory.iterdir()):
            raise ClusterError(
                f"{self.directory} is not empty and no cluster was started there: choose another directory"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        (self.directory / "pki").mkdir()
        (self.directory / "logs").mkdir()

    def _boot(self, programs: Mapping[str, Path], *, detach: bool, services: Path | None) -> None:
        self._write({"processes": {}})
        if not detach:
            self._guard = self._start_guard()
        key = self._write_service_account_key()
        self._write_tokens()
        policy = self._write_yaml("audit-policy.yaml", AUDIT_POLICY)
        egress = (
            [f"--egress-selector-config-file={self._write_yaml('egress.yaml', _egress(services))}"] if services else []
        )
        etcd = bound(lambda: self._start_etcd(programs["etcd"]), ClusterError)
        apiserver = programs["kube-apiserver"]
        self.url = bound(lambda: self._start_apiserver(apiserver, etcd, key, policy, egress), ClusterError)
        self._write(self._read() | {"url": self.url})
        self._write_kubeconfig(self.kubeconfig, "admin", self.admin_token)
        self._write_kubeconfig(self.educates_kubeconfig, EDUCATES, self._token(EDUCATES))
        self._wait_answers("kube-apiserver", "/readyz")  # the controller-manager soon gives up on it
        manager = "system:kube-controller-manager"
        config = self._write_kubeconfig(self.directory / "controller-manager.kubeconfig", manager, self._token(manager))
        self._run(
            [
                str(programs["kube-controller-manager"]),
                f"--kubeconfig={config}",
                f"--controllers={','.join(CONTROLLERS)}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={key}",
                f"--root-ca-file={self._certificate}",
                "--leader-elect=false",
                "--secure-port=0",  # serves nothing
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                "--concurrent-namespace-syncs=20",
                "--concurrent-gc-syncs=20",
                "--profiling=false",
            ]
        )
        self._wait_ready()

    def _start_etcd(self, program: Path) -> str:
        """Its URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self._run(
            [
                str(program),
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync",  # nothing here outlives the machine
                "--log-level=warn",
            ]
        )
        self._wait("etcd", lambda: _listens(self.processes()["etcd"], port))
        return url

    def _start_apiserver(self, program: Path, etcd: str, key: Path, policy: Path, options: Sequence[str]) -> str:
        """Its URL, where it listens but may not be ready yet."""
        port = free_port()
        self._run(
            [
                str(program),
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self._certificate.parent}",  # makes its own certificate there, and finds it at a restart
                f"--token-auth-file={self.directory / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                f"--service-cluster-ip-range={SERVICE_CIDR}",
                "--endpoint-reconciler-type=none",  # would publish 127.0.0.1, which no endpoint may be
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={key}",
                f"--service-account-key-file={key}",
                "--allow-privileged=true",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=100000",  # MB: the default rotates away what a reader has not read yet
                "--profiling=false",
                *options,
            ]
        )
        self._wait("kube-apiserver", lambda: _listens(self.processes()["kube-apiserver"], port))
        return f"https://127.0.0.1:{port}"

    def _run(self, argv: list[str]) -> None:
        name = Path(argv[0]).name
        log = self.directory / "logs" / f"{name}.log"
        self._record(name, argv, _spawn(argv, log, environ=RARE_COLLECTION | os.environ))

    def _argv(self, name: str) -> list[str]:
        """How a process was started last."""
        argv: list[str] = self._read()["processes"][name]["argv"]
        return argv

    def _record(self, name: str, argv: list[str], process: psutil.Process) -> None:
        state = self._read()
        state["processes"][name] = {"pid": process.pid, "started": _started(process), "argv": argv}
        self._write(state)

    def _start_guard(self) -> tuple[psutil.Process, int]:
        """A process that waits for the end of ours and then stops the cluster, and our end of the pipe it listens to.

        The kernel closes the pipe whatever ends us. PR_SET_PDEATHSIG would do with less, but it fires at the end of the
        starting thread, with asyncio.to_thread long before the process ends. A shell waits, as Python takes 30 MB.
        """
        stop = shlex.join([sys.executable, "-m", "hack.cluster", "stop", str(self.directory)])
        command = f"read -r _; cd {shlex.quote(str(ROOT))} && exec {stop}"
        theirs, ours = os.pipe()
        try:
            guard = _spawn(["/bin/sh", "-c", command], self.directory / "logs" / "guard.log", theirs)
        finally:
            os.close(theirs)
        return guard, ours

    def _wait_ready(self) -> None:
        """Until the API server is ready, and the controllers have made the default namespace and service account."""
        self._wait_answers("kube-apiserver", "/readyz")
        self._wait_answers("kube-controller-manager", "/api/v1/namespaces/default/serviceaccounts/default")

    def _wait_answers(self, name: str, path: str) -> None:
        """Until the API server has something at this path, while the process of that name runs."""
        context = ssl.create_default_context(cafile=self._certificate)
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        with httpx.Client(base_url=self.url, verify=context, headers=headers, trust_env=False) as client:

            def answers() -> bool:
                try:
                    return client.get(path).is_success
                except httpx.TransportError:
                    return False

            self._wait(name, answers)

    def _wait(self, name: str, condition: Callable[[], bool]) -> None:
        """Poll the condition while the process of that name runs."""
        seconds = scaled(START_SECONDS)
        deadline = time.monotonic() + seconds
        while not condition():
            stopped = self.processes()[name] is None
            if stopped or time.monotonic() > deadline:
                log = (self.directory / "logs" / f"{name}.log").read_text(errors="replace").splitlines()[-15:]
                what = "ended" if stopped else f"is not ready after {seconds:.0f} s"
                raise ClusterError("\n".join([f"{name} {what}; the end of its log:", *log]))
            time.sleep(0.05)

    # -- Files

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text())
        except FileNotFoundError:
            return {"processes": {}}
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        unfinished = self._state.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state, indent=1))
        unfinished.replace(self._state)

    def _write_yaml(self, name: str, content: Any) -> Path:
        path = self.directory / name
        path.write_text(yaml.safe_dump(content))
        return path

    def _write_service_account_key(self) -> Path:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path = self.directory / "pki" / "service-account.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _write_tokens(self) -> None:
        with (self.directory / "tokens.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    [secrets.token_urlsafe(24), "admin", "admin", "system:masters"],
                    [secrets.token_urlsafe(24), EDUCATES, "educates", "system:masters"],
                    [secrets.token_urlsafe(24), "system:kube-controller-manager", "kube-controller-manager"],
                ]
            )

    def _token(self, user: str) -> str:
        with (self.directory / "tokens.csv").open(newline="") as file:
            return next(row[0] for row in csv.reader(file) if row[1] == user)

    def _write_kubeconfig(self, path: Path, user: str, token: str) -> Path:
        """The path, holding a kubeconfig whose only trusted certificate is the API server's own."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "datalabd",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": b64encode(self._certificate.read_bytes()).decode(),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "datalabd", "context": {"cluster": "datalabd", "user": user}}],
            "current-context": "datalabd",
        }
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        path.chmod(0o600)
        return path


# ---- Command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 for a failure or a cluster that does not run; argparse exits with 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description="The local control plane.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build what is missing and print its directory")
    for verb, text in {
        "start": "start detached and print the export line of its kubeconfig",
        "status": "list its processes; exit code 1 unless all run",
        "stop": "end its processes",
    }.items():
        verbs.add_parser(verb, help=text).add_argument("directory", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        match given.verb:
            case "build":
                print(build())
            case "start":
                cluster = Cluster.start(given.directory, detach=True)
                print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
            case "stop":
                Cluster(given.directory).stop()
            case "status":
                return _status(Cluster(given.directory))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _status(cluster: Cluster) -> int:
    processes = cluster.processes()
    for name, process in processes.items():
        if process is None:
            print(f"{name:24} stopped")
        else:
            memory = process.memory_info().rss / 2**20
            print(f"{name:24} running  pid {process.pid}  {memory:.0f} MiB")
    if not processes:
        print(f"no cluster was started in {cluster.directory}")
    return 0 if processes and all(processes.values()) else 1


if __name__ == "__main__":
    # Ctrl-C and SIGTERM take the same way out, so that a start or build that is cut short cleans up after itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
