"""Every kind of route, and where the hosts stand for which it answers: in Python, and in CEL for the API server.

Hosts are in the form of `datalabd.routes.hosts`.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.plan.ingress_protection import NGINX, REGISTRY_INGRESS, SESSION_INGRESS
from datalabd.routes import hosts, traefik

SERVER_ALIAS = f"{NGINX}/server-alias"
WWW_REDIRECT = f"{NGINX}/from-to-www-redirect"
"""Annotation of an Ingress by which nginx answers for `a.org` beside `www.a.org`, and the other way round."""
_HAPROXY = ("haproxy-ingress.github.io", "ingress.kubernetes.io")
ALIASES = (SERVER_ALIAS, *(f"{prefix}/{key}" for prefix in _HAPROXY for key in ("server-alias", "redirect-from")))
"""Annotations of an Ingress with further hosts for which nginx or HAProxy Ingress answers."""
ALIAS_PATTERNS = tuple(f"{alias}-regex" for alias in ALIASES[1:])
"""The same of HAProxy Ingress, as regular expressions."""
_SEPARATORS = re.compile(r"[,\s]")
SERVICE_NAMESPACE = "k8s.apisix.apache.org/svc-namespace"
"""Annotation of an Ingress by which APISIX sends its requests into another namespace."""
MANY = 200
"""Entries of a list that CEL looks into; what has more is asked about, or the API server's limit would decide."""
HOSTS_MAX = 500
"""Hosts of one route, each of which is compared with those of all labs."""
ENTRIES_MAX = 5000
"""Entries of a list of a route, and hosts of all of them with their repetitions."""
RULES_MAX = 65536
"""Characters of all rules of a route of Traefik."""

ROUTE_VERB = "route"
"""What a role must allow on environmentconfigs.pkg.internal to have hosts of the platform."""

Hosts = Iterator[tuple[str, str]]
"""Hosts, each with the field that has it."""


class TooMany(Exception):
    """A route has more than is looked into: from which field on, and how much that is.

    Routes are of anybody's choice and read while others wait, so that reading ends here, and whoever asks refuses.
    """

    def __init__(self, where: str, limit: str) -> None:
        super().__init__(where, limit)
        self.where = where
        self.limit = limit


@dataclass(frozen=True)
class Words:
    """CEL: whether a text, in CEL too, may speak of one of these hosts, or of one below these domains."""

    domains: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()

    def host(self, text: str) -> str:
        """Of a host, in any spelling: as `hosts.canonical` has it, but for what only that can read."""
        covered = json.dumps([*(f".{domain}" for domain in self.domains), *self.exact])
        found = [
            f"!{text}.matches({json.dumps(hosts.PLAIN_TEXT)})",
            'name == ""',
            f"name in {json.dumps(list(self.exact))}",
            f'{json.dumps(list(self.domains))}.exists(domain, name.endsWith("." + domain))',
            '(name.contains("*") || name.startsWith("."))'
            f' && {covered}.exists(ending, ending.endsWith(name.substring(name.lastIndexOf("*") + 1)))',
            f'name.startsWith(".") && name.substring(1) in {json.dumps(list(self.exact))}',
        ]
        return f"[{text}.lowerAscii().find({json.dumps(hosts.CANONICAL)})].exists(name, {' || '.join(found)})"

    def rule(self, text: str) -> str:
        """Of a rule of Traefik: of anything but one that plainly speaks of other hosts."""
        named = json.dumps([*(f".{domain}`" for domain in self.domains), *(f"`{host}`" for host in self.exact)])
        # Traefik takes a dot at the end of a host for none.
        plain = f'{text}.lowerAscii().replace(".`", "`")'
        return f"!{text}.matches({json.dumps(traefik.PLAIN)}) || {named}.exists(name, {plain}.contains(name))"


@dataclass(frozen=True)
class RouteKind:
    """One kind of route."""

    groups: tuple[str, ...]
    plural: str
    hosts: Callable[[Manifest], Hosts]
    reaches: Callable[[Words], str]
    """CEL over `object`: whether it may answer for a host of these words. Total: an expression that fails refuses."""
    versions: tuple[str, ...] = ("*",)

    @property
    def rule(self) -> Manifest:
        """The rule of a registration that chooses writes of this kind, whether the cluster knows it or not."""
        return {
            "apiGroups": list(self.groups),
            "apiVersions": list(self.versions),
            "resources": [self.plural],
            "operations": ["CREATE", "UPDATE"],
            "scope": "Namespaced",
        }


def _any(entries: str, name: str, condition: str) -> str:
    return f"({entries}.size() > {MANY} || {entries}.exists({name}, {condition}))"


def _listed(entries: Sequence[Any] | None, where: str) -> Iterator[tuple[int, Any]]:
    """The entries of a list, numbered."""
    if len(entries or ()) > ENTRIES_MAX:
        raise TooMany(where, f"{ENTRIES_MAX} entries")
    return enumerate(entries or ())


# --- Ingress ----------------------------------------------------------------------------------------------------------


