from typing import Any

import pytest
from prometheus_client import REGISTRY

from datalabd.api.meta import APPLIED, CLAIM_UID, Manifest, NamespacedName
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from datalabd.kube.store import METADATA, OTHERS_DATA, PLANNED_DATA, Index, Parts, Scope, Store, key_of, trim

ALL = Scope()
TEAM = Scope("team")


def secret(name: str, version: int = 1, namespace: str = "team", uid: str = "", **metadata: Any) -> Manifest:
    """A Secret; `uid` is that of the claim it belongs to."""
    labels = {CLAIM_UID: uid} if uid else {}
    return {
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version), "labels": labels}
        | metadata,
    }


@pytest.fixture
def store() -> Store:
    """A store that was listed and holds nothing."""
    store = Store(kinds.SECRETS)
    store.replace(ALL, [])
    return store


@pytest.fixture
def told(store: Store) -> list[tuple[str, str]]:
    """Name and version of all that listeners hear of."""
    told: list[tuple[str, str]] = []
    store.subscribe(lambda obj: told.append((obj["metadata"]["name"], obj["metadata"]["resourceVersion"])))
    return told


def held(store: Store) -> dict[str, str]:
    """Versions by name."""
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in store}


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_list_is_held(store: Store) -> None:
    store.replace(ALL, [secret("a"), secret("b", 2)])
    assert (held(store), len(store)) == ({"a": "1", "b": "2"}, 2)


def test_a_fresh_list_replaces_the_one_before(store: Store) -> None:
    store.replace(ALL, [secret("a"), secret("b")])
    store.replace(ALL, [secret("b", 2), secret("c")])
    assert held(store) == {"b": "2", "c": "1"}


def test_listeners_hear_what_differs_between_lists(store: Store, told: list[tuple[str, str]]) -> None:
    store.replace(ALL, [secret("gone"), secret("same"), secret("changed")])
    told.clear()
    store.replace(ALL, [secret("same"), secret("changed", 2), secret("new", 3)])
    assert told == [("gone", "1"), ("changed", "2"), ("new", "3")]


def test_a_list_leaves_other_scopes_alone() -> None:
    store = Store(kinds.SECRETS)
    store.replace(TEAM, [secret("a")])
    store.replace(Scope("other"), [secret("b", namespace="other")])
    store.replace(TEAM, [])
    assert held(store) == {"b": "1"}


def test_what_another_scope_still_lists_stays() -> None:
    store = Store(kinds.SECRETS)
    store.replace(TEAM, [secret("a")])
    store.replace(Scope("team", field_selector="metadata.name=a"), [secret("a")])
    store.replace(Scope("team", field_selector="metadata.name=a"), [])
    assert held(store) == {"a": "1"}


def test_objects_can_be_dropped_while_iterating(store: Store) -> None:
    store.replace(ALL, [secret("a"), secret("b")])
    for obj in store:
        store.update(ALL, "DELETED", obj)
    assert len(store) == 0


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_an_event_is_held(store: Store, kind: str) -> None:
    store.update(ALL, kind, secret("a", 2))
    assert store.get("team", "a") == secret("a", 2)


def test_a_deletion(store: Store, told: list[tuple[str, str]]) -> None:
    """Listeners hear of it with the last form of the object."""
    store.update(ALL, "ADDED", secret("a", 2))
    store.update(ALL, "DELETED", secret("a", 3))
    assert (store.get("team", "a"), told) == (None, [("a", "2"), ("a", "3")])


def test_the_echo_of_our_write_is_not_told_again(store: Store, told: list[tuple[str, str]]) -> None:
    store.observe(secret("a", 5))
    store.update(ALL, "MODIFIED", secret("a", 5))
    assert (held(store), told) == ({"a": "5"}, [("a", "5")])


def test_changes_are_told_with_what_was_before(store: Store) -> None:
    told: list[tuple[Manifest | None, Manifest | None]] = []
    store.subscribe_changes(lambda before, after: told.append((before, after)))
    for kind, version in (("ADDED", 1), ("MODIFIED", 2), ("DELETED", 3)):
        store.update(ALL, kind, secret("a", version))
    first, second, last = (secret("a", version) for version in (1, 2, 3))
    assert told == [(None, first), (first, second), (last, None)]


# --- indexes ----------------------------------------------------------------------------------------------------------


