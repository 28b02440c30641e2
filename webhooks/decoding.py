"""Decodes JSON that may be large in steps: in one, a text holds the event loop, from within a thread as well.

No parser lets another thread run before it is done, and a text of a few megabytes that consists of braces takes some
hundred milliseconds. So its large objects and arrays are cut at commas, and each piece is decoded for itself.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from datalabd.steps import Steps

AT_ONCE = 256 * 1024
"""Bytes that are decoded in one step: more than two of the largest claim."""
PIECE = 64 * 1024
"""Bytes after which a large text is cut."""
MARKS_A_STEP = 2000
DEPTH_MAX = 1024
"""As orjson's."""

_SCALARS = rb'(?:[^][{},"]+|"[^"\\]*"|\[\]|\{\}){0,64}'
_MARK = re.compile(_SCALARS + rb'([][{},"]?)')
"""What needs no look, at most 64 texts of it, and what does: a bracket, a comma, the start of a text with escapes."""
_IN_TEXT = re.compile(rb'["\\]')
_BLANK = b" \t\n\r"
_CLOSING = {b"{": b"}", b"[": b"]"}


@dataclass
class _Container:
    """An object or array whose end was not met yet."""

    start: int
    opening: bytes
    cut: int
    """Where the text begins that is not decoded yet."""
    comma: int
    """The last one, or the opening bracket."""
    value: Any = None
    """What was decoded of it; None while it is not known to be large."""
    ends_in_value: bool = False
    """Whether its last member was decoded for itself, so that a comma or the end follows."""

    def decode(self, text: bytes) -> None:
        """Decode members."""
        if not text.strip(_BLANK):
            raise ValueError("a member is missing between two commas")
        self._add(orjson.loads(self.opening + text + _CLOSING[self.opening]))

    def take(self, body: bytes, start: int, end: int, value: Any) -> None:
        """Take in a member that was decoded for itself, and what is before it; the member's text is body[start:end]."""
        if self.ends_in_value:
            raise ValueError("a comma is missing")
        key = body[self.cut : start]
        if self.comma >= self.cut:
            self.decode(body[self.cut : self.comma])
            key = body[self.comma + 1 : start]
        last = orjson.loads(self.opening + key + b"null" + _CLOSING[self.opening])
        if len(last) != 1:
            raise ValueError("a comma is missing")
        self._add([value] if isinstance(last, list) else dict.fromkeys(last, value))
        self.cut, self.ends_in_value = end, True

    def _add(self, members: Any) -> None:
        if self.value is None:
            self.value = members
        elif isinstance(members, list):
            self.value += members
        else:
            self.value |= members


def decoded(body: bytes, piece: int = PIECE) -> Steps[Any]:
    """What a JSON text says; ValueError for what is none."""
    position, marks = 0, 0
    open_: list[_Container] = []
    while position < len(body):
        mark = _MARK.match(body, position)
        assert mark is not None  # it matches nothing, too
        position, found = mark.end(), mark[1]
        at = position - 1
        marks += 1
        if marks % MARKS_A_STEP == 0:
            yield
        if found == b'"':
            while (end := _IN_TEXT.search(body, position)) is not None and end[0] != b'"':
                position = end.end() + 1
                marks += 1
                if marks % MARKS_A_STEP == 0:
                    yield
            if end is None:
                raise ValueError("a text does not end")
            position = end.end()
        elif found in (b"{", b"["):
            if len(open_) == DEPTH_MAX:
                raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
            open_.append(_Container(at, found, position, at))
        elif found == b",":
            if not open_:
                raise ValueError("there is more than one value")
            inner = open_[-1]
            if inner.ends_in_value:
                if body[inner.cut : at].strip(_BLANK):
                    raise ValueError("a comma is missing")
                inner.cut, inner.ends_in_value = position, False
            elif at - inner.cut >= piece:
                inner.decode(body[inner.cut : at])
                inner.cut = position
                yield
            inner.comma = at
        elif found:
            if not open_ or _CLOSING[open_[-1].opening] != found:
                raise ValueError(f"unexpected {found.decode()}")
            inner = open_.pop()
            if inner.value is None:
                continue
            rest = body[inner.cut : at]
            if not inner.ends_in_value:
                inner.decode(rest)
            elif rest.strip(_BLANK):
                raise ValueError("a comma is missing")
            yield
            if not open_:
                if (body[: inner.start] + body[position:]).strip(_BLANK):
                    raise ValueError("there is more than one value")
                return inner.value
            open_[-1].take(body, inner.start, position, inner.value)
    if open_:
        raise ValueError("an object or array does not end")
    return orjson.loads(body)
