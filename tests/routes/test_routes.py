from typing import Any
from unittest.mock import Mock

import pytest

from datalabd import routes
from datalabd.routes import (
    ENTRIES_MAX,
    HOSTS_MAX,
    KINDS,
    RULES_MAX,
    SERVER_ALIAS,
    WWW_REDIRECT,
    TooMany,
    reached,
    readable,
    rules,
    traefik,
)


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
        pytest.param(
            "IngressRoute",
            {"routes": [{"match": "Host(`b-main.lab.org.`) && PathPrefix(`/`)"}]},
            {"b-main.lab.org": "spec.routes[0].match"},
            id="Traefik, dot at the end",
        ),
        pytest.param(
            "IngressRouteTCP",
            {"routes": [{"match": "HostSNI(`bücher.example.`)"}]},
            {"xn--bcher-kva.example": "spec.routes[0].match"},
            id="Traefik, IDNA",
        ),
        pytest.param(
            "ApisixRoute",
            {"http": [{"match": {"hosts": ["*example.org", "*-main.lab.org"]}}]},
            {"*example.org": "spec.http[0].match.hosts[0]", "*-main.lab.org": "spec.http[0].match.hosts[1]"},
            id="APISIX, star without a dot",
        ),
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


@pytest.mark.parametrize(
    ("host", "said", "expected"),
    [
        pytest.param("www.A.org", "true", {"www.a.org", "a.org"}, id="without"),
        pytest.param("a.org", "true", {"www.a.org", "a.org"}, id="with"),
        pytest.param("www.www.a.org", "true", {"www.www.a.org", "www.a.org"}, id="twice"),
        pytest.param("", "true", {""}, id="no host"),
        pytest.param("a.org", "1", {"www.a.org", "a.org"}, id="another word for it"),
        pytest.param("a.org", "false", {"a.org"}, id="not wanted"),
    ],
)
def test_nginx_redirects_between_a_host_and_its_www(host: str, said: str, expected: set[str]) -> None:
    found = reached(
        {"kind": "Ingress", "metadata": {"annotations": {WWW_REDIRECT: said}}, "spec": {"rules": [{"host": host}]}}
    )
    assert found.keys() == expected
    assert set(found.values()) <= {"spec.rules[0].host", f"metadata.annotations[{WWW_REDIRECT}]"}


@pytest.mark.parametrize(
    ("key", "said", "expected"),
    [
        pytest.param(SERVER_ALIAS, "a.org, B.org.", {"a.org", "b.org"}, id="nginx"),
        pytest.param(SERVER_ALIAS, ".a.org", {"a.org", "*.a.org"}, id="nginx, leading dot"),
        pytest.param(SERVER_ALIAS, "~^.+$", {""}, id="nginx, pattern"),
        pytest.param("haproxy-ingress.github.io/server-alias", "a.org,*.b.org", {"a.org", "*.b.org"}, id="HAProxy"),
        pytest.param("ingress.kubernetes.io/server-alias", "a.org b.org", {"a.org", "b.org"}, id="HAProxy of old"),
        pytest.param("haproxy-ingress.github.io/redirect-from", "a.org", {"a.org"}, id="HAProxy, redirect"),
        pytest.param(
            "haproxy-ingress.github.io/server-alias-regex", r"^.+\.b\.ORG$", {"*.b.org"}, id="HAProxy, pattern"
        ),
        pytest.param("ingress.kubernetes.io/redirect-from-regex", "b", {""}, id="HAProxy, redirect by a pattern"),
        pytest.param("haproxy-ingress.github.io/other", "a.org", set(), id="nothing of hosts"),
    ],
)
def test_further_hosts_by_annotation(key: str, said: str, expected: set[str]) -> None:
    found = reached({"kind": "Ingress", "metadata": {"annotations": {key: said}}, "spec": {}})
    assert found == dict.fromkeys(expected, f"metadata.annotations[{key}]")


def test_the_api_server_asks_about_such_redirects() -> None:
    for kind in KINDS.values():
        asks = kind.reaches(routes.Words(("lab.org",)))
        assert (f'annotations[?"{WWW_REDIRECT}"]' in asks) is (kind is routes.INGRESS)


MANY_HOSTS = [f"{number}.org" for number in range(HOSTS_MAX + 1)]
AS_OFTEN = ["a.org"] * (ENTRIES_MAX + 1)
IN_ALL = f"{ENTRIES_MAX} entries"


