"""Pages of rows that a screen has at hand, by the number of rows before them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from workspaces.ui.inputs import Context

PAGE = 50
"""Rows that are shown at once."""
FROM = "from"
"""Parameter: how many rows are before the page, where a screen has one list."""
FILTER = "name"
"""Parameter: what the name of a row has in it."""


@dataclass(frozen=True)
class Part:
    """Rows of which one page is shown."""

    rows: Sequence[Any]
    total: int
    first: int
    """How many rows are before those that are shown."""
    earlier: str | None
    """The query that shows those before; None where there are none."""
    later: str | None


def part(rows: Sequence[Any], query: Mapping[str, str], name: str = FROM, size: int = PAGE) -> Part:
    """The page that the query asks for by a parameter of this name; of what is none, the nearest."""
    wanted = query.get(name, "")
    number = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else 0
    first = min(number, max(len(rows) - 1, 0)) // size * size

    def elsewhere(at: int) -> str | None:
        return urlencode({**query, name: at}) if 0 <= at < len(rows) else None

    return Part(rows[first : first + size], len(rows), first, elsewhere(first - size), elsewhere(first + size))


def wanted(query: Mapping[str, str]) -> str:
    """What names of rows are to have in them, in small letters; empty for any."""
    return query.get(FILTER, "").strip().lower()


def filtering(query: Mapping[str, str], longest: int, size: int = PAGE) -> Context:
    """What the form that filters is made of: it is there where a list is longer than a page, or filtered."""
    return {"filter": query.get(FILTER, ""), "is_long": bool(wanted(query)) or longest > size}
