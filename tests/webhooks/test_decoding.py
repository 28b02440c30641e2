"""Large JSON is decoded as orjson does it, in small steps."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalabd.steps import run
from webhooks.decoding import DEPTH_MAX, PIECE, decoded

TEXTS = st.text(max_size=5) | st.sampled_from(['"', "\\", '\\"', ",", "[]", "{", "}", "ä", "null"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=25,
)


def as_orjson(body: bytes) -> Any:
    """What orjson makes of it."""
    try:
        return orjson.loads(body)
    except ValueError:
        return ValueError


def in_steps(body: bytes, piece: int) -> Any:
    """The same, piece by piece."""
    try:
        return run(decoded(body, piece))
    except ValueError:
        return ValueError


@settings(deadline=None)
@given(VALUES, st.integers(0, 20), st.sampled_from([None, 0, 2]), st.booleans())
def test_what_is_json(value: Any, piece: int, indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert in_steps(body, piece) == as_orjson(body)


@settings(deadline=None)
@given(VALUES, st.integers(0, 20), st.data())
def test_what_may_be_none(value: Any, piece: int, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b",,", *(bytes([mark]) for mark in b'[]{},":\\ 1n')])
        )
    assert in_steps(bytes(body), piece) == as_orjson(bytes(body))


ODD = rb'''
[1,2,]
[,1]
[1,,2]
[[1,2]3]
[[1,2],]
[[1,2],,3]
[0[1,2]]
[[1,2][3,4]]
[,[1,2,3,4]]
{,"a":[1,2,3,4]}
{"a":[1,2]"b":[3,4]}
{"a":[1,2],"b":[3,4]}
[[][]]
[""""]
[1,    ]
[    ,1]
[1,2}
[1,2
]
{"a":[1,2]"b":1}
{"a":[1,2],}
{"a":1,"b":2,"a":[1,2]}
{[1,2]}
{"a"[1,2]}
[1,2] 3
1,[2]
1 [2,3]
[1,2,"\u0061\""]
["\
"a
7
'''
"""What cutting could read otherwise."""


@pytest.mark.parametrize("body", [*ODD.strip().split(b"\n"), b"", b" ", b"[1,2]\x0b", b'[" \x01",2]'])
@pytest.mark.parametrize("piece", [0, 1, 3])
def test_odd_texts(body: bytes, piece: int) -> None:
    assert in_steps(body, piece) == as_orjson(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_without_end(opening: bytes) -> None:
    with pytest.raises(ValueError, match=f"deeper than {DEPTH_MAX}"):
        run(decoded(opening * 100_000))


SIZE = 1 << 19


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b",".join([b"[]"] * (SIZE // 3)) + b"]", id="empty arrays"),
        pytest.param(
            b'{"a":{"b":[{"c":{%s}}]}}' % b",".join(b'"f:%06d":{}' % n for n in range(SIZE // 14)), id="field sets"
        ),
        pytest.param(b"[%s]" % b",".join([b"1"] * (SIZE // 2)), id="numbers"),
        pytest.param(b"[%s]" % b",".join([b'{"a":"b"}'] * (SIZE // 10)), id="objects"),
    ],
)
def test_large_texts_take_many_steps(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    loads = orjson.loads

    def noted(piece: bytes) -> Any:
        pieces.append(len(piece))
        return loads(piece)

    monkeypatch.setattr("webhooks.decoding.orjson.loads", noted)
    assert sum(1 for _ in decoded(body)) >= SIZE / PIECE
    assert max(pieces) < PIECE + 100
    assert run(decoded(body)) == loads(body)


def test_a_large_text_is_looked_through_in_steps() -> None:
    """It is decoded in one piece, which is fast."""
    body = b'["%s",1]' % (b'\\"' * (SIZE // 2))
    assert sum(1 for _ in decoded(body)) > SIZE / PIECE
    assert run(decoded(body)) == ['"' * (SIZE // 2), 1]
