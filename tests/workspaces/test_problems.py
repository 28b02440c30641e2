"""Errors keep upstream's detail, say the same to people, and repeat nothing of what only operators may read."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from datalabd.api.workspace import Problem as Wire
from datalabd.api.workspace_bodies import RequestPut, WorkspaceEdit
from datalabd.errors import (
    Conflict,
    Denied,
    Expired,
    Forbidden,
    Invalid,
    KubeError,
    NamespaceTerminating,
    NotFound,
    Throttled,
    Unavailable,
)
from workspaces import problems
from workspaces.problems import ERRORS_MAX, Problem


def caught(model: type[BaseModel], said: Any) -> Problem:
    with pytest.raises(ValidationError) as found:
        model.model_validate(said)
    return problems.invalid("body", found.value)


def test_what_is_wrong_with_a_body_is_told_as_upstream_does() -> None:
    found = caught(WorkspaceEdit, {"add_buckets": [{"name": "No"}], "add_stores": "many", "x": 1})
    assert (found.status, found.detail) == (
        422,
        [
            {
                "type": "list_type",
                "loc": ["body", "add_stores"],
                "msg": "Input should be a valid list",
                "input": "many",
            },
            {
                "type": "value_error",
                "loc": ["body", "add_buckets", 0, "name"],
                "msg": "Value error, must be 3 to 63 lower-case letters, digits, '.' and '-', beginning and ending "
                "with a letter or digit, without '..', '.-' and '-.'",
                "input": "No",
                "ctx": {"error": {}},
            },
        ],
    )


def test_what_was_sent_is_repeated_in_part_at_most() -> None:
    values: list[Any] = ["x" * 9999, 5, 1.5, float("inf"), {}, [], None, True]
    said = {"add_memberships": [{"member": value} for value in values]}
    detail = caught(WorkspaceEdit, said).detail
    assert isinstance(detail, list)
    assert [error["input"] if len(str(error["input"])) < 10 else len(error["input"]) for error in detail] == [
        254,
        5,
        1.5,
        "inf",
        {},
        [],
        None,
        True,
    ]
    assert detail[0]["ctx"] == {"max_length": 255}


def test_of_very_many_errors_some_are_told() -> None:
    detail = caught(WorkspaceEdit, {"add_memberships": [{}] * 400}).detail
    assert len(detail) == ERRORS_MAX


def test_a_name_in_the_path_that_is_none() -> None:
    found = problems.pattern_mismatch(("path", "workspace_name"), "^[a-z]$", "Not_A")
    assert (found.status, found.detail) == (
        422,
        [
            {
                "type": "string_pattern_mismatch",
                "loc": ["path", "workspace_name"],
                "msg": "String should match pattern '^[a-z]$'",
                "input": "Not_A",
                "ctx": {"pattern": "^[a-z]$"},
            }
        ],
    )


@pytest.mark.parametrize(
    ("found", "status", "detail", "sentence"),
    [
        (problems.forbidden(), 403, "Forbidden", "Forbidden"),
        (problems.not_found(), 404, "Not Found", "Not Found"),
        (
            problems.problem(409, "session_exists", session="s"),
            409,
            {"error": "session_exists", "session": "s"},
            "There is a session of this name",
        ),
        (
            problems.datalab_not_installed(),
            503,
            {
                "error": "provider_datalab_not_installed",
                "message": "Provider Datalab is not installed for this cluster.",
            },
            "Provider Datalab is not installed for this cluster.",
        ),
        (
            problems.problem(502, "Listing workspaces failed"),
            502,
            {"error": "Listing workspaces failed"},
            "Listing workspaces failed",
        ),
        (Problem(400, "x", "It is wrong"), 400, "x", "It is wrong"),
        (
            problems.wrong(("body", "a", 0), "must be b", "c"),
            422,
            [{"type": "value_error", "loc": ["body", "a", 0], "msg": "Value error, must be b", "input": "c"}],
            "body.a.0: Value error, must be b",
        ),
    ],
)
def test_details_and_sentences(found: Problem, status: int, detail: Any, sentence: str) -> None:
    assert (found.status, found.detail, found.sentence) == (status, detail, sentence)


def test_the_answer_is_upstreams_or_a_problem() -> None:
    detail: dict[str, Any] = {"error": "session_exists", "session": "s"}
    assert problems.body(409, detail, as_problem=False) == {"detail": detail}
    assert problems.body(409, detail, as_problem=True) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "There is a session of this name",
        "errors": [detail],
    }
    assert problems.body(403, "Forbidden", as_problem=True, said="You may not") == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "You may not",
    }
    errors = [{"loc": ["body"], "msg": "bad"}]
    found = problems.body(422, errors, as_problem=True)
    assert (found["detail"], found["errors"]) == ("body: bad", errors)
    Wire.model_validate(found)


def test_what_is_away_says_when_to_try_again() -> None:
    found = problems.unavailable("The list is not read yet", 0.2)
    assert (found.status, found.detail, found.headers) == (503, "The list is not read yet", {"Retry-After": "1"})


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("spec.databases[pg0].names[1]", ("spec", "databases", "pg0", "names", 1)),
        ("spec.userOverrides[jane.doe].role", ("spec", "userOverrides", "jane.doe", "role")),
        ("metadata.name", ("metadata", "name")),
        ("", ()),
        ("spec.x[]", ("spec", "x")),
    ],
)
def test_fields_in_their_parts(field: str, parts: tuple[str | int, ...]) -> None:
    assert problems.split_path(field) == parts


WORDS: problems.Words = {
    ("spec", "databases", "pg0"): ("add_stores", 0),
    ("spec", "databases", "pg0", "storage"): ("add_stores", 0, "storage"),
}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec.databases[pg0].storage", ("body", "add_stores", 0, "storage")),
        ("spec.databases[pg0].names[0]", ("body", "add_stores", 0)),
        ("spec.files", ("body",)),
    ],
)
def test_fields_are_told_in_the_words_of_the_body(field: str, words: tuple[str | int, ...]) -> None:
    assert problems.in_words_of(WORDS, field) == words


def invalid(*causes: tuple[str, str]) -> Invalid:
    error = Invalid(422, "Invalid", 'Datalab "x" is invalid: internal words')
    error.causes = causes
    return error


def test_what_admission_refuses_is_told_by_member() -> None:
    field = "spec.databases[pg0].storage"
    found = problems.refused(invalid((field, "must be less than 8Ei"), (field, "must be less than 8Ei")), WORDS)
    assert (found.status, found.detail) == (
        422,
        [
            {
                "type": "value_error",
                "loc": ["body", "add_stores", 0, "storage"],
                "msg": "Value error, must be less than 8Ei",
                "input": None,
            }
        ],
    )
    plain = problems.refused(invalid(), WORDS)
    assert isinstance(plain.detail, list)
    assert (plain.detail[0]["loc"], "internal words" in str(plain.detail)) == (["body"], False)


@pytest.mark.parametrize(
    ("error", "status", "detail", "headers"),
    [
        (Throttled(429, "TooMany", "secret words", 7.4), 503, "Temporarily unavailable", {"Retry-After": "7"}),
        (Unavailable(0, "", "secret words"), 503, "Temporarily unavailable", {"Retry-After": "5"}),
        (NamespaceTerminating(403, "", "secret words"), 503, "Temporarily unavailable", {"Retry-After": "5"}),
        (
            Denied("secret words", "account", "patch storages", "workspace"),
            502,
            {"error": "backend_error", "status": 403, "reason": "Forbidden"},
            {},
        ),
        (
            Conflict(409, "Conflict", "secret words"),
            409,
            {
                "error": "conflict",
                "message": "Somebody else changed the same at the same time; read it again",
            },
            {},
        ),
        (NotFound(404, "NotFound", "secret words"), 404, "Not Found", {}),
        (
            Forbidden(403, "Forbidden", 'datalabs.pkg.internal "x" is forbidden: it is protected'),
            409,
            {"error": "refused_by_policy", "message": "it is protected"},
            {},
        ),
        (
            Forbidden(403, "Forbidden", 'admission webhook "claims.datalabd" denied the request: the name is taken'),
            409,
            {"error": "refused_by_policy", "message": "the name is taken"},
            {},
        ),
        (
            Expired(410, "Expired", "secret words"),
            502,
            {"error": "backend_error", "status": 410, "reason": "Expired"},
            {},
        ),
    ],
)
def test_what_the_api_server_refuses(error: KubeError, status: int, detail: Any, headers: dict[str, str]) -> None:
    found = problems.refused(error, {})
    assert (found.status, found.detail, found.headers) == (status, detail, headers)
    assert "secret words" not in str(found)


def test_values_are_told_as_they_are_on_the_wire() -> None:
    detail = caught(RequestPut, {"permission": "All"}).detail
    expected = "'ReadWrite', 'ReadOnly' or 'WriteOnly'"
    assert detail == [
        {
            "type": "literal_error",
            "loc": ["body", "permission"],
            "msg": f"Input should be {expected}",
            "input": "All",
            "ctx": {"expected": expected},
        }
    ]
