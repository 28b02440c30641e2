"""Environments, claims and labs as hypothesis makes them: over every field, and valid by the way they are made.

Names are made of letters with which what is added to them (`-vc`, `registry-`, `_URL`) cannot be spelled, and each sort
of name begins with letters of its own. So whatever is drawn, no two names of a lab lead to the same namespace, host,
Service or variable.
"""

import base64
import ipaddress
import json
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from datalabd import names
from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ENVIRONMENT, ROTATE, V1BETA1, V1BETA2, Manifest
from datalabd.api.v1beta2 import Budget, KubernetesRole, Policy, State
from datalabd.defaults import default
from datalabd.lab import Lab, resolve

Strategy = st.SearchStrategy[Any]

NAMESPACES = ("default", "team", "t" * 63)
"""Where claims stand."""
PLATFORM = ("platform", "keycloak", "gateway-system", "object-store")
"""Namespaces of somebody else."""

_INSIDE, _END = "xyz019-", "xyz019"


# --- words ------------------------------------------------------------------------------------------------------------


def label(longest: int, first: str = _END) -> Strategy:
    """A DNS label that begins with one of `first`: mostly short, sometimes as long as it may be."""

    def of(rest: str) -> st.SearchStrategy[str]:
        return st.tuples(st.sampled_from(first), st.just(rest)).map("".join)

    short = st.tuples(st.text(_INSIDE, max_size=min(6, longest - 2)), st.sampled_from(_END)).map("".join)
    if longest < 2:
        return of("")
    return of("") | short.flatmap(of) | of("x" * (longest - 1))


def blank_or(strategy: Strategy) -> Strategy:
    """What is left out by being blank, as well."""
    return strategy | st.sampled_from(["", " "])


def optional(required: dict[str, Strategy] | None = None, /, **fields: Strategy) -> st.SearchStrategy[Manifest]:
    """An object with the required fields, and any of the others."""
    return st.fixed_dictionaries(required or {}, optional=fields)


def some(strategy: Strategy, most: int = 3, **options: Any) -> st.SearchStrategy[list[Any]]:
    """A short list."""
    return st.lists(strategy, max_size=most, **options)


_OBJECT_NAME = st.sampled_from(["wildcard-tls", "a", "standard", "team.example.org", "x" * 63, "0.1", "n" * 253])
_CLASS = st.sampled_from(["standard", "fast", "io1.example.org", "s" * 63])
_PLATFORM = st.sampled_from(PLATFORM)
_QUANTITY = (
    st.tuples(
        st.integers(1, 999).map(str) | st.sampled_from(["007", "1000"]),
        st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3", "E06", "e0"]),
    )
    | st.tuples(st.sampled_from(["1.5", "0.5", "2.25"]), st.sampled_from(["k", "M", "G", "Ki", "Mi", "Gi", "e3"]))
).map("".join)
"""A size of whole bytes."""
_FLAG = st.booleans() | st.sampled_from(["true", " False ", "TRUE"])
"""A yes or no as environments may spell it."""
_WORD = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Z", "C")), min_size=1, max_size=80
)
_PHRASE = st.lists(_WORD, min_size=1, max_size=3).map(" ".join)
_LABEL_VALUE = st.sampled_from(["", "minio", "A_b.c-1", "v" * 63])
_LABEL_KEY = st.sampled_from(["app", "app.kubernetes.io/name", "a.B_c-1", "example.org/" + "k" * 63])


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> st.SearchStrategy[str]:
    """The address, or a network that it lies in, host bits and all."""
    sizes = st.integers(0, address.max_prefixlen).map(lambda size: f"{address}/{size}")
    return st.just(str(address)) | sizes | st.just(f" {address}/{address.max_prefixlen} ")


_CIDR = (
    st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2000::/3") | st.ip_addresses(v=6, network="fd00::/8")
).flatmap(_network)
_BLOCKED = st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=6, network="fd00::/8")


