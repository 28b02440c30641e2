"""Where a lab differs from what the reference composition makes of the same claim, and why: the one list of it.

Each difference changes the objects that the reference renders. After all of them, in this order, they are ours.
"""

import base64
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_NAMESPACE, CLAIM_UID, FIELD_MANAGER, MANAGED_BY, Manifest
from datalabd.plan.prune import Identity

Objects = dict[Identity, Manifest]
DESIGN = "design"
"""In the place of a weakness: a decision of our own."""


@dataclass(frozen=True)
class Case:
    """What the differences depend on."""

    name: str
    """Of the claim, and so of its workshop namespace."""
    namespace: str
    passwords: Mapping[str, str]
    """What was made at random: `<Secret>/<key>` and value."""


@dataclass(frozen=True)
class Difference:
    """One thing that is meant to differ."""

    id: str
    reasons: tuple[str, ...]
    """Numbers of the reference's weaknesses that it mends, or `design`."""
    sentence: str
    """What an operator should know of it."""
    apply: Callable[[Objects, Case], None]
    """Changes the reference's objects."""


def apply(objects: Objects, case: Case) -> Objects:
    """The reference's objects with all differences."""
    changed = deepcopy(objects)
    for difference in DIFFERENCES:
        difference.apply(changed, case)
    return changed


def _data(objects: Objects, case: Case) -> None:
    for obj in objects.values():
        if "stringData" in obj:
            values = obj.pop("stringData")
            obj["data"] = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


AUTH = ("-mongodb-auth", "-redis-auth", "-qdrant-auth")


def _random(objects: Objects, case: Case) -> None:
    """What an auth Secret holds turns up in the access list and in the addresses of `N-datalab`."""
    secrets = [obj for obj in objects.values() if obj["kind"] == "Secret"]
    computed = {
        value: case.passwords[f"{obj['metadata']['name']}/{key}"]
        for obj in secrets
        if obj["metadata"]["name"].endswith(AUTH)
        for key, value in obj["stringData"].items()
    }
    for obj in secrets:
        for key, text in obj["stringData"].items():
            for before, after in computed.items():
                text = text.replace(before, after)
            obj["stringData"][key] = text


def _login(objects: Objects, case: Case) -> None:
    name = f"{case.name}-login"
    values = {"username": case.name, "password": case.passwords[f"{name}/password"]}
    _add(
        objects,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": name, "namespace": case.namespace},
            "stringData": values,
        },
    )


def _remote(objects: Objects, case: Case) -> None:
    secret = objects.get(("Secret", case.namespace, f"{case.name}-datalab"))
    if secret is not None:
        values = secret["stringData"]
        values["configData"] = values["configData"].replace(f"[{values['remote']}]\n", "[datalab]\n")
        values["remote"] = "datalab"


def _volume(objects: Objects, case: Case) -> None:
    resources = _session(objects, case)["resources"]
    resources.pop("storage")
    resources["volume"] = {"name": "$(session_name)-persistent"}


def _own_sessions(objects: Objects, case: Case) -> None:
    labels = {"training.educates.dev/environment.name": case.name, "training.educates.dev/component": "session"}
    rule = {"to": [{"namespaceSelector": {"matchLabels": labels}}]}
    _after(_of_environment(objects, case), "allow-namespace-egress", _egress("allow-session-egress", rule))


DNS_PORTS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
CLUSTER_DNS: Manifest = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    "ports": DNS_PORTS,
}
NODE_DNS: Manifest = {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": DNS_PORTS}


def _dns(objects: Objects, case: Case) -> None:
    policies = _of_environment(objects, case)
    if "allow-dns-egress" not in _names(policies):
        _after(policies, "allow-session-egress", _egress("allow-dns-egress", deepcopy(CLUSTER_DNS)))


def _node_dns(objects: Objects, case: Case) -> None:
    _named(_of_environment(objects, case), "allow-dns-egress")["spec"]["egress"].append(deepcopy(NODE_DNS))


API_SERVER: Manifest = {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]}
CLIENTS: Manifest = {
    "matchExpressions": [
        {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["data"]},
        {"key": "training.educates.dev/application", "operator": "NotIn", "values": ["registry"]},
    ]
}


def _api_server(objects: Objects, case: Case) -> None:
    policy = _egress("allow-api-server-egress", deepcopy(API_SERVER))
    policy["spec"]["podSelector"] = deepcopy(CLIENTS)
    _after(_of_environment(objects, case), "allow-dns-egress", policy)


def _ingress(objects: Objects, case: Case) -> None:
    outside = [{"key": "training.educates.dev/component", "operator": "DoesNotExist"}]
    gateway: Manifest = {
        "from": [{"namespaceSelector": {"matchExpressions": outside}}],
        "ports": [{"port": 10080, "protocol": "TCP"}],
    }
    session_pods = {"matchLabels": {"training.educates.dev/application": "workshop"}}
    listed = _of_environment(objects, case)
    last = _names(listed)[-1]
    _after(
        listed,
        last,
        _policy("deny-ingress", "Ingress", {}, []),
        _policy("allow-gateway-ingress", "Ingress", session_pods, [gateway]),
    )


