import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.conversion import carried_over, convert, database_classes, to_v1beta1, to_v1beta2
from datalabd.api.meta import CONVERSION, V1BETA1, V1BETA2, Manifest


def claim(version: str, spec: Any, **metadata: Any) -> Manifest:
    return {"apiVersion": version, "kind": "Datalab", "metadata": {"name": "lab"} | metadata, "spec": spec}


@pytest.mark.parametrize(
    ("written", "hub"),
    [
        pytest.param("a", {"name": "a", "state": "started"}, id="a name starts the session"),
        pytest.param({"name": "a"}, {"name": "a", "state": "started"}, id="object without state"),
        pytest.param({"name": "a", "state": None}, {"name": "a", "state": "started"}, id="null state"),
        pytest.param({"name": "a", "state": "stopped"}, {"name": "a", "state": "stopped"}, id="stopped"),
        pytest.param({"name": "a", "state": " Running "}, {"name": "a", "state": "started"}, id="running"),
        pytest.param({"name": "a", "state": "PAUSED"}, {"name": "a", "state": "stopped"}, id="paused"),
        pytest.param(
            {"name": "a", "state": "asleep"}, {"name": "a", "state": "asleep"}, id="unknown state is passed on"
        ),
        pytest.param({"name": "a", "state": 3}, {"name": "a", "state": 3}, id="state of another type is passed on"),
        pytest.param({"state": "running"}, {"state": "started"}, id="session without a name"),
        pytest.param({"name": "a", "x": 1}, {"name": "a", "state": "started"}, id="unknown field"),
        pytest.param(3, 3, id="number is passed on"),
        pytest.param(None, None, id="null is passed on"),
    ],
)
def test_session(written: Any, hub: Any) -> None:
    before = claim(V1BETA1, {"sessions": [written]})
    after = to_v1beta2(before)
    assert after["spec"]["sessions"] == [hub]
    assert to_v1beta1(after) == before


def test_a_stopped_session_survives_a_v1beta1_client() -> None:
    hub = claim(V1BETA2, {"sessions": [{"name": "a", "state": "started"}, {"name": "b", "state": "stopped"}]})
    seen = to_v1beta1(hub)
    assert seen["spec"]["sessions"] == ["a", {"name": "b", "state": "stopped"}]
    seen["spec"]["sessions"].append("c")
    assert to_v1beta2(seen)["spec"]["sessions"] == [*hub["spec"]["sessions"], {"name": "c", "state": "started"}]


def test_database_classes_survive_a_v1beta2_client() -> None:
    database = {"names": ["x"], "storage": "1Gi", "storageClassName": "fast", "backupStorageClassName": "slow"}
    hub = to_v1beta2(claim(V1BETA1, {"databases": {"pg0": database}}))
    assert hub["spec"]["databases"] == {"pg0": {"names": ["x"], "storage": "1Gi"}}
    hub["spec"]["databases"]["pg0"]["storage"] = "2Gi"
    assert to_v1beta1(hub)["spec"]["databases"] == {"pg0": database | {"storage": "2Gi"}}


def test_an_edit_of_the_state_wins_over_the_old_spelling() -> None:
    hub = to_v1beta2(claim(V1BETA1, {"sessions": [{"name": "a", "state": "running"}]}))
    hub["spec"]["sessions"][0]["state"] = "stopped"
    assert to_v1beta1(hub)["spec"]["sessions"] == [{"name": "a", "state": "stopped"}]


def test_classes_go_with_their_server() -> None:
    hub = to_v1beta2(claim(V1BETA1, {"databases": {"pg0": {"storageClassName": "fast"}}}))
    hub["spec"]["databases"] = {"pg1": {"storage": "1Gi"}}
    again = to_v1beta2(to_v1beta1(hub))
    assert again == claim(V1BETA2, {"databases": {"pg1": {"storage": "1Gi"}}})


