"""Turns of the event loop for long work: one step of one pass at a time, and everything else in between."""

import asyncio
import time

STEP_SECONDS = 0.002
"""CPU that a step takes before it lets others go on; what it does between two pauses comes on top."""


class Turns:
    """Shared by all who have long work to do."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def begin(self) -> "Turn":
        """For work that is about to begin."""
        return Turn(self._lock)


class Turn:
    """The steps of one piece of work."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._began = time.thread_time()

    async def next(self) -> None:
        """Return when it is this work's turn again; the loop has gone round since whoever had the turn before."""
        async with self._lock:
            await asyncio.sleep(0)
        self._began = time.thread_time()

    async def pause(self) -> None:
        """The same, if the step has taken its time; else at once."""
        if time.thread_time() - self._began >= STEP_SECONDS:
            await self.next()
