import time

import pytest

from controllers.denials import Denials
from datalabd.api.meta import NamespacedName
from datalabd.errors import Denied, NotYet

KEY, OTHER = NamespacedName("team", "lab"), NamespacedName("team", "other")
DENIED = Denied("no", "ann", "create secrets", "team")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Now, in its one element."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def young(denials: Denials, key: NamespacedName) -> bool:
    """Whether a refusal now is taken for one of a moment."""
    try:
        denials.require_lasting(key, DENIED)
    except NotYet:
        return True
    return False


def test_a_refusal_is_said_once_it_has_lasted(clock: list[float]) -> None:
    denials = Denials()
    said = []
    for _ in range(10):
        said.append(not young(denials, KEY))
        clock[0] += 2
    assert said == [False] * 8 + [True] * 2


def test_a_refusal_after_a_success_begins_anew(clock: list[float]) -> None:
    denials = Denials()
    young(denials, KEY)
    clock[0] += 20
    denials.forget(KEY)
    assert young(denials, KEY)


def test_a_refusal_long_after_another_begins_anew(clock: list[float]) -> None:
    denials = Denials()
    young(denials, KEY)
    clock[0] += 121
    assert young(denials, KEY)


def test_a_lasting_refusal_looked_at_every_minute_stays_said(clock: list[float]) -> None:
    denials = Denials()
    young(denials, KEY)
    for _ in range(5):
        clock[0] += 60
        assert not young(denials, KEY)


def test_claims_are_judged_apart(clock: list[float]) -> None:
    denials = Denials()
    young(denials, KEY)
    clock[0] += 20
    assert young(denials, OTHER)
    assert not young(denials, KEY)
