"""What a tenant may try who has no more than the rights to edit in a namespace of his own."""

import json
from collections.abc import Iterator

import pytest

from datalabd.api.meta import ABANDON, ENVIRONMENT, PROTECTION
from datalabd.status import stalled_step
from hack.cluster import Cluster
from tests.integration.daemon import IMPATIENT, Daemon, eventually
from tests.integration.objects import read, unique
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TENANT = "--as=alice"
STEPS = "access,sessions,storage,runtime,credentials,identity"


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates and kubelet beside the daemon."""
    with standins(cluster, installed=False):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment, and a namespace in which the tenant may do as ClusterRole `edit` and with claims as he likes."""
    role = unique("tenant")
    cluster.kubectl("create", "clusterrole", role, "--verb=*", "--resource=datalabs.pkg.internal")
    for granted in ("edit", role):
        binding = ["create", "rolebinding", f"alice-{granted}", f"--clusterrole={granted}", "--user=alice"]
        cluster.kubectl(*binding, "-n", namespace)
    return Stage(cluster, namespace)


def abandon(stage: Stage, lab: str, steps: str, *options: str) -> str:
    """What the API server says to whoever has a deletion skip steps; empty: it was accepted."""
    answer = stage.cluster.kubectl(
        "annotate", "datalab", lab, "-n", stage.namespace, "--overwrite", f"{ABANDON}={steps}", *options, check=False
    )
    return answer.stderr


def test_a_running_session_is_not_left_without_its_claim(stage: Stage, datalabd: Daemon) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    assert "ended by those who may delete workshopsessions" in abandon(stage, lab, STEPS, TENANT)
    for user in ((), (TENANT,)):
        assert "this claim has no deletion that has stalled" in abandon(stage, lab, "access,storage", *user)
    hold = {"metadata": {"finalizers": ["example.org/hold"]}}
    stage.cluster.api.patch("workshopsession", f"{lab}-m", hold)
    stage.delete(lab, wait=False)
    waits = f"deleting sessions: waits for WorkshopSession {lab}-m"
    eventually(lambda: stage.condition(lab, "Reconciling").get("message", "").startswith(waits))
    assert "this claim has no deletion that has stalled" in abandon(stage, lab, "sessions")
    datalabd.restart(before=IMPATIENT)
    try:
        eventually(lambda: stalled_step(stage.get("datalab", lab) or {}) == "sessions")
        assert "this one has stalled at sessions" in abandon(stage, lab, "sessions,runtime")
        for step in ("sessions", "runtime"):
            assert "ended by those who may delete workshopsessions" in abandon(stage, lab, step, TENANT)
        assert abandon(stage, lab, "sessions", "--as=carol", "--as-group=system:masters") == ""
        stage.gone("datalab", lab, stage.namespace)
        assert "deletionTimestamp" in read(stage.cluster, "workshopsession", f"{lab}-m")["metadata"]
    finally:
        stage.cluster.api.patch("workshopsession", f"{lab}-m", {"metadata": {"finalizers": None}})
        datalabd.restart()


def test_steps_that_were_to_be_skipped_before_a_deletion_are_begun_all_the_same(stage: Stage, datalabd: Daemon) -> None:
    """As they could be before anybody refused that."""
    lab = stage.lab("m")
    stage.until_ready(lab)
    datalabd.stop()
    stage.annotate(lab, ABANDON, STEPS)
    datalabd.start()
    stage.delete(lab)
    stage.gone("workshopsession", f"{lab}-m")
    stage.gone("namespace", f"{lab}-m")


CLOSING = "from controllers import datalab\ndatalab.EGRESS_CLOSES_SECONDS = 0.0"
"""What a datalabd runs first that closes a lab at once whose environment is lost."""
OUTSIDE = {"externalEgressCIDRs": ["0.0.0.0/0"]}