def test_one_annotation_holds_what_the_hub_cannot_say() -> None:
    spec = {"sessions": ["a", {"name": "b"}], "databases": {"pg0": {"storageClassName": "fast"}}}
    hub = to_v1beta2(claim(V1BETA1, spec, annotations={"x": "y"}))
    assert hub["metadata"]["annotations"].keys() == {"x", CONVERSION}
    assert json.loads(hub["metadata"]["annotations"][CONVERSION]) == {
        "databases": {"pg0": {"storageClassName": "fast"}},
        "sessions": [{"name": "b"}],
    }


def test_the_annotation_goes_when_there_is_nothing_to_keep() -> None:
    hub = to_v1beta2(claim(V1BETA1, {"sessions": ["a"]}, annotations={CONVERSION: "{}"}))
    assert hub["metadata"] == {"name": "lab"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"sessions":3,"databases":[]}',
        '{"sessions":["a"],"databases":{"pg0":3}}',
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_an_annotation_edited_by_hand_does_not_matter(text: str) -> None:
    spec = {"sessions": [{"name": "a", "state": "started"}], "databases": {"pg0": {"storage": "1Gi"}}}
    seen = to_v1beta1(claim(V1BETA2, spec, annotations={CONVERSION: text}))
    assert seen == claim(V1BETA1, {"sessions": ["a"], "databases": {"pg0": {"storage": "1Gi"}}})


def test_database_classes_of_either_version() -> None:
    databases = {"pg0": {"storageClassName": " fast ", "backupStorageClassName": ""}, "pg1": {"storageClassName": ""}}
    written = claim(V1BETA1, {"databases": databases})
    assert database_classes(written) == {"pg0": {"storageClassName": "fast"}}
    assert database_classes(to_v1beta2(written)) == {"pg0": {"storageClassName": "fast"}}


def test_database_classes_of_a_claim_without_any() -> None:
    assert database_classes(claim(V1BETA2, {})) == {}


# --- updates ----------------------------------------------------------------------------------------------------------

FAST = {"storageClassName": "fast"}
STARTED, STOPPED = ({"name": name, "state": state} for name, state in (("main", "started"), ("other", "stopped")))


def annotated(**kept: Any) -> dict[str, str]:
    """The annotation as we write it."""
    return {CONVERSION: json.dumps(kept, separators=(",", ":"), sort_keys=True)}


def applied(version: str, *sessions: str, manager: str = "flux", operation: str = "Apply") -> Manifest:
    """What the API server books when these sessions are declared in a version."""
    keys: Manifest = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}} for name in sessions}
    fields = {"f:spec": {"f:users": {}, "f:sessions": keys}}
    return {"manager": manager, "operation": operation, "apiVersion": version, "fieldsV1": fields}


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({}, {"pg0": {"storageClassName": "fast"}}, id="does not name them"),
        pytest.param(annotated(sessions=[]), {"pg0": {"storageClassName": "fast"}}, id="names something else"),
        pytest.param(
            annotated(databases={"pg0": {"backupStorageClassName": "slow"}}),
            {"pg0": {"storageClassName": "fast", "backupStorageClassName": "slow"}},
            id="names another",
        ),
        pytest.param(
            annotated(databases={"pg0": {"storageClassName": ""}}),
            {"pg0": {"storageClassName": ""}},
            id="takes it back",
        ),
        pytest.param({CONVERSION: "{"}, {"pg0": {"storageClassName": "fast"}}, id="garbles them"),
    ],
)
def test_an_update_keeps_classes_of_databases_that_it(annotations: Manifest, expected: Manifest) -> None:
    server = {"names": ["app"], "storage": "1Gi"}
    old = claim(V1BETA2, {"databases": {"pg0": server}}, annotations=annotated(databases={"pg0": FAST}))
    new = claim(V1BETA2, {"databases": {"pg0": server, "pg1": server}}, annotations={"x": "y"} | annotations)
    kept = claim(V1BETA2, new["spec"], annotations={"x": "y"} | annotated(databases=expected))
    assert carried_over(new, old) == kept


def test_classes_go_with_the_server_that_an_update_takes_away() -> None:
    old = claim(V1BETA2, {"databases": {"pg0": {}}}, annotations=annotated(databases={"pg0": FAST}))
    assert carried_over(claim(V1BETA2, {"databases": {}}), old) == claim(V1BETA2, {"databases": {}})


