import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
INTERNAL = {"control-plane", "keycloak", "minio", "oauth2-proxy", "tools"}


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """make, knowing nothing of a make that may run this test."""
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=directory, env=environ, capture_output=True, text=True)


def python(directory: Path, body: str) -> Path:
    """A program to be taken for Python."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory in which nothing is installed."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_help_lists_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE))
    listed = {line.split()[0] for line in make(ROOT).stdout.splitlines()}
    assert listed == targets - INTERNAL


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("echo 3.9", "is 3.9: install 3.11", id="too old"),
        pytest.param("exit 127", "is not a Python that runs: install 3.11", id="not a Python"),
        pytest.param('case "$2" in *venv*) exit 1;; esac; echo 3.11', "lacks its venv module", id="Debian's, bare"),
    ],
)
def test_a_python_that_will_not_do_is_told_plainly(checkout: Path, body: str, said: str) -> None:
    done = make(checkout, "check", f"PYTHON={python(checkout, body)}")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_first_install_says_that_it_takes_long(checkout: Path) -> None:
    only_checks = python(checkout, 'case "$*" in *version_info*) echo 3.11;; *"-m venv"*) exit 1;; esac')
    done = make(checkout, "up", f"PYTHON={only_checks}")
    assert done.returncode == 2
    assert "(first time only, about a minute) …" in done.stderr


def test_no_python_is_told_plainly(checkout: Path) -> None:
    assert "there is no Python here" in make(checkout, "check", "PYTHON=").stderr


def test_without_a_container_engine_image_says_so(checkout: Path) -> None:
    done = make(checkout, "image", f"PATH={checkout}")
    assert done.returncode == 2
    assert "neither docker nor podman answers" in done.stderr
