from typing import Any

import pytest

from datalabd.api.meta import PROTECTION, Manifest
from datalabd.plan.ingress_protection import annotations, main_host, missing, other_class, weakening
from tests.factories import environment

NGINX = "nginx.ingress.kubernetes.io"
HEADERS = "X-Auth-Request-User,X-Auth-Request-Email,X-Auth-Request-Preferred-Username"
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
            {
                "type": "nginx",
                "authURL": "https://a.example.org",
                "signinURL": "https://a.example.org",
                "responseHeaders": ["authorization", "X-User", "X-Auth-Request-Access-Token", "Set-Cookie"],
            },
            {
                f"{NGINX}/auth-url": "https://a.example.org",
                f"{NGINX}/auth-signin": "https://a.example.org",
                f"{NGINX}/auth-response-headers": "X-User",
            },
            id="nginx, no credential is handed on",
        ),
        pytest.param(
            {"type": "apisix", "discoveryURL": "https://id.example.org"},
            {"k8s.apisix.apache.org/plugin-config-name": "workspace-oidc-lab"},
            id="apisix",
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
    named = {PROTECTION: ",".join(sorted(expected))}
    assert annotations(within, "lab", "team", "lab-main.lab.example.org") == expected | named


def test_a_value_can_be_no_more_than_a_part_of_an_address() -> None:
    protection = {"type": "nginx", "authURL": "https://a/{realm}?x={realm}", "signinURL": "https://a/${host}/{name}"}
    within = environment(ingress={"domain": "lab.example.org", "protection": protection}, iam={"realm": "a?b&{name};#"})
    made = annotations(within, "lab", "team", "lab-main.lab.example.org")
    realm = "a%3Fb%26%7Bname%7D%3B%23"
    assert made[f"{NGINX}/auth-url"] == f"https://a/{realm}?x={realm}"
    assert made[f"{NGINX}/auth-signin"] == "https://a/${host}/lab"


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        pytest.param({"a": "1", "b": "2", "c": "3", PROTECTION: "a,b"}, {}, id="all there"),
        pytest.param({"a": "1", "b": "9", PROTECTION: "a,b"}, {"b": "2"}, id="otherwise"),
        pytest.param({"a": "1", PROTECTION: "a,b"}, {"b": "2"}, id="absent"),
        pytest.param(None, {"a": "1", "b": "2", PROTECTION: "a,b"}, id="no annotations"),
        pytest.param(
            {"a": "1", "b": "2", PROTECTION: "a,b", f"{NGINX}/satisfy": "any"},
            {f"{NGINX}/satisfy": None},
            id="all there, and undone",
        ),
    ],
)
def test_missing(have: dict[str, str] | None, expected: dict[str, str | None]) -> None:
    wanted = {"a": "1", "b": "2", PROTECTION: "a,b"}
    assert missing(wanted, {"metadata": {"annotations": have}}) == expected


def test_what_undoes_nothing_is_left_alone() -> None:
    have = {f"{NGINX}/auth-url": "https://elsewhere"}
    assert missing({PROTECTION: ""}, {"metadata": {"annotations": have}}) == {PROTECTION: ""}


@pytest.mark.parametrize(
    ("key", "weakens"),
    [
        *(
            (f"{NGINX}/{name}", True)
            for name in (
                "configuration-snippet",
                "server-snippet",
                "auth-snippet",
                "stream-snippet",
                "location-snippet",
                "modsecurity-snippet",
                "auth-url",
                "auth-method",
                "auth-cache-key",
                "auth-proxy-set-headers",
                "enable-global-auth",
                "satisfy",
                "ssl-passthrough",
                "canary",
                "canary-by-header",
                "server-alias",
                "mirror-target",
                "permanent-redirect",
                "temporal-redirect",
                "from-to-www-redirect",
            )
        ),
        *(
            (f"{NGINX}/{name}", False)
            for name in (
                "enable-cors",
                "proxy-read-timeout",
                "ssl-redirect",
                "auth-always-set-cookie",
                "auth-tls-secret",
                "whitelist-source-range",
                "affinity-canary-behavior",
            )
        ),
        ("k8s.apisix.apache.org/plugin-config-name", True),
        ("k8s.apisix.apache.org/auth-uri", True),
        ("k8s.apisix.apache.org/enable-websocket", False),
        ("traefik.ingress.kubernetes.io/router.middlewares", True),
        ("traefik.ingress.kubernetes.io/router.tls", False),
        ("projectcontour.io/websocket-routes", False),
        ("example.org/satisfy", False),
    ],
)
def test_weakening(key: str, weakens: bool) -> None:
    assert weakening({key: "x", PROTECTION: "a"}) == ([key] if weakens else [])
    assert weakening({key: "x", PROTECTION: key}) == []
    assert weakening({key: "x", PROTECTION: ""}) == []


class Compared(str):
    """A text that counts how often it is compared."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_annotations_are_not_compared_with_each_name_in_turn() -> None:
    have: dict[str, str] = {Compared(f"a{number}"): "" for number in range(100)}
    names = ",".join(f"b{number}" for number in range(100))
    Compared.times = 0
    assert weakening({**have, PROTECTION: names}) == []
    assert Compared.times <= 10 * len(have)


@pytest.mark.parametrize(
    ("protection", "class_", "spec", "annotations", "expected"),
    [
        ("nginx", "nginx", {"ingressClassName": "nginx"}, {}, ""),
        ("nginx", "nginx", {"ingressClassName": "traefik"}, {}, "traefik"),
        ("nginx", "nginx", {}, {"kubernetes.io/ingress.class": "traefik"}, "traefik"),
        ("nginx", "nginx", {}, None, ""),
        ("nginx", "", {"ingressClassName": "traefik"}, {}, ""),
        ("external", "nginx", {"ingressClassName": "traefik"}, {}, ""),
    ],
)
def test_other_class(
    protection: str, class_: str, spec: Manifest, annotations: dict[str, str] | None, expected: str
) -> None:
    within = environment(ingress={"domain": "a.org", "class": class_, "protection": {"type": protection}})
    assert other_class(within, {"metadata": {"annotations": annotations}, "spec": spec}) == expected


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