def test_an_index_follows_its_store(store: Store) -> None:
    store.update(ALL, "ADDED", secret("a", app="x"))
    index = Index(store, lambda obj: obj["metadata"].get("app", ()))
    store.update(ALL, "ADDED", secret("b", 2, app="xy"))
    store.update(ALL, "MODIFIED", secret("a", 3, app="y"))
    assert {entry: index.get(entry) for entry in "xyz"} == {
        "x": [NamespacedName("team", "b")],
        "y": [NamespacedName("team", "a"), NamespacedName("team", "b")],
        "z": [],
    }
    store.update(ALL, "DELETED", secret("b", 4, app="xy"))
    assert {entry: index.get(entry) for entry in "xy"} == {"x": [], "y": [NamespacedName("team", "a")]}


def test_an_event_that_is_older_than_our_write_changes_nothing(store: Store, told: list[tuple[str, str]]) -> None:
    store.observe(secret("a", 5))
    store.update(ALL, "MODIFIED", secret("a", 4))
    assert (held(store), told) == ({"a": "5"}, [("a", "5")])


def test_an_event_of_a_scope_that_was_dropped_meanwhile(store: Store) -> None:
    store.drop(ALL)
    store.update(ALL, "ADDED", secret("a"))
    assert held(store) == {}


def test_a_deletion_counts_for_the_scope_that_tells_of_it() -> None:
    """An object that a selector selects no more is deleted for its watch, and lives on."""
    store = Store(kinds.SECRETS)
    store.replace(ALL, [secret("a")])
    store.replace(TEAM, [secret("a")])
    store.update(TEAM, "DELETED", secret("a", 2))
    assert held(store) == {"a": "1"}
    store.update(ALL, "DELETED", secret("a", 3))
    assert held(store) == {}


def test_objects_of_a_namespace(store: Store) -> None:
    store.replace(ALL, [secret("b"), secret("a")])
    assert names(store.within("team")) == ["a", "b"]
    store.update(ALL, "DELETED", secret("a", 2))
    assert names(store.within("team")) == ["b"]
    assert store.within("elsewhere") == []


def test_a_deletion_of_what_was_never_seen(store: Store, told: list[tuple[str, str]]) -> None:
    store.update(ALL, "DELETED", secret("a", 3))
    assert (held(store), told) == ({}, [("a", "3")])


def test_nothing_of_that_name(store: Store) -> None:
    assert store.get("team", "a") is None


# --- what belongs to a claim ------------------------------------------------------------------------------------------


def names(objects: list[Manifest]) -> list[str]:
    """Their names."""
    return [obj["metadata"]["name"] for obj in objects]


def test_objects_of_a_claim_sorted(store: Store) -> None:
    store.replace(ALL, [secret("b", uid="x"), secret("a", uid="x"), secret("c", uid="y"), secret("d")])
    assert names(store.owned_by("x")) == ["a", "b"]


def test_objects_of_an_unknown_claim(store: Store) -> None:
    assert store.owned_by("x") == []


def test_an_object_that_changes_hands(store: Store) -> None:
    store.update(ALL, "ADDED", secret("a", uid="x"))
    store.update(ALL, "MODIFIED", secret("a", 2, uid="y"))
    assert (names(store.owned_by("x")), names(store.owned_by("y"))) == ([], ["a"])


def test_an_object_that_is_given_up(store: Store) -> None:
    store.replace(ALL, [secret("a", uid="x"), secret("b", uid="x")])
    store.update(ALL, "MODIFIED", secret("a", 2))
    assert names(store.owned_by("x")) == ["b"]


def test_an_object_that_is_deleted(store: Store) -> None:
    store.update(ALL, "ADDED", secret("a", uid="x"))
    store.update(ALL, "DELETED", secret("a", 2, uid="x"))
    assert store.owned_by("x") == []


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_synced_from_the_first_list_on() -> None:
    store = Store(kinds.SECRETS)
    before = store.synced(TEAM)
    store.replace(TEAM, [])
    assert (before, store.synced(TEAM), store.synced(ALL)) == (False, True, False)


def test_listeners_hear_of_the_first_list_only() -> None:
    store = Store(kinds.SECRETS)
    heard: list[Scope] = []
    store.subscribe_synced(heard.append)
    store.replace(TEAM, [])
    store.replace(TEAM, [])
    assert heard == [TEAM]


def test_listeners_hear_again_after_the_scope_was_dropped() -> None:
    store = Store(kinds.SECRETS)
    heard: list[Scope] = []
    store.subscribe_synced(heard.append)
    store.replace(TEAM, [])
    store.drop(TEAM)
    store.replace(TEAM, [])
    assert heard == [TEAM, TEAM]


