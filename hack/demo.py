"""The whole line in a few minutes: a cluster, datalabd, four labs, and what an operator would look at.

    python -m hack.demo

Exit code 0 when everything shown was as it should be; leaves nothing running.
"""

import argparse
import contextlib
import json
import re
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from hack import keycloak, playground
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled
from hack.keycloak import KeycloakServerError
from hack.ports import free_port
from hack.workspace_demo import PEOPLE, WorkspaceDemo

LABS = ("s-jane", "s-jeff", "s-joe", "s-john")
LAB_SECONDS = 120.0
SHOWN_METRICS = re.compile(
    r"^(datalabd_(reconcile_total|webhook_requests_total|leader|certificate_expiry)"
    r"|datalabd_unprotected_ingresses(_found_total)? "
    r"|workqueue_depth|process_resident_memory_bytes)"
)
BAD_CLAIM = """\
apiVersion: pkg.internal/v1beta2
kind: Datalab
metadata: {name: s-jim, namespace: default}
spec:
  users: [jim, jim]
  sessions: [{name: default}, {name: default-data}]
  files: [{git: {url: "http://169.254.169.254/latest", ref: main}}]
  userOverrides: {bob: {role: admin}}
"""


class Demo:
    """The demonstration: shows commands and their output, and fails where that is not what it should be."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def show(self, title: str, *kubectl: str, stdin: str | None = None, fails: bool = False) -> str:
        """Print a command under a title, run it, print its output; returns that."""
        print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n== {title}")
        print(f"$ kubectl {' '.join(kubectl)}", flush=True)
        done = self._cluster.kubectl(*kubectl, stdin=stdin, check=False)
        output = (done.stdout + done.stderr).rstrip()
        print("\n".join(f"  {line}" for line in output.splitlines()), flush=True)
        if (done.returncode != 0) is not fails:
            raise ClusterError(f"that should have {'failed' if fails else 'worked'}: exit code {done.returncode}")
        return output

    def run(self, *, keep: bool) -> None:
        """All of it; with `keep` what runs stays until Ctrl-C."""
        kubectl = self._cluster.kubectl
        print("\n$ kubectl apply -k manifests/samples", flush=True)
        kubectl("apply", "-k", str(playground.SAMPLES))
        self.wait_for_labs()
        self.show("Four labs, two of them written as v1beta1", "get", "datalabs")
        self.show_tree("s-john")
        self.show_stores("s-jeff")
        self.show_ingress("s-john-default", "s-john")
        refusal = self.show(
            "A bad claim is refused, every mistake by its field",
            "create",
            "--dry-run=server",
            "-f",
            "-",
            stdin=BAD_CLAIM,
            fails=True,
        )
        expect("spec.users[1]" in refusal and "spec.files[0]" in refusal, "the refusal names the fields")
        read = self.show(
            "A v1beta2 claim read as v1beta1",
            *("get", "datalabs.v1beta1.pkg.internal", "s-jane", "-o", "jsonpath={.apiVersion} {.spec.sessions}"),
        )
        expect("pkg.internal/v1beta1" in read, "the version is the one asked for")
        self.stop_and_start("s-john", "default")
        self.rotate("s-jeff", "redis/prod")
        self.show_metrics()
        print("\nStarting the Workspace API, with an issuer that believes any name …", flush=True)
        api = playground.start_workspaces(self._cluster, UI_MODE="ui")
        WorkspaceDemo(api, until).run()
        if keep:
            self.keep(api)

    def keep(self, api: playground.WorkspaceApi) -> None:
        """Stay until somebody presses Ctrl-C, with logins at a real Keycloak where one can be had."""
        with contextlib.ExitStack() as stack:
            try:
                if lacking := keycloak.missing():
                    raise KeycloakServerError(lacking)
                print("\nStarting Keycloak, so that logins are real (about 15 s) …", flush=True)
                server = stack.enter_context(keycloak.OwnServer())
            except KeycloakServerError as error:
                print(f"\nThe pages are at {api.url}/workspaces until you press Ctrl-C.")
                print(
                    f"Log in as {', '.join(PEOPLE)}, or as {playground.ADMIN}, who is a platform admin. The issuer is"
                )
                print("one for trying things: it asks for a name and no password, and believes whatever it is told.")
                print(f"It stands in for Keycloak. {error}", flush=True)
            else:
                self.log_in_at(server)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()

    def log_in_at(self, server: keycloak.Server) -> None:
        """Have the same workspaces once more, for people who log in at Keycloak; say where and how."""
        for name in ("workspaces", "issuer"):
            self._cluster.end(name)
        realm = server.realm("datalab")
        password = secrets.token_urlsafe(9)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        people = dict.fromkeys((*PEOPLE, playground.ADMIN), password)
        settings = playground.manage_realm(self._cluster, realm, url, people)
        members = [["ann", "carol"], ["bob"]]
        until(
            lambda: [realm.members(name) for name in ("ws-ann", "ws-bob")] == members,
            LAB_SECONDS,
            "people are in the realm",
        )
        playground.run_workspaces(self._cluster, realm.issuer, WORKSPACE_PORT=str(port), UI_MODE="ui", **settings)
        print(f"\nThe pages are at {url}/workspaces until you press Ctrl-C.")
        print(f"Log in as {', '.join(PEOPLE)}, or as {playground.ADMIN}, who is a platform admin, at Keycloak.")
        print(f"Each has the password {password}", flush=True)

    def wait_for_labs(self) -> None:
        """Until all labs are ready, telling how far they are."""
        said = ""

        def ready() -> bool:
            nonlocal said
            labs = json.loads(self._cluster.kubectl("get", "datalabs", "-o", "json").stdout)["items"]
            states = {lab["metadata"]["name"]: _ready(lab) for lab in labs}
            now = "  ".join(f"{name}: {reason}" for name, (_, reason) in sorted(states.items()))
            if now != said:
                print(f"  {now}", flush=True)
                said = now
            return all(states.get(name, (False, ""))[0] for name in LABS)

        until(ready, LAB_SECONDS, f"labs {', '.join(LABS)} are ready")

    def show_tree(self, lab: str) -> None:
        """Everything that was made for a lab, by namespace."""
        print(f"\n== What was made for {lab}")
        selector = f"datalabs.pkg.internal/name={lab}"
        kinds = "workshops,workshopenvironments,workshopsessions,secrets,persistentvolumeclaims,networkpolicies"
        found = self._items(kinds, "-A", "-l", selector)
        runtime = f"training.educates.dev/environment.name={lab}"
        found += self._items("namespaces,deployments,services,ingresses", "-A", "-l", runtime)
        tree: dict[str, list[str]] = {}
        for item in found:
            metadata = item["metadata"]
            tree.setdefault(metadata.get("namespace", ""), []).append(f"{item['kind']} {metadata['name']}")
        for namespace, names in sorted(tree.items()):
            print(f"  {namespace or '(cluster)'}")
            for index, name in enumerate(lines := sorted(set(names))):
                print(f"  {'└─' if index == len(lines) - 1 else '├─'} {name}")
        expect(len(found) >= 15, "the lab consists of its objects")

    def show_stores(self, lab: str) -> None:
        """A lab's PostgreSQL, MongoDB, Redis and Qdrant, and what a session is told of them: names, no values."""
        kinds = "postgresclusters,mongodbcommunity,redis,qdrantclusters,statefulsets"
        self.show(f"The backends of {lab}", "get", kinds, "-n", lab)
        data = json.loads(self._cluster.kubectl("get", "secret", f"{lab}-datalab", "-o", "json").stdout)["data"]
        told = [name for name in sorted(data) if name.startswith(("POSTGRES", "MONGO", "REDIS", "QDRANT"))]
        print("  Its sessions find in their environment: " + ", ".join(told))
        expect("POSTGRES_PG0_DEV_URL" in told and "REDIS_PROD_URL" in told, "sessions are told of every backend")

    def rotate(self, lab: str, credential: str) -> None:
        """A credential replaced on demand, once for each nonce."""
        path = f"jsonpath={{.status.credentials['{credential}']}}"
        request = f"datalabs.pkg.internal/rotate={credential}/demo"
        self.show(f"Rotate a credential of {lab}", "annotate", "datalab", lab, request)
        status = ("get", "datalab", lab, "-o", path)
        until(lambda: '"rotation":"demo"' in self._cluster.kubectl(*status).stdout, 60, "it is rotated")
        self.show("Rotated", *status)

    def show_ingress(self, name: str, namespace: str) -> None:
        """A session's Ingress with the annotations that have oauth2-proxy asked first."""
        output = self.show(
            "A session's Ingress asks oauth2-proxy first",
            *("get", "ingress", name, "-n", namespace, "-o", "jsonpath={.metadata.annotations}"),
        )
        expect("nginx.ingress.kubernetes.io/auth-url" in output, "the Ingress is protected")

    def stop_and_start(self, lab: str, session: str) -> None:
        """One session off and on again; its home directory stays."""
        index = 0
        patch = '[{"op": "replace", "path": "/spec/sessions/%d/state", "value": "%s"}]'
        self.show("Stop a session", "patch", "datalab", lab, "--type=json", "-p", patch % (index, "stopped"))
        gone = ("--field-selector", f"metadata.name={lab}-{session}")
        until(lambda: not self._items("namespaces", *gone), 60, "it has stopped")
        self.show("Its volume stays", "get", "persistentvolumeclaims", "-n", lab)
        self.show("Start it again", "patch", "datalab", lab, "--type=json", "-p", patch % (index, "started"))

        def runs() -> bool:
            known = json.loads(self._cluster.kubectl("get", "datalab", lab, "-o", "json").stdout)
            # Before the edit was looked at, the lab is Ready as it was.
            return _ready(known)[0] and known["status"]["observedGeneration"] == known["metadata"]["generation"]

        until(runs, 60, "it runs again")
        self.show("Running again", "get", "datalab", lab)

    def show_metrics(self) -> None:
        """A few series of /metrics."""
        url = playground.metrics_url(self._cluster)
        print(f"\n== Some metrics\n$ curl {url}")
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        shown = [line for line in text.splitlines() if SHOWN_METRICS.match(line) and not line.endswith(" 0.0")]
        print("\n".join(f"  {line}" for line in shown))
        expect(any(line.startswith("datalabd_leader 1") for line in shown), "datalabd leads")

    def _items(self, *args: str) -> list[dict[str, dict[str, str]]]:
        done: CompletedProcess[str] = self._cluster.kubectl("get", *args, "-o", "json")
        items: list[dict[str, dict[str, str]]] = json.loads(done.stdout)["items"]
        return items


