"""Requests and decisions: checked one by one, told to nobody whom they do not concern, and ended in time."""

import datetime
import json
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.storage import GRANT_EXPIRY, GRANT_REASONS, Permission
from datalabd.api.workspace_bodies import BucketAccess, GrantPut, RequestPut
from tests.workspaces.objects import BEFORE, LATER, NOW, TODAY, grant, request, steps_of, storage
from workspaces import grants
from workspaces.patches import ITEMS_MAX, Draft
from workspaces.problems import Problem
from workspaces.sharing import Sharing

STORED = "2026-05-05T20:00:00+00:00"


def entry(workspace: str = "ws-a", bucket: str = "ws-b", permission: str = "ReadWrite", **times: str) -> BucketAccess:
    said = {"workspace": workspace, "bucket": bucket, "permission": permission, "request_timestamp": TODAY}
    return BucketAccess.model_validate(said | times)


def applied(live: Manifest, *entries: BucketAccess, others: list[Manifest] | None = None) -> Draft:
    draft = Draft(live, None)
    grants.apply(draft, entries, Sharing([live, *(others or [])]), NOW)
    return draft


def spec(draft: Draft, name: str) -> Any:
    return draft.storage["spec"].get(name)


def expiry(draft: Draft) -> Any:
    return draft.storage["metadata"].get("annotations", {}).get(GRANT_EXPIRY)


def refused(act: Any) -> tuple[int, Any]:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value.status, caught.value.detail


# ---- The edit of many


def test_a_request_of_ones_own_is_added_with_its_level() -> None:
    draft = applied(storage(), entry(permission="ReadOnly", grant_timestamp=TODAY))
    assert spec(draft, "bucketAccessRequests") == [
        {"bucketName": "ws-b", "reason": "ReadOnly: requesting access", "requestedAt": STORED}
    ]
    assert spec(draft, "bucketAccessGrants") is None


def test_times_to_come_are_of_now() -> None:
    asked = applied(storage(), entry(request_timestamp=LATER))
    assert spec(asked, "bucketAccessRequests")[0]["requestedAt"] == STORED
    live, other = storage("ws-b"), storage(bucketAccessRequests=[request("ws-b")])
    for decided in ({"grant_timestamp": LATER}, {"denied_timestamp": LATER}):
        draft = applied(live, entry(**decided), others=[other])
        assert spec(draft, "bucketAccessGrants")[0]["grantedAt"] == STORED


def test_a_request_that_is_there_stays() -> None:
    live = storage(bucketAccessRequests=[request("ws-b", "mine")])
    assert applied(live, entry()).storage_patch == []


def test_nobody_asks_for_their_own() -> None:
    assert refused(lambda: applied(storage(), entry(bucket="ws-a")))[0] == 422


ASKING = storage("ws-b", bucketAccessRequests=[request("ws-a")])


@pytest.mark.parametrize(
    ("times", "permission", "at"),
    [
        ({"grant_timestamp": BEFORE}, "ReadOnly", "2026-01-01T00:00:00+00:00"),
        ({"grant_timestamp": BEFORE, "denied_timestamp": TODAY}, "None", STORED),
    ],
)
def test_a_decision_on_what_was_asked(times: dict[str, str], permission: str, at: str) -> None:
    draft = applied(storage(), entry("ws-b", "ws-a", "ReadOnly", **times), others=[ASKING])
    assert spec(draft, "bucketAccessGrants") == [
        {"bucketName": "ws-a", "grantee": "ws-b", "permission": permission, "grantedAt": at}
    ]
    assert draft.words[("spec", "bucketAccessGrants", 0)] == ("patch_bucket_access_requests", 0)


def test_an_entry_that_decides_nothing() -> None:
    assert spec(applied(storage(), entry("ws-b", "ws-a"), others=[ASKING]), "bucketAccessGrants") == []


def test_a_decision_is_changed_where_it_stands() -> None:
    live = storage(
        annotations={GRANT_EXPIRY: json.dumps({"ws-a/ws-b": LATER})},
        bucketAccessGrants=[grant("ws-a", "ws-x"), grant("ws-a", " ws-b ")],
    )
    draft = applied(live, entry("ws-b", "ws-a", denied_timestamp=TODAY), others=[storage("ws-b")])
    assert spec(draft, "bucketAccessGrants") == [
        grant("ws-a", "ws-x"),
        {"bucketName": "ws-a", "grantee": " ws-b ", "permission": "None", "grantedAt": STORED},
    ]
    assert expiry(draft) is None


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([], id="there is no such workspace"),
        pytest.param([storage("ws-b")], id="it never asked"),
        pytest.param([storage("ws-b", principal="", bucketAccessRequests=[request("ws-x")])], id="not for this bucket"),
    ],
)
def test_who_never_asked_is_answered_like_who_does_not_exist(others: list[Manifest]) -> None:
    found = refused(lambda: applied(storage(), entry("ws-b", "ws-a", grant_timestamp=TODAY), others=others))
    assert found == (400, {"error": "invalid_workspace", "workspace": "ws-b"})