def test_what_was_listed_is_there_when_listeners_hear_of_it() -> None:
    store = Store(kinds.SECRETS)
    seen: list[int] = []
    store.subscribe_synced(lambda _: seen.append(len(store)))
    store.replace(TEAM, [secret("a")])
    assert seen == [1]


def test_a_dropped_scope_is_forgotten(store: Store, told: list[tuple[str, str]]) -> None:
    store.replace(ALL, [secret("a", uid="x")])
    told.clear()
    store.drop(ALL)
    assert (held(store), store.owned_by("x"), store.synced(ALL), told) == ({}, [], False, [("a", "1")])


def test_dropping_a_scope_never_listed(store: Store) -> None:
    store.drop(Scope("elsewhere"))
    assert store.synced(ALL)


def test_what_another_scope_holds_outlives_a_dropped_one() -> None:
    """A lab's namespace can hold claims: its Secrets are watched for both."""
    store = Store(kinds.SECRETS)
    one = Scope("team", field_selector="metadata.name=a")
    store.replace(TEAM, [secret("a"), secret("b")])
    store.replace(one, [secret("a")])
    store.drop(one)
    assert held(store) == {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param(ALL, {}, id="everything"),
        pytest.param(TEAM, {}, id="one namespace"),
        pytest.param(Scope(label_selector="a=b"), {"labelSelector": "a=b"}, id="labels"),
        pytest.param(
            Scope("team", "a=b", "metadata.name=c"),
            {"labelSelector": "a=b", "fieldSelector": "metadata.name=c"},
            id="labels and fields",
        ),
    ],
)
def test_parameters_of_a_scope(scope: Scope, expected: dict[str, str]) -> None:
    assert scope.params == expected


# --- answers to our writes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "answer", "expected"),
    [
        pytest.param([], secret("a", 5), {"a": "5"}, id="a new object"),
        pytest.param([secret("a", 4)], secret("a", 5), {"a": "5"}, id="newer than known"),
        pytest.param([secret("a", 10)], secret("a", 9), {"a": "10"}, id="older than known"),
        pytest.param([secret("a", 5)], secret("a", 5), {"a": "5"}, id="known already"),
    ],
)
def test_observe(store: Store, known: list[Manifest], answer: Manifest, expected: dict[str, str]) -> None:
    store.replace(ALL, known)
    store.observe(answer)
    assert held(store) == expected


@pytest.mark.parametrize(
    ("scope", "metadata", "expected"),
    [
        pytest.param(TEAM, {}, True, id="its namespace"),
        pytest.param(Scope("other"), {}, False, id="another namespace"),
        pytest.param(Scope(label_selector="app=x"), {"labels": {"app": "x"}}, True, id="its label"),
        pytest.param(Scope(label_selector="app=x"), {"labels": {"app": "y"}}, False, id="another label"),
        pytest.param(Scope(label_selector="app=x"), {"labels": None}, False, id="no labels"),
        pytest.param(Scope(label_selector="app=x,b=c"), {"labels": {"app": "x"}}, False, id="one label of two"),
        pytest.param(Scope(field_selector="metadata.name=a"), {}, True, id="its name"),
        pytest.param(Scope(field_selector="metadata.name=b"), {}, False, id="another name"),
        pytest.param(Scope(field_selector="type=Opaque"), {}, False, id="a field that it lacks"),
        pytest.param(Scope(field_selector="metadata.name.x=a"), {}, False, id="a field below what has none"),
    ],
)
def test_observe_keeps_only_what_a_scope_will_see_deleted(
    scope: Scope, metadata: dict[str, Any], expected: bool
) -> None:
    store = Store(kinds.SECRETS)
    store.replace(scope, [])
    store.observe(secret("a", 5, **metadata))
    assert ("a" in held(store)) is expected


def test_observe_what_a_scope_of_fields_holds() -> None:
    store = Store(kinds.SECRETS)
    store.replace(Scope(field_selector="metadata.name=a"), [secret("a", 4)])
    store.observe(secret("a", 5))
    assert held(store) == {"a": "5"}


def test_observed_objects_go_with_their_scope(store: Store) -> None:
    store.observe(secret("a", 5, uid="x"))
    store.replace(ALL, [])
    assert (held(store), store.owned_by("x")) == ({}, [])


def test_listeners_hear_of_our_writes(store: Store, told: list[tuple[str, str]]) -> None:
    store.observe(secret("a", 5))
    assert told == [("a", "5")]


def test_an_answer_that_comes_after_the_deletion_revives_nothing(store: Store) -> None:
    store.update(ALL, "ADDED", secret("a", 4))
    store.update(ALL, "DELETED", secret("a", 6))
    store.observe(secret("a", 5))
    assert held(store) == {}


