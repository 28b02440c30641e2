"""What the Workspace API's document promises is kept: thousands of requests are made of it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.issuer import Issuer
from tests.integration.workspace_server import Server, new_namespace, serving, workspace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EXAMPLES = 160
"""For each operation; coverage and stateful phases add to them."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    namespace = new_namespace(cluster)
    for name in ("ws-a", "0"):
        workspace(cluster, namespace, name, sessions=[{"name": "default", "state": "started"}])
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with Issuer({"root": {"workspace-api": ["admin"]}}, access_seconds=3600) as issuer:
        environ = {"TOKEN_BROKER_TOKEN_ENDPOINT": f"{issuer.url}/token"}
        with serving(cluster, namespace, log, issuer, **environ) as server:
            yield server


def test_no_request_of_thousands_finds_the_document_wrong(server: Server, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{server.url}/openapi.json",
        f"--header=Authorization: Bearer {server.issuer.access_token('root')}",
        "--exclude-path-regex=/events$",
        f"--max-examples={EXAMPLES}",
        f"--checks={CHECKS}",
        f"--request-timeout={scaled(20):.0f}",
        "--no-color",
        "--continue-on-failure",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=scaled(400))
    assert done.returncode == 0, done.stdout.partition("= FAILURES")[2][:6000]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) >= 5000
    assert server.lines("defect") == []
