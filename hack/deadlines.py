"""How long to wait on this machine: deadlines are written for two idle cores, and longer where those are slow or busy.

The machine is measured once for a run, by its first process; those that it starts inherit the figure.
"""

import functools
import os
import subprocess
import sys
import time

VARIABLE = "DATALABD_SLOWNESS"
WORK = "for _ in range(20_000_000): pass"
IDLE_SECONDS = 0.35
"""What that takes where every core has nothing else to do."""


@functools.cache
def slowness() -> float:
    """How many times as long as an idle machine this one takes for the same work; at least 1."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = f"{max(1.0, _work_seconds() / IDLE_SECONDS):.1f}"
    return float(os.environ[VARIABLE])


def scaled(seconds: float) -> float:
    """A deadline for this machine, given one for an idle machine; never a shorter one."""
    return seconds * slowness()


def _work_seconds() -> float:
    """How long the slowest of as many processes as there are cores takes, its start included."""
    began = time.monotonic()
    workers = [subprocess.Popen([sys.executable, "-I", "-S", "-c", WORK]) for _ in range(os.cpu_count() or 1)]
    for worker in workers:
        worker.wait()
    return time.monotonic() - began