def test_an_object_made_anew_after_its_deletion_is_held(store: Store) -> None:
    store.update(ALL, "DELETED", secret("a", 6))
    store.observe(secret("a", 7))
    assert held(store) == {"a": "7"}


# --- what is kept of an object ----------------------------------------------------------------------------------------


def entry(manager: str, operation: str, **more: str) -> dict[str, Any]:
    """An entry of managedFields."""
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:data": {}}} | more


FIRST_WRITE = [{"manager": "datalabd", "operation": "Update"}]


@pytest.mark.parametrize(
    ("managed", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param([], None, id="empty"),
        pytest.param([entry("datalabd", "Apply")], None, id="our applies"),
        pytest.param([entry("kubectl", "Update")], None, id="somebody else's"),
        pytest.param([entry("datalabd", "Update", subresource="status")], None, id="our status"),
        pytest.param([entry("kubectl", "Update"), entry("datalabd", "Update")], FIRST_WRITE, id="our first write"),
    ],
)
def test_trim(managed: list[dict[str, Any]] | None, expected: list[dict[str, str]] | None) -> None:
    trimmed = trim(secret("a", managedFields=managed))
    assert trimmed == (secret("a", managedFields=expected) if expected else secret("a"))


def test_copies_that_others_keep_of_an_object_are_trimmed() -> None:
    copies = {
        "kopf.zalando.org/last-handled-configuration": "{}",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    assert trim(secret("a", annotations=copies | {"example.org/last": "read"})) == secret(
        "a", annotations=dict.fromkeys(copies, "") | {"example.org/last": "read"}
    )


@pytest.mark.parametrize("resource", [kinds.SECRETS, kinds.CONFIG_MAPS], ids=lambda kind: kind.kind)
@pytest.mark.parametrize(
    ("size", "annotations", "is_held"),
    [
        pytest.param(OTHERS_DATA, {}, True, id="somebody's"),
        pytest.param(OTHERS_DATA + 1, {}, False, id="somebody's, large"),
        pytest.param(OTHERS_DATA + 1, {APPLIED: "digest"}, True, id="ours"),
        pytest.param(PLANNED_DATA + 1, {APPLIED: "digest"}, False, id="as if it were ours, large"),
    ],
)
def test_nobody_fills_our_memory(resource: Resource, size: int, annotations: dict[str, str], is_held: bool) -> None:
    store = Store(resource)
    store.replace(ALL, [secret("a", annotations=annotations) | {"data": {"text": "x" * size}}])
    live = store.get("team", "a")
    assert live is not None
    assert ("data" in live) == is_held


@pytest.mark.parametrize("size", [OTHERS_DATA + 1, PLANNED_DATA + 1])
def test_what_sessions_are_configured_with_may_be_as_large_as_what_is_ours(size: int) -> None:
    store = Store(kinds.SECRETS)
    store.replace(ALL, [secret("workshop-config") | {"data": {"workshop.yaml": "x" * size}}])
    (live,) = store
    assert ("data" in live) == (size <= PLANNED_DATA)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"annotations": {APPLIED: "digest", "example.org/a": "x" * METADATA}}, id="annotations"),
        pytest.param({"labels": {f"a{number}": "x" * 63 for number in range(600)}}, id="labels"),
        pytest.param({"finalizers": [f"example.org/{number:0200}" for number in range(200)]}, id="finalizers"),
    ],
)
def test_of_large_metadata_only_who_it_is_is_held(metadata: Manifest) -> None:
    store = Store(kinds.SECRETS)
    obj = secret("a", **metadata) | {"data": {"text": "x"}}
    store.replace(ALL, [obj])
    assert store.get("team", "a") == {
        "kind": "Secret",
        "metadata": {"name": "a", "namespace": "team", "resourceVersion": "1"},
    }
    assert "data" in obj


def test_trim_leaves_the_original_alone() -> None:
    obj = secret("a", managedFields=[entry("datalabd", "Apply")])
    trim(obj)
    assert "managedFields" in obj["metadata"]


@pytest.mark.parametrize("how", ["list", "event", "answer"])
def test_everything_held_is_trimmed(store: Store, how: str) -> None:
    obj = secret("a", 5, managedFields=[entry("kubectl", "Update")])
    {
        "list": lambda: store.replace(ALL, [obj]),
        "event": lambda: store.update(ALL, "ADDED", obj),
        "answer": lambda: store.observe(obj),
    }[how]()
    assert store.get("team", "a") == secret("a", 5)


