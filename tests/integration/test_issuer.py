"""The issuer that believes any name, as a process beside a control plane with nothing but the CRDs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from hack.cluster import Cluster
from tests.integration.workspace_server import install_kinds
from tests.workspaces.web import Browser, served
from workspaces.settings import Settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def issuer(cluster: Cluster) -> AsyncIterator[str]:
    """The address of a running issuer."""
    install_kinds(cluster)
    command = [sys.executable, "-m", "hack.issuer", "--kubeconfig", str(cluster.kubeconfig), "--admin", "root"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, cwd=ROOT, env=os.environ)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            said = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
        assert said[1:] == ["client_id: workspaces", "client_secret: not-a-secret"]
        yield said[0].removeprefix("issuer: ")
    finally:
        process.terminate()
        await process.wait()


async def _token(issuer: str, **form: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(f"{issuer}/token", data=form) as answer:
        found = await answer.json()
        return answer.status, found.get("access_token", found.get("error"))


async def test_roles_are_those_of_the_claims_at_that_moment(client: Client, namespace: str, issuer: str) -> None:
    name = f"lab-{namespace}"[:40]
    spec = {"users": ["Alice"], "secretName": name, "sessions": []}
    metadata = {"name": name, "namespace": namespace}
    claim = {"apiVersion": "pkg.internal/v1beta2", "kind": "Datalab", "metadata": metadata, "spec": spec}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-oauth2-client", "namespace": namespace},
        "stringData": {"client_id": name, "client_secret": "of-the-lab"},
    }
    found = {}
    async with served(Settings(oidc_issuer=issuer)) as url, Browser() as browser:

        async def roles(**form: str) -> object:
            status, token = await _token(issuer, **form)
            assert status == 200, token
            answer = await browser.ask("GET", f"{url}/x", headers={"Authorization": f"Bearer {token}"})
            about = await answer.json()
            return about["name"], about["roles"], about["admin"]

        user = {"grant_type": "password", "client_id": "cli", "username": "alice"}
        found["before"] = await roles(**user)
        await client.create(kinds.DATALABS, claim)
        await client.create(kinds.SECRETS, secret)
        found["after"] = await roles(**user)
        found["admin"] = await roles(**user | {"username": "root"})
        machine = {"grant_type": "client_credentials", "client_id": name}
        found["machine"] = await roles(**machine, client_secret="of-the-lab")
        found["wrong secret"] = await _token(issuer, **machine, client_secret="another")
    assert found == {
        "before": ("alice", {}, False),
        "after": ("alice", {name: "ws_admin"}, False),
        "admin": ("root", {}, True),
        "machine": (f"service-account-{name}", {name: "ws_api"}, False),
        "wrong secret": (401, "invalid_client"),
    }
