"""How workspaces are named and made (WS 6.25 to 6.30)."""

from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.storage import CREATED_FOR
from datalabd.api.workspace_bodies import WorkspaceCreate
from tests.workspaces.objects import SETTINGS, TODAY, datalab, storage
from workspaces import creation
from workspaces.creation import Creation
from workspaces.problems import Problem
from workspaces.settings import Settings
from workspaces.sharing import Sharing


def create(
    name: str = "a",
    owner: str = "Jane.Doe ",
    *,
    settings: Settings = SETTINGS,
    storages: tuple[Manifest, ...] = (),
    labs: tuple[Manifest, ...] = (),
    served: bool = True,
    volumes: tuple[str, ...] = (),
    adopts: bool = False,
) -> Creation:
    return creation.create(
        WorkspaceCreate(preferred_name=name, default_owner=owner),
        Sharing(storages),
        {obj["metadata"]["name"]: obj for obj in storages}.get,
        {obj["metadata"]["name"]: obj for obj in labs}.get,
        lambda name: volumes if name == creation.name_of("a", settings.prefix, "") else (),
        settings,
        datalab_served=served,
        adopts=adopts,
        random="3F2",
    )


def refused(act: Any) -> tuple[int, Any]:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value.status, caught.value.detail


def test_a_workspace_is_a_storage_and_a_datalab() -> None:
    """WS 6.25, 6.26; the owner is trimmed and lower-cased, and nobody else."""
    found = create("ws A", settings=replace(SETTINGS, environment="custom"))
    assert found == Creation(
        "ws-a",
        "jane.doe",
        {
            "apiVersion": "pkg.internal/v1beta1",
            "kind": "Storage",
            "metadata": {
                "name": "ws-a",
                "namespace": "workspace",
                "labels": {"storages.pkg.internal/discoverable": "true"},
                "annotations": {"storages.pkg.internal/environment": "custom", CREATED_FOR: "jane.doe"},
            },
            "spec": {"principal": "ws-a", "buckets": [{"bucketName": "ws-a", "discoverable": True}]},
        },
        {
            "apiVersion": "pkg.internal/v1beta2",
            "kind": "Datalab",
            "metadata": {
                "name": "ws-a",
                "namespace": "workspace",
                "annotations": {"datalabs.pkg.internal/environment": "custom"},
            },
            "spec": {
                "users": ["jane.doe"],
                "secretName": "ws-a",
                "vcluster": False,
                "sessions": [{"name": "default", "state": "started"}],
                "registry": {"enabled": True},
            },
        },
        False,
    )
    assert found.words[("spec", "users")] == ("default_owner",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"session_mode": "auto"}, {"sessions": [{"name": "default", "state": "stopped"}]}, id="WS 6.27"),
        pytest.param({"session_mode": "off"}, {}, id="WS 6.28"),
        pytest.param({"max_sessions": 0}, {}, id="WS 6.29"),
    ],
)
def test_sessions_of_a_new_workspace(change: dict[str, Any], expected: dict[str, Any]) -> None:
    found = create(settings=replace(SETTINGS, **change)).datalab
    assert found is not None
    assert {name: said for name, said in found["spec"].items() if name == "sessions"} == expected


def test_a_registry_can_be_left_out() -> None:
    """WS 6.30."""
    found = create(owner=" ", settings=replace(SETTINGS, disable_registry=True, use_vcluster=True)).datalab
    assert found is not None
    assert found["spec"] == {
        "users": [],
        "secretName": "a",
        "vcluster": True,
        "sessions": [{"name": "default", "state": "started"}],
    }


def test_without_datalabs_a_storage_is_made_alone() -> None:
    assert create(served=False).datalab is None


@pytest.mark.parametrize(
    ("preferred", "prefix", "expected"),
    [
        ("My Workspace!", "", "my-workspace"),
        ("ws-alice", "ws", "ws-ws-alice"),
        ("Ünïcode  x", "ws", "ws-unicode-x"),
        ("", "ws", "ws-w3f2"),
        ("", "", "w3f2"),
        ("***", "", "w3f2"),
        ("x" * 40, "", "x" * 32),
        (f"{'x' * 31}-y", "", "x" * 31),
        ("x" * 32, "p" * 30, f"{'p' * 30}-{'x' * 32}"),
    ],
)
def test_what_a_workspace_is_called(preferred: str, prefix: str, expected: str) -> None:
    assert creation.name_of(preferred, prefix, "3F2") == expected


GOING = storage("a", annotations={CREATED_FOR: "jane.doe"})
GOING["metadata"]["deletionTimestamp"] = TODAY
EXISTS = (422, {"error": "Workspace with this name already exists"})


@pytest.mark.parametrize(
    "there",
    [
        {"storages": (storage("a"),)},
        {"storages": (storage("a", annotations={CREATED_FOR: "someone.else"}),)},
        {"storages": (storage("a", annotations={CREATED_FOR: "jane.doe"}),), "labs": (datalab("a"),)},
        {"storages": (storage("a", annotations={CREATED_FOR: "jane.doe"}),), "served": False},
        {"labs": (datalab("a"),)},
    ],
)
def test_a_name_that_is_taken(there: dict[str, Any]) -> None:
    assert refused(lambda: create(**there)) == EXISTS


@pytest.mark.parametrize(
    "there",
    [
        {"storages": (GOING,)},
        {"labs": (datalab("a") | {"metadata": datalab("a")["metadata"] | {"deletionTimestamp": TODAY}},)},
    ],
)
def test_a_name_that_is_being_given_up_is_to_be_had_later(there: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        create(**there)
    found = caught.value
    assert (found.status, found.detail, found.headers) == (409, {"error": "being_deleted"}, {"Retry-After": "5"})


def test_a_creation_that_was_interrupted_is_completed() -> None:
    found = create(storages=(storage("a", annotations={CREATED_FOR: "jane.doe"}),))
    assert (found.storage_exists, found.datalab is not None) == (True, True)


def test_a_bucket_of_that_name_is_anothers() -> None:
    other = storage("ws-a", buckets=[{"bucketName": "ws-a-b"}])
    assert refused(lambda: create("ws-a-b", storages=(other,))) == (
        409,
        {"error": "bucket_exists", "bucket": "ws-a-b"},
    )


def test_a_principal_of_that_name_is_anothers() -> None:
    other = storage("legacy", principal="ws-a-b")
    assert refused(lambda: create("ws-a-b", storages=(other,))) == (
        409,
        {"error": "principal_exists", "principal": "ws-a-b"},
    )


def test_what_a_deleted_workspace_left_is_given_to_the_next_of_its_name_only_if_that_is_said() -> None:
    left = ("b-persistent", "a-persistent")
    assert refused(lambda: create(volumes=left)) == (
        409,
        {"error": "data_exists", "volumes": ["a-persistent", "b-persistent"]},
    )
    assert create(volumes=left, adopts=True) == create()
    assert create("b", volumes=left).name == creation.name_of("b", SETTINGS.prefix, "")
    assert create(volumes=left, served=False).datalab is None


@pytest.mark.parametrize("name", ["a-datalab", "A Login", "a-oauth-client"])
def test_a_name_that_secrets_of_another_have(name: str) -> None:
    found = refused(lambda: create(name))
    assert (found[0], found[1][0]["loc"]) == (422, ["body", "preferred_name"])
