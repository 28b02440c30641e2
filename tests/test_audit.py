"""What is read out of an audit log: who led when, who wrote all the same, what was made twice."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from datalabd.api.meta import ACCOUNT
from tests.integration import audit
from tests.integration.audit import Written
from tests.integration.replicas import Replica

REPLICAS = cast("list[Replica]", [SimpleNamespace(identity=name, credential=f"JTI={name}") for name in ("a", "b")])
LEASE = ("update", "leases", "datalabd")
SESSION = ("create", "workshopsessions", "lab-main")


def entry(replica: str, second: int, verb: str, resource: str, name: str, code: int = 200, **more: Any) -> str:
    """A line of the log, of a request that was answered at once."""
    at = f"2026-01-01T00:00:{second:02}.000000Z"
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={replica}"]}
    told = {
        "verb": verb,
        "user": {"username": ACCOUNT, "extra": extra},
        "requestURI": f"/{resource}/{name}",
        "objectRef": {"resource": resource, "name": name},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": at,
        "stageTimestamp": at,
    }
    return json.dumps(told | more) + "\n"


def writes(directory: Path, *lines: str) -> list[Written]:
    """What a log of these lines tells."""
    log = directory / "audit.log"
    log.write_text("".join(lines))
    return audit.written(log, REPLICAS)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(entry("a", 1, "get", "secrets", "x"), id="read"),
        pytest.param(entry("a", 1, "create", "secrets", "x", 409), id="refused"),
        pytest.param(entry("a", 1, "create", "secrets", "x", 201, requestURI="/secrets?dryRun=All"), id="dry run"),
        pytest.param(entry("a", 1, "create", "secrets", "x", user={"username": "admin"}), id="of somebody else"),
        pytest.param(entry("a", 1, "create", "secrets", "x")[:-1], id="still being written"),
    ],
)
def test_no_write(tmp_path: Path, line: str) -> None:
    assert writes(tmp_path, line) == []


def test_a_former_leader_is_told_from_the_one_that_leads(tmp_path: Path) -> None:
    found = writes(
        tmp_path,
        entry("a", 1, *LEASE),
        entry("a", 2, *SESSION, 201),
        entry("b", 3, *LEASE),
        entry("b", 4, "patch", "secrets", "mine"),
        entry("a", 5, "patch", "secrets", "late"),
        entry("a", 6, "patch", "secrets", "datalabd-serving-cert"),
        entry("a", 7, *LEASE),
        entry("a", 8, "patch", "secrets", "again"),
    )
    assert [replica for _, replica in audit.leaders(found)] == ["a", "b", "a"]
    assert [write.name for write in audit.of_former_leaders(found)] == ["late"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([entry("a", 1, *SESSION, 201)], [], id="once"),
        pytest.param([entry("a", 1, *SESSION, 201), entry("b", 2, *SESSION, 201)], ["lab-main"], id="by each"),
        pytest.param(
            [entry("a", 1, *SESSION, 201), entry("a", 2, "delete", *SESSION[1:]), entry("b", 3, *SESSION, 201)],
            [],
            id="again, once it was deleted",
        ),
        pytest.param([entry("a", 1, *SESSION, 201), entry("a", 2, "patch", *SESSION[1:])], [], id="changed"),
    ],
)
def test_made_twice(tmp_path: Path, lines: list[str], expected: list[str]) -> None:
    assert [name for _, _, name in audit.made_twice(writes(tmp_path, *lines))] == expected
