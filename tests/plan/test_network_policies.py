import ipaddress
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import RESTORE, Manifest
from datalabd.kube.client import Client
from datalabd.kube.resources import NETWORK_POLICIES
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed
from datalabd.plan import plan
from datalabd.plan.metadata import ours
from datalabd.plan.network_policies import exceptions, service_policies, session_policies, workshop_policies
from hack import flows
from hack.policies import Cluster, OwnNode, Pod, in_block
from tests.factories import claim, environment, lab, running

# --- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cidr", "blocked", "expected"),
    [
        pytest.param("0.0.0.0/0", [], [], id="nothing is blocked"),
        pytest.param(
            "0.0.0.0/0", ["10.42.0.0/16", "1.1.1.1/32"], ["10.42.0.0/16", "1.1.1.1/32"], id="in the order given"
        ),
        pytest.param("0.0.0.0/0", ["10.42.0.0/16", "fd00::/8"], ["10.42.0.0/16"], id="other IP version is ignored"),
        pytest.param("::/0", ["10.42.0.0/16", "fd00::/8"], ["fd00::/8"], id="other IP version is ignored, v6"),
        pytest.param("10.0.0.0/8", ["11.0.0.0/8"], [], id="outside"),
        pytest.param("10.0.0.0/8", ["0.0.0.0/0"], None, id="a wider one closes the whole block"),
        pytest.param("10.0.0.0/8", ["10.0.0.0/8"], None, id="an equal one closes the whole block"),
        pytest.param("0.0.0.0/0", ["10.1.0.0/16", "10.0.0.0/8"], ["10.0.0.0/8"], id="outermost only"),
        pytest.param("0.0.0.0/0", ["10.0.0.0/8", "10.0.0.0/8"], ["10.0.0.0/8"], id="once"),
        pytest.param("10.0.0.7/8", ["10.1.2.3/16"], ["10.1.0.0/16"], id="host bits do not matter"),
        pytest.param("10.0.0.0/8", ["10.1.2.3/16", "10.1.0.0/16"], ["10.1.0.0/16"], id="once, however it is written"),
        pytest.param("0.0.0.0/0", ["1.1.1.1"], ["1.1.1.1/32"], id="a bare address"),
        pytest.param("fd00::/8", ["fd00::1", "10.0.0.1"], ["fd00::1/128"], id="a bare address, v6"),
        pytest.param("1.1.1.1", ["1.1.1.1"], None, id="a bare address is closed by itself"),
        pytest.param("fd00::/16", ["fd00::/8"], None, id="a wider one closes the whole block, v6"),
    ],
)
def test_exceptions(cidr: str, blocked: list[str], expected: list[str] | None) -> None:
    assert exceptions(cidr, blocked) == expected


# Of a small range, so that random networks meet.
V4 = st.builds(lambda host: f"10.0.0.{host}", st.integers(0, 255))
V6 = st.builds(lambda host: f"fd00::{host:x}", st.integers(0, 255))
# With host bits, or without a length at all.
NETWORKS = st.one_of(
    V4,
    V6,
    st.builds("{}/{}".format, V4, st.integers(22, 32) | st.just(0)),
    st.builds("{}/{}".format, V6, st.integers(118, 128) | st.just(0)),
)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@given(NETWORKS, st.lists(NETWORKS, max_size=6), V4 | V6)
def test_what_is_left_of_a_network_is_all_that_no_blocked_one_holds(
    cidr: str, blocked: list[str], address: str
) -> None:
    inside = exceptions(cidr, blocked)
    allowed = inside is not None and in_block({"cidr": str(network(cidr)), "except": inside}, address)
    ip = ipaddress.ip_address(address)
    assert allowed == (ip in network(cidr) and not any(ip in network(text) for text in blocked))


