"""Kubernetes Events about a lab, each about a burst of passes rather than about one.

What is on its way is told once it stays so for a while; what is written meanwhile is told together, when the lab is
ready or that while is over. What asks for a person is told at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.api.v1beta2 import HOSTS_TAKEN
from datalabd.kube.apply import Written
from datalabd.kube.events import Recorder
from datalabd.kube.store import key_of
from datalabd.live import condition

HOLD_SECONDS = 60.0
"""How long news are held back at most."""


@dataclass
class _Held:
    """What has not been told of a claim yet."""

    since: float
    written: dict[str, list[str]] = field(default_factory=dict)
    """Objects by the reason that tells of them."""
    change: Manifest | None = None
    """Condition Ready, which has changed since."""


class News:
    """News of all claims. `later` gets a claim and the seconds after which a pass over it has some to tell."""

    def __init__(
        self,
        recorder: Recorder,
        later: Callable[[NamespacedName, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._later = later
        self._clock = clock
        self._held: dict[NamespacedName, _Held] = {}

    def wrote(self, claim: Manifest, written: Written, *, told_by_status: bool = False) -> None:
        """Take what a pass has written; applies are no news where they follow from an edit, of which status speaks."""
        applied = [] if told_by_status else written.applied
        for reason, what in (("Created", written.created), ("Updated", applied), ("Deleted", written.pruned)):
            if what:
                known = self._of(claim).written.setdefault(reason, [])
                known += [one for one in what if one not in known]

    async def status(self, claim: Manifest, after: Manifest) -> None:
        """Take a status just written: the lab may be ready now, or ready no more, or not ready for another reason.

        That somebody else's route answers for its hosts is told at once.
        """
        taken = condition(after, HOSTS_TAKEN).get("message")
        if taken and taken != condition(claim.get("status"), HOSTS_TAKEN).get("message"):
            await self._recorder.emit(claim, "Warning", HOSTS_TAKEN, "Reconcile", taken)
        before, now = condition(claim.get("status"), "Ready"), condition(after, "Ready")
        if (before.get("status"), before.get("reason")) == (now.get("status"), now.get("reason")):
            return
        if _is_urgent(before, after):
            self._of(claim).change = None
            await self._tell_change(claim, "Warning", now)
        else:
            self._of(claim).change = now

    async def tell(self, claim: Manifest, status: Manifest) -> None:
        """Tell what is held back of a claim, if it is time; `status` is its present one."""
        key = key_of(claim)
        held = self._held.get(key)
        if held is None:
            return
        left = held.since + HOLD_SECONDS - self._clock()
        if left > 0 and not _is_true(status, "Ready") and not _is_true(status, "Stalled"):
            self._later(key, left)
            return
        del self._held[key]
        for reason, what in held.written.items():
            await self._recorder.emit(claim, "Normal", reason, "Apply", ", ".join(what))
        if held.change is not None:
            await self._tell_change(claim, "Normal", held.change)

    def forget(self, key: NamespacedName) -> None:
        """Forget what was held back of a claim that is gone."""
        self._held.pop(key, None)

    def _of(self, claim: Manifest) -> _Held:
        return self._held.setdefault(key_of(claim), _Held(self._clock()))

    async def _tell_change(self, claim: Manifest, kind: str, ready: Manifest) -> None:
        reason = "Ready" if ready["status"] == "True" else ready["reason"]
        await self._recorder.emit(claim, kind, reason, "Reconcile", ready.get("message") or reason)


def _is_urgent(before: Manifest, after: Manifest) -> bool:
    lost = before.get("status") == "True" and not _is_true(after, "Ready")
    return lost or _is_true(after, "Stalled")


def _is_true(status: Manifest, kind: str) -> bool:
    return condition(status, kind).get("status") == "True"