# --- environments -----------------------------------------------------------------------------------------------------


_TEMPLATES = st.sampled_from(["{name}", "{namespace}", "{realm}", "{group}", "{host}", "$host", "${request_uri}", "x"])
_TEMPLATE = st.lists(_TEMPLATES, min_size=1, max_size=4).map("-".join)
_URL = st.sampled_from(["https://auth.example.org", "HTTP://10.0.0.1:8080/x?y=z", "https://keycloak.lab.example.org"])
_URL_TEMPLATE = st.tuples(_URL, _TEMPLATE).map("/".join)
_EXPRESSION = optional(
    {"key": _LABEL_KEY, "operator": st.sampled_from(["In", "NotIn"])}
    | {"values": some(_LABEL_VALUE).map(lambda v: v or ["a"])}
) | optional({"key": _LABEL_KEY, "operator": st.sampled_from(["Exists", "DoesNotExist"])})
_SELECTOR = optional(
    matchLabels=st.dictionaries(_LABEL_KEY, _LABEL_VALUE, max_size=2), matchExpressions=some(_EXPRESSION, 2)
)
_PROTOCOL = st.sampled_from(["TCP", "UDP", "SCTP"])
_PORTS = some(
    optional({"port": st.integers(1, 65535) | st.sampled_from(["http", "a-1", "p" * 15])}, protocol=_PROTOCOL)
    | optional({"port": st.integers(1, 9000), "endPort": st.integers(9000, 65535)}, protocol=_PROTOCOL)
)
_PEER = (
    optional({"namespaceSelector": _SELECTOR}, podSelector=_SELECTOR, ports=_PORTS)
    | optional({"podSelector": _SELECTOR}, ports=_PORTS)
    | optional({"cidr": _CIDR}, ports=_PORTS)
)
_REFERENCE = st.fixed_dictionaries({"namespace": _PLATFORM, "name": _OBJECT_NAME})

_IAM = optional(
    realm=st.sampled_from(["lab", "team's_realm", "r" * 255]),
    caSecret=_REFERENCE,
    extraAudiences=_WORD | some(_WORD),
    localhostRedirects=_FLAG,
)
_MANAGED = st.fixed_dictionaries({"url": _URL, "adminSecret": _REFERENCE})
_NGINX = optional(
    {"type": st.sampled_from(["nginx", " NGINX "])},
    authURL=blank_or(_URL_TEMPLATE),
    signinURL=blank_or(_URL_TEMPLATE),
    responseHeaders=some(st.sampled_from(["Authorization", "X-Auth_User", "h" * 255])),
)
_PROTECTION = (
    _NGINX
    | optional({"type": st.just("traefik"), "middleware": _TEMPLATE})
    | optional(
        {
            "type": st.just("annotations"),
            "annotations": st.dictionaries(
                st.sampled_from(["example.org/auth", "a", "x.y/A_b.c-1"]), _TEMPLATE, min_size=1, max_size=2
            ),
        }
    )
    | optional(
        {"type": st.just("apisix"), "discoveryURL": _URL_TEMPLATE, "opaURL": _URL_TEMPLATE, "opaPolicy": _TEMPLATE}
    )
    | optional({"type": st.just("apisix"), "discoveryURL": _URL_TEMPLATE})
    | optional({"type": st.sampled_from(["external", "off", "OFF", ""])})
)
_DOMAIN = st.sampled_from(["lab.example.org", "x", " lab.example.org ", ".".join(["d" * 62] * 3)])


def _open_to(domain: str) -> Strategy:
    """Names below the domain, and whose they may be."""
    hosts = ["*", "docs"] if len(domain) < 190 else ["*"]
    return optional(
        namespaces=some(blank_or(st.sampled_from(["apps", "team-*", "*"]))),
        hosts=some(blank_or(st.sampled_from([f"{host}.{domain.strip()}" for host in hosts]))),
    )


