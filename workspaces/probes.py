"""Asks sessions whether they answer: each once at a time, and not again within a second."""

import time
from collections.abc import Callable

import aiohttp

from workspaces.recent import Recent

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
        self._recent = Recent(self._ask, ANSWER_SECONDS, ANSWERS_MAX, clock)

    async def close(self) -> None:
        """Stop asking."""
        await self._recent.close()
        await self._http.close()

    async def answers(self, url: str) -> bool:
        """Whether something answers there, whatever it says unless it is broken."""
        return await self._recent.get(url)

    async def _ask(self, url: str) -> bool:
        try:
            async with self._http.head(url, allow_redirects=False) as response:
                return response.status < 500
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return False
