"""How often each object is written: a loop of writes shows, whoever makes it."""

import time
from collections import Counter
from collections.abc import Callable

from datalabd import metrics
from datalabd.kube.resources import EVENTS, LEASES, Resource

OFTEN = 20
"""Writes of one object in a minute that nothing but a loop makes for long."""
_UNCOUNTED = (EVENTS, LEASES)
"""Each of the one is another object, and the other is there to be written."""


class Writes:
    """Counts the writes of each object in a minute, and at the `OFTEN`th the object, once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute = 0
        self._counts: Counter[tuple[Resource, str, str]] = Counter()

    def count(self, resource: Resource, namespace: str, name: str) -> None:
        """Count a write that the API server took."""
        if resource in _UNCOUNTED:
            return
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        key = (resource, namespace, name)
        self._counts[key] += 1
        if self._counts[key] == OFTEN:
            metrics.WRITTEN_OFTEN.labels(resource=str(resource)).inc()