def egress(stage: Stage, lab: str) -> dict[str, list[str]]:
    """By namespace, the networks that a lab does not reach where it reaches others."""
    found = {}
    for namespace in (lab, f"{lab}-m"):
        policy = stage.get("networkpolicy", "allow-external-egress", namespace)
        if policy is not None:
            found[namespace] = policy["spec"]["egress"][0]["to"][0]["ipBlock"].get("except", [])
    return found


def test_a_lab_whose_environment_is_lost_is_held_by_the_last_one(stage: Stage, datalabd: Daemon) -> None:
    stage.edit_environment({"network": OUTSIDE})
    lab = stage.lab("m")
    stage.until_ready(lab)
    eventually(lambda: egress(stage, lab) == {lab: [], f"{lab}-m": []})
    refused = stage.cluster.kubectl(
        "annotate", "datalab", lab, "-n", stage.namespace, "--overwrite", f"{ENVIRONMENT}=nope", TENANT, check=False
    )
    assert "a lab that exists may only choose an environment that does, and is valid" in refused.stderr
    datalabd.stop()  # nobody refuses anything now
    stage.annotate(lab, ENVIRONMENT, "nope")
    datalabd.start()
    try:
        stage.until(lab, "EnvironmentLost", "True", "EnvironmentNotFound")
        stage.edit_environment({"network": OUTSIDE | {"blacklistIPs": ["198.51.100.0/24"]}})
        eventually(lambda: egress(stage, lab) == {lab: ["198.51.100.0/24"], f"{lab}-m": ["198.51.100.0/24"]})
        stage.patch(lab, {"op": "add", "path": "/spec/sessions/-", "value": {"name": "new"}})
        stage.until(lab, "Synced", "False", "EnvironmentNotFound")
        assert stage.get("workshopsession", f"{lab}-new", "") is None
        squat = ["create", "ingress", "squat", "-n", stage.namespace, f"--rule={lab}-m.lab.example.org/=s:80", TENANT]
        answer = stage.cluster.kubectl(*squat, check=False)
        assert "this host belongs to a lab" in answer.stderr
        datalabd.restart(before=CLOSING)
        eventually(lambda: egress(stage, lab) == {})
        assert stage.phase("workshopsession", f"{lab}-m") == "Running"
        # The last one goes as well: what is applied stays, and closed.
        last = stage.get("environmentconfig", stage.environment, "") or {}
        stage.cluster.api.delete("environmentconfig", stage.environment)
        stage.patch(lab, {"op": "replace", "path": "/spec/users", "value": ["ann", "bob"]})
        stage.until(lab, "EnvironmentLost", "True", "EnvironmentNotFound")
        assert "this host belongs to a lab" in stage.cluster.kubectl(*squat, check=False).stderr
        assert egress(stage, lab) == {}
    finally:
        datalabd.restart()
    stage.create({key: last[key] for key in ("apiVersion", "kind", "data")} | {"metadata": {"name": stage.environment}})
    stage.annotate(lab, ENVIRONMENT, stage.environment)
    stage.until_ready(lab)
    assert egress(stage, lab).keys() == {lab, f"{lab}-m"}
    assert stage.condition(lab, "EnvironmentLost") == {}


def test_what_is_applied_holds_a_lab_of_which_nothing_else_is_known(stage: Stage, datalabd: Daemon) -> None:
    stage.edit_environment({"network": OUTSIDE})
    lab = stage.lab("m")
    stage.until_ready(lab)
    datalabd.stop()
    stage.cluster.api.delete("environmentconfig", stage.environment)
    datalabd.start(before=CLOSING)
    try:
        eventually(lambda: egress(stage, lab) == {})
        assert stage.phase("workshopsession", f"{lab}-m") == "Running"
        left = {policy["metadata"]["name"] for policy in stage.list("networkpolicies", "", lab)}
        assert {"deny-egress", "allow-dns-egress"} <= left
    finally:
        datalabd.restart()


