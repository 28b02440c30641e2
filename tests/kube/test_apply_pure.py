"""What an apply decides before it sends anything: whether to, and whether it may."""

from copy import deepcopy
from typing import Any

import pytest

from datalabd.api.meta import CLAIM_NAME, CLAIM_NAMESPACE, CLAIM_UID, MANAGED_BY, RETAINED, Manifest
from datalabd.errors import Foreign
from datalabd.kube.apply import Written, _is_in_order, _sent, agrees, describe, our_status, require_ours
from datalabd.plan import plan
from tests.factories import LABELS, environment, fresh, lab, running

# --- what is sent, and what of a status is ours ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("desired", "live", "sent"),
    [
        pytest.param({"a": [], "b": {}, "c": 1}, {"c": 2}, {"c": 1}, id="empty values that the server dropped"),
        pytest.param({"a": []}, {"a": [1]}, {"a": []}, id="a list that is to be emptied"),
        pytest.param({"a": {"b": {}}}, {"a": {}}, {"a": {}}, id="inside"),
        pytest.param({"a": {"b": {}}}, {}, {"a": {"b": {}}}, id="inside of what is not there"),
        pytest.param({"a": [{"b": {}}]}, {"a": [{}]}, {"a": [{"b": {}}]}, id="lists are sent as they are"),
        pytest.param({"a": 0, "b": ""}, {}, {"a": 0, "b": ""}, id="zero and empty text are values"),
    ],
)
def test_sent(desired: Manifest, live: Manifest, sent: Manifest) -> None:
    assert _sent(desired, live) == sent


def test_conditions_of_others_are_none_of_a_status() -> None:
    ready, other = {"type": "Ready", "status": "True"}, {"type": "Reviewed", "status": "True"}
    live = {"status": {"started": "1/1", "conditions": [other, ready]}}
    assert our_status(live) == {"started": "1/1", "conditions": [ready]}
    assert (our_status({}), our_status({"status": {"started": "1/1"}})) == (None, {"started": "1/1"})


# --- agrees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({"a": 1}, {"a": 1}, id="equal"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, id="the server set more"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, id="the server set more, inside"),
        pytest.param({}, {"a": {}}, id="the server dropped an empty map"),
        pytest.param({}, {"a": []}, id="the server dropped an empty list"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, id="nothing is said of what is in a map"),
        pytest.param({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, id="the server set more in an item"),
        pytest.param(
            {"resources": {"requests": {"storage": "1Gi"}}},
            {"resources": {"requests": {"storage": "1024Mi"}}},
            id="the server rewrote a size",
        ),
    ],
)
def test_agrees(live: Manifest, desired: Manifest) -> None:
    assert agrees(live, desired)


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({"a": 1}, {"a": 2}, id="another value"),
        pytest.param({}, {"a": 1}, id="absent"),
        pytest.param({}, {"a": None}, id="absent, and null is wanted"),
        pytest.param({}, {"a": ""}, id="absent, and empty text is wanted"),
        pytest.param({}, {"a": False}, id="absent, and false is wanted"),
        pytest.param({}, {"a": 0}, id="absent, and zero is wanted"),
        pytest.param({}, {"a": {"b": {}}}, id="absent, and not empty"),
        pytest.param({"a": "x"}, {"a": {}}, id="text where a map is wanted"),
        pytest.param({"a": {}}, {"a": []}, id="map where a list is wanted"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, id="longer list"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, id="shorter list"),
        pytest.param({"a": [2, 1]}, {"a": [1, 2]}, id="another order"),
        pytest.param({"a": [1]}, {"a": []}, id="list that is to be empty"),
        pytest.param(
            {"requests": {"storage": "1Gi"}}, {"requests": {"storage": "2Gi"}}, id="another size of the same notation"
        ),
        pytest.param({"requests": {"storage": "x"}}, {"requests": {"storage": "1Gi"}}, id="no size"),
        pytest.param({"requests": {"storage": None}}, {"requests": {"storage": "1Gi"}}, id="null for a size"),
        pytest.param({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, id="notation, elsewhere"),
    ],
)
def test_does_not_agree(live: Manifest, desired: Manifest) -> None:
    assert not agrees(live, desired)


def planned() -> list[Any]:
    """Every object of a lab with everything."""
    within = environment(
        network={"externalEgressCIDRs": ["0.0.0.0/0"], "serviceCIDR": "10.43.0.0/16"},
        database={"gateway": {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}},
    )
    store = {"a": {"storage": "1Gi"}}
    here = lab(
        within,
        vcluster=True,
        registry={"enabled": True},
        databases={"a": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}},
        documentStores=store,
        cacheStores=store,
        vectorStores=store,
    )
    nothing: dict[str, Any] = {
        "login": None,
        "login_exists": False,
        "document_stores": {},
        "cache_stores": {},
        "vector_stores": {},
    }
    stages = plan(here, running(here, **nothing), fresh()).stages
    return [pytest.param(obj, id=f"{describe(obj)} of stage {stage.name}") for stage in stages for obj in stage.objects]


@pytest.mark.parametrize("desired", planned())
def test_a_planned_object_agrees_with_itself_as_the_server_stores_it(desired: Manifest) -> None:
    live = deepcopy(desired)
    live["metadata"] |= {"uid": "x", "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z"}
    live["status"] = {"phase": "Pending"}
    assert agrees(live, desired)