STORES: tuple[tuple[str, dict[str, str], tuple[int, ...], tuple[Manifest, ...]], ...] = (
    (
        "postgres-pg0",
        {"postgres-operator.crunchydata.com/cluster": "pg0"},
        (5432,),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "projectcontour"}}},),
    ),
    ("mongodb-prod", {"app": "mongodb-prod-svc"}, (27017,), ()),
    ("redis-prod", {"app": "prod", "redis_setup_type": "standalone"}, (6379,), ()),
    ("qdrant-prod", {"app": "qdrant-prod"}, (6333, 6334), ()),
)
"""Of the claim that has any: name, labels of its pods, its ports, and who else may come."""


def _services(objects: Objects, case: Case) -> None:
    if not any(kind == "PostgresCluster" for kind, _, _ in objects):
        return
    sessions = {
        "training.educates.dev/environment.name": case.name,
        "training.educates.dev/component": "session",
    }
    for name, labels, ports, further in STORES:
        pods = {"matchLabels": labels}
        clients = [
            {"podSelector": {"matchLabels": {"training.educates.dev/application": "workshop"}}},
            {"namespaceSelector": {"matchLabels": sessions}},
            *further,
        ]
        rules = [
            {"from": clients, "ports": [{"port": port, "protocol": "TCP"} for port in ports]},
            {"from": [{"podSelector": pods}]},
        ]
        policy = _policy(f"allow-store-ingress-{name}", "Ingress", pods, rules)
        policy["metadata"]["namespace"] = case.name
        _add(objects, policy)


def _no_token(objects: Objects, case: Case) -> None:
    for obj in _session(objects, case)["objects"]:
        if obj["kind"] == "Deployment":
            obj["spec"]["template"]["spec"]["automountServiceAccountToken"] = False


def _logs(objects: Objects, case: Case) -> None:
    for obj in _of_kind(objects, "MongoDBCommunity"):
        claims = obj["spec"]["statefulSet"]["spec"]["volumeClaimTemplates"]
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2G"}}}
        claims.append({"metadata": {"name": "logs-volume"}, "spec": spec})


def _kept_volume(objects: Objects, case: Case) -> None:
    for obj in _of_kind(objects, "Redis"):
        obj["spec"]["storage"]["keepAfterDelete"] = True


def _own_annotation(objects: Objects, case: Case) -> None:
    for obj in _of_kind(objects, "Redis"):
        obj["spec"]["kubernetesConfig"]["ignoreAnnotations"] = [APPLIED]


SHARED = ("deny-egress", "allow-namespace-egress", "allow-dns-egress", "allow-external-egress", "allow-internal-egress")


def _session_namespaces(objects: Objects, case: Case) -> None:
    own = "$(session_namespace)"
    policies = {
        policy["metadata"]["name"]: deepcopy(policy)
        for policy in _of_environment(objects, case)
        if policy["metadata"]["name"] in SHARED
    }
    to_lab = _egress("allow-lab-egress", {"to": [_namespace(case.name), _namespace(own)]})
    labels = {"training.educates.dev/application": "workshop", "training.educates.dev/session.name": own}
    from_lab = {"from": [_namespace(case.name) | {"podSelector": {"matchLabels": labels}}, _namespace(own)]}
    closing = [policies.pop("deny-egress"), policies.pop("allow-namespace-egress")]
    dns = policies.pop("allow-dns-egress")
    ordered = [
        *closing,
        to_lab,
        dns,
        _egress("allow-api-server-egress", deepcopy(API_SERVER)),
        *policies.values(),
        _policy("deny-ingress", "Ingress", {}, []),
        _policy("allow-lab-ingress", "Ingress", {}, [from_lab]),
    ]
    for policy in ordered:
        policy["metadata"]["namespace"] = own
    _session(objects, case)["objects"][:0] = ordered


def _kept_current(objects: Objects, case: Case) -> None:
    for obj in _workshop(objects, case)["environment"]["objects"]:
        live = deepcopy(obj)
        live["metadata"]["namespace"] = case.name
        _add(objects, live)


def _own_rights(objects: Objects, case: Case) -> None:
    own = "$(session_namespace)"
    session = _session(objects, case)["objects"]
    last = session.index([obj for obj in session if obj["kind"] == "NetworkPolicy"][-1]) + 1
    session.insert(last, _binding("datalabd-session", {"namespace": own}))
    _of_environment(objects, case).append(_binding("datalabd-lab", {}))


def _binding(role: str, place: Manifest) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role} | place,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "datalabd", "namespace": "datalabd"}],
    }


def _marks(objects: Objects, case: Case) -> None:
    labels = {
        MANAGED_BY: FIELD_MANAGER,
        CLAIM_NAME: case.name,
        CLAIM_NAMESPACE: case.namespace,
        CLAIM_UID: "",
    }
    spec = _workshop(objects, case)
    policies = [obj for obj in spec["session"]["objects"] if obj["kind"] == "NetworkPolicy"]
    for obj in (*objects.values(), *spec["environment"]["objects"], *policies):
        obj["metadata"]["labels"] = dict(labels)