@pytest.mark.parametrize(
    ("kind", "spec", "where", "limit"),
    [
        pytest.param(
            "Ingress",
            {"rules": [{"host": host} for host in MANY_HOSTS]},
            "spec.rules[500].host",
            "500 hosts",
            id="hosts",
        ),
        pytest.param("Ingress", {"rules": [{"host": host} for host in AS_OFTEN]}, "spec.rules", IN_ALL, id="rules"),
        pytest.param("HTTPRoute", {"hostnames": MANY_HOSTS}, "spec.hostnames[500]", "500 hosts", id="host names"),
        pytest.param("TLSRoute", {"hostnames": AS_OFTEN}, "spec.hostnames", IN_ALL, id="repeated host names"),
        pytest.param("ApisixRoute", {"http": [{}] * len(AS_OFTEN)}, "spec.http", IN_ALL, id="APISIX"),
        pytest.param("ApisixRoute", {"stream": [{}] * len(AS_OFTEN)}, "spec.stream", IN_ALL, id="APISIX, connections"),
        pytest.param(
            "ApisixRoute",
            {"http": [{"match": {"hosts": AS_OFTEN}}]},
            "spec.http[0].match.hosts",
            IN_ALL,
            id="APISIX, hosts",
        ),
        pytest.param(
            "ApisixRoute",
            {"http": [{"match": {"hosts": AS_OFTEN[:-1]}}] * 2},
            "spec.http[1].match.hosts[0]",
            IN_ALL,
            id="APISIX, lists in a list",
        ),
        pytest.param("IngressRoute", {"routes": [{}] * len(AS_OFTEN)}, "spec.routes", IN_ALL, id="Traefik"),
        pytest.param(
            "IngressRoute",
            {"routes": [{"match": f"Path(`{number}`)".ljust(999)} for number in range(99)]},
            "spec.routes[65].match",
            f"{RULES_MAX} characters in all rules",
            id="Traefik, long rules",
        ),
        pytest.param(
            "IngressRoute",
            {"routes": [{"match": "Path(`/`)"}, {"match": f"Host(`{'`, `'.join(MANY_HOSTS[:51])}`)"}]},
            "spec.routes[1].match",
            "50 hosts in one rule",
            id="Traefik, hosts",
        ),
    ],
)
def test_what_is_more_than_is_looked_into(kind: str, spec: dict[str, Any], where: str, limit: str) -> None:
    with pytest.raises(TooMany) as error:
        reached({"kind": kind, "metadata": {}, "spec": spec})
    assert (error.value.where, error.value.limit) == (where, limit)


def test_aliases_are_counted_too() -> None:
    with pytest.raises(TooMany, match=IN_ALL):
        reached({"kind": "Ingress", "metadata": {"annotations": {SERVER_ALIAS: "," * ENTRIES_MAX}}, "spec": {}})


def test_a_rule_is_looked_into_once_and_only_so_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(side_effect=traefik.hosts)
    monkeypatch.setattr(traefik, "hosts", read)
    same = {"match": "Host(`a.org`) && Host(`b.org`)"}
    assert reached({"kind": "IngressRoute", "metadata": {}, "spec": {"routes": [same] * ENTRIES_MAX}}) == {}
    assert read.call_count == 1
    long = [{"match": f"Host(`a.org`) && Path(`/{number}`)".ljust(4000)} for number in range(750)]  # 3 MB
    with pytest.raises(TooMany):
        reached({"kind": "IngressRoute", "metadata": {}, "spec": {"routes": long}})
    assert sum(len(call.args[0]) for call in read.call_args_list) <= RULES_MAX


def test_what_is_no_route() -> None:
    with pytest.raises(KeyError):
        reached({"kind": "TCPRoute", "metadata": {}, "spec": {}})


def test_a_registration_chooses_each_kind_once() -> None:
    chosen = [(group, rule["resources"][0]) for rule in rules() for group in rule["apiGroups"]]
    assert len(chosen) == len(set(chosen)) == 10
    assert {rule["resources"][0] for rule in rules()} == {kind.plural for kind in KINDS.values()}


@pytest.mark.parametrize(
    "route",
    [
        {"kind": "ApisixRoute", "spec": {"http": ["x"]}},
        {"kind": "IngressRoute", "spec": {"routes": [None]}},
        {"kind": "HTTPProxy", "spec": {"virtualhost": "x"}},
        {"kind": "HTTPRoute", "spec": {"hostnames": 5}},
    ],
    ids=lambda route: str(route["kind"]),
)
def test_a_live_route_of_no_known_form_ends_nothing(route: dict[str, Any]) -> None:
    assert readable(route | {"metadata": {"name": "odd", "namespace": "team"}}) in ([], [""])
