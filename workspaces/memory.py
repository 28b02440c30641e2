"""What is remembered for a while, up to so many bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Values by key. What was asked for least recently goes when there is too much."""

    def __init__(self, size_max: int) -> None:
        """Bytes of all together."""
        self._size_max = size_max
        self._size = 0
        self._entries: OrderedDict[K, tuple[V, float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """What is remembered; None if nothing is, or no longer."""
        if (entry := self._entries.get(key)) is None:
            return None
        value, until, _ = entry
        if until <= now:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, size: int, until: float) -> None:
        """Remember it up to that time; its size is in bytes, about."""
        self.forget(key)
        self._entries[key] = (value, until, size)
        self._size += size
        while self._size > self._size_max:
            self.forget(next(iter(self._entries)))

    def forget(self, key: K) -> None:
        """Without effect where nothing is remembered."""
        if (entry := self._entries.pop(key, None)) is not None:
            self._size -= entry[2]