@given(NETWORKS, st.lists(NETWORKS, max_size=6))
def test_exceptions_lie_strictly_inside_as_the_api_server_demands(cidr: str, blocked: list[str]) -> None:
    for text in exceptions(cidr, blocked) or []:
        inner, outer = ipaddress.ip_network(text), network(cidr)
        assert inner.version == outer.version
        assert inner != outer
        assert inner.subnet_of(outer)  # type: ignore[arg-type]


@given(NETWORKS, st.lists(NETWORKS, max_size=6))
def test_no_two_exceptions_overlap(cidr: str, blocked: list[str]) -> None:
    inside = [ipaddress.ip_network(text) for text in exceptions(cidr, blocked) or []]
    assert [(a, b) for i, a in enumerate(inside) for b in inside[:i] if a.overlaps(b)] == []


# --- whole objects ----------------------------------------------------------------------------------------------------


def policy(
    of: Lab, name: str, *rules: Manifest, pods: Manifest | None = None, namespace: str | None = None
) -> Manifest:
    """A policy of ours with these rules; its name ends in, or has in it, the direction."""
    direction = "Ingress" if "ingress" in name else "Egress"
    made = ours(
        of,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {"podSelector": pods or {}, "policyTypes": [direction], direction.lower(): list(rules)},
        },
    )
    return made if namespace is None else made | {"metadata": made["metadata"] | {"namespace": namespace}}


DNS_PORTS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
DNS = [
    {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
        "ports": DNS_PORTS,
    },
    {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": DNS_PORTS},
]
API_SERVER = {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]}
SAME_NAMESPACE: Manifest = {"to": [{"podSelector": {}}]}
SESSIONS = {
    "training.educates.dev/environment.name": "lab",
    "training.educates.dev/component": "session",
}


