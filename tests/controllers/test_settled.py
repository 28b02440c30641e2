"""When a pass may take for granted what the last one left."""

from dataclasses import replace

import pytest

from controllers.settled import PLANS, Plans, agree, versions
from datalabd.api.meta import RETAINED, Manifest, NamespacedName
from datalabd.lab import Lab
from datalabd.observed import Observed, timeless
from datalabd.plan import Plan, Stage, planning
from datalabd.plan.prune import identity
from datalabd.steps import Steps, run
from tests.factories import fresh, lab, running

LAB = lab()
SEEN = running(LAB)


def the_plan() -> Plan:
    return run(planning(LAB, SEEN, fresh()))


def policies() -> list[Manifest]:
    """Live policies as they are planned."""
    stage = next(stage for stage in the_plan().stages if stage.name == "workshop namespace")
    return [obj for obj in stage.objects if obj["kind"] == "NetworkPolicy"]


def test_what_somebody_added_to_agrees() -> None:
    live = [policy | {"metadata": policy["metadata"] | {"resourceVersion": "2"}} for policy in policies()]
    assert agree(live, the_plan())
    assert versions(live) == {identity(policy): "2" for policy in live}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"spec": {}}, id="emptied"),
        pytest.param({"metadata": {"name": "another", "namespace": "lab"}}, id="not planned"),
    ],
)
def test_what_differs_does_not(change: Manifest) -> None:
    assert not agree([policies()[0] | change], the_plan())


def test_what_was_retained_is_to_be_taken_up() -> None:
    live = policies()[0]
    labels = live["metadata"]["labels"] | {RETAINED: "true"}
    assert not agree([live | {"metadata": live["metadata"] | {"labels": labels}}], the_plan())


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(Stage("waits", tuple(policies()), waits="something"), id="not to be applied yet"),
        pytest.param(Stage("once", tuple(policies()), create_only=True), id="written once"),
    ],
)
def test_what_is_not_applied_is_left_to_a_pass(stage: Stage) -> None:
    assert not agree(policies(), Plan((stage,)))


class Maker:
    """Makes plans, and remembers of which facts."""

    def __init__(self) -> None:
        self.made: list[Observed] = []
        self.plans = Plans(self._make)

    def _make(self, lab: Lab, seen: Observed) -> Steps[Plan]:
        self.made.append(seen)
        return planning(lab, seen, fresh())

    def plan(self, seen: Observed = SEEN) -> Plan:
        return run(self.plans.making(LAB, seen, timeless(seen)))


def test_a_plan_is_made_once_for_the_same_facts() -> None:
    maker = Maker()
    older = replace(SEEN, sessions={name: replace(facts, age_seconds=99.0) for name, facts in SEEN.sessions.items()})
    assert maker.plan() is maker.plan(older)
    assert maker.made == [SEEN]


def test_a_plan_is_made_again_for_others() -> None:
    maker = Maker()
    other = replace(SEEN, credentials_copied=False)
    assert maker.plan() is not maker.plan(other)
    assert maker.made == [SEEN, other]


def test_a_plan_is_made_again_for_another_lab() -> None:
    maker = Maker()
    maker.plan()
    run(maker.plans.making(lab(), SEEN, timeless(SEEN)))
    assert len(maker.made) == 2


def test_old_plans_are_forgotten() -> None:
    maker = Maker()
    maker.plan()
    for number in range(PLANS):
        other = replace(LAB, name=f"lab-{number}")
        run(maker.plans.making(other, SEEN, timeless(SEEN)))
    maker.plan()
    maker.plans.forget(NamespacedName("team", "lab"))
    maker.plan()
    assert len(maker.made) == PLANS + 3