# --- what is held once ------------------------------------------------------------------------------------------------


def policy(name: str, *blocks: str) -> Manifest:
    """A NetworkPolicy that lets these networks in."""
    owners = [{"kind": "Namespace", "name": "team", "uid": "1"}]
    return {
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": {"of": "team"},
            "annotations": {"by": "us"},
            "ownerReferences": owners,
        },
        "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": block}} for block in blocks]}]},
    }


def test_what_objects_have_alike_is_held_once() -> None:
    store = Store(kinds.NETWORK_POLICIES)
    listed = [policy("a", "10.0.0.0/8"), policy("b", "10.0.0.0/8"), policy("c", "10.0.0.0/9")]
    store.replace(ALL, listed)
    a, b, c = store
    assert [a, b, c] == listed
    assert a["spec"] is b["spec"]
    assert a["metadata"]["labels"] is b["metadata"]["labels"] is c["metadata"]["labels"]
    assert a["metadata"]["ownerReferences"] is c["metadata"]["ownerReferences"]
    assert a["metadata"]["annotations"] is c["metadata"]["annotations"]


def workshop(name: str, *, deep: bool = False) -> Manifest:
    """A Workshop with a policy for its environment and one for each of its sessions."""
    nested: Any = []
    for _ in range(300 if deep else 0):
        nested = [nested]
    made = [policy("a", "10.0.0.0/8"), {"kind": "Odd", "metadata": "none", "nested": nested}, "no object"]
    return {
        "kind": "Workshop",
        "metadata": {"name": name},
        "spec": {"session": {"objects": made}, "environment": {"objects": [policy("b", "10.0.0.0/8")]}},
    }


@pytest.mark.parametrize("deep", [pytest.param(False, id="shallow"), pytest.param(True, id="nested deeply")])
def test_what_workshops_have_alike_is_held_once(deep: bool) -> None:
    store = Store(kinds.WORKSHOPS)
    store.replace(ALL, [workshop("a", deep=deep), workshop("b", deep=deep)])
    assert list(store) == [workshop("a", deep=deep), workshop("b", deep=deep)]
    policies = [
        made
        for live in store
        for made in (live["spec"]["session"]["objects"][0], live["spec"]["environment"]["objects"][0])
    ]
    for field in ("labels", "annotations", "ownerReferences"):
        assert len({id(made["metadata"][field]) for made in policies}) == 1
    assert len({id(made["spec"]) for made in policies}) == 1


def test_what_is_watched_for_how_it_is_is_held_without_its_spec() -> None:
    store = Store(kinds.DEPLOYMENTS)
    obj = {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 1}, "status": {"replicas": 1}}
    store.replace(ALL, [obj])
    assert list(store) == [{"kind": "Deployment", "metadata": {"name": "a"}, "status": {"replicas": 1}}]
    assert obj["spec"] == {"replicas": 1}


def test_what_does_not_change_is_held_once(store: Store) -> None:
    before = secret("a", annotations={"a": "b"}) | {"data": {"k": "v"}, "type": "Opaque"}
    store.replace(ALL, [before])
    remembered = store.get("team", "a")
    after = secret("a", 2, annotations={"a": "b"}) | {"data": {"k": "v"}, "immutable": True}
    store.update(ALL, "MODIFIED", after)
    assert remembered is not None
    assert (held := store.get("team", "a")) == after
    assert held is not None
    assert held["data"] is remembered["data"]
    assert held["metadata"]["annotations"] is remembered["metadata"]["annotations"]


def test_parts_that_nothing_was_like_for_long_are_forgotten() -> None:
    parts, first = Parts(most=2), {"n": 0}
    assert parts.share(first) is first
    assert parts.share({"n": 0}) is first
    for number in range(1, 9):
        parts.share({"n": number})
        if number < 4:
            assert parts.share({"n": 0}) is first
    assert parts.share({"n": 0}) is not first


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(secret("a"), NamespacedName("team", "a"), id="namespaced"),
        pytest.param({"metadata": {"name": "a"}}, NamespacedName("", "a"), id="cluster-scoped"),
    ],
)
def test_key(obj: Manifest, expected: NamespacedName) -> None:
    assert key_of(obj) == expected


def test_number_of_objects_is_a_metric() -> None:
    store = Store(kinds.LEASES)
    store.replace(ALL, [secret("a"), secret("b")])
    store.update(ALL, "DELETED", secret("a"))
    labels = {"resource": "leases.coordination.k8s.io"}
    assert REGISTRY.get_sample_value("datalabd_store_objects", labels) == 1