def test_a_decision_on_a_workspace_that_is_gone_can_still_be_changed() -> None:
    live = storage(bucketAccessGrants=[grant("ws-a", "ws-b")])
    draft = applied(live, entry("ws-b", "ws-a", denied_timestamp=TODAY))
    assert spec(draft, "bucketAccessGrants")[0]["permission"] == "None"


def test_who_asked_without_a_principal() -> None:
    asking = storage("ws-b", principal="", bucketAccessRequests=[request("ws-a")])
    found = refused(lambda: applied(storage(), entry("ws-b", "ws-a", grant_timestamp=TODAY), others=[asking]))
    assert found == (400, {"error": "missing_principal", "workspace": "ws-b"})


def test_nobody_decides_on_a_bucket_of_another() -> None:
    found = refused(lambda: applied(storage(), entry("ws-b", "ws-c", grant_timestamp=TODAY), others=[ASKING]))
    assert (found[0], found[1][0]["loc"]) == (422, ["body", "patch_bucket_access_requests", 0, "bucket"])


def lengths(count: int) -> tuple[Manifest, list[BucketAccess], list[Manifest]]:
    """A Storage with so many requests and decisions, as many changes of each, and those who ask."""
    names = [f"ws-{number}" for number in range(count)]
    annotations = {
        note: json.dumps({f"ws-a/{name}": LATER for name in names}) for note in (GRANT_EXPIRY, GRANT_REASONS)
    }
    live = storage(
        annotations=annotations,
        bucketAccessRequests=[request(f"old-{name}") for name in names],
        bucketAccessGrants=[grant("ws-a", name) for name in names],
    )
    edits = [entry(bucket=name) for name in names]
    edits += [entry(name, "ws-a", denied_timestamp=TODAY) for name in names]
    edits += [entry(name, "ws-a", grant_timestamp=TODAY) for name in names]
    return live, edits, [storage(name, bucketAccessRequests=[request("ws-a")]) for name in names]


def test_an_edit_of_ten_times_as_much_costs_ten_times_as_much() -> None:
    """Steps, not time: whoever may ask must not hold up a replica with what was asked for before."""

    def cost(count: int) -> int:
        live, edits, others = lengths(count)
        draft, sharing = Draft(live, None), Sharing([live, *others])
        return steps_of(lambda: grants.apply(draft, edits, sharing, NOW))

    assert cost(300) < 11 * cost(30)


FULL = [request(f"ws-{number}") for number in range(ITEMS_MAX)]
DECIDED = [grant("ws-a", f"ws-{number}") for number in range(ITEMS_MAX)]


def limit(what: str) -> tuple[int, Any]:
    return 422, {"error": "limit_exceeded", "what": what, "max": ITEMS_MAX}


def test_requests_of_a_workspace_are_bounded() -> None:
    live = storage(bucketAccessRequests=FULL)
    assert refused(lambda: applied(live, entry(bucket="ws-b"))) == limit("bucket_access_requests")
    assert refused(lambda: ask(live, storage("ws-b"))) == limit("bucket_access_requests")
    assert spec(ask(live, reason="again", bucket="ws-7"), "bucketAccessRequests")[7]["reason"] == "ReadWrite: again"


def test_decisions_of_a_workspace_are_bounded() -> None:
    live = storage(bucketAccessGrants=DECIDED)
    asking = storage("ws-b", bucketAccessRequests=[request("ws-a")])
    found = refused(lambda: applied(live, entry("ws-b", "ws-a", grant_timestamp=TODAY), others=[asking]))
    assert found == limit("bucket_access_grants")
    assert spec(give(live, "ws-7", permission="None"), "bucketAccessGrants")[7]["permission"] == "None"


# ---- Requests


def ask(live: Manifest, *others: Manifest, bucket: str = "ws-b", **said: Any) -> Draft:
    draft = Draft(live, None)
    grants.request(draft, bucket, RequestPut(**said), Sharing([live, *others]), NOW)
    return draft


def test_a_bucket_that_can_be_found_is_asked_for() -> None:
    draft = ask(storage(bucketAccessRequests=["odd"]), storage("ws-b"), permission=Permission.READ_ONLY, reason="maps")
    assert spec(draft, "bucketAccessRequests") == [
        "odd",
        {"bucketName": "ws-b", "reason": "ReadOnly: maps", "requestedAt": STORED},
    ]