_INGRESS = _DOMAIN.flatmap(
    lambda domain: optional(
        {"domain": st.just(domain)},
        **{"class": blank_or(_OBJECT_NAME)},
        secret=_OBJECT_NAME,
        protection=_PROTECTION,
        openTo=_open_to(domain),
    )
)
_STORAGE = optional(
    secretNamespace=blank_or(_PLATFORM),
    endpoint=blank_or(st.sampled_from(["https://s3.example.org", "s3.internal:9000", "http://10.0.0.1/%20"])),
    endpoints=some(blank_or(st.sampled_from(["https://minio.example.org:9000", "http://[fd00::1]/"]))),
    region=blank_or(st.sampled_from(["eu-central-1", "x"])),
    type=st.sampled_from(["s3", "swift"]),
    provider=st.sampled_from(["Other", "AWS", "Minio"]),
    force_path_style=_FLAG,
)
_NETWORK = optional(
    externalEgressCIDRs=some(blank_or(_CIDR), 5),
    blacklistIPs=some(_BLOCKED.flatmap(lambda address: st.just(str(address)))),
    podCIDRs=some(_CIDR),
    serviceCIDR=_CIDR,
    internalEgress=some(optional({"namespace": _PLATFORM}, podSelector=_SELECTOR, ports=_PORTS)),
    excludePolicies=some(st.sampled_from(["deny-egress", "allow-dns-egress", "allow-external-egress", "x.y"])),
    dns=some(_PEER),
    apiServerCIDRs=some(_CIDR),
    ingressPeers=some(_PEER),
    peers=some(
        optional(
            {"from": _PEER, "to": st.sampled_from(["session", "sessionNamespace", "stores", "databases"])}, ports=_PORTS
        )
    ),
)
_GATEWAY = st.just({"parentName": "", "sectionName": " "}) | st.fixed_dictionaries(
    {"parentName": _OBJECT_NAME, "parentNamespace": _PLATFORM, "sectionName": _OBJECT_NAME}
)
_CLASSED = optional(storageClassName=blank_or(_CLASS))
_DATABASE = optional(
    gateway=_GATEWAY, storageClassName=blank_or(_CLASS), backupStorageClassName=blank_or(_CLASS), superuser=_FLAG
)
# By size, so that of any two the first can be a request and the second its limit.
_AMOUNTS: dict[str, list[int | str]] = {
    "cpu": ["100m", "500m", 1, "1.5", 2, "16"],
    "memory": [134217728, "256Mi", "1G", "1.5Gi", "2e9", "1Ti"],
}


@st.composite
def _resources(draw: st.DrawFn) -> Manifest:
    found: dict[str, dict[str, int | str]] = {"requests": {}, "limits": {}}
    for name, amounts in _AMOUNTS.items():
        low, high = sorted(draw(st.tuples(*[st.integers(0, len(amounts) - 1)] * 2)))
        for kind, index in (("requests", low), ("limits", high)):
            if draw(st.booleans()):
                found[kind][name] = amounts[index]
    empty: bool = draw(st.booleans())
    return {kind: amounts for kind, amounts in found.items() if amounts or empty}


_IMAGE = st.sampled_from(["registry.example.org:5000/team/image:1.0", "image:latest", "x/y@sha256:" + "0" * 64])
_TAGGED = st.sampled_from(["registry.example.org:5000/team/image:1.0", "image:latest"])
_RESOURCES = _resources()
_REPLICAS = st.integers(1, 9)
_COMPONENTS = optional(
    data=optional(image=_IMAGE, resources=_RESOURCES, replicas=_REPLICAS),
    mongodb=optional(image=_IMAGE, resources=_RESOURCES, replicas=_REPLICAS),
    redis=optional(image=_IMAGE, resources=_RESOURCES),  # whose operator makes one pod
    qdrant=optional(image=_TAGGED, replicas=_REPLICAS),  # whose operator takes no resources
)
_PACKAGE_FILES = st.sampled_from(
    [
        {"image": {"url": "$(image_repository)/package:1.0"}},
        {"git": {"url": "https://git.example.org/x", "ref": "origin/main"}, "includePaths": ["/a/**"], "path": "."},
        {"http": {"url": "https://$(ingress_domain)/x.tgz"}, "newRootPath": "x"},
    ]
)
_PACKAGE = st.fixed_dictionaries(
    {"name": st.sampled_from(["tools", "A package", "p" * 253]), "files": some(_PACKAGE_FILES, 2)}
)


