"""What is left when a lab is gone: nobody deletes it by mistake, and a purge deletes all of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalabd.api.meta import RETAINED, UNPROTECTED, Manifest
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import STORES
from tests.integration.daemon import ROOT, WEBHOOKS, Daemon, eventually, unregister
from tests.integration.objects import claim, dry_run, unique
from tests.integration.stage import Stage, standins

pytestmark = pytest.mark.cluster

HELD = "test.example.org/held"


@pytest.fixture(scope="module")
def carol(cluster: Cluster) -> Path:
    """The kubeconfig of an administrator who is not who runs datalabd."""
    name = unique("carol")
    cluster.kubectl("create", "serviceaccount", name, "-n", "default")
    role = ["--clusterrole=cluster-admin", f"--serviceaccount=default:{name}"]
    cluster.kubectl("create", "clusterrolebinding", name, *role)
    return cluster.kubeconfig_for(f"default/{name}")


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates, kubelet and the operators of stores beside the daemon, which has the policy in force."""
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


def begin(carol: Path, stage: Stage, lab: str, *objects: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A purge that waits for its answer."""
    which = [f"--object={item}" for item in objects]
    lab_of = ["purge", f"{stage.namespace}/{lab}", "--kubeconfig", str(carol)]
    command = [sys.executable, "-u", "-m", "datalabd", *lab_of, *which, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def purge(
    carol: Path, stage: Stage, lab: str, *objects: str, answer: str = "", options: tuple[str, ...] = ()
) -> tuple[int, str]:
    """The exit code and output of a purge that is agreed to, unless there is another answer."""
    process = begin(carol, stage, lab, *objects, options=options)
    output, _ = process.communicate(f"{answer or lab}\n", timeout=scaled(240))
    return process.returncode, output


def refused(stage: Stage, carol: Path, kind: str, name: str, namespace: str = "") -> str:
    """What an administrator hears who tries to delete an object; empty if it would be deleted."""
    place = ["-n", namespace] if namespace else []
    options = ["--dry-run=server", "--kubeconfig", str(carol)]
    return stage.cluster.kubectl("delete", kind, name, *place, *options, check=False).stderr


def left_of(stage: Stage, lab: str) -> list[str]:
    """What there is of a lab in the cluster, by name."""
    kinds = "workshops,workshopenvironments,workshopsessions,pvc,redis"
    found = stage.list(kinds, f"datalabs.pkg.internal/name={lab}")
    return [f"{obj['kind']}/{obj['metadata']['name']}" for obj in found]


def volume_of(stage: Stage, claim: Manifest) -> Manifest | None:
    """The PersistentVolume behind a claim."""
    return stage.get("pv", claim["spec"]["volumeName"], "")


def secured(stage: Stage, lab: str) -> Manifest:
    """The home directory of session main, once its storage would outlive it."""

    def found() -> Manifest | None:
        claim = stage.get("pvc", f"{lab}-main-persistent", lab)
        volume = volume_of(stage, claim) if claim and claim["spec"].get("volumeName") else None
        return claim if volume and volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain" else None

    return eventually(found, 40)


def test_what_a_deleted_lab_leaves_goes_by_purge_alone(stage: Stage, carol: Path, datalabd: Daemon) -> None:
    lab = stage.lab("main", cacheStores={"cache": {"storage": "1Gi"}})
    stage.until_ready(lab, 90)
    home = secured(stage, lab)
    stage.delete(lab)
    kept = [
        ("workshopenvironment", lab, ""),
        ("namespace", lab, ""),
        ("pvc", f"{lab}-main-persistent", lab),
        ("redis", "cache", lab),
        ("secret", "cache-redis-auth", lab),
    ]
    other = dry_run(stage.cluster, claim("default", stage.environment, name=lab))
    assert "belongs to another lab" in other.stderr
    datalabd.stop()
    try:
        for obj in kept:
            assert f"use datalabd purge {stage.namespace}/{lab}" in refused(stage, carol, *obj)
        code, output = purge(carol, stage, lab, answer="yes")
        assert code == 1
        assert "Nothing was deleted." in output
        assert stage.get("redis", "cache", lab) is not None
        code, output = purge(carol, stage, lab)
    finally:
        datalabd.start()
    assert code == 0, output
    for line in (f"{home['spec']['volumeName']}: freed", "deleted Redis", f"Purged from lab {stage.namespace}/{lab}."):
        assert line in output
    assert left_of(stage, lab) == []
    assert stage.get("namespace", lab, "") is None
    eventually(lambda: volume_of(stage, home) is None)
    code, output = purge(carol, stage, lab)
    assert code == 1
    assert output.startswith(f"datalabd: nothing found of lab {lab} in namespace {stage.namespace}")
    code, output = purge(carol, stage, lab, options=("--ignore-not-found",))
    assert (code, output) == (0, f"Nothing is retained of lab {stage.namespace}/{lab}.\n")


def test_a_purge_that_was_killed_goes_on_when_it_is_repeated(stage: Stage, carol: Path) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    home = secured(stage, lab)
    stage.delete(lab)
    where = ["pvc", home["metadata"]["name"], "-n", lab]
    add = [{"op": "add", "path": "/metadata/finalizers/-", "value": HELD}]
    stage.cluster.kubectl("patch", *where, "--type=json", "-p", json.dumps(add))
    process = begin(carol, stage, lab)
    assert process.stdin is not None
    process.stdin.write(f"{lab}\n")
    process.stdin.flush()

    def on_its_way() -> bool:
        live = stage.get("pvc", home["metadata"]["name"], lab)
        assert live is not None
        return "deletionTimestamp" in live["metadata"] and HELD in live["metadata"]["finalizers"]

    eventually(on_its_way, 60)
    process.kill()
    process.communicate()
    assert stage.get("workshopenvironment", lab, "") is not None
    stage.cluster.kubectl("patch", *where, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    code, output = purge(carol, stage, lab)
    assert code == 0, output
    assert left_of(stage, lab) == []
    eventually(lambda: volume_of(stage, home) is None)


def test_one_home_of_a_living_lab(stage: Stage, carol: Path) -> None:
    lab = stage.lab("other", "main")
    stage.until_ready(lab)
    home = secured(stage, lab)
    name = f"PersistentVolumeClaim/{lab}-main-persistent"
    code, output = purge(carol, stage, lab, name)
    assert code == 1
    assert f"is not retained: the claim {stage.namespace}/{lab} declares it" in output
    stage.patch(lab, {"op": "remove", "path": "/spec/sessions/1"})

    def retained() -> bool:
        return RETAINED in (stage.get("pvc", f"{lab}-main-persistent", lab) or {})["metadata"]["labels"]

    eventually(retained)
    code, output = purge(carol, stage, lab)
    assert code == 1
    assert f"or name with --object what it declares no more: {name}" in output
    code, output = purge(carol, stage, lab, name)
    assert code == 0, output
    assert stage.get("pvc", f"{lab}-main-persistent", lab) is None
    assert stage.get("pvc", f"{lab}-other-persistent", lab) is not None
    eventually(lambda: volume_of(stage, home) is None)
    stage.until_ready(lab)


def test_a_lab_taken_up_again_before_the_answer_stays(stage: Stage, carol: Path) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    home = secured(stage, lab)
    stage.delete(lab)
    process = begin(carol, stage, lab)
    assert process.stdout is not None
    # The list is complete, and nobody has agreed to it yet.
    line = ""
    while "goes namespace" not in line:
        line = process.stdout.readline()
        assert line, "it ended without a question"
    stage.lab("main", name=lab)
    stage.until_ready(lab, 90)
    output, _ = process.communicate(f"{lab}\n", timeout=scaled(60))
    assert process.returncode == 1
    assert "PersistentVolumeClaim" in output
    assert "was taken up again by its claim, and stays" in output
    live = stage.get("pvc", home["metadata"]["name"], lab)
    assert live is not None
    assert live["metadata"]["uid"] == home["metadata"]["uid"]
    assert UNPROTECTED not in live["metadata"]["annotations"]
    stage.until_ready(lab)


def test_what_went_without_us_goes_when_that_is_asked_for(stage: Stage, carol: Path, datalabd: Daemon) -> None:
    """Somebody took the finalizer away: the claim is gone, and nothing says that a person let go of the rest."""
    lab = stage.lab("main", cacheStores={"cache": {"storage": "1Gi"}})
    stage.until_ready(lab, 90)
    datalabd.kill()
    unregister(stage.cluster, WEBHOOKS)
    try:
        stage.cluster.api.delete("datalab", lab, stage.namespace)
        gone = ["patch", "datalab", lab, "-n", stage.namespace, "--type=merge", "-p"]
        stage.cluster.kubectl(*gone, '{"metadata": {"finalizers": null}}')
        stage.gone("datalab", lab, stage.namespace)
    finally:
        datalabd.start()
    stage.lab("main", name=lab)
    taken = stage.until(lab, "Synced", "False", "NameTaken")
    assert f"see what it left: datalabd purge {stage.namespace}/{lab} --unmarked" in taken["message"]
    stage.delete(lab)
    code, output = purge(carol, stage, lab)
    assert code == 1
    assert "which went without datalabd; pass --unmarked if all of it is to go too" in output
    code, output = purge(carol, stage, lab, options=("--unmarked",))
    assert code == 0, output
    assert left_of(stage, lab) == []
    stage.lab("main", name=lab)
    stage.until_ready(lab, 90)
