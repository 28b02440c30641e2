"""Whether a refusal by RBAC is to be said: judged by how long it lasts.

Rights that are given with a namespace take a moment to count, and an API server that starts answers before it has read
its roles.
"""

import time

from datalabd.api.meta import NamespacedName
from datalabd.errors import Denied, NotYet

LASTING_SECONDS = 15.0
RETRY_SECONDS = 2.0
FORGOTTEN_SECONDS = 120.0
"""A refusal after as long without one begins anew."""


class Denials:
    """Refusals by claim."""

    def __init__(self) -> None:
        self._by_key: dict[NamespacedName, tuple[float, float]] = {}
        """When a claim was refused something first, and last."""

    def require_lasting(self, key: NamespacedName, denied: Denied) -> None:
        """Raise `NotYet` while this claim has been refused things for less than fifteen seconds."""
        now = time.monotonic()
        first, last = self._by_key.get(key, (now, now))
        if now - last > FORGOTTEN_SECONDS:
            first = now
        self._by_key[key] = (first, now)
        if now - first < LASTING_SECONDS:
            raise NotYet(f"refused, perhaps for a moment: {denied}", RETRY_SECONDS) from denied

    def forget(self, key: NamespacedName) -> None:
        """A claim was refused nothing, or is gone."""
        self._by_key.pop(key, None)
