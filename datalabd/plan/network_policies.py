"""Network policies of a lab's namespaces: both directions closed first, then opened one reason at a time.

What closes stands in the Workshop, so that it exists before any user's pod, and is reconciled as objects, so that a
change reaches what already runs. What only opens a single service is reconciled alone: it may come after the pods.

Egress is closed by namespace, as existing labs have it; ingress by pod, and that is what keeps sessions apart: a flow
needs both. Probes come from the pod's own node, which policies never concern.
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from datalabd import names
from datalabd.api.environment import Peer, PeerPort, PeerTarget, Selector, Source
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import ENVIRONMENT_LABEL, Observed, derived_lastingly
from datalabd.plan import backups, credentials, data_browser, postgres
from datalabd.plan.metadata import ours

NAMESPACE_NAME = "kubernetes.io/metadata.name"
EXTERNAL_EGRESS = "allow-external-egress"
"""The policy that lets pods of a lab reach addresses outside the cluster."""
API_SERVER = "allow-api-server-egress"
STORE_INGRESS = "allow-store-ingress-"
"""What names of policies of databases and stores begin with."""
COMPONENT_LABEL = "training.educates.dev/component"
APPLICATION_LABEL = "training.educates.dev/application"
SESSION_LABEL = "training.educates.dev/session.name"
PGBACKREST_PORT = 8432
POSTGRES_LABEL = "postgres-operator.crunchydata.com/cluster"
"""On all pods of a PostgreSQL server: instances, repository, backups."""
CLOSING = ("deny-egress", "deny-ingress")
GATEWAY_PORT, REGISTRY_PORT = 10080, 5000

# A session's pod is told by two of these, not by `deployment`, which its Service selects by: that is `N-x-registry` on
# the registry of session `x` and on the pod of session `x-registry`.
SESSION_PODS = {APPLICATION_LABEL: "workshop"}
REGISTRIES = {APPLICATION_LABEL: "registry"}
# Neither has any business with the API server, and a data service holds the token of its session.
NO_CLIENTS = [
    {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["data"]},
    {"key": APPLICATION_LABEL, "operator": "NotIn", "values": ["registry"]},
]

Direction = Literal["Ingress", "Egress"]


@derived_lastingly
def workshop_policies(lab: Lab, seen: Observed) -> list[Manifest]:
    """For the workshop namespace, where session pods, data services and stores run. Without a namespace set."""
    peers = [_peer(source) for source in lab.environment.data.network.ingress_peers]
    to_registry = _from(peers, REGISTRY_PORT) if lab.registry_storage else []
    return _wanted(
        lab,
        [
            *_egress(lab, seen, "allow-session-egress", [_session_namespaces(lab)], {"matchExpressions": NO_CLIENTS}),
            _policy(lab, "deny-ingress", "Ingress", []),
            _policy(
                lab,
                "allow-gateway-ingress",
                "Ingress",
                [*_from(peers, GATEWAY_PORT), *_from_peers(lab, PeerTarget.SESSION, GATEWAY_PORT)],
                _labelled(SESSION_PODS),
            ),
            _policy(lab, "allow-registry-ingress", "Ingress", to_registry, _labelled(REGISTRIES)),
        ],
    )


def session_policies(lab: Lab, seen: Observed, own: Sequence[str]) -> list[Manifest]:
    """For each of a session's own namespaces, where its user's workloads run; `own` are their names or variables.

    The first of them is also the session's name. Without these a pod started there would reach whatever the workshop
    namespace is kept from, and be reached by the users of other sessions.
    """
    network = lab.environment.data.network
    published = [_peer(source) for source in network.ingress_peers] if lab.environment.data.allowed.user_ingress else []
    workshop = {NAMESPACE_NAME: names.workshop_namespace(lab.name)}
    namespaces = [_namespaces({NAMESPACE_NAME: name}) for name in own]
    session = _namespaces(workshop) | {"podSelector": _labelled(SESSION_PODS | {SESSION_LABEL: own[0]})}
    policies = _wanted(
        lab,
        [
            *_egress(lab, seen, "allow-lab-egress", [_namespaces(workshop), *namespaces], {}),
            _policy(lab, "deny-ingress", "Ingress", []),
            _policy(lab, "allow-lab-ingress", "Ingress", _from([session, *namespaces])),
            _policy(lab, "allow-user-ingress", "Ingress", _from(published)),
            _policy(lab, "allow-peer-ingress", "Ingress", _from_peers(lab, PeerTarget.SESSION_NAMESPACE)),
        ],
    )
    return [
        policy | {"metadata": policy["metadata"] | {"namespace": namespace}} for namespace in own for policy in policies
    ]


def service_policies(lab: Lab) -> list[Manifest]:
    """For the workshop namespace, objects only: sessions and data services open to their own, stores to their lab.

    Their operators work through the API server (PGO runs commands in pods, MongoDB's agents read a Secret, those of
    Redis and Qdrant write StatefulSets): none of them connects.
    """
    gateway = lab.environment.data.database.gateway
    from_gateway = [_namespaces({NAMESPACE_NAME: gateway.parent_namespace})] if gateway.is_complete else []
    policies = [_session(lab, session) for session in lab.sessions]
    if lab.claim.spec.data.enabled:
        policies += [_data_service(lab, session) for session in lab.sessions]
    for server in lab.databases:
        pods = {POSTGRES_LABEL: server.host}
        more = [
            *_copies(lab, server.host),
            *_from_peers(lab, PeerTarget.DATABASES, postgres.PORT),
        ]
        policy = _store(lab, f"postgres-{server.host}", pods, [postgres.PORT], from_gateway, more)
        policies.append(policy)
    for store in lab.document_stores:
        pods = {"app": names.document_store_services(store.key)[0]}
        policies.append(_other_store(lab, f"mongodb-{store.key}", pods, [int(credentials.MONGODB_PORT)]))
    for store in lab.cache_stores:
        pods = {"app": names.cache_store_services(store.key)[0], "redis_setup_type": "standalone"}
        policies.append(_other_store(lab, f"redis-{store.key}", pods, [int(credentials.REDIS_PORT)]))
    for store in lab.vector_stores:
        pods = {"app": names.vector_store_services(store.key)[0]}
        ports = [int(credentials.QDRANT_PORT), int(credentials.QDRANT_GRPC_PORT)]
        policies.append(_other_store(lab, f"qdrant-{store.key}", pods, ports))
    return [
        policy | {"metadata": policy["metadata"] | {"namespace": names.workshop_namespace(lab.name)}}
        for policy in _wanted(lab, policies)
    ]


def exceptions(cidr: str, blocked: Iterable[str]) -> list[str] | None:
    """The blocked networks that lie strictly inside `cidr`, outermost only; None if one of them covers it wholly.

    Networks of the other IP version, and those outside, do not matter.
    """
    found = _exceptions(cidr, tuple(blocked))
    return None if found is None else list(found)


@functools.lru_cache(maxsize=256)
def _exceptions(cidr: str, blocked: tuple[str, ...]) -> tuple[str, ...] | None:
    """The same for every lab of an environment, and asked for with every pass."""
    outer = ipaddress.ip_network(cidr, strict=False)
    inside: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for network in dict.fromkeys(ipaddress.ip_network(text, strict=False) for text in blocked):
        if network.version != outer.version:
            continue
        if outer.subnet_of(network):  # type: ignore[arg-type]  # of one version, as just seen
            return None
        if network.subnet_of(outer):  # type: ignore[arg-type]
            inside.append(network)
    return tuple(
        str(network)
        for network in inside
        if not any(network != other and network.subnet_of(other) for other in inside)  # type: ignore[arg-type]
    )


def _egress(lab: Lab, seen: Observed, within_lab: str, to_lab: list[Manifest], api_clients: Manifest) -> list[Manifest]:
    """Those of one namespace; `within_lab` is the name of the one that lets its pods reach the rest of the lab."""
    network = lab.environment.data.network
    return [
        _policy(lab, "deny-egress", "Egress", []),
        _policy(lab, "allow-namespace-egress", "Egress", [_rule("to", [{"podSelector": {}}])]),
        _policy(lab, within_lab, "Egress", [_rule("to", to_lab)]),
        # Names are resolved and the API server is reached whatever else is closed: without them neither the
        # addresses in the lab's own credentials nor its stores would work.
        _policy(lab, "allow-dns-egress", "Egress", [_peer_rule(peer) for peer in network.dns]),
        _policy(lab, API_SERVER, "Egress", _api_server(lab, seen), api_clients),
        _policy(lab, EXTERNAL_EGRESS, "Egress", _external(lab) if lab.external_egress else []),
        _policy(
            lab,
            "allow-internal-egress",
            "Egress",
            [
                _rule("to", [_namespaces({NAMESPACE_NAME: item.namespace}, item.pod_selector)], _ports(item.ports))
                for item in network.internal_egress
            ],
        ),
    ]


def _session(lab: Lab, session: str) -> Manifest:
    """Workloads connect back to the session that started them, as executors do to a Spark driver.

    That of a virtual cluster is among its namespaces also where the claim asks for none: a session that runs keeps it.
    """
    own = [
        _namespaces({ENVIRONMENT_LABEL: lab.name, NAMESPACE_NAME: name})
        for name in names.session_namespaces(lab.name, session)
    ]
    pods = _labelled(SESSION_PODS | {SESSION_LABEL: names.session(lab.name, session)})
    return _policy(lab, f"allow-session-ingress-{session}", "Ingress", _from(own), pods)


def _data_service(lab: Lab, session: str) -> Manifest:
    """It believes whoever reaches it, so nobody but its own session may."""
    name = names.session(lab.name, session)
    pods = {"app.kubernetes.io/instance": f"data-{name}", "app.kubernetes.io/name": "data"}
    client = {"podSelector": _labelled(SESSION_PODS | {SESSION_LABEL: name})}
    rules = _from([client], data_browser.PORT)
    return _policy(lab, f"allow-data-ingress-{session}", "Ingress", rules, _labelled(pods))


def _copies(lab: Lab, source: str) -> list[Manifest]:
    """New servers that start from the backups of this one read its repository, for as long as that is asked for."""
    made = [host for host, asked in backups.restores(lab.claim.metadata.annotations).items() if asked.source == source]
    peers = [{"podSelector": _labelled({POSTGRES_LABEL: host})} for host in sorted(made)]
    return _from(peers, PGBACKREST_PORT) if peers else []


def _other_store(lab: Lab, name: str, pods: dict[str, str], ports: list[int]) -> Manifest:
    """That of a document, cache or vector store."""
    return _store(lab, name, pods, ports, more=_from_peers(lab, PeerTarget.STORES, *ports))


def _store(
    lab: Lab,
    name: str,
    pods: dict[str, str],
    ports: list[int],
    further: Sequence[Manifest] = (),
    more: Sequence[Manifest] = (),
) -> Manifest:
    """Clients are the lab's session pods and its sessions' namespaces; pods of one store reach each other."""
    clients = [{"podSelector": _labelled(SESSION_PODS)}, _session_namespaces(lab), *further]
    rules = [*_from(clients, *ports), *_from([{"podSelector": _labelled(pods)}]), *more]
    return _policy(lab, f"{STORE_INGRESS}{name}", "Ingress", rules, _labelled(pods))


def _wanted(lab: Lab, policies: Iterable[Manifest]) -> list[Manifest]:
    """Those that close or open anything, without what the environment leaves out."""
    excluded = set(lab.environment.data.network.exclude_policies)
    return [
        policy
        for policy in policies
        if (name := policy["metadata"]["name"]) not in excluded
        and (name in CLOSING or policy["spec"].get("egress") or policy["spec"].get("ingress"))
    ]


def _policy(lab: Lab, name: str, direction: Direction, rules: list[Manifest], pods: Manifest | None = None) -> Manifest:
    return ours(
        lab,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {"podSelector": pods or {}, "policyTypes": [direction], direction.lower(): rules},
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
            rules.append(_rule("to", [{"ipBlock": block}]))
    return rules


def _api_server(lab: Lab, seen: Observed) -> list[Manifest]:
    configured = lab.environment.data.network.api_server_cidrs
    if configured:
        return [_rule("to", [{"ipBlock": {"cidr": cidr}} for cidr in configured])]
    return [
        _rule("to", [{"ipBlock": {"cidr": _alone(address)}}], [_tcp(port)]) for address, port in sorted(seen.api_server)
    ]


@functools.lru_cache(maxsize=64)
def _alone(address: str) -> str:
    """The network of one address."""
    return str(ipaddress.ip_network(address))


def _peer_rule(peer: Peer) -> Manifest:
    return _rule("to", [_peer(peer)], _ports(peer.ports))


def _peer(source: Source) -> Manifest:
    if source.cidr is not None:
        return {"ipBlock": {"cidr": source.cidr}}
    selectors: Manifest = {}
    if source.namespace_selector is not None:
        selectors["namespaceSelector"] = _selector(source.namespace_selector)
    if source.pod_selector is not None:
        selectors["podSelector"] = _selector(source.pod_selector)
    return selectors


def _from(peers: list[Manifest], *ports: int) -> list[Manifest]:
    """One rule; none without peers, as an empty list of them would mean everybody."""
    return [_rule("from", peers, [_tcp(port) for port in ports])] if peers else []


def _from_peers(lab: Lab, target: PeerTarget, *ports: int) -> list[Manifest]:
    """One rule for each peer of the environment that reaches this target, at these ports if it names none."""
    return [
        _rule("from", [_peer(peer.from_)], _ports(peer.ports) or [_tcp(port) for port in ports])
        for peer in lab.environment.data.network.peers
        if peer.to is target
    ]


def _rule(side: Literal["from", "to"], peers: list[Manifest], ports: list[Manifest] | None = None) -> Manifest:
    return {side: peers} | ({"ports": ports} if ports else {})


def _tcp(port: int) -> Manifest:
    return {"port": port, "protocol": "TCP"}


def _labelled(labels: dict[str, str]) -> Manifest:
    return {"matchLabels": labels}


def _session_namespaces(lab: Lab) -> Manifest:
    """A peer: all pods of the namespaces of the lab's sessions, which nobody but its runtime labels."""
    return _namespaces({ENVIRONMENT_LABEL: lab.name, COMPONENT_LABEL: "session"})


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