LIMITLESS = {"volume": "7Ei", "volumes": "7Ei", "sessions": 1000, "stores": 1000, "memory": "7Ei"}
"""Limits that no claim drawn here comes near."""


@st.composite
def environments(draw: st.DrawFn) -> Manifest:
    """An EnvironmentConfig in which nothing is wrong, with any of its fields in any spelling."""
    allowed = draw(
        optional(
            namespaces=st.sets(st.sampled_from(NAMESPACES), min_size=1).map(sorted),
            policies=_subset(Policy),
            kubernetesRoles=_subset(KubernetesRole),
            budgets=_subset(Budget),
            vcluster=_FLAG,
            userIngress=_FLAG,
        ).map(lambda drawn: drawn | {"limits": LIMITLESS})
    )
    # What claims get that say nothing has to be allowed: it is stated where the usual is not.
    stated = {
        "security": {
            field: st.sampled_from(allowed[among])
            for field, among in (("policy", "policies"), ("kubernetesRole", "kubernetesRoles"))
            if among in allowed
        },
        "quota": {"budget": st.sampled_from(allowed["budgets"])} if "budgets" in allowed else {},
    }
    defaults = optional(
        {
            "quota": optional(stated["quota"], memory=_QUANTITY, storage=_QUANTITY),
            "security": optional(stated["security"], kubernetesAccess=_FLAG, externalEgress=_FLAG),
        }
    )
    data = optional(
        {"ingress": _INGRESS, "allowed": st.just(allowed), "defaults": defaults},
        iam=st.tuples(_IAM, st.just({}) | _MANAGED).map(lambda parts: parts[0] | parts[1]),
        storage=_STORAGE,
        storageClasses=optional(allowed=some(blank_or(_CLASS))),
        packages=some(_PACKAGE, 2),
        auth=optional(
            type=st.sampled_from(["credentials", "delegated", "none", " Credentials "]),
            login=st.sampled_from(["generated", "storage", "STORAGE"]),
        ),
        network=_NETWORK,
        database=_DATABASE,
        mongodb=_CLASSED,
        redis=_CLASSED,
        qdrant=_CLASSED,
        retention=st.sampled_from(["Retain", "Delete"]),
        reservedNames=some(blank_or(st.sampled_from(["reserved", "platform-*"]))),
        components=_COMPONENTS,
    )
    return {
        "apiVersion": draw(st.sampled_from(["pkg.internal/v1beta1", "apiextensions.crossplane.io/v1beta1"])),
        "kind": "EnvironmentConfig",
        "metadata": {"name": draw(st.sampled_from(["datalab", "courses", "e" * 63]))},
        "data": draw(data),
    }


def _subset(of: type[Policy] | type[KubernetesRole] | type[Budget]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([str(value) for value in of]), min_size=1, unique=True)


# --- claims -----------------------------------------------------------------------------------------------------------


_PATH = st.sampled_from([".", "data/a b", "workshop", "$(environment_name)/x", "p" * 1024])
_GLOBS = some(st.sampled_from(["/workshop/**", "*.md", "{a,b}/..x", "g" * 1024]))
_VERSIONS: Strategy = st.just({}) | st.just(
    {"semver": {"constraints": ">=1.0.0 <2.0.0", "prereleases": {"identifiers": ["rc", "beta.1"]}}}
)


