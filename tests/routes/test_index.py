from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.plan.ingress_protection import REGISTRY_INGRESS, SESSION_INGRESS
from datalabd.routes import ENTRIES_MAX, HOSTS_MAX, KINDS, SERVICE_NAMESPACE
from datalabd.routes.index import RouteIndex, describe, outline

DOMAIN = "lab.example.org"


def ingress(name: str, *hosts: str, namespace: str = "team-a", **labels: str) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "resourceVersion": "7",
            "labels": labels | {"a": "b"},
            "annotations": {"c": "d"},
        },
        "spec": {"rules": [{"host": host} for host in hosts], "tls": [{"secretName": "s"}]},
        "status": {"loadBalancer": {}},
    }


def index(*manifests: Manifest) -> RouteIndex:
    made = RouteIndex()
    for manifest in manifests:
        made.put(outline(manifest))
    return made


def test_little_is_kept_of_a_route() -> None:
    assert outline(ingress("a", "A.org.", "*.b.org", "a.org", **SESSION_INGRESS)) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": "a",
            "namespace": "team-a",
            "uid": "uid-of-a",
            "resourceVersion": "7",
            "labels": SESSION_INGRESS,
        },
        "hosts": ["a.org", "*.b.org"],
    }


@pytest.mark.parametrize(
    ("hosts", "kept"),
    [
        pytest.param([f"{number}.org" for number in range(HOSTS_MAX + 1)], HOSTS_MAX, id="hosts"),
        pytest.param(["a.org"] * (ENTRIES_MAX + 1), 0, id="entries"),
    ],
)
def test_of_too_many_hosts_the_first_are_kept(hosts: list[str], kept: int) -> None:
    assert len(outline(ingress("a", *hosts))["hosts"]) == kept


def test_every_kind_of_route_is_watched() -> None:
    watched = {(kind.group, kind.plural) for kind in kinds.ROUTES}
    assert watched == {(group, kind.plural) for kind in KINDS.values() for group in kind.groups}
    assert {kind.kind for kind in kinds.ROUTES} == set(KINDS)


def test_routes_by_host() -> None:
    made = index(ingress("a", "x.org", "y.org"), ingress("b", "x.org", namespace="team-b"))
    assert [describe(route) for route in made.named("x.org")] == ["Ingress team-a/a", "Ingress team-b/b"]
    made.put(outline(ingress("a", "z.org")))
    assert [describe(route) for route in made.named("x.org")] == ["Ingress team-b/b"]
    assert made.named("y.org") == []
    made.remove(outline(ingress("b", "x.org", namespace="team-b")))
    assert made.named("x.org") == []
    assert [describe(route) for route in made.named("z.org")] == ["Ingress team-a/a"]


def test_a_route_of_two_groups_is_two_routes() -> None:
    made = index()
    for group in ("traefik.io", "traefik.containo.us"):
        made.put(
            outline(
                {
                    "apiVersion": f"{group}/v1alpha1",
                    "kind": "IngressRoute",
                    "metadata": {"name": "a", "namespace": "n"},
                    "spec": {"routes": [{"match": "Host(`a.org`)"}]},
                }
            )
        )
    assert len(made.named("a.org")) == 2


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        pytest.param(ingress("r", f"lab-a.{DOMAIN}"), {f"lab-a.{DOMAIN}": "Ingress team-a/r"}, id="session"),
        pytest.param(ingress("r", f"data-lab-a.{DOMAIN}"), {f"data-lab-a.{DOMAIN}": "Ingress team-a/r"}, id="data"),
        pytest.param(
            ingress("r", f"*-a.{DOMAIN}"),
            {
                f"{label}.{DOMAIN}": "Ingress team-a/r"
                for label in ("lab-a", "editor-lab-a", "data-lab-a", "registry-lab-a")
            },
            id="star within a label",
        ),
        pytest.param(ingress("r", f"lab-b.{DOMAIN}"), {}, id="another session"),
        pytest.param(ingress("r", f"lab.{DOMAIN}"), {}, id="the lab's own name"),
        pytest.param(ingress("r", f"*.{DOMAIN}"), {}, id="all names"),
        pytest.param(ingress("r", "*.example.org", ""), {}, id="everything"),
        pytest.param(ingress("r", "lab-a.example.net"), {}, id="another domain"),
        pytest.param(ingress("r", f"lab-a.{DOMAIN}", namespace="lab", **SESSION_INGRESS), {}, id="its own"),
        pytest.param(
            ingress("r", f"lab-a.{DOMAIN}", namespace="lab"), {f"lab-a.{DOMAIN}": "Ingress lab/r"}, id="unprotected"
        ),
        pytest.param(
            ingress("r", f"lab-a.{DOMAIN}", f"registry-lab-a.{DOMAIN}", namespace="lab", **REGISTRY_INGRESS),
            {f"lab-a.{DOMAIN}": "Ingress lab/r"},
            id="registry's",
        ),
    ],
)
def test_hosts_that_others_have(route: Manifest, expected: dict[str, str]) -> None:
    assert index(route).taken("lab", ["a"], DOMAIN) == expected