def _ingress(manifest: Manifest) -> Hosts:
    spec = manifest.get("spec") or {}
    annotations = manifest["metadata"].get("annotations") or {}
    redirects = annotations.get(WWW_REDIRECT, "false") != "false"
    for index, rule in _listed(spec.get("rules"), "spec.rules"):
        for host in hosts.canonical(rule.get("host")):
            yield host, f"spec.rules[{index}].host"
            if redirects and not hosts.is_broad(host):
                yield host[4:] if host.startswith("www.") else f"www.{host}", f"metadata.annotations[{WWW_REDIRECT}]"
    if spec.get("defaultBackend"):
        yield hosts.EVERY, "spec.defaultBackend"
    for key in (*ALIASES, *ALIAS_PATTERNS):
        where = f"metadata.annotations[{key}]"
        for _, alias in _listed(_SEPARATORS.split(str(annotations.get(key) or "")), where):
            if alias:
                found = hosts.canonical(alias) if key in ALIASES else (hosts.of_pattern(alias.lower()),)
                yield from ((host, where) for host in found)


def _ingress_reaches(words: Words) -> str:
    rules, host = "object.?spec.?rules.orValue([])", 'rule.?host.orValue("")'
    by_rule = _any(rules, "rule", words.host(host))
    other = f'({host}.startsWith("www.") ? {host}.substring(4) : "www." + {host})'
    redirects = f'object.metadata.?annotations[?"{WWW_REDIRECT}"].orValue("false") != "false"'
    annotations = "object.metadata.?annotations.orValue({})"
    aliases = f'{annotations}[key].replace(" ", ",").split(",").filter(alias, alias != "")'
    by_alias = _any(aliases, "alias", words.host("alias"))
    special = json.dumps([*ALIAS_PATTERNS, SERVICE_NAMESPACE])
    return (
        f"{by_rule} || ({redirects} && {_any(rules, 'rule', words.host(other))})"
        " || object.?spec.?defaultBackend.hasValue()"
        f" || {json.dumps(list(ALIASES))}.exists(key, key in {annotations} && {by_alias})"
        f" || {special}.exists(key, key in {annotations})"
    )


# --- Gateway API ------------------------------------------------------------------------------------------------------


def _gateway(manifest: Manifest) -> Hosts:
    hostnames = (manifest.get("spec") or {}).get("hostnames")
    if not hostnames:
        yield hosts.EVERY, "spec.hostnames"  # it answers for all that its listener does
    for index, name in _listed(hostnames, "spec.hostnames"):
        yield from ((host, f"spec.hostnames[{index}]") for host in hosts.canonical(name))


def _gateway_reaches(words: Words) -> str:
    hostnames = "object.?spec.?hostnames.orValue([])"
    return f"{hostnames}.size() == 0 || {_any(hostnames, 'host', words.host('host'))}"


# --- APISIX -----------------------------------------------------------------------------------------------------------


def _apisix(manifest: Manifest) -> Hosts:
    spec = manifest.get("spec") or {}
    for index, rule in _listed(spec.get("http"), "spec.http"):
        where = f"spec.http[{index}].match.hosts"
        named = (rule.get("match") or {}).get("hosts")
        if not named:
            yield hosts.EVERY, where
        for number, name in _listed(named, where):
            yield from ((host, f"{where}[{number}]") for host in hosts.canonical(name))
    for index, stream in _listed(spec.get("stream"), "spec.stream"):
        # Without a host it answers for a port of its own.
        if name := (stream.get("match") or {}).get("host"):
            yield from ((host, f"spec.stream[{index}].match.host") for host in hosts.canonical(name))


def _apisix_reaches(words: Words) -> str:
    hosts = "rule.?match.?hosts.orValue([])"
    of_rule = f"{hosts}.size() == 0 || {_any(hosts, 'host', words.host('host'))}"
    host = 'stream.?match.?host.orValue("")'
    of_stream = f'{host} != "" && ({words.host(host)})'
    by_rule = _any("object.?spec.?http.orValue([])", "rule", of_rule)
    return f"{by_rule} || {_any('object.?spec.?stream.orValue([])', 'stream', of_stream)}"


# --- Traefik ----------------------------------------------------------------------------------------------------------


def _traefik(manifest: Manifest) -> Hosts:
    seen: set[str] = set()
    length = 0
    for index, route in _listed((manifest.get("spec") or {}).get("routes"), "spec.routes"):
        where, rule = f"spec.routes[{index}].match", str(route.get("match") or "")
        if rule in seen:
            continue
        seen.add(rule)
        length += len(rule)
        if length > RULES_MAX:
            raise TooMany(where, f"{RULES_MAX} characters in all rules")
        try:
            yield from ((host, where) for host in traefik.hosts(rule))
        except traefik.TooManyHosts:
            raise TooMany(where, f"{traefik.HOSTS_MAX} hosts in one rule") from None


def _traefik_reaches(words: Words) -> str:
    return _any("object.?spec.?routes.orValue([])", "route", words.rule('route.?match.orValue("")'))


# --- Contour ----------------------------------------------------------------------------------------------------------


