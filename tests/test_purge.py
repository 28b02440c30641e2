"""What a purge would delete, as the person who is asked reads it; what it does stands in tests/integration."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datalabd import purge
from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_NAMESPACE, RETAINED, Manifest, NamespacedName
from datalabd.purge import Kept, Refused, choose, secured_by_us, tell

LAB = NamespacedName("claims", "s-jane")
NOW = datetime.datetime(2026, 3, 10, 12, 0, tzinfo=datetime.UTC)
API_VERSIONS = {
    "PostgresCluster": "postgres-operator.crunchydata.com/v1",
    "WorkshopEnvironment": "training.educates.dev/v1beta1",
}


def obj(kind: str, name: str, *, namespace: str = "s-jane", retained: bool = True, **parts: Any) -> Manifest:
    """An object of the lab, two days old."""
    metadata: Manifest = {
        "name": name,
        "uid": f"uid-of-{name}",
        "creationTimestamp": "2026-03-08T11:00:00Z",
        "labels": {"app.kubernetes.io/managed-by": "datalabd", CLAIM_NAMESPACE: "claims", CLAIM_NAME: "s-jane"},
        "annotations": {APPLIED: "0123456789abcdef"},
    }
    if retained:
        metadata["labels"] |= {RETAINED: "true"}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata} | parts


def home(session: str, *, retained: bool = True, **parts: Any) -> Manifest:
    """A home directory of 1Gi."""
    spec = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"pv-{session}"}
    return obj("PersistentVolumeClaim", f"s-jane-{session}-persistent", retained=retained, spec=spec, **parts)


def volume(name: str, policy: str, *managers: str) -> Manifest:
    """A PersistentVolume whose policy these managers set."""
    fields: Manifest = {"f:spec": {"f:persistentVolumeReclaimPolicy": {}}}
    entries = [{"manager": manager, "operation": "Update", "fieldsV1": fields} for manager in managers]
    entries.append({"manager": "datalabd", "operation": "Update", "fieldsV1": {"f:metadata": {}}})
    return {"metadata": {"name": name, "managedFields": entries}, "spec": {"persistentVolumeReclaimPolicy": policy}}


HOME, DATABASE = home("main"), obj("PostgresCluster", "pg0")
AUTH = obj("Secret", "m-mongodb-auth")
ENVIRONMENT = obj("WorkshopEnvironment", "s-jane", namespace="")
GONE = Kept(LAB, claimed=False, durable=(DATABASE, HOME, AUTH), runtime=(ENVIRONMENT,))
LIVING = Kept(LAB, claimed=True, durable=(DATABASE, home("main", retained=False)))


def test_all_of_a_lab_whose_claim_is_gone() -> None:
    assert choose(GONE, []) == [DATABASE, HOME, AUTH, ENVIRONMENT]


def test_all_that_a_claim_left_which_went_without_us() -> None:
    session = obj("WorkshopSession", "s-jane-main", namespace="", retained=False)
    login = obj("Secret", "s-jane-login", namespace="claims", retained=False)
    kept = replace(GONE, sessions=(session,), beside=(login,))
    with pytest.raises(Refused):
        choose(kept, [])
    assert choose(kept, [], unmarked=True) == [session, DATABASE, HOME, AUTH, login, ENVIRONMENT]


def test_a_lab_that_lives_is_not_purged_of_what_is_unmarked() -> None:
    with pytest.raises(Refused, match="is not gone: delete it first"):
        choose(LIVING, [], unmarked=True)


def test_what_was_marked_goes_even_where_nobody_knows_whether_the_claim_is_gone() -> None:
    unserved = replace(GONE, claimed=None)
    assert choose(unserved, []) == choose(GONE, [])
    assert tell(unserved, [DATABASE], NOW)[0] == (
        "To be deleted, of claim claims/s-jane, of which nobody can say whether it is gone: "
        "the API server does not serve datalabs.pkg.internal:"
    )


def test_what_was_not_marked_stays_where_nobody_knows_whether_the_claim_is_gone() -> None:
    session = obj("WorkshopSession", "s-jane-main", namespace="", retained=False)
    with pytest.raises(Refused) as refused:
        choose(replace(GONE, claimed=None, sessions=(session,)), [], unmarked=True)
    assert str(refused.value) == (
        "WorkshopSession s-jane-main: not retained by a deletion of the claim, and nobody can say whether claim "
        "claims/s-jane is gone, as the API server does not serve datalabs.pkg.internal; "
        "install the CustomResourceDefinitions first"
    )


def test_objects_that_are_not_there_are_ignored_where_that_is_asked_for() -> None:
    assert choose(GONE, ["Secret/x", "PostgresCluster/pg0"], ignore_not_found=True) == [DATABASE]
    assert choose(GONE, ["Secret/x"], ignore_not_found=True) == []
    for text in ("WorkshopEnvironment/s-jane", "PersistentVolumeClaim/s-jane-main-persistent"):
        kept = replace(LIVING, runtime=(ENVIRONMENT,))
        with pytest.raises(Refused):
            choose(kept, [text], ignore_not_found=True)


def test_nothing_is_chosen_where_nothing_is() -> None:
    assert choose(Kept(LAB, claimed=False), []) == []
    assert choose(Kept(LAB, claimed=True), []) == []


@pytest.mark.parametrize("text", ["PostgresCluster/pg0", "postgrescluster/pg0", "postgresclusters/pg0"])
def test_one_object_by_name(text: str) -> None:
    assert choose(LIVING, [text, text]) == [DATABASE]
    assert choose(GONE, [text]) == [DATABASE]


@pytest.mark.parametrize(
    ("kept", "objects", "message"),
    [
        pytest.param(
            LIVING,
            [],
            "the claim claims/s-jane is not gone: delete it first, "
            "or name with --object what it declares no more: PostgresCluster/pg0",
            id="a living lab",
        ),
        pytest.param(
            LIVING,
            ["persistentvolumeclaim/s-jane-main-persistent"],
            "PersistentVolumeClaim s-jane/s-jane-main-persistent is not retained: the claim claims/s-jane declares it",
            id="declared",
        ),
        pytest.param(
            GONE,
            ["PostgresCluster/pg1"],
            "PostgresCluster/pg1 is not among what is retained of lab claims/s-jane: "
            "PostgresCluster/pg0, PersistentVolumeClaim/s-jane-main-persistent, Secret/m-mongodb-auth",
            id="unknown",
        ),
        pytest.param(
            GONE,
            ["WorkshopEnvironment/s-jane"],
            "WorkshopEnvironment/s-jane is not among what is retained of lab claims/s-jane: "
            "PostgresCluster/pg0, PersistentVolumeClaim/s-jane-main-persistent, Secret/m-mongodb-auth",
            id="the environment alone would take all along",
        ),
        pytest.param(
            Kept(LAB, claimed=False, durable=(HOME, home("other", retained=False))),
            [],
            "PersistentVolumeClaim s-jane/s-jane-other-persistent: not retained by a deletion of the claim, which went "
            "without datalabd; pass --unmarked if all of it is to go too",
            id="a claim that went without us",
        ),
    ],
)
def test_refused(kept: Kept, objects: list[str], message: str) -> None:
    with pytest.raises(Refused) as refused:
        choose(kept, objects)
    assert str(refused.value) == message


def test_the_list() -> None:
    grown = home("main", status={"capacity": {"storage": "2Gi"}})
    made = {"resources": {"requests": {"storage": "5Gi"}}}
    others = obj("PersistentVolumeClaim", "data-volume-mongodb-m-0", retained=False, spec=made)
    kept = Kept(
        LAB,
        claimed=False,
        durable=(DATABASE, grown),
        runtime=(ENVIRONMENT,),
        others=(others,),
        volumes={grown["metadata"]["uid"]: volume("pv-main", "Retain", "datalabd")},
    )
    assert tell(kept, choose(kept, []), NOW) == [
        "To be deleted, of claim claims/s-jane, which is gone:",
        "",
        "KIND                   NAME                            SIZE  AGE  STORAGE",
        "PostgresCluster        s-jane/pg0                      -     2d   -",
        "PersistentVolumeClaim  s-jane/s-jane-main-persistent   2Gi   2d   pv-main: freed",
        "WorkshopEnvironment    s-jane                          -     2d   -",
        "PersistentVolumeClaim  s-jane/data-volume-mongodb-m-0  5Gi   2d   -",
        "",
        "With the WorkshopEnvironment goes namespace s-jane, and all that is in it.",
    ]


def test_the_list_of_one_object_says_nothing_of_the_rest() -> None:
    kept = Kept(LAB, claimed=True, durable=LIVING.durable, others=(home("other", retained=False),))
    assert tell(kept, [DATABASE], NOW)[0] == "To be deleted, of claim claims/s-jane:"
    assert tell(kept, [DATABASE], NOW)[3:] == ["PostgresCluster  s-jane/pg0  -     2d   -"]


@pytest.mark.parametrize(
    ("created", "age"),
    [
        ("2026-03-10T11:59:18Z", "42s"),
        ("2026-03-10T11:58:59Z", "1m"),
        ("2026-03-09T12:00:01Z", "23h"),
        ("2026-03-09T12:00:00Z", "1d"),
        ("2026-03-10T12:00:09Z", "0s"),
    ],
)
def test_ages(created: str, age: str) -> None:
    young = obj("PostgresCluster", "pg0") | {"metadata": DATABASE["metadata"] | {"creationTimestamp": created}}
    assert tell(LIVING, [young], NOW)[3].split()[3] == age


@pytest.mark.parametrize(
    ("policy", "managers", "storage"),
    [
        pytest.param("Retain", ["datalabd"], "pv: freed", id="secured by us"),
        pytest.param("Retain", ["provisioner"], "pv: stays, by its reclaim policy Retain", id="by its class"),
        pytest.param("Delete", ["datalabd"], "pv: freed", id="purged before"),
    ],
)
def test_what_becomes_of_a_volume(policy: str, managers: list[str], storage: str) -> None:
    found = volume("pv", policy, *managers)
    kept = Kept(LAB, claimed=False, durable=(HOME,), volumes={HOME["metadata"]["uid"]: found})
    assert tell(kept, [HOME], NOW)[3].endswith(storage)
    assert secured_by_us(found) == (policy == "Retain" and "datalabd" in managers)


@pytest.mark.parametrize("text", ["", "s-jane", "/s-jane", "claims/", "claims/s-jane/x"])
def test_what_is_no_name_of_a_lab(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert purge.run(text, [], agreed=True, kubeconfig="/nowhere") == 2
    assert capsys.readouterr().err == f"datalabd: {text} is not NAMESPACE/NAME of a claim\n"


def test_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert purge.run("claims/s-jane", [], agreed=True, kubeconfig=str(tmp_path / "nowhere")) == 1
    assert "no way to an API server" in capsys.readouterr().err