def test_an_update_keeps_how_sessions_were_spelled_while_that_means_the_same() -> None:
    spelled = [{"name": "main", "state": "running"}, {"name": "other", "state": "paused"}]
    old = claim(V1BETA2, {"sessions": [STARTED, STOPPED]}, annotations=annotated(sessions=spelled))
    new = claim(V1BETA2, {"sessions": [STARTED, STOPPED | {"state": "started"}]})
    assert carried_over(new, old) == claim(V1BETA2, new["spec"], annotations=annotated(sessions=spelled[:1]))


@pytest.mark.parametrize("versions", [(V1BETA1, V1BETA1), (V1BETA1, V1BETA2), (V1BETA2, V1BETA1)])
def test_v1beta1_says_all_itself(versions: tuple[str, str]) -> None:
    new, old = (claim(version, {"sessions": []}, annotations=annotated(sessions=["a"])) for version in versions)
    assert carried_over(new, old) is new


@pytest.mark.parametrize("spec", [None, {}, {"sessions": None, "databases": None}, {"sessions": [3], "databases": []}])
def test_what_a_schema_refuses_is_left_for_it(spec: Any) -> None:
    old = claim(V1BETA2, {"databases": {"pg0": {}}}, annotations=annotated(databases={"pg0": FAST}))
    new = claim(V1BETA2, spec)
    assert carried_over(new, old) is new


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        pytest.param([applied(V1BETA1)], [applied(V1BETA2, "main")], ["main"], id="given up with the older version"),
        pytest.param([applied(V1BETA2)], [applied(V1BETA2, "main")], ["main", "other"], id="not of ours to see"),
        pytest.param(
            [applied(V1BETA1)],
            [applied(V1BETA2, "main"), applied(V1BETA2, "other", manager="idle")],
            ["main", "other"],
            id="declared by another too",
        ),
        pytest.param(
            [applied(V1BETA1), applied(V1BETA1, manager="ann", operation="Update")],
            [applied(V1BETA2, "main"), applied(V1BETA1, manager="ann", operation="Update")],
            ["main", "other"],
            id="written as v1beta1 by another",
        ),
        pytest.param(
            [applied(V1BETA1, operation="Update")],
            [applied(V1BETA2, "main", operation="Update")],
            ["main", "other"],
            id="written, not applied",
        ),
        pytest.param([applied(V1BETA1)], [], ["main", "other"], id="of no field manager now"),
        pytest.param([], [], ["main", "other"], id="of no field manager"),
    ],
)
def test_a_session_goes_that_was(before: list[Manifest], after: list[Manifest], left: list[str]) -> None:
    other: Manifest = {"manager": "kubectl", "operation": "Update", "apiVersion": V1BETA2}
    old = claim(V1BETA2, {"sessions": [STARTED, STOPPED]}, managedFields=[other, *before])
    new = claim(V1BETA2, {"sessions": [STARTED, STOPPED]}, managedFields=[other, *after])
    assert [session["name"] for session in carried_over(new, old)["spec"]["sessions"]] == left


# --- always -----------------------------------------------------------------------------------------------------------


def test_convert_leaves_the_wanted_version_alone() -> None:
    written = claim(V1BETA1, {"sessions": [3]})
    assert convert(written, V1BETA1) is written


@pytest.mark.parametrize(("to", "version"), [(to_v1beta1, V1BETA1), (to_v1beta2, V1BETA2)])
def test_what_is_in_the_wanted_words_stays(to: Any, version: str) -> None:
    written = claim(version, {"sessions": [3]}, annotations={CONVERSION: "x"})
    assert to(written) is written


def test_convert_both_ways() -> None:
    written = claim(V1BETA1, {"sessions": ["a"]})
    assert convert(convert(written, V1BETA2), V1BETA1) == written


def test_convert_knows_no_other_version() -> None:
    with pytest.raises(ValueError, match=r"no version pkg\.internal/v1$"):
        convert(claim(V1BETA1, {}), "pkg.internal/v1")


