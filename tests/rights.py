"""What datalabd asked of the API servers of a run, as their audit logs tell it, against the roles it is shipped with.

A request that RBAC refused fails the run, unless a test said so, with its resource or by a verb alone:
`@pytest.mark.denied("list secrets")`. So does a rule that no request of a complete run needed.
"""

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from datalabd.api.meta import ACCOUNT, Manifest
from hack.account import MANIFESTS, WORKSPACES
from hack.generate_manifests import GRANTED_ONWARDS, WORKSPACES_NAMESPACE

ROLES = ("rbac/roles.yaml", "local/roles.yaml", "workspaces/roles.yaml")
OTHER = f":{WORKSPACES}"
"""The end of the Workspace API's account, in whatever namespace a test has it."""
AFTER_SECONDS = 1.0
"""A process that a test leaves behind may ask once more."""
_OURS, _DELETION = (f'"{ACCOUNT}"'.encode(), f'{OTHER}"'.encode()), b'"verb":"delete"'
_ALLOWED = re.compile(r'RBAC: allowed by \w+ "[^"]+" of (\w+) "([^"]+)" to')


class Rule(NamedTuple):
    """One verb on one resource, by virtue of one role: `<kind>/<name>`, a Role's with its namespace before the name."""

    role: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True)
class Request:
    """One request of datalabd, answered."""

    at: float
    """Unix time of its arrival."""
    verb: str
    group: str
    resource: str
    """With its subresource, if any: `datalabs/status`."""
    namespace: str
    name: str
    code: int
    refused: bool
    """By RBAC: as such, or as a role that would grant more than we have."""
    role: str
    """Which role allowed it; empty for what everybody may do."""

    @property
    def what(self) -> str:
        """As a marker names it."""
        return f"{self.verb} {self.resource}"

    def rules(self) -> Iterator[Rule]:
        """What it needed. An apply that makes an object may create, too, though it is booked as a patch alone."""
        for verb in (self.verb, "create") if self.verb == "patch" and self.code == 201 else (self.verb,):
            yield Rule(self.role, self.group, self.resource, verb)


def requests(log: Path) -> Iterator[Request]:
    """datalabd's requests in an audit log, those that are still under way included.

    One that is refused in a namespace whose deletion was asked for is none: our rights there go with all else.
    """
    going: set[str] = set()
    with log.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                continue
            if any(mark in line for mark in _OURS):
                entry = json.loads(line)
                if _is_ours(entry["user"]["username"]) and "objectRef" in entry:
                    request = _request(entry)
                    if not (request.refused and request.namespace in going):
                        yield request
            elif _DELETION in line and b'"resource":"namespaces"' in line:
                going.add(json.loads(line)["objectRef"].get("name", ""))


def _is_ours(account: str) -> bool:
    return account == ACCOUNT or account.endswith(OTHER)


def _request(entry: dict[str, Any]) -> Request:
    of, said = entry["objectRef"], entry.get("annotations") or {}
    code = (entry.get("responseStatus") or {}).get("code", 0)
    namespace = of.get("namespace", "")
    resource = "/".join(filter(None, [of["resource"], of.get("subresource")]))
    allowed = _ALLOWED.match(said.get("authorization.k8s.io/reason", ""))
    role = ""
    if allowed:
        kind, name = allowed.groups()
        place = WORKSPACES_NAMESPACE if name == WORKSPACES else namespace
        role = f"Role/{place}/{name}" if kind == "Role" else f"{kind}/{name}"
    grants = of.get("apiGroup") == "rbac.authorization.k8s.io"
    return Request(
        at=datetime.datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp(),
        verb=entry["verb"],
        group=of.get("apiGroup", ""),
        resource=resource,
        namespace=namespace,
        name=of.get("name", ""),
        code=code,
        refused=said.get("authorization.k8s.io/decision") == "forbid" or (code == 403 and grants),
        role=role,
    )


def shipped() -> set[Rule]:
    """Every rule of the roles that datalabd runs with, but for what it only grants onwards."""
    roles = [role for name in ROLES for role in yaml.safe_load_all((MANIFESTS / name).read_text())]
    return {
        rule
        for role in roles
        for item in role["rules"]
        if item not in GRANTED_ONWARDS
        for rule in _rules(
            "/".join(filter(None, [role["kind"], role["metadata"].get("namespace"), role["metadata"]["name"]])), item
        )
    }


def _rules(role: str, item: Manifest) -> Iterator[Rule]:
    for group in item["apiGroups"]:
        for resource in item["resources"]:
            for verb in item["verbs"]:
                yield Rule(role, group, resource, verb)


@dataclass(frozen=True)
class Leave:
    """What tests of one worker expect to be refused, and when."""

    worker: str
    what: str
    begin: float
    end: float


class Rights:
    """Takes part in a run, in each worker and in who commands them; only the latter judges."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._leaves: list[Leave] = []
        self._is_partial = False
        """Whether tests that have a control plane were left out."""
        self._refused: list[str] = []
        self._unused: list[Rule] = []

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Have the reports of a test say what it expects to be refused."""
        for marker in item.iter_markers("denied"):
            item.user_properties += [("denied", what) for what in marker.args]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a test expects."""
        worker = f"popen-{report.node.gateway.id}" if hasattr(report, "node") else ""
        self._leaves += [
            Leave(worker, str(what), report.start, report.stop + AFTER_SECONDS)
            for key, what in report.user_properties
            if key == "denied"
        ]

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note what is not run."""
        self._is_partial |= any(item.get_closest_marker("cluster") for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker, which alone knows the tests, what is not run."""
        self._is_partial |= getattr(node, "workeroutput", {}).get("rights-partial", False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and make the exit code that of a failure."""
        if hasattr(self._config, "workerinput"):
            self._config.workeroutput["rights-partial"] = self._is_partial  # type: ignore[attr-defined]
            return
        self._judge(self._config._tmp_path_factory.getbasetemp(), session.exitstatus)  # type: ignore[attr-defined]
        if (self._refused or self._unused) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _judge(self, directory: Path, status: int) -> None:
        """Read the logs below a directory, in which each worker has one of its own."""
        used: set[Rule] = set()
        for log in sorted(directory.rglob("audit.log")):
            worker = log.relative_to(directory).parts[0]
            for request in requests(log):
                used.update(request.rules())
                if request.refused and not self._expected(request, worker):
                    self._refused.append(
                        f"{request.what} in {request.namespace or 'the cluster'}, {request.name or 'all'}"
                    )
        if self._is_complete() and status == pytest.ExitCode.OK:
            self._unused = sorted(shipped() - used)

    def _expected(self, request: Request, worker: str) -> bool:
        return any(
            leave.what in (request.what, request.verb)
            and leave.worker in ("", worker)
            and leave.begin <= request.at <= leave.end
            for leave in self._leaves
        )

    def _is_complete(self) -> bool:
        return not self._is_partial and self._config.args == [str(path) for path in self._config.getini("testpaths")]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what is wrong with the rights."""
        _tell(terminalreporter, "refused to datalabd for want of rights", sorted(set(self._refused)))
        _tell(terminalreporter, "rights that no request of this run needed", map(str, self._unused))


def _tell(reporter: pytest.TerminalReporter, title: str, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        if number == 0:
            reporter.section(title, red=True, bold=True)
        reporter.line(line)
