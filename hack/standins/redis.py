"""The Redis operator (OT-CONTAINER-KIT, 0.26): one server for each Redis.

With `Servers` there is a real Redis behind each one that has an access list. It runs while the pod does: that is ready
once the server has started, with the access list as its Secret had it then and not as that becomes.

Unkind in two ways: every label and annotation of a Redis is handed on to its StatefulSet, pods, claims and Services, so
that changing one restarts the server; and a refused resizing of a claim keeps every other change from being made.
"""

import asyncio
from decimal import Decimal

import structlog

from datalabd.api import quantity
from datalabd.api.meta import Manifest
from datalabd.kube.client import Client
from datalabd.kube.resources import SECRETS, VOLUME_CLAIMS, Resource
from datalabd.kube.store import key_of
from hack.redis_server import RedisError, Servers
from hack.standins.kubelet import PODS, TROUBLE
from hack.standins.statefulsets import RESYNC_SECONDS, StoreOperator, values

log = structlog.get_logger()

REDIS = Resource("redis.redis.opstreelabs.in/v1beta2", "redis", "Redis")
FINALIZER = "redisFinalizer"
SKIP = "redis.opstreelabs.in/skip-reconcile"
"""Annotation of a Redis: while it is "true" nothing is made or reverted."""
CAPACITY = "storageCapacity"
"""Annotation of the StatefulSet: bytes that the claims were last resized to."""
PORT = 6379


class RedisOperator(StoreOperator):
    """Makes StatefulSet, Services and claim; writes no Secret and no status. Deletion takes the claim along."""

    def __init__(
        self, client: Client, resync_seconds: float = RESYNC_SECONDS, *, servers: Servers | None = None
    ) -> None:
        super().__init__(client, "redis-operator", REDIS, resync_seconds)
        self._servers = servers
        self._runs_in: dict[str, str] = {}
        """Uid of the pod that a server was started for, by that of its Redis."""
        if servers is not None:
            self._pods = self.watch(PODS, self._pod_changed)

    def _pod_changed(self, pod: Manifest) -> None:
        app = (pod["metadata"].get("labels") or {}).get("app", "")
        if (live := self.objects.get(pod["metadata"]["namespace"], app)) is not None:
            self.changed(live)

    async def sync(self, live: Manifest) -> None:
        """Make or finalise one Redis."""
        metadata = live["metadata"]
        if self._servers is not None:
            await self._run(live, self._servers)
        if metadata.get("deletionTimestamp"):
            await self._finalise(live)
        elif (metadata.get("annotations") or {}).get(SKIP) != "true":
            await self.add_finalizer(live, FINALIZER)
            stored = self.stateful_sets.get(metadata["namespace"], metadata["name"])
            wanted = stateful_set(live)
            await self.apply(live, await self._kept(wanted if self._servers is None else _held_back(wanted), stored))
            for service in services(live):
                await self.apply(live, service)

    async def _run(self, live: Manifest, servers: Servers) -> None:
        """What the container of the pod does, as far as its server is concerned."""
        namespace, uid = live["metadata"]["namespace"], live["metadata"]["uid"]
        server, pod = servers[uid], self._pods.get(namespace, f"{live['metadata']['name']}-0")
        if pod is not None and "deletionTimestamp" in pod["metadata"]:
            pod = None
        if server.running and (pod is None or pod["metadata"]["uid"] != self._runs_in[uid]):
            await asyncio.to_thread(server.stop)
        if pod is None or TROUBLE not in (pod["metadata"].get("annotations") or {}):
            return
        if not server.running:
            acl = await self.read(SECRETS, namespace, live["spec"]["acl"]["secret"]["secretName"])
            if acl is None:
                return
            try:
                await asyncio.to_thread(server.start, values(acl)["user.acl"])
            except RedisError as error:
                log.warning("the server does not start", redis=str(key_of(live)), error=str(error))
                return
            self._runs_in[uid] = pod["metadata"]["uid"]
        await self.patch(PODS, *key_of(pod), {"metadata": {"annotations": {TROUBLE: None}}})

    async def _kept(self, wanted: Manifest, stored: Manifest | None) -> Manifest:
        """The StatefulSet with the claim templates it already has, which cannot change; its claims resized instead."""
        if stored is None or not all(one["spec"].get("volumeClaimTemplates") for one in (wanted, stored)):
            return wanted
        metadata = wanted["metadata"]
        capacity = await self._resized(wanted, stored)
        return wanted | {
            "metadata": metadata
            | {"annotations": metadata["annotations"] | ({CAPACITY: capacity} if capacity else {})},
            "spec": wanted["spec"] | {"volumeClaimTemplates": stored["spec"]["volumeClaimTemplates"]},
        }

    async def _resized(self, wanted: Manifest, stored: Manifest) -> str | None:
        """What the claims ask for now, in bytes; None if they never were anything else than at first."""
        namespace, name = stored["metadata"]["namespace"], stored["metadata"]["name"]
        known: str | None = (stored["metadata"].get("annotations") or {}).get(CAPACITY)
        requests = _requests(wanted)
        if _size(requests) == _size(_requests(stored)) and known is None:
            return None
        if _size(requests) <= Decimal(known or 0):
            return known
        claims, _ = await self.client.list(VOLUME_CLAIMS, namespace, labelSelector=f"app={name}")
        for claim in claims:
            body = {"spec": {"resources": {"requests": requests}}}
            await self.patch(VOLUME_CLAIMS, namespace, claim["metadata"]["name"], body)
        return str(int(_size(requests)))

    async def _finalise(self, live: Manifest) -> None:
        namespace, name = live["metadata"]["namespace"], live["metadata"]["name"]
        storage = live["spec"].get("storage")
        if storage is not None and not storage.get("keepAfterDelete"):
            claim = await self.read(VOLUME_CLAIMS, namespace, f"{name}-{name}-0")
            if claim is not None:
                await self.client.delete(VOLUME_CLAIMS, *key_of(claim), claim["metadata"]["uid"])
        if self._servers is not None:
            await asyncio.to_thread(self._servers.remove, live["metadata"]["uid"])
        await self.remove_finalizer(live, FINALIZER)


