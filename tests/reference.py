"""Reference data shared between projects, where it is at hand."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("DATALABD_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def vector(name: str) -> Path:
    """A file of the test vectors; the test is skipped where there are none."""
    return shared(f"vectors/{name}")


def shared(name: str) -> Path:
    """A file of the reference data; the test is skipped where there are none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no reference data: {path} is absent (DATALABD_SHARED names its directory)")
    return path
