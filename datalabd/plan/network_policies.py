"""Egress rules of a lab's namespaces: closed first, then opened one reason at a time.

The same policies stand in the Workshop, so that they exist before any user's pod, and are reconciled as objects, so
that a change reaches what already runs.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from datalabd import names
from datalabd.api.environment import Peer, PeerPort, Selector
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import ENVIRONMENT_LABEL, Observed
from datalabd.plan.metadata import ours

NAMESPACE_NAME = "kubernetes.io/metadata.name"
API_SERVER = "allow-api-server-egress"
COMPONENT_LABEL = "training.educates.dev/component"


def workshop_policies(lab: Lab, seen: Observed) -> list[Manifest]:
    """For the workshop namespace, where session pods, data services and stores run. Without a namespace set."""
    to_sessions = _rule([_namespaces({ENVIRONMENT_LABEL: lab.name, COMPONENT_LABEL: "session"})])
    return _policies(lab, seen, {"allow-session-egress": [to_sessions]})


def session_policies(lab: Lab, seen: Observed, own: Sequence[str]) -> list[Manifest]:
    """For each of a session's own namespaces, where its user's workloads run; `own` are their names or variables.

    Without these a pod started there would reach whatever the workshop namespace is kept from.
    """
    workshop = names.workshop_namespace(lab.name)
    to_lab = _rule([_namespaces({NAMESPACE_NAME: name}) for name in (workshop, *own)])
    policies = _policies(lab, seen, {"allow-lab-egress": [to_lab]})
    return [
        policy | {"metadata": policy["metadata"] | {"namespace": namespace}} for namespace in own for policy in policies
    ]


def exceptions(cidr: str, blocked: Iterable[str]) -> list[str] | None:
    """The blocked networks that lie strictly inside `cidr`, outermost only; None if one of them covers it wholly.

    Networks of the other IP version, and those outside, do not matter.
    """
    outer = ipaddress.ip_network(cidr, strict=False)
    inside: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for text in dict.fromkeys(blocked):
        network = ipaddress.ip_network(text, strict=False)
        if network.version != outer.version:
            continue
        if outer.subnet_of(network):  # type: ignore[arg-type]  # of one version, as just seen
            return None
        if network.subnet_of(outer):  # type: ignore[arg-type]
            inside.append(network)
    return [
        str(network)
        for network in inside
        if not any(network != other and network.subnet_of(other) for other in inside)  # type: ignore[arg-type]
    ]


def _policies(lab: Lab, seen: Observed, within_lab: dict[str, list[Manifest]]) -> list[Manifest]:
    network = lab.environment.data.network
    rules: dict[str, list[Manifest]] = {
        "deny-egress": [],
        "allow-namespace-egress": [_rule([{"podSelector": {}}])],
        **within_lab,
        # Names are resolved and the API server is reached whatever else is closed: without them neither the
        # addresses in the lab's own credentials nor its stores would work.
        "allow-dns-egress": [_peer_rule(peer) for peer in network.dns],
        API_SERVER: _api_server(lab, seen),
        "allow-external-egress": _external(lab) if lab.external_egress else [],
        "allow-internal-egress": [
            _rule([_namespaces({NAMESPACE_NAME: item.namespace}, item.pod_selector)], _ports(item.ports))
            for item in network.internal_egress
        ],
    }
    excluded = set(network.exclude_policies)
    return [
        _policy(lab, name, egress)
        for name, egress in rules.items()
        if (egress or name == "deny-egress") and name not in excluded
    ]


def _policy(lab: Lab, name: str, egress: list[Manifest]) -> Manifest:
    return ours(
        lab,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress},
        },
    )


def _external(lab: Lab) -> list[Manifest]:
    network = lab.environment.data.network
    blocked = [*network.blacklist_ips, *network.pod_cidrs, *([network.service_cidr] if network.service_cidr else [])]
    rules = []
    for cidr in network.external_egress_cidrs:
        inside = exceptions(cidr, blocked)
        if inside is not None:
            block: Manifest = {"cidr": cidr} | ({"except": inside} if inside else {})
            rules.append(_rule([{"ipBlock": block}]))
    return rules


def _api_server(lab: Lab, seen: Observed) -> list[Manifest]:
    configured = lab.environment.data.network.api_server_cidrs
    if configured:
        return [_rule([{"ipBlock": {"cidr": cidr}} for cidr in configured])]
    return [
        _rule([{"ipBlock": {"cidr": str(ipaddress.ip_network(address))}}], [{"port": port, "protocol": "TCP"}])
        for address, port in sorted(seen.api_server)
    ]


def _peer_rule(peer: Peer) -> Manifest:
    if peer.cidr is not None:
        return _rule([{"ipBlock": {"cidr": peer.cidr}}], _ports(peer.ports))
    selectors: Manifest = {}
    if peer.namespace_selector is not None:
        selectors["namespaceSelector"] = _selector(peer.namespace_selector)
    if peer.pod_selector is not None:
        selectors["podSelector"] = _selector(peer.pod_selector)
    return _rule([selectors], _ports(peer.ports))


def _rule(to: list[Manifest], ports: list[Manifest] | None = None) -> Manifest:
    return {"to": to} | ({"ports": ports} if ports else {})


def _namespaces(match_labels: dict[str, str], pods: Selector | None = None) -> Manifest:
    peer: Manifest = {"namespaceSelector": {"matchLabels": match_labels}}
    if pods is not None and (selector := _selector(pods)):
        peer["podSelector"] = selector
    return peer


def _selector(selector: Selector) -> Manifest:
    made: dict[str, Any] = {}
    if selector.match_labels:
        made["matchLabels"] = dict(selector.match_labels)
    if selector.match_expressions:
        made["matchExpressions"] = [
            expression.model_dump(by_alias=True, exclude_defaults=True) for expression in selector.match_expressions
        ]
    return made


def _ports(ports: Sequence[PeerPort]) -> list[Manifest]:
    return [port.model_dump(by_alias=True, exclude_none=True) for port in ports]
