"""Who reaches whom, as the policies of two labs say: what the reference shows and the tests compare.

Two labs, `n` and `m`, of two sessions each, with everything a lab may have twice, in a cluster with whatever else there
is. Labels of pods are those that Educates and the operators give them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import V1BETA2, Manifest
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed
from datalabd.plan import network_policies
from datalabd.plan.educates.workshop import live_session_policies
from hack.policies import Cluster, Host, Labels, Pod

NETWORK: Manifest = {
    "externalEgressCIDRs": ["0.0.0.0/0", "::/0"],
    "blacklistIPs": ["169.254.0.0/16", "fd00:ec2::254", "10.0.0.0/24"],
    "podCIDRs": ["10.42.0.0/16"],
    "serviceCIDR": "10.43.0.0/16",
    "internalEgress": [
        {"namespace": "minio", "podSelector": {"matchLabels": {"tenant": "default"}}, "ports": [{"port": 9000}]}
    ],
    "ingressPeers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
}
"""What an operator would say: everything outside, but neither the nodes nor what is local to them."""
GATEWAY = {"parentName": "sql", "parentNamespace": "gateways", "sectionName": "postgres"}
TCP_PORTS = (53, 443, 5000, 5432, 6333, 6334, 6335, 6379, 6443, 8008, 8888, 9000, 10080, 10250, 27017)
PROBES = (*((port, "TCP") for port in TCP_PORTS), (53, "UDP"))
"""What every pair is tried at: whatever anybody serves, and then some."""

Flows = Mapping[str, Mapping[str, str]]
"""By source and target: `all`, or the ports that are open; a pair that is closed is not there."""


@dataclass(frozen=True)
class End:
    """One end of a flow. `lab` is empty for what belongs to no lab."""

    name: str
    place: Pod | Host
    lab: str = ""


def lab(name: str, *, external_egress: bool = True, user_ingress: bool = False, **network: Any) -> Lab:
    """One of the two labs; `network` is laid over what the environment says by default here."""
    environment = EnvironmentConfig.parse(
        {
            "metadata": {"name": "datalab"},
            "data": {
                "ingress": {"domain": "lab.example.org"},
                "allowed": {"userIngress": user_ingress},
                "network": NETWORK | network,
                "database": {"gateway": GATEWAY},
            },
        }
    )
    size = {"storage": "1Gi"}
    server = {"names": ["db"], "storage": "1Gi", "backupStorage": "1Gi"}
    spec = {
        "users": ["ann"],
        "sessions": [{"name": "s"}, {"name": "t"}],
        "vcluster": True,
        "registry": {"enabled": True},
        "security": {"externalEgress": external_egress},
        "databases": {"pg0": server, "pg1": server},
        "documentStores": {"prod": size, "dev": size},
        "cacheStores": {"prod": size, "dev": size},
        "vectorStores": {"prod": size, "dev": size},
    }
    metadata = {"name": name, "namespace": "team", "uid": f"{name}-uid", "generation": 1}
    return resolve({"apiVersion": V1BETA2, "kind": "Datalab", "metadata": metadata, "spec": spec}, environment)


def policies(lab: Lab) -> list[Manifest]:
    """All network policies of a lab whose sessions run."""
    seen = Observed(api_server=(("10.0.0.1", 6443),))
    within = {"namespace": names.workshop_namespace(lab.name)}
    return [
        *(
            policy | {"metadata": policy["metadata"] | within}
            for policy in network_policies.workshop_policies(lab, seen)
        ),
        *network_policies.service_policies(lab),
        *(policy for session in lab.sessions for policy in live_session_policies(lab, seen, session)),
    ]


def cluster(*labs: Lab) -> Cluster:
    """A cluster with the policies of these labs, and nobody else's."""
    mark, name = "training.educates.dev", "kubernetes.io/metadata.name"
    namespaces: dict[str, dict[str, str]] = {
        place: {name: place}
        for place in ("ingress", "gateways", "kube-system", "minio", "operators", "monitoring", "default")
    }
    for one in labs:
        namespaces[one.name] = {
            name: one.name,
            f"{mark}/component": "environment",
            f"{mark}/environment.name": one.name,
        }
        for session in one.sessions:
            for place in names.session_namespaces(one.name, session):
                namespaces[place] = namespaces[one.name] | {name: place, f"{mark}/component": "session"}
    return Cluster(namespaces, [policy for one in labs for policy in policies(one)])


