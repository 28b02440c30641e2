import base64
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import FieldError, Manifest, Problem
from webhooks.review import (
    WARNING_MAX,
    WARNINGS_MAX,
    AdmissionRequest,
    BadReview,
    allowed,
    converted,
    decode_conversion,
    denied,
    not_converted,
)

REQUEST = {
    "uid": "u-1",
    "operation": "UPDATE",
    "namespace": "team",
    "name": "lab",
    "object": {"kind": "Datalab", "metadata": {"name": "lab"}, "spec": {}},
    "oldObject": {"kind": "Datalab", "metadata": {}},
    "dryRun": True,
    "userInfo": {"username": "joe", "groups": ["a"]},
}


def review(**request: Any) -> Manifest:
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def patched(obj: Any, operations: list[Manifest]) -> Any:
    """The object after a JSON Patch of add, remove and replace (RFC 6902), as far as objects go."""
    obj = deepcopy(obj)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target = obj
        for part in parents:
            target = target[part]
        match operation["op"]:
            case "add":
                target[last] = operation["value"]
            case "replace":
                assert last in target, "replace needs a member"
                target[last] = operation["value"]
            case "remove":
                del target[last]
    return obj


def operations(answer: Manifest) -> list[Manifest]:
    response = answer["response"]
    if "patch" not in response:
        assert "patchType" not in response
        return []
    assert response["patchType"] == "JSONPatch"
    found: list[Manifest] = json.loads(base64.b64decode(response["patch"]))
    return found


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_decoded() -> None:
    assert AdmissionRequest.decode(review(**REQUEST)) == AdmissionRequest(
        uid="u-1",
        operation="UPDATE",
        namespace="team",
        name="lab",
        object={"kind": "Datalab", "metadata": {"name": "lab"}, "spec": {}},
        old_object={"kind": "Datalab", "metadata": {}},
        dry_run=True,
        username="joe",
        user={"username": "joe", "groups": ["a"]},
    )


def test_a_deletion_has_no_object() -> None:
    request = AdmissionRequest.decode(review(uid="u-1", operation="DELETE", object=None, oldObject={"metadata": {}}))
    assert (request.object, request.old_object, request.dry_run, request.username) == (
        None,
        {"metadata": {}},
        False,
        "",
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
        pytest.param("review", id="string"),
        pytest.param({}, id="empty"),
        pytest.param(review(**REQUEST) | {"apiVersion": "admission.k8s.io/v1beta1"}, id="an older version"),
        pytest.param(review(**REQUEST) | {"request": None}, id="no request"),
        pytest.param(review(**REQUEST) | {"request": ["u-1"]}, id="request that is a list"),
        pytest.param(review(operation="CREATE"), id="no uid"),
        pytest.param(review(uid=5), id="uid that is a number"),
        pytest.param(review(uid="u-1", object=[]), id="object that is a list"),
        pytest.param(review(uid="u-1", object={}), id="object without metadata"),
        pytest.param(review(uid="u-1", object={"metadata": None}), id="object with null for metadata"),
        pytest.param(review(uid="u-1", oldObject={"metadata": "a"}), id="old object with metadata that is a string"),
    ],
)
def test_what_is_no_admission_review(body: Any) -> None:
    with pytest.raises(BadReview):
        AdmissionRequest.decode(body)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_approval() -> None:
    assert allowed("u-1") == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_approval_of_what_stays_the_same_has_no_patch() -> None:
    assert allowed("u-1", before={"a": [1]}, after={"a": [1]}) == allowed("u-1")


def test_warnings_are_cut_and_counted() -> None:
    told = allowed("u-1", warnings=["x" * 1000] * 100)["response"]["warnings"]
    assert told == ["x" * WARNING_MAX] * WARNINGS_MAX


def test_refusal_for_one_mistake() -> None:
    error = FieldError("spec.users[1]", Problem.DUPLICATE, "joe", "")
    assert denied(AdmissionRequest.decode(review(**REQUEST)), [error])["response"] == {
        "uid": "u-1",
        "allowed": False,
        "status": {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": 'spec.users[1]: Duplicate value: "joe"',
            "details": {
                "kind": "Datalab",
                "name": "lab",
                "causes": [
                    {"reason": "FieldValueDuplicate", "field": "spec.users[1]", "message": 'Duplicate value: "joe"'}
                ],
            },
        },
    }


def test_refusal_for_several_mistakes() -> None:
    errors = [FieldError("a", Problem.REQUIRED, None, ""), FieldError("b.c", Problem.FORBIDDEN, "x", "not here")]
    status = denied(AdmissionRequest.decode(review(**REQUEST)), errors)["response"]["status"]
    assert status["message"] == '[a: Required value:, b.c: Forbidden: "x": not here]'
    assert [cause["field"] for cause in status["details"]["causes"]] == ["a", "b.c"]


# --- patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {"a": 1}, [{"op": "add", "path": "/a", "value": 1}], id="add"),
        pytest.param({"a": 1}, {}, [{"op": "remove", "path": "/a"}], id="remove"),
        pytest.param({"a": 1}, {"a": 2}, [{"op": "replace", "path": "/a", "value": 2}], id="replace"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, [{"op": "replace", "path": "/a/b", "value": 2}], id="deep"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, [{"op": "replace", "path": "/a", "value": [1, 2]}], id="list, whole"),
        pytest.param({"a": {}}, {"a": []}, [{"op": "replace", "path": "/a", "value": []}], id="of another type"),
        pytest.param({"a": None}, {"a": {}}, [{"op": "replace", "path": "/a", "value": {}}], id="null"),
        pytest.param({}, {"a/b~c": 1}, [{"op": "add", "path": "/a~1b~0c", "value": 1}], id="escapes"),
    ],
)
def test_patch(before: Manifest, after: Manifest, expected: list[Manifest]) -> None:
    assert operations(allowed("u-1", before=before, after=after)) == expected


KEYS = st.text(alphabet="ab/~01", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_a_patch_leads_from_one_object_to_the_other(before: Manifest, after: Manifest) -> None:
    unchanged = deepcopy(before)
    found = patched(before, operations(allowed("u-1", before=before, after=after)))
    assert json.dumps(found, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert before == unchanged


# --- conversion -------------------------------------------------------------------------------------------------------


def conversion(**request: Any) -> Manifest:
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}


def test_a_conversion_is_decoded() -> None:
    body = conversion(uid="u-1", desiredAPIVersion="pkg.internal/v1beta2", objects=[{"a": 1}])
    assert decode_conversion(body) == ("u-1", "pkg.internal/v1beta2", [{"a": 1}])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="null"),
        pytest.param({"apiVersion": "apiextensions.k8s.io/v1beta1"}, id="an older version"),
        pytest.param(conversion() | {"request": None}, id="no request"),
        pytest.param(conversion(objects=[]), id="no uid"),
        pytest.param(conversion(uid="u-1"), id="no objects"),
        pytest.param(conversion(uid="u-1", objects={}), id="objects that are no list"),
        pytest.param(conversion(uid="u-1", objects=[{}, 5]), id="object that is none"),
    ],
)
def test_what_is_no_conversion_review(body: Any) -> None:
    with pytest.raises(BadReview):
        decode_conversion(body)


def test_converted() -> None:
    assert converted("u-1", [{"a": 1}]) == {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "response": {"uid": "u-1", "convertedObjects": [{"a": 1}], "result": {"status": "Success"}},
    }


def test_not_converted() -> None:
    assert not_converted("u-1", "why")["response"] == {
        "uid": "u-1",
        "convertedObjects": [],
        "result": {"status": "Failure", "message": "why"},
    }