def _file(namespace: str) -> st.SearchStrategy[Manifest]:
    reference = optional({"name": _OBJECT_NAME}, namespace=st.just(namespace))
    image = optional(
        {
            "url": st.sampled_from(
                [
                    "registry.example.org:5000/team/image:1.0",
                    "image",
                    "oci://203.0.113.7/x@sha256:" + "a" * 64,
                    "$(image_repository)/files:latest",
                ]
            )
        },
        secretRef=reference,
        dangerousSkipTLSVerify=st.booleans(),
        tagSelection=_VERSIONS,
    )
    git = optional(
        {
            "url": st.sampled_from(
                ["https://git.example.org/a.git", "git@git.example.org:a/b.git", "ssh://git@git.example.org:22/a"]
            ),
            "ref": st.sampled_from(["origin/main", "v1.0.0", "r" * 255]),
        },
        refSelection=_VERSIONS,
        lfsSkipSmudge=st.booleans(),
        verification=optional({"publicKeysSecretRef": reference}),
        secretRef=reference,
    )
    http = optional(
        {"url": st.sampled_from(["https://files.example.org/a.tgz?x=y#z", "HTTP://[2001:db8::1]:8080/" + "u" * 2000])},
        sha256=st.text("0123456789abcdefABCDEF", min_size=64, max_size=64),
        secretRef=reference,
    )
    common = {"path": _PATH, "includePaths": _GLOBS, "excludePaths": _GLOBS, "newRootPath": _PATH}
    return st.one_of(
        [optional({kind: source}, **common) for kind, source in (("image", image), ("git", git), ("http", http))]
    )


_USER = st.sampled_from(["ann", "Bob", "postgres", "public", "none", "ann@example.org", "-", "u" * 63]) | _PHRASE
_USERS = some(_USER, 5, unique_by=str.lower) | st.just([f"user-{number}" for number in range(100)])
_STORE = st.fixed_dictionaries({"storage": _QUANTITY})
_SESSION_STATES = {
    V1BETA1: st.sampled_from(["started", "stopped", "running", " Paused "]),
    V1BETA2: st.sampled_from([str(state) for state in State]),
}


@st.composite
def _databases(draw: st.DrawFn, version: str, claim: str, allowed: Strategy) -> Manifest:
    longest = min(38, names.LABEL_MAX - 1 - len(claim))
    hosts = draw(some(label(longest, "pw"), 3, min_size=1, unique=True)) if longest > 0 else []
    # Where there are several servers, a letter that no host has begins what belongs to the database in its variables.
    first = st.sampled_from("dDtT") if len(hosts) > 1 else st.sampled_from("dDtT_5x")
    name = st.tuples(first, st.text("xXyz_.-019dt", max_size=8) | st.just("x" * 62)).map("".join)
    databases = st.lists(name, min_size=1, max_size=3, unique_by=names.variable)
    required = {"names": databases, "storage": _QUANTITY, "backupStorage": _QUANTITY}
    classes: dict[str, Strategy] = (
        {"storageClassName": allowed, "backupStorageClassName": allowed} if version == V1BETA1 else {}
    )
    return {host: draw(optional(required, **classes)) for host in hosts}


@st.composite
def _sessions(draw: st.DrawFn, version: str, claim: str) -> list[Any]:
    longest = min(52, names.LABEL_MAX - len(names.volume(claim, "")))
    found = draw(some(label(longest), 4, min_size=1, unique=True)) if longest > 0 else []
    item = [optional({"name": st.just(name)}, state=_SESSION_STATES[version]) for name in found]
    spelled = [kind | st.just(name) if version == V1BETA1 else kind for kind, name in zip(item, found, strict=True)]
    return [draw(kind) for kind in spelled]


