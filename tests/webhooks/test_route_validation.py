from typing import Any

import pytest

from datalabd.api.environment import OpenTo
from datalabd.api.meta import Manifest
from datalabd.kube.store import key_of
from datalabd.steps import run
from webhooks.review import AdmissionRequest
from webhooks.route_validation import RESERVED, TAKEN, route

DOMAIN = "lab.example.org"


def ingress(*hosts: str, **metadata: Any) -> Manifest:
    return {
        "kind": "Ingress",
        "metadata": {"name": "ing"} | metadata,
        "spec": {"rules": [{"host": host} for host in hosts]},
    }


def apisix(*hosts: str) -> Manifest:
    return {"kind": "ApisixRoute", "metadata": {"name": "r"}, "spec": {"http": [{"match": {"hosts": list(hosts)}}]}}


def traefik(*matches: str) -> Manifest:
    return {"kind": "IngressRoute", "metadata": {"name": "r"}, "spec": {"routes": [{"match": m} for m in matches]}}


LABS: list[Manifest] = [
    {"metadata": {"name": "blab", "namespace": "team-b"}, "spec": {"sessions": [{"name": "main"}]}},
    {"metadata": {"name": "far", "namespace": "team-b"}, "spec": {}},
]
OTHER = "far.example.net"
DOMAINS = {"team-b/blab": DOMAIN, "team-b/far": OTHER}


class Listed:
    """These labs, by their names and domains."""

    def __init__(self, labs: list[Manifest]) -> None:
        self._labs = [(claim, DOMAINS.get(str(key_of(claim)))) for claim in labs]

    def labs_named(self, name: str) -> list[tuple[Manifest, str | None]]:
        return [(claim, domain) for claim, domain in self._labs if claim["metadata"]["name"] == name]

    def labs_below(self, domain: str) -> int:
        return sum(chosen == domain for _, chosen in self._labs)


def judged(
    now: Manifest | None,
    old: Manifest | None = None,
    namespace: str = "team-a",
    labs: list[Manifest] = LABS,
    openings: dict[str, list[OpenTo]] | None = None,
) -> dict[str, str]:
    """What is said of each field, in a word."""
    known = {DOMAIN: [], OTHER: []} if openings is None else openings
    request = AdmissionRequest("u", "UPDATE" if old else "CREATE", namespace, "r", now, old, False, "ann")
    verdict = run(route(request, Listed(labs), known))
    words = {TAKEN: "taken", RESERVED: "reserved"}
    assert all(error.detail == RESERVED for error in verdict.reserved)
    return {error.path: words.get(error.detail, error.detail) for error in (*verdict.errors, *verdict.reserved)}


RULE = "spec.rules[0].host"


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param(ingress(f"blab-main.{DOMAIN}"), {RULE: "taken"}, id="host of a lab"),
        pytest.param(ingress(f"blab-second.{DOMAIN}"), {RULE: "reserved"}, id="host of a session to come"),
        pytest.param(ingress(f"anything.{DOMAIN}"), {RULE: "reserved"}, id="free name"),
        pytest.param(ingress(f"a.b.{DOMAIN}"), {RULE: "reserved"}, id="name deep below"),
        pytest.param(ingress(DOMAIN), {}, id="the domain itself"),
        pytest.param(ingress("shop.example.com"), {}, id="elsewhere"),
        pytest.param(ingress(f"*.{DOMAIN}"), {RULE: "taken"}, id="wildcard"),
        pytest.param(ingress(f"*.x.{DOMAIN}"), {RULE: "reserved"}, id="wildcard deep below"),
        pytest.param(
            traefik(f"Host(`blab-main.{DOMAIN}.`) && PathPrefix(`/`)"),
            {"spec.routes[0].match": "taken"},
            id="Traefik, dot at the end",
        ),
        pytest.param(
            traefik(f"Host(`auth.{DOMAIN}.`)"), {"spec.routes[0].match": "reserved"}, id="Traefik, dot, free name"
        ),
        pytest.param(apisix("*example.org"), {"spec.http[0].match.hosts[0]": "taken"}, id="APISIX, above"),
        pytest.param(apisix(f"*{DOMAIN}"), {"spec.http[0].match.hosts[0]": "taken"}, id="APISIX, no dot"),
        pytest.param(apisix(f"*-main.{DOMAIN}"), {"spec.http[0].match.hosts[0]": "taken"}, id="APISIX, within a label"),
        pytest.param(apisix(f"*x.apps.{DOMAIN}"), {"spec.http[0].match.hosts[0]": "reserved"}, id="APISIX, deep below"),
        pytest.param(apisix("*example.com"), {}, id="APISIX, elsewhere"),
    ],
)
def test_a_new_route(manifest: Manifest, expected: dict[str, str]) -> None:
    assert judged(manifest) == expected


def test_without_labs_no_host_is_taken() -> None:
    assert judged(ingress(f"*.{DOMAIN}", f"blab-main.{DOMAIN}"), labs=[]) == {
        RULE: "reserved",
        "spec.rules[1].host": "reserved",
    }


