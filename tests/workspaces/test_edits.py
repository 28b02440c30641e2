"""An edit is decided as a whole: either all of it can be, or nothing is written."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Role, State
from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import BucketPatch, GrantPut, RequestPut, SessionCreate, WorkspaceEdit
from tests.odd import JSON, examples
from tests.workspaces.objects import NOW, TODAY, applied, datalab, request, storage
from workspaces import buckets, edits, grants, members, sessions, stores
from workspaces.patches import Draft, same
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


OTHERS = Sharing([storage("ws-b", bucketAccessRequests=[request("ws-a")])])
SINGLE: list[Callable[[Draft], object]] = [
    lambda draft: members.change(draft, "alice", Role.ADMIN, NOW),
    lambda draft: members.remove(draft, "s-joe", NOW),
    lambda draft: members.hand_over(draft, "s-joe", NOW),
    lambda draft: buckets.change(draft, "s-joe", BucketPatch(discoverable=True, lifecycle_rules=[])),
    lambda draft: buckets.remove(draft, "s-joe", revoke=True),
    lambda draft: grants.request(draft, "ws-b", RequestPut(reason="x"), OTHERS, NOW),
    lambda draft: grants.withdraw(draft, "s-joe"),
    lambda draft: grants.grant(draft, "s-joe", "ws-b", GrantPut.model_validate({"permission": "None"}), OTHERS, NOW),
    lambda draft: grants.end(draft, "s-joe", "s-joe", OTHERS),
    lambda draft: grants.end_due(draft, NOW),
    lambda draft: stores.remove(draft, StoreType.CACHE, "name"),
    lambda draft: stores.ask(draft, StoreType.DATABASE, "s-joe", "rotate", "n"),
    lambda draft: sessions.create(draft, SessionCreate(name="s-joe"), 3),
    lambda draft: sessions.change(draft, "s-joe", State.STOPPED),
    lambda draft: sessions.remove(draft, "s-joe"),
]
FIELD = st.sampled_from(
    [
        "buckets",
        "bucketAccessRequests",
        "bucketAccessGrants",
        "principal",
        "users",
        "userOverrides",
        "sessions",
        "databases",
        "cacheStores",
    ]
)
SPEC = st.dictionaries(
    FIELD, JSON | st.lists(JSON | st.fixed_dictionaries({"bucketName": st.just("s-joe")}, optional={"name": JSON}))
)


@examples
@given(act=st.sampled_from(SINGLE), kept=SPEC, lab=SPEC)
def test_an_odd_object_is_edited_or_refused(act: Callable[[Draft], object], kept: Any, lab: Any) -> None:
    """Never anything else: no other error, and no patch that does not fit."""
    live, claim = storage() | {"spec": kept}, datalab() | {"spec": lab}
    draft = Draft(live, claim)
    try:
        act(draft)
    except Problem:
        return
    assert same(applied(draft.storage_patch, live), draft.storage)
    assert same(applied(draft.datalab_patch, claim), draft.datalab)


@examples
@given(kept=SPEC, lab=SPEC)
def test_the_whole_edit_of_an_odd_object(kept: Any, lab: Any) -> None:
    live, claim = storage() | {"spec": kept}, datalab() | {"spec": lab}
    try:
        draft = edits.apply(WorkspaceEdit.model_validate(EVERYTHING), live, claim, OTHERS, OFFER, NOW)
    except Problem:
        return
    assert same(applied(draft.storage_patch, live), draft.storage)
    assert same(applied(draft.datalab_patch, claim), draft.datalab)
