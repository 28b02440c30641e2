"""A workspace as its viewer may see it (WS 4.4; 6.52 to 6.58)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import Manifest
from datalabd.api.storage import GRANT_EXPIRY
from datalabd.api.workspace import AllCredentials, StoreType, Workspace, WorkspaceRow
from tests.odd import JSON, examples
from tests.workspaces.objects import BEFORE, KEYS, SETTINGS, TODAY, datalab, request, secret, storage
from workspaces import reads
from workspaces.permissions import CAPS, EVERYTHING, NOTHING, ROLE_PERMISSIONS, Permission, Permissions, Role
from workspaces.reads import Pieces
from workspaces.sharing import Sharing
from workspaces.stores import Offer

OFFER = Offer(True, tuple(StoreType))
LAB_KEYS = {
    "REDIS_C_HOST": "h",
    "CONTAINER_REGISTRY_USERNAME": "u",
    "CONTAINER_REGISTRY_PASSWORD": "p",
}


def pieces(live: Manifest | None = None, lab: Manifest | None = None, *secrets: Manifest, **more: Any) -> Pieces:
    known = {found["metadata"]["name"]: found for found in secrets}
    return Pieces(storage() if live is None else live, lab, known.get, **more)


FULL = pieces(
    storage(),
    datalab(sessions=["default"], cacheStores={"c": {"storage": "1Gi"}}),
    secret("ws-a-datalab", **KEYS | LAB_KEYS),
    quotas=[],
    volumes=[],
)
OTHER = storage("ws-b", bucketAccessRequests=[request("ws-a")])


def view(found: Pieces, allowed: Permissions = EVERYTHING, *others: Manifest, offer: Offer = OFFER) -> dict[str, Any]:
    return reads.view(found, Sharing([found.storage, *others]), offer, SETTINGS, allowed, "alice")


CREDENTIALS = {
    "bucketname": "ws-a",
    "access": "AK",
    "secret": "SK",
    "endpoint": "https://s3.example",
    "region": "us-east-1",
}
WHOLE = {
    "name": "ws-a",
    "creation_timestamp": BEFORE,
    "version": "7",
    "status": "ready",
    "storage": {
        "buckets": [{"name": "ws-a", "discoverable": True, "lifecycle_rules": []}],
        "credentials": CREDENTIALS,
        "bucket_access_requests": [
            {"workspace": "ws-b", "bucket": "ws-a", "permission": "ReadWrite", "request_timestamp": BEFORE},
            {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite"},
        ],
    },
    "datalab": {
        "memberships": [{"member": "alice", "role": "owner", "creation_timestamp": BEFORE}],
        "available": True,
        "available_store_types": ["database", "vector", "cache", "document"],
        "stores": [{"name": "c", "type": "cache", "storage": "1Gi", "creation_timestamp": BEFORE}],
        "sessions": [{"name": "default", "state": "started", "ready": False}],
        "max_sessions": 3,
        "store_credentials": {"cache": {"c": {"host": "h"}}},
        "container_registry_credentials": {"username": "u", "password": "**********"},
    },
    "resource_usage": {"storage": {"requested": "0", "persistent_volume_claims": []}},
    "user": {"name": "alice", "permissions": sorted(Permission)},
}


def test_everything_of_a_workspace() -> None:
    found = view(FULL, EVERYTHING, OTHER)
    assert found == WHOLE
    assert Workspace.model_validate(found).storage.buckets[0].name == "ws-a"


def test_a_stream_has_no_credentials() -> None:
    found = reads.view(FULL, Sharing([FULL.storage]), OFFER, SETTINGS, EVERYTHING, "alice", credentials=False)
    assert "credentials" not in found["storage"]
    assert found["datalab"]["store_credentials"] == {}
    assert "container_registry_credentials" not in found["datalab"]
    assert found["datalab"]["max_sessions"] == 3


def test_a_machine_sees_credentials_and_nothing_else() -> None:
    """WS 6.52."""
    assert view(FULL, ROLE_PERMISSIONS[Role.API], OTHER) == {
        "name": "ws-a",
        "creation_timestamp": BEFORE,
        "version": "7",
        "status": "ready",
        "storage": {"buckets": [], "credentials": CREDENTIALS, "bucket_access_requests": []},
        "datalab": {
            "memberships": [],
            "available": True,
            "available_store_types": ["database", "vector", "cache", "document"],
            "stores": [],
            "sessions": [],
            "max_sessions": 3,
            "store_credentials": {},
        },
        "user": {"name": "alice", "permissions": ["VIEW_BUCKET_CREDENTIALS"]},
    }


def test_who_may_not_see_credentials_still_sees_that_there_are_some() -> None:
    found = view(FULL, EVERYTHING - {Permission.VIEW_BUCKET_CREDENTIALS})
    assert ("credentials" in found["storage"], found["status"]) == (False, "ready")


def test_a_workspace_without_anything_else() -> None:
    bare = {"metadata": {"name": "ws-a"}, "spec": {}}
    found = reads.view(pieces(bare), Sharing(), Offer(False), SETTINGS, EVERYTHING, "x")
    assert (found["status"], found["version"], found["datalab"]["available"]) == ("provisioning", "", False)
    assert "creation_timestamp" not in found
    assert "resource_usage" not in found
    assert "container_registry_credentials" not in found["datalab"]


@pytest.mark.parametrize(("ready", "status"), [("True", "ready"), ("False", "provisioning"), ("Unknown", "ready")])
def test_a_storage_that_is_not_ready_is_provisioning(ready: str, status: str) -> None:
    live = storage() | {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
    assert view(pieces(live, None, secret("ws-a", **KEYS)))["status"] == status


def _conditions(live: Manifest, *known: tuple[str, str, str]) -> Manifest:
    conditions = [{"type": kind, "status": status, "message": message} for kind, status, message in known]
    return live | {"status": {"conditions": conditions}}


STORAGE_WAITS = _conditions(storage(), ("Ready", "False", "bucket ws-a is being made"))
LAB_WAITS = _conditions(datalab(), ("Ready", "False", "no rights"), ("Synced", "False", "no rights"))


@pytest.mark.parametrize(
    ("live", "lab", "allowed", "expected"),
    [
        (STORAGE_WAITS, LAB_WAITS, EVERYTHING, {"message": "bucket ws-a is being made"}),
        (STORAGE_WAITS, LAB_WAITS, EVERYTHING - {Permission.VIEW_BUCKETS}, {"message": "no rights"}),
        (storage(), LAB_WAITS, EVERYTHING, {"message": "no rights"}),
        (storage(), LAB_WAITS, ROLE_PERMISSIONS[Role.API], {}),
        (_conditions(storage(), ("Ready", "True", "all there")), datalab(), EVERYTHING, {}),
        (storage(), None, EVERYTHING, {}),
    ],
)
def test_what_a_workspace_waits_for_is_told_to_whom_it_concerns(
    live: Manifest, lab: Manifest | None, allowed: Permissions, expected: dict[str, str]
) -> None:
    found = pieces(live, lab)
    row = reads.row("ws-a", reads.overview(found, Sharing([live]), SETTINGS), allowed, "https://api.example")
    for one in (view(found, allowed), row):
        assert {member: value for member, value in one.items() if member == "message"} == expected


def test_what_cannot_be_read_of_usage_leaves_it_out() -> None:
    """WS 6.54."""
    halves: list[dict[str, Any]] = [{"quotas": []}, {"volumes": []}]
    for more in halves:
        assert "resource_usage" not in view(pieces(None, None, **more))


def test_who_waits_for_credentials_that_cannot_be_read_is_told() -> None:
    found = pieces(storage(), datalab(), problem="It is so")
    told = view(found)
    assert (told["status"], told["problem"], "credentials" in told["storage"]) == ("provisioning", "It is so", False)
    overview = reads.overview(found, Sharing([found.storage]), SETTINGS)
    row = reads.row("ws-a", overview, EVERYTHING, "https://api.example", found.problem)
    assert (row["status"], row["problem"]) == ("provisioning", "It is so")
    assert (Workspace(**told).problem, WorkspaceRow(**row).problem) == ("It is so", "It is so")


def test_all_credentials_are_in_clear() -> None:
    found = reads.all_credentials(FULL, Sharing([storage()]), OFFER, SETTINGS, EVERYTHING)
    assert found == {
        "storage": CREDENTIALS,
        "store_credentials": {"cache": {"c": {"host": "h"}}},
        "container_registry_credentials": {"username": "u", "password": "p"},
    }
    AllCredentials.model_validate(found)
    machine = reads.all_credentials(FULL, Sharing([storage()]), OFFER, SETTINGS, ROLE_PERMISSIONS[Role.API])
    assert machine == {"storage": CREDENTIALS}
    nothing = reads.all_credentials(pieces(), Sharing([storage()]), OFFER, SETTINGS, EVERYTHING)
    assert nothing == {"store_credentials": {}}


def test_a_row_of_the_list() -> None:
    """WS 6.55, 6.58: `sessions` are those started."""
    lab = datalab(sessions=["default", {"name": "off", "state": "stopped"}])
    found = pieces(storage(), lab, secret("ws-a", **KEYS))
    sharing = Sharing([storage(), OTHER])
    overview = reads.overview(found, sharing, SETTINGS)
    assert reads.row("ws-a", overview, EVERYTHING, "https://host/x") == {
        "name": "ws-a",
        "url": "https://host/x/workspaces/ws-a",
        "sessions": [{"name": "default", "url": "https://host/x/workspaces/ws-a/sessions/default", "ready": False}],
        "stopped": [{"name": "off", "url": "https://host/x/workspaces/ws-a/sessions/off"}],
        "status": "ready",
        "members": 1,
        "pending": 1,
    }
    without = reads.overview(pieces(storage(), lab), sharing, SETTINGS)
    machine = reads.row("ws-a", without, ROLE_PERMISSIONS[Role.API], "")
    assert machine == {"name": "ws-a", "url": "/workspaces/ws-a", "sessions": [], "status": "provisioning"}
    WorkspaceRow.model_validate(machine)


def test_an_etag_is_of_what_can_be_written() -> None:
    one = reads.etag(storage(), datalab())
    assert one[0] == one[-1] == '"'
    status: Manifest = {"status": {"conditions": []}}
    assert reads.etag(storage() | status, datalab() | status) == one
    changed = [
        (storage("ws-b"), datalab()),
        (storage(annotations={GRANT_EXPIRY: "{}"}), datalab()),
        (storage(), datalab(annotations={CAPS: "{}"})),
        (storage(), None),
        (storage() | {"metadata": storage()["metadata"] | {"generation": 3}}, datalab()),
    ]
    assert len({reads.etag(*objects) for objects in changed} | {one}) == 6
    assert reads.etag(storage(annotations={"kubectl/last-applied": "x"}), datalab()) == one


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        (storage(), storage(), set()),
        (None, storage(), {"buckets", "status"}),
        (storage(), storage(buckets=[]), {"buckets"}),
        (storage(), storage(bucketAccessGrants=[]), {"requests"}),
        (storage(), storage(annotations={GRANT_EXPIRY: "{}"}), {"requests"}),
        (storage(), storage() | {"status": {"conditions": [1]}}, {"status"}),
        (datalab(), datalab(annotations={CAPS: "{}"}), {"members"}),
        (datalab(), datalab(sessions=[], cacheStores={}, users=[]), {"sessions", "stores", "members"}),
        (datalab(), datalab() | {"status": {"sessions": {"s": {}}, "observedGeneration": 5}}, {"sessions"}),
        (datalab(), datalab() | {"status": {"users": {"s": {}}}}, {"members"}),
        (datalab(), datalab() | {"status": {"credentials": {"redis/c": {}}}}, {"stores"}),
        (datalab(), datalab() | {"status": {"databases": {"pg0": {}}}}, {"stores"}),
        (storage(annotations={"other": "x"}), storage(), set()),
    ],
)
def test_parts_that_changed(before: Any, after: Any, parts: set[str]) -> None:
    assert reads.changed(before, after) == parts


ODD = st.dictionaries(st.sampled_from(["metadata", "spec", "status", "data"]), JSON)


@examples
@given(
    live=ODD,
    lab=st.none() | ODD,
    kept=ODD,
    others=st.lists(ODD, max_size=3),
    allowed=st.sampled_from([EVERYTHING, NOTHING]),
)
def test_nothing_that_is_odd_spoils_a_read(
    live: Manifest, lab: Manifest | None, kept: Manifest, others: list[Manifest], allowed: Permissions
) -> None:
    sharing = Sharing([live, *others, OTHER])
    found = Pieces(live, lab, lambda name: kept, quotas=[kept], volumes=[kept])
    Workspace.model_validate(reads.view(found, sharing, OFFER, SETTINGS, allowed, "x"))
    WorkspaceRow.model_validate(reads.row("ws-a", reads.overview(found, sharing, SETTINGS), allowed, ""))
    AllCredentials.model_validate(reads.all_credentials(found, sharing, OFFER, SETTINGS, allowed))
    reads.etag(live, lab)
    reads.changed(live, lab)


def test_an_odd_user_spoils_nothing() -> None:
    lab = datalab(users=["alice", "Bad\x00Name", " ", 7, {"a": 1}], userOverrides=[1])
    assert [row["member"] for row in view(pieces(None, lab))["datalab"]["memberships"]] == ["alice", "Bad\x00Name"]


def test_limits_of_sessions_are_told() -> None:
    found = reads.view(FULL, Sharing(), OFFER, replace(SETTINGS, max_sessions=5), EVERYTHING, "x")
    assert found["datalab"]["max_sessions"] == 5
    assert TODAY not in str(found)


def test_conditions_that_do_not_say_what_they_should_come_with_since_when() -> None:
    since = {"lastTransitionTime": "2026-01-02T03:04:05Z"}
    live = storage() | {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Creating"} | since]}}
    conditions = [
        {"type": "Synced", "status": "True", "reason": "ReconcileSuccess"},
        {"type": "StorageReady", "status": "Unknown", "reason": "StorageSecret", "message": "no Secret ws-a"},
        {"type": "StoresReady", "status": "False", "reason": "Disabled"},
        {"type": "Stalled", "status": "True", "reason": "StorageSecret", "message": "no Secret ws-a"},
        {"type": "HostsTaken", "status": "True", "reason": "Taken", "message": "by another"},
        {"type": "EnvironmentLost", "status": "False", "reason": "Found"},
    ]
    lab = datalab() | {"status": {"conditions": conditions}}
    waits = {"object": "Storage", "type": "Ready", "reason": "Creating", "message": "", "stalled": False}
    stalled = {"object": "Datalab", "stalled": True}
    assert reads.conditions(live, lab) == [
        stalled | {"type": "StorageReady", "reason": "StorageSecret", "message": "no Secret ws-a"},
        stalled | {"type": "HostsTaken", "reason": "Taken", "message": "by another"},
        waits | {"since": "2026-01-02T03:04:05Z"},
    ]
    shown = reads.view(pieces(live, lab), Sharing([live]), OFFER, SETTINGS, EVERYTHING, "alice")
    assert [row.reason for row in Workspace.model_validate(shown).conditions] == ["StorageSecret", "Taken", "Creating"]
    machine = reads.view(pieces(live, lab), Sharing([live]), OFFER, SETTINGS, ROLE_PERMISSIONS[Role.API], "robot")
    assert "conditions" not in machine
