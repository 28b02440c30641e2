"""What is told of an error that nobody foresaw: where it was, and nothing that it was about."""

import json
from collections.abc import Callable

import pytest

from datalabd.api import quantity
from datalabd.defects import place, stack

SECRET = "the-password"


def raised(fails: Callable[[], object]) -> Exception:
    try:
        fails()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def value() -> None:
    int(SECRET)


def attribute() -> None:
    _ = SECRET.nothing  # type: ignore[attr-defined]


def caused() -> None:
    try:
        value()
    except ValueError as error:
        raise RuntimeError(SECRET) from error


def grouped() -> None:
    raise ExceptionGroup("several", [raised(value)])


def library() -> None:
    json.loads(SECRET)


@pytest.mark.parametrize(
    ("fails", "kind", "where"),
    [
        (value, "ValueError", "value"),
        (attribute, "AttributeError", "attribute"),
        (caused, "RuntimeError", "caused"),
        (grouped, "ValueError", "value"),
        (library, "JSONDecodeError", "raw_decode"),
    ],
)
def test_type_and_place(fails: Callable[[], object], kind: str, where: str) -> None:
    told = place(raised(fails))
    assert told.startswith(f"{kind} at ")
    assert told.endswith(f", in {where}")
    assert SECRET not in told


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert place(ValueError(SECRET)) == "ValueError"


def test_the_innermost_line_of_ours_is_the_place() -> None:
    def fails() -> None:
        quantity.parse(None)

    assert place(raised(fails)).startswith("TypeError at datalabd/api/quantity.py:")


def test_the_stack_has_every_cause_and_no_value() -> None:
    lines = stack(raised(caused))
    assert [line for line in lines if not line.startswith("  ")] == ["RuntimeError", "ValueError"]
    assert any(line.endswith(", in value") for line in lines)
    assert SECRET not in str(lines)


def test_what_the_interpreter_says_of_types_is_kept() -> None:
    assert stack(raised(attribute))[0] == "AttributeError: 'str' object has no attribute 'nothing'"