DIFFERENCES = (
    Difference(
        "random-passwords",
        ("W1",),
        "Passwords of stores are random and made once; none can be computed from names.",
        _random,
    ),
    Difference(
        "own-login",
        ("W2",),
        "Sessions ask for a random login of the lab, in Secret `N-login` beside the claim, not for the storage keys.",
        _login,
    ),
    Difference(
        "fixed-remote",
        ("W32",),
        "The rclone remote is called `datalab`, so that the access key shows in no path and no log.",
        _remote,
    ),
    Difference(
        "encoded-secrets",
        ("W30",),
        "Secrets are written through `data`, so that a key that is no longer set leaves them.",
        _data,
    ),
    Difference(
        "lasting-home",
        ("W42",),
        "The Workshop always mounts the volume `N-S-persistent`, also if no session was declared at first.",
        _volume,
    ),
    Difference(
        "own-session-egress",
        (DESIGN,),
        "The workshop namespace may reach the lab's own session namespaces, whatever networks are closed to it.",
        _own_sessions,
    ),
    Difference(
        "dns-always",
        ("W12",),
        "Names are resolved also without external egress.",
        _dns,
    ),
    Difference(
        "dns-peers",
        ("W14",),
        "DNS is also allowed to the usual address of a cache on the node; `network.dns` names other peers.",
        _node_dns,
    ),
    Difference(
        "api-server-egress",
        ("W12",),
        "Sessions and stores reach the API server also without external egress; data browsers and registries never do.",
        _api_server,
    ),
    Difference(
        "closed-ingress",
        ("W15",),
        "What comes into the workshop namespace is closed too, but for requests to the sessions' gateway.",
        _ingress,
    ),
    Difference(
        "session-namespaces",
        ("W10",),
        "The namespaces of sessions, where users start pods, are closed like the workshop namespace.",
        _session_namespaces,
    ),
    Difference(
        "kept-current",
        ("W11",),
        "Network policies and the data claim of the workshop namespace are objects of ours as well, so that a change "
        "reaches labs that run.",
        _kept_current,
    ),
    Difference(
        "service-ingress",
        ("W15",),
        "Databases and stores answer their own lab and the database gateway alone, a data browser its own session.",
        _services,
    ),
    Difference(
        "data-without-token",
        (DESIGN,),
        "Data browsers hold no token of the Kubernetes API.",
        _no_token,
    ),
    Difference(
        "mongodb-logs",
        (DESIGN,),
        "The second volume of a document store, 2G for its logs, is asked for in the class of the first.",
        _logs,
    ),
    Difference(
        "redis-volume",
        ("W17",),
        "Under `retention: Retain` the volume of a cache store outlives it.",
        _kept_volume,
    ),
    Difference(
        "redis-annotations",
        (DESIGN,),
        "The Redis operator does not hand our annotation on to what it makes.",
        _own_annotation,
    ),
    Difference(
        "ownership",
        ("W41",),
        "Every object says by labels whose it is; what lacks them is never overwritten or deleted.",
        _marks,
    ),
    Difference(
        "own-rights",
        ("W35",),
        "Educates makes RoleBindings in the lab's namespaces, by which datalabd may write there.",
        _own_rights,
    ),
)
"""In this order."""


# --- what they are made of --------------------------------------------------------------------------------------------


def _workshop(objects: Objects, case: Case) -> Manifest:
    spec: Manifest = objects["Workshop", "", case.name]["spec"]
    return spec


def _session(objects: Objects, case: Case) -> Manifest:
    session: Manifest = _workshop(objects, case)["session"]
    return session


def _of_environment(objects: Objects, case: Case) -> list[Manifest]:
    """Objects of the environment, policies first; changing the list changes the Workshop."""
    listed: list[Manifest] = _workshop(objects, case)["environment"]["objects"]
    return listed


def _of_kind(objects: Objects, kind: str) -> list[Manifest]:
    return [obj for (found, _, _), obj in objects.items() if found == kind]


def _names(listed: list[Manifest]) -> list[str]:
    return [obj["metadata"]["name"] for obj in listed if obj["kind"] == "NetworkPolicy"]


def _named(listed: list[Manifest], name: str) -> Manifest:
    (found,) = [obj for obj in listed if obj["metadata"]["name"] == name]
    return found


def _after(listed: list[Manifest], name: str, *policies: Manifest) -> None:
    index = listed.index(_named(listed, name)) + 1
    listed[index:index] = policies


def _egress(name: str, *rules: Manifest) -> Manifest:
    return _policy(name, "Egress", {}, list(rules))


def _policy(name: str, direction: str, pods: Manifest, rules: list[Any]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": pods, "policyTypes": [direction], direction.lower(): rules},
    }


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _add(objects: Objects, obj: Manifest) -> None:
    metadata = obj["metadata"]
    objects[obj["kind"], metadata.get("namespace", ""), metadata["name"]] = obj