def in_namespace(name: str) -> Manifest:
    """A peer: all pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


SESSION_PODS = {"training.educates.dev/application": "workshop"}
CLIENTS = [{"podSelector": {"matchLabels": SESSION_PODS}}, {"namespaceSelector": {"matchLabels": SESSIONS}}]


def tcp(*numbers: int) -> list[Manifest]:
    """Ports of a rule."""
    return [{"port": number, "protocol": "TCP"} for number in numbers]


def test_policies_of_the_workshop_namespace() -> None:
    within = environment(network={"externalEgressCIDRs": ["0.0.0.0/0", "::/0"], "podCIDRs": ["10.42.0.0/16"]})
    here = lab(within, registry={"enabled": True})
    no_lab = {"matchExpressions": [{"key": "training.educates.dev/component", "operator": "DoesNotExist"}]}
    peers = [{"namespaceSelector": no_lab}]
    api_clients = {
        "matchExpressions": [
            {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["data"]},
            {"key": "training.educates.dev/application", "operator": "NotIn", "values": ["registry"]},
        ]
    }
    registries = {"matchLabels": {"training.educates.dev/application": "registry"}}
    assert workshop_policies(here, running(here)) == [
        policy(here, "deny-egress"),
        policy(here, "allow-namespace-egress", SAME_NAMESPACE),
        policy(here, "allow-session-egress", {"to": [{"namespaceSelector": {"matchLabels": SESSIONS}}]}),
        policy(here, "allow-dns-egress", *DNS),
        policy(here, "allow-api-server-egress", API_SERVER, pods=api_clients),
        policy(
            here,
            "allow-external-egress",
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.42.0.0/16"]}}]},
            {"to": [{"ipBlock": {"cidr": "::/0"}}]},
        ),
        policy(here, "deny-ingress"),
        policy(here, "allow-gateway-ingress", {"from": peers, "ports": tcp(10080)}, pods={"matchLabels": SESSION_PODS}),
        policy(here, "allow-registry-ingress", {"from": peers, "ports": tcp(5000)}, pods=registries),
    ]


def test_policies_of_session_namespaces() -> None:
    here = lab()
    namespaces = [in_namespace("lab-main"), in_namespace("lab-main-vc")]
    pods = {"matchLabels": SESSION_PODS | {"training.educates.dev/session.name": "lab-main"}}
    assert session_policies(here, running(here), ["lab-main", "lab-main-vc"]) == [
        policy(here, name, *rules, namespace=namespace)
        for namespace in ("lab-main", "lab-main-vc")
        for name, rules in (
            ("deny-egress", []),
            ("allow-namespace-egress", [SAME_NAMESPACE]),
            ("allow-lab-egress", [{"to": [in_namespace("lab"), *namespaces]}]),
            ("allow-dns-egress", DNS),
            ("allow-api-server-egress", [API_SERVER]),
            ("deny-ingress", []),
            ("allow-lab-ingress", [{"from": [in_namespace("lab") | {"podSelector": pods}, *namespaces]}]),
        )
    ]


def test_every_declared_session_and_its_data_service() -> None:
    here = lab(sessions=[{"name": "main"}, {"name": "idle", "state": "stopped"}])
    assert service_policies(here) == [
        policy(
            here,
            f"allow-session-ingress-{session}",
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchLabels": {
                                "training.educates.dev/environment.name": "lab",
                                "kubernetes.io/metadata.name": namespace,
                            }
                        }
                    }
                    for namespace in (f"lab-{session}", f"lab-{session}-vc")
                ]
            },
            pods={"matchLabels": SESSION_PODS | {"training.educates.dev/session.name": f"lab-{session}"}},
            namespace="lab",
        )
        for session in ("main", "idle")
    ] + [
        policy(
            here,
            f"allow-data-ingress-{session}",
            {
                "from": [
                    {
                        "podSelector": {
                            "matchLabels": SESSION_PODS | {"training.educates.dev/session.name": f"lab-{session}"}
                        }
                    }
                ],
                "ports": tcp(8888),
            },
            pods={
                "matchLabels": {
                    "app.kubernetes.io/instance": f"data-lab-{session}",
                    "app.kubernetes.io/name": "data",
                }
            },
            namespace="lab",
        )
        for session in ("main", "idle")
    ]


@pytest.mark.parametrize(
    ("spec", "name", "pods", "ports"),
    [
        pytest.param(
            {"databases": {"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}}},
            "postgres-pg0",
            {"postgres-operator.crunchydata.com/cluster": "pg0"},
            tcp(5432),
            id="PostgreSQL",
        ),
        pytest.param(
            {"documentStores": {"prod": {"storage": "1Gi"}}},
            "mongodb-prod",
            {"app": "mongodb-prod-svc"},
            tcp(27017),
            id="MongoDB",
        ),
        pytest.param(
            {"cacheStores": {"prod": {"storage": "1Gi"}}},
            "redis-prod",
            {"app": "prod", "redis_setup_type": "standalone"},
            tcp(6379),
            id="Redis",
        ),
        pytest.param(
            {"vectorStores": {"prod": {"storage": "1Gi"}}},
            "qdrant-prod",
            {"app": "qdrant-prod"},
            tcp(6333, 6334),
            id="Qdrant",
        ),
    ],
)
def test_a_database_or_store(spec: Manifest, name: str, pods: Manifest, ports: list[Manifest]) -> None:
    here = lab(data={"enabled": False}, sessions=[], **spec)
    itself = {"from": [{"podSelector": {"matchLabels": pods}}]}
    clients = {"from": CLIENTS, "ports": ports}
    named = f"allow-store-ingress-{name}"
    assert service_policies(here) == [policy(here, named, clients, itself, pods={"matchLabels": pods}, namespace="lab")]


def test_no_service_to_open() -> None:
    assert service_policies(lab(sessions=[])) == []


def rules(name: str, seen: Observed | None = None, **network: Any) -> list[Manifest] | None:
    """The rules of one policy of the workshop namespace; None where there is no such policy."""
    here = lab(environment(network=network))
    policies = [*workshop_policies(here, seen or running(here)), *service_policies(here)]
    direction = "ingress" if "ingress" in name else "egress"
    return next((policy["spec"][direction] for policy in policies if policy["metadata"]["name"] == name), None)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param({"cidr": "10.9.0.1"}, {"to": [{"ipBlock": {"cidr": "10.9.0.1/32"}}]}, id="address"),
        pytest.param(
            {"cidr": "10.9.0.0/16", "ports": [{"port": 53}, {"port": 5000, "endPort": 5010}, {"port": "dns"}]},
            {
                "to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}],
                "ports": [
                    {"port": 53, "protocol": "TCP"},
                    {"port": 5000, "endPort": 5010, "protocol": "TCP"},
                    {"port": "dns", "protocol": "TCP"},
                ],
            },
            id="network with ports",
        ),
        pytest.param({"namespaceSelector": {}}, {"to": [{"namespaceSelector": {}}]}, id="all namespaces"),
        pytest.param(
            {"podSelector": {"matchLabels": {"a": "b"}}},
            {"to": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
            id="pods",
        ),
        pytest.param(
            {
                "namespaceSelector": {"matchLabels": {"team": "dns"}},
                "podSelector": {
                    "matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["coredns"]},
                        {"key": "canary", "operator": "DoesNotExist"},
                    ]
                },
            },
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"team": "dns"}},
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "app", "operator": "In", "values": ["coredns"]},
                                {"key": "canary", "operator": "DoesNotExist"},
                            ]
                        },
                    }
                ]
            },
            id="pods of some namespaces",
        ),
    ],
)
def test_peers(peer: Manifest, expected: Manifest) -> None:
    assert rules("allow-dns-egress", dns=[peer]) == [expected]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param({"cidr": "10.9.0.1"}, {"ipBlock": {"cidr": "10.9.0.1/32"}}, id="address"),
        pytest.param({"namespaceSelector": {}}, {"namespaceSelector": {}}, id="all namespaces"),
        pytest.param(
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}},
                "podSelector": {"matchLabels": {"app": "nginx"}},
            },
            in_namespace("ingress") | {"podSelector": {"matchLabels": {"app": "nginx"}}},
            id="pods of a namespace",
        ),
    ],
)
def test_ingress_peers(peer: Manifest, expected: Manifest) -> None:
    assert rules("allow-gateway-ingress", ingressPeers=[peer]) == [{"from": [expected], "ports": tcp(10080)}]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param({"namespace": "minio"}, {"to": [in_namespace("minio")]}, id="all pods, all ports"),
        pytest.param({"namespace": "minio", "podSelector": {}}, {"to": [in_namespace("minio")]}, id="empty selector"),
        pytest.param(
            {"namespace": "minio", "podSelector": {"matchLabels": {"a": "b"}}, "ports": [{"port": 9000}]},
            {
                "to": [in_namespace("minio") | {"podSelector": {"matchLabels": {"a": "b"}}}],
                "ports": [{"port": 9000, "protocol": "TCP"}],
            },
            id="pods and ports",
        ),
    ],
)
def test_internal_egress(item: Manifest, expected: Manifest) -> None:
    assert rules("allow-internal-egress", internalEgress=[item]) == [expected]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        pytest.param("allow-internal-egress", {}, id="no internal peers"),
        pytest.param("allow-external-egress", {}, id="no external networks"),
        pytest.param(
            "allow-external-egress",
            {"externalEgressCIDRs": ["10.42.1.0/24"], "podCIDRs": ["10.42.0.0/16"]},
            id="nothing is left of the external networks",
        ),
        pytest.param("allow-dns-egress", {"dns": []}, id="no DNS peers"),
        pytest.param("allow-dns-egress", {"excludePolicies": ["allow-dns-egress"]}, id="excluded"),
        pytest.param("deny-egress", {"excludePolicies": ["deny-egress"]}, id="excluded although it has no rules"),
        pytest.param("deny-ingress", {"excludePolicies": ["deny-ingress"]}, id="excluded, of ingress"),
        pytest.param(
            "allow-data-ingress-main", {"excludePolicies": ["allow-data-ingress-main"]}, id="excluded, of a service"
        ),
        pytest.param("allow-gateway-ingress", {"ingressPeers": []}, id="no ingress peers, so nobody"),
        pytest.param("allow-registry-ingress", {}, id="no registry"),
    ],
)
def test_no_policy(name: str, network: dict[str, Any]) -> None:
    assert rules(name, **network) is None


def test_the_service_network_is_kept_from_external_egress() -> None:
    assert rules("allow-external-egress", externalEgressCIDRs=["10.0.0.0/8"], serviceCIDR="10.43.0.0/16") == [
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.43.0.0/16"]}}]}
    ]


def test_configured_networks_of_the_api_server_replace_its_endpoints() -> None:
    assert rules("allow-api-server-egress", apiServerCIDRs=["10.5.0.0/24", "fd00::1"]) == [
        {"to": [{"ipBlock": {"cidr": "10.5.0.0/24"}}, {"ipBlock": {"cidr": "fd00::1/128"}}]}
    ]


def test_every_endpoint_of_the_api_server() -> None:
    seen = replace(running(lab()), api_server=(("fd00::7", 443), ("10.0.0.2", 6443)))
    assert rules("allow-api-server-egress", seen) == [
        {"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]},
        {"to": [{"ipBlock": {"cidr": "fd00::7/128"}}], "ports": [{"port": 443, "protocol": "TCP"}]},
    ]


# --- what they let through --------------------------------------------------------------------------------------------

SYSTEM = "kubernetes.io/metadata.name"
COMPONENT = "training.educates.dev/component"
NAMES = {"DNS": "53, 53/UDP", "DNS cache of the node": "53, 53/UDP"}
INTERNET = {"internet": "all", "internet (IPv6)": "all"}
OUT = NAMES | INTERNET | {"internal peer": "9000"}
API = {"API server": "6443"}
STORES = {
    "PostgreSQL pg0": "5432",
    "backups of pg0": "5432",  # nothing listens there
    "PostgreSQL pg1": "5432",
    "MongoDB prod": "27017",
    "second MongoDB prod": "27017",
    "MongoDB dev": "27017",
    "Redis prod": "6379",
    "Redis dev": "6379",
    "Qdrant prod": "6333, 6334",
    "second Qdrant prod": "6333, 6334",
    "Qdrant dev": "6333, 6334",
}
OF_A_LAB = {
    "session s": {"data service s": "8888", "pod in n-s": "all", "pod in n-s-vc": "all"} | STORES | OUT | API,
    "session t": {"data service t": "8888", "pod in n-t": "all", "pod in n-t-vc": "all"} | STORES | OUT | API,
    "registry s": OUT,
    "registry t": OUT,
    "data service s": OUT,
    "data service t": OUT,
    "pod in n-s": {"session s": "all", "pod in n-s-vc": "all"} | STORES | OUT | API,
    "pod in n-t": {"session t": "all", "pod in n-t-vc": "all"} | STORES | OUT | API,
    "pod in n-s-vc": {"session s": "all", "pod in n-s": "all"} | STORES | OUT | API,
    "pod in n-t-vc": {"session t": "all", "pod in n-t": "all"} | STORES | OUT | API,
    "PostgreSQL pg0": {"backups of pg0": "all"} | OUT | API,
    "backups of pg0": {"PostgreSQL pg0": "all"} | OUT | API,
    "PostgreSQL pg1": OUT | API,
    "MongoDB prod": {"second MongoDB prod": "all"} | OUT | API,
    "second MongoDB prod": {"MongoDB prod": "all"} | OUT | API,
    "MongoDB dev": OUT | API,
    "Redis prod": OUT | API,
    "Redis dev": OUT | API,
    "Qdrant prod": {"second Qdrant prod": "all"} | OUT | API,
    "second Qdrant prod": {"Qdrant prod": "all"} | OUT | API,
    "Qdrant dev": OUT | API,
    "undeclared store": OUT | API,
}
"""What each pod of lab `n` reaches, and at which ports. Whatever is not named is closed."""
INGRESS = {"session s": "10080", "session t": "10080", "registry s": "5000", "registry t": "5000"}
INTO_A_LAB = {
    "ingress controller": INGRESS,
    "SQL gateway": {"PostgreSQL pg0": "5432", "backups of pg0": "5432", "PostgreSQL pg1": "5432"},
}
"""What reaches pods of lab `n` from outside; nothing else does."""


def in_m(name: str) -> str:
    """The name of what lab `m` has like lab `n`; anything else keeps its own."""
    if name not in OF_A_LAB:
        return name
    return name.replace("pod in n-", "pod in m-") if name.startswith("pod in") else f"{name} of lab m"


def both(of_a_lab: flows.Flows, into_a_lab: flows.Flows) -> flows.Flows:
    """The flows of two labs, `n` and `m`, of which each is as the other."""
    twins = {in_m(name): {in_m(target): ports for target, ports in row.items()} for name, row in of_a_lab.items()}
    into = {name: {**row, **{in_m(target): ports for target, ports in row.items()}} for name, row in into_a_lab.items()}
    return {**of_a_lab, **twins, **into}


def two(**said: Any) -> Cluster:
    """A cluster of labs `n` and `m`."""
    return flows.cluster(flows.lab("n", **said), flows.lab("m", **said))


@pytest.mark.thorough
def test_every_flow() -> None:
    assert flows.flows(two()) == both(OF_A_LAB, INTO_A_LAB)


@pytest.mark.thorough
def test_every_flow_without_external_egress() -> None:
    closed = {
        name: {target: ports for target, ports in row.items() if target not in INTERNET}
        for name, row in OF_A_LAB.items()
    }
    assert flows.flows(two(external_egress=False)) == both(closed, INTO_A_LAB)


MONITORING = {"namespaceSelector": {"matchLabels": {SYSTEM: "monitoring"}}}
PUBLISHED = {"session s": "10080", "session t": "10080"}
SESSION_NAMESPACES = dict.fromkeys(("pod in n-s", "pod in n-s-vc", "pod in n-t", "pod in n-t-vc"), "all")
DATABASES = {name: ports for name, ports in STORES.items() if "pg" in name}
OTHER_STORES = {name: ports for name, ports in STORES.items() if "pg" not in name}


def into_n(source: str, **said: Any) -> flows.Flows:
    """What one end reaches of lab `n`."""
    (end,) = (end for end in flows.ends() if end.name == source)
    found = flows.reached(flows.cluster(flows.lab("n", **said)), end)
    return {source: {target: ports for target, ports in found.items() if target in OF_A_LAB}}


def at(ports: str, targets: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(targets, ports)


@pytest.mark.parametrize(
    ("peer", "source", "expected"),
    [
        pytest.param({"from": MONITORING, "to": "session"}, "monitoring", PUBLISHED, id="sessions"),
        pytest.param(
            {"from": MONITORING, "to": "session", "ports": [{"port": 9000}]},
            "monitoring",
            at("9000", PUBLISHED),
            id="metrics of sessions",
        ),
        pytest.param(
            {"from": MONITORING, "to": "sessionNamespace"},
            "monitoring",
            SESSION_NAMESPACES,
            id="sessions' own namespaces",
        ),
        pytest.param({"from": MONITORING, "to": "stores"}, "monitoring", OTHER_STORES, id="stores"),
        pytest.param(
            {"from": MONITORING, "to": "stores", "ports": [{"port": 8008}]},
            "monitoring",
            at("8008", OTHER_STORES),
            id="metrics of stores",
        ),
        pytest.param({"from": MONITORING, "to": "databases"}, "monitoring", DATABASES, id="databases"),
        pytest.param(
            {"from": {"cidr": "10.0.0.2/32"}, "to": "databases"},
            "another node",
            DATABASES,
            id="an SQL gateway on its node's network",
        ),
        pytest.param({"from": MONITORING, "to": "stores"}, "operator of stores", {}, id="nobody else"),
    ],
)
def test_peers_of_the_environment_reach_what_they_name(peer: Manifest, source: str, expected: dict[str, str]) -> None:
    assert into_n(source, peers=[peer]) == {source: expected}


def test_a_peer_without_a_namespace_is_in_the_labs_own() -> None:
    """Such as an operator's pod that probes stores, or saves them."""
    peer = {"from": {"podSelector": {"matchLabels": {"app": "mongodb-old-svc"}}}, "to": "stores"}
    cluster = flows.cluster(flows.lab("n", peers=[peer]), flows.lab("m", peers=[peer]))
    (end,) = (end for end in flows.ends() if end.name == "undeclared store")
    found = flows.reached(cluster, end)
    assert found == OF_A_LAB["undeclared store"] | OTHER_STORES


