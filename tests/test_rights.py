"""The watch over datalabd's rights finds what is refused and what is not needed."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import ACCOUNT
from tests.rights import Request, Rule, requests, shipped

pytestmark = pytest.mark.thorough

FORBID = {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""}
LAB = "ClusterRole/datalabd-lab"


def allow(kind: str, role: str) -> dict[str, str]:
    """What the API server notes of a request that a role allows."""
    reason = f'RBAC: allowed by RoleBinding "datalabd/lab" of {kind} "{role}" to ServiceAccount "datalabd/datalabd"'
    return {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}


def entry(user: str = ACCOUNT, verb: str = "patch", code: int = 200, **parts: Any) -> dict[str, Any]:
    """A line of an audit log."""
    annotations = parts.pop("annotations", allow("ClusterRole", "datalabd-lab"))
    return {
        "verb": verb,
        "user": {"username": user},
        "objectRef": {"resource": "secrets", "namespace": "lab", "name": "a"} | parts,
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.500000Z",
        "annotations": annotations,
    }


def read(tmp_path: Path, *entries: dict[str, Any], end: str = "\n") -> list[Request]:
    """The requests in a log of these lines."""
    log = tmp_path / "log"
    log.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in entries) + end)
    return list(requests(log))


def test_a_request_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, entry(subresource="status", apiGroup="x.org")) == [
        Request(1767225600.5, "patch", "x.org", "secrets/status", "lab", "a", 200, False, LAB)
    ]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(entry(user="admin"), id="somebody else's"),
        pytest.param(entry(user="admin") | {"impersonatedUser": {"username": ACCOUNT}}, id="somebody in our name"),
        pytest.param({key: value for key, value in entry().items() if key != "objectRef"}, id="of no object"),
    ],
)
def test_no_request_of_ours(tmp_path: Path, line: dict[str, Any]) -> None:
    assert read(tmp_path, line) == []


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    assert len(read(tmp_path, entry(), entry(), end="")) == 1


@pytest.mark.parametrize(
    ("parts", "refused"),
    [
        pytest.param({"annotations": FORBID, "code": 403}, True, id="by RBAC"),
        pytest.param({"code": 403}, False, id="by a quota"),
        pytest.param(
            {"code": 403, "resource": "roles", "apiGroup": "rbac.authorization.k8s.io"}, True, id="as a grant too wide"
        ),
        pytest.param({}, False, id="not"),
    ],
)
def test_what_is_refused(tmp_path: Path, parts: dict[str, Any], refused: bool) -> None:
    (request,) = read(tmp_path, entry(**parts))
    assert request.refused is refused


def test_rights_go_with_their_namespace(tmp_path: Path) -> None:
    refused = entry(annotations=FORBID, code=403)
    deletion = entry(user="admin", verb="delete", resource="namespaces", name="lab")
    assert len(read(tmp_path, refused, deletion, refused)) == 1


@pytest.mark.parametrize(
    ("verb", "code", "kind", "expected"),
    [
        pytest.param("patch", 200, "ClusterRole", [(LAB, "patch")], id="a change"),
        pytest.param("patch", 201, "ClusterRole", [(LAB, "patch"), (LAB, "create")], id="an apply that creates"),
        pytest.param("create", 201, "Role", [("Role/lab/datalabd-lab", "create")], id="by a Role"),
    ],
)
def test_what_a_request_needs(tmp_path: Path, verb: str, code: int, kind: str, expected: list[tuple[str, str]]) -> None:
    (request,) = read(tmp_path, entry(verb=verb, code=code, annotations=allow(kind, "datalabd-lab")))
    assert list(request.rules()) == [Rule(role, "", "secrets", needed) for role, needed in expected]


def test_what_is_shipped() -> None:
    rules = shipped()
    assert Rule(LAB, "", "secrets", "list") in rules
    assert Rule("Role/kube-system/datalabd-local", "coordination.k8s.io", "leases", "update") in rules
    assert Rule("ClusterRole/datalabd", "pkg.internal", "datalabs/status", "patch") in rules
    assert not [rule for rule in rules if rule.resource == "pods"], "only granted onwards"
    assert [rule.role for rule in sorted(rules) if rule.resource == "secrets" and rule.verb == "list"] == [
        "ClusterRole/datalabd-claims",
        LAB,
        "ClusterRole/datalabd-storage",
        "Role/datalabd/datalabd",
        "Role/workspace/datalabd-workspaces",
    ]


INNER = """
import json

