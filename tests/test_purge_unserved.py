"""What a purge takes for gone, asked of an API server that serves no claims, and of one that does."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from datalabd.api.meta import NamespacedName
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client, path
from datalabd.purge import find, run

LAB = NamespacedName("shop", "lab")


@contextlib.asynccontextmanager
async def empty_cluster(tmp_path: Path, *, served: bool) -> AsyncIterator[str]:
    """The kubeconfig of an API server that has no object at all, and serves claims or does not."""
    claims = path(kinds.DATALABS, LAB.namespace)

    async def answer(request: web.Request) -> web.Response:
        if served and request.path == claims:
            return web.json_response(
                {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
            )
        return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": str(server.make_url("")).rstrip("/")}}],
            "users": [{"name": "it", "user": {"token": "any"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps(config))
        yield str(file)


@pytest.mark.parametrize(("served", "claimed"), [(True, False), (False, None)])
async def test_nobody_knows_whether_a_claim_is_gone_whose_kind_is_not_served(
    tmp_path: Path, served: bool, claimed: bool | None
) -> None:
    async with empty_cluster(tmp_path, served=served) as kubeconfig:
        client = await Client.connect(kubeconfig)
        try:
            assert (await find(client, LAB)).claimed is claimed
        finally:
            await client.close()


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("objects", [[], ["PostgresCluster/pg0"]])
@pytest.mark.parametrize(
    ("ignored", "code", "output", "error"),
    [
        pytest.param(
            False,
            1,
            "",
            "datalabd: nothing found of lab lab in namespace shop: neither a claim nor anything that one left\n",
            id="a failure",
        ),
        pytest.param(True, 0, "Nothing is retained of lab shop/lab.\n", "", id="ignored"),
    ],
)
async def test_a_lab_that_is_not_found(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    served: bool,
    objects: list[str],
    ignored: bool,
    code: int,
    output: str,
    error: str,
) -> None:
    async with empty_cluster(tmp_path, served=served) as kubeconfig:
        purge = functools.partial(run, str(LAB), objects, agreed=True, kubeconfig=kubeconfig, ignore_not_found=ignored)
        assert await asyncio.to_thread(purge) == code
    assert capsys.readouterr() == (output, error)