@pytest.mark.parametrize(("allowed", "expected"), [(False, {}), (True, SESSION_NAMESPACES)])
def test_users_publish_what_they_run_where_the_environment_lets_them(allowed: bool, expected: dict[str, str]) -> None:
    found = into_n("ingress controller", user_ingress=allowed)
    assert found == {"ingress controller": INGRESS | expected}


def test_every_end_takes_part() -> None:
    """Neither end of a pair was misspelt: all pods of labs reach something, whatever else is there is no lab's."""
    inside = {end.name for end in flows.ends() if end.lab}
    assert inside == set(OF_A_LAB) | {in_m(name) for name in OF_A_LAB}
    mentioned = {target for row in [*OF_A_LAB.values(), *INTO_A_LAB.values()] for target in row} | set(INTO_A_LAB)
    assert mentioned <= {end.name for end in flows.ends()}


@pytest.mark.thorough
def test_by_default_requests_to_sessions_come_from_any_namespace_but_those_of_labs() -> None:
    outside = [end.name for end in flows.ends() if not end.lab and isinstance(end.place, Pod)]
    default = [{"namespaceSelector": {"matchExpressions": [{"key": COMPONENT, "operator": "DoesNotExist"}]}}]
    into = {name: {**INTO_A_LAB.get(name, {}), **INGRESS} for name in outside}
    assert (
        environment().data.network.ingress_peers
        == flows.lab("n", ingressPeers=default).environment.data.network.ingress_peers
    )
    assert flows.flows(two(ingressPeers=default)) == both(OF_A_LAB, into)


