"""What somebody else sets back each time we set it: put right again after a growing pause, and told of.

Two writers of one field would go on for ever, as fast as the API server answers. A first repair is made at once; after
that the pause before the next one doubles with each, and begins anew once the object has stood for a while. What closes
access is not left open for long: it is put back at once five times, and then every ten seconds.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from datalabd.api.meta import FIELD_MANAGER, Manifest
from datalabd.errors import Contested
from datalabd.text import ENTRY_MAX, bounded, moment

LONGEST_PAUSE_SECONDS = 300.0
FREE_REPAIRS = 5
"""How often in a row what closes access is put back at once."""
CLOSING_PAUSE_SECONDS = 8.0
"""And after how long from then on: every ten seconds at the latest, with what a pass may take."""
RESETS = 3
"""Repairs in a row that make a fight."""
QUIET_SECONDS = 60.0
"""How long an object has to stand until nobody fights for it any more."""
CLOSING = frozenset({"NetworkPolicy", "Ingress", "ApisixPluginConfig", "Datalab"})
"""Kinds that close access; and the claim itself, whose finalizer keeps what is made of it from being left behind."""
SOMEBODY = "another field manager"
ADMISSION = "an admission webhook"
"""Who changes what is applied while it is applied."""


@dataclass
class _History:
    """The repairs of one object."""

    closes: bool
    """Whether it closes access."""
    wish: str
    """Digest of what it was last made to be."""
    written: float
    repairs: int = 0
    """How often in a row it was made so again."""
    stands: bool = True
    """Whether it was as wished when it was seen last."""
    rival: str = ""

    @property
    def pause(self) -> float:
        """Seconds between the last repair and the next."""
        if self.closes:
            return 0.0 if self.repairs < FREE_REPAIRS else CLOSING_PAUSE_SECONDS
        return min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(self.repairs, 20)) if self.repairs else 0.0

    def is_over(self, now: float) -> bool:
        """Whether it has stood for so long that a next repair would be a first one."""
        return self.stands and now - self.written > max(QUIET_SECONDS, 2 * self.pause)


class Fights:
    """Repairs of the objects of one lab. `later` is called with the seconds after which a pass has something to do.

    `closing` names objects that close access though others of their kind do not.
    """

    def __init__(
        self,
        later: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        closing: Collection[str] = (),
    ) -> None:
        self._later = later
        self._clock = clock
        self._closing = closing
        self._histories: dict[str, _History] = {}

    def must_wait(self, what: str, wish: str) -> bool:
        """Whether `what`, such as `Secret team/lab`, which is not as it is to be, stays so for now."""
        history = self._histories.get(what)
        if history is None or history.wish != wish:
            return False
        now = self._clock()
        if history.is_over(now):
            del self._histories[what]
            return False
        history.stands = False
        left = history.written + history.pause - now
        if left > 0:
            self._later(left)
        return left > 0

    def wrote(self, what: str, wish: str, *, reached: bool = True) -> None:
        """Count a write of `what`; `reached` tells whether the API server's answer is as it is to be."""
        now = self._clock()
        self._histories = {key: known for key, known in self._histories.items() if not known.is_over(now)}
        history = self._histories.get(what)
        if history is None or history.wish != wish:
            closes = what in self._closing or what.partition(" ")[0] in CLOSING
            history = _History(closes, wish, now, 0 if reached else 1)
            self._histories[what] = history
        else:
            history.repairs, history.written = history.repairs + 1, now
        history.stands = reached
        if not reached:
            history.rival = ADMISSION

    def wants_rival(self, what: str) -> bool:
        """Whether nobody has looked yet who fights for `what`."""
        history = self._histories.get(what)
        return history is not None and history.repairs + 1 >= RESETS and not history.rival

    def name_rival(self, what: str, rival: str) -> None:
        """Remember who fights for `what`."""
        self._histories[what].rival = rival

    def contested(self) -> dict[str, str]:
        """What is fought over now, and with whom."""
        return {what: history.rival or SOMEBODY for what, history in self._contested()}

    @property
    def is_over(self) -> bool:
        """Whether all stands as it was made, and nobody fights any more."""
        return not self._contested() and all(history.stands for history in self._histories.values())

    def problem(self) -> Contested | None:
        """The first of them as an error; None while nobody fights. Asks for a pass when that may be over."""
        found = self._contested()
        if not found:
            return None
        now = self._clock()
        for _, history in found:
            if history.stands:
                self._later(history.written + QUIET_SECONDS - now)
        what, history = found[0]
        return Contested(what, history.rival or SOMEBODY, len(found) - 1)

    def _contested(self) -> list[tuple[str, _History]]:
        now = self._clock()
        return [
            (what, history)
            for what, history in sorted(self._histories.items(), key=lambda known: known[0])
            if history.repairs >= RESETS and not (history.stands and now - history.written >= QUIET_SECONDS)
        ]


def rival(live: Manifest, desired: Manifest) -> str:
    """Who, by `managedFields`, set what differs from `desired` in an object just read; `SOMEBODY` if that is not told.

    Who takes a field away owns nothing of it: then it is who wrote last.
    """
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or ()
        if isinstance(entry, dict) and entry.get("manager") != FIELD_MANAGER and entry.get("subresource") != "status"
    ]
    different = list(_differences(live, desired, ()))
    owners = [entry for entry in entries if any(_owns(entry.get("fieldsV1"), path) for path in different)]
    latest = max(owners or entries, key=_written, default={})
    name = bounded(latest.get("manager"), ENTRY_MAX)
    return f"field manager {name}" if name else SOMEBODY


def _written(entry: Manifest) -> float:
    at = moment(entry.get("time"))
    return at.timestamp() if at else 0.0


def _differences(live: Any, desired: Any, path: tuple[str, ...]) -> Any:
    """Paths of the fields of `desired` that `live` has otherwise; lists are looked at as a whole."""
    if isinstance(live, dict) and isinstance(desired, dict):
        for key, value in desired.items():
            yield from _differences(live.get(key), value, (*path, key))
    elif live != desired:
        yield path


def _owns(fields: Any, path: tuple[str, ...]) -> bool:
    """Whether a field set has a field, or one that it lies in or that lies in it."""
    for key in path:
        if not isinstance(fields, dict):
            return False
        if not fields:
            return True  # everything from here on
        if f"f:{key}" not in fields:
            return False
        fields = fields[f"f:{key}"]
    return True
