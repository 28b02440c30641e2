"""Keys that need a reconcile: each once, never two workers on one, failures retried later and later.

The semantics are client-go's: a key added while it is being worked on is worked on again afterwards.
"""

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from datalabd import metrics

Key = TypeVar("Key", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 300.0
MAX_RESTING = 256
"""Keys whose last work is remembered before those that have rested are forgotten."""


def backoff(failures: int) -> float:
    """Seconds before the next try after `failures` ≥ 1 in a row: 0.5·2ⁿ⁻¹, at most 300, ±10 %."""
    seconds = FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 20)
    return float(min(LONGEST_BACKOFF_SECONDS, seconds) * random.uniform(0.9, 1.1))


class Workqueue(Generic[Key]):
    """A queue for workers of one event loop.

    A key that was just worked on rests for `pause` seconds, so that changes that come one after the other, as they do
    where somebody answers what we wrote, are worked on together.
    """

    def __init__(self, name: str, pause: float = 0.0) -> None:
        self._pause = pause
        self._rested: dict[Key, float] = {}
        """Until when a key rests, of those that may do so still."""
        labels = {"name": name, "controller": name}
        self._depth = metrics.QUEUE_DEPTH.labels(**labels)
        self._adds = metrics.QUEUE_ADDS.labels(**labels)
        self._retries = metrics.QUEUE_RETRIES.labels(**labels)
        self._wait = metrics.QUEUE_WAIT.labels(**labels)
        self._work = metrics.QUEUE_WORK.labels(**labels)
        self._started: dict[Key, float] = {}
        metrics.QUEUE_UNFINISHED.labels(**labels).set_function(lambda: sum(self._ages(), 0.0))
        metrics.QUEUE_LONGEST.labels(**labels).set_function(lambda: max(self._ages(), default=0.0))
        self._queue: deque[Key] = deque()
        self._added: dict[Key, float] = {}
        """Keys that wait, with the time they were added."""
        self._again: set[Key] = set()
        """Keys added while being worked on."""
        self._failures: dict[Key, int] = {}
        self._delayed: dict[Key, float] = {}
        """Keys to be added later, with the time when; the heap may hold outdated entries."""
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: Key) -> None:
        """Ask for the key to be worked on as soon as possible, but not before it has rested."""
        if key in self._started:
            self._again.add(key)  # what was asked for later stays so: this may turn out to be covered
            return
        rest = self._rested.get(key, 0.0) - time.monotonic()
        if rest > 0:
            self.add_after(key, rest)
        else:
            self._enqueue(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for the key to be worked on after `seconds`; the earliest of several such wishes counts."""
        due = time.monotonic() + seconds
        if key in self._added or self._delayed.get(key, float("inf")) <= due:
            return
        self._delayed[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._arm()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Work on a key that failed again after its back-off, or `at_least` seconds; returns the delay."""
        self._retries.inc()
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(backoff(self._failures[key]), at_least)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Reset the key's back-off: it succeeded."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key, which no other worker gets until `done`."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        key = self._queue.popleft()
        now = time.monotonic()
        self._wait.observe(now - self._added.pop(key))
        self._started[key] = now
        self._depth.set(len(self._queue))
        return key

    def cover(self, key: Key) -> None:
        """Say that the work in progress on the key includes all that it was added for until now."""
        self._again.discard(key)

    def done(self, key: Key) -> None:
        """Say that work on the key has ended; it is queued again if it was added meanwhile."""
        now = time.monotonic()
        self._work.observe(now - self._started.pop(key))
        if self._pause:
            self._rested[key] = now + self._pause
            if len(self._rested) > MAX_RESTING:
                self._rested = {known: until for known, until in self._rested.items() if until > now}
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _enqueue(self, key: Key) -> None:
        self._delayed.pop(key, None)
        if key not in self._added:
            self._adds.inc()
            self._added[key] = time.monotonic()
            self._queue.append(key)
            self._depth.set(len(self._queue))
            self._ready.set()

    def _ages(self) -> list[float]:
        now = time.monotonic()
        return [now - started for started in self._started.values()]

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            delay = max(0.0, self._heap[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._delayed.get(key) == due and key in self._started:
                self.add(key)
            elif self._delayed.get(key) == due:
                self._enqueue(key)
        self._timer = None
        self._arm()
