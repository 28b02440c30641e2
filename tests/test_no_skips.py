import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
ROOT = Path(__file__).parents[1]


def run(directory: Path, body: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """pytest over one test of that body, with nothing of this project's settings."""
    test = directory / "test_it.py"
    test.write_text(f"import pytest\n\n\ndef test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider", f"--rootdir={directory}"]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run([*command, *flags, str(test)], cwd=ROOT, env=environ, capture_output=True, text=True)


def test_a_skip_fails_the_run_and_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, 'pytest.skip("no such program")', "-p", "tests.no_skips")
    assert done.returncode == 1
    assert "test_it.py::test_it: no such program" in done.stdout


def test_a_module_that_skips_itself_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, 'pass\n\npytest.skip("not here", allow_module_level=True)', "-p", "tests.no_skips")
    assert done.returncode == 1
    assert "not here" in done.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, 'pytest.xfail("known")', "-p", "tests.no_skips").returncode == 0


def test_without_the_plugin_a_skip_passes(tmp_path: Path) -> None:
    assert run(tmp_path, 'pytest.skip("no such program")').returncode == 0
