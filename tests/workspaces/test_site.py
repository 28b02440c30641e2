"""What is not there is told in one shape, wherever it is noticed: by routes, by methods, or by what operations find."""

import json
import re
from pathlib import Path
from typing import Any

import aiohttp

from tests.kube.scripted import status
from tests.workspaces.api import Api, serving
from tests.workspaces.examples import ABSENT, EXAMPLES
from tests.workspaces.objects import datalab, storage
from workspaces.answers import PROBLEM_JSON
from workspaces.operations import OPERATIONS, Operation

ROOT: dict[str, Any] = {"user": "root", "roles": {"workspace-api": "admin"}}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
PREFIX = {"X-Forwarded-Prefix": "/sub"}


def filled(operation: Operation, workspace: str = ABSENT) -> str:
    """The path of an example."""
    parts = {"w": workspace, **EXAMPLES[operation.name].path}
    return re.sub(r"{(\w+)}", lambda part: parts[part[1]], operation.path)


async def shape(answer: aiohttp.ClientResponse) -> tuple[Any, ...]:
    """What is the same of all errors of a status."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    body = json.loads(await answer.text())
    if answer.content_type == PROBLEM_JSON:
        assert isinstance(body["detail"], str)
        assert isinstance(body.get("errors", []), list)
        return answer.content_type, body["type"], body["title"], body["status"], body.keys() - {"errors"}
    assert isinstance(body["detail"], str) or body["detail"]["error"]
    return answer.content_type, body.keys()


def expected(code: int, phrase: str) -> dict[str, tuple[Any, ...]]:
    """By what is asked for."""
    return {
        "*/*": ("application/json", {"detail"}),
        PROBLEM_JSON: (PROBLEM_JSON, "about:blank", phrase, code, {"type", "title", "status", "detail"}),
    }


async def test_paths_that_are_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path, storages=[storage()], datalabs=[datalab()]) as api:
        unknown = {"/x", "/workspaces/ws-a/x", "/workspaces//x", *(f"{filled(one)}/x/y/z" for one in OPERATIONS)}
        for path in sorted(unknown):
            for accept, body in expected(404, "Not Found").items():
                for method in ("GET", "DELETE"):
                    answer = await api.ask(method, path, **ROOT, headers={"Accept": accept} | PREFIX)
                    assert (answer.status, await shape(answer)) == (404, body), (method, path)
        head = await api.ask("HEAD", "/x", **ROOT)
        assert (head.status, await head.read()) == (404, b"")


async def test_methods_that_are_not_there(tmp_path: Path) -> None:
    """Each answer names those that are; HEAD is there wherever GET is."""
    paths: dict[str, set[str]] = {}
    example: dict[str, str] = {}
    for one in OPERATIONS:
        path = example.setdefault(one.path, filled(one))
        paths.setdefault(path, set()).update({one.method} | ({"HEAD"} if one.method == "GET" else set()))
    async with serving(tmp_path, storages=[storage()], datalabs=[datalab()]) as api:
        for path, methods in paths.items():
            for method in [*sorted(METHODS - methods - {"HEAD"}), "OPTIONS", "PROPFIND"]:
                for accept, body in expected(405, "Method Not Allowed").items():
                    answer = await api.ask(method, path, **ROOT, headers={"Accept": accept} | PREFIX)
                    assert (answer.status, await shape(answer)) == (405, body), (method, path)
                    assert set(answer.headers["Allow"].split(",")) == methods


async def asked(api: Api, one: Operation, accept: str) -> aiohttp.ClientResponse:
    """The example of an operation, of a workspace that is not there."""
    body = EXAMPLES[one.name].body
    return await api.ask(one.method, filled(one), **ROOT, headers={"Accept": accept} | PREFIX, json=body)


async def test_workspaces_that_are_not_there(tmp_path: Path) -> None:
    absent = {ABSENT: [status(404, "NotFound")] * 100}
    unasked = {"issue_token", "download_object"}  # there is no broker; the example names no object
    operations = [one for one in OPERATIONS if one.on_workspace and one.name not in unasked]
    async with serving(tmp_path, storages=[storage()], datalabs=[datalab()], scripts=absent) as api:
        for one in operations:
            for accept, body in expected(404, "Not Found").items():
                answer = await asked(api, one, accept)
                assert (answer.status, await shape(answer)) == (404, body), one.name
