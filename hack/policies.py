"""What network policies let through: their semantics in both directions, over a cluster of a few pods.

A pod that no policy of a direction selects is open in that direction; one that some policy selects is open to what any
rule of any of them names. A connection needs both its ends. Nothing keeps a pod from itself or from its own node. An
`ipBlock` is taken to match pods by their address too, as most network plugins do: the stricter reading for whoever
wants to see something closed.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from datalabd.api.meta import Manifest

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Host:
    """Something that has an address and is no pod."""

    address: str


@dataclass(frozen=True)
class OwnNode:
    """The node that the pod at the other end runs on: its kubelet, which probes."""


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

    def reaches(self, source: Pod | Host | OwnNode, target: Pod | Host, port: int = 443, protocol: str = "TCP") -> bool:
        """Whether `source` may open a connection to that port of `target`."""
        if isinstance(source, OwnNode) or source == target:
            return True
        return self._opens("Egress", "to", source, target, port, protocol) and self._opens(
            "Ingress", "from", target, source, port, protocol
        )

    def _opens(self, direction: str, side: str, own: Pod | Host, other: Pod | Host, port: int, protocol: str) -> bool:
        """Whether one end of a connection is open, in its direction, to the other end."""
        if isinstance(own, Host):
            return True
        selecting = [
            spec
            for spec in self._specs.get((own.namespace, direction), ())
            if _selects(spec["podSelector"], own.labels)
        ]
        return not selecting or any(
            _through(rule, port, protocol) and self._names(rule.get(side), own.namespace, other)
            for spec in selecting
            for rule in spec.get(direction.lower()) or ()
        )

    @cached_property
    def _specs(self) -> Mapping[tuple[str, str], Sequence[Manifest]]:
        """What policies say, by namespace and direction."""
        found: dict[tuple[str, str], list[Manifest]] = {}
        for policy in self.policies:
            for direction in policy["spec"]["policyTypes"]:
                found.setdefault((policy["metadata"]["namespace"], direction), []).append(policy["spec"])
        return found

    def _names(self, peers: Sequence[Manifest] | None, namespace: str, other: Pod | Host) -> bool:
        """Whether peers of a policy in this namespace include the other end; no peers at all include everything."""
        return not peers or any(self._is(peer, namespace, other) for peer in peers)

    def _is(self, peer: Manifest, namespace: str, other: Pod | Host) -> bool:
        if block := peer.get("ipBlock"):
            return in_block(block, other.address)
        if isinstance(other, Host):
            return False
        if "namespaceSelector" in peer:
            here = _selects(peer["namespaceSelector"], self.namespaces[other.namespace])
        else:
            here = other.namespace == namespace
        return here and _selects(peer.get("podSelector", {}), other.labels)


def in_block(block: Mapping[str, Any], address: str) -> bool:
    """Whether an `ipBlock` holds an address."""
    return _holds(block["cidr"], address) and not any(_holds(inside, address) for inside in block.get("except", ()))


@cache  # few are asked often
def _holds(cidr: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _through(rule: Manifest, port: int, protocol: str) -> bool:
    """Whether a rule's ports, all of them numbers, hold this one."""
    ports = rule.get("ports") or []
    return not ports or any(
        item.get("protocol", "TCP") == protocol and item["port"] <= port <= item.get("endPort", item["port"])
        for item in ports
    )


def _selects(selector: Manifest, labels: Labels) -> bool:
    if not selector:
        return True
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