def test_a_request_without_a_time_gets_one() -> None:
    draft = ask(storage(bucketAccessRequests=[{"bucketName": "ws-b"}]), storage("ws-b"))
    assert spec(draft, "bucketAccessRequests") == [
        {"bucketName": "ws-b", "reason": "ReadWrite: requesting access", "requestedAt": STORED}
    ]


def test_another_reason_keeps_the_time_of_the_first_request() -> None:
    draft = ask(storage(bucketAccessRequests=[request("ws-b", "x")]), storage("ws-b"), reason="y")
    assert spec(draft, "bucketAccessRequests") == [request("ws-b", "ReadWrite: y")]


def test_the_same_request_changes_nothing() -> None:
    live = storage(bucketAccessRequests=[request("ws-b", "ReadWrite: y")])
    assert ask(live, storage("ws-b"), reason="y").storage_patch == []


def test_what_was_denied_is_asked_for_again() -> None:
    live = storage(bucketAccessRequests=[request("ws-b", "ReadWrite: y")])
    owner = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "None", "2026-02-02T00:00:00Z")])
    draft = ask(live, owner, reason="y")
    assert spec(draft, "bucketAccessRequests") == [{**request("ws-b", "ReadWrite: y"), "requestedAt": STORED}]
    again = ask(storage(bucketAccessRequests=[request("ws-b", "ReadWrite: y", TODAY)]), owner, reason="y")
    assert again.storage_patch == []


def test_a_bucket_that_is_hidden_is_like_one_that_does_not_exist() -> None:
    hidden = storage("ws-b", buckets=[{"bucketName": "ws-b"}])
    expected = (404, {"error": "not_discoverable", "bucket": "ws-b"})
    assert refused(lambda: ask(storage(), hidden)) == expected
    assert refused(lambda: ask(storage())) == expected


def test_a_hidden_bucket_that_was_granted_can_be_asked_for() -> None:
    hidden = storage("ws-b", buckets=[{"bucketName": "ws-b"}], bucketAccessGrants=[grant("ws-b", "ws-a")])
    assert len(spec(ask(storage(), hidden), "bucketAccessRequests")) == 1


def test_a_request_is_withdrawn() -> None:
    draft = Draft(storage(bucketAccessRequests=[request("ws-b"), request("ws-c")]), None)
    grants.withdraw(draft, "ws-b")
    assert spec(draft, "bucketAccessRequests") == [request("ws-c")]
    assert refused(lambda: grants.withdraw(draft, "ws-b")) == (404, {"error": "request_not_found", "bucket": "ws-b"})


# ---- Grants


def give(live: Manifest, workspace: str = "ws-b", bucket: str = "ws-a", others: Any = (), **said: Any) -> Draft:
    draft = Draft(live, None)
    decision = GrantPut.model_validate({"permission": "ReadOnly"} | said)
    grants.grant(draft, bucket, workspace, decision, Sharing([live, *others]), NOW)
    return draft


def test_a_grant_with_a_reason_and_an_end() -> None:
    draft = give(storage(), reason="for the course", expires=LATER)
    assert spec(draft, "bucketAccessGrants") == [
        {"bucketName": "ws-a", "grantee": "ws-b", "permission": "ReadOnly", "grantedAt": STORED}
    ]
    assert draft.storage["metadata"]["annotations"] == {
        GRANT_EXPIRY: '{"ws-a/ws-b":"2026-09-09T00:00:00+00:00"}',
        GRANT_REASONS: '{"ws-a/ws-b":"for the course"}',
    }


def test_a_denial_has_a_reason_and_no_end() -> None:
    live = storage(
        annotations={GRANT_EXPIRY: json.dumps({"ws-a/ws-b": LATER})},
        bucketAccessGrants=[{**grant("ws-a", "ws-b"), "expiresAt": LATER}],
    )
    draft = give(live, permission="None", reason="no", expires=LATER)
    assert spec(draft, "bucketAccessGrants") == [
        {"bucketName": "ws-a", "grantee": "ws-b", "permission": "None", "grantedAt": STORED}
    ]
    assert draft.storage["metadata"]["annotations"] == {GRANT_REASONS: '{"ws-a/ws-b":"no"}'}


def test_a_grant_goes_to_the_principal_of_a_workspace() -> None:
    draft = give(storage(), others=[storage("ws-b", principal="p-b")])
    assert spec(draft, "bucketAccessGrants")[0]["grantee"] == "p-b"
    odd = give(storage(), others=[storage("ws-b", principal="P_b@example")])
    assert spec(odd, "bucketAccessGrants")[0]["grantee"] == "P_b@example"
    blank = give(storage(), others=[storage("ws-b", principal="")])
    assert spec(blank, "bucketAccessGrants")[0]["grantee"] == "ws-b"