def _contour(manifest: Manifest) -> Hosts:
    # Without one it is a part of another proxy, and answers for what that does.
    virtual_host = (manifest.get("spec") or {}).get("virtualhost")
    if virtual_host is not None:
        yield from ((host, "spec.virtualhost.fqdn") for host in hosts.canonical(virtual_host.get("fqdn")))


def _contour_reaches(words: Words) -> str:
    host = 'object.?spec.?virtualhost.?fqdn.orValue("")'
    return f"object.?spec.?virtualhost.hasValue() && ({words.host(host)})"


# --- all --------------------------------------------------------------------------------------------------------------

GATEWAY_API = "gateway.networking.k8s.io"
TRAEFIK = ("traefik.io", "traefik.containo.us")
INGRESS = RouteKind(("networking.k8s.io",), "ingresses", _ingress, _ingress_reaches, ("v1",))
TLS_ROUTE = RouteKind((GATEWAY_API,), "tlsroutes", _gateway, _gateway_reaches)
KINDS = {
    "Ingress": INGRESS,
    "HTTPRoute": RouteKind((GATEWAY_API,), "httproutes", _gateway, _gateway_reaches),
    "GRPCRoute": RouteKind((GATEWAY_API,), "grpcroutes", _gateway, _gateway_reaches),
    "TLSRoute": TLS_ROUTE,
    "ApisixRoute": RouteKind(("apisix.apache.org",), "apisixroutes", _apisix, _apisix_reaches),
    "IngressRoute": RouteKind(TRAEFIK, "ingressroutes", _traefik, _traefik_reaches),
    "IngressRouteTCP": RouteKind(TRAEFIK, "ingressroutetcps", _traefik, _traefik_reaches),
    "HTTPProxy": RouteKind(("projectcontour.io",), "httpproxies", _contour, _contour_reaches),
}
"""By kind. UDPRoute, TCPRoute and IngressRouteUDP know no hosts."""


def reached(manifest: Manifest) -> dict[str, str]:
    """The hosts a route answers for, each with the first field that has it.

    `TooMany` for a route that has more than are looked into, KeyError for what is no route.
    """
    found: dict[str, str] = {}
    for host, where in _counted(manifest):
        found.setdefault(host, where)
    return found


def readable(manifest: Manifest) -> list[str]:
    """The hosts a live route answers for, each once; of too many, or before what is of no known form, the first."""
    found: dict[str, None] = {}
    with contextlib.suppress(TooMany, AttributeError, KeyError, TypeError, ValueError):
        for host, _ in _counted(manifest):
            found[host] = None
    return list(found)


def leads_into(manifest: Manifest) -> str:
    """The other namespace whose Services an Ingress sends its requests to; empty: none but its own."""
    metadata = manifest["metadata"]
    target = (metadata.get("annotations") or {}).get(SERVICE_NAMESPACE) if manifest["kind"] == "Ingress" else None
    return str(target) if target and target != metadata.get("namespace") else ""


def _counted(manifest: Manifest) -> Hosts:
    seen: set[str] = set()
    for count, (host, where) in enumerate(KINDS[manifest["kind"]].hosts(manifest)):
        if count == ENTRIES_MAX:
            raise TooMany(where, f"{ENTRIES_MAX} entries")
        seen.add(host)
        if len(seen) > HOSTS_MAX:
            raise TooMany(where, f"{HOSTS_MAX} hosts")
        yield host, where


def rules(kinds: Sequence[RouteKind] = tuple(KINDS.values())) -> list[Manifest]:
    """The rules of a registration that chooses all routes."""
    return [kind.rule for kind in kinds]


# --- whose hosts ------------------------------------------------------------------------------------------------------

PURPOSES = frozenset({"session", "registry", "database"})
"""What the hosts of a lab are for."""


def purposes(manifest: Manifest, namespace: str, lab: str) -> frozenset[str]:
    """What a route in a namespace may have hosts of a lab for; nothing, if the namespace is not the lab's own.

    Administrators of that namespace can write there as the runtime does: what nobody protects is not for sessions.
    """
    if namespace != names.workshop_namespace(lab):
        return frozenset()
    if manifest["kind"] == "TLSRoute":
        return frozenset({"database"})
    if manifest["kind"] == "Ingress":
        labels = manifest["metadata"].get("labels") or {}
        if labels.items() >= SESSION_INGRESS.items():
            return PURPOSES
        if labels.items() >= REGISTRY_INGRESS.items():
            return frozenset({"registry"})
    return frozenset()


def lab_hosts(lab: str, sessions: Sequence[str], databases: Sequence[str], domain: str) -> Iterator[tuple[str, str]]:
    """Every host that a lab derives, with what it is for."""
    yield f"{lab}.{domain}", "session"
    for session in sessions:
        *gateway, registry = names.session_hosts(lab, session)
        for label in gateway:
            yield f"{label}.{domain}", "session"
        yield f"{registry}.{domain}", "registry"
    for database in databases:
        yield f"{names.database_host(lab, database)}.{domain}", "database"