@pytest.mark.thorough
def test_ingress_alone_keeps_sessions_and_labs_apart() -> None:
    """What egress policies say of addresses does not matter: pods are closed to all but their own."""
    cluster = two()
    ingress = [policy for policy in cluster.policies if policy["spec"]["policyTypes"] == ["Ingress"]]
    found = flows.flows(Cluster(cluster.namespaces, ingress))
    of_labs = {end.name for end in flows.ends() if end.lab}
    within = {
        name: {target: ports for target, ports in row.items() if target in of_labs} for name, row in OF_A_LAB.items()
    }
    expected = {name: row for name, row in both(within, INTO_A_LAB).items() if row}
    kept = {name: {target: ports for target, ports in row.items() if target in of_labs} for name, row in found.items()}
    assert {name: row for name, row in kept.items() if row} == expected


@pytest.mark.thorough
def test_a_lab_is_closed_to_one_that_has_no_policies_yet() -> None:
    cluster = two()
    own = [policy for policy in cluster.policies if policy["metadata"]["namespace"].startswith("n")]
    found = flows.flows(Cluster(cluster.namespaces, own))
    assert {target for name in OF_A_LAB for target in found[in_m(name)]}.isdisjoint(OF_A_LAB)


def test_probes_reach_every_pod() -> None:
    cluster = two()
    assert all(cluster.reaches(OwnNode(), end.place, 10080) for end in flows.ends() if isinstance(end.place, Pod))


