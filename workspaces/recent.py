"""Answers that are asked for once at a time, and remembered for a while."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic

from workspaces.memory import K, Memory, V


class Recent(Generic[K, V]):
    """Answers by key: whoever asks while an answer is on its way, or soon after, gets that one. Failures are raised."""

    def __init__(
        self,
        ask: Callable[[K], Coroutine[Any, Any, V]],
        seconds: float,
        size_max: int,
        clock: Callable[[], float],
        size_of: Callable[[V], int] = lambda _: 1,
    ) -> None:
        """Each answer counts for so long; the sizes of all together are bounded."""
        self._ask = ask
        self._seconds = seconds
        self._clock = clock
        self._size_of = size_of
        self._known: Memory[K, V] = Memory(size_max)
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer."""
        if (known := self._known.get(key, self._clock())) is not None:
            return known
        if (task := self._asking.get(key)) is None:
            task = self._asking[key] = asyncio.create_task(self._answered(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop asking."""
        for task in (asking := list(self._asking.values())):
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _answered(self, key: K) -> V:
        found = await self._ask(key)
        self._known.put(key, found, self._size_of(found), self._clock() + self._seconds)
        return found
