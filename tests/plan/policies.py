"""What network policies let through: the egress half of their semantics, over a cluster of a few pods.

A pod that no policy selects may reach everything; one that some policy selects reaches what any rule of any of them
names. An `ipBlock` is taken to match pods by their address too, as most network plugins do: the stricter reading for
whoever wants to see something closed.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datalabd.api.meta import Manifest

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Host:
    """Something that has an address and is no pod."""

    address: str


@dataclass(frozen=True)
class Pod:
    """A pod of the cluster."""

    namespace: str
    address: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """Labels of its namespaces, and its policies."""

    namespaces: Mapping[str, Labels]
    policies: Sequence[Manifest]

    def reaches(self, source: Pod, target: Pod | Host, port: int = 443, protocol: str = "TCP") -> bool:
        """Whether `source` may open a connection to that port of `target`."""
        selecting = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == source.namespace
            and "Egress" in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], source.labels)
        ]
        return not selecting or any(
            self._to(rule, source, target) and _through(rule, port, protocol)
            for spec in selecting
            for rule in spec["egress"]
        )

    def _to(self, rule: Manifest, source: Pod, target: Pod | Host) -> bool:
        peers = rule.get("to") or []
        return not peers or any(self._is(peer, source, target) for peer in peers)

    def _is(self, peer: Manifest, source: Pod, target: Pod | Host) -> bool:
        if block := peer.get("ipBlock"):
            return in_block(block, target.address)
        if isinstance(target, Host):
            return False
        if "namespaceSelector" in peer:
            here = _selects(peer["namespaceSelector"], self.namespaces[target.namespace])
        else:
            here = target.namespace == source.namespace
        return here and _selects(peer.get("podSelector", {}), target.labels)


def in_block(block: Manifest, address: str) -> bool:
    """Whether an `ipBlock` holds an address."""
    ip = ipaddress.ip_address(address)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(
        ip in ipaddress.ip_network(inside) for inside in block.get("except", ())
    )


def _through(rule: Manifest, port: int, protocol: str) -> bool:
    """Whether a rule's ports, all of them numbers, hold this one."""
    ports = rule.get("ports") or []
    return not ports or any(
        item.get("protocol", "TCP") == protocol and item["port"] <= port <= item.get("endPort", item["port"])
        for item in ports
    )


def _selects(selector: Manifest, labels: Labels) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        value = labels.get(expression["key"])
        holds = {
            "In": value is not None and value in expression.get("values", ()),
            "NotIn": value is None or value not in expression.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not holds:
            return False
    return True
