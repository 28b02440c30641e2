"""Asks sessions whether they answer: each once at a time, and not again within a second."""

import asyncio
import time
from collections.abc import Callable

import aiohttp

from workspaces.memory import Memory

TIMEOUT = aiohttp.ClientTimeout(total=5)
ANSWER_SECONDS = 1.0
"""How long an answer counts."""
ANSWERS_MAX = 10_000
"""Answers that are kept."""
CONNECTIONS_MAX, CONNECTIONS_PER_HOST_MAX = 100, 4


class Probes:
    """Whether addresses answer. Whoever runs what is asked may hold his own probe up, and nobody else's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Needs a running event loop."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_PER_HOST_MAX)
        self._http = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        self._clock = clock
        self._answers: Memory[str, bool] = Memory(ANSWERS_MAX)
        self._asking: dict[str, asyncio.Task[bool]] = {}

    async def close(self) -> None:
        """Stop asking."""
        for task in (asking := list(self._asking.values())):
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._http.close()

    async def answers(self, url: str) -> bool:
        """Whether something answers there, whatever it says unless it is broken."""
        if (known := self._answers.get(url, self._clock())) is not None:
            return known
        if (task := self._asking.get(url)) is None:
            task = self._asking[url] = asyncio.create_task(self._ask(url), name="session probe")
            task.add_done_callback(lambda _: self._asking.pop(url, None))
        return await asyncio.shield(task)

    async def _ask(self, url: str) -> bool:
        try:
            async with self._http.head(url, allow_redirects=False) as response:
                found = response.status < 500
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            found = False
        self._answers.put(url, found, 1, self._clock() + ANSWER_SECONDS)
        return found
