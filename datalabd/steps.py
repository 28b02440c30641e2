"""Long work in small steps, so that whoever does it can let others have a turn in between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that pauses after each step, and returns what it was done for. A step is a few milliseconds at the most."""


def run(steps: Steps[T]) -> T:
    """All steps, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