def test_a_secret_of_the_tenant_sends_the_node_nowhere(stage: Stage) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    before = stage.get("secret", f"{lab}-datalab") or {}
    elsewhere = {"AWS_ENDPOINT_URL": "http://169.254.169.254/latest"}
    stage.cluster.api.patch("secret", lab, {"stringData": elsewhere}, stage.namespace)
    message = stage.until(lab, "StorageReady", "False", "EndpointNotAllowed")["message"]
    assert message.startswith(f"Secret {stage.namespace}/{lab} names an endpoint, http://169.254.169.254:80, which")
    assert stage.get("secret", f"{lab}-datalab") == before
    assert stage.condition(lab, "SessionsReady")["status"] == "True"
    other = stage.lab("m", storage=False, secretName=lab)
    stage.until(other, "StorageReady", "False", "EndpointNotAllowed")
    assert stage.get("secret", f"{other}-datalab") is None
    stage.edit_environment({"storage": {"endpoints": ["http://169.254.169.254"]}})
    stage.until_ready(lab)
    assert stage.values(f"{lab}-datalab")["AWS_ENDPOINT_URL"] == elsewhere["AWS_ENDPOINT_URL"]


def test_the_credentials_beside_a_claim_are_not_the_tenants_to_write(stage: Stage) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    name = f"{lab}-datalab"
    data = (stage.get("secret", name) or {})["data"]
    stage.cluster.api.delete("secret", lab, stage.namespace)
    stage.until(lab, "StorageReady", "False", "StorageSecret")
    own = {"stringData": {"configData": "[datalab]\nendpoint = http://169.254.169.254\n", "s3-endpoint": "elsewhere"}}
    patch = ("patch", "secret", name, "-n", stage.namespace, "--type=merge", "-p", json.dumps(own))
    for answer in (
        stage.cluster.kubectl(*patch, TENANT, check=False),
        stage.cluster.kubectl("delete", "secret", name, "-n", stage.namespace, TENANT, check=False),
    ):
        assert "only datalabd writes it: change the Datalab or its storage Secret" in answer.stderr
    for _ in range(4):  # whoever may: it is put back at once, also while the storage Secret is away
        stage.cluster.api.patch("secret", name, own, stage.namespace)
        eventually(lambda: (stage.get("secret", name) or {})["data"] == data, 5)
    assert stage.condition(lab, "StorageReady")["reason"] == "StorageSecret"


def test_their_copy_in_the_lab_is_the_runtimes_to_write(stage: Stage) -> None:
    """Educates' secrets-manager writes it, by an account of its own that may do nothing with sessions."""
    lab = stage.lab("m")
    stage.until_ready(lab)
    stage.cluster.kubectl("create", "rolebinding", "alice", "-n", lab, "--clusterrole=admin", "--user=alice")
    name = f"{lab}-datalab"
    own = json.dumps({"stringData": {"configData": "[datalab]\nendpoint = http://169.254.169.254\n"}})
    for command in (("patch", "secret", name, "--type=merge", "-p", own), ("delete", "secret", name)):
        answer = stage.cluster.kubectl(*command, "-n", lab, TENANT, check=False)
        assert "only datalabd writes it: change the Datalab or its storage Secret" in answer.stderr
    stage.cluster.api.patch("secret", lab, {"stringData": {"AWS_SECRET_ACCESS_KEY": "rotated"}}, stage.namespace)
    eventually(lambda: "rotated" in stage.values(name, lab)["configData"])
    assert stage.values(name, lab) == stage.values(name)