def _held_back(wanted: Manifest) -> Manifest:
    """A StatefulSet whose pod is not ready until its server has started."""
    template = wanted["spec"]["template"]
    if all(volume["name"] != "acl-secret" for volume in template["spec"]["volumes"]):
        return wanted
    metadata = template["metadata"]
    held = {"annotations": metadata["annotations"] | {TROUBLE: "ContainerCreating"}}
    return wanted | {"spec": wanted["spec"] | {"template": template | {"metadata": metadata | held}}}


def _requests(stateful_set: Manifest) -> Manifest:
    requests: Manifest = stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]
    return requests


def _size(requests: Manifest) -> Decimal:
    return quantity.held(requests["storage"]) or Decimal(0)


def labels(live: Manifest) -> dict[str, str]:
    """Labels of all that is made for a Redis, its own included."""
    return selector(live) | (live["metadata"].get("labels") or {})


def selector(live: Manifest) -> dict[str, str]:
    """The labels by which the StatefulSet knows its pods."""
    return {"app": live["metadata"]["name"], "redis_setup_type": "standalone", "role": "standalone"}


def annotations(live: Manifest, ignored: list[str]) -> dict[str, str]:
    """Annotations of what is made for a Redis: its own, but for kubectl's and those ignored."""
    own = {"redis.opstreelabs.in": "true", "redis.opstreelabs.instance": live["metadata"]["name"]}
    dropped = {*ignored, "kubectl.kubernetes.io/last-applied-configuration"}
    found = own | (live["metadata"].get("annotations") or {})
    return {key: value for key, value in found.items() if key not in dropped}


def stateful_set(live: Manifest) -> Manifest:
    """The StatefulSet of one server, with all that reaches its pods."""
    name, spec = live["metadata"]["name"], live["spec"]
    config = spec["kubernetesConfig"]
    marks = {"labels": labels(live), "annotations": annotations(live, config.get("ignoreAnnotations") or [])}
    container = {"name": name, "image": config["image"], "env": _environment(live)}
    for key in ("imagePullPolicy", "resources"):
        if key in config:
            container[key] = config[key]
    pod: Manifest = {"containers": [container], "volumes": [{"name": "config", "emptyDir": {}}]}
    if acl := spec.get("acl", {}).get("secret"):
        pod["volumes"].append({"name": "acl-secret", "secret": acl})
        mount = {"name": "acl-secret", "mountPath": "/etc/redis/user.acl", "subPath": "user.acl"}
        container["volumeMounts"] = [mount]
    if (init := spec.get("initContainer", {})).get("enabled"):
        pod["initContainers"] = [
            {"name": f"init{name}"} | {key: value for key, value in init.items() if key not in ("enabled", "env")}
        ]
    for key in ("nodeSelector", "tolerations", "serviceAccountName", "priorityClassName", "affinity"):
        if key in spec:
            pod[key] = spec[key]
    if context := spec.get("podSecurityContext"):
        pod["securityContext"] = context
    wanted: Manifest = {
        "serviceName": f"{name}-headless",
        "replicas": 1,
        "selector": {"matchLabels": selector(live)},
        "template": {"metadata": marks, "spec": pod},
    }
    if claim := spec.get("storage", {}).get("volumeClaimTemplate", {}).get("spec"):
        container["volumeMounts"] = [*container.get("volumeMounts", []), {"name": name, "mountPath": "/data"}]
        wanted["volumeClaimTemplates"] = [{"metadata": {"name": name} | marks, "spec": claim}]
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name} | marks, "spec": wanted}


def _environment(live: Manifest) -> list[Manifest]:
    """The server's variables, sorted by name as the operator does."""
    spec = live["spec"]
    found: list[Manifest] = [
        {"name": "SERVER_MODE", "value": "standalone"},
        {"name": "SETUP_MODE", "value": "standalone"},
        {"name": "REDIS_PORT", "value": str(PORT)},
        {"name": "REDIS_ADDR", "value": f"redis://localhost:{PORT}"},
    ]
    if "acl" in spec:
        found.append({"name": "ACL_MODE", "value": "true"})
        found.append({"name": "ACL_FILE_PATH", "value": "/etc/redis/user.acl"})
    if reference := spec["kubernetesConfig"].get("redisSecret"):
        found.append({"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": reference}})
    if "storage" in spec:
        found.append({"name": "PERSISTENCE_ENABLED", "value": "true"})
    return sorted([*found, *(spec.get("env") or [])], key=lambda entry: str(entry["name"]))


def services(live: Manifest) -> list[Manifest]:
    """`<name>-headless`, `<name>` and, unless turned off, `<name>-additional`. All annotations are handed on here."""
    name = live["metadata"]["name"]
    additional = live["spec"]["kubernetesConfig"].get("service", {}).get("additional", {}).get("enabled", True)
    return [
        _service(live, f"{name}-headless", {"clusterIP": "None"}),
        _service(live, name, {}),
        *([_service(live, f"{name}-additional", {})] if additional else []),
    ]


def _service(live: Manifest, name: str, spec: Manifest) -> Manifest:
    marks = {"labels": labels(live), "annotations": annotations(live, [])}
    port = {"name": "redis-client", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name} | marks,
        "spec": {"type": "ClusterIP", "selector": labels(live), "ports": [port]} | spec,
    }