def _ready(lab: dict[str, dict[str, list[dict[str, str]]]]) -> tuple[bool, str]:
    for condition in lab.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            return condition["status"] == "True", condition["reason"]
    return False, "…"


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when the condition holds; `ClusterError` if it does not in time."""
    seconds = scaled(seconds)
    deadline = time.monotonic() + seconds
    told = False
    while not condition():
        if not told:
            print(f"  waiting until {what} …", flush=True)
            told = True
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.25)


def expect(fact: bool, what: str) -> None:
    """Fail the demonstration where something shown is not as it should be."""
    if not fact:
        raise ClusterError(f"expected: {what}")


def main() -> int:
    """Exit code 0; 1 where the demonstration failed."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave all of it running until Ctrl-C")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="datalabd-demo-") as scratch:
        directory = Path(scratch, "cluster")
        try:
            print("The whole line, in one to two minutes on an idle machine.", flush=True)
            with playground.start(directory, tell=lambda text: print(f"  {text}", flush=True)) as cluster:
                print(f"  ready after {time.monotonic() - began:.0f} s", flush=True)
                Demo(cluster).run(keep=given.keep)
        except ClusterError as error:
            print(f"\nThe demonstration failed: {error}", file=sys.stderr)
            log = directory / "logs" / "datalabd.log"
            if log.exists():
                print(
                    "The last lines of datalabd's log:\n" + "\n".join(log.read_text().splitlines()[-20:]),
                    file=sys.stderr,
                )
            return 1
    print(f"\nDone in {time.monotonic() - began:.0f} s; nothing is left running.")
    if not given.keep:
        print("To look at the pages in a browser: make demo KEEP=1")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