@st.composite
def claims(draw: st.DrawFn, environment: EnvironmentConfig, version: str | None = None) -> Manifest:
    """A claim that `environment` allows, as somebody writes it, with the metadata that the API server adds."""
    version = version or draw(st.sampled_from([V1BETA1, V1BETA2]))
    data = environment.data
    name = draw(label(names.LABEL_MAX, "ab"))
    namespace = draw(st.sampled_from(data.allowed.namespaces or NAMESPACES))
    users = draw(_USERS)
    override = optional(
        role=st.sampled_from(["admin", "user"]),
        grantedAt=st.sampled_from(["2026-01-10T19:00:00Z", "2026-01-10T19:00:00.5+01:00"]),
    )
    security: dict[str, Strategy] = {
        "policy": st.sampled_from([str(policy) for policy in data.allowed.policies]),
        "kubernetesAccess": st.booleans(),
        "kubernetesRole": st.sampled_from([str(role) for role in data.allowed.kubernetes_roles]),
        "externalEgress": st.booleans(),
    }
    budget = st.sampled_from([str(budget) for budget in data.allowed.budgets])
    classes = st.sampled_from(data.storage_classes.allowed or ["standard", "io1.example.org"])
    # Stores of different kinds may be called the same.
    keys = st.just(draw(label(38, "ck")))
    spec = draw(
        optional(
            {"users": st.just(users)} if users else {},
            secretName=st.sampled_from(["", " keys ", "team.keys", "s" * 253]),
            userOverrides=st.dictionaries(st.sampled_from(users), override, max_size=3) if users else st.just({}),
            sessions=_sessions(version, name),
            databases=_databases(version, name, classes),
            documentStores=st.dictionaries(keys | label(38), _STORE, min_size=1, max_size=2),
            cacheStores=st.dictionaries(keys | label(38, "ck"), _STORE, min_size=1, max_size=2),
            vectorStores=st.dictionaries(keys | label(38), _STORE, min_size=1, max_size=2),
            vcluster=st.booleans() if data.allowed.vcluster else st.just(False),
            data=optional(enabled=st.booleans(), readOnlyMount=st.booleans()),
            registry=optional(enabled=st.booleans(), storage=_QUANTITY),
            persistence=optional(storageClassName=classes),
            quota=optional(memory=_QUANTITY, storage=_QUANTITY, budget=budget),
            security=optional(**security),
            files=some(_file(namespace), 6, min_size=2),
            crossplane=st.just({"compositionRef": {"name": "datalab"}}),
        )
    )
    requests = [
        f"{kind}/{key}/{draw(st.sampled_from(['1', 'now', 'a.B_c-1']))}"
        for kind, keys in (
            ("postgres", spec.get("databases", {})),
            ("mongodb", spec.get("documentStores", {})),
            ("redis", spec.get("cacheStores", {})),
            ("qdrant", spec.get("vectorStores", {})),
            ("login", [name]),
        )
        for key in keys
        if draw(st.booleans())
    ]
    chosen = {ENVIRONMENT: environment.name}
    labelled = draw(st.booleans())
    annotations = ({} if labelled else chosen) | ({ROTATE: ",".join(requests)} if requests else {})
    metadata = {"name": name, "namespace": namespace, "uid": "claim-uid", "generation": 1}
    metadata |= {"labels": chosen} if labelled else {}
    return {
        "apiVersion": version,
        "kind": "Datalab",
        "metadata": metadata | ({"annotations": annotations} if annotations else {}),
        "spec": spec,
    }


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    """A lab: a claim as it is stored, in its environment."""
    environment = EnvironmentConfig.parse(draw(environments()))
    return resolve(stored(draw(claims(environment))), environment)


def stored(claim: Manifest) -> Manifest:
    """The claim as admission leaves it, in the version that is stored."""
    return to_v1beta2(default(claim))


# --- secrets ----------------------------------------------------------------------------------------------------------


def spellings(value: str) -> set[str]:
    """How a value turns up in texts: plain, in a URL, in JSON, or within base64, wherever it begins there."""
    found = {value, quote(value, safe=""), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    raw = value.encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")
        # Characters that also depend on the bytes before and after the value are left out.
        found.add(encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(raw)) % 3 else 0)])
    return found
