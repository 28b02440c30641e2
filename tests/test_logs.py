"""What stands on stdout of a process that logs; in processes of their own, for logging is set up once in each."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from hack.deadlines import scaled

PROGRAM = """
import logging, sys
import structlog
from datalabd import logs
logs.configure(sys.argv[1])
log = structlog.get_logger()
structlog.contextvars.bind_contextvars(name="lab")
log.debug("looked")
log.info("reconciled", applied=3)
log.warning("odd")
try:
    raise ValueError("broken")
except ValueError as error:
    log.error("failed", exc_info=error)
logging.getLogger("aiohttp").info("a request")
logging.getLogger("aiohttp").warning("a %s", "warning")
logging.getLogger("aiohttp").error("an error")
"""


def lines(level: str) -> list[dict[str, Any]]:
    """What the program logs, decoded."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, level], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        pytest.param(
            "debug", ["looked", "reconciled", "odd", "failed", "a warning", "an error"], id="all, but of dependencies"
        ),
        pytest.param("INFO", ["reconciled", "odd", "failed", "a warning", "an error"], id="in capitals"),
        pytest.param("warning", ["odd", "failed", "a warning", "an error"], id="from warnings on"),
        pytest.param("error", ["failed", "an error"], id="errors"),
    ],
)
def test_level(level: str, expected: list[str]) -> None:
    assert [line["event"] for line in lines(level)] == expected


def test_a_line() -> None:
    line = lines("info")[0]
    timestamp = line.pop("timestamp")
    assert line == {"event": "reconciled", "applied": 3, "level": "info", "name": "lab"}
    assert timestamp.endswith("Z")


def test_a_line_of_a_dependency() -> None:
    line = lines("info")[-1]
    del line["timestamp"]
    assert line == {"event": "an error", "level": "error", "name": "lab"}


def test_texts_of_others_are_bounded_in_bytes() -> None:
    program = """
import structlog
from datalabd import logs
logs.configure("info")
structlog.get_logger().info("odd", error="é" * 5000, known=["x" * 5000, 1], cause={"said": "\\x1b[2J"})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    odd = json.loads(done.stdout)
    assert (odd["error"], odd["known"], odd["cause"]) == (
        "é" * 2046 + "…",
        ["x" * 4093 + "…", 1],
        {"said": "\\x1b[2J"},
    )


def test_an_exception_is_data() -> None:
    failed = next(line for line in lines("info") if line["event"] == "failed")
    assert (failed["exception"][0]["exc_type"], failed["exception"][0]["exc_value"]) == ("ValueError", "broken")


def test_an_exception_tells_no_local_variables() -> None:
    """They may hold Secrets."""
    program = """
import structlog
from hack.deadlines import scaled
from datalabd import logs
logs.configure("info")
def work():
    password = "the-" + "secret"
    raise ValueError("broken")
try:
    work()
except ValueError as error:
    structlog.get_logger().error("failed", exc_info=error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "the-secret" not in done.stdout


def test_a_person_reads_along() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "info"], stdout=theirs) as process:
        process.wait(timeout=scaled(60))
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "reconciled" in shown.splitlines()[0]
    assert not shown.startswith("{")
