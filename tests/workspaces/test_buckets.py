"""Buckets are the workspace's own by name, and nobody else's; what is decided on one goes with it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from datalabd.api.storage import BUCKET_CLAIM, GRANT_EXPIRY, GRANT_REASONS, read
from datalabd.api.workspace_bodies import BucketPatch, NewBucket
from tests.workspaces.objects import BEFORE, LATER, NOW, TODAY, changes, grant, steps_of, storage
from workspaces import buckets
from workspaces.buckets import Standing
from workspaces.patches import ITEMS_MAX, Draft
from workspaces.problems import Problem
from workspaces.sharing import Sharing

RULES = [{"target": "tmp/*", "mode": "Delete", "min_age": "2w"}, {"target": "old/*", "mode": "Notify", "at": LATER}]
STORED = [
    {"target": "tmp/*", "mode": "Delete", "minAge": "2w"},
    {"target": "old/*", "mode": "Notify", "at": "2026-09-09T00:00:00+00:00"},
]


def new(name: str, **said: Any) -> NewBucket:
    return NewBucket.model_validate({"name": name} | said)


def test_rules_are_told_as_they_were_given() -> None:
    """WS 6.2: there and back."""
    live = storage(buckets=[{"bucketName": "ws-a", "lifecycleRules": STORED}])
    assert [buckets.row(bucket) for bucket in read(live).buckets] == [
        {"name": "ws-a", "discoverable": False, "lifecycle_rules": RULES}
    ]


def test_an_edit_of_ten_times_as_many_buckets_costs_ten_times_as_much() -> None:
    def cost(count: int) -> int:
        live = storage(buckets=[{"bucketName": f"ws-a-{number}"} for number in range(count)])
        draft, sharing = Draft(live, None), Sharing([live])
        edits = [new(f"ws-a-{number}", lifecycle_rules=RULES) for number in range(2 * count)]
        return steps_of(lambda: buckets.add(draft, edits, sharing))

    assert cost(300) < 11 * cost(30)


def test_buckets_of_a_workspace_are_bounded() -> None:
    live = storage(buckets=[{"bucketName": f"ws-a-{number}"} for number in range(ITEMS_MAX)])
    with pytest.raises(Problem) as caught:
        buckets.add(Draft(live, None), [new("ws-a-more")], Sharing([live]))
    assert caught.value.detail == {"error": "limit_exceeded", "what": "buckets", "max": ITEMS_MAX}


def test_rules_of_a_bucket_that_is_there_are_replaced() -> None:
    """WS 6.3: those of this bucket, in the provider's spelling, and nothing else."""
    draft = Draft(storage(), None)
    buckets.add(draft, [new("ws-a", lifecycle_rules=RULES)], Sharing([storage()]))
    assert changes(draft.storage_patch) == [{"op": "add", "path": "/spec/buckets/0/lifecycleRules", "value": STORED}]


def test_rules_that_nothing_is_said_of_stay() -> None:
    """WS 6.4; an explicit empty list clears them."""
    live = storage(buckets=[{"bucketName": "ws-a", "discoverable": True, "lifecycleRules": STORED}])
    draft = Draft(live, None)
    buckets.add(draft, [new("ws-a", discoverable=False)], Sharing([live]))
    assert draft.storage_patch == []
    buckets.add(draft, [new("ws-a", lifecycle_rules=[])], Sharing([live]))
    assert draft.storage["spec"]["buckets"] == [{"bucketName": "ws-a", "discoverable": True, "lifecycleRules": []}]


