from typing import Any

import pytest

from datalabd.api.meta import APPLIED
from datalabd.plan.metadata import claim_owner, digest, labels, ours
from tests.factories import LABELS, OWNER, lab

PLANNED: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}}


def test_labels() -> None:
    assert labels(lab()) == LABELS


def test_owner_reference_of_the_claim() -> None:
    assert claim_owner(lab()) == OWNER


def test_an_object_keeps_its_own_metadata() -> None:
    planned = PLANNED | {
        "metadata": {"name": "a", "labels": {"app": "x"}, "annotations": {"k": "v"}, "ownerReferences": [OWNER]}
    }
    made = ours(lab(), planned)
    applied = made["metadata"]["annotations"][APPLIED]
    assert made == PLANNED | {
        "metadata": {
            "name": "a",
            "labels": LABELS | {"app": "x"},
            "annotations": {"k": "v", APPLIED: applied},
            "ownerReferences": [OWNER],
        }
    }


def applied(**changes: Any) -> str:
    """The digest of the planned object, changed."""
    return str(ours(lab(), PLANNED | changes)["metadata"]["annotations"][APPLIED])


def test_equal_objects_have_equal_digests() -> None:
    assert applied() == applied()


def test_name_and_namespace_do_not_count_in_the_digest() -> None:
    assert applied(metadata={"name": "$(x)"}) == applied()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"data": {"a": "b"}}, id="contents"),
        pytest.param({"metadata": {"name": "a", "labels": {"app": "x"}}}, id="label"),
        pytest.param({"metadata": {"name": "a", "annotations": {"k": "v"}}}, id="annotation"),
    ],
)
def test_all_else_counts(changes: dict[str, Any]) -> None:
    assert applied(**changes) != applied()


def test_order_of_keys_does_not_count() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_order_of_items_counts() -> None:
    assert digest([1, 2]) != digest([2, 1])
