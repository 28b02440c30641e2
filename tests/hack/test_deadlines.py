"""Deadlines follow the machine, as it was when the run began."""

import subprocess
import sys
import time

import pytest

from hack import deadlines


def measured(monkeypatch: pytest.MonkeyPatch, work_seconds: float) -> float:
    """The slowness of a machine that takes so long for the work."""
    monkeypatch.delenv(deadlines.VARIABLE, raising=False)
    monkeypatch.setattr(deadlines, "_work_seconds", lambda: work_seconds)
    deadlines.slowness.cache_clear()
    return deadlines.slowness()


@pytest.fixture(autouse=True)
def _measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test here finds is no figure for others."""
    before = deadlines.slowness()
    monkeypatch.setenv(deadlines.VARIABLE, str(before))
    deadlines.slowness.cache_clear()


@pytest.mark.parametrize(
    ("work_seconds", "expected"),
    [
        pytest.param(deadlines.IDLE_SECONDS, 20.0, id="idle"),
        pytest.param(deadlines.IDLE_SECONDS * 2.5, 50.0, id="busy"),
        pytest.param(deadlines.IDLE_SECONDS / 2, 20.0, id="a faster one waits no shorter"),
    ],
)
def test_a_deadline_is_as_many_times_longer_as_work_takes(
    monkeypatch: pytest.MonkeyPatch, work_seconds: float, expected: float
) -> None:
    measured(monkeypatch, work_seconds)
    assert deadlines.scaled(20) == expected


def test_the_processes_of_a_run_measure_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, deadlines.IDLE_SECONDS * 7)
    asked = [sys.executable, "-c", "from hack import deadlines; print(deadlines.slowness())"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "7.0\n"


def test_the_work_is_done_on_every_core() -> None:
    began = time.monotonic()
    found = deadlines._work_seconds()
    assert 0 < found <= time.monotonic() - began
