"""What a purge takes for gone, asked of an API server that serves no claims, and of one that does."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from datalabd.api.meta import NamespacedName
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client, path
from datalabd.purge import Refused, find

LAB = NamespacedName("shop", "lab")


async def found(tmp_path: Path, *, served: bool) -> bool:
    """Whether a claim is there, by an API server that has no object at all, and may not have their kind either."""
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
        client = await Client.connect(str(file))
        try:
            return (await find(client, LAB)).claimed
        finally:
            await client.close()


async def test_a_claim_whose_kind_is_served_and_that_is_not_there_is_gone(tmp_path: Path) -> None:
    assert await found(tmp_path, served=True) is False


async def test_nobody_knows_that_a_claim_is_gone_whose_kind_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="install the CustomResourceDefinitions first"):
        await found(tmp_path, served=False)
