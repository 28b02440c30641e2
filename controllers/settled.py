"""What a pass left in order, by which the next one tells whether anything differs, and the plans that were made last.

Nothing here decides anything: whoever finds that all is as it was may leave out what would come to the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from datalabd.api.meta import RETAINED, Manifest, NamespacedName
from datalabd.kube.apply import agrees
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan import Plan
from datalabd.plan.prune import Identity, identity
from datalabd.steps import Steps

PLANS = 32
"""How many plans are remembered: those of labs that change now. One takes a tenth of a megabyte."""

Versions = Mapping[Identity, str]
"""resourceVersions of live objects."""


@dataclass(frozen=True, repr=False)
class Settled:
    """A lab as a pass left it, which had nothing more to do. No repr: facts hold Secrets."""

    lab: Lab
    facts: Observed
    """Without what time alone changes."""
    status: Manifest
    """Of the claim."""
    objects: Versions
    """Of everything that is the lab's."""
    others: Versions
    """Of what is somebody else's and looked after by us."""
    until: float
    """Loop time at which time alone may give more to do."""


def versions(objects: Iterable[Manifest]) -> Versions:
    """The versions of live objects."""
    return {identity(obj): obj["metadata"]["resourceVersion"] for obj in objects}


def agree(changed: list[Manifest], plan: Plan) -> bool:
    """Whether live objects are, in spite of what changed, as a plan applies them."""
    desired = {
        identity(obj): obj
        for stage in plan.stages
        if stage.waits is None and not stage.create_only
        for obj in stage.objects
    }
    return all(
        identity(live) in desired
        and RETAINED not in (live["metadata"].get("labels") or {})
        and agrees(live, desired[identity(live)])
        for live in changed
    )


class Plans:
    """The plans that were made last, each for as long as lab and facts stay what they were made of."""

    def __init__(self, make: Callable[[Lab, Observed], Steps[Plan]]) -> None:
        self._make = make
        self._made: OrderedDict[NamespacedName, tuple[Lab, Observed, Plan]] = OrderedDict()

    def making(self, lab: Lab, seen: Observed, facts: Observed) -> Steps[Plan]:
        """The plan of a lab, in steps; `facts` are what is seen of it without what time alone changes."""
        known = self._made.pop(lab.key, None)
        if known is None or known[0] is not lab or known[1] != facts:
            plan = yield from self._make(lab, seen)
            known = (lab, facts, plan)
        self._made[lab.key] = known
        if len(self._made) > PLANS:
            self._made.popitem(last=False)
        return known[2]

    def forget(self, key: NamespacedName) -> None:
        """Forget the plan of a lab."""
        self._made.pop(key, None)
