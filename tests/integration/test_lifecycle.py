"""Labs from beginning to end, on a real API server: started, changed, stopped, removed, taken up again."""

import base64
from collections.abc import Iterator

import pytest

from datalabd.api.meta import Manifest
from hack.cluster import Cluster
from tests.integration.daemon import Daemon, eventually
from tests.integration.stage import Stage, standins

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates and kubelet beside the daemon."""
    with standins(cluster, installed=False):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


def test_a_claim_becomes_a_running_lab(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    live = stage.get("datalab", lab)
    assert live is not None
    assert live["status"]["sessions"] == {
        "main": {"state": "started", "phase": "Running", "url": f"https://{lab}-main.lab.example.org"}
    }
    assert live["status"]["started"] == "1/1"


def test_the_login_of_a_session_is_random_and_stands_in_a_secret(stage: Stage) -> None:
    labs = [stage.lab("main"), stage.lab("main")]
    passwords = []
    for lab in labs:
        stage.until_ready(lab)
        session = stage.get("workshopsession", f"{lab}-main", "")
        secret = stage.get("secret", f"{lab}-login")
        assert session is not None
        assert secret is not None
        assert session["spec"]["session"]["username"] == lab
        passwords.append(session["spec"]["session"]["password"])
        assert base64.b64decode(secret["data"]["password"]).decode() == passwords[-1]
    assert len(set(passwords)) == 2
    assert min(map(len, passwords)) >= 32


def test_no_storage_secret_no_session_and_everything_follows_when_it_comes(stage: Stage) -> None:
    lab = stage.lab("main", storage=False)
    waiting = stage.until(lab, "StorageReady", "False", "StorageSecret")
    assert f"Secret {stage.namespace}/{lab} does not exist" in waiting["message"]
    stage.until(lab, "RuntimeReady", "True")
    assert stage.get("workshopsession", f"{lab}-main", "") is None
    stage.storage_secret(lab)
    stage.until_ready(lab)


def test_rotated_storage_keys_reach_the_lab(stage: Stage) -> None:
    lab = stage.lab()
    stage.until_ready(lab)
    stage.storage_secret(lab, "rotated")

    def copied() -> bool:
        copy = stage.get("secret", f"{lab}-datalab", lab)
        return copy is not None and base64.b64decode(copy["data"]["AWS_SECRET_ACCESS_KEY"]) == b"rotated"

    eventually(copied)


def test_a_vanished_storage_secret_takes_nothing_away(stage: Stage) -> None:
    lab = stage.lab()
    stage.until_ready(lab)
    before = stage.values(f"{lab}-datalab")
    stage.cluster.api.delete("secret", lab, stage.namespace)
    told = stage.until(lab, "StorageReady", "False")
    assert "known before" in told["message"]
    assert stage.values(f"{lab}-datalab") == before


def test_one_of_two_sessions_stops_and_starts_again_on_its_volume(stage: Stage) -> None:
    lab = stage.lab("one", "two")
    stage.until_ready(lab)
    other = stage.get("workshopsession", f"{lab}-two", "")
    volume = stage.get("pvc", f"{lab}-one-persistent", lab)
    assert other is not None
    assert volume is not None
    stage.set_state(lab, 0, "stopped")
    stage.gone("namespace", f"{lab}-one")
    eventually(lambda: (stage.get("datalab", lab) or {})["status"]["sessions"]["one"] == {"state": "stopped"})
    stage.set_state(lab, 0, "started")
    eventually(lambda: (stage.get("datalab", lab) or {})["status"]["started"] == "2/2", 60)
    again = stage.get("workshopsession", f"{lab}-two", "")
    kept = stage.get("pvc", f"{lab}-one-persistent", lab)
    assert again is not None
    assert kept is not None
    assert again["metadata"]["uid"] == other["metadata"]["uid"]
    assert kept["metadata"]["uid"] == volume["metadata"]["uid"]


def test_a_session_stopped_and_started_at_once_waits_for_its_old_namespace(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    before = stage.get("namespace", f"{lab}-main", "")
    assert before is not None
    stage.set_state(lab, 0, "stopped")
    eventually(lambda: stage.get("workshopsession", f"{lab}-main", "") is None)
    stage.set_state(lab, 0, "started")
    stage.until(lab, "Ready", "False")
    stage.until_ready(lab, 90)
    after = stage.get("namespace", f"{lab}-main", "")
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_changed_policy_reaches_what_runs(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    stage.edit_environment({"network": {"externalEgressCIDRs": ["203.0.113.0/24"]}})

    def allowed(namespace: str) -> bool:
        policy = stage.get("networkpolicy", "allow-external-egress", namespace)
        return policy is not None and policy["spec"]["egress"] == [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]

    eventually(lambda: allowed(lab) and allowed(f"{lab}-main"))
    stage.edit_environment({"network": {"externalEgressCIDRs": []}})
    stage.gone("networkpolicy", "allow-external-egress", lab)
    stage.gone("networkpolicy", "allow-external-egress", f"{lab}-main")


def test_a_session_that_ends_stays_closed_to_the_last(stage: Stage) -> None:
    """Its network policies go with its namespaces, not before: pods may take their time."""
    lab = stage.lab("main", vcluster=True)
    stage.until_ready(lab)
    stage.patch(lab, {"op": "replace", "path": "/spec/vcluster", "value": False})
    stage.until(lab, "SessionsReady", "True", "RestartNeeded")
    assert stage.get("networkpolicy", "deny-egress", f"{lab}-main-vc") is not None
    policy = "networkpolicies/deny-egress"
    stage.set_state(lab, 0, "stopped")
    stage.gone("namespace", f"{lab}-main")
    log = stage.requests(f"{lab}-main")
    ours = [entry for entry in log if entry["verb"] == "delete" and entry["userAgent"] == "datalabd"]
    assert [entry for entry in ours if policy in entry["requestURI"]] == []
    assert any("workshopsessions" in entry["requestURI"] for entry in ours)


def test_a_home_that_cannot_follow_the_environment_holds_nothing_up(stage: Stage) -> None:
    lab = stage.lab("main", quota={"storage": "2Gi"})
    stage.until_ready(lab)
    stage.delete(lab)
    stage.lab("main", name=lab, quota={"storage": "1Gi"})
    stage.until_ready(lab, 90)
    volume = stage.get("pvc", f"{lab}-main-persistent", lab)
    assert volume is not None
    assert volume["spec"]["resources"]["requests"]["storage"] == "2Gi"


def test_a_changed_claim_applies_at_the_next_start_and_says_so(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    stage.patch(lab, {"op": "add", "path": "/spec/quota", "value": {"memory": "3Gi"}})
    stage.until(lab, "SessionsReady", "True", "RestartNeeded")

    def copied() -> bool:
        environment = stage.get("workshopenvironment", lab, "") or {}
        copy = environment["status"]["educates"]["workshop"]["spec"]
        return bool(copy["session"]["resources"]["memory"] == "3Gi")

    eventually(copied)
    stage.set_state(lab, 0, "stopped")
    stage.gone("namespace", f"{lab}-main")
    stage.set_state(lab, 0, "started")
    stage.until(lab, "SessionsReady", "True", "Running", 60)


def test_a_field_taken_back_is_gone(stage: Stage) -> None:
    """The first write and later ones are booked under two owners; what the first one set must go all the same."""
    lab = stage.lab(security={"policy": "baseline"}, registry={"enabled": True, "storage": "3Gi"})
    stage.until_ready(lab)
    stage.patch(lab, {"op": "replace", "path": "/spec/registry", "value": {"enabled": False}})

    def without() -> bool:
        workshop = stage.get("workshop", lab, "") or {}
        return "registry" not in workshop["spec"]["session"]["applications"]

    eventually(without)


@pytest.mark.parametrize(
    ("kind", "name", "where"),
    [
        ("networkpolicy", "deny-egress", "{lab}"),
        ("networkpolicy", "deny-egress", "{lab}-main"),
        ("secret", "{lab}-datalab", "{claim}"),
        ("secret", "{lab}-login", "{claim}"),
        ("workshop", "{lab}", ""),
        ("pvc", "{lab}-datalab", "{lab}"),
        ("workshopsession", "{lab}-main", ""),
        ("deployment", "{lab}-main", "{lab}"),
    ],
)
def test_what_somebody_deletes_comes_back(stage: Stage, kind: str, name: str, where: str) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    name = name.format(lab=lab)
    where = where.format(lab=lab, claim=stage.namespace)
    before = stage.get(kind, name, where)
    assert before is not None
    stage.cluster.api.delete(kind, name, where)
    if kind == "pvc":  # a volume in use is protected until its pods are gone; nothing to bring back
        return

    def back() -> bool:
        after = stage.get(kind, name, where)
        return after is not None and after["metadata"]["uid"] != before["metadata"]["uid"]

    eventually(back, 120)
    stage.until_ready(lab, 90)


@pytest.mark.parametrize(
    ("kind", "name", "where", "patch"),
    [
        ("networkpolicy", "deny-egress", "{lab}", {"spec": {"egress": [{}]}}),
        ("workshop", "{lab}", "", {"spec": {"session": {"namespaces": {"role": "admin"}}}}),
        ("secret", "{lab}-datalab", "{claim}", {"data": {"AWS_ACCESS_KEY_ID": "eA=="}}),
        ("secret", "{lab}-login", "{claim}", {"data": {"password": ""}}),
        ("workshopsession", "{lab}-main", "", {"spec": {"session": {"id": "other"}}}),
    ],
)
def test_what_somebody_edits_is_put_right(stage: Stage, kind: str, name: str, where: str, patch: Manifest) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    name = name.format(lab=lab)
    where = where.format(lab=lab, claim=stage.namespace)
    before = stage.get(kind, name, where)
    stage.cluster.api.patch(kind, name, patch, where)

    def right() -> bool:
        after = stage.get(kind, name, where) or {}
        if kind == "secret" and name.endswith("-login"):
            return bool(after["data"]["password"])  # another one: the old one is lost
        return all(after.get(part) == (before or {}).get(part) for part in ("spec", "data"))

    eventually(right)


def test_a_deleted_lab_leaves_its_volumes_and_gives_them_back(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    volume = stage.get("pvc", f"{lab}-main-persistent", lab)
    assert volume is not None
    stage.delete(lab)
    kept = stage.get("pvc", f"{lab}-main-persistent", lab)
    assert kept is not None
    assert kept["metadata"]["uid"] == volume["metadata"]["uid"]
    assert kept["metadata"]["labels"]["datalabs.pkg.internal/retained"] == "true"
    assert stage.get("workshopsession", f"{lab}-main", "") is None
    assert stage.get("secret", f"{lab}-datalab", lab) is None
    stage.lab("main", name=lab)
    stage.until_ready(lab, 90)
    again = stage.get("pvc", f"{lab}-main-persistent", lab)
    assert again is not None
    assert again["metadata"]["uid"] == volume["metadata"]["uid"]
    assert "datalabs.pkg.internal/retained" not in again["metadata"]["labels"]


def test_the_volume_behind_a_home_outlives_its_claim(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)

    def kept() -> bool:
        claim = stage.get("pvc", f"{lab}-main-persistent", lab) or {}
        volume = stage.get("pv", claim["spec"].get("volumeName", "none"), "") or {"spec": {}}
        return bool(volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain")

    eventually(kept)


def test_a_lab_without_volumes_leaves_nothing(stage: Stage) -> None:
    lab = stage.lab()
    stage.until_ready(lab)
    stage.delete(lab)
    stage.gone("namespace", lab)
    selector = f"datalabs.pkg.internal/name={lab}"
    kinds = "workshops,workshopenvironments,workshopsessions,secrets,pvc,networkpolicies"
    eventually(lambda: not stage.list(kinds, selector), 60)


def test_retention_delete_takes_volumes_along(stage: Stage) -> None:
    stage.edit_environment({"retention": "Delete"})
    lab = stage.lab("main")
    stage.until_ready(lab)
    stage.delete(lab)
    stage.gone("namespace", lab)


def test_a_session_taken_out_of_the_claim_keeps_its_volume(stage: Stage) -> None:
    lab = stage.lab("main", "other")
    stage.until_ready(lab)
    stage.patch(lab, {"op": "remove", "path": "/spec/sessions/1"})
    stage.gone("workshopsession", f"{lab}-other")

    def retained() -> bool:
        volume = stage.get("pvc", f"{lab}-other-persistent", lab)
        assert volume is not None
        return "datalabs.pkg.internal/retained" in volume["metadata"]["labels"]

    eventually(retained)


def test_a_claim_deleted_while_it_is_being_created(stage: Stage) -> None:
    for kind in ("", "workshop", "workshopenvironment", "workshopsession"):
        lab = stage.lab("main")
        if kind:
            eventually(lambda lab=lab, kind=kind: stage.list(kind, f"datalabs.pkg.internal/name={lab}"))  # type: ignore[misc]
        stage.delete(lab)
        eventually(lambda lab=lab: stage.get("workshopsession", f"{lab}-main", "") is None)  # type: ignore[misc]


def test_a_claim_deleted_twice_before_its_finalizer_is_done(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    stage.delete(lab, wait=False)
    told = stage.until(lab, "Ready", "False", "Deleting")
    assert "deleting sessions" in told["message"]
    stage.delete(lab, wait=False)
    stage.gone("datalab", lab, stage.namespace)


def test_events_tell_the_story(stage: Stage) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    eventually(lambda: {"Created", "Ready"} <= stage.events(lab))