def test_without_a_gateway_nobody_outside_reaches_a_database() -> None:
    here = lab(databases={"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}})
    namespaces = {"lab": {SYSTEM: "lab"}, "gateways": {SYSTEM: "gateways"}}
    server = Pod("lab", "10.42.0.1", {"postgres-operator.crunchydata.com/cluster": "pg0"})
    cluster = Cluster(namespaces, flows.policies(here))
    assert not cluster.reaches(Pod("gateways", "10.42.0.2"), server, 5432)


def test_a_registry_is_not_taken_for_the_session_of_its_name() -> None:
    """The registry of session `x` and the pod of session `x-registry` carry the same label `deployment`."""
    here = lab(sessions=[{"name": "x"}, {"name": "x-registry"}], registry={"enabled": True})
    cluster = flows.cluster(here)
    marks = {"deployment": "lab-x-registry", "training.educates.dev/application": "registry"}
    registry = Pod("lab", "10.42.0.1", marks | {"training.educates.dev/session.name": "lab-x"})
    data = {"app.kubernetes.io/instance": "data-lab-x-registry", "app.kubernetes.io/name": "data"}
    assert not cluster.reaches(registry, Pod("lab", "10.42.0.2", data), 8888)
    assert not cluster.reaches(registry, Pod("lab-x-registry", "10.42.0.3"))
    assert not cluster.reaches(Pod("ingress", "10.42.0.4"), registry, 10080)


@pytest.mark.cluster
async def test_the_api_server_takes_them_as_they_are(client: Client, namespace: str) -> None:
    """One that it refuses would fail the environment for good; one that it changes would be written again and again."""
    for policy in flows.policies(flows.lab("n")):
        there = policy | {"metadata": policy["metadata"] | {"namespace": namespace}}
        taken = await client.create(NETWORK_POLICIES, there, dry_run=True)
        assert taken["spec"] == {key: value for key, value in policy["spec"].items() if value != []}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_what_stands_in_the_workshop_is_reconciled_too() -> None:
    """Objects of the Workshop exist before any pod; those of the plan are the same, with variables filled in."""
    here = lab(sessions=[{"name": "s"}, {"name": "t"}], vcluster=True, registry={"enabled": True})
    objects = [obj for stage in plan(here, running(here), lambda: "fresh").stages for obj in stage.objects]
    (workshop,) = [obj for obj in objects if obj["kind"] == "Workshop"]

    def placed(listed: list[Manifest], session: str) -> list[Manifest]:
        text = json.dumps([obj for obj in listed if obj["kind"] == "NetworkPolicy"])
        filled: list[Manifest] = json.loads(text.replace("$(session_namespace)", f"lab-{session}"))
        return [obj | {"metadata": {"namespace": "lab"} | obj["metadata"]} for obj in filled]

    at_start = placed(workshop["spec"]["environment"]["objects"], "")
    for session in here.sessions:
        at_start += placed(workshop["spec"]["session"]["objects"], session)
    reconciled = [obj for obj in objects if obj["kind"] == "NetworkPolicy"]
    assert [obj for obj in at_start if obj not in reconciled] == []
    services = service_policies(here)
    assert [obj for obj in reconciled if obj not in at_start and obj not in services] == []


def test_a_copy_reads_the_backups_it_starts_from() -> None:
    server = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
    written = claim(databases={"pg0": server})
    written["metadata"]["annotations"] = {RESTORE: "pg1=pg0/1"}
    (policy,) = [
        obj for obj in service_policies(resolve(written, environment())) if "postgres" in obj["metadata"]["name"]
    ]
    assert policy["spec"]["ingress"][-1] == {
        "from": [{"podSelector": {"matchLabels": {"postgres-operator.crunchydata.com/cluster": "pg1"}}}],
        "ports": [{"port": 8432, "protocol": "TCP"}],
    }