def test_rules_that_nobody_could_read_here_stay_unless_another_is_for_the_same() -> None:
    odd = [{"target": "old/*", "mode": "Transition", "class": "GLACIER"}, {"target": "kept/*", "mode": "?"}, "odd"]
    stored = [odd[0], STORED[0], *odd[1:]]
    live = storage(buckets=[{"bucketName": "ws-a", "discoverable": True, "lifecycleRules": stored}])
    draft = Draft(live, None)
    buckets.change(draft, "ws-a", BucketPatch.model_validate({"lifecycle_rules": RULES[1:]}))
    assert draft.storage["spec"]["buckets"][0]["lifecycleRules"] == [STORED[1], *odd[1:]]
    buckets.change(draft, "ws-a", BucketPatch.model_validate({"lifecycle_rules": []}))
    assert draft.storage["spec"]["buckets"][0]["lifecycleRules"] == odd[1:]
    live["spec"]["buckets"][0]["lifecycleRules"] = "odd"
    draft = Draft(live, None)
    buckets.change(draft, "ws-a", BucketPatch.model_validate({"lifecycle_rules": []}))
    assert draft.storage["spec"]["buckets"][0]["lifecycleRules"] == []


def test_no_rules_of_a_bucket_without_rules_change_nothing() -> None:
    draft = Draft(storage(), None)
    buckets.add(draft, [new("ws-a", lifecycle_rules=[])], Sharing())
    assert draft.storage_patch == []


def test_a_bucket_is_added_at_the_end() -> None:
    live = storage(buckets=["odd", {"bucket": "ws-a"}])
    draft = Draft(live, None)
    buckets.add(draft, [new("ws-a-data", discoverable=True, lifecycle_rules=RULES), new("ws-a")], Sharing([live]))
    assert draft.storage["spec"]["buckets"] == [
        "odd",
        {"bucket": "ws-a", "discoverable": False},
        {"bucketName": "ws-a-data", "discoverable": True, "lifecycleRules": STORED},
    ]
    assert draft.words[("spec", "buckets", 2, "bucketName")] == ("add_buckets", 0, "name")


@pytest.mark.parametrize("name", ["ws-b", "ws-ab", "xws-a-b"])
def test_a_bucket_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(Problem) as caught:
        buckets.add(Draft(storage(), None), [new("ws-a-ok"), new(name)], Sharing())
    assert (caught.value.status, caught.value.detail) == (
        422,
        [
            {
                "type": "value_error",
                "loc": ["body", "add_buckets", 1, "name"],
                "msg": "Value error, must be ws-a or begin with ws-a-",
                "input": name,
            }
        ],
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(storage("ws-b", buckets=[{"bucketName": "ws-a-b"}]), id="another has it"),
        pytest.param(storage("ws-a-b", buckets=[]), id="another is called so"),
    ],
)
def test_a_bucket_that_is_anothers_is_refused(other: Any) -> None:
    with pytest.raises(Problem) as caught:
        buckets.add(Draft(storage(), None), [new("ws-a-b")], Sharing([storage(), other]))
    assert (caught.value.status, caught.value.detail) == (409, {"error": "bucket_exists", "bucket": "ws-a-b"})


def test_a_bucket_changes() -> None:
    live = storage(buckets=[{"bucketName": "ws-a-0"}, {"bucketName": "ws-a", "discoverable": True, "x": 1}])
    draft = Draft(live, None)
    buckets.change(draft, "ws-a", BucketPatch.model_validate({"discoverable": "no", "lifecycle_rules": RULES}))
    assert draft.storage["spec"]["buckets"][1] == {
        "bucketName": "ws-a",
        "discoverable": False,
        "x": 1,
        "lifecycleRules": STORED,
    }
    buckets.change(draft, "ws-a", BucketPatch())
    assert draft.words[("spec", "buckets", 1, "lifecycleRules")] == ("lifecycle_rules",)


def test_a_bucket_goes_with_what_was_decided_on_it() -> None:
    live = storage(
        annotations={
            GRANT_EXPIRY: json.dumps({"ws-a-1/ws-b": LATER, "ws-a-0/ws-b": LATER}),
            GRANT_REASONS: json.dumps({"ws-a-1/ws-b": "x"}),
        },
        buckets=[{"bucketName": "ws-a-1"}, {"bucketName": "ws-a-0"}],
        bucketAccessGrants=[grant("ws-a-1", "ws-b"), grant("ws-a-0", "ws-b"), grant("ws-a-1", "ws-c", "None")],
    )
    with pytest.raises(Problem) as caught:
        buckets.remove(Draft(live, None), "ws-a-1", revoke=False)
    assert (caught.value.status, caught.value.detail) == (
        409,
        {"error": "bucket_in_use", "bucket": "ws-a-1", "grantees": ["ws-b"]},
    )
    draft = Draft(live, None)
    buckets.remove(draft, "ws-a-1", revoke=True)
    assert draft.storage["spec"] == {
        "principal": "ws-a",
        "buckets": [{"bucketName": "ws-a-0"}],
        "bucketAccessGrants": [grant("ws-a-0", "ws-b")],
    }
    assert draft.storage["metadata"]["annotations"] == {
        GRANT_EXPIRY: json.dumps({"ws-a-0/ws-b": LATER}).replace(" ", "")
    }