@pytest.mark.parametrize("desired", planned())
def test_a_planned_object_does_not_agree_with_what_an_earlier_plan_made(desired: Manifest) -> None:
    """What is no longer set is noticed by the digest, although the live object has all that is set."""
    live = deepcopy(desired)
    live["metadata"]["annotations"]["datalabs.pkg.internal/applied"] = "another"
    assert not agrees(live, desired)


def test_a_secret_of_ours_has_nothing_that_others_added() -> None:
    desired: Manifest = {"kind": "Secret", "metadata": {"name": "a"}, "data": {"remote": "YQ=="}}
    assert agrees(desired, desired)
    assert not agrees(desired | {"data": desired["data"] | {"s3-endpoint": "Yg=="}}, desired)


# --- require_ours -----------------------------------------------------------------------------------------------------

DESIRED = {"kind": "Secret", "metadata": {"name": "a", "namespace": "team", "labels": LABELS}}


def live(labels: dict[str, str] | None) -> Manifest:
    """A live object of that name with these labels."""
    return {"kind": "Secret", "metadata": {"name": "a", "namespace": "team", "labels": labels}}


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(LABELS, id="of this claim"),
        pytest.param(LABELS | {"app": "x"}, id="of this claim, with more"),
        pytest.param(LABELS | {RETAINED: "true"}, id="of this claim, retained"),
        pytest.param(LABELS | {CLAIM_UID: "earlier", RETAINED: "true"}, id="retained from an earlier one"),
    ],
)
def test_ours(labels: dict[str, str]) -> None:
    require_ours(live(labels), DESIRED)


EARLIER = "an earlier lab of this name; see what it left: datalabd purge team/lab --unmarked"


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        pytest.param(None, "something other than datalabd", id="no labels"),
        pytest.param({}, "something other than datalabd", id="unlabelled"),
        pytest.param(LABELS | {MANAGED_BY: "helm"}, "something other than datalabd", id="another manager"),
        pytest.param({MANAGED_BY: "datalabd"}, "something other than datalabd", id="no claim"),
        pytest.param({CLAIM_UID: "claim-uid"}, "something other than datalabd", id="a uid alone"),
        pytest.param(LABELS | {CLAIM_UID: "earlier"}, EARLIER, id="an earlier claim"),
        pytest.param(
            LABELS | {CLAIM_UID: "x", CLAIM_NAMESPACE: "others"}, "another lab", id="one of this name elsewhere"
        ),
        pytest.param(
            LABELS | {CLAIM_UID: "x", CLAIM_NAMESPACE: "others", RETAINED: "true"},
            "another lab",
            id="retained from one elsewhere",
        ),
        pytest.param(
            LABELS | {CLAIM_UID: "x", CLAIM_NAME: "other", RETAINED: "true"},
            "another lab",
            id="retained from one of another name",
        ),
    ],
)
def test_foreign(labels: dict[str, str] | None, owner: str) -> None:
    with pytest.raises(Foreign) as caught:
        require_ours(live(labels), DESIRED)
    assert str(caught.value) == f"Secret team/a exists and belongs to {owner}"


# --- what is told of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(DESIRED, "Secret team/a", id="namespaced"),
        pytest.param({"kind": "Workshop", "metadata": {"name": "lab"}}, "Workshop lab", id="cluster-scoped"),
        pytest.param(
            {"kind": "Workshop", "metadata": {"name": "lab", "namespace": ""}}, "Workshop lab", id="empty namespace"
        ),
    ],
)
def test_describe(obj: Manifest, expected: str) -> None:
    assert describe(obj) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(Written(), False, id="nothing"),
        pytest.param(Written(unchanged=9), False, id="all was well"),
        pytest.param(Written(created=["a"]), True, id="created"),
        pytest.param(Written(applied=["a"]), True, id="applied"),
        pytest.param(Written(pruned=["a"]), True, id="pruned"),
    ],
)
def test_written(written: Written, expected: bool) -> None:
    assert bool(written) is expected


# --- what a pass found in order ---------------------------------------------------------------------------------------


def test_what_was_found_in_order_is_looked_at_again_once_it_changes_or_is_to(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[Manifest]()

    def counted(live: Manifest, desired: Manifest) -> bool:
        looked.append(live)
        return agrees(live, desired)

    monkeypatch.setattr("datalabd.kube.apply.agrees", counted)
    wanted: Manifest = {"kind": "Secret", "metadata": {"name": "n", "namespace": "team"}, "data": {"a": "MQ=="}}
    live = wanted | {"metadata": wanted["metadata"] | {"resourceVersion": "1"}}
    changed = live | {"data": {"a": "Mg=="}}
    written = Written()
    answers = [
        _is_in_order(obj, manifest, written)
        for obj, manifest in [(live, wanted), (live, deepcopy(wanted)), (changed, wanted), (live, changed)]
    ]
    assert (answers, looked) == ([True, True, False, False], [live, changed, live])


def test_what_is_retained_is_not_in_order() -> None:
    wanted: Manifest = {"kind": "Secret", "metadata": {"name": "n", "namespace": "team"}}
    live = wanted | {"metadata": wanted["metadata"] | {"labels": {RETAINED: "true"}}}
    assert not _is_in_order(live, wanted, Written())
