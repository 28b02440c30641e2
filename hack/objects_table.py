"""Every object a lab can have, and when it has it, as the plan says: what the reference shows.

One lab has everything at once. What an object depends on is found by leaving one part of that lab out at a time: the
parts without which the object is not planned are when it is there.
"""

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from typing import Any

from datalabd import stores
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import V1BETA2, Manifest
from datalabd.lab import Lab, resolve
from datalabd.observed import PLUGIN_CONFIG, Observed, Phase, Place, StorageKeys, is_durable
from datalabd.plan import plan
from datalabd.plan.educates.workshop import SESSION_NAMESPACE
from datalabd.plan.prune import Identity, identity

LAB, NAMESPACE, SESSION, HOST, KEY = "nnn", "ccc", "sss", "hhh", "kkk"
PATTERNS = {LAB: "N", NAMESPACE: "CNS", SESSION: "S", HOST: "H", KEY: "K"}
"""Names that are part of no other word, and what stands for them."""
EXISTS = "it exists"
READY = {
    "WorkshopEnvironment": "Educates says Running, and the namespace is there and its own",
    "WorkshopSession": "Educates says Running, and its Deployment is available",
    stores.POSTGRES: "PGO has taken up the last change, the instance and the host of its backups are ready, and the "
    "login is there",
    stores.ROUTE: "one gateway says Accepted and ResolvedRefs",
    stores.DOCUMENT_STORE: "its operator says Running, with a member and a pod",
    stores.CACHE_STORE: "its StatefulSet has all pods ready",
    stores.VECTOR_STORE: "its StatefulSet has all pods ready",
}
"""By kind; whatever else a lab has only needs to exist."""

Settings = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Part:
    """Something a lab may have: in words, in its claim, in its environment and in what is seen of it."""

    words: str
    spec: Settings
    data: Settings
    seen: Settings = field(default_factory=dict)


SIZE = {"storage": "1Gi"}
PARTS = (
    Part("the storage Secret can be read", {}, {}, {"storage": StorageKeys("", "", "", "")}),
    Part("`auth.type: credentials`, `auth.login: generated`", {}, {"auth": {"type": "credentials"}}),
    Part(
        "`iam.url`",
        {},
        {"iam": {"url": "https://id.example.org", "adminSecret": {"namespace": "iam", "name": "admin"}}},
        {"client_secret": "secret"},
    ),
    Part("each declared session", {"sessions": [{"name": SESSION, "state": "stopped"}]}, {}),
    Part("while it is started", {"sessions": [{"name": SESSION}]}, {}),
    Part("`spec.vcluster`", {"vcluster": True}, {}),
    Part("`spec.data.enabled`", {"data": {"enabled": True}}, {}),
    Part("`spec.registry.enabled`", {"registry": {"enabled": True}}, {}),
    Part(
        "`spec.security.externalEgress`, `network.externalEgressCIDRs`",
        {"security": {"externalEgress": True}},
        {"network": {"externalEgressCIDRs": ["0.0.0.0/0"]}},
    ),
    Part("`network.internalEgress`", {}, {"network": {"internalEgress": [{"namespace": "minio"}]}}),
    Part("`network.serviceCIDR`", {}, {"network": {"serviceCIDR": "10.43.0.0/16"}}),
    Part("each of `spec.databases`", {"databases": {HOST: {"names": ["db"], "backupStorage": "1Gi"} | SIZE}}, {}),
    Part(
        "`database.gateway`",
        {},
        {"database": {"gateway": {"parentName": "sql", "parentNamespace": "gateways", "sectionName": "postgres"}}},
    ),
    Part(
        "`ingress.protection.type: apisix`, Secret `N-oauth2-client` is there",
        {},
        {"ingress": {"protection": {"type": "apisix"}}},
        {"oauth2_client": {"client_id": "", "client_secret": ""}},
    ),
    Part("each of `spec.documentStores`", {"documentStores": {KEY: SIZE}}, {}),
    Part("each of `spec.cacheStores`", {"cacheStores": {KEY: SIZE}}, {}),
    Part("each of `spec.vectorStores`", {"vectorStores": {KEY: SIZE}}, {}),
)
"""In the order in which the reference names them."""
DECLARED, STARTED = PARTS[3], PARTS[4]


@dataclass(frozen=True)
class Row:
    """One object: what it is, and the parts of a lab that it takes."""

    kind: str
    name: str
    namespace: str
    durable: bool
    when: str