@cache
def ends() -> list[End]:
    """Everything that flows are looked at between, in the order of the reference."""
    inside = [end for lab in ("n", "m") for end in _lab_ends(lab)]
    pods = {
        "ingress controller": ("ingress", {"app.kubernetes.io/name": "ingress-nginx"}),
        "SQL gateway": ("gateways", {"app": "envoy"}),
        "DNS": ("kube-system", {"k8s-app": "kube-dns"}),
        "internal peer": ("minio", {"tenant": "default"}),
        "pod beside the internal peer": ("minio", {}),
        "operator of stores": ("operators", {"postgres-operator.crunchydata.com/control-plane": "postgres-operator"}),
        "monitoring": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
        "pod in another namespace": ("default", {"training.educates.dev/application": "workshop"}),
    }
    hosts = {
        "DNS cache of the node": "169.254.20.10",
        "API server": "10.0.0.1",
        "another node": "10.0.0.2",
        "metadata of the cloud": "169.254.169.254",
        "metadata of the cloud (IPv6)": "fd00:ec2::254",
        "address of a Service": "10.43.0.10",
        "internet": "93.184.216.34",
        "internet (IPv6)": "2606:2800::1",
    }
    return [
        *(
            End(name, Pod(namespace, f"10.42.0.{number}", labels), lab)
            for number, (name, namespace, labels, lab) in enumerate(inside, 1)
        ),
        *(
            End(name, Pod(namespace, f"10.42.1.{number}", labels))
            for number, (name, (namespace, labels)) in enumerate(pods.items(), 1)
        ),
        *(End(name, Host(address)) for name, address in hosts.items()),
    ]


def _lab_ends(lab: str) -> Iterator[tuple[str, str, Labels, str]]:
    """Name, namespace and labels of every kind of pod of a lab, and the lab."""
    of = "" if lab == "n" else f" of lab {lab}"
    for session in ("s", "t"):
        name, virtual = names.session_namespaces(lab, session)
        marks = {"training.educates.dev/component": "session", "training.educates.dev/session.name": name}
        application = "training.educates.dev/application"
        data = {"app.kubernetes.io/instance": f"data-{name}", "app.kubernetes.io/name": "data"}
        yield f"session {session}{of}", lab, marks | {application: "workshop", "deployment": name}, lab
        yield f"registry {session}{of}", lab, marks | {application: "registry", "deployment": f"{name}-registry"}, lab
        yield f"data service {session}{of}", lab, data, lab
        # Users label their pods as they like.
        yield f"pod in {name}", name, marks | {application: "workshop"}, lab
        yield f"pod in {virtual}", virtual, {"app": "vcluster", "release": "my-vcluster"}, lab
    postgres = "postgres-operator.crunchydata.com"
    yield f"PostgreSQL pg0{of}", lab, {f"{postgres}/cluster": "pg0", f"{postgres}/instance": "pg0-primary-x"}, lab
    yield f"backups of pg0{of}", lab, {f"{postgres}/cluster": "pg0", f"{postgres}/pgbackrest": ""}, lab
    yield f"PostgreSQL pg1{of}", lab, {f"{postgres}/cluster": "pg1", f"{postgres}/instance": "pg1-primary-x"}, lab
    for key, members in (("prod", ("", "second ")), ("dev", ("",))):
        for member in members:
            yield f"{member}MongoDB {key}{of}", lab, {"app": f"mongodb-{key}-svc"}, lab
        yield f"Redis {key}{of}", lab, {"app": key, "redis_setup_type": "standalone", "role": "standalone"}, lab
        for member in members:
            qdrant = {"app": f"qdrant-{key}", "app.kubernetes.io/instance": key, "app.kubernetes.io/name": key}
            yield f"{member}Qdrant {key}{of}", lab, qdrant, lab
    yield f"undeclared store{of}", lab, {"app": "mongodb-old-svc"}, lab


def flows(within: Cluster) -> Flows:
    """Who reaches whom; pairs of which neither belongs to a lab are left out, as is everything with itself."""
    rows = {source.name: reached(within, source) for source in ends()}
    return {name: row for name, row in rows.items() if row}


def reached(within: Cluster, source: End) -> Mapping[str, str]:
    """What one end reaches, and at which ports; between ends that belong to no lab nothing is said."""
    pairs = ((source, target) for target in ends() if source is not target and (source.lab or target.lab))
    return {target.name: ports for _, target in pairs if (ports := _open(within, source, target))}


def _open(within: Cluster, source: End, target: End) -> str:
    """Ports that are open, `all` if every one is, empty if none is."""
    opened = [probe for probe in PROBES if within.reaches(source.place, target.place, *probe)]
    if len(opened) == len(PROBES):
        return "all"
    return ", ".join(str(port) if protocol == "TCP" else f"{port}/{protocol}" for port, protocol in opened)


@cache
def table() -> str:
    """Markdown: what each pod of lab `n` reaches, what reaches it, and what does not."""
    found = flows(cluster(lab("n"), lab("m")))
    own = {end.name for end in ends() if end.lab == "n"}
    rows, closed = [], []
    for source in ends():
        by_ports: dict[str, list[str]] = {}
        for target, ports in found.get(source.name, {}).items():
            if source.name in own or target in own:
                by_ports.setdefault(ports, []).append(target)
        if by_ports:
            reached = "; ".join(f"`{ports}` {', '.join(targets)}" for ports, targets in by_ports.items())
            rows.append(f"| {source.name} | {reached} |\n")
        else:
            closed.append(source.name)
    return (
        "| From | Open ports of |\n|---|---|\n"
        + "".join(rows)
        + "\nNothing of lab `n` is open to: "
        + ", ".join(closed)
        + ".\n"
    )
