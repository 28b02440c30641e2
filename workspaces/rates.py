"""How many requests a user may make a second, reads and writes apart."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

BURST_SECONDS = 3.0
"""A burst is as many requests as are allowed in this time."""
USERS_MAX = 10_000
"""Users that are kept apart for as long as their requests count: for `BURST_SECONDS`."""
PER_SECOND_MAX = 100_000


@dataclass(frozen=True)
class Rates:
    """Requests a second and user."""

    reads: int = 100
    writes: int = 20

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """As in `reads=100,writes=20`, of which either may be left out; None for `off`. ValueError if it is neither."""
        if text.strip().lower() == "off":
            return None
        values: dict[str, int] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = (part.strip() for part in entry.partition("="))
            if name not in ("reads", "writes") or name in values:
                raise ValueError("must be like reads=100,writes=20, or off")
            if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= PER_SECOND_MAX):
                raise ValueError(f"{name} must be a whole number from 1 to {PER_SECOND_MAX}")
            values[name] = int(number)
        return cls(**values)


class Limiter:
    """A bucket per user, which is full after `BURST_SECONDS` without a request and is then forgotten."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._burst = per_second * BURST_SECONDS
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user: str, now: float) -> float:
        """Seconds until the user may ask again; 0 if this request is allowed, which then counts. `now` never falls."""
        left, since = self._buckets.pop(user, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._buckets[user] = (left if wait else left - 1, now)
        self._forget(now)
        return wait

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget(self, now: float) -> None:
        """Drop buckets that are full again, and the oldest of too many; one was taken from now, and stays."""
        while now - self._oldest >= BURST_SECONDS or len(self._buckets) > USERS_MAX:
            self._buckets.popitem(last=False)

    @property
    def _oldest(self) -> float:
        return next(iter(self._buckets.values()))[1]


class RateLimits:
    """Reads and writes of all users."""

    def __init__(self, rates: Rates | None) -> None:
        """Without rates everything is allowed."""
        self._limiters = None if rates is None else (Limiter(rates.reads), Limiter(rates.writes))

    def take(self, user: str, *, is_write: bool, now: float) -> float:
        """As `Limiter.take`."""
        return 0.0 if self._limiters is None else self._limiters[is_write].take(user, now)
