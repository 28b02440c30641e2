from typing import Any

import pytest

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from datalabd.steps import run
from webhooks import convert


def asked(wanted: str, *objects: Any) -> Manifest:
    review = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "u-1", "desiredAPIVersion": wanted, "objects": list(objects)},
    }
    response: Manifest = run(convert.datalabs(review))["response"]
    return response


def test_every_object_is_converted_in_order() -> None:
    old = {"apiVersion": V1BETA1, "kind": "Datalab", "metadata": {"name": "a"}, "spec": {"sessions": ["x"]}}
    new = {"apiVersion": V1BETA2, "kind": "Datalab", "metadata": {"name": "b"}, "spec": {}}
    sessions = [{"name": "x", "state": "started"}]
    assert asked(V1BETA2, old, new) == {
        "uid": "u-1",
        "convertedObjects": [old | {"apiVersion": V1BETA2, "spec": {"sessions": sessions}}, new],
        "result": {"status": "Success"},
    }


def test_nothing_to_convert() -> None:
    assert asked(V1BETA2)["convertedObjects"] == []


def test_an_unknown_version_is_a_failure() -> None:
    answer = asked("pkg.internal/v1", {"apiVersion": V1BETA1})
    assert answer["result"]["status"] == "Failure"
    assert "no version pkg.internal/v1" in answer["result"]["message"]


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        pytest.param({}, V1BETA2, {"metadata": {}}, id="bare fields of one owner get metadata"),
        pytest.param(
            {"spec": {"sessions": [{"name": "x", "state": "started"}]}},
            V1BETA1,
            {"metadata": {}, "spec": {"sessions": ["x"]}},
            id="which the API server insists on",
        ),
    ],
)
def test_an_object_without_metadata(before: Manifest, wanted: str, after: Manifest) -> None:
    other = V1BETA1 if wanted == V1BETA2 else V1BETA2
    assert asked(wanted, before | {"apiVersion": other})["convertedObjects"] == [after | {"apiVersion": wanted}]


@pytest.mark.parametrize("wanted", [V1BETA1, V1BETA2])
@pytest.mark.parametrize(
    "spec",
    [
        None,
        5,
        [],
        {"sessions": 5},
        {"sessions": [None, 3, {}, [], {"name": {}}]},
        {"databases": [1]},
        {"databases": {"a": 1}},
    ],
)
def test_an_invalid_claim_is_passed_on(wanted: str, spec: Any) -> None:
    other = V1BETA1 if wanted == V1BETA2 else V1BETA2
    answer = asked(wanted, {"apiVersion": other, "kind": "Datalab", "metadata": {"name": "a"}, "spec": spec})
    assert answer["result"] == {"status": "Success"}
    assert answer["convertedObjects"][0]["apiVersion"] == wanted