@pytest.mark.parametrize(
    ("said", "status", "loc"),
    [
        ({"workspace": "ws-a"}, 422, ["path", "workspace"]),
        ({"workspace": "No Name"}, 422, ["path", "workspace"]),
        ({"workspace": "x" * 254}, 422, ["path", "workspace"]),
        ({"expires": TODAY}, 422, ["body", "expires"]),
    ],
)
def test_a_grant_that_cannot_be(said: dict[str, Any], status: int, loc: list[str]) -> None:
    found = refused(lambda: give(storage(), **said))
    assert (found[0], found[1][0]["loc"]) == (status, loc)


def test_a_grant_to_ones_own_principal_cannot_be() -> None:
    assert refused(lambda: give(storage(), others=[storage("ws-b", principal="ws-a")]))[0] == 422


def test_a_grant_of_a_bucket_that_is_not_ones_own() -> None:
    assert refused(lambda: give(storage(), bucket="ws-c")) == (404, {"error": "bucket_not_found", "bucket": "ws-c"})


def test_a_grant_ends() -> None:
    live = storage(
        annotations={GRANT_EXPIRY: json.dumps({"ws-a/ws-b": LATER})}, bucketAccessGrants=[grant("ws-a", "ws-b")]
    )
    draft = Draft(live, None)
    grants.end(draft, "ws-a", "ws-b", Sharing([live]))
    assert (spec(draft, "bucketAccessGrants"), expiry(draft)) == ([], None)
    found = refused(lambda: grants.end(draft, "ws-a", "ws-b", Sharing([live])))
    assert found == (404, {"error": "grant_not_found", "bucket": "ws-a", "workspace": "ws-b"})


def test_all_that_was_decided_on_somebody_who_is_gone_is_forgotten() -> None:
    notes = {"ws-a/ws-b": LATER, "ws-a/ws-c": LATER}
    others = [grant("ws-a", "ws-c"), "odd", grant("ws-a-x", "ws-c", "None")]
    live = storage(
        annotations={GRANT_EXPIRY: json.dumps(notes), GRANT_REASONS: json.dumps({"ws-a-x/ws-b": "no"})},
        bucketAccessGrants=[grant("ws-a", "ws-b"), *others, grant("ws-a", " ws-b "), grant("ws-a-x", "ws-b", "None")],
    )
    draft = Draft(live, None)
    grants.forget(draft, "ws-b")
    assert spec(draft, "bucketAccessGrants") == others
    assert draft.storage["metadata"]["annotations"] == {
        GRANT_EXPIRY: json.dumps({"ws-a/ws-c": LATER}, separators=(",", ":"))
    }


# ---- Grants that end by themselves


def test_grants_end_when_their_time_has_come() -> None:
    live = storage(
        annotations={GRANT_EXPIRY: json.dumps({"ws-a/ws-b": TODAY, "ws-a/ws-c": LATER, "ws-a/ws-d": BEFORE})},
        bucketAccessGrants=[
            grant("ws-a", "ws-b"),
            grant("ws-a", "ws-c"),
            grant("ws-a", "ws-d", "None"),
            {**grant("ws-a", "ws-e"), "expiresAt": BEFORE},
            grant("ws-a", "ws-f"),
        ],
    )
    other = storage("ws-b")
    sharing = Sharing([live, other])
    assert grants.due(sharing, NOW) == ["ws-a"]
    assert grants.next_due(sharing) == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    draft = Draft(live, None)
    assert grants.end_due(draft, NOW) == [("ws-a", "ws-b"), ("ws-a", "ws-e")]
    assert [item["permission"] for item in spec(draft, "bucketAccessGrants")] == [
        "None",
        "ReadWrite",
        "None",
        "None",
        "ReadWrite",
    ]
    assert json.loads(expiry(draft)) == {"ws-a/ws-c": LATER, "ws-a/ws-d": BEFORE}
    ended = Sharing([draft.storage, other])
    assert (grants.due(ended, NOW), grants.next_due(ended)) == ([], datetime.datetime(2026, 9, 9, tzinfo=datetime.UTC))
    assert [row.get("decision") for row in ended.access("ws-a")][:1] == [grants.EXPIRED]


def test_nothing_ends_where_nothing_has_an_end() -> None:
    assert (grants.due(Sharing([storage()]), NOW), grants.next_due(Sharing())) == ([], None)
