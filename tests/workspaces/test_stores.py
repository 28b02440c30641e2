"""Stores: which kinds can be had, and how single ones come, are cared for and go (WS 6.7 to 6.16)."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.meta import BACKUP, RESTORE, ROTATE
from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import NewStore
from datalabd.plan import plan
from datalabd.status import status
from tests.factories import claim, fresh, lab, running
from tests.workspaces.objects import BEFORE, NOW, SETTINGS, changes, datalab, storage
from workspaces import stores
from workspaces.patches import Draft
from workspaces.problems import Problem
from workspaces.stores import KINDS, Offer, offer

ALL = tuple(StoreType)
CRDS = {kind.crd for kind in KINDS.values()} | {"datalabs.pkg.internal"}
FIELDS = {kind.field for kind in KINDS.values()}
SIZE = {"storage": "5Gi"}


def new(name: str, kind: StoreType = StoreType.DATABASE, **sizes: str) -> NewStore:
    return NewStore.model_validate({"name": name, "type": kind} | sizes)


def draft(**spec: Any) -> Draft:
    return Draft(storage(), datalab(**spec))


def lab_spec(found: Draft) -> dict[str, Any]:
    assert found.datalab is not None
    return {name: said for name, said in found.datalab["spec"].items() if name != "users"}


def annotation(found: Draft, name: str) -> str:
    assert found.datalab is not None
    return str(found.datalab["metadata"]["annotations"][name])


def refused(act: Any) -> tuple[int, Any]:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value.status, caught.value.detail


def test_kinds_are_fields_of_a_datalab() -> None:
    """WS 6.7, 6.11."""
    assert {str(kind): (what.field, what.size) for kind, what in KINDS.items()} == {
        "database": ("databases", "1Gi"),
        "vector": ("vectorStores", "1Gi"),
        "cache": ("cacheStores", "1Gi"),
        "document": ("documentStores", "10Gi"),
    }


def test_what_can_be_had() -> None:
    """WS 6.8 to 6.10."""
    assert offer(True, CRDS, FIELDS, SETTINGS) == Offer(True, ALL)
    assert offer(True, CRDS - {"qdrantclusters.qdrant.io"}, FIELDS - {"cacheStores"}, SETTINGS) == Offer(
        True, (StoreType.DATABASE, StoreType.DOCUMENT)
    )
    assert offer(True, CRDS, FIELDS, replace(SETTINGS, disable_stores=True)) == Offer(True)
    disabled = replace(SETTINGS, disabled_types=frozenset({StoreType.DATABASE}))
    assert offer(True, CRDS, FIELDS, disabled).types == ALL[1:]
    assert offer(False, CRDS, FIELDS, SETTINGS) == Offer(False)


def test_stores_are_told_by_kind() -> None:
    """WS 6.12; a database that an earlier server has too is told once."""
    live = datalab(
        databases={
            "pg0": {"names": ["dev", 5, "prod"], "storage": " 1Gi ", "backupStorage": "10Gi"},
            "pg1": {"names": ["dev"]},
        },
        cacheStores={"c": {"storage": "1Gi"}, "odd": None},
    )
    since = {"creation_timestamp": BEFORE}
    sizes = {"storage": "1Gi", "backup_storage": "10Gi"}
    assert stores.rows(live, ALL, None) == [
        {"name": "dev", "type": "database", "server": "pg0"} | sizes | since,
        {"name": "prod", "type": "database", "server": "pg0"} | sizes | since,
        {"name": "c", "type": "cache", "storage": "1Gi"} | since,
        {"name": "odd", "type": "cache"} | since,
    ]
    assert stores.rows(live, (StoreType.VECTOR,), None) == []
    assert stores.rows({"spec": {"vectorStores": {"v": SIZE}}}, ALL, NOW - datetime.timedelta(days=1)) == [
        {"name": "v", "type": "vector", "storage": "5Gi", "creation_timestamp": "2026-05-04T20:00:00Z"}
    ]
    assert stores.rows({"spec": {"vectorStores": {"v": SIZE}}}, ALL, None) == [
        {"name": "v", "type": "vector", "storage": "5Gi"}
    ]


def states(live: Any) -> dict[str, dict[str, Any]]:
    """What is states of each store but its name, kind, size and age."""
    plain = ("name", "type", "storage", "backup_storage", "creation_timestamp", "server")
    return {
        row["name"]: {member: value for member, value in row.items() if member not in plain}
        for row in stores.rows(live, ALL, None)
    }


def test_how_far_is_what_was_asked_of_stores() -> None:
    live = datalab(databases={"pg0": {"names": ["dev"]}, "pg1": {"names": ["x"]}}, cacheStores={"c": SIZE})
    live["status"] = {
        "credentials": {
            "postgres/pg0": {"since": BEFORE, "rotation": "1", "rotating": "2"},
            "redis/c": {"since": BEFORE, "rotation": "1"},
        },
        "databases": {"pg0": {"backup": {"nonce": "1", "state": "Running"}, "restore": {"state": "Failed"}}},
    }
    assert states(live) == {
        "dev": {"credentials_since": BEFORE, "rotating": True, "backup": "Running", "restore": "Failed"},
        "x": {},
        "c": {"credentials_since": BEFORE, "rotated": True},
    }


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ({}, {"a": {"ready": True}, "b": {"ready": True}}),
        ({"b": "no pod"}, {"a": {"ready": True}, "b": {"ready": False, "message": "no pod"}}),
        (
            {"a": "no pod", "b": "x"},
            {
                "a": {"ready": False, "message": "no pod; 1 more not ready"},
                "b": {"message": "cache store a: no pod; 1 more not ready"},
            },
        ),
    ],
)
def test_whether_stores_are_ready(problems: dict[str, str], expected: dict[str, Any]) -> None:
    """By the conditions that datalabd itself writes."""
    here = lab(cacheStores={"a": {"storage": "1Gi"}, "b": {"storage": "1Gi"}})
    observed = running(here)
    facts = {key: replace(known, problem=problems.get(key, "")) for key, known in observed.cache_stores.items()}
    observed = replace(observed, cache_stores=facts)
    found = status(claim(), here, observed, plan(here, observed, fresh()), [], None, NOW)
    live = datalab(cacheStores={"a": SIZE, "b": SIZE}) | {"status": {"conditions": found["conditions"]}}
    assert states(live) == expected


def test_nobody_knows_of_stores_without_a_condition() -> None:
    odd = [{"type": "StoresReady", "status": "Unknown", "message": ""}]
    for conditions in ([], odd):
        live = datalab(cacheStores={"c": SIZE}) | {"status": {"conditions": conditions}}
        assert states(live) == {"c": {}}


def test_the_first_database_makes_a_server() -> None:
    found = draft()
    stores.add(found, [new("dev", storage="5Gi"), new("prod", storage="7Gi", backup_storage="20Gi")], ALL)
    assert lab_spec(found) == {
        "databases": {"pg0": {"names": ["dev", "prod"], "storage": "5Gi", "backupStorage": "10Gi"}}
    }
    assert found.words[("spec", "databases", "pg0", "names", 1)] == ("add_stores", 1, "name")


def test_further_databases_go_to_the_first_server() -> None:
    server = {"names": ["dev"], "storage": "1Gi", "backupStorage": "2Gi"}
    found = draft(databases={"a": server, "b": {"names": ["other"]}})
    stores.add(found, [new("dev"), new("other"), new("prod", storage="9Gi")], ALL)
    assert changes(found.datalab_patch) == [{"op": "add", "path": "/spec/databases/a/names/-", "value": "prod"}]


def test_other_stores_are_added_with_their_sizes() -> None:
    found = draft(vectorStores={"v": {"storage": "1Gi"}, "odd": None})
    wanted = [
        new("v", StoreType.VECTOR, storage="9Gi"),
        new("odd", StoreType.VECTOR),
        new("c", StoreType.CACHE, storage="2Gi"),
        new("d", StoreType.DOCUMENT),
    ]
    stores.add(found, wanted, ALL)
    assert lab_spec(found) == {
        "vectorStores": {"v": {"storage": "1Gi"}, "odd": {"storage": "1Gi"}},
        "cacheStores": {"c": {"storage": "2Gi"}},
        "documentStores": {"d": {"storage": "10Gi"}},
    }


def test_a_kind_that_cannot_be_had() -> None:
    wanted = [new("c", StoreType.CACHE), new("v", StoreType.VECTOR), new("d")]
    found = refused(lambda: stores.add(draft(), wanted, (StoreType.DATABASE,)))
    assert found == (422, {"error": "store_type_unavailable", "store_types": ["vector", "cache"]})


def test_stores_are_removed() -> None:
    server = {"names": ["dev", "prod"], "storage": "1Gi"}
    found = draft(databases={"pg0": server}, cacheStores={"c": SIZE, "d": SIZE})
    stores.remove(found, StoreType.DATABASE, "dev")
    stores.remove(found, StoreType.CACHE, "c")
    assert lab_spec(found) == {
        "databases": {"pg0": {"names": ["prod"], "storage": "1Gi"}},
        "cacheStores": {"d": SIZE},
    }
    stores.remove(found, StoreType.DATABASE, "prod")
    assert lab_spec(found)["databases"] == {}


def test_a_store_that_is_not_there() -> None:
    for kind in (StoreType.DATABASE, StoreType.CACHE):
        expected = (404, {"error": "store_not_found", "type": str(kind), "name": "pg0"})
        lab = draft(databases={"pg0": {"names": ["dev"]}})
        assert refused(lambda kind=kind, lab=lab: stores.remove(lab, kind, "pg0")) == expected
        assert refused(lambda kind=kind, lab=lab: stores.ask(lab, kind, "pg0", "rotate", "n")) == expected
    assert refused(lambda: stores.remove(Draft(storage(), None), StoreType.CACHE, "c")) == (404, "Not Found")


@pytest.mark.parametrize(
    ("kind", "name", "action", "expected"),
    [
        (StoreType.DATABASE, "dev", "rotate", {ROTATE: "postgres/pg0/n1"}),
        (StoreType.VECTOR, "v", "rotate", {ROTATE: "qdrant/v/n1"}),
        (StoreType.CACHE, "c", "rotate", {ROTATE: "redis/c/n1"}),
        (StoreType.DOCUMENT, "d", "rotate", {ROTATE: "mongodb/d/n1"}),
        (StoreType.DATABASE, "dev", "backup", {BACKUP: "pg0/n1"}),
        (StoreType.DATABASE, "dev", "restore", {RESTORE: "pg0/n1"}),
    ],
)
def test_what_is_asked_of_a_store(kind: StoreType, name: str, action: str, expected: dict[str, str]) -> None:
    found = draft(
        databases={"pg0": {"names": ["dev"]}},
        vectorStores={"v": SIZE},
        cacheStores={"c": SIZE},
        documentStores={"d": SIZE},
    )
    stores.ask(found, kind, name, action, "n1")
    assert found.datalab is not None
    assert found.datalab["metadata"]["annotations"] == expected


def test_what_was_asked_of_others_stays() -> None:
    before = {ROTATE: "postgres/pg0/old, redis/c/x", RESTORE: "pg0=pg1/old,pg2/x"}
    found = Draft(storage(), datalab(annotations=before, databases={"pg0": {"names": ["dev"]}}))
    stores.ask(found, StoreType.DATABASE, "dev", "rotate", "n1")
    stores.ask(found, StoreType.DATABASE, "dev", "restore", "n1", NOW)
    assert annotation(found, ROTATE) == "redis/c/x,postgres/pg0/n1"
    assert annotation(found, RESTORE) == "pg2/x,pg0/n1@2026-05-05T20:00:00Z"


def test_the_oldest_leave_where_there_is_no_room() -> None:
    before = {BACKUP: ",".join(f"h{number:02}/{'x' * 60}" for number in range(31))}
    found = Draft(storage(), datalab(annotations=before, databases={"pg0": {"names": ["dev"]}}))
    stores.ask(found, StoreType.DATABASE, "dev", "backup", "n" * 60)
    asked = annotation(found, BACKUP).split(",")
    assert (asked[0], asked[-1]) == (f"h01/{'x' * 60}", f"pg0/{'n' * 60}")


def test_an_odd_annotation_is_replaced() -> None:
    live = datalab(databases={"pg0": {"names": ["dev"]}})
    live["metadata"]["annotations"] = {BACKUP: 5}
    found = Draft(storage(), live)
    stores.ask(found, StoreType.DATABASE, "dev", "backup", "n")
    assert annotation(found, BACKUP) == "pg0/n"


@pytest.mark.parametrize("action", ["backup", "restore"])
def test_only_databases_are_backed_up(action: str) -> None:
    found = refused(lambda: stores.ask(draft(cacheStores={"c": SIZE}), StoreType.CACHE, "c", action, "n"))
    assert (found[0], found[1][0]["loc"]) == (422, ["path", "type"])
