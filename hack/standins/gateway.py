"""A controller of the Gateway API (1.6) that tells of every TLSRoute whether it leads anywhere.

As real ones do, it says nothing of a parent that does not exist: it cannot know that it would be its own.
"""

import datetime
from functools import partial

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.kube.apply import agrees
from datalabd.kube.client import Client
from datalabd.kube.resources import NAMESPACES, Resource
from datalabd.kube.store import key_of
from hack.standins.operator import Operator
from hack.standins.statefulsets import SERVICES

TLS_ROUTES = Resource("gateway.networking.k8s.io/v1", "tlsroutes", "TLSRoute")
GATEWAYS = Resource("gateway.networking.k8s.io/v1", "gateways", "Gateway")
CONTROLLER = "standins.example.org/gateway"

Verdict = tuple[bool, str, str]
"""Status, reason and message of a condition."""


class GatewayController(Operator):
    """Sets `Accepted` and `ResolvedRefs` for each Gateway that a route names. No traffic goes anywhere."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, "gateway-controller")
        self._routes = self.watch(TLS_ROUTES, self._changed)
        self._gateways = self.watch(GATEWAYS, self._any_changed)
        self._services = self.watch(SERVICES, self._any_changed)
        self._namespaces = self.watch(NAMESPACES, self._any_changed)

    def _changed(self, route: Manifest) -> None:
        key = key_of(route)
        self.schedule(key, partial(self._sync, key))

    def _any_changed(self, _: Manifest) -> None:
        for route in self._routes:
            self._changed(route)

    async def _sync(self, key: NamespacedName) -> None:
        route = self._routes.get(*key)
        if route is None:
            return
        parents = []
        for reference in route["spec"].get("parentRefs") or []:
            gateway = self._gateways.get(reference.get("namespace", key.namespace), reference["name"])
            if gateway is not None:
                conditions = {
                    "Accepted": self._accepted(route, reference, gateway),
                    "ResolvedRefs": self._resolved(route),
                }
                parents.append(_parent(route, reference, conditions))
        if parents and not agrees(route.get("status") or {}, {"parents": parents}):
            await self.patch(TLS_ROUTES, *key, {"status": {"parents": parents}}, "status")

    def _accepted(self, route: Manifest, reference: Manifest, gateway: Manifest) -> Verdict:
        section = reference.get("sectionName")
        listeners = [one for one in gateway["spec"]["listeners"] if section in (None, one["name"])]
        if not listeners:
            return False, "NoMatchingParent", f"there is no listener {section}"
        allowed = [one for one in listeners if one.get("protocol") == "TLS" and self._allows(gateway, one, route)]
        if not allowed:
            return False, "NotAllowedByListeners", "no listener allows TLSRoutes of this namespace"
        if not any(_covers(one.get("hostname"), name) for one in allowed for name in route["spec"]["hostnames"]):
            return False, "NoMatchingListenerHostname", "no listener has such a hostname"
        return True, "Accepted", "the route is accepted"

    def _allows(self, gateway: Manifest, listener: Manifest, route: Manifest) -> bool:
        namespace = route["metadata"]["namespace"]
        rule = listener.get("allowedRoutes", {}).get("namespaces", {})
        match rule.get("from", "Same"):
            case "All":
                return True
            case "Selector":
                found = self._namespaces.get("", namespace)
                return found is not None and agrees(
                    found["metadata"].get("labels") or {}, rule.get("selector", {}).get("matchLabels", {})
                )
            case _:
                return bool(gateway["metadata"]["namespace"] == namespace)

    def _resolved(self, route: Manifest) -> Verdict:
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if self._services.get(route["metadata"]["namespace"], backend["name"]) is None:
                    return False, "BackendNotFound", f"there is no Service {backend['name']}"
        return True, "ResolvedRefs", "all backends exist"


def _covers(listener: str | None, hostname: str) -> bool:
    """Whether a listener of this name, wildcard or none serves the host name."""
    if not listener:
        return True
    return hostname.endswith(listener[1:]) if listener.startswith("*.") else hostname == listener


def _parent(route: Manifest, reference: Manifest, conditions: dict[str, Verdict]) -> Manifest:
    """The entry of one parent; a condition that stays as it is keeps its time."""
    known = {
        condition["type"]: condition
        for entry in (route.get("status") or {}).get("parents") or []
        if entry["parentRef"] == reference and entry["controllerName"] == CONTROLLER
        for condition in entry["conditions"]
    }
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = []
    for kind, (status, reason, message) in conditions.items():
        before = known.get(kind, {})
        kept = before.get("status") == str(status)
        found.append(
            {
                "type": kind,
                "status": str(status),
                "reason": reason,
                "message": message,
                "observedGeneration": route["metadata"]["generation"],
                "lastTransitionTime": before["lastTransitionTime"] if kept else moment,
            }
        )
    return {"parentRef": reference, "controllerName": CONTROLLER, "conditions": found}
