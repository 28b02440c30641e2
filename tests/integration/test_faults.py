"""What goes wrong around a lab, on control planes of its own: parts missing, gone, restarted, or in the way."""

import contextlib
import datetime
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import Cluster
from hack.generate_manifests import PROTECTED
from tests.integration.daemon import REGISTERED, WEBHOOKS, Daemon, eventually, running, unregister
from tests.integration.objects import open_namespace, read, unique
from tests.integration.stage import Stage, install_educates, standins
from webhooks import certificates
from webhooks.registration import Endpoint, claim_webhooks

pytestmark = pytest.mark.cluster

AUTH_URL = "nginx.ingress.kubernetes.io/auth-url"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with Educates' kinds, for tests that would disturb others."""
    with Cluster.start(tmp_path_factory.mktemp("own-control-plane")) as cluster:
        install_educates(cluster)
        yield cluster


@pytest.fixture(scope="module")
def only(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon of that control plane."""
    with running(own, tmp_path_factory) as daemon:
        yield daemon


@pytest.fixture
def daemon(only: Daemon) -> Daemon:
    """A running daemon, which tests here stop, kill and start; one that failed before its end may have left it so."""
    if not only.started:
        only.start()
    return only


@pytest.fixture
def stage(own: Cluster, daemon: Daemon) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(own, open_namespace(own))


def without_webhooks(daemon: Daemon) -> None:
    """Kill the daemon and let the API server ask nobody."""
    daemon.kill()
    unregister(daemon.cluster, WEBHOOKS)


def unprotect(daemon: Daemon, lab: str) -> None:
    """Kill the daemon, take what it registered away, and the protection off the Ingress of session `main`."""
    daemon.kill()
    unregister(daemon.cluster, REGISTERED)
    strip = ("annotate", "ingress", f"{lab}-main", "-n", lab, f"{AUTH_URL}-")
    eventually(lambda: daemon.cluster.kubectl(*strip, check=False).returncode == 0)


def test_educates_may_be_installed_later(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        Cluster.start(tmp_path_factory.mktemp("without-educates")) as cluster,
        running(cluster, tmp_path_factory) as daemon,
    ):
        stage = Stage(cluster, open_namespace(cluster))
        lab = stage.lab("main")
        told = stage.until(lab, "RuntimeReady", "False", "RuntimeMissing")
        assert "install Educates" in told["message"]
        pid = daemon.pid
        with standins(cluster, installed=False):
            stage.until_ready(lab, 90)
            assert daemon.pid == pid


def broken_watches(daemon: Daemon) -> float:
    """How many watches ended otherwise than they should."""
    return sum(value for name, value in daemon.metrics().items() if name.startswith("datalabd_watch_restarts_total"))


# An API server that starts answers before it has read its roles.
@pytest.mark.denied("get", "list", "watch", "create", "patch")
def test_a_restarted_api_server_is_followed_again(stage: Stage, daemon: Daemon) -> None:
    with standins(stage.cluster):
        before = stage.lab("main")
        stage.until_ready(before, 90)
        session = stage.get("workshopsession", f"{before}-main", "")
        pid = daemon.pid
        noticed = broken_watches(daemon)
        stage.cluster.stop_apiserver()
        eventually(lambda: broken_watches(daemon) > noticed)
        stage.cluster.start_apiserver()
        after = stage.lab("main")
        stage.until_ready(after, 90)
        stage.until_ready(before)
        assert daemon.pid == pid
        assert stage.get("workshopsession", f"{before}-main", "") == session
        # What is granted is not said to be missing, however the API server answered while it started.
        assert {"may not be read", "waits for a person"}.isdisjoint(line["event"] for line in daemon.log_lines())
        selector = f"datalabs.pkg.internal/name={after}"
        assert len(stage.list("workshops,workshopenvironments,workshopsessions", selector)) == 3


def test_a_namespace_in_the_way_fails_the_environment_which_is_made_anew(stage: Stage) -> None:
    """Educates gives up after its five minutes, for good; when the namespace goes, nothing else is needed."""
    lab = stage.lab("main")
    eventually(lambda: stage.get("workshopenvironment", lab, ""))
    stage.cluster.api.create_namespace(lab)
    with standins(stage.cluster):
        eventually(lambda: stage.phase("workshopenvironment", lab) == "Failed", 60)
        told = stage.until(lab, "RuntimeReady", "False", "NamespaceTaken")
        assert f"namespace {lab} exists" in told["message"]
        stage.cluster.api.delete("namespace", lab)
        stage.until_ready(lab, 90)


def test_a_namespace_there_first_is_left_alone_until_it_goes(stage: Stage, daemon: Daemon) -> None:
    name = unique()
    stage.cluster.api.create_namespace(name)
    without_webhooks(daemon)
    stage.lab(name=name)
    daemon.start()
    stage.until(name, "RuntimeReady", "False", "NamespaceTaken")
    assert stage.get("workshopenvironment", name, "") is None
    with standins(stage.cluster):
        stage.cluster.api.delete("namespace", name)
        stage.until_ready(name, 60)


def test_an_ingress_that_came_unprotected_is_swept(stage: Stage, daemon: Daemon) -> None:
    with standins(stage.cluster):
        lab = stage.lab("main")
        stage.until_ready(lab)
        unprotect(daemon, lab)
        daemon.start()

        def protected() -> bool:
            ingress = stage.get("ingress", f"{lab}-main", lab) or {}
            return AUTH_URL in ingress["metadata"]["annotations"]

        eventually(protected)
        eventually(lambda: "UnprotectedIngress" in stage.events())
        assert daemon.metrics()["datalabd_unprotected_ingresses_found_total"] == 1
        eventually(lambda: daemon.metrics()["datalabd_unprotected_ingresses"] == 0)


def test_an_ingress_that_cannot_be_protected_keeps_counting(stage: Stage, daemon: Daemon) -> None:
    with standins(stage.cluster):
        lab = stage.lab("main")
        stage.until_ready(lab)
        unprotect(daemon, lab)
        with refusing(stage, f"{lab}-main"):
            daemon.start()
            unprotected = "datalabd_unprotected_ingresses"
            eventually(lambda: daemon.metrics()[unprotected] == 1)
            told = stage.until(lab, "Synced", "False", "ReconcileError")
            assert "not today" in told["message"]
            stage.patch(lab, {"op": "add", "path": "/spec/quota", "value": {"memory": "3Gi"}})
            stage.until(lab, "Synced", "False", "ReconcileError")
            assert daemon.metrics()[unprotected] == 1
        eventually(lambda: "UnprotectedIngress" in stage.events())
        eventually(lambda: daemon.metrics()[unprotected] == 0, 60)
        stage.until_ready(lab)


@contextlib.contextmanager
def refusing(stage: Stage, name: str) -> Iterator[None]:
    """Have the API server refuse every change of an Ingress while the context lasts."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["networking.k8s.io"],
                        "apiVersions": ["v1"],
                        "resources": ["ingresses"],
                        "operations": ["UPDATE"],
                        "resourceNames": [name],
                    }
                ]
            },
            "validations": [{"expression": "false", "message": "not today"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    stage.create(policy)
    stage.create(binding)
    probe = ("annotate", "ingress", name, "-n", name.removesuffix("-main"), "probe=yes", "--dry-run=server")
    eventually(lambda: "not today" in stage.cluster.kubectl(*probe, check=False).stderr)
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            stage.cluster.kubectl("delete", kind, name)


def test_a_session_wedged_by_a_refused_ingress_is_healed(stage: Stage, daemon: Daemon) -> None:
    """While nobody answers for the webhook the Ingress is refused: better no session than an unprotected one."""
    with standins(stage.cluster):
        lab = stage.lab()
        stage.until_ready(lab)
    stage.patch(lab, {"op": "add", "path": "/spec/sessions", "value": [{"name": "main"}]})
    eventually(lambda: stage.get("workshopsession", f"{lab}-main", ""))
    daemon.kill()
    with standins(stage.cluster):
        eventually(lambda: stage.phase("workshopsession", f"{lab}-main") == "Failed", 30)
        assert stage.get("ingress", f"{lab}-main", lab) is None
        daemon.start()
        stage.until_ready(lab, 120)
        ingress = stage.get("ingress", f"{lab}-main", lab)
        assert ingress is not None
        assert AUTH_URL in ingress["metadata"]["annotations"]


def test_killed_at_any_moment_every_lab_gets_ready_all_the_same(stage: Stage, daemon: Daemon) -> None:
    chance = random.Random(7)
    with standins(stage.cluster):
        labs = [stage.lab("one", "two") for _ in range(3)]
        for _ in range(4):
            time.sleep(chance.uniform(0.0, 0.4))
            daemon.kill()
            daemon.start()
        for lab in labs:
            stage.until_ready(lab, 120)
            selector = f"datalabs.pkg.internal/name={lab}"
            assert len(stage.list("workshopsessions", selector)) == 2
            assert len(stage.list("persistentvolumeclaims", selector, lab)) == 3


def test_of_two_claims_that_slipped_in_with_one_name_the_older_wins(stage: Stage, daemon: Daemon) -> None:
    other = Stage(stage.cluster, stage.namespace)
    other.namespace = open_namespace(stage.cluster)
    without_webhooks(daemon)
    name = stage.lab()
    created = datetime.datetime.fromisoformat(
        read(stage.cluster, "datalab", name, stage.namespace)["metadata"]["creationTimestamp"]
    )
    eventually(lambda: time.time() >= created.timestamp() + 1)  # times of creation are whole seconds
    other.lab(name=name)
    daemon.start()
    with standins(stage.cluster):
        stage.until_ready(name)
        told = other.until(name, "Synced", "False", "ClaimInvalid")
        assert "belongs to another lab" in told["message"]
        assert stage.namespace not in json.dumps(told)
        stage.delete(name)
        other.until_ready(name, 90)


@pytest.fixture
def second(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """Another local run on the same cluster."""
    second = Daemon(daemon.cluster, tmp_path / "log", "datalabd-1")
    yield second
    second.kill()


def registered(cluster: Cluster) -> set[str]:
    """Uids of the webhooks' registrations."""
    ours = "app.kubernetes.io/name=datalabd"
    return {found["metadata"]["uid"] for kind in WEBHOOKS for found in cluster.api.list(kind, selector=ours)}


def test_a_local_run_that_never_led_takes_nothing_away(daemon: Daemon, second: Daemon) -> None:
    before = registered(daemon.cluster)
    assert before
    second.start(ready=False)
    waiting = second.wait_for("waiting for the lease")
    lease = daemon.cluster.api.get("lease", "datalabd", "kube-system")
    assert lease is not None
    assert waiting["level"] == "warning"
    assert (waiting["holder"], waiting["acquired"]) == ("datalabd-0", lease["spec"]["acquireTime"])
    assert "renewed" in waiting
    assert "stop the holder" in waiting["remedy"]
    assert second.stop() == 0
    assert before <= registered(daemon.cluster)


def test_a_local_run_beside_an_installed_one_takes_nothing_away(daemon: Daemon, second: Daemon) -> None:
    endpoint = Endpoint(
        certificates.issue(["a"], datetime.datetime.now(datetime.UTC)).ca, service=("datalabd", "datalabd")
    )
    daemon.stop()
    assert registered(daemon.cluster) == set()
    for manifest in claim_webhooks(endpoint):
        daemon.cluster.api.create(manifest)
    before = registered(daemon.cluster)
    second.start(ready=False)
    assert second.ended() != 0
    assert "datalabd is installed in this cluster" in second.log.read_text()
    assert registered(daemon.cluster) == before
    unregister(daemon.cluster, WEBHOOKS)
    daemon.start()


def test_a_claim_waits_for_its_environment(stage: Stage) -> None:
    wanted = stage.get("environmentconfig", stage.environment, "") or {}
    stage.cluster.api.delete("environmentconfig", stage.environment)
    lab = stage.lab("main")
    told = stage.until(lab, "Synced", "False", "EnvironmentNotFound")
    assert f"EnvironmentConfig {stage.environment} does not exist" in told["message"]
    assert "finalizers" not in (stage.get("datalab", lab) or {})["metadata"]
    assert stage.list("secrets", f"datalabs.pkg.internal/name={lab}") == []
    with standins(stage.cluster):
        stage.create(
            {key: wanted[key] for key in ("apiVersion", "kind", "data")} | {"metadata": {"name": stage.environment}}
        )
        stage.until_ready(lab, 90)


def test_what_nobody_checked_is_refused_later_and_nothing_made_of_it(stage: Stage, daemon: Daemon) -> None:
    limits = {"vcluster": False, "budgets": ["small", "medium"], "kubernetesRoles": ["view", "edit"]}
    closed = Stage(stage.cluster, stage.namespace, allowed={"namespaces": ["elsewhere"]})
    strict = Stage(stage.cluster, stage.namespace, allowed=limits)
    elsewhere = {
        "git": {"url": "https://a.org/b", "ref": "main", "secretRef": {"name": "a", "namespace": "kube-system"}}
    }
    without_webhooks(daemon)
    stored = {
        stage.lab(name="admin-cli"): "metadata.name",
        stage.lab(name="kube-public"): "metadata.name",
        stage.lab(users=["joe\u202e"]): "spec.users[0]",
        stage.lab(files=[elsewhere]): "spec.files[0].git.secretRef.namespace",
        stage.lab("a", "a-data"): "spec.sessions[1].name",
        closed.lab(): "metadata.namespace",
        strict.lab(vcluster=True): "spec.vcluster",
        strict.lab(quota={"budget": "large"}): "spec.quota.budget",
        strict.lab(security={"kubernetesRole": "admin"}): "spec.security.kubernetesRole",
        strict.lab(security={"policy": "privileged"}): "spec.security.policy",
    }
    daemon.start()
    for lab, field in stored.items():
        assert stage.until(lab, "Synced", "False", "ClaimInvalid")["message"].startswith(f"{field}: ")
        # The finalizer is the first that is written of a lab.
        assert "finalizers" not in (stage.get("datalab", lab) or {})["metadata"]
        assert stage.get("secret", f"{lab}-login") is None
        stage.delete(lab)


def test_secrets_of_another_lab_are_no_storage_secret(stage: Stage, daemon: Daemon) -> None:
    lab = stage.lab()
    eventually(lambda: stage.values(f"{lab}-login"))
    for secret in (f"{lab}-login", f"{lab}-datalab"):
        thief = stage.lab(secretName=secret)
        told = stage.until(thief, "StorageReady", "False", "StorageSecret")
        assert "was made by datalabd for a lab" in told["message"]
        assert stage.get("secret", f"{thief}-datalab") is None
        stage.delete(thief)
    stage.delete(lab)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in REGISTERED[:2] for name in ("datalabd", "datalabd-ingresses")]
    + [(kind, name) for kind in REGISTERED[2:] for name in PROTECTED],
)
def test_a_deleted_registration_comes_back(daemon: Daemon, kind: str, name: str) -> None:
    api = daemon.cluster.api
    eventually(lambda: api.get(kind, name))
    api.delete(kind, name)
    eventually(lambda: api.get(kind, name))


def test_sigterm_ends_in_good_order_and_takes_the_webhooks_along(daemon: Daemon) -> None:
    assert daemon.stop() == 0
    for kind in WEBHOOKS:
        assert daemon.cluster.api.list(kind, selector="app.kubernetes.io/name=datalabd") == []
    daemon.start()
