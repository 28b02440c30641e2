"""What the documentation promises can be looked up: links resolve, every reason is explained, pages are current."""

import ast
import re
from pathlib import Path

import pytest

from datalabd.kube.cache import OWNED_KINDS
from datalabd.stores import OPERATORS
from hack import objects_table, screenshots
from hack.cluster import kubernetes_version
from hack.generate_reference import pages
from hack.standins import educates, gateway, mongodb, postgres, qdrant, redis
from workspaces.ui.screens import SCREENS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECURITY = (ROOT / "docs" / "explanation" / "security.md").read_text()
WEAKNESS = re.compile(r"^\| (W\d+) \| .+ \| .+ \| (.+) \|$", re.MULTILINE)
IN_WORDS = {"W16", "W33", "W40"}
"""Weaknesses that no test can show: somebody else's, not ours to change yet, or gone with what had them."""
PLAYED = {
    "Educates": educates,
    "PGO": postgres,
    "Gateway API": gateway,
    "MongoDB Controllers for Kubernetes": mongodb,
    "Redis operator (OT-CONTAINER-KIT)": redis,
    "Qdrant operator": qdrant,
}
"""What tests play instead of an operator, by its name; the first line of each says which version."""
LINK = re.compile(r"(?:\]\(|(?:src|srcset)=\")(?!https?://)([^)#\"]+)")
IMAGE = re.compile(r"<img [^>]*>")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_is_described(page: Path) -> None:
    for image in IMAGE.findall(page.read_text()):
        assert re.search(r' alt="[^"]{10,}"', image), image


def test_pictures_of_all_screens_are_there_and_small() -> None:
    images = ROOT / "docs" / "images"
    expected = {f"{screen.name}-{variant}.png" for screen in SCREENS for variant in screenshots.VARIANTS}
    expected |= {f"{name}-dialog.png" for name in screenshots.DIALOGS}
    assert {path.name for path in images.iterdir()} == expected
    assert sum(path.stat().st_size for path in images.iterdir()) < 3 * 2**20


def test_every_reason_of_a_condition_is_explained() -> None:
    code = (ROOT / "datalabd" / "status.py").read_text() + (ROOT / "datalabd" / "api" / "environment.py").read_text()
    code += (ROOT / "datalabd" / "kube" / "cache.py").read_text()
    reasons = set(re.findall(r'Condition\(\s*"\w+", "\w+", "(\w+)"', code)) | {
        "EnvironmentInvalid",
        "EnvironmentFailed",
    }
    keycloak = (ROOT / "controllers" / "identity.py").read_text()
    told = set(re.findall(r'_Reason\("(\w+)"', keycloak))
    assert len(told) == 6
    reasons |= told | {reason for pair in re.findall(r'reason = "(\w+)" if .+ else "(\w+)"', code) for reason in pair}
    assert len(reasons) > 10
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text()
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()


def test_every_alert_is_explained() -> None:
    files = list((ROOT / "manifests").rglob("alerts.yaml"))
    assert len(files) == 2
    alerts = {alert for file in files for alert in re.findall(r"alert: (\w+)", file.read_text())}
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


def test_every_weakness_is_answered_once() -> None:
    assert [number for number, _ in WEAKNESS.findall(SECURITY)] == [f"W{number}" for number in range(1, 43)]


@pytest.mark.parametrize(
    ("number", "shown"), [pytest.param(*found, id=found[0]) for found in WEAKNESS.findall(SECURITY)]
)
def test_what_is_said_of_a_weakness_is_shown_by_tests(number: str, shown: str) -> None:
    named = [text.strip("`").split("::", 1) for text in shown.split(", ") if text != "–"]
    assert bool(named) == (number not in IN_WORDS)
    assert [(path, test) for path, test in named if test not in defined(path)] == []


def defined(path: str) -> set[str]:
    """The tests of a file, as pytest names them."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        of_class = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test_"):
                found.add(f"{of_class}{inner.name}")
    return found


def test_the_table_of_objects_has_every_kind_and_tells_of_no_other() -> None:
    kinds = {row.kind for row in objects_table.rows()[0]}
    assert kinds == {kind.kind for kind in OWNED_KINDS}
    assert set(OPERATORS) <= set(objects_table.READY) <= kinds


def test_objects_of_a_part_are_told_of() -> None:
    words = {part.words for part in objects_table.PARTS}
    told = {word for rows in objects_table.rows() for row in rows for word in words if word in row.when}
    assert told == words


def test_the_versions_told_of_are_those_of_the_tests() -> None:
    page = (ROOT / "docs" / "how-to" / "first-claim.md").read_text()
    told = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE))
    tested = {"Kubernetes": ".".join(kubernetes_version().removeprefix("v").split(".")[:2])}
    for name, module in PLAYED.items():
        found = re.search(r"\d+(\.\d+)+", (module.__doc__ or "").partition("\n")[0])
        assert found is not None, module
        tested[name] = found.group()
    assert tested.keys() < told.keys()
    assert {name: version for name, version in tested.items() if version not in told[name]} == {}