def test_a_session_that_is_kept_from_stopping_says_by_what(stage: Stage, datalabd: Daemon) -> None:
    lab = stage.lab("m")
    stage.until_ready(lab)
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": f"{lab}-m", "finalizers": ["example.org/hold"]},
    }
    stage.create(held)
    stage.set_state(lab, 0, "stopped")
    by = f"namespace {lab}-m is held by example.org/hold in 1 resource instances; configmaps. has 1 resource instances"
    message = stage.until(lab, "SessionsReady", "True", "Stopping")["message"]
    assert message.startswith(f"session m: {by}")
    assert (stage.get("datalab", lab) or {})["status"]["sessions"]["m"]["message"] == by
    stage.delete(lab, wait=False)
    waits = f"deleting sessions: waits for Namespace {lab}-m: {by}"
    eventually(lambda: stage.condition(lab, "Reconciling").get("message") == waits)
    # What is left of it stays protected, and its host its own.
    (left,) = (route for route in stage.list("ingresses", "", lab) if route["metadata"]["name"] == f"{lab}-m")
    assert left["metadata"]["annotations"][PROTECTION]
    squat = ["create", "ingress", "squat", "-n", stage.namespace, f"--rule={lab}-m.lab.example.org/=s:80"]
    assert "this host belongs to a lab" in stage.cluster.kubectl(*squat, check=False).stderr
    datalabd.restart(before=IMPATIENT)
    try:
        stalled = f"{waits}; mend that, or skip the step with annotation {ABANDON}=sessions"
        eventually(lambda: stage.condition(lab, "Stalled").get("message") == stalled)
        stage.cluster.api.patch("configmap", "held", {"metadata": {"finalizers": None}}, f"{lab}-m")
        stage.gone("datalab", lab, stage.namespace)
    finally:
        datalabd.restart()


OLDER = """
from datalabd import observed, reserved, sources
reserved.RESERVED = {}
sources.METADATA_ADDRESSES = frozenset()
observed.is_listed = lambda endpoint, storage: True
"""
"""What makes a datalabd that knows none of the rules that came later."""


def test_a_lab_that_breaks_every_rule_survives_the_upgrade(stage: Stage, datalabd: Daemon) -> None:
    datalabd.restart(before=OLDER)
    lab = stage.lab(
        *("m", "second"),
        name="grafana",
        files=[{"http": {"url": "http://100.100.100.200/latest"}}],
        quota={"storage": "3Gi"},
    )
    endpoint = {"AWS_ENDPOINT_URL": "http://169.254.169.254/latest"}
    stage.cluster.api.patch("secret", lab, {"stringData": endpoint}, stage.namespace)
    stage.until_ready(lab)
    eventually(lambda: stage.values(f"{lab}-datalab").get("AWS_ENDPOINT_URL") == endpoint["AWS_ENDPOINT_URL"])
    datalabd.stop()
    before = [read(stage.cluster, "workshopsession", f"{lab}-{name}") for name in ("m", "second")]
    limits = {"volume": "1Gi", "volumes": "1Gi", "sessions": 1, "memory": "1Gi"}
    stage.edit_environment({"allowed": {"limits": limits}})
    datalabd.start()
    broken = stage.until(lab, "Synced", "True", "RulesBroken")["message"]
    for field in (
        "spec.quota.storage",
        "spec.sessions",
        "spec.quota.memory",
        "metadata.name",
        "spec.files[0].http.url",
    ):
        assert f"{field}: " in broken
    assert stage.condition(lab, "StorageReady")["reason"] == "EndpointNotAllowed"
    assert datalabd.metrics()["datalabd_rules_broken"] > 0
    after = [read(stage.cluster, "workshopsession", f"{lab}-{name}") for name in ("m", "second")]
    assert [found["metadata"]["uid"] for found in after] == [found["metadata"]["uid"] for found in before]
    # It is stopped and started, and shrinks; it does not grow.
    for state in ("stopped", "started"):
        stage.set_state(lab, 0, state)
        stage.until(lab, "Synced", "True", "RulesBroken")
    stage.until(lab, "SessionsReady", "True")
    add = [{"op": "add", "path": "/spec/sessions/-", "value": {"name": "third"}}]
    answer = stage.cluster.kubectl(
        *("patch", "datalab", lab, "-n", stage.namespace, "--type=json", "-p", json.dumps(add)), check=False
    )
    assert "(allowed.limits.sessions)" in answer.stderr
    stage.patch(lab, {"op": "remove", "path": "/spec/sessions/0"})
    stage.gone("workshopsession", f"{lab}-m")
    assert stage.phase("workshopsession", f"{lab}-second") == "Running"
    stage.delete(lab)
