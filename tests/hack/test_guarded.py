"""Servers that hang on a lifeline: they go on without who started them, and end with who holds it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hack import guarded
from hack.guarded import Guarded, Lifeline
from tests.integration.daemon import ROOT, eventually

pytestmark = pytest.mark.thorough
OBEDIENT = "echo $$ > pid.new; mv pid.new pid; exec sleep 600"
STUBBORN = f"trap '' TERM; {OBEDIENT}"


def start(directory: Path, script: str = OBEDIENT) -> None:
    """Start a server on the lifeline of this directory, and leave it."""
    server = Guarded("sleep", directory, RuntimeError, 60, stop="TERM", lifeline=directory)
    server.start(["/bin/sh", "-c", script], (directory / "pid").exists, cwd=directory)
    server.leave()


def hold(directory: Path) -> None:
    """Make a lifeline with a server on it, and stay until killed."""
    Lifeline(directory)
    start(directory)
    sys.stdin.read()


def elsewhere(job: Callable[[Path], None], directory: Path) -> subprocess.Popen[bytes]:
    """Do that in a process of its own."""
    code = f"from pathlib import Path; from {__name__} import *; {job.__name__}(Path({str(directory)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE)


def server(directory: Path) -> psutil.Process:
    """What was started there."""
    eventually((directory / "pid").exists, 60)
    return psutil.Process(int((directory / "pid").read_text()))


def test_it_outlives_who_started_it_and_not_the_lifeline(tmp_path: Path) -> None:
    lifeline = Lifeline(directory := tmp_path / "servers")
    with elsewhere(start, directory) as starting:
        assert starting.wait() == 0
    running = server(directory)
    assert running.is_running()
    lifeline.close()
    assert not running.is_running()


def test_it_ends_with_who_holds_the_lifeline(tmp_path: Path) -> None:
    with elsewhere(hold, tmp_path / "servers") as holding:
        running = server(tmp_path / "servers")
        holding.kill()
    eventually(lambda: not running.is_running())


def test_one_that_does_not_end_when_told_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lifeline = Lifeline(directory := tmp_path / "servers")
    start(directory, STUBBORN)
    running = server(directory)
    monkeypatch.setattr(guarded, "STOP_SECONDS", 0.5)
    lifeline.close()
    eventually(lambda: not running.is_running() or running.status() == psutil.STATUS_ZOMBIE)


def test_a_lifeline_without_servers_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "STOP_SECONDS", 0)
    Lifeline(tmp_path / "servers").close()
