"""Text of others as it is repeated: short, whole characters, nothing that a terminal obeys."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.text import MESSAGE_MAX, bounded, moment, timestamp

ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=3000),  # halves of characters included
    st.lists(st.text(max_size=3)),
    st.dictionaries(st.text(max_size=3), st.integers()),
)


@given(ANY, st.integers(8, 2000))
def test_whatever_it_is_it_fits_and_can_be_shown(value: Any, limit: int) -> None:
    shown = bounded(value, limit)
    assert len(shown.encode()) <= limit
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("as it is", "as it is", id="short"),
        pytest.param("a" * 16, "a" * 16, id="as long as may be"),
        pytest.param("a" * 17, "a" * 13 + "…", id="one byte too long"),
        pytest.param("é" * 8, "é" * 8, id="as many bytes as may be"),
        pytest.param("é" * 9, "é" * 6 + "…", id="cut between characters"),
        pytest.param("a\nb\x1b[2J", "a\\nb\\x1b[2J", id="control characters"),
        pytest.param("a\ud800", "a\\ud800", id="half a character"),
        pytest.param(True, "true", id="a boolean"),
        pytest.param(1.5, "1.5", id="a number"),
        pytest.param({"a": 1}, "", id="an object"),
        pytest.param(None, "", id="null"),
    ],
)
def test_bounded(value: Any, shown: str) -> None:
    assert bounded(value, 16) == shown


def test_a_message_is_cut_at_a_kilobyte() -> None:
    assert len(bounded("x" * 2_000_000).encode()) == MESSAGE_MAX


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", id="of Kubernetes"),
        pytest.param("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05Z", id="with a fraction"),
        pytest.param("2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05Z", id="of another zone"),
        pytest.param("0001-01-02T03:04:05Z", "0001-01-02T03:04:05Z", id="of long ago"),
        pytest.param("0001-01-01T00:00:00+14:00", None, id="before the first year"),
        pytest.param("2026-01-02T03:04:05", None, id="of no zone"),
        pytest.param("2026-01-02", None, id="a day"),
        pytest.param("yesterday", None, id="no time"),
        pytest.param("2026-01-02T03:04:05Z" + " " * 100, None, id="too long"),
        pytest.param(1767322800, None, id="a number"),
        pytest.param(None, None, id="null"),
    ],
)
def test_moment(value: Any, expected: str | None) -> None:
    found = moment(value)
    assert (timestamp(found) if found else None) == expected


def test_a_timestamp_is_of_utc_whatever_zone_it_was_read_in() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=-5))
    assert timestamp(datetime.datetime(2026, 1, 2, 22, 4, 5, tzinfo=zone)) == "2026-01-03T03:04:05Z"