def rows() -> tuple[list[Row], list[Row]]:
    """What datalabd makes, in the order of apply, and what Educates makes of the Workshop beside that."""
    everything = _objects(PARTS)
    without = {part: _objects(tuple(other for other in PARTS if other is not part)) for part in PARTS}
    made: list[Row] = []
    embedded: list[Row] = []
    for found, (obj, ours) in everything.items():
        parts = [part for part, objects in without.items() if found not in objects]
        if found not in _objects(tuple(parts)):
            raise ValueError(f"{found} has no one reason: {[part.words for part in parts]}")
        kind, namespace, name = found
        when = ", ".join(part.words for part in parts) or "always"
        row = Row(kind, _pattern(name), _pattern(namespace), ours and is_durable(LAB, obj), when)
        (made if ours else embedded).append(row)
    return made, embedded


def table() -> str:
    """Markdown: both tables. What differs in its name alone shares a row."""
    made, embedded = rows()
    return (
        "| Object | Namespace | When | Ready when |\n|---|---|---|---|\n"
        + "".join(
            f"| {kind} {names} | {namespace} | {when} | {READY.get(kind, EXISTS)} |\n"
            for kind, names, namespace, when in _grouped(made)
        )
        + "\nOf the Workshop, Educates makes beside what is its own:\n\n"
        + "| Object | Namespace | When |\n|---|---|---|\n"
        + "".join(f"| {kind} {names} | {namespace} | {when} |\n" for kind, names, namespace, when in _grouped(embedded))
    )


def _grouped(listed: Iterable[Row]) -> Iterator[tuple[str, str, str, str]]:
    def alike(row: Row) -> tuple[str, str, str, bool]:
        return row.kind, row.namespace, row.when, row.durable

    for (kind, namespace, when, durable), group in groupby(listed, alike):
        names = ", ".join(f"`{row.name}`" for row in group)
        yield kind, f"{names} \\*" if durable else names, f"`{namespace}`" if namespace else "–", when


@cache
def _objects(parts: tuple[Part, ...]) -> dict[Identity, tuple[Manifest, bool]]:
    """Every object of a lab of these parts, and whether it is ours to make rather than Educates'."""
    lab = _lab(parts)
    seen = Observed(
        place=Place.OURS,
        phase=Phase.RUNNING,
        served=frozenset({*stores.OPERATORS, PLUGIN_CONFIG}),
        api_server=(("192.0.2.1", 443),),
        now=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    )
    for part in parts:
        seen = replace(seen, **part.seen)
    planned = [obj for stage in plan(lab, seen, str).stages for obj in stage.objects]
    found = {identity(obj): (obj, True) for obj in planned}
    for obj in planned:
        if obj["kind"] == "Workshop":
            listed = [_placed(inner, LAB) for inner in obj["spec"]["environment"]["objects"]]
            if lab.started:
                listed += [_placed(inner, SESSION_NAMESPACE) for inner in obj["spec"]["session"]["objects"]]
            for placed in listed:
                found.setdefault(identity(placed), (placed, False))
    return found


def _placed(obj: Manifest, namespace: str) -> Manifest:
    """An object of the Workshop as Educates makes it, by default in this namespace: variables of names filled in."""
    session = f"{LAB}-{SESSION}"
    values = {SESSION_NAMESPACE: session, "$(session_name)": session, "$(workshop_namespace)": LAB}
    metadata = {}
    for key in ("name", "namespace"):
        text = obj["metadata"].get(key, namespace)
        for variable, value in values.items():
            text = text.replace(variable, value)
        metadata[key] = text
    return obj | {"metadata": obj["metadata"] | metadata}


def _lab(parts: tuple[Part, ...]) -> Lab:
    """A lab of these parts and as little else as there can be."""
    spec: Settings = {"users": ["ann"], "data": {"enabled": False}, "security": {"externalEgress": False}}
    ingress = {"domain": "lab.example.org", "protection": {"type": "external"}}
    data: Settings = {"ingress": ingress, "auth": {"type": "delegated"}}
    for part in parts:
        if part is STARTED and DECLARED not in parts:
            continue  # a session that is not declared cannot be started
        spec |= part.spec
        for key, value in part.data.items():
            data[key] = data.get(key, {}) | value
    environment = EnvironmentConfig.parse({"metadata": {"name": "environment"}, "data": data})
    metadata = {"name": LAB, "namespace": NAMESPACE, "uid": "uid", "generation": 1}
    return resolve({"apiVersion": V1BETA2, "kind": "Datalab", "metadata": metadata, "spec": spec}, environment)


def _pattern(name: str) -> str:
    for made_up, letter in PATTERNS.items():
        name = name.replace(made_up, letter)
    return name