import pytest

from tests.rights import Rights

LINE = {line!r}


def pytest_configure(config):
    config.pluginmanager.register(Rights(config), "rights")
"""
TEST = """
import datetime
import json

import pytest

from conftest import LINE


{marker}
def test_asks(tmp_path_factory):
    now = datetime.datetime.now(datetime.UTC).isoformat()
    log = tmp_path_factory.mktemp("cluster") / "audit.log"
    log.write_text(json.dumps(LINE | {{"requestReceivedTimestamp": now}}) + "\\n")
"""
pytest_plugins = ["pytester"]
ROOT = str(Path(__file__).parents[1])


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Where logs lie that are none of this run's."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "run"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Where runs take place, with no plugin but the one that is tried."""
    pytester.makeini("[pytest]\nmarkers =\n  denied: x\n  cluster: x\ntestpaths = checks")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{pytester.path}")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


WORKER = ("-p", "xdist", "-n", "1")


@pytest.mark.parametrize(
    ("line", "marker", "workers", "told"),
    [
        pytest.param(entry(annotations=FORBID, code=403), "", (), ["patch secrets in lab, a"], id="refused"),
        pytest.param(
            entry(annotations=FORBID, code=403),
            '@pytest.mark.denied("patch secrets")',
            (),
            [],
            id="refused as expected",
        ),
        pytest.param(
            entry(annotations=FORBID, code=403),
            '@pytest.mark.denied("patch secrets")',
            WORKER,
            [],
            id="refused to a worker as expected",
        ),
        pytest.param(
            entry(annotations=FORBID, code=403),
            '@pytest.mark.denied("list secrets")',
            WORKER,
            ["patch secrets in lab, a"],
            id="another is expected",
        ),
        pytest.param(entry(), "", (), [], id="allowed"),
    ],
)
def test_a_run(
    inner: pytest.Pytester,
    elsewhere: Path,
    line: dict[str, Any],
    marker: str,
    workers: tuple[str, ...],
    told: list[str],
) -> None:
    inner.makeconftest(INNER.format(line=line))
    inner.makepyfile(TEST.format(marker=marker))
    result = inner.runpytest_subprocess("--basetemp", str(elsewhere), *workers)
    assert result.ret == (1 if told else 0)
    assert [line for line in result.outlines if line.startswith("patch ")] == told


@pytest.mark.parametrize(
    ("options", "is_complete"),
    [
        pytest.param((), True, id="everything"),
        pytest.param(("-m", "cluster"), True, id="all with a control plane"),
        pytest.param((*WORKER, "-m", "cluster"), True, id="all with a control plane, by a worker"),
        pytest.param(("checks/test_one.py",), False, id="a file"),
        pytest.param((*WORKER, "-k", "asks"), False, id="one of two, by a worker"),
    ],
)
def test_a_complete_run_tells_the_rules_it_did_not_need(
    inner: pytest.Pytester, elsewhere: Path, options: tuple[str, ...], is_complete: bool
) -> None:
    inner.makeconftest(INNER.format(line=entry(verb="list")))
    more = "@pytest.mark.cluster\ndef test_more():\n    pass\n\n\ndef test_beside():\n    pass\n"
    body = TEST.format(marker="@pytest.mark.cluster") + "\n\n" + more
    inner.mkdir("checks").joinpath("test_one.py").write_text(body)
    result = inner.runpytest_subprocess("--basetemp", str(elsewhere), *options)
    lines = [line for line in result.outlines if line.startswith(LAB)]
    assert (result.ret, bool(lines)) == ((1, True) if is_complete else (0, False))
    assert f"{LAB}: list secrets" not in lines
    assert (f"{LAB}: delete secrets" in lines) is is_complete
