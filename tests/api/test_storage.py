"""Storages are read as far as they make sense: what is odd spoils nothing but itself."""

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api import storage
from datalabd.api.storage import (
    GRANT_EXPIRY,
    GRANT_REASONS,
    Bucket,
    Grant,
    LifecycleRule,
    Mode,
    Permission,
    Request,
    Storage,
    is_bucket_name,
    read,
    spoken,
    wanted,
    words,
)
from tests.odd import JSON, examples

AT = "2026-05-05T20:00:00Z"
TIME = datetime.datetime(2026, 5, 5, 20, tzinfo=datetime.UTC)


def test_everything_that_a_storage_says() -> None:
    obj = {
        "metadata": {
            "name": "s-jeff",
            "creationTimestamp": AT,
            "annotations": {
                GRANT_EXPIRY: json.dumps({"s-jeff/s-joe": AT, "s-jeff/s-ann": AT, "s-jeff/s-odd": 7}),
                GRANT_REASONS: json.dumps({"s-jeff/s-joe": "for the course"}),
            },
        },
        "spec": {
            "principal": " s-jeff ",
            "buckets": [
                {
                    "bucketName": "s-jeff",
                    "discoverable": "Yes",
                    "lifecycleRules": [
                        {"target": "tmp/*", "mode": "Delete", "minAge": "+12h"},
                        {"target": "old", "mode": "Notify", "at": AT},
                        {"target": "*", "minAge": "1d"},
                        {"target": "tmp/*", "mode": "Delete", "minAge": "1d"},
                    ],
                },
                {"bucket": "s-older"},
            ],
            "bucketAccessRequests": [{"bucketName": "s-joe", "reason": "ReadOnly: maps", "requestedAt": AT}],
            "bucketAccessGrants": [
                {"bucketName": "s-jeff", "grantee": " s-joe ", "permission": "ReadOnly", "grantedAt": AT},
                {"bucketName": "s-jeff", "grantee": "s-ann", "permission": "None", "grantedAt": AT}
                | {"expiresAt": "2027-01-01T00:00:00Z"},
            ],
        },
    }
    assert read(obj) == Storage(
        name="s-jeff",
        principal="s-jeff",
        buckets=(
            Bucket(
                "s-jeff",
                True,
                (
                    LifecycleRule("tmp/*", Mode.DELETE, "+12h", None),
                    LifecycleRule("old", Mode.NOTIFY, None, TIME),
                    LifecycleRule("*", Mode.DELETE, "1d", None),
                ),
            ),
            Bucket("s-older", False, ()),
        ),
        requests=(Request("s-joe", "ReadOnly: maps", TIME),),
        grants=(
            Grant("s-jeff", "s-joe", Permission.READ_ONLY, TIME, TIME, "for the course"),
            Grant("s-jeff", "s-ann", Permission.NONE, TIME, datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC), ""),
        ),
        created=TIME,
    )
    assert [grant.in_force for grant in read(obj).grants] == [True, False]
    assert read(obj).requests[0].permission is Permission.READ_ONLY


@pytest.mark.parametrize(
    "rule",
    [
        {"target": "a*b", "mode": "Delete", "minAge": "1d"},
        {"target": "", "mode": "Delete", "minAge": "1d"},
        {"target": "x", "mode": "Burn", "minAge": "1d"},
        {"target": "x", "mode": "Delete"},
        {"target": "x", "mode": "Delete", "minAge": "1 day"},
        {"target": "x", "mode": "Delete", "at": "noon"},
        {"target": "x", "mode": "Delete", "at": AT, "minAge": "1d"},
    ],
)
def test_a_rule_that_is_none_is_left_out(rule: dict[str, str]) -> None:
    found = read({"spec": {"buckets": [{"bucketName": "b", "lifecycleRules": [rule]}, {"discoverable": True}]}})
    assert found.buckets == (Bucket("b", False, ()),)


@pytest.mark.parametrize(
    "spec",
    [
        {"bucketAccessRequests": [{"bucketName": "b"}, {"requestedAt": AT}, {"bucketName": "b", "requestedAt": "x"}]},
        {"bucketAccessGrants": [{"bucketName": "b", "grantee": "g", "permission": "All", "grantedAt": AT}]},
        {"bucketAccessGrants": [{"bucketName": "b", "grantee": " ", "permission": "None", "grantedAt": AT}]},
        {"bucketAccessGrants": [{"grantee": "g", "permission": "None", "grantedAt": AT}]},
        {"bucketAccessGrants": [{"bucketName": "b", "grantee": "g", "permission": "None"}]},
        {"bucketAccessRequests": "none", "buckets": None, "principal": 5},
    ],
)
def test_an_entry_that_is_none_is_left_out(spec: Any) -> None:
    assert read({"metadata": {}, "spec": spec}) == Storage("", "", (), (), (), None)


@pytest.mark.parametrize("said", ["", "{", "[]", '"x"', "x" * (storage.ENTRIES_MAX + 1), None, 5])
def test_an_annotation_that_is_no_object_says_nothing(said: object) -> None:
    assert storage.entries({"metadata": {"annotations": {GRANT_EXPIRY: said}}}, GRANT_EXPIRY) == {}


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ("ReadOnly: to ReadWrite later", "ReadOnly"),
        ("WriteOnly: dropbox", "WriteOnly"),
        ("ReadWrite: not read-only", "ReadWrite"),
        ("we want read-only access", "ReadOnly"),
        ("as writeonly please", "WriteOnly"),
        ("requesting access", "ReadWrite"),
        ("", "ReadWrite"),
    ],
)
def test_the_level_that_is_wanted(reason: str, level: str) -> None:
    assert wanted(reason) == level


@examples
@given(level=st.sampled_from([level for level in Permission if level != "None"]), words=st.text())
def test_what_is_said_is_what_is_read(level: Permission, words: str) -> None:
    assert wanted(spoken(level, words)) is level


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (spoken(Permission.READ_ONLY, "maps: of 2026"), "maps: of 2026"),
        (spoken(Permission.READ_WRITE, ""), ""),
        ("requesting access", ""),
        ("readonly: maps", "readonly: maps"),
        ("for ReadOnly: maps", "for ReadOnly: maps"),
        ("ReadOnly", "ReadOnly"),
        ("", ""),
    ],
)
def test_what_a_reason_says_beside_its_level(reason: str, expected: str) -> None:
    assert words(reason) == expected


@pytest.mark.parametrize("name", ["abc", "a.b", "a-b", "0a1", "a" * 63])
def test_names_that_s3_takes(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 64, "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b", "a.-b", "a-.b", "abc\n", "äbc"]
)
def test_names_that_s3_does_not_take(name: str) -> None:
    assert not is_bucket_name(name)


@examples
@given(obj=st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JSON))
def test_nothing_that_is_odd_raises(obj: dict[str, Any]) -> None:
    assert isinstance(read(obj), Storage)
