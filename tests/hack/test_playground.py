"""What `make up` leaves running is what the documentation tells of."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_NAMESPACE
from hack import account, playground
from hack.cluster import Cluster
from tests.integration.daemon import eventually

pytestmark = pytest.mark.cluster


TOLD: list[str] = []
"""What was said while it started."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with playground.start(tmp_path_factory.mktemp("playground"), tell=TOLD.append) as cluster:
        yield cluster


def test_what_takes_long_is_told_before(running: Cluster) -> None:
    assert [text.split(" (")[0] for text in TOLD] == [
        "starting etcd, an API server and its controllers",
        "starting the stand-ins for Educates and the operators",
        "starting datalabd",
    ]


def test_what_holds_data_is_kept_from_the_administrator_alone(running: Cluster) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "prod-redis-auth",
            "namespace": "default",
            "labels": {
                "app.kubernetes.io/managed-by": "datalabd",
                CLAIM_NAME: "default",
                CLAIM_NAMESPACE: "claims",
            },
            "annotations": {APPLIED: "0123456789abcdef"},
        },
    }
    running.kubectl("create", "-f", "-", stdin=json.dumps(secret))
    delete = ("delete", "secret", "prod-redis-auth")
    eventually(lambda: running.kubectl(*delete, "--dry-run=server", check=False).returncode != 0)
    assert "it holds data of lab claims/default" in running.kubectl(*delete, check=False).stderr
    assert running.kubectl("--kubeconfig", str(account.kubeconfig(running)), *delete).returncode == 0


def test_labs_may_reach_the_api_server(running: Cluster) -> None:
    running.kubectl("apply", "-k", str(playground.SAMPLES))
    policy = ("get", "networkpolicy", "allow-api-server-egress", "-n", "s-joe", "-o", "jsonpath={.spec.egress[0]}")
    eventually(lambda: running.kubectl(*policy, check=False).returncode == 0)
    assert json.loads(running.kubectl(*policy).stdout) == {
        "ports": [{"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    }


def test_secrets_are_copied_by_an_account_that_may_do_nothing_else(running: Cluster) -> None:
    """As those of Educates are: what its policies and rights refuse there is refused here."""
    running.kubectl("apply", "-k", str(playground.SAMPLES))
    copy = ("get", "secret", "s-joe-datalab", "-n", "s-joe")
    eventually(lambda: running.kubectl(*copy, check=False).returncode == 0, 40)
    entries = [json.loads(line) for line in running.audit_log.read_bytes().splitlines() if b"s-joe-datalab" in line]
    copied = {"resource": "secrets", "namespace": "s-joe", "name": "s-joe-datalab"}
    by = {
        entry["user"]["username"]
        for entry in entries
        if entry["verb"] == "create" and entry["objectRef"].items() >= copied.items()
    }
    assert by == {"system:serviceaccount:educates:secrets-manager"}


def test_the_workspace_api_answers_whoever_takes_a_token_as_told(running: Cluster) -> None:
    api = playground.start_workspaces(running)
    told = subprocess.run(["sh", "-c", api.token_command(playground.ADMIN)], capture_output=True, text=True, check=True)
    headers = {"Authorization": f"Bearer {told.stdout.strip()}"}
    answer = httpx.get(f"{api.url}/workspaces", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()) == (200, [])


def test_down_ends_it_and_removes_its_files_and_clean_only_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    with Cluster.start(directory, detach=True) as cluster:
        assert playground.main(["clean", str(directory)]) == 1
        assert "stop it first" in capsys.readouterr().err
        assert all(cluster.processes().values())
        assert playground.main(["down", str(directory)]) == 0
    assert not directory.exists()
