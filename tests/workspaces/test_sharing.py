"""Requests and grants show on both sides; what is odd about one Storage hides nothing of another."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import Manifest
from datalabd.api.storage import GRANT_EXPIRY, GRANT_REASONS, read
from tests.odd import JSON, examples
from tests.workspaces.objects import BEFORE, LATER, SETTINGS, TODAY, grant, request, steps_of, storage
from workspaces.credentials import secret_names
from workspaces.sharing import Row, Sharing


def access(name: str, *storages: Manifest) -> list[Row]:
    return Sharing(storages).access(name)


def closed(name: str, **spec: Any) -> Manifest:
    """A Storage whose bucket cannot be found."""
    return storage(name, buckets=[{"bucketName": name}], **spec)


def test_a_bucket_that_could_be_asked_for() -> None:
    own = closed("ws-a")
    assert access("ws-a", own, storage("ws-b"), closed("ws-c")) == [
        {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite"}
    ]


def test_the_own_bucket_is_not_to_be_asked_for() -> None:
    assert access("ws-a", storage("ws-a")) == []


def test_a_request_shows_on_both_sides_until_it_is_decided() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b", "ReadOnly: maps")])
    row = {
        "workspace": "ws-a",
        "bucket": "ws-b",
        "permission": "ReadOnly",
        "request_timestamp": BEFORE,
        "reason": "ReadOnly: maps",
    }
    sharing = Sharing([asking, storage("ws-b")])
    assert (sharing.access("ws-a"), sharing.access("ws-b")) == ([row], [row])
    assert (sharing.pending("ws-a"), sharing.pending("ws-b"), sharing.pending("ws-x")) == (0, 1, 0)


def test_a_grant_shows_its_own_level_the_time_of_the_request_and_its_end() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b")])
    owner = storage(
        "ws-b",
        annotations={GRANT_EXPIRY: json.dumps({"ws-b/ws-a": LATER}), GRANT_REASONS: json.dumps({"ws-b/ws-a": "ok"})},
        bucketAccessGrants=[grant("ws-b", "ws-a", "ReadOnly", TODAY)],
    )
    row = {
        "workspace": "ws-a",
        "bucket": "ws-b",
        "permission": "ReadOnly",
        "request_timestamp": BEFORE,
        "grant_timestamp": TODAY,
        "decision": "ok",
        "expires": LATER,
    }
    sharing = Sharing([asking, owner])
    assert (sharing.access("ws-a"), sharing.access("ws-b"), sharing.pending("ws-b")) == ([row], [row], 0)


def test_a_denial_keeps_the_level_that_was_wanted() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b", "WriteOnly: x")])
    owner = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "None", TODAY)])
    row = access("ws-a", asking, owner)[0]
    assert (row["permission"], row["denied_timestamp"], "grant_timestamp" in row) == ("WriteOnly", TODAY, False)


def test_who_asks_again_after_a_denial_waits_again() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b", at=TODAY)])
    owner = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "None", BEFORE)])
    sharing = Sharing([asking, owner])
    assert sharing.access("ws-b") == [
        {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite", "request_timestamp": TODAY}
    ]
    assert sharing.pending("ws-b") == 1


def test_requests_for_a_bucket_that_cannot_be_found_any_more_stay_visible() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b")])
    assert [row["workspace"] for row in access("ws-b", asking, closed("ws-b"))] == ["ws-a"]


def test_grants_without_a_request_show_on_both_sides() -> None:
    owner = closed("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a"), grant("ws-b", "gone", "None")])
    row = {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite", "grant_timestamp": BEFORE}
    denied = {"workspace": "gone", "bucket": "ws-b", "permission": "ReadWrite", "denied_timestamp": BEFORE}
    sharing = Sharing([closed("ws-a"), owner])
    assert (sharing.access("ws-a"), sharing.access("ws-b")) == ([row], [row, denied])


def test_a_denial_without_a_request_of_a_hidden_bucket_tells_nobody_of_it() -> None:
    owner = closed("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "None")])
    assert access("ws-a", closed("ws-a"), owner) == []


def test_a_decision_on_a_bucket_that_can_be_found_shows_there() -> None:
    owner = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "None")])
    assert access("ws-a", closed("ws-a"), owner) == [
        {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite", "denied_timestamp": BEFORE}
    ]


def test_only_the_owner_of_a_bucket_decides_on_it() -> None:
    liar = closed("ws-c", bucketAccessGrants=[grant("ws-b", "ws-a")])
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b")])
    row = {"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite", "request_timestamp": BEFORE}
    sharing = Sharing([asking, liar, closed("ws-b")])
    assert (sharing.access("ws-a"), sharing.access("ws-c")) == ([row], [])
    unasked = Sharing([closed("ws-a"), liar, closed("ws-b")])
    assert unasked.access("ws-a") == []


def test_of_two_owners_the_first_who_decided_counts() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("shared")])
    first = storage("ws-b", buckets=[{"bucketName": "shared", "discoverable": True}])
    second = storage(
        "ws-c",
        buckets=[{"bucketName": "shared", "discoverable": True}],
        bucketAccessGrants=[grant("shared", "ws-a", "ReadOnly")],
    )
    sharing = Sharing([asking, first, second])
    assert [row["permission"] for row in sharing.access("ws-a")] == ["ReadOnly"]
    assert sharing.owners("shared") == ["ws-b", "ws-c"]


def test_who_has_no_principal_asks_for_nothing() -> None:
    asking = closed("ws-a", principal="", bucketAccessRequests=[request("ws-b")])
    sharing = Sharing([asking, closed("ws-b")])
    assert (sharing.access("ws-a"), sharing.access("ws-b")) == ([], [])


def test_a_grant_to_a_principal_names_its_workspace() -> None:
    owner = closed("ws-b", bucketAccessGrants=[grant("ws-b", "p-a")])
    sharing = Sharing([closed("ws-a", principal="p-a"), owner])
    assert [row["workspace"] for row in sharing.access("ws-b")] == ["ws-a"]
    assert sharing.of_principal("p-a") == ["ws-a"]


def test_a_foreign_bucket_of_an_odd_name_spoils_nothing() -> None:
    odd = storage("ws-b", buckets=[{"bucketName": "Bad_Name", "discoverable": True}])
    assert access("ws-a", closed("ws-a"), odd, storage("ws-c")) == [
        {"workspace": "ws-a", "bucket": "ws-c", "permission": "ReadWrite"}
    ]


def test_two_owners_of_a_bucket_are_one_bucket_to_ask_for() -> None:
    twins = [storage(name, buckets=[{"bucketName": "shared", "discoverable": True}]) for name in ("ws-b", "ws-c")]
    assert len(access("ws-a", closed("ws-a"), *twins)) == 1


def test_what_changes_is_taken_up_and_what_goes_is_forgotten() -> None:
    asking = closed("ws-a", bucketAccessRequests=[request("ws-b")])
    sharing = Sharing([asking, storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a")])])
    sharing.put(closed("ws-a"))
    sharing.put(storage("ws-b"))
    assert [row["workspace"] for row in sharing.access("ws-b")] == []
    sharing.remove("ws-b")
    sharing.remove("ws-b")
    assert (sharing.access("ws-a"), sharing.access("ws-b"), sharing.get("ws-b"), sharing.owners("ws-b")) == (
        [],
        [],
        None,
        [],
    )


NAMES = ["ws-a", "ws-b", "ws-c"]


@examples
@given(
    specs=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.fixed_dictionaries(
                {"principal": st.sampled_from([*NAMES, ""])},
                optional={
                    "buckets": st.lists(
                        st.builds(
                            lambda n, d: {"bucketName": n, "discoverable": d}, st.sampled_from(NAMES), st.booleans()
                        )
                    ),
                    "bucketAccessRequests": st.lists(st.sampled_from(NAMES).map(request)) | JSON,
                    "bucketAccessGrants": st.lists(
                        st.builds(
                            grant, st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(["None", "ReadOnly"])
                        )
                    )
                    | JSON,
                },
            ),
        ),
        max_size=8,
    )
)
def test_one_change_at_a_time_leads_to_the_same_as_all_at_once(specs: list[tuple[str, dict[str, Any]]]) -> None:
    one = Sharing()
    for name, spec in specs:
        one.put(storage(name, **spec))
    last = {name: storage(name, **spec) for name, spec in specs}
    whole = Sharing(last.values())
    for name in NAMES:
        assert one.access(name) == whole.access(name)
        assert one.pending(name) == whole.pending(name)


def test_storages_are_told_by_name() -> None:
    assert [found.name for found in Sharing([storage("ws-b"), storage("ws-a")])] == ["ws-a", "ws-b"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_arrival_does_not_matter(order: tuple[int, int]) -> None:
    objects = [storage("ws-b"), storage("ws-c")]
    assert [name for name, _ in Sharing(objects[at] for at in order).discoverable()] == ["ws-b", "ws-c"]


def test_what_a_workspace_sees_costs_as_much_as_there_is_of_it() -> None:
    def cost(count: int) -> int:
        names = [f"ws-b-{number}" for number in range(count)]
        asking = storage(bucketAccessRequests=[request(name) for name in names])
        owner = storage(
            "ws-b",
            buckets=[{"bucketName": name, "discoverable": True} for name in names],
            bucketAccessGrants=[grant(name, "ws-a") for name in names],
        )
        sharing = Sharing([asking, owner])
        return steps_of(lambda: (sharing.access("ws-a"), sharing.access("ws-b"), sharing.pending("ws-b")))

    assert cost(300) < 11 * cost(30)


_WORKSPACES = ("a", "b", "c", "a-datalab")
_KEYS = st.sampled_from(("a-1", "a-2", "b-1", "c-1"))
_BUCKETS = st.lists(st.fixed_dictionaries({"bucketName": _KEYS, "discoverable": st.booleans()}), max_size=2)
_REQUESTS = st.lists(st.builds(request, _KEYS), max_size=2)
_GRANTS = st.lists(
    st.builds(grant, _KEYS, st.sampled_from(_WORKSPACES), st.sampled_from(("None", "ReadOnly"))), max_size=2
)


@st.composite
def _storage(draw: st.DrawFn, name: str) -> Manifest:
    return storage(
        name,
        principal=draw(st.sampled_from((name, *_WORKSPACES, ""))),
        buckets=draw(_BUCKETS),
        bucketAccessRequests=draw(_REQUESTS),
        bucketAccessGrants=draw(_GRANTS),
    )


@examples
@given(
    others=st.tuples(*(st.none() | _storage(name) for name in _WORKSPACES[1:])),
    versions=st.tuples(st.none() | _storage("a"), st.none() | _storage("a")),
)
def test_whom_a_change_of_a_storage_concerns(
    others: tuple[Manifest | None, ...], versions: tuple[Manifest | None, Manifest | None]
) -> None:
    """Nobody else sees anything of it; what lists tell changes for partners alone."""
    known = list(filter(None, others))
    before, after = (Sharing([*known, version] if version else known) for version in versions)
    storages = [found for found in (before.get("a"), after.get("a")) if found is not None]
    partners, finders = after.partners(storages), after.finders(storages)
    for other in known:
        name = other["metadata"]["name"]
        facts = [(sharing.pending(name), secret_names(read(other), sharing, SETTINGS)) for sharing in (before, after)]
        assert facts[0] == facts[1] or name in partners
        assert before.access(name) == after.access(name) or name in partners | finders


def test_a_change_that_others_see_nothing_of_concerns_nobody_else() -> None:
    asking = storage("ws-b", bucketAccessRequests=[request("ws-a")])
    one, hidden = storage("ws-a"), closed("ws-a")
    more = storage("ws-a", buckets=[{"bucketName": "ws-a", "discoverable": True}, {"bucketName": "ws-a-x"}])
    sharing = Sharing([one, asking, storage("ws-c")])
    assert sharing.partners([read(one), read(more)]) == {"ws-a"}
    assert sharing.finders([read(one), read(more)]) == set()
    assert sharing.finders([read(one), read(hidden)]) == {"ws-c"}
    assert sharing.partners([read(asking), read(storage("ws-b"))]) == {"ws-a", "ws-b"}
