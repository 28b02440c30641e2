"""What the documentation promises can be looked up: links resolve, every reason is explained, pages are current."""

import re
from pathlib import Path

import pytest

from hack.generate_reference import pages

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_reason_of_a_condition_is_explained() -> None:
    code = (ROOT / "datalabd" / "status.py").read_text() + (ROOT / "datalabd" / "api" / "environment.py").read_text()
    code += (ROOT / "datalabd" / "kube" / "cache.py").read_text()
    reasons = set(re.findall(r'Condition\(\s*"\w+", "\w+", "(\w+)"', code)) | {
        "EnvironmentInvalid",
        "EnvironmentFailed",
    }
    assert len(reasons) > 10
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text()
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()


def test_every_alert_is_explained() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "manifests" / "monitoring" / "alerts.yaml").read_text()))
    assert alerts
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text()
    assert {alert for alert in alerts if f"`{alert}`" not in text} == set()


def test_every_event_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "controllers").glob("*.py"))
    reasons = set(re.findall(r'emit\([\w.]+, "\w+", "(\w+)"', code))
    assert reasons
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text()
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.name))
def test_generated_pages_are_current(page: Path) -> None:
    assert page.read_text() == pages()[page], "run `make crds`"
