"""Which routes of a cluster answer for a host."""

from collections.abc import Callable, Sequence

from datalabd import names, routes
from datalabd.api.meta import Manifest
from datalabd.plan.ingress_protection import SESSION_INGRESS
from datalabd.routes import hosts

Key = tuple[str, str, str]
"""API group and kind, namespace, name of a route."""
Listener = Callable[[Manifest, frozenset[str], frozenset[str]], None]
"""Called with a route (`outline`), the hosts it answers for and the namespaces it leads into, or did until now."""


def outline(manifest: Manifest) -> Manifest:
    """What is kept of a route: who it is, `hosts`, those it answers for, as many as are looked into, and `into`, the
    other namespace it leads into, if it does."""
    metadata = manifest["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key in SESSION_INGRESS}
    into = routes.leads_into(manifest)
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": kept | ({"labels": labels} if labels else {}),
        "hosts": routes.readable(manifest),
    } | ({"into": into} if into else {})


def describe(route: Manifest) -> str:
    """A route in messages: kind, namespace and name."""
    return f"{route['kind']} {route['metadata'].get('namespace', '')}/{route['metadata']['name']}"


class RouteIndex:
    """Routes by the hosts they answer for, and by the namespace they lead into. Fed with outlines."""

    def __init__(self) -> None:
        self._routes: dict[Key, Manifest] = {}
        self._by_host: dict[str, dict[Key, None]] = {}
        self._into: dict[str, dict[Key, None]] = {}
        self._wildcards: set[str] = set()
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` for every route that changes its hosts or where it leads, appears or goes, from now on."""
        self._listeners.append(listener)

    def put(self, route: Manifest) -> None:
        """Take a route, as it is now."""
        self._set(route, route["hosts"], route.get("into", ""))

    def remove(self, route: Manifest) -> None:
        """Forget a route."""
        self._set(route, (), "")

    def named(self, host: str) -> list[Manifest]:
        """The routes that name exactly this host."""
        return [self._routes[key] for key in sorted(self._by_host.get(host, ()))]

    def taken(self, lab: str, sessions: Sequence[str], domain: str) -> dict[str, str]:
        """The hosts of a lab's sessions that other routes than its own name, each with the first of those routes.

        Also by a wildcard, where it stands for fewer than all names below the domain: those of whole domains are what
        others come before, and usually the platform's. `hosts.EVERY` stands for all of them, where another route leads
        to the lab's Services by whatever host.
        """
        wildcards = [host for host in sorted(self._wildcards) if _aims_at(host, domain)]
        found: dict[str, str] = {}
        if leading := self._into.get(names.workshop_namespace(lab)):
            found[hosts.EVERY] = describe(self._routes[min(leading)])
        for host, purpose in routes.lab_hosts(lab, sessions, (), domain):
            if host == f"{lab}.{domain}":
                continue
            for named in (host, *(wildcard for wildcard in wildcards if hosts.covers(wildcard, host))):
                for route in self.named(named):
                    if purpose not in routes.purposes(route, route["metadata"].get("namespace", ""), lab):
                        found.setdefault(host, describe(route))
        return found

    def _set(self, route: Manifest, now: Sequence[str], into: str) -> None:
        metadata = route["metadata"]
        key = f"{route['kind']}.{route['apiVersion']}", metadata.get("namespace", ""), metadata["name"]
        old = self._routes.pop(key, None)
        before, led = (old["hosts"], old.get("into", "")) if old is not None else ((), "")
        for host in before:
            _forget(self._by_host, host, key)
            if host not in self._by_host:
                self._wildcards.discard(host)
        if led:
            _forget(self._into, led, key)
        for host in now:
            self._by_host.setdefault(host, {})[key] = None
            if host.startswith("*"):
                self._wildcards.add(host)
        if into:
            self._into.setdefault(into, {})[key] = None
        if now or into:
            self._routes[key] = route
        # Its labels say whose it is.
        same_labels = (old or route)["metadata"].get("labels") == metadata.get("labels")
        if list(before) != list(now) or led != into or not same_labels:
            for listener in self._listeners:
                listener(route, frozenset((*before, *now)), frozenset((led, into)) - {""})


def _forget(index: dict[str, dict[Key, None]], entry: str, key: Key) -> None:
    del index[entry][key]
    if not index[entry]:
        del index[entry]


def _aims_at(wildcard: str, domain: str) -> bool:
    ending, below = wildcard[1:], f".{domain}"
    return ending.endswith(below) and ending != below