@pytest.mark.parametrize("to", [to_v1beta1, to_v1beta2])
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"spec": None}, id="null spec"),
        pytest.param({"spec": []}, id="list for a spec"),
        pytest.param({"metadata": [], "spec": {"sessions": 3, "databases": 3}}, id="everything of another type"),
        pytest.param({"metadata": {"annotations": []}, "spec": {"databases": {"a": 3}}}, id="list of annotations"),
        pytest.param({"metadata": {"annotations": {CONVERSION: 3}}, "spec": {"sessions": [None, []]}}, id="odd items"),
    ],
)
def test_what_is_invalid_is_passed_on(to: Any, broken: Manifest) -> None:
    source = V1BETA1 if to is to_v1beta2 else V1BETA2
    converted = to({"apiVersion": source} | broken)
    assert converted.get("spec") == broken.get("spec")


NAMES = st.text("abc-", min_size=1, max_size=3)
TEXTS = st.text("ab \n", max_size=3)
STATES = st.sampled_from(["started", "stopped", "running", "paused", " Paused", "other", None])
V1BETA1_SESSIONS = st.lists(
    NAMES | st.fixed_dictionaries({"name": NAMES}, optional={"state": STATES, "more": st.integers()}),
    max_size=4,
    unique_by=lambda item: item if isinstance(item, str) else item["name"],
)
HUB_SESSIONS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "state": st.sampled_from(["started", "stopped"])}),
    max_size=4,
    unique_by=lambda item: item["name"],
)
HUB_DATABASES = st.dictionaries(NAMES, st.fixed_dictionaries({"storage": TEXTS}), max_size=3)
V1BETA1_DATABASES = st.dictionaries(
    NAMES,
    st.fixed_dictionaries({"storage": TEXTS}, optional={"storageClassName": TEXTS, "backupStorageClassName": TEXTS}),
    max_size=3,
)
METADATA = st.fixed_dictionaries({"name": NAMES}, optional={"annotations": st.dictionaries(NAMES, TEXTS, min_size=1)})


def claims(
    version: str, sessions: st.SearchStrategy[Any], databases: st.SearchStrategy[Any]
) -> st.SearchStrategy[Manifest]:
    optional = {"sessions": sessions, "databases": databases, "users": st.lists(NAMES), "other": TEXTS}
    return st.fixed_dictionaries(
        {"apiVersion": st.just(version), "metadata": METADATA, "spec": st.fixed_dictionaries({}, optional=optional)}
    )


@given(claims(V1BETA1, V1BETA1_SESSIONS, V1BETA1_DATABASES))
def test_round_trip_of_v1beta1(written: Manifest) -> None:
    before = deepcopy(written)
    assert to_v1beta1(to_v1beta2(written)) == before
    assert written == before


@given(claims(V1BETA2, HUB_SESSIONS, HUB_DATABASES))
def test_round_trip_of_v1beta2(written: Manifest) -> None:
    before = deepcopy(written)
    assert to_v1beta2(to_v1beta1(written)) == before
    assert written == before


@given(claims(V1BETA1, V1BETA1_SESSIONS, V1BETA1_DATABASES))
def test_round_trip_of_a_hub_with_an_annotation(written: Manifest) -> None:
    hub = to_v1beta2(written)
    assert to_v1beta2(to_v1beta1(hub)) == hub


@given(claims(V1BETA1, V1BETA1_SESSIONS, V1BETA1_DATABASES))
def test_only_annotations_of_the_metadata_change(written: Manifest) -> None:
    hub = to_v1beta2(written)
    assert {k: v for k, v in hub["metadata"].items() if k != "annotations"} == {
        k: v for k, v in written["metadata"].items() if k != "annotations"
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3),
)


@given(st.sampled_from([V1BETA1, V1BETA2]), st.sampled_from([V1BETA1, V1BETA2]), JSON, JSON, JSON)
def test_nothing_is_ever_raised(source: str, target: str, metadata: Any, sessions: Any, databases: Any) -> None:
    odd = {"apiVersion": source, "metadata": metadata, "spec": {"sessions": sessions, "databases": databases}}
    assert convert(odd, target)["apiVersion"] == target
