"""datalabd as people run it on a workstation: a process of its own that a test can start, kill and look into."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0
T = TypeVar("T")
WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
IMPATIENT = "from controllers import teardown\nteardown.STALLED_AFTER_SECONDS = 0.0"
"""What a datalabd runs first to which every deletion has stalled that waits for anything (`Daemon.start`)."""
REGISTERED = (*WEBHOOKS, "validatingadmissionpolicybindings", "validatingadmissionpolicies")


def eventually(condition: Callable[[], T | None], seconds: float = 20) -> T:
    """What the condition gives once that is true; a failure of the test after the deadline, scaled to the machine."""
    seconds = scaled(seconds)
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def unregister(cluster: Cluster, kinds: Sequence[str]) -> None:
    """Have the API server ask no daemon any more, by deleting what they registered of these kinds."""
    for kind in kinds:
        for registered in cluster.api.list(kind, selector="app.kubernetes.io/name=datalabd"):
            cluster.api.delete(kind, registered["metadata"]["name"])


class Daemon:
    """`datalabd run --local` against a cluster, by its own account and with its rights, confined to open namespaces.

    It keeps its identity over restarts, so that one which follows a killed one need not wait for the lease to run out;
    two at once need two, and a `webhook_url` at which either answers. `environ` are further variables of its
    environment, such as `DATALABD_LOG_LEVEL`.
    """

    def __init__(
        self, cluster: Cluster, log: Path, identity: str = "datalabd-0", *, webhook_url: str = "", **environ: str
    ) -> None:
        self.cluster = cluster
        self.log = log
        """Everything it wrote, of all its runs."""
        self._options = ["--webhook-url", webhook_url] if webhook_url else []
        self._environ = os.environ | {"DATALABD_IDENTITY": identity} | environ
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        self._ports: dict[str, int] = {}

    @property
    def started(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended since, whatever ended it."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        return self._running().pid

    @property
    def url(self) -> str:
        """Address of /healthz, /readyz and /metrics, without a path."""
        return f"http://127.0.0.1:{self.port('metrics')}"

    def port(self, site: str) -> int:
        """Where it serves `webhook` or `metrics`. Raises LookupError as long as it does not."""
        if site not in self._ports:
            lines = self.log_lines()
            self._ports = {line["site"]: line["port"] for line in lines if line["event"] == "listening"}
        return self._ports[site]

    def options(self) -> list[str]:
        """What `datalabd run` is told."""
        return ["--local", "--kubeconfig", str(kubeconfig(self.cluster, confined=True)), *self._options]

    def start(self, *, ready: bool = True, before: str = "") -> None:
        """Start it, and unless told otherwise wait until it says that it is ready.

        `before` is Python that its process runs first: another version of datalabd, or one with less patience.
        """
        assert self._process is None, "it runs already"
        self._began = self.log.stat().st_size if self.log.exists() else 0
        self._ports = {}
        program = (
            ["-c", f"{before}\nimport sys\nfrom datalabd.__main__ import main\nsys.exit(main())"]
            if before
            else ["-m", "datalabd"]
        )
        command = [sys.executable, *program, "run", *self.options()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if ready:
            try:
                self.wait_for("ready")
            except BaseException:
                self.kill()
                raise

    def stop(self) -> int:
        """End it by SIGTERM; its exit code. It is killed, and the test fails, if it takes too long."""
        process = self._running()
        process.terminate()
        try:
            return process.wait(scaled(STOP_SECONDS))
        finally:
            self.kill()

    def ended(self, seconds: float = 20) -> int:
        """Its exit code, once it ended of itself."""
        process, self._process = self._running(), None
        return process.wait(scaled(seconds))

    def kill(self) -> None:
        """End it by SIGKILL; what it registered stays. Without effect if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, before: str = "") -> None:
        """Stop it in good order and start it again; see `start`."""
        self.stop()
        self.start(before=before)

    def clear(self) -> None:
        """Leave nothing of it that would refuse the requests of other tests, whatever state it is in."""
        if self._process is not None:
            self.stop()
        unregister(self.cluster, REGISTERED)

    def wait_for(self, event: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The first log line of this event since the last start, once it is there."""

        def line() -> dict[str, Any] | None:
            ended = self._process is not None and self._process.poll() is not None
            found = next((line for line in self.log_lines() if line["event"] == event), None)
            assert found or not ended, f"it ended before it was {event!r}; its log:\n{self.log.read_text()}"
            return found

        return eventually(line, seconds)

    def log_lines(self) -> list[dict[str, Any]]:
        """The complete lines it logged since the last start; one that is no JSON is an event of that name."""
        with self.log.open("rb") as log:
            log.seek(self._began)
            lines = [line for line in log.read().splitlines(keepends=True) if line.endswith(b"\n")]
        return [_parsed(line.decode(errors="replace").rstrip("\n")) for line in lines]

    def metrics(self) -> dict[str, float]:
        """Its metrics now, as `name{label="value",…}` with the labels in alphabetic order."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).raise_for_status().text
        return {
            _series(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process


@contextlib.contextmanager
def running(cluster: Cluster, directories: pytest.TempPathFactory, **environ: str) -> Iterator[Daemon]:
    """A ready daemon, which leaves nothing behind."""
    daemon = Daemon(cluster, directories.mktemp("datalabd") / "log", **environ)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.clear()


def _series(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {"event": line}
    return parsed if isinstance(parsed, dict) and "event" in parsed else {"event": line}
