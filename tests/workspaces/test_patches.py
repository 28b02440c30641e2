"""Patches make one object of another, say no more than what differs, and hold for what was read alone."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.storage import GRANT_EXPIRY
from tests.odd import JSON, examples
from tests.workspaces.objects import applied, changes, datalab, storage
from workspaces.patches import Draft, annotate, listed, mapped, patch, same, set_entry

OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@examples
@given(before=OBJECT, after=OBJECT)
def test_a_patch_makes_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    meta = {"metadata": {"uid": "u", "resourceVersion": "1"}}
    found = applied(patch(before | meta, after | meta), before | meta)
    assert same(found, after | meta)


@examples
@given(before=st.lists(st.integers(0, 3), max_size=6), after=st.lists(st.integers(0, 3), max_size=6))
def test_so_it_is_with_lists(before: list[int], after: list[int]) -> None:
    one = {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": before}
    assert applied(patch(one, one | {"spec": after}), one) == one | {"spec": after}


def test_a_patch_holds_for_this_version_of_this_object() -> None:
    before, after = storage(), storage(principal="other")
    assert patch(before, after) == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-of-ws-a"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "test", "path": "/spec/principal", "value": "ws-a"},
        {"op": "replace", "path": "/spec/principal", "value": "other"},
    ]


def test_nothing_is_written_where_nothing_differs() -> None:
    assert patch(storage(), storage()) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], ["x"], [{"op": "add", "path": "/l/-", "value": "x"}]),
        (
            ["a"],
            ["a", "b", "c"],
            [{"op": "add", "path": "/l/-", "value": "b"}, {"op": "add", "path": "/l/-", "value": "c"}],
        ),
        (["b"], ["a", "b"], [{"op": "add", "path": "/l/0", "value": "a"}]),
        (["a", "b", "c"], ["a", "c"], [{"op": "remove", "path": "/l/1"}]),
        ([{"n": 1, "s": 1}], [{"n": 1, "s": 2}], [{"op": "replace", "path": "/l/0/s", "value": 2}]),
        (1, True, [{"op": "replace", "path": "/l", "value": True}]),
    ],
)
def test_only_what_differs_is_touched(before: Any, after: Any, expected: list[dict[str, Any]]) -> None:
    meta = {"metadata": {"uid": "u", "resourceVersion": "1"}}
    assert changes(patch(meta | {"l": before}, meta | {"l": after})) == expected


def test_keys_are_spelled_as_json_pointers_are() -> None:
    one = datalab(annotations={"a/b~c": "x"})
    found = patch(one, datalab(annotations={"a/b~c": "y"}))
    assert changes(found) == [{"op": "replace", "path": "/metadata/annotations/a~1b~0c", "value": "y"}]


def test_a_draft_leaves_what_was_read_as_it_is() -> None:
    read, lab = storage(), datalab()
    draft = Draft(read, lab)
    assert (draft.storage_patch, draft.datalab_patch, draft.name) == ([], [], "ws-a")
    listed(draft.storage, "buckets").append({"bucketName": "x"})
    assert draft.datalab is not None
    mapped(draft.datalab, "userOverrides")["bob"] = {"role": "admin"}
    assert (read, lab) == (storage(), datalab())
    assert changes(draft.storage_patch) == [{"op": "add", "path": "/spec/buckets/-", "value": {"bucketName": "x"}}]
    assert changes(draft.datalab_patch) == [
        {"op": "add", "path": "/spec/userOverrides", "value": {"bob": {"role": "admin"}}}
    ]


def test_without_a_datalab_nothing_of_it_is_written() -> None:
    assert Draft(storage(), None).datalab_patch == []


def test_what_is_no_list_or_map_becomes_an_empty_one() -> None:
    obj: dict[str, Any] = {"spec": {"users": "alice", "databases": []}}
    assert (listed(obj, "users"), mapped(obj, "databases")) == ([], {})
    odd: dict[str, Any] = {"spec": None}
    assert (listed(odd, "users"), odd) == ([], {"spec": {"users": []}})


def test_annotations_come_and_go() -> None:
    obj = storage()
    before = copy.deepcopy(obj)
    annotate(obj, "a", "")
    assert obj == before
    annotate(obj, "a", "1")
    assert obj["metadata"]["annotations"] == {"a": "1"}
    annotate(obj, "a", "")
    assert obj["metadata"]["annotations"] == {}


def test_entries_of_an_annotation_come_and_go() -> None:
    obj = storage(annotations={GRANT_EXPIRY: "no JSON"})
    before = copy.deepcopy(obj)
    set_entry(obj, GRANT_EXPIRY, "b/g", "")
    assert obj == before
    set_entry(obj, GRANT_EXPIRY, "b/g", "x")
    set_entry(obj, GRANT_EXPIRY, "a/g", "y")
    assert obj["metadata"]["annotations"] == {GRANT_EXPIRY: '{"a/g":"y","b/g":"x"}'}
    set_entry(obj, GRANT_EXPIRY, "a/g", "")
    set_entry(obj, GRANT_EXPIRY, "b/g", "")
    assert obj["metadata"]["annotations"] == {}
