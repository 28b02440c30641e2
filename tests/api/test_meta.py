import pytest

from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    ERRORS_MAX,
    FIELD_MANAGER,
    MANAGED_BY,
    FieldError,
    NamespacedName,
    Problem,
    claim_of,
    field_path,
    is_planned,
    several,
    shorten,
)
from datalabd.api.patterns import in_words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("a", "a", id="text"),
        pytest.param(3, "3", id="number"),
        pytest.param(True, "true", id="boolean as in JSON"),
        pytest.param(None, None, id="null is not shown"),
        pytest.param({"a": 1}, None, id="object is not shown"),
        pytest.param("x" * 100, "x" * 100, id="longest"),
        pytest.param("x" * 101, "x" * 99 + "…", id="cut"),
        pytest.param("jané 日本", "jané 日本", id="letters of all alphabets"),
        pytest.param("a\x1b[2J\u202eb\n", "a\\x1b[2J\\u202eb\\n", id="nothing that a terminal would obey"),
    ],
)
def test_shorten(value: object, expected: str | None) -> None:
    assert shorten(value) == expected


def test_field_path_puts_keys_of_the_user_in_brackets() -> None:
    assert field_path(("spec", "databases", "A b", "names", 1)) == "spec.databases[A b].names[1]"


def test_field_path_of_a_key_is_that_of_its_item() -> None:
    assert field_path(("spec", "databases", "A b", "[key]")) == "spec.databases[A b]"


def test_field_path_of_a_key_without_end_is_cut() -> None:
    assert field_path(("spec", "databases", "x" * 1000, "names")) == f"spec.databases[{'x' * 99}…].names"


def test_field_path_shows_nothing_that_a_terminal_would_obey() -> None:
    assert field_path(("data", "limits", "\x1b[2J", "[key]")) == "data.limits.\\x1b[2J"


def test_several_errors_are_told_and_of_very_many_the_first() -> None:
    errors = [FieldError(f"spec.users[{number}]", Problem.DUPLICATE, None, "") for number in range(ERRORS_MAX + 3)]
    assert several(errors[:2]) == ["spec.users[0]: Duplicate value:", "spec.users[1]: Duplicate value:"]
    assert several(errors[:ERRORS_MAX]) == [str(error) for error in errors[:ERRORS_MAX]]
    assert several(errors) == [*map(str, errors[:ERRORS_MAX]), "and 3 more"]


def test_field_error_reads_like_the_api_servers() -> None:
    error = FieldError("spec.sessions[1].name", Problem.INVALID, "A b", "must be lower case")
    assert str(error) == 'spec.sessions[1].name: Invalid value: "A b": must be lower case'


def test_unknown_pattern_is_quoted() -> None:
    assert in_words("^x$") == "must match ^x$"


OURS = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: "lab", CLAIM_NAMESPACE: "team"}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param(OURS, NamespacedName("team", "lab"), id="ours"),
        pytest.param(OURS | {MANAGED_BY: "Helm"}, None, id="managed by another"),
        pytest.param({MANAGED_BY: FIELD_MANAGER}, None, id="of no claim"),
        pytest.param(None, None, id="no labels"),
    ],
)
def test_claim_of(labels: dict[str, str] | None, expected: NamespacedName | None) -> None:
    assert claim_of({"metadata": {"labels": labels}}) == expected


@pytest.mark.parametrize(("name", "text"), [(NamespacedName("a", "b"), "a/b"), (NamespacedName("", "b"), "b")])
def test_namespaced_name_as_text(name: NamespacedName, text: str) -> None:
    assert str(name) == text


def test_every_problem_has_a_cause() -> None:
    assert {problem.cause.removeprefix("FieldValue") for problem in Problem} == {
        "Required",
        "Invalid",
        "Duplicate",
        "NotSupported",
        "Forbidden",
        "TooLong",
        "TooMany",
    }


def test_what_only_inherited_our_labels_was_not_planned() -> None:
    assert is_planned({"metadata": {"annotations": {APPLIED: "0123"}}})
    assert not is_planned({"metadata": {"labels": {CLAIM_NAME: "lab"}}})
    assert not is_planned({"metadata": {"annotations": None}})