def leading(name: str, into: str, namespace: str = "team-a", host: str = "x.org") -> Manifest:
    made = ingress(name, host, namespace=namespace)
    return made | {"metadata": made["metadata"] | {"annotations": {SERVICE_NAMESPACE: into}}}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        pytest.param(leading("r", "lab"), {"": "Ingress team-a/r"}, id="into the lab"),
        pytest.param(leading("r", "other"), {}, id="into another namespace"),
        pytest.param(leading("r", "lab", "lab"), {}, id="within the lab"),
        pytest.param(leading("r", ""), {}, id="nowhere"),
        pytest.param(
            leading("r", "lab", host=f"lab-a.{DOMAIN}"),
            {"": "Ingress team-a/r", f"lab-a.{DOMAIN}": "Ingress team-a/r"},
            id="by a host of its session",
        ),
        pytest.param(leading("r", "lab") | {"kind": "HTTPRoute", "spec": {}}, {}, id="by no Ingress"),
    ],
)
def test_routes_that_lead_into_a_lab(route: Manifest, expected: dict[str, str]) -> None:
    made = index(route)
    assert made.taken("lab", ["a"], DOMAIN) == expected
    made.remove(outline(route))
    assert made.taken("lab", ["a"], DOMAIN) == {}


def test_who_listens_hears_of_where_a_route_leads() -> None:
    heard: list[Any] = []
    made = index(leading("b", "lab"))
    made.subscribe(lambda route, hosts, into: heard.append((route["metadata"]["name"], set(hosts), set(into))))
    for into in ("lab", "lab", "other", ""):
        made.put(outline(leading("a", into)))
    assert heard == [
        ("a", {"x.org"}, {"lab"}),
        ("a", {"x.org"}, {"lab", "other"}),
        ("a", {"x.org"}, {"other"}),
    ]


def test_the_first_of_several_routes_is_named() -> None:
    made = index(ingress("z", f"lab-a.{DOMAIN}"), ingress("a", f"lab-a.{DOMAIN}", namespace="team-b"))
    assert made.taken("lab", ["a"], DOMAIN) == {f"lab-a.{DOMAIN}": "Ingress team-a/z"}


def test_who_listens_hears_of_changed_hosts_alone() -> None:
    heard: list[Any] = []
    made = RouteIndex()
    made.subscribe(lambda route, hosts, into: heard.append((route["metadata"]["name"], set(hosts) | into)))
    for hosts in (["x.org"], ["x.org"], ["x.org", "y.org"], ["z.org"]):
        made.put(outline(ingress("a", *hosts)))
    made.put(outline(ingress("a", "z.org", **SESSION_INGRESS)))
    made.put(outline(ingress("b")))
    made.remove(outline(ingress("a", "z.org")))
    made.remove(outline(ingress("a", "z.org")))
    assert heard == [
        ("a", {"x.org"}),
        ("a", {"x.org", "y.org"}),
        ("a", {"x.org", "y.org", "z.org"}),
        ("a", {"z.org"}),
        ("a", {"z.org"}),
    ]
