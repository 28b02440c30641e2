"""How soon what somebody sets back is put right again, and who that is said to be. Time is as the test says."""

from collections.abc import Callable
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.kube.fights import ADMISSION, QUIET_SECONDS, SOMEBODY, Fights, rival

ORDINARY, CLOSING = "Secret lab/store", "NetworkPolicy lab/deny-egress"


class Ring:
    """Fights with a clock of the test's own, and somebody who sets an object back at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks: list[float] = []
        self.fights = Fights(self.looks.append, lambda: self.now)

    def repairs(self, what: str, times: int, wish: Callable[[int], str] = lambda _: "wish") -> list[float]:
        """Seconds before each of so many repairs, after a first write."""
        self.fights.wrote(what, wish(0))
        pauses = []
        for count in range(times):
            began = self.now
            while self.fights.must_wait(what, wish(count)):
                self.now += self.looks[-1]  # as the pass asks
            pauses.append(self.now - began)
            self.fights.wrote(what, wish(count))
        return pauses


@pytest.fixture
def ring() -> Ring:
    return Ring()


def test_the_pause_doubles_up_to_five_minutes(ring: Ring) -> None:
    assert ring.repairs(ORDINARY, 13) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_what_closes_access_is_put_back_five_times_at_once_and_then_every_ten_seconds(ring: Ring) -> None:
    assert ring.repairs(CLOSING, 9) == [0, 0, 0, 0, 0, 8, 8, 8, 8]


def test_a_single_object_may_close_access_as_well(ring: Ring) -> None:
    ring.fights = Fights(ring.looks.append, lambda: ring.now, closing={ORDINARY})
    assert ring.repairs(ORDINARY, 7) == [0, 0, 0, 0, 0, 8, 8]
    assert ring.repairs("Secret lab/other", 3) == [0, 1, 2]


def test_another_wish_is_no_repair(ring: Ring) -> None:
    assert ring.repairs(ORDINARY, 9, wish=str) == [0] * 9
    assert ring.fights.problem() is None


def test_quiet_lets_the_pauses_begin_anew(ring: Ring) -> None:
    ring.repairs(ORDINARY, 4)
    ring.now += QUIET_SECONDS + 1
    assert not ring.fights.must_wait(ORDINARY, "wish")
    ring.fights.wrote(ORDINARY, "wish")
    assert not ring.fights.must_wait(ORDINARY, "wish")


def test_a_pause_is_no_quiet(ring: Ring) -> None:
    ring.repairs(ORDINARY, 11)
    assert ring.fights.must_wait(ORDINARY, "wish")
    ring.now += 299
    assert ring.fights.must_wait(ORDINARY, "wish")
    ring.now += 2
    assert not ring.fights.must_wait(ORDINARY, "wish")
    ring.fights.wrote(ORDINARY, "wish")
    assert ring.fights.must_wait(ORDINARY, "wish")


def test_a_fight_is_told_of_from_its_third_repair_until_the_object_has_stood_for_a_minute(ring: Ring) -> None:
    ring.repairs(ORDINARY, 2)
    assert ring.fights.contested() == {}
    ring.repairs(ORDINARY, 1)
    assert ring.fights.contested() == {ORDINARY: SOMEBODY}
    assert str(ring.fights.problem()) == (
        "Secret lab/store does not stay as it is applied: another field manager sets it back each time; "
        "it is put right with growing pauses until that ends"
    )
    assert ring.looks[-1] == QUIET_SECONDS  # a pass comes when it is over
    ring.now += QUIET_SECONDS
    assert (ring.fights.contested(), ring.fights.problem()) == ({}, None)


def test_a_fight_lasts_while_the_object_waits_to_be_put_right(ring: Ring) -> None:
    ring.repairs(ORDINARY, 10)
    assert ring.fights.must_wait(ORDINARY, "wish")
    ring.now += QUIET_SECONDS + 1
    assert ring.fights.contested() == {ORDINARY: SOMEBODY}


def test_several_fights_are_counted(ring: Ring) -> None:
    for what in ("Secret lab/a", "Secret lab/b"):
        ring.repairs(what, 3)
    problem = ring.fights.problem()
    assert problem is not None
    assert problem.what == "Secret lab/a"
    assert str(problem).endswith("; 1 more objects are fought over")


def test_a_write_that_does_not_reach_its_wish_is_not_repeated_at_once(ring: Ring) -> None:
    ring.fights.wrote(ORDINARY, "wish", reached=False)
    assert ring.fights.must_wait(ORDINARY, "wish")
    ring.now += 1
    assert not ring.fights.must_wait(ORDINARY, "wish")
    for _ in range(2):
        ring.fights.wrote(ORDINARY, "wish", reached=False)
    assert ring.fights.contested() == {ORDINARY: ADMISSION}


def test_the_rival_is_asked_for_once(ring: Ring) -> None:
    ring.repairs(ORDINARY, 1)
    assert not ring.fights.wants_rival(ORDINARY)
    ring.repairs(ORDINARY, 1)
    assert ring.fights.wants_rival(ORDINARY)
    ring.fights.name_rival(ORDINARY, "field manager kubectl")
    assert not ring.fights.wants_rival(ORDINARY)
    ring.repairs(ORDINARY, 1)
    assert ring.fights.contested() == {ORDINARY: "field manager kubectl"}


def test_what_stands_is_not_remembered(ring: Ring) -> None:
    for name in range(1000):
        ring.fights.wrote(f"Secret lab/{name}", "wish")
        ring.now += 1
    assert len(ring.fights._histories) == QUIET_SECONDS + 1


# --- who --------------------------------------------------------------------------------------------------------------


def entry(manager: str, at: str, fields: Any, **more: str) -> Manifest:
    return {"manager": manager, "operation": "Update", "time": f"2026-03-01T12:00:{at}Z", "fieldsV1": fields} | more


def live(*entries: Any, **spec: Any) -> Manifest:
    return {"metadata": {"managedFields": list(entries)}, "spec": spec}


EGRESS: Manifest = {"f:spec": {"f:egress": {}}}
OTHER: Manifest = {"f:metadata": {"f:labels": {"f:x": {}}}}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [entry("kubectl", "01", EGRESS), entry("flux", "02", OTHER)], "field manager kubectl", id="owns it"
        ),
        pytest.param([entry("kubectl", "01", {"f:spec": {}})], "field manager kubectl", id="owns all around it"),
        pytest.param(
            [entry("a", "01", EGRESS), entry("b", "02", EGRESS)], "field manager b", id="of two the one who wrote last"
        ),
        pytest.param([entry("a", "02", OTHER), entry("b", "01", OTHER)], "field manager a", id="nobody owns it"),
        pytest.param([entry("datalabd", "01", EGRESS)], SOMEBODY, id="we alone"),
        pytest.param([entry("kubectl", "01", EGRESS, subresource="status")], SOMEBODY, id="another part of the object"),
        pytest.param([entry("a\n" * 500, "01", EGRESS)], "field manager " + "a\\n" * 84 + "a…", id="a hostile name"),
        pytest.param([{"manager": "a"}, None], "field manager a", id="entries without fields"),
        pytest.param([], SOMEBODY, id="no entries"),
    ],
)
def test_rival(entries: list[Any], expected: str) -> None:
    assert rival(live(*entries, egress=[{}]), {"spec": {"egress": []}}) == expected
