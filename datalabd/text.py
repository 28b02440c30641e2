"""Text of others, such as an operator's message or an API server's error, made fit to be repeated.

Whatever enters a status, an Event or a log goes through here: a status that is too large, or has half a character in
it, could not be written at all.
"""

import datetime

MESSAGE_MAX = 1024
"""Bytes of UTF-8 of one message; also what an Event's note may have."""
ENTRY_MAX = 256
"""Bytes of a text of which a status may have hundreds, such as one for each member."""
LINE_MAX = 4096
"""Bytes of one value in a log line, and of an answer's message that is kept."""
_ELLIPSIS = "…"
_CUT = len(_ELLIPSIS.encode())


def bounded(value: object, limit: int = MESSAGE_MAX) -> str:
    """A scalar as text of at most `limit` bytes of UTF-8, cut with an ellipsis; empty for objects, lists and null.

    What no terminal is to obey, such as line breaks and escape sequences, is spelled out, as is half a character.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return ""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # A character takes a byte at the least: of a megabyte only the beginning is looked at.
    spelled = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: limit + 1])
    encoded = spelled.encode()
    if len(encoded) <= limit:
        return spelled
    return encoded[: limit - _CUT].decode(errors="ignore") + _ELLIPSIS


def moment(value: object) -> datetime.datetime | None:
    """A time of RFC 3339 with its zone, as everybody else would understand it too; None for anything else."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        found = datetime.datetime.fromisoformat(value)
        return None if found.tzinfo is None else found.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def timestamp(value: datetime.datetime) -> str:
    """A time as Kubernetes writes it: UTC, in whole seconds."""
    # Not by strftime, which leaves out the zeros of a year before 1000.
    return value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
