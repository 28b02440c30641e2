from pathlib import Path
from typing import Any

import pytest

from datalabd.__main__ import main
from datalabd.api.meta import ENVIRONMENT, Manifest
from datalabd.hosts import Row, rows
from datalabd.plan.ingress_protection import SESSION_INGRESS
from datalabd.routes import SERVICE_NAMESPACE
from datalabd.routes.index import outline

DOMAIN = "lab.example.org"


def environment(name: str = "courses", domain: str = DOMAIN) -> Manifest:
    return {"metadata": {"name": name}, "data": {"ingress": {"domain": domain}}}


def claim(name: str, *sessions: str, chosen: str = "courses", **spec: Any) -> Manifest:
    return {
        "metadata": {"name": name, "namespace": "team", "annotations": {ENVIRONMENT: chosen}},
        "spec": {"sessions": [{"name": session} for session in sessions]} | spec,
    }


def ingress(namespace: str, name: str, *names: str, **labels: str) -> Manifest:
    return outline(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"rules": [{"host": host} for host in names]},
        }
    )


CLAIMS = [claim("blab", "main", databases={"pg0": {}}), claim("lost", "a", chosen="gone")]


def leading(into: str) -> Manifest:
    annotations = {SERVICE_NAMESPACE: into}
    metadata = {"name": "way", "namespace": "team-a", "annotations": annotations}
    rules = [{"host": "a.example.com"}, {}]
    return outline(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {"rules": rules},
        }
    )


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        pytest.param(
            ingress("blab", "s", f"blab-main.{DOMAIN}", **SESSION_INGRESS),
            [Row(f"blab-main.{DOMAIN}", "Ingress/s", "blab", "team/blab", "")],
            id="a lab's own",
        ),
        pytest.param(
            ingress("team-a", "squat", f"pg0-blab.{DOMAIN}"),
            [Row(f"pg0-blab.{DOMAIN}", "Ingress/squat", "team-a", "team/blab", "not the lab's")],
            id="a lab's host elsewhere",
        ),
        pytest.param(
            ingress("team-a", "squat", f"blab-second.{DOMAIN}"),
            [Row(f"blab-second.{DOMAIN}", "Ingress/squat", "team-a", "-", "")],
            id="a free name",
        ),
        pytest.param(
            ingress("auth", "proxy", f"auth.{DOMAIN}"),
            [Row(f"auth.{DOMAIN}", "Ingress/proxy", "auth", "-", "the platform's")],
            id="the platform's",
        ),
        pytest.param(
            ingress("web", "all", "*.example.org", ""),
            [
                Row("*.example.org", "Ingress/all", "web", "-", "stands for many names"),
                Row("*", "Ingress/all", "web", "-", "stands for many names"),
            ],
            id="patterns",
        ),
        pytest.param(
            leading("blab"),
            [
                Row("a.example.com", "Ingress/way", "team-a", "team/blab", "leads into the lab"),
                Row("*", "Ingress/way", "team-a", "team/blab", "leads into the lab"),
            ],
            id="a way into a lab",
        ),
        pytest.param(
            leading("elsewhere"), [Row("*", "Ingress/way", "team-a", "-", "stands for many names")], id="no way"
        ),
        pytest.param(ingress("web", "shop", "shop.example.com", DOMAIN), [], id="elsewhere"),
        pytest.param(
            ingress("web", "a", f"lost-a.{DOMAIN}"),
            [Row(f"lost-a.{DOMAIN}", "Ingress/a", "web", "-", "")],
            id="of a lab without an environment",
        ),
    ],
)
def test_rows(route: Manifest, expected: list[Row]) -> None:
    assert list(rows([route], CLAIMS, [environment()])) == expected


def test_ours_of_two_environments_of_a_name_counts() -> None:
    both = [environment(domain="old.example.org"), environment()]
    found = list(rows([ingress("web", "a", f"blab-main.{DOMAIN}", "blab-main.old.example.org")], CLAIMS, both))
    assert [(row.host, row.lab) for row in found] == [(f"blab-main.{DOMAIN}", "team/blab")]


def test_without_an_api_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hosts", "--kubeconfig", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("datalabd: no way to an API server: [Errno 2] No such file or directory: ")
