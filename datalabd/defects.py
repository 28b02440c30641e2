"""What is told of an error that nobody foresaw: its type and where it was raised, never the values it speaks of.

`int('…')` and `urlsplit('…')` repeat what they were given, which may be a password.
"""

import traceback
from pathlib import Path
from types import FrameType

_ROOT = Path(__file__).resolve().parent.parent
_OURS = tuple(str(_ROOT / package) for package in ("datalabd", "controllers", "webhooks", "workspaces"))
_WITHOUT_VALUES = (AttributeError, TypeError)
"""Errors of the interpreter that speak of types and names only."""
_LINES_MAX = 60


def place(error: BaseException) -> str:
    """Type and place, such as `TypeError at datalabd/stores.py:331, in _size`: the innermost line that is ours."""
    error = _first(error)
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [found for found in frames if found[0].f_code.co_filename.startswith(_OURS)] or frames
    where = f" at {_line(*ours[-1])}" if ours else ""
    return f"{type(error).__name__}{where}"


def stack(error: BaseException) -> list[str]:
    """The whole stack, outermost line first, and likewise of what caused it; each cause begins with its type."""
    lines: list[str] = []
    cause: BaseException | None = error
    known: set[int] = set()
    while cause is not None and id(cause) not in known:
        known.add(id(cause))
        cause = _first(cause)
        said = f": {cause}" if type(cause) in _WITHOUT_VALUES else ""
        lines.append(f"{type(cause).__name__}{said}")
        lines += [f"  {_line(frame, line)}" for frame, line in traceback.walk_tb(cause.__traceback__)]
        cause = cause.__cause__ or cause.__context__
    return lines[:_LINES_MAX]


def _first(error: BaseException) -> BaseException:
    """The error itself, or of a group its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _line(frame: FrameType, line: int) -> str:
    code = frame.f_code
    file = Path(code.co_filename)
    shown = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else Path(*file.parts[-2:])
    return f"{shown}:{line}, in {code.co_name}"