def test_a_bucket_without_grants_in_force_goes() -> None:
    two = [{"bucketName": "ws-a"}, {"bucketName": "ws-a-0"}]
    draft = Draft(storage(buckets=two, bucketAccessGrants=[grant("ws-a-0", "ws-b", "None", BEFORE)]), None)
    buckets.remove(draft, "ws-a-0", revoke=False)
    assert draft.storage["spec"] == {"principal": "ws-a", "buckets": two[:1], "bucketAccessGrants": []}
    plain = Draft(storage(buckets=two), None)
    buckets.remove(plain, "ws-a-0", revoke=False)
    assert changes(plain.storage_patch) == [{"op": "remove", "path": "/spec/buckets/1"}]


def test_the_bucket_that_is_called_as_the_workspace_stays() -> None:
    with pytest.raises(Problem) as caught:
        buckets.remove(Draft(storage(), None), "ws-a", revoke=True)
    assert (caught.value.status, caught.value.detail) == (
        409,
        {"error": "own_bucket_cannot_be_removed", "bucket": "ws-a"},
    )


def test_a_bucket_that_is_not_there() -> None:
    acts: list[Callable[[Draft], None]] = [
        lambda draft: buckets.change(draft, "x", BucketPatch()),
        lambda draft: buckets.remove(draft, "x", revoke=True),
    ]
    for act in acts:
        with pytest.raises(Problem) as caught:
            act(Draft(storage(), None))
        assert (caught.value.status, caught.value.detail) == (404, {"error": "bucket_not_found", "bucket": "x"})


# ---- Names that are about to be taken


def test_what_an_edit_adds_and_the_claim_that_goes_with_it() -> None:
    live = storage("ws-a", {BUCKET_CLAIM: buckets.claim({"ws-a-x"}, NOW), "other": "stays"})
    draft = Draft(live, None)
    assert buckets.added(draft) == frozenset()
    buckets.add(draft, [new("ws-a"), new("ws-a-x")], Sharing([live]))
    assert buckets.added(draft) == {"ws-a-x"}
    assert draft.storage["metadata"]["annotations"] == {"other": "stays"}


def test_a_claim_names_each_bucket_and_its_time() -> None:
    assert json.loads(buckets.claim({"b", "a"}, NOW)) == {"a": TODAY, "b": TODAY}


WANTED = frozenset({"ws-b", "ws-b-x"})


@pytest.mark.parametrize(
    ("claim", "standing"),
    [
        pytest.param("", Standing(frozenset({"ws-b"}), False, False), id="it has one"),
        pytest.param(buckets.claim({"ws-b-x"}, NOW), Standing(frozenset({"ws-b"}), True, False), id="about to"),
        pytest.param(buckets.claim({"ws-b-y"}, NOW), Standing(frozenset({"ws-b"}), False, False), id="of another name"),
        pytest.param(f'{{"ws-b-x": "{BEFORE}"}}', Standing(frozenset({"ws-b"}), False, True), id="long ago"),
        pytest.param('{"ws-b-x": "x"}', Standing(frozenset({"ws-b"}), False, True), id="at no time"),
        pytest.param("x", Standing(frozenset({"ws-b"}), False, False), id="not readable"),
    ],
)
def test_how_another_storage_stands_to_a_name(claim: str, standing: Standing) -> None:
    other = storage("ws-b", {BUCKET_CLAIM: claim} if claim else None)
    assert buckets.standing(other, WANTED, NOW) == standing
