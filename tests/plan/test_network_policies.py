import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan import plan
from datalabd.plan.metadata import ours
from datalabd.plan.network_policies import exceptions, session_policies, workshop_policies
from tests.factories import environment, lab, running
from tests.plan.policies import Cluster, Host, Pod, in_block

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
    ],
)
def test_exceptions(cidr: str, blocked: list[str], expected: list[str] | None) -> None:
    assert exceptions(cidr, blocked) == expected


# Of a small range, so that random networks meet.
V4 = st.builds(lambda host: f"10.0.0.{host}", st.integers(0, 255))
V6 = st.builds(lambda host: f"fd00::{host:x}", st.integers(0, 255))
NETWORKS = st.one_of(
    st.builds("{}/{}".format, V4, st.integers(22, 32) | st.just(0)),
    st.builds("{}/{}".format, V6, st.integers(118, 128) | st.just(0)),
).map(lambda text: str(ipaddress.ip_network(text, strict=False)))


@given(NETWORKS, st.lists(NETWORKS, max_size=6), V4 | V6)
def test_what_is_left_of_a_network_is_all_that_no_blocked_one_holds(
    cidr: str, blocked: list[str], address: str
) -> None:
    inside = exceptions(cidr, blocked)
    allowed = inside is not None and in_block({"cidr": cidr, "except": inside}, address)
    ip = ipaddress.ip_address(address)
    in_blocked = any(ip in ipaddress.ip_network(network) for network in blocked)
    assert allowed == (ip in ipaddress.ip_network(cidr) and not in_blocked)


@given(NETWORKS, st.lists(NETWORKS, max_size=6))
def test_exceptions_lie_strictly_inside_as_the_api_server_demands(cidr: str, blocked: list[str]) -> None:
    for text in exceptions(cidr, blocked) or []:
        inner, outer = ipaddress.ip_network(text), ipaddress.ip_network(cidr)
        assert inner.version == outer.version
        assert inner != outer
        assert inner.subnet_of(outer)  # type: ignore[arg-type]


# --- whole objects ----------------------------------------------------------------------------------------------------