OLD = ingress(f"shop.{DOMAIN}", f"*.apps.{DOMAIN}", f"blab-main.{DOMAIN}")
OLDER = OLD["spec"]["rules"]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        pytest.param([f"shop.{DOMAIN}"], {}, id="less"),
        pytest.param([f"blab-main.{DOMAIN}"], {}, id="a lab's that it had"),
        pytest.param([f"x.apps.{DOMAIN}", f"*.y.apps.{DOMAIN}"], {}, id="what its wildcard had"),
        pytest.param([f"other.{DOMAIN}"], {RULE: "reserved"}, id="another name"),
        pytest.param([f"blab.{DOMAIN}"], {RULE: "taken"}, id="another of that lab"),
        pytest.param([f"*.{DOMAIN}"], {RULE: "taken"}, id="a wider wildcard"),
        pytest.param([""], {RULE: "taken"}, id="every host"),
    ],
)
def test_an_update_gains_no_name(hosts: list[str], expected: dict[str, str]) -> None:
    assert judged(ingress(*hosts), OLD) == expected


def test_an_update_that_names_what_a_wildcard_had_gains_a_labs_host() -> None:
    """Controllers prefer a name to a wildcard: what waited behind the lab's own would come before it."""
    assert judged(ingress(f"blab-main.{DOMAIN}"), ingress(f"*.{DOMAIN}")) == {RULE: "taken"}


@pytest.mark.parametrize("left", [["x/y"], None], ids=["one of two finalizers", "the last finalizer"])
def test_a_finalizer_goes_from_a_route_that_reaches_a_lab(left: list[str] | None) -> None:
    many = [f"{number}.example.com" for number in range(501)]
    for hosts in ([f"blab-main.{DOMAIN}"], many):
        had = ingress(*hosts, finalizers=["a/b", "x/y"], deletionTimestamp="2026-01-01T00:00:00Z")
        assert judged(had | {"metadata": had["metadata"] | {"finalizers": left}}, had) == {}


def test_a_route_being_deleted_gains_no_name_either() -> None:
    """It answers until it is gone, and a finalizer may keep it for ever."""
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}
    assert judged(ingress(f"blab-main.{DOMAIN}", **going), ingress("a.org", **going)) == {RULE: "taken"}


def test_a_deletion_passes() -> None:
    assert judged(None, ingress(f"blab-main.{DOMAIN}")) == {}


@pytest.mark.parametrize(
    ("opening", "host", "expected"),
    [
        pytest.param({"namespaces": ["team-*"]}, "shop", {}, id="namespace"),
        pytest.param({"namespaces": ["teams"]}, "shop", {RULE: "reserved"}, id="another namespace"),
        pytest.param({"hosts": [f"shop.{DOMAIN}"]}, "shop", {}, id="host"),
        pytest.param({"hosts": [f"shop-*.{DOMAIN}"]}, "shop-a", {}, id="glob of hosts"),
        pytest.param({"hosts": [f"shop-*.{DOMAIN}"]}, "shop", {RULE: "reserved"}, id="host that the glob lacks"),
        pytest.param({"hosts": [f"*.apps.{DOMAIN}"]}, "x.apps", {}, id="deep below"),
        pytest.param({"hosts": [f"*.apps.{DOMAIN}"]}, "*.apps", {}, id="wildcard deep below"),
        pytest.param({"namespaces": ["*"]}, "blab-main", {RULE: "taken"}, id="a lab's"),
        pytest.param({"namespaces": ["*"]}, "blab-second", {RULE: "reserved"}, id="a lab's next session"),
        pytest.param({"namespaces": ["*"]}, "data-blab-x", {RULE: "reserved"}, id="its data browser"),
        pytest.param({"namespaces": ["*"]}, "pg1-blab", {RULE: "reserved"}, id="a lab's next database"),
        pytest.param({"namespaces": ["*"]}, "far-x", {}, id="what a lab of another domain derives"),
        pytest.param({"namespaces": ["*"]}, "blab-second.apps", {}, id="deep below, like a lab's"),
    ],
)
def test_what_an_environment_opens(opening: dict[str, list[str]], host: str, expected: dict[str, str]) -> None:
    openings = {DOMAIN: [OpenTo(), OpenTo(**opening)], OTHER: []}
    assert judged(ingress(f"{host}.{DOMAIN}"), openings=openings) == expected


@pytest.mark.parametrize("host", ["", "*.example.org", f"*.{DOMAIN}"])
def test_patterns_of_what_labs_derive_are_never_opened(host: str) -> None:
    openings = {DOMAIN: [OpenTo(namespaces=["*"], hosts=["*"])]}
    assert judged(ingress(host), openings=openings, labs=[]) == {RULE: "reserved"}


def test_the_longest_domain_decides() -> None:
    outer, inner = [OpenTo(namespaces=["*"])], [OpenTo()]
    openings = {"example.org": outer, DOMAIN: inner}
    assert judged(ingress(f"a.{DOMAIN}"), openings=openings) == {RULE: "reserved"}
    assert judged(ingress("a.example.org"), openings=openings) == {}
    assert judged(ingress(f"a.{DOMAIN}"), openings={"example.org": inner, DOMAIN: outer}) == {}
