"""An edit is decided as a whole: either all of it can be, or nothing is written."""

from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import WorkspaceEdit
from tests.workspaces.objects import NOW, TODAY, applied, datalab, request, storage
from workspaces import edits
from workspaces.patches import Draft
from workspaces.problems import Problem
from workspaces.sharing import Sharing
from workspaces.stores import Offer

OFFER = Offer(True, tuple(StoreType))


def edit(
    said: dict[str, Any], lab: Manifest | None = None, offer: Offer = OFFER, others: tuple[Manifest, ...] = ()
) -> Draft:
    return edits.apply(WorkspaceEdit.model_validate(said), storage(), lab, Sharing([storage(), *others]), offer, NOW)


def refused(act: Any) -> tuple[int, Any]:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value.status, caught.value.detail


EVERYTHING = {
    "add_memberships": [{"member": "carol", "role": "user", "creation_timestamp": TODAY}],
    "add_stores": [{"name": "dev", "type": "database", "storage": "5Gi", "backup_storage": "20Gi"}],
    "add_buckets": [{"name": "ws-a-data", "discoverable": True}],
    "patch_bucket_access_requests": [
        {"workspace": "ws-b", "bucket": "ws-a", "permission": "ReadOnly"}
        | {"request_timestamp": TODAY, "grant_timestamp": TODAY}
    ],
}


def test_both_objects_are_edited() -> None:
    found = edit(EVERYTHING, datalab(), others=(storage("ws-b", bucketAccessRequests=[request("ws-a")]),))
    assert applied(found.storage_patch, storage())["spec"] == {
        "principal": "ws-a",
        "buckets": [{"bucketName": "ws-a", "discoverable": True}, {"bucketName": "ws-a-data", "discoverable": True}],
        "bucketAccessGrants": [
            {
                "bucketName": "ws-a",
                "grantee": "ws-b",
                "permission": "ReadOnly",
                "grantedAt": "2026-05-05T20:00:00+00:00",
            }
        ],
    }
    assert applied(found.datalab_patch, datalab())["spec"] == {
        "users": ["alice", "carol"],
        "userOverrides": {"carol": {"role": "user", "grantedAt": "2026-05-05T20:00:00+00:00"}},
        "databases": {"pg0": {"names": ["dev"], "storage": "5Gi", "backupStorage": "20Gi"}},
    }


def test_an_empty_edit_writes_nothing() -> None:
    found = edit({}, datalab())
    assert (found.storage_patch, found.datalab_patch) == ([], [])


def test_an_edit_of_the_storage_needs_no_datalab() -> None:
    found = edit({"add_buckets": EVERYTHING["add_buckets"]}, offer=Offer(False))
    assert (bool(found.storage_patch), found.datalab_patch) == (True, [])


@pytest.mark.parametrize("part", ["add_memberships", "add_stores"])
def test_members_and_stores_need_a_datalab(part: str) -> None:
    said = {part: EVERYTHING[part]}
    assert refused(lambda: edit(said, offer=Offer(False))) == (
        503,
        {
            "error": "provider_datalab_not_installed",
            "message": "Provider Datalab is not installed for this cluster.",
        },
    )
    assert refused(lambda: edit(said)) == (404, "Not Found")


def test_a_part_that_cannot_be_refuses_the_whole() -> None:
    found = refused(lambda: edit(EVERYTHING, datalab(), Offer(True, (StoreType.CACHE,))))
    assert found == (422, {"error": "store_type_unavailable", "store_types": ["database"]})


def test_changes_of_others_in_between_are_not_touched() -> None:
    """What another member, bucket or session became meanwhile survives the edit that is decided anew."""
    said = {"add_memberships": [{"member": "dan"}]}
    now = datalab(users=["alice", "bob"], sessions=["x"])
    found = edit(said, now)
    assert {one["path"] for one in found.datalab_patch} == {
        "/metadata/uid",
        "/metadata/resourceVersion",
        "/spec/users/-",
        "/spec/userOverrides",
    }