def policy(of: Lab, name: str, *egress: Manifest, namespace: str | None = None) -> Manifest:
    """A policy of ours with these rules."""
    made = ours(
        of,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": list(egress)},
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


def test_policies_of_the_workshop_namespace() -> None:
    within = environment(network={"externalEgressCIDRs": ["0.0.0.0/0", "::/0"], "podCIDRs": ["10.42.0.0/16"]})
    here = lab(within)
    assert workshop_policies(here, running(here)) == [
        policy(here, "deny-egress"),
        policy(here, "allow-namespace-egress", SAME_NAMESPACE),
        policy(here, "allow-session-egress", {"to": [{"namespaceSelector": {"matchLabels": SESSIONS}}]}),
        policy(here, "allow-dns-egress", *DNS),
        policy(here, "allow-api-server-egress", API_SERVER),
        policy(
            here,
            "allow-external-egress",
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.42.0.0/16"]}}]},
            {"to": [{"ipBlock": {"cidr": "::/0"}}]},
        ),
    ]


def test_policies_of_session_namespaces() -> None:
    here = lab()
    to_lab = {"to": [in_namespace("lab"), in_namespace("lab-main"), in_namespace("lab-main-vc")]}
    assert session_policies(here, running(here), ["lab-main", "lab-main-vc"]) == [
        policy(here, name, *egress, namespace=namespace)
        for namespace in ("lab-main", "lab-main-vc")
        for name, egress in (
            ("deny-egress", []),
            ("allow-namespace-egress", [SAME_NAMESPACE]),
            ("allow-lab-egress", [to_lab]),
            ("allow-dns-egress", DNS),
            ("allow-api-server-egress", [API_SERVER]),
        )
    ]


def rules(name: str, seen: Observed | None = None, **network: Any) -> list[Manifest] | None:
    """The rules of one policy of the workshop namespace; None where there is no such policy."""
    here = lab(environment(network=network))
    policies = workshop_policies(here, seen or running(here))
    return next((policy["spec"]["egress"] for policy in policies if policy["metadata"]["name"] == name), None)


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
NAMESPACES = {
    "lab": {SYSTEM: "lab", "training.educates.dev/environment.name": "lab"},
    "lab-main": {SYSTEM: "lab-main"} | SESSIONS,
    "lab-main-vc": {SYSTEM: "lab-main-vc"} | SESSIONS,
    "lab-other": {SYSTEM: "lab-other"} | SESSIONS,
    "rival": {SYSTEM: "rival"},
    "rival-main": {SYSTEM: "rival-main"} | SESSIONS | {"training.educates.dev/environment.name": "rival"},
    "kube-system": {SYSTEM: "kube-system"},
    "minio": {SYSTEM: "minio"},
}
WORKSPACE = Pod("lab", "10.42.0.1")
USER = Pod("lab-main", "10.42.0.2")
VIRTUAL = Pod("lab-main-vc", "10.42.0.3")
OTHER_SESSION = Pod("lab-other", "10.42.0.4")
NEIGHBOUR = Pod("rival", "10.42.0.5")
NEIGHBOUR_USER = Pod("rival-main", "10.42.0.6")
DNS_POD = Pod("kube-system", "10.42.0.7")
MINIO = Pod("minio", "10.42.0.8", {"tenant": "default"})
OTHER_MINIO = Pod("minio", "10.42.0.9")
API = Host("10.0.0.1")
METADATA = Host("169.254.169.254")
METADATA_V6 = Host("fd00:ec2::254")
SERVICE = Host("10.43.0.10")
WORLD = Host("93.184.216.34")
WORLD_V6 = Host("2606:2800::1")

ENVIRONMENT = environment(
    network={
        "externalEgressCIDRs": ["0.0.0.0/0", "::/0"],
        "blacklistIPs": ["169.254.169.254", "fd00:ec2::254", "10.0.0.1"],
        "podCIDRs": ["10.42.0.0/16"],
        "serviceCIDR": "10.43.0.0/16",
        "internalEgress": [
            {"namespace": "minio", "podSelector": {"matchLabels": {"tenant": "default"}}, "ports": [{"port": 9000}]}
        ],
    }
)


def cluster(within: EnvironmentConfig, **spec: Any) -> Cluster:
    """A cluster with all policies of a lab of one running session with a virtual cluster."""
    here = lab(within, vcluster=True, **spec)
    stages = plan(here, running(here), "password").stages
    policies = [obj for stage in stages for obj in stage.objects if obj["kind"] == "NetworkPolicy"]
    return Cluster(NAMESPACES, policies)


OPEN = cluster(ENVIRONMENT)
CLOSED = cluster(ENVIRONMENT, security={"externalEgress": False})
PODS = [
    pytest.param(WORKSPACE, id="session"),
    pytest.param(USER, id="user's pod"),
    pytest.param(VIRTUAL, id="pod of the virtual cluster"),
]
CLUSTERS = [pytest.param(OPEN, id="open"), pytest.param(CLOSED, id="closed")]


@pytest.mark.parametrize("source", PODS)
@pytest.mark.parametrize("cluster", CLUSTERS)
class TestWhateverTheClaimSays:
    @pytest.mark.parametrize("protocol", ["UDP", "TCP"])
    def test_names_are_resolved(self, cluster: Cluster, source: Pod, protocol: str) -> None:
        assert cluster.reaches(source, DNS_POD, 53, protocol)

    def test_names_are_resolved_by_a_cache_on_the_node(self, cluster: Cluster, source: Pod) -> None:
        assert cluster.reaches(source, Host("169.254.20.10"), 53, "UDP")

    def test_nothing_else_of_the_system_is_reached(self, cluster: Cluster, source: Pod) -> None:
        assert not cluster.reaches(source, DNS_POD, 443)

    def test_the_api_server_is_reached_although_its_address_is_blocked(self, cluster: Cluster, source: Pod) -> None:
        assert cluster.reaches(source, API, 6443)

    def test_no_other_port_of_the_api_servers_node(self, cluster: Cluster, source: Pod) -> None:
        assert not cluster.reaches(source, API, 10250)

    @pytest.mark.parametrize("target", [METADATA, METADATA_V6, SERVICE, NEIGHBOUR, NEIGHBOUR_USER, OTHER_MINIO])
    def test_what_is_blocked_is_not_reached(self, cluster: Cluster, source: Pod, target: Pod | Host) -> None:
        assert not cluster.reaches(source, target, 9000)

    def test_internal_peers_are_reached_at_their_ports(self, cluster: Cluster, source: Pod) -> None:
        assert cluster.reaches(source, MINIO, 9000)

    def test_internal_peers_are_not_reached_at_other_ports(self, cluster: Cluster, source: Pod) -> None:
        assert not cluster.reaches(source, MINIO, 9001)

    @pytest.mark.parametrize("target", [WORKSPACE, USER, VIRTUAL])
    def test_a_session_reaches_its_own(self, cluster: Cluster, source: Pod, target: Pod) -> None:
        assert cluster.reaches(source, target, 5432)


@pytest.mark.parametrize("source", PODS)
@pytest.mark.parametrize("target", [pytest.param(WORLD, id="IPv4"), pytest.param(WORLD_V6, id="IPv6")])
def test_the_world_is_reached_where_the_claim_has_external_egress(source: Pod, target: Host) -> None:
    assert OPEN.reaches(source, target)


@pytest.mark.parametrize("source", PODS)
@pytest.mark.parametrize("target", [pytest.param(WORLD, id="IPv4"), pytest.param(WORLD_V6, id="IPv6")])
def test_the_world_is_not_reached_where_it_has_none(source: Pod, target: Host) -> None:
    assert not CLOSED.reaches(source, target)


@pytest.mark.parametrize("source", [USER, VIRTUAL])
def test_a_users_pod_does_not_reach_another_sessions(source: Pod) -> None:
    assert not OPEN.reaches(source, OTHER_SESSION)


def test_what_stands_in_the_workshop_is_what_is_reconciled() -> None:
    """Objects of the Workshop exist before any pod; those of the plan are the same, with variables filled in."""
    here = lab(ENVIRONMENT, vcluster=True)
    stages = plan(here, running(here), "password").stages
    (workshop,) = [obj for stage in stages for obj in stage.objects if obj["kind"] == "Workshop"]
    embedded = workshop["spec"]["environment"]["objects"] + workshop["spec"]["session"]["objects"]
    at_start = [
        (
            obj["metadata"].get("namespace", "lab").replace("$(session_namespace)", "lab-main"),
            obj["metadata"]["name"],
        )
        for obj in embedded
        if obj["kind"] == "NetworkPolicy"
    ]
    assert sorted(at_start) == sorted(
        (policy["metadata"]["namespace"], policy["metadata"]["name"]) for policy in OPEN.policies
    )
