"""What `make demo KEEP=1` leaves up: pages to log in to, at a real Keycloak where there is Java."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack import keycloak, playground
from hack.cluster import Cluster
from hack.demo import Demo
from hack.playground import ADMIN, SAMPLES, WorkspaceApi
from tests.servers import keycloak_server
from tests.workspaces.web import Browser

__all__ = ["keycloak_server"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    """What the demonstration has made when it is over: workspaces ws-ann, which is carol's too, and ws-bob."""
    with playground.start(tmp_path / "cluster") as cluster:
        cluster.kubectl("apply", "-f", str(SAMPLES / "environment.yaml"))
        api = playground.start_workspaces(cluster)
        for name, owner in (("ws-ann", "ann"), ("ws-bob", "bob")):
            ask(api, "POST", "/workspaces", {"preferred_name": name, "default_owner": owner})
        ask(api, "PUT", "/workspaces/ws-ann", {"add_memberships": [{"member": "carol", "role": "user"}]})
        yield cluster


def ask(api: WorkspaceApi, method: str, path: str, body: Any) -> None:
    headers = {"Authorization": f"Bearer {api.token(ADMIN)}"}
    httpx.request(
        method, f"{api.url}{path}", json=body, headers=headers, trust_env=False, timeout=30
    ).raise_for_status()


@pytest.mark.cluster
@pytest.mark.servers("Keycloak")
@pytest.mark.timeout(300)
async def test_people_log_in_at_keycloak_as_it_says(
    running: Cluster, keycloak_server: keycloak.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    Demo(running).log_in_at(keycloak_server)
    output = capsys.readouterr().out
    (url,) = re.findall(r"The pages are at (\S+)/workspaces until you press Ctrl-C\.", output)
    (password,) = re.findall(r"Each has the password (\S+)", output)
    assert "Log in as ann, bob, carol, or as root, who is a platform admin, at Keycloak." in output
    found = {}
    for person in ("ann", "bob", "carol", "root"):
        async with Browser(trusted=[keycloak_server.url]) as browser:
            page = await browser.open(f"{url}/workspaces", username=person, password=password, credentialId="")
            assert any(address.startswith(keycloak_server.url) for address in browser.visited)
            found[person] = sorted(set(re.findall(r'href="/workspaces/(ws-[a-z]+)"', await page.text())))
    assert found == {"ann": ["ws-ann"], "bob": ["ws-bob"], "carol": ["ws-ann"], "root": ["ws-ann", "ws-bob"]}


def test_without_java_it_says_what_it_has_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(signal, "pause", interrupted)
    Demo(Cluster(tmp_path)).keep(WorkspaceApi("http://127.0.0.1:1", "http://127.0.0.1:2", tmp_path / "log"))
    output = " ".join(capsys.readouterr().out.split())
    assert output.startswith(
        "The pages are at http://127.0.0.1:1/workspaces until you press Ctrl-C. Log in as ann, bob, "
    )
    assert "it asks for a name and no password, and believes whatever it is told." in output
    assert "no java: install Java 17 or later" in output
