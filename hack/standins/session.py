"""What Educates makes of a WorkshopSession: pure functions. Extra namespaces and caches are not played."""

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from datalabd.api.meta import Manifest
from hack.standins.budget import limits
from hack.standins.environment import CLUSTER_DOMAIN, LABEL, Settings, labels, namespace, variables
from hack.standins.secret_copier import copier
from hack.standins.variables import substitute

LEAST = "educates-view-session-role"
ROLES = {role: f"educates-{role}-session-role" for role in ("admin", "edit", "view")} | {
    "cluster-admin": "cluster-admin",
    "custom": None,
}
"""Cluster roles that the session's account is bound to in its namespace; the least one for a role nobody knows."""
POLICIES = {"nonroot": "restricted", "anyuid": "baseline", "custom": "privileged"}
"""Older names of pod security policies."""
DEFAULT_ON = {"terminal", "workshop"}
VCLUSTER_VERSIONS = ("1.31", "1.32", "1.33", "1.34")
VCLUSTER_DEFAULT = "1.33"


@dataclass(frozen=True)
class Session:
    """A session, its environment as it was read, and the random values it begins with."""

    manifest: Manifest
    environment: Manifest
    settings: Settings
    services_password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    config_password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    registry_password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)

    @cached_property
    def workshop(self) -> Manifest:
        """The Workshop's spec as the environment's status has it, not as it is now."""
        spec: Manifest = self.environment["status"]["educates"]["workshop"]["spec"]
        return spec

    @cached_property
    def template(self) -> Manifest:
        """`session` of the Workshop."""
        return self.workshop.get("session") or {}

    @cached_property
    def spec(self) -> Manifest:
        """`session` of the WorkshopSession."""
        spec: Manifest = self.manifest["spec"]["session"]
        return spec

    @cached_property
    def workshop_namespace(self) -> str:
        """Where the pods of the session run."""
        name: str = self.environment["metadata"]["name"]
        return name

    @cached_property
    def name(self) -> str:
        """The session's namespace, and with it the name of its Deployment, Service and Ingress."""
        return f"{self.workshop_namespace}-{self.spec['id']}"

    @cached_property
    def labels(self) -> dict[str, str]:
        """The labels of everything generated for the session."""
        workshop = self.environment["status"]["educates"]["workshop"]["name"]
        return labels("session", self.environment, workshop) | {
            f"{LABEL}/session.name": self.manifest["metadata"]["name"]
        }

    def application(self, name: str) -> Manifest | None:
        """The settings of a part of the dashboard that is turned on."""
        block: Manifest = (self.template.get("applications") or {}).get(name) or {}
        return block if block.get("enabled", name in DEFAULT_ON) else None

    @cached_property
    def host(self) -> str:
        """The main host."""
        return f"{self.name}.{self.settings.domain}"

    @cached_property
    def url(self) -> str:
        """Where the session is reached, without a trailing slash."""
        return f"{self.settings.protocol}://{self.host}"

    @cached_property
    def variables(self) -> dict[str, str]:
        """What session objects and the pod may refer to."""
        status = self.environment["status"]["educates"]["workshop"]
        private, public = self._ssh_keys
        known = variables(self.environment, status["name"], self.workshop, self.settings) | {
            "session_id": self.spec["id"],
            "session_name": self.manifest["metadata"]["name"],
            "session_namespace": self.name,
            "service_account": self.name,
            "session_url": self.url,
            "session_hostname": self.host,
            "workshop_session_uid": self.manifest["metadata"]["uid"],
            "workshop_image_pull_policy": "IfNotPresent",
            "services_password": self.services_password,
            "config_password": (self.spec.get("config") or {}).get("password") or self.config_password,
            "ssh_private_key": private,
            "ssh_public_key": public,
            "ssh_keys_secret": f"{self.name}-ssh-keys",
        }
        if self.application("registry"):
            known |= {
                "registry_host": self.registry_host,
                "registry_username": self.name,
                "registry_password": self.registry_password,
                "registry_auth_token": self._registry_token,
                "registry_secret": "educates-registry-credentials",
            }
        if self.application("vcluster"):
            known |= {"vcluster_secret": f"{self.name}-vc-kubeconfig", "vcluster_namespace": f"{self.name}-vc"}
        return known

    def substitute(self, value: Any) -> Any:
        """The value with the session's variables filled in."""
        return substitute(value, self.variables)

    @cached_property
    def _ssh_keys(self) -> tuple[str, str]:
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = self.key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return private.decode(), public.decode()

    @cached_property
    def registry_host(self) -> str:
        """Host of the session's own registry."""
        return f"registry-{self.name}.{self.settings.domain}"

    @cached_property
    def _registry_token(self) -> str:
        return b64encode(f"{self.name}:{self.registry_password}".encode()).decode()

    def _in_workshop_namespace(self, suffix: str = "") -> Manifest:
        return {"name": self.name + suffix, "namespace": self.workshop_namespace}

    # ---- In order of creation

    def namespace(self) -> Manifest:
        """The session's namespace."""
        security = (self.template.get("namespaces") or {}).get("security") or {}
        policy = security.get("policy") or "restricted"
        return namespace(self.name, self.labels, POLICIES.get(policy, policy))

    def identity(self) -> list[Manifest]:
        """Service account, its token, the Secrets of the session, what the account may do, and the budget."""
        rules = self.template.get("namespaces") or {}
        role = ROLES.get(rules.get("role") or "admin", LEAST)
        subjects = [{"kind": "ServiceAccount", "name": self.name, "namespace": self.workshop_namespace}]
        private, public = self._ssh_keys
        keys = {"ssh-privatekey": private, "ssh-publickey": public}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": self._in_workshop_namespace()},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": self._in_workshop_namespace("-token")
                | {"annotations": {"kubernetes.io/service-account.name": self.name}},
                "type": "kubernetes.io/service-account-token",
            },
            self._secret("-session", self.variables),
            self._secret("-ssh-keys", keys) | {"type": "kubernetes.io/ssh-auth"},
            _binding("ClusterRoleBinding", {"name": f"educates-web-console-{self.name}"}, subjects)
            | {"roleRef": _cluster_role(f"educates-web-console-{self.workshop_namespace}")},
            *(
                [
                    _binding("RoleBinding", {"name": "educates-session-role", "namespace": self.name}, subjects)
                    | {"roleRef": _cluster_role(role)}
                ]
                if role
                else []
            ),
            *limits(rules.get("budget") or "default", rules.get("limits") or {}, self.name),
        ]

    def _secret(self, suffix: str, values: dict[str, str]) -> Manifest:
        metadata = self._in_workshop_namespace(suffix)
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}

    def objects(self) -> list[Manifest]:
        """The virtual cluster, then the objects of the Workshop: what makes the session fail with a message."""
        listed: list[Manifest] = self.substitute(self.template.get("objects") or [])
        return self._vcluster() + listed

    def _vcluster(self) -> list[Manifest]:
        vcluster = self.application("vcluster")
        if vcluster is None:
            return []
        place = f"{self.name}-vc"
        asked = vcluster.get("version")
        version = asked if asked in VCLUSTER_VERSIONS else VCLUSTER_DEFAULT
        copied = {"name": "my-vcluster-kubeconfig", "namespace": place, "as": f"{self.name}-vc-kubeconfig"}
        selector = {"app": "vcluster", "release": "my-vcluster"}
        pod = {"containers": [{"name": "syncer", "image": f"vcluster:{version}"}]}
        return [
            namespace(place, self.labels, "baseline"),
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": "my-vcluster", "namespace": place},
                "spec": {
                    "serviceName": "my-vcluster-headless",
                    "replicas": 1,
                    "selector": {"matchLabels": selector},
                    "template": {"metadata": {"labels": selector}, "spec": pod},
                },
            },
            # In reality the virtual cluster writes its own kubeconfig once it runs.
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "my-vcluster-kubeconfig", "namespace": place},
                "stringData": {"config": f"server: https://my-vcluster.{place}.svc.{CLUSTER_DOMAIN}\n"},
            },
            copier(f"educates-vcluster-{self.name}", [copied], self.workshop_namespace),
        ]

    def runtime(self) -> list[Manifest]:
        """Claims, registry, Deployment, Service, Ingress: what makes the session stuck if it is refused."""
        return [*self._claims(), *self._registry(), self.deployment(), self._service("", 80, 10080), self.ingress()]

    def _claims(self) -> list[Manifest]:
        resources = self.template.get("resources") or {}
        docker = self.application("docker")
        found = []
        if resources.get("storage") and not resources.get("volume"):
            found.append(self._claim("", resources["storage"]))
        if docker and not resources.get("volume"):
            found.append(self._claim("-docker", docker.get("storage") or "5Gi"))
        return found

    def _claim(self, suffix: str, size: str) -> Manifest:
        spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        if self.settings.storage_class:
            spec["storageClassName"] = self.settings.storage_class
        metadata = self._in_workshop_namespace(suffix)
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}

    def _service(self, suffix: str, port: int, target: int) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self._in_workshop_namespace(suffix),
            "spec": {
                "type": "ClusterIP",
                "selector": {"deployment": self.name + suffix},
                "ports": [{"port": port, "targetPort": target, "protocol": "TCP"}],
            },
        }

    def ingress(self) -> Manifest:
        """The Ingress of the session's gateway, as it is POSTed."""
        names = [name for name in ("console", "editor") if self.application(name)]
        names += [extra["name"] for extra in self.template.get("ingresses") or []]
        pairs = [host for name in names for host in (f"{name}-{self.name}", f"{self.name}-{name}")]
        hosts = [f"{host}.{self.settings.domain}" for host in (self.name, *pairs)]
        manifest = self._ingress("", "workshop", hosts, 80)
        manifest["metadata"]["annotations"] |= {
            "nginx.ingress.kubernetes.io/enable-cors": "true",
            "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
            "projectcontour.io/websocket-routes": "/",
            "projectcontour.io/response-timeout": "3600s",
        }
        if self.settings.ingress_class:
            manifest["spec"]["ingressClassName"] = self.settings.ingress_class
        return manifest

    def _ingress(self, suffix: str, application: str, hosts: list[str], port: int) -> Manifest:
        backend = {"service": {"name": self.name + suffix, "port": {"number": port}}}
        paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
        spec: Manifest = {"rules": [{"host": host, "http": {"paths": paths}} for host in hosts]}
        if self.settings.ingress_secret:
            spec["tls"] = [{"hosts": hosts, "secretName": self.settings.ingress_secret}]
        redirects = (
            "nginx.ingress.kubernetes.io/",
            "nginx.ingress.kubernetes.io/force-",
            "ingress.kubernetes.io/force-",
        )
        annotations = {f"{prefix}ssl-redirect": "true" for prefix in redirects}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": self._in_workshop_namespace(suffix)
            | {
                "labels": self.labels | {f"{LABEL}/application": application},
                "annotations": annotations if self.settings.protocol == "https" else {},
            },
            "spec": spec,
        }

    # ---- The pod

    def deployment(self) -> Manifest:
        """The Deployment whose one pod is the session."""
        names = ("console", "docker", "editor", "registry", "slides", "terminal", "vcluster", "workshop")
        marks = {
            f"{LABEL}/application": "workshop",
            f"{LABEL}/session.services.workshop": "true",
            **{f"{LABEL}/session.applications.{name}": "true" for name in names if self.application(name) is not None},
            "deployment": self.name,
        }
        metadata = {"labels": self.labels | marks}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self._in_workshop_namespace() | metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"deployment": self.name}},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": metadata, "spec": self._pod()},
            },
        }

    def _pod(self) -> Manifest:
        volumes: list[Manifest] = [{"name": "workshop-config", "secret": {"secretName": "workshop-config"}}]
        mounts: list[Manifest] = [{"name": "workshop-config", "mountPath": "/opt/eduk8s/config"}]
        resources = self.template.get("resources") or {}
        volume = self.substitute(resources.get("volume"))
        if volume or resources.get("storage"):
            claim = volume["name"] if volume else self.name
            volumes.append({"name": "workshop-data", "persistentVolumeClaim": {"claimName": claim}})
            place = {"name": "workshop-data", "mountPath": "/home/eduk8s"}
            mounts.append(place | ({"subPath": volume["subPath"]} if volume and volume.get("subPath") else {}))
        if self.application("vcluster"):
            volumes.append({"name": "kubeconfig", "secret": {"secretName": f"{self.name}-vc-kubeconfig"}})
            mounts.append({"name": "kubeconfig", "mountPath": "/opt/kubeconfig"})
        elif self._token_enabled:
            volumes.append({"name": "token", "secret": {"secretName": f"{self.name}-token"}})
            mounts.append({"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"})
        memory = resources.get("memory") or ("1Gi" if self.application("editor") else "512Mi")
        container = {
            "name": "workshop",
            "image": self.variables["workshop_image"],
            "imagePullPolicy": self.variables["workshop_image_pull_policy"],
            "ports": [{"name": "10080-tcp", "containerPort": 10080, "protocol": "TCP"}],
            "env": self._env(),
            "envFrom": self.substitute(self.template.get("envFrom") or []),
            "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}},
            "volumeMounts": mounts + self.substitute(self.template.get("volumeMounts") or []),
        }
        sidecars, extra = self._docker()
        pod = {
            "serviceAccountName": self.name,
            "automountServiceAccountToken": False,
            "initContainers": self.substitute(self.template.get("initContainers") or []),
            "containers": [container, *sidecars],
            "volumes": volumes + extra + self.substitute(self.template.get("volumes") or []),
        }
        merged: Manifest = _merge(pod, self.substitute(self.template.get("patches") or {}))
        return merged

    @property
    def _token_enabled(self) -> bool:
        security = (self.template.get("namespaces") or {}).get("security") or {}
        return bool((security.get("token") or {}).get("enabled", True))

    def _env(self) -> list[Manifest]:
        """Educates' own variables, the session's login, then the Workshop's with the session's of the same name."""
        known = self.variables
        own = {key.upper(): known[key] for key in ("environment_name", "workshop_namespace", "session_namespace")}
        own |= {key.upper(): known[key] for key in ("workshop_name", "session_id", "session_name", "ingress_domain")}
        username = self.spec.get("username") or ""
        if username and username != "*":
            own |= {"AUTH_USERNAME": username, "AUTH_PASSWORD": self.spec.get("password") or ""}
        entries: dict[str, Manifest] = {name: {"name": name, "value": value} for name, value in own.items()}
        for entry in [*(self.template.get("env") or []), *(self.spec.get("env") or [])]:
            entries[entry["name"]] = self.substitute(entry)
        return list(entries.values())

    def _docker(self) -> tuple[list[Manifest], list[Manifest]]:
        docker = self.application("docker")
        if docker is None:
            return [], []
        memory = docker.get("memory") or "768Mi"
        volume = self.substitute((self.template.get("resources") or {}).get("volume"))
        claim = volume["name"] if volume else f"{self.name}-docker"
        mount = {"name": "docker-data", "mountPath": "/var/lib/docker"} | ({"subPath": "docker"} if volume else {})
        container = {
            "name": "docker",
            "image": "docker:27-dind",
            "securityContext": {"privileged": True, "runAsUser": 0},
            "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}},
            "volumeMounts": [mount],
        }
        return [container], [{"name": "docker-data", "persistentVolumeClaim": {"claimName": claim}}]

    # ---- The registry

    def _registry(self) -> list[Manifest]:
        registry = self.application("registry")
        if registry is None:
            return []
        suffix = "-registry"
        marks = {f"{LABEL}/application": "registry", "deployment": self.name + suffix}
        metadata = {"labels": self.labels | marks}
        memory = registry.get("memory") or "768Mi"
        volume = self.substitute(registry.get("volume"))
        mount = {"name": "data", "mountPath": "/var/lib/registry"}
        container = {
            "name": "registry",
            "image": "registry:2",
            "ports": [{"containerPort": 5000, "protocol": "TCP"}],
            "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}},
            "volumeMounts": [
                mount | ({"subPath": volume["subPath"]} if volume and volume.get("subPath") else {}),
                {"name": "config", "mountPath": "/etc/docker/registry"},
            ],
        }
        volumes = [
            {
                "name": "data",
                "persistentVolumeClaim": {"claimName": volume["name"] if volume else self.name + suffix},
            },
            {"name": "config", "configMap": {"name": self.name + suffix}},
        ]
        ingress = self._ingress(suffix, "registry", [self.registry_host], 5000)
        ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] = "512m"
        auths = {"auths": {self.registry_host: {"auth": self._registry_token}}}
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "educates-registry-credentials", "namespace": self.name},
                "type": "kubernetes.io/dockerconfigjson",
                "stringData": {".dockerconfigjson": json.dumps(auths)},
            },
            *([] if volume else [self._claim(suffix, registry.get("storage") or "5Gi")]),
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": self._in_workshop_namespace(suffix),
                "data": {"config.yml": "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\n"},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": self._in_workshop_namespace(suffix) | metadata,
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": {"deployment": self.name + suffix}},
                    "strategy": {"type": "Recreate"},
                    "template": {"metadata": metadata, "spec": {"containers": [container], "volumes": volumes}},
                },
            },
            self._service(suffix, 5000, 5000),
            ingress,
        ]


def _binding(kind: str, metadata: Manifest, subjects: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "subjects": subjects,
    }


def _cluster_role(name: str) -> Manifest:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}


def _merge(value: Any, patch: Any) -> Any:
    """A pod spec with a patch over it: maps merged by key, lists of named things by name, the rest replaced."""
    if isinstance(value, dict) and isinstance(patch, dict):
        return value | {key: _merge(value.get(key), item) for key, item in patch.items()}
    if isinstance(value, list) and isinstance(patch, list) and all("name" in item for item in value + patch):
        named = {item["name"]: item for item in value}
        return list((named | {item["name"]: _merge(named.get(item["name"]), item) for item in patch}).values())
    return patch
