"""Bodies: what is not known is ignored, everything else has limits (WS 4.5; 6.1, 6.5, 6.16)."""

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from datalabd.api.workspace import Activity, Wire, stamp
from datalabd.api.workspace_bodies import (
    BucketAccess,
    BucketPatch,
    GrantPut,
    NewBucket,
    NewLifecycleRule,
    NewMembership,
    NewStore,
    RequestPut,
    SessionCreate,
    WorkspaceCreate,
    WorkspaceEdit,
)

AT = "2026-05-05T20:00:00Z"
UTC = datetime.UTC


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (NewLifecycleRule, {"target": "a*b", "min_age": "1d"}),
        (NewLifecycleRule, {"target": "tmp/*", "min_age": "1d", "at": AT}),
        (NewLifecycleRule, {"target": "tmp/*"}),
        (NewLifecycleRule, {"target": "tmp/*", "min_age": "1 day"}),
        (NewLifecycleRule, {"target": "tmp/*", "min_age": "١d"}),
        (NewLifecycleRule, {"target": " ", "min_age": "1d"}),
        (NewLifecycleRule, {"target": "x", "min_age": "1d", "mode": "Burn"}),
        (NewLifecycleRule, {"target": "x", "at": "0001-01-01T00:00:00+05:00"}),
        (NewBucket, {"name": "Bad_Name"}),
        (NewBucket, {"name": "a..b"}),
        (NewBucket, {"name": "abc", "discoverable": None}),
        (NewBucket, {"name": "abc", "discoverable": "perhaps"}),
        (NewBucket, {"name": "abc", "lifecycle_rules": [{"target": "x", "min_age": "1d"}] * 101}),
        (NewMembership, {"member": " "}),
        (NewMembership, {"member": "x" * 256}),
        (NewMembership, {"member": "a\x00b"}),
        (NewMembership, {"member": "a", "role": "boss"}),
        (NewStore, {"name": "s", "type": "file"}),
        (NewStore, {"name": "Bad Name", "type": "vector"}),
        (NewStore, {"name": "1st", "type": "cache"}),
        (NewStore, {"name": "s" * 39, "type": "document"}),
        (NewStore, {"name": "-x", "type": "database"}),
        (NewStore, {"name": "s", "type": "cache", "storage": "lots"}),
        (BucketAccess, {"workspace": "w", "bucket": "b"}),
        (BucketAccess, {"workspace": "w", "bucket": "b", "request_timestamp": AT, "permission": "All"}),
        (RequestPut, {"permission": "None"}),
        (RequestPut, {"reason": "x" * 1001}),
        (GrantPut, {}),
        (SessionCreate, {"name": "-"}),
        (SessionCreate, {"name": "x" * 53}),
        (SessionCreate, {"name": 5}),
        (WorkspaceCreate, {"preferred_name": "x" * 256}),
        (WorkspaceEdit, {"add_memberships": [{"member": str(number)} for number in range(501)]}),
        (WorkspaceEdit, []),
    ],
)
def test_what_is_wrong(model: type[Wire], said: Any) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(said)


def test_a_rule_that_is_right() -> None:
    """WS 6.1."""
    found = NewLifecycleRule.model_validate({"target": "tmp/*", "mode": "Delete", "min_age": "2w"})
    assert (found.target, found.mode, found.min_age, found.at) == ("tmp/*", "Delete", "2w", None)


@pytest.mark.parametrize(
    ("said", "expected"), [(True, True), ("false", False), ("no", False), ("Yes", True), (0, False), ("on", True)]
)
def test_words_for_yes_and_no(said: Any, expected: bool) -> None:
    assert NewBucket.model_validate({"name": "abc", "discoverable": said}).discoverable is expected


def test_what_is_left_out_is_not_an_empty_list() -> None:
    assert NewBucket.model_validate({"name": "abc"}).lifecycle_rules is None
    assert BucketPatch.model_validate({"lifecycle_rules": []}).lifecycle_rules == []


@pytest.mark.parametrize("at", [AT, "2026-05-05T22:00:00+02:00", "2026-05-05T20:00:00"])
def test_times_are_utc(at: str) -> None:
    found = GrantPut.model_validate({"permission": "ReadOnly", "expires": at})
    assert found.expires == datetime.datetime(2026, 5, 5, 20, tzinfo=UTC)


def test_of_twice_the_same_the_first_counts() -> None:
    """WS 6.5, 6.16; of decisions the last."""
    rules = [{"target": "x", "min_age": "1d"}, {"target": "x", "min_age": "2d"}]
    entry = {"workspace": "w", "bucket": "b", "request_timestamp": AT}
    found = WorkspaceEdit.model_validate(
        {
            "add_memberships": [{"member": "a", "role": "admin"}, {"member": " a "}],
            "add_buckets": [{"name": "abc", "lifecycle_rules": rules}, {"name": "abc"}],
            "add_stores": [
                {"name": "s", "type": "cache", "storage": "1Gi"},
                {"name": "s", "type": "cache"},
                {"name": "s", "type": "vector"},
            ],
            "patch_bucket_access_requests": [entry, entry | {"permission": "ReadOnly"}],
            "id": 5,
        }
    )
    assert [(one.member, one.role) for one in found.add_memberships] == [("a", "admin")]
    assert [len(one.lifecycle_rules or []) for one in found.add_buckets] == [1]
    assert [(one.type, one.storage) for one in found.add_stores] == [("cache", "1Gi"), ("vector", None)]
    assert [one.permission for one in found.patch_bucket_access_requests] == ["ReadOnly"]


def test_names_of_sessions_are_lower_cased() -> None:
    assert SessionCreate.model_validate({"name": " Analysis "}).name == "analysis"


def test_nothing_has_to_be_said_of_a_workspace() -> None:
    assert WorkspaceCreate.model_validate({}) == WorkspaceCreate(preferred_name="", default_owner="")


def test_times_keep_their_fraction() -> None:
    assert stamp(datetime.datetime(2026, 5, 5, 20, 0, 0, 250000, tzinfo=UTC)) == "2026-05-05T20:00:00.250000Z"
    assert Activity(time=None, type="Normal", reason="R", message="", object="Storage").count == 1
