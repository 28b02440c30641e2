"""What it costs to verify a token: RS256, 2 kB, beside the bare signature and JSON by hand."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.util import urlsafe_b64decode

from hack import issuer as provider
from hack.bench.table import Table
from workspaces.claims import Expected
from workspaces.issuer import Issuer
from workspaces.keys import Keys
from workspaces.tokens import Verifier

URL = "https://id.example.org/realms/labs"
TOKENS = 300


class _Published(Issuer):
    """An issuer whose keys are here."""

    def __init__(self, keys: Sequence[Any]) -> None:
        super().__init__(URL)
        self._keys = [key.as_dict(private=False) for key in keys]

    async def key_set(self) -> Any:
        """The keys."""
        return {"keys": self._keys}


def measure(table: Table) -> None:
    """Print the figures."""
    asyncio.run(_measure(table))


async def _measure(table: Table) -> None:
    issuer = provider.Issuer(lambda _: {f"workspace-{number:02}": ["ws_access"] for number in range(22)})
    issuer.url = URL
    tokens = [issuer.access_token("alice") for _ in range(TOKENS)]
    verifier = Verifier(Keys(_Published(issuer.keys)), Expected(URL, "workspace-api"))
    await verifier.identity(issuer.access_token("alice"))  # has the keys fetched
    public = issuer.keys[-1].public_key

    async def by_hand(token: str) -> object:
        signed, _, signature = token.rpartition(".")
        public.verify(urlsafe_b64decode(signature.encode()), signed.encode(), PKCS1v15(), SHA256())
        return orjson.loads(urlsafe_b64decode(signed.partition(".")[2].encode()))

    hand = await _microseconds(by_hand, tokens)
    first = await _microseconds(verifier.identity, tokens)
    again = await _microseconds(verifier.identity, tokens)
    size = f"{sum(map(len, tokens)) // TOKENS} bytes; signature and JSON alone"
    table.row("CPU to verify a token by hand", hand, "µs", note=size)
    table.row("CPU to verify a token, first time", first, "µs", floor=hand, goal=300)
    table.row("CPU to verify a token, again", again, "µs", floor=hand, goal=20)


async def _microseconds(verify: Callable[[str], Awaitable[object]], tokens: Sequence[str]) -> float:
    """CPU for one of these tokens."""
    began = time.process_time()
    for token in tokens:
        await verify(token)
    return (time.process_time() - began) / len(tokens) * 1_000_000
