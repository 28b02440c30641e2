"""What is read of live objects that hold something else than was expected: nothing."""

from typing import Any

import pytest

from datalabd.live import annotations, condition, dig, integer, is_true, labels, objects, text, texts

ODD: list[Any] = [None, 1, "x", True, [], {}, [None], {"a": None}]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param({"a": {"b": {"c": 1}}}, {"c": 1}, id="there"),
        pytest.param({"a": {"b": 1}}, {}, id="no object"),
        pytest.param({"a": 1}, {}, id="no object on the way"),
        pytest.param({}, {}, id="absent"),
        pytest.param(None, {}, id="nothing"),
    ],
)
def test_dig(obj: Any, expected: dict[str, Any]) -> None:
    assert dig(obj, "a", "b") == expected


def test_what_is_as_expected_is_read() -> None:
    obj = {
        "metadata": {"labels": {"l": "1"}, "annotations": {"n": "2"}},
        "a": {"text": "x", "number": 3, "truth": True, "list": [{"b": 1}, None, "y", 2]},
        "status": {"conditions": [{"type": "Other"}, {"type": "Ready", "status": "True"}]},
    }
    assert text(obj, "a", "text") == "x"
    assert integer(obj, "a", "number") == 3
    assert is_true(obj, "a", "truth")
    assert objects(obj, "a", "list") == [{"b": 1}]
    assert texts(obj, "a", "list") == ["y"]
    assert (labels(obj), annotations(obj)) == ({"l": "1"}, {"n": "2"})
    assert condition(obj, "Ready", "status") == {"type": "Ready", "status": "True"}


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("path", [("a",), ("a", "b")], ids=".".join)
def test_what_is_not_reads_as_absent(odd: Any, path: tuple[str, ...]) -> None:
    for obj in (odd, {"a": odd}, {"a": {"b": odd}}):
        found = obj
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        assert text(obj, *path) == (found if isinstance(found, str) else "")
        assert integer(obj, *path) == (1 if found == 1 and found is not True else 0)
        assert is_true(obj, *path) == (found is True)
        assert objects(obj, *path) == []
        assert texts(obj, *path) == []
        assert condition(obj, "Ready", *path) == {}
        assert (labels(obj), annotations(obj)) == ({}, {})
