from typing import Any

import pytest

from webhooks.routes import KINDS, reached, rules


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        pytest.param(
            "HTTPRoute",
            {"hostnames": ["A.org", "*.b.org"]},
            {"a.org": "spec.hostnames[0]", "*.b.org": "spec.hostnames[1]"},
            id="names and wildcards",
        ),
        pytest.param("HTTPRoute", {"hostnames": ["a.org", "A.org"]}, {"a.org": "spec.hostnames[0]"}, id="twice"),
        pytest.param("GRPCRoute", {}, {"": "spec.hostnames"}, id="whatever its listener has"),
        pytest.param("TLSRoute", {"hostnames": []}, {"": "spec.hostnames"}, id="an empty list"),
        pytest.param("TLSRoute", None, {"": "spec.hostnames"}, id="no spec"),
        pytest.param(
            "ApisixRoute",
            {"http": [{"match": {"hosts": ["a.org"]}}, {"match": {"paths": ["/*"]}}, {}]},
            {"a.org": "spec.http[0].match.hosts[0]", "": "spec.http[1].match.hosts"},
            id="APISIX",
        ),
        pytest.param(
            "ApisixRoute",
            {"stream": [{"match": {"host": "A.org", "ingressPort": 9100}}, {"match": {"ingressPort": 9101}}]},
            {"a.org": "spec.stream[0].match.host"},
            id="APISIX, connections",
        ),
        pytest.param("ApisixRoute", {}, {}, id="APISIX, nothing"),
        pytest.param(
            "IngressRoute",
            {"routes": [{"match": "Host(`a.org`)"}, {"match": "PathPrefix(`/`)"}]},
            {"a.org": "spec.routes[0].match", "": "spec.routes[1].match"},
            id="Traefik",
        ),
        pytest.param("IngressRouteTCP", {"routes": [{}]}, {"": "spec.routes[0].match"}, id="Traefik, no rule"),
        pytest.param("IngressRoute", {}, {}, id="Traefik, nothing"),
        pytest.param("HTTPProxy", {"virtualhost": {"fqdn": "A.org"}}, {"a.org": "spec.virtualhost.fqdn"}, id="Contour"),
        pytest.param("HTTPProxy", {"virtualhost": {}}, {"": "spec.virtualhost.fqdn"}, id="Contour, no name"),
        pytest.param("HTTPProxy", {"routes": []}, {}, id="Contour, part of another"),
        pytest.param(
            "Ingress",
            {"rules": [{"host": "a.org"}, {}]},
            {"a.org": "spec.rules[0].host", "": "spec.rules[1].host"},
            id="Ingress",
        ),
    ],
)
def test_hosts(kind: str, spec: dict[str, Any] | None, expected: dict[str, str]) -> None:
    assert reached({"kind": kind, "metadata": {}, "spec": spec}) == expected


def test_what_is_no_route() -> None:
    with pytest.raises(KeyError):
        reached({"kind": "TCPRoute", "metadata": {}, "spec": {}})


def test_a_registration_chooses_each_kind_once() -> None:
    chosen = [(group, rule["resources"][0]) for rule in rules() for group in rule["apiGroups"]]
    assert len(chosen) == len(set(chosen)) == 10
    assert {rule["resources"][0] for rule in rules()} == {kind.plural for kind in KINDS.values()}
