import sys
from pathlib import Path

import pytest

from hack import generate_manifests


def test_manifests_are_current() -> None:
    assert generate_manifests.drifted() == [], "run python -m hack.generate_manifests"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["generate_manifests", *arguments])
    return generate_manifests.main()


@pytest.mark.thorough
def test_drift_is_told_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate_manifests, "ROOT", tmp_path / "manifests")
    assert run(monkeypatch, "--check") == 1
    assert "manifests/crd/datalabs.pkg.internal.yaml" in capsys.readouterr().out.splitlines()
    assert not (tmp_path / "manifests").exists()
    assert run(monkeypatch) == 0
    assert run(monkeypatch, "--check") == 0
