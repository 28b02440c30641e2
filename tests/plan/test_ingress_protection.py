from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.plan.ingress_protection import annotations, main_host, missing
from tests.factories import environment

NGINX = "nginx.ingress.kubernetes.io"
HEADERS = "Authorization,X-Auth-Request-User,X-Auth-Request-Email,X-Auth-Request-Preferred-Username"
ALL = "{name} {namespace} {realm} {group} {host}"


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        pytest.param({}, {}, id="off"),
        pytest.param({"type": "external"}, {}, id="external"),
        pytest.param(
            {"type": "nginx"},
            {
                f"{NGINX}/auth-url": "https://auth.lab.example.org/oauth2/auth",
                f"{NGINX}/auth-signin": (
                    "https://auth.lab.example.org/oauth2/start?rd=https://$host$escaped_request_uri"
                ),
                f"{NGINX}/auth-response-headers": HEADERS,
            },
            id="nginx",
        ),
        pytest.param(
            {
                "type": "nginx",
                "authURL": "https://a.example.org/{realm}",
                "signinURL": "https://a.example.org/{name}?rd=$scheme",
                "responseHeaders": ["X-User"],
            },
            {
                f"{NGINX}/auth-url": "https://a.example.org/acme",
                f"{NGINX}/auth-signin": "https://a.example.org/lab?rd=$scheme",
                f"{NGINX}/auth-response-headers": "X-User",
            },
            id="nginx, in the operator's words",
        ),
        pytest.param(
            {"type": "traefik", "middleware": "{namespace}-login@kubernetescrd"},
            {"traefik.ingress.kubernetes.io/router.middlewares": "team-login@kubernetescrd"},
            id="traefik",
        ),
        pytest.param(
            {"type": "annotations", "annotations": {"a/b": ALL, "c": "fixed"}},
            {"a/b": "lab team acme lab lab-main.lab.example.org", "c": "fixed"},
            id="annotations",
        ),
    ],
)
def test_annotations(protection: dict[str, Any], expected: dict[str, str]) -> None:
    within = environment(
        ingress={"domain": "lab.example.org", "protection": protection},
        iam={"realm": "acme"},
    )
    assert annotations(within, "lab", "team", "lab-main.lab.example.org") == expected


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        pytest.param({"a": "1", "b": "2", "c": "3"}, {}, id="all there"),
        pytest.param({"a": "1", "b": "9"}, {"b": "2"}, id="otherwise"),
        pytest.param({"a": "1"}, {"b": "2"}, id="absent"),
        pytest.param(None, {"a": "1", "b": "2"}, id="no annotations"),
    ],
)
def test_missing(have: dict[str, str] | None, expected: dict[str, str]) -> None:
    assert missing({"a": "1", "b": "2"}, {"metadata": {"annotations": have}}) == expected


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        pytest.param({"spec": {"rules": [{"host": "a.org"}, {"host": "b.org"}]}}, "a.org", id="the first"),
        pytest.param({"spec": {"rules": [{"http": {}}]}}, "", id="rule without host"),
        pytest.param({"spec": {}}, "", id="no rules"),
        pytest.param({}, "", id="no spec"),
    ],
)
def test_main_host(ingress: Manifest, expected: str) -> None:
    assert main_host(ingress) == expected
