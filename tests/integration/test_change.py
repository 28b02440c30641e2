"""What is changed, in claims and environments and by hand: it ends as if it had been so from the start, or is refused.

Rows of a table are edited side by side, each with labs of its own. As labs are dear, a row changes everything at once
that fares alike. What a lab is after an edit is compared with what a lab is that was created so; names, uids and
passwords aside, which differ from lab to lab.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args
from urllib.parse import quote

import pytest
import yaml
from pydantic import BaseModel

from datalabd.api.environment import EnvironmentConfig, EnvironmentData
from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    ENVIRONMENT,
    MANAGED_BY,
    PREFIX,
    RETAINED,
    STORAGE_CLAIM,
    UNPROTECTED,
    V1BETA2,
    Manifest,
    is_planned,
)
from datalabd.api.v1beta2 import DatalabSpec
from datalabd.errors import Invalid
from datalabd.kube import resources as kinds
from datalabd.kube.cache import OWNED_KINDS
from datalabd.kube.client import JSON_PATCH, MERGE_PATCH, Client, path
from datalabd.kube.resources import resource_of
from datalabd.kube.store import Store, key_of
from datalabd.names import WORKSHOP_CONFIG
from datalabd.observed import STARTED_WITH, Login, Phase, Place, is_durable
from datalabd.plan import rights
from datalabd.plan.educates.content import lost, workshop_config
from datalabd.plan.educates.sessions import current
from datalabd.plan.educates.workshop import live_session_policies, workshop_spec
from datalabd.plan.prune import prune
from hack.account import open_to_claims
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import STORES
from hack.standins.operator import Operator
from tests.factories import KEYS, LABELS, LOGIN, educates, lab, running, session_is, volume
from tests.integration.daemon import Daemon
from tests.integration.objects import environment, unique
from tests.integration.stage import standins

LAB, NAMESPACE, GROWING, SHARED = "LAB", "NAMESPACE", "growing", "shared-keys"
"""What stands for a lab's name and its claim's namespace in specs below; a storage class whose volumes may grow; a
namespace of storage Secrets."""
GATEWAY = {"parentName": "outer", "parentNamespace": SHARED, "sectionName": "tls"}
PAUSE_SECONDS = 0.5
DEPLOYMENTS = kinds.DEPLOYMENTS._replace(status_only=False)
"""In full: what sessions run as stands in them."""
OUR_LABELS = (PREFIX, MANAGED_BY)
DIGESTS = (APPLIED, STARTED_WITH)
"""Annotations with digests into which names go: they differ from lab to lab."""
ENVIRONMENT_DATA: Manifest = {
    "ingress": {
        "domain": "lab.example.org",
        "protection": {
            "type": "nginx",
            "authURL": "https://auth.lab.example.org/oauth2/auth",
            "signinURL": "https://auth.lab.example.org/oauth2/start",
        },
    },
    "storage": {"endpoint": "https://s3.example.org", "region": "eu"},
    "allowed": {"policies": ["restricted", "baseline", "privileged"]},
    "network": {"externalEgressCIDRs": ["0.0.0.0/0"], "podCIDRs": ["10.42.0.0/16"]},
    "redis": {"storageClassName": GROWING},
    "qdrant": {"storageClassName": GROWING},
    "database": {"storageClassName": GROWING, "backupStorageClassName": GROWING},
    "storageClasses": {"allowed": [GROWING, "other"]},
}


class World(Operator):
    """Everything that labs consist of, as it is now: watched, so that looking costs nothing."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, "test")
        watched = (*OWNED_KINDS, kinds.DATALABS, DEPLOYMENTS, kinds.NAMESPACES, kinds.INGRESSES)
        self.stores = {kind: self.watch(kind, self._note) for kind in watched}
        self._noted = 0

    def _note(self, _: Manifest) -> None:
        self._noted += 1

    def claim(self, lab: "Placed") -> Manifest:
        """The live claim, empty if there is none."""
        return self.stores[kinds.DATALABS].get(lab.namespace, lab.name) or {}

    def snapshot(self, lab: "Placed", *, running: bool = False) -> dict[str, Any]:
        """All of a lab that is not its own alone, by kind and name; without what it only keeps.

        With `running`, what its sessions run as is part of it.
        """
        found = {}
        for obj in self.planned(lab):
            if RETAINED not in obj["metadata"]["labels"] and "deletionTimestamp" not in obj["metadata"]:
                found[_title(obj)] = _essence(obj)
        if (secret := self.stores[kinds.SECRETS].get(lab.name, f"{lab.name}-datalab")) is not None:
            found[f"{lab.name}-datalab of the runtime"] = _decoded(secret)
        if (secret := self.stores[kinds.SECRETS].get(lab.name, WORKSHOP_CONFIG)) is not None:
            # The runtime's own, or ours: they may differ in how they say the same.
            documents = {key: yaml.safe_load(text) for key, text in _decoded(secret).items()}
            found[f"{WORKSHOP_CONFIG} of the runtime"] = documents
        for ingress in self.stores[kinds.INGRESSES]:
            if ingress["metadata"]["namespace"] == lab.name and not ingress["metadata"]["name"].endswith("-registry"):
                said = ingress["metadata"]["annotations"].items()
                found[_title(ingress)] = {key: value for key, value in said if "/auth-" in key}
        for deployment in self.stores[DEPLOYMENTS] if running else ():
            if deployment["metadata"]["namespace"] == lab.name:
                found[_title(deployment)] = deployment["spec"]
        for namespace in self.stores[kinds.NAMESPACES] if running else ():
            if namespace["metadata"]["name"].startswith(lab.name):
                found[_title(namespace)] = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        text = json.dumps(found, sort_keys=True)
        for own, common in self._own(lab):
            text = text.replace(own, common)
        mapped: dict[str, Any] = json.loads(text, object_hook=_without_digests)
        return mapped

    def planned(self, lab: "Placed") -> list[Manifest]:
        """The objects that a lab's plan made."""
        uid = self.claim(lab)["metadata"]["uid"]
        return [obj for kind in OWNED_KINDS for obj in self.stores[kind].owned_by(uid) if is_planned(obj)]

    def values(self, namespace: str, name: str) -> dict[str, str]:
        """What a Secret holds, empty if there is none."""
        return _decoded(self.stores[kinds.SECRETS].get(namespace, name) or {})

    def kept(self, lab: "Placed") -> set[str]:
        """What a lab keeps although its claim does not declare it."""
        return {
            _title(obj).replace(lab.name, LAB) for obj in self.planned(lab) if RETAINED in obj["metadata"]["labels"]
        }

    def _own(self, lab: "Placed") -> Iterator[tuple[str, str]]:
        """Texts of this lab alone, passwords first as they may contain anything, and what stands for each."""
        for secret in self.stores[kinds.SECRETS]:
            namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
            login = "pguser" in name and namespace == lab.name
            if login or (name.startswith(lab.name) and name.endswith("-login")) or namespace == lab.name:
                if not login and not name.endswith(("-login", "-auth")):
                    continue
                for key, value in _decoded(secret).items():
                    if key in ("password", "next", "apiKey", "readApiKey"):
                        placeholder = f"<{key} of {name.replace(lab.name, LAB)}>"
                        for shown in (json.dumps(value)[1:-1], quote(value, safe="$&+,;="), quote(value, safe="")):
                            yield shown, placeholder
        yield self.claim(lab)["metadata"]["uid"], "UID"
        if (runtime := self.stores[kinds.WORKSHOP_ENVIRONMENTS].get("", lab.name)) is not None:
            yield runtime["metadata"]["uid"], "RUNTIME"
        yield lab.name, LAB

    async def until(self, what: Callable[[], str], seconds: float) -> str:
        """Wait until `what` has nothing to complain of; its last complaint after so many seconds.

        It is only asked again once something changed: comparing labs is work.
        """
        complaint, asked_at = what(), self._noted
        for _ in range(int(scaled(seconds) / PAUSE_SECONDS)):
            if not complaint:
                break
            await asyncio.sleep(PAUSE_SECONDS)
            if self._noted != asked_at:
                complaint, asked_at = what(), self._noted
        return complaint


def _without_digests(content: Manifest) -> Manifest:
    return {key: value for key, value in content.items() if key not in DIGESTS}


def _title(obj: Manifest) -> str:
    metadata = obj["metadata"]
    place = f" in {metadata['namespace']}" if metadata.get("namespace") else ""
    return f"{obj['kind']} {metadata['name']}{place}"


def _decoded(secret: Manifest) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def _essence(obj: Manifest) -> Manifest:
    """What somebody said of an object, rather than what became of it."""
    metadata = obj["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith(PREFIX)}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key.startswith(OUR_LABELS)}
    found: Manifest = {"labels": labels, "annotations": annotations}
    if obj["kind"] == "Secret":
        return found | {"data": _decoded(obj)}
    said = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    if obj["kind"] == "PersistentVolumeClaim":
        said = {"spec": {key: value for key, value in obj["spec"].items() if key != "volumeName"}}
    if obj["kind"] == "WorkshopEnvironment":
        said["copy"] = (((obj.get("status") or {}).get("educates") or {}).get("workshop") or {}).get("spec")
    return found | said


@dataclass(frozen=True)
class Placed:
    """One lab, and the environment it chooses."""

    namespace: str
    name: str
    environment: str


@dataclass(frozen=True)
class Row:
    """Values that a claim's spec, and its environment, take one after the other; then the first ones again."""

    id: str
    fields: tuple[str, ...]
    specs: tuple[Manifest, ...] = ({},)
    data: tuple[Manifest, ...] = ()
    """Of the environment, laid over the common one; where there are any the spec stays what it is."""
    outdated: bool = False
    """Whether a running session has to be started again to take over."""
    unaffected: frozenset[str] = frozenset()
    """Fields for which alone it would not have to be."""
    kept: frozenset[str] = frozenset()
    """What is left when the first values are back."""
    back: bool = True
    """Whether they can come back at all."""
    meanwhile: frozenset[str] = frozenset()
    """What is left until running sessions stop."""
    restarts: bool = False
    """Whether the session is started again after each edit: then what runs is compared as well."""
    stays: bool = False
    """Whether what is there stays as it is, whatever new labs get."""

    @property
    def values(self) -> list[tuple[Manifest, Manifest]]:
        """Spec and environment, in order."""
        if self.data:
            return [(self.specs[0], data) for data in self.data]
        return [(spec, {}) for spec in self.specs]


SIZE: Manifest = {"storage": "1Gi"}
LARGER: Manifest = {"storage": "2Gi"}
SERVER: Manifest = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
GIT: Manifest = {"git": {"url": "https://git.example.org/course.git", "ref": "main"}}
HTTP: Manifest = {"http": {"url": "https://www.example.org/a.tgz"}}
IMAGE: Manifest = {"image": {"url": "registry.example.org/course:1"}}
SELECTED: Manifest = {"semver": {"constraints": ">=1.0.0", "prereleases": {"identifiers": ["rc"]}}}
KEYS_OF_FILES = {"name": "keys", "namespace": NAMESPACE}


def kept(*titles: str) -> frozenset[str]:
    """What is left of a durable thing, beside what it needs to be taken up again."""
    return frozenset(titles)


STORES_KEPT = kept(
    "MongoDBCommunity mongodb-docs in LAB",
    "Secret docs-mongodb-auth in LAB",
    "NetworkPolicy allow-store-ingress-mongodb-docs in LAB",
    "Role mongodb-kubernetes-appdb in LAB",
    "RoleBinding mongodb-kubernetes-appdb in LAB",
    *(f"ServiceAccount mongodb-kubernetes-{name} in LAB" for name in ("appdb", "database-pods", "ops-manager")),
    "Redis cache in LAB",
    "Secret cache-redis-acl in LAB",
    "Secret cache-redis-auth in LAB",
    "NetworkPolicy allow-store-ingress-redis-cache in LAB",
    "QdrantCluster vectors in LAB",
    "Secret vectors-qdrant-auth in LAB",
    "NetworkPolicy allow-store-ingress-qdrant-vectors in LAB",
    "PostgresCluster pg0 in LAB",
    "ConfigMap pg0-init-sql in LAB",
    "NetworkPolicy allow-store-ingress-postgres-pg0 in LAB",
)
ROWS = [
    Row(
        "what a session reaches",
        (
            *(f"{kind}.storage" for kind in ("documentStores", "cacheStores", "vectorStores")),
            *(f"databases.{key}" for key in ("names", "storage", "backupStorage")),
            "data.enabled",
            "security.kubernetesAccess",
        ),
        (
            {},
            {
                "documentStores": {"docs": SIZE},
                "cacheStores": {"cache": SIZE},
                "vectorStores": {"vectors": SIZE},
                "databases": {"pg0": SERVER},
                "data": {"enabled": False},
                "security": {"kubernetesAccess": False},
            },
            {
                "documentStores": {"docs": SIZE},
                "cacheStores": {"cache": LARGER},
                "vectorStores": {"vectors": LARGER},
                "databases": {"pg0": {"names": ["dev", "prod"], "storage": "2Gi", "backupStorage": "3Gi"}},
                "data": {"enabled": False},
                "security": {"kubernetesAccess": False},
            },
        ),
        outdated=True,
        kept=STORES_KEPT,
        meanwhile=kept("PersistentVolumeClaim LAB-datalab in LAB"),
    ),
    Row(
        "what a session starts with",
        (
            "secretName",
            "data.readOnlyMount",
            *(f"registry.{key}" for key in ("enabled", "storage")),
            *(f"quota.{key}" for key in ("memory", "budget")),
            *(f"security.{key}" for key in ("policy", "kubernetesRole")),
            *(f"files.{key}" for key in ("path", "includePaths", "excludePaths", "newRootPath")),
            "files.image.url",
            "files.image.secretRef.name",
            "files.image.secretRef.namespace",
            "files.image.dangerousSkipTLSVerify",
            "files.image.tagSelection.semver.constraints",
            "files.image.tagSelection.semver.prereleases.identifiers",
            "files.git.url",
            "files.git.ref",
            "files.git.refSelection.semver.constraints",
            "files.git.refSelection.semver.prereleases.identifiers",
            "files.git.lfsSkipSmudge",
            "files.git.verification.publicKeysSecretRef.name",
            "files.git.verification.publicKeysSecretRef.namespace",
            "files.git.secretRef.name",
            "files.git.secretRef.namespace",
            *(f"files.http.{key}" for key in ("url", "sha256", "secretRef.name", "secretRef.namespace")),
        ),
        (
            {
                "security": {"policy": "baseline"},
                "files": [GIT, HTTP, IMAGE],
            },
            {
                "secretName": "LAB-keys",
                "data": {"readOnlyMount": True},
                "registry": {"enabled": True},
                "quota": {"memory": "3Gi", "budget": "large"},
                "security": {"policy": "restricted", "kubernetesRole": "view"},
                "files": [GIT, HTTP],
            },
            {
                "secretName": "LAB-keys",
                "data": {"readOnlyMount": True},
                "registry": {"enabled": True, "storage": "7Gi"},
                "quota": {"memory": "4Gi", "budget": "small"},
                "security": {"policy": "privileged", "kubernetesRole": "admin"},
                "files": [
                    {
                        "excludePaths": ["solutions/**"],
                        "newRootPath": "course",
                        "git": {
                            "url": "https://git.example.org/other.git",
                            "ref": "origin/next",
                            "refSelection": SELECTED,
                            "lfsSkipSmudge": True,
                            "verification": {"publicKeysSecretRef": {"name": "signers", "namespace": NAMESPACE}},
                            "secretRef": KEYS_OF_FILES,
                        },
                    },
                    {
                        "http": {
                            "url": "https://www.example.org/b.tgz",
                            "sha256": "0" * 64,
                            "secretRef": KEYS_OF_FILES,
                        },
                    },
                    {
                        "path": "exercises",
                        "includePaths": ["*.md"],
                        "image": {
                            "url": "registry.example.org/course",
                            "secretRef": KEYS_OF_FILES,
                            "dangerousSkipTLSVerify": True,
                            "tagSelection": SELECTED,
                        },
                    },
                ],
            },
        ),
        outdated=True,
    ),
    Row(
        "what a session goes on with",
        (
            "users",
            *(f"userOverrides.{key}" for key in ("role", "grantedAt")),
            "security.externalEgress",
            *(f"sessions.{key}" for key in ("name", "state")),
        ),
        # With a database, as members have logins of it; who is overridden has to be a member.
        (
            {"users": ["bob", "ann"], "databases": {"pg0": SERVER}},
            {
                "users": ["bob", "ann", "cid"],
                "userOverrides": {"ann": {"role": "user", "grantedAt": "2026-01-01T00:00:00Z"}},
                "databases": {"pg0": SERVER},
                "security": {"externalEgress": False},
                "sessions": [{"name": "main"}, {"name": "other", "state": "stopped"}],
                "crossplane": {"compositionRef": {"name": "datalab"}},
            },
            {
                "users": ["ann", "cid"],
                "userOverrides": {"ann": {"role": "admin", "grantedAt": "2026-02-01T00:00:00Z"}},
                "databases": {"pg0": SERVER},
                "security": {"externalEgress": True},
                "sessions": [{"name": "main"}, {"name": "other", "state": "started"}],
            },
        ),
        kept=kept("PersistentVolumeClaim LAB-other-persistent in LAB"),
    ),
    Row(
        "class",
        ("persistence.storageClassName",),
        ({"sessions": []}, {"sessions": [{"name": "main"}], "persistence": {"storageClassName": "other"}}),
        kept=kept("PersistentVolumeClaim LAB-main-persistent in LAB"),
    ),
    # A home directory cannot shrink: this one does not come back.
    Row(
        "what a session takes over",
        ("vcluster", "quota.storage"),
        (
            {},
            {
                "vcluster": True,
                "data": {"enabled": False},
                "registry": {"enabled": True},
                "quota": {"memory": "3Gi", "budget": "large", "storage": "2Gi"},
                "security": {"policy": "privileged", "kubernetesAccess": False, "kubernetesRole": "view"},
                "files": [GIT],
                "cacheStores": {"cache": SIZE},
            },
            {"data": {"readOnlyMount": True}, "quota": {"storage": "3Gi"}, "cacheStores": {"cache": SIZE}},
        ),
        outdated=True,
        unaffected=frozenset({"quota.storage"}),
        restarts=True,
        back=False,
    ),
]

DNS: Manifest = {"namespaceSelector": {"matchLabels": {"name": "dns"}}, "ports": [{"port": 53, "protocol": "UDP"}]}
ENVIRONMENT_ROWS = [
    Row(
        "what reaches those that run",
        (
            *(f"network.{key}" for key in ("externalEgressCIDRs", "blacklistIPs", "podCIDRs", "serviceCIDR")),
            *(f"network.{key}" for key in ("excludePolicies", "apiServerCIDRs", "internalEgress", "dns")),
            "network.ingressPeers",
            "network.peers",
            "allowed.userIngress",
            "storage.secretNamespace",
            *(f"ingress.protection.{key}" for key in ("authURL", "signinURL", "responseHeaders")),
            *(f"components.mongodb.{key}" for key in ("image", "resources", "replicas")),
            *(f"components.redis.{key}" for key in ("image", "resources")),
            *(f"components.qdrant.{key}" for key in ("image", "replicas")),
            "retention",
        ),
        ({"documentStores": {"docs": SIZE}, "cacheStores": {"cache": SIZE}, "vectorStores": {"vectors": SIZE}},),
        (
            {},
            {
                "network": {
                    "externalEgressCIDRs": ["203.0.113.0/24", "10.0.0.0/8"],
                    "blacklistIPs": ["203.0.113.7/32"],
                    "podCIDRs": ["10.44.0.0/16"],
                    "serviceCIDR": "10.43.0.0/16",
                    "excludePolicies": ["allow-namespace-egress"],
                    "apiServerCIDRs": ["192.0.2.0/24"],
                    "internalEgress": [{"namespace": "mail", "ports": [{"port": 25}]}],
                    "dns": [DNS],
                    "ingressPeers": [{"cidr": "198.51.100.0/24"}],
                    "peers": [
                        {"from": {"cidr": "198.51.100.0/24"}, "to": target}
                        for target in ("session", "sessionNamespace", "stores", "databases")
                    ],
                },
                "allowed": {"userIngress": True},
                "storage": {"secretNamespace": SHARED},
                "ingress": {
                    "protection": {
                        "authURL": "https://login.lab.example.org/auth",
                        "signinURL": "https://login.lab.example.org/start",
                        "responseHeaders": ["X-User"],
                    },
                },
                "components": {
                    "mongodb": {"image": "example.org/m:2", "resources": {"limits": {"cpu": "2"}}, "replicas": 2},
                    "redis": {"image": "example.org/r:2", "resources": {"limits": {"cpu": "2"}}},
                    "qdrant": {"image": "example.org/qdrant:v1.13.4", "replicas": 2},
                },
                "retention": "Delete",
            },
        ),
        # Nobody says where the API server of these tests is: then what was known last stays open.
        kept=kept(*(f"NetworkPolicy allow-api-server-egress in {place}" for place in ("LAB", "LAB-main"))),
    ),
    Row(
        "what sessions take over",
        (
            *(f"storage.{key}" for key in ("endpoint", "region", "type", "provider", "force_path_style")),
            *(f"components.data.{key}" for key in ("image", "resources", "replicas")),
            "packages",
            "ingress.secret",
            *(f"defaults.quota.{key}" for key in ("memory", "budget")),
            *(f"defaults.security.{key}" for key in ("policy", "kubernetesAccess", "kubernetesRole", "externalEgress")),
            *(f"database.gateway.{key}" for key in ("parentName", "parentNamespace", "sectionName")),
        ),
        ({"databases": {"pg0": SERVER}},),
        (
            {},
            {
                "storage": {
                    "endpoint": "https://objects.example.org",
                    "region": "here",
                    "type": "webdav",
                    "provider": "Minio",
                    "force_path_style": "false",
                },
                "components": {
                    "data": {"image": "example.org/data:2", "resources": {"limits": {"cpu": "2"}}, "replicas": 2}
                },
                "packages": [{"name": "tools", "files": [{"image": {"url": "registry.example.org/tools:1"}}]}],
                "ingress": {"secret": "other-tls"},
                "defaults": {
                    "quota": {"memory": "3Gi", "budget": "large"},
                    "security": {
                        "policy": "restricted",
                        "kubernetesAccess": False,
                        "kubernetesRole": "view",
                        "externalEgress": False,
                    },
                },
                "database": {"gateway": GATEWAY},
            },
        ),
        outdated=True,
        unaffected=frozenset({"defaults.security.externalEgress"}),
    ),
    # With a login goes its password: where it comes back it is another one. And a home directory cannot shrink.
    Row(
        "login",
        ("auth.type", "database.superuser", "defaults.quota.storage"),
        ({"databases": {"pg0": SERVER}},),
        (
            {},
            {
                "auth": {"type": "delegated"},
                "database": {"superuser": False},
                "defaults": {"quota": {"storage": "2Gi"}},
            },
        ),
        outdated=True,
        unaffected=frozenset({"defaults.quota.storage"}),
        back=False,
    ),
    Row("kind of login", ("auth.login",), data=({}, {"auth": {"login": "storage"}}), outdated=True, back=False),
    Row(
        "storage classes",
        (
            "storageClasses.allowed",
            *(f"{kind}.storageClassName" for kind in ("mongodb", "redis", "qdrant", "database")),
            "database.backupStorageClassName",
        ),
        (
            {
                "documentStores": {"docs": SIZE},
                "cacheStores": {"cache": SIZE},
                "vectorStores": {"vectors": SIZE},
                "databases": {"pg0": SERVER},
            },
        ),
        (
            {},
            {
                "storageClasses": {"allowed": ["other", GROWING]},
                **{kind: {"storageClassName": "other"} for kind in ("mongodb", "redis", "qdrant")},
                "database": {"storageClassName": "other", "backupStorageClassName": "other"},
            },
        ),
        stays=True,
    ),
]
EACH_ROW = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in (*ROWS, *ENVIRONMENT_ROWS)])


FULL: Manifest = {
    "files": [GIT],
    "registry": {"enabled": True},
    "quota": {"storage": "1Gi"},
    "documentStores": {"docs": SIZE},
    "cacheStores": {"cache": SIZE},
    "vectorStores": {"vectors": SIZE},
    "databases": {"pg0": SERVER},
    "persistence": {"storageClassName": GROWING},
}
GROWN: Manifest = {
    "quota": {"storage": "2Gi"},
    "cacheStores": {"cache": {"storage": "3Gi"}},
    "vectorStores": {"vectors": {"storage": "4Gi"}},
    "databases": {"pg0": {"storage": "5Gi", "backupStorage": "6Gi"}},
}
SMALL = {"storage": "512Mi"}
SHRINKS = "volumes cannot shrink"
REFUSED: dict[str, tuple[Manifest, str]] = {
    "quota.storage": ({"quota": SMALL}, SHRINKS),
    "documentStores.storage": ({"documentStores": {"docs": SMALL}}, SHRINKS),
    "documentStores.storage, larger": ({"documentStores": {"docs": LARGER}}, "its operator does not resize volumes"),
    "cacheStores.storage": ({"cacheStores": {"cache": SMALL}}, SHRINKS),
    "vectorStores.storage": ({"vectorStores": {"vectors": SMALL}}, SHRINKS),
    "databases.storage": ({"databases": {"pg0": SMALL}}, SHRINKS),
    "databases.backupStorage": ({"databases": {"pg0": {"backupStorage": "512Mi"}}}, SHRINKS),
    "persistence.storageClassName": (
        {"persistence": {"storageClassName": "other"}},
        "a volume cannot change its class",
    ),
}
"""Edits of that lab by field, and what is said to who tries them."""
SCENES = ("refusals", "growth", "edited by hand", "lost password", "no growth", "a single label")
"""What is done to labs beside the rows."""


class Play:
    """The rows, side by side, in one namespace."""

    def __init__(self, client: Client, world: World, namespace: str) -> None:
        self.client = client
        self.world = world
        self.namespace = namespace

    async def environment(self, data: Manifest) -> str:
        """A new environment; returns its name."""
        name = unique("env")
        await self.client.create(kinds.ENVIRONMENT_CONFIGS, environment(name, **_over(ENVIRONMENT_DATA, data)))
        return name

    async def lab(self, spec: Manifest, environment: str) -> Placed:
        """A new lab with the storage Secrets that specs name."""
        lab = Placed(self.namespace, unique(), environment)
        for secret in (lab.name, f"{lab.name}-keys"):
            values = {"AWS_ACCESS_KEY_ID": f"key-{secret}", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
            metadata: Manifest = {"name": secret, "namespace": lab.namespace}
            await self.client.create(
                kinds.SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
            )
        granted = {"name": lab.name, "namespace": SHARED, "annotations": {STORAGE_CLAIM: f"{lab.namespace}/{lab.name}"}}
        values = {"AWS_ACCESS_KEY_ID": f"key-{lab.name}", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
        await self.client.create(
            kinds.SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": granted, "stringData": values}
        )
        metadata = {"name": lab.name, "namespace": lab.namespace, "annotations": {ENVIRONMENT: environment}}
        claim = {"apiVersion": V1BETA2, "kind": "Datalab", "metadata": metadata, "spec": self.spec(lab, spec)}
        await self.client.create(kinds.DATALABS, claim)
        return lab

    def spec(self, lab: Placed, part: Manifest) -> Manifest:
        """A whole spec, with names of this lab filled in."""
        return _filled({"users": ["ann"], "sessions": [{"name": "main"}]} | part, lab.namespace, lab.name)

    async def edit(self, lab: Placed, part: Manifest, *, dry_run: bool = False) -> None:
        """Give a claim another spec."""
        body = [{"op": "replace", "path": "/spec", "value": self.spec(lab, part)}]
        where = path(kinds.DATALABS, lab.namespace, lab.name)
        params = {"dryRun": "All"} if dry_run else {}
        await self.client.request("PATCH", where, params=params, body=body, content_type=JSON_PATCH)

    async def edit_environment(self, name: str, data: Manifest) -> None:
        """Give an environment other data."""
        body = [{"op": "replace", "path": "/data", "value": _over(ENVIRONMENT_DATA, data)}]
        await self.client.patch(kinds.ENVIRONMENT_CONFIGS, "", name, body, JSON_PATCH)

    def unsettled(self, lab: Placed) -> str:
        """What a lab still waits for."""
        claim = self.world.claim(lab)
        for condition in (claim.get("status") or {}).get("conditions") or ():
            if condition["type"] == "Ready":
                if condition["observedGeneration"] != claim["metadata"]["generation"]:
                    return "the last edit was not seen yet"
                return "" if condition["status"] == "True" else f"not ready: {condition['message']}"
        return "nothing is said of it yet"

    def restart_needed(self, lab: Placed) -> bool:
        """Whether its status names its session as outdated."""
        status = self.world.claim(lab)["status"]
        conditions = {condition["type"]: condition for condition in status["conditions"]}
        named = bool(conditions["SessionsReady"]["reason"] == "RestartNeeded")
        said = (status.get("sessions") or {}).get("main", {}).get("message", "")
        assert named == ("stop and start it" in said)
        return named

    async def play(self, row: Row, environment: str) -> list[str]:
        """What went otherwise than the row says."""
        spec, data = row.values[0]
        edited = await self.environment(data) if row.data else environment
        lab = await self.lab(spec, edited)
        others = [
            await self.lab(spec, await self.environment(data) if row.data else environment)
            for spec, data in (() if row.stays else row.values[1:])
        ]
        for one in (lab, *others):
            if complaint := await self.world.until(partial(self.unsettled, one), 150):
                return [f"at first: {complaint}"]
        snapshot = partial(self.world.snapshot, running=row.restarts)
        first = snapshot(lab)
        problems = []
        for number, (spec, data) in enumerate(row.values[1:], start=1):
            await (self.edit_environment(edited, data) if row.data else self.edit(lab, spec))
            if row.restarts:
                problems += await self.restart(lab, spec)
            if row.stays:
                problems += await self.unlike(first, spec, edited)
            expected = partial(snapshot, others[number - 1]) if others else lambda: first
            outdated = row.outdated and not row.restarts
            compare = partial(self.differs, snapshot, lab, expected, outdated, row.meanwhile)
            if complaint := await self.world.until(compare, 60):
                problems.append(f"after edit {number}: {complaint}")
        if row.back:
            spec, data = row.values[0]
            await (self.edit_environment(edited, data) if row.data else self.edit(lab, spec))
            if row.restarts:
                problems += await self.restart(lab, spec)
            compare = partial(self.differs, snapshot, lab, lambda: first, False, row.kept)
            if complaint := await self.world.until(compare, 60):
                problems.append(f"set back: {complaint}")
        return problems

    async def unlike(self, first: dict[str, Any], spec: Manifest, environment: str) -> list[str]:
        """What is wrong with a new lab in an environment that changed: it shows that the change was seen."""
        lab = await self.lab(spec, environment)
        if complaint := await self.world.until(partial(self.unsettled, lab), 150):
            return [f"a new lab: {complaint}"]
        return ["a new lab is as those before it"] if self.world.snapshot(lab) == first else []

    async def restart(self, lab: Placed, spec: Manifest) -> list[str]:
        """Stop the session, which is outdated, and start it once it is gone; what was not so."""

        def unnamed() -> str:
            return self.unsettled(lab) or ("" if self.restart_needed(lab) else "the session is not named as outdated")

        def going() -> str:
            names = (f"{lab.name}-main", f"{lab.name}-main-vc")
            left = [name for name in names if self.world.stores[kinds.NAMESPACES].get("", name)]
            return f"there still is {left}" if left else ""

        problems = [await self.world.until(unnamed, 60)]
        await self.edit(lab, spec | {"sessions": [{"name": "main", "state": "stopped"}]})
        problems.append(await self.world.until(going, 60))
        await self.edit(lab, spec)
        return [problem for problem in problems if problem]

    def differs(
        self,
        snapshot: Callable[[Placed], dict[str, Any]],
        lab: Placed,
        expected: Callable[[], dict[str, Any]],
        outdated: bool,
        left: frozenset[str] = frozenset(),
    ) -> str:
        """How a lab differs from what it should be; `left` is there beside that."""
        if complaint := self.unsettled(lab):
            return complaint
        have, want = snapshot(lab), expected()
        beside = {title for title in have if title not in want} | self.world.kept(lab)
        if beside != left:
            return f"beside what is declared there is {sorted(beside)}"
        for title, content in want.items():
            if have.get(title) != content:
                return f"{title}: {_difference(have.get(title), content)}"
        return "" if self.restart_needed(lab) == outdated else f"restart needed: {not outdated}"

    async def edited_by_hand(self, lab: Placed) -> list[str]:
        """What does not come back of a lab all of whose objects somebody edits, then deletes."""
        first = self.world.snapshot(lab)
        for obj in self.world.planned(lab):
            await self.patch_object(obj, _damage(obj))
        config = self.world.stores[kinds.SECRETS].get(lab.name, WORKSHOP_CONFIG)
        runtime = self.world.stores[kinds.WORKSHOP_ENVIRONMENTS].get("", lab.name)
        assert config is not None
        assert runtime is not None
        await self.patch_object(config, {"data": {"workshop.yaml": "e30="}})
        copied = {"workshop": {"spec": {"session": {"resources": {"memory": "9Gi"}}}}}
        await self.patch_object(runtime, {"status": {"educates": copied}})
        edited = partial(self.differs, self.world.snapshot, lab, lambda: first, False)
        problems = [await self.world.until(edited, 60)]
        for obj in (*self.world.planned(lab), config):
            if _may_go(lab, obj):
                metadata = obj["metadata"]
                where = (resource_of(obj), metadata.get("namespace", ""), metadata["name"])
                assert await self.client.delete(*where, metadata["uid"])
        # A login that was deleted is lost: the session goes on with it, and is named.
        deleted = partial(self.differs, self.world.snapshot, lab, lambda: first, True)
        problems.append(await self.world.until(deleted, 60))
        return [problem for problem in problems if problem]

    async def misled(self, environment: str) -> dict[str, list[str]]:
        """Which objects of a lab at rest stay labelled as somebody else's."""
        lab = await self.lab({}, environment)
        if complaint := await self.world.until(partial(self.unsettled, lab), 150):
            return {"a single label": [complaint]}
        problems = []
        for kind, namespace, name in (
            (kinds.NETWORK_POLICIES, lab.name, "deny-egress"),
            (kinds.NETWORK_POLICIES, f"{lab.name}-main", "deny-egress"),
            (kinds.SECRETS, lab.namespace, f"{lab.name}-datalab"),
            (kinds.WORKSHOP_SESSIONS, "", f"{lab.name}-main"),
        ):
            labels = {CLAIM_NAME: "elsewhere"}
            after = await self.client.patch(kind, namespace, name, {"metadata": {"labels": labels}})

            def wrong(store: Store = self.world.stores[kind], after: Manifest = after) -> str:
                labels = (store.get(*key_of(after)) or after)["metadata"]["labels"]
                return "" if labels[CLAIM_NAME] == lab.name else f"{_title(after)} is {labels[CLAIM_NAME]}'s"

            # It may take a moment until the edit is seen at all.
            self.world.stores[kind].observe(after)
            problems.append(await self.world.until(wrong, 20))
        return {"a single label": [problem for problem in problems if problem]}

    async def patch_object(self, obj: Manifest, body: Manifest) -> None:
        """Edit an object as a person would."""
        where = path(resource_of(obj), obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        await self.client.request("PATCH", where, body=body, content_type=MERGE_PATCH)

    async def lost_password(self, lab: Placed) -> list[str]:
        """What is wrong after the password of a document store was deleted: it is replaced, everywhere."""
        before = self.world.values(lab.name, "docs-mongodb-auth")["password"]
        (auth,) = [obj for obj in self.world.planned(lab) if obj["metadata"]["name"] == "docs-mongodb-auth"]
        await self.patch_object(auth, {"metadata": {"annotations": {UNPROTECTED: "true"}}})
        await self.client.delete(kinds.SECRETS, lab.name, "docs-mongodb-auth", auth["metadata"]["uid"])

        def amiss() -> str:
            password = self.world.values(lab.name, "docs-mongodb-auth").get("password")
            if password in (None, before):
                return "there is no new password"
            if self.world.values(lab.namespace, f"{lab.name}-datalab").get("MONGO_DOCS_PASSWORD") != password:
                return "sessions are told another password"
            if self.world.values(lab.name, "mongodb-docs-admin-docs-app").get("password") != password:
                return "the server has another password"
            return self.unsettled(lab) or ("" if self.restart_needed(lab) else "the session is not named as outdated")

        return [problem] if (problem := await self.world.until(amiss, 60)) else []

    async def growth(self, lab: Placed, spec: Manifest) -> list[str]:
        """Which volumes of a lab do not have the size that its claim asks for now."""
        await self.edit(lab, spec)
        sizes = {
            f"{lab.name}-main-persistent": "2Gi",
            "cache-cache-0": "3Gi",
            "qdrant-storage-qdrant-vectors-0": "4Gi",
            "pg0-primary-": "5Gi",
            "pg0-repo1": "6Gi",
        }

        def small() -> str:
            claims = [claim for claim in self.world.stores[kinds.VOLUME_CLAIMS] if key_of(claim).namespace == lab.name]
            for name, size in sizes.items():
                (claim,) = [claim for claim in claims if claim["metadata"]["name"].startswith(name)]
                capacity = claim["status"].get("capacity", {}).get("storage")
                if capacity != size:
                    return f"{name} has {capacity}, not {size}"
            return self.unsettled(lab)

        return [problem] if (problem := await self.world.until(small, 60)) else []

    async def refusals(self, lab: Placed, spec: Manifest) -> list[str]:
        """Edits that are taken although they cannot be carried out, and those refused for another reason."""
        problems = []
        for field, (change, expected) in REFUSED.items():
            try:
                await self.edit(lab, _over(spec, change), dry_run=True)
            except Invalid as error:
                if expected not in error.message:
                    problems.append(f"{field}: {error.message}")
            else:
                problems.append(f"{field} is taken")
        return problems

    async def full(self, environment: str) -> dict[str, list[str]]:
        """What went wrong with a lab that has everything, by what was done to it."""
        lab = await self.lab(FULL, environment)
        if complaint := await self.world.until(partial(self.unsettled, lab), 150):
            return {"refusals": [complaint]}
        return {
            "refusals": await self.refusals(lab, FULL),
            "growth": await self.growth(lab, _over(FULL, GROWN)),
            "edited by hand": await self.edited_by_hand(lab),
            "lost password": await self.lost_password(lab),
        }

    async def rigid(self) -> dict[str, list[str]]:
        """What goes wrong with a lab whose home directory cannot grow."""
        lab = await self.lab({}, await self.environment({"storageClasses": {"allowed": ["other"]}}))
        if complaint := await self.world.until(partial(self.unsettled, lab), 150):
            return {"no growth": [complaint]}
        stopped = {"sessions": [{"name": "main", "state": "stopped"}], "quota": LARGER}
        await self.edit(lab, stopped | {"security": {"externalEgress": False}})

        def amiss() -> str:
            conditions = {one["type"]: one for one in self.world.claim(lab)["status"]["conditions"]}
            if "must support resize" not in conditions["Synced"]["message"]:
                return f"it is not said why: {conditions['Synced']}"
            if self.world.stores[kinds.WORKSHOP_SESSIONS].get("", f"{lab.name}-main") is not None:
                return "the session goes on"
            policy = self.world.stores[kinds.NETWORK_POLICIES].get(lab.name, "allow-external-egress")
            return "egress is open" if policy else ""

        return {"no growth": [problem] if (problem := await self.world.until(amiss, 60)) else []}


def _may_go(lab: Placed, obj: Manifest) -> bool:
    """Whether no data are lost with an object, and no pod keeps it from going."""
    return obj["kind"] not in ("PersistentVolumeClaim", "WorkshopEnvironment", "WorkshopSession") and (
        not is_durable(lab.name, obj)
    )


DAMAGE: dict[str, Manifest] = {
    "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": {"nobody": "here"}}}},
    "Workshop": {"spec": {"session": {"resources": {"memory": "9Gi"}}}},
    "WorkshopEnvironment": {"spec": {"theme": {"name": "other"}}},
    "WorkshopSession": {"spec": {"session": {"username": "*"}}},
    "ConfigMap": {"data": {"init.sql": "DROP TABLE notes"}},
    "Role": {"rules": []},
    "RoleBinding": {"subjects": []},
    "TLSRoute": {"spec": {"hostnames": ["other.example.org"]}},
    "PostgresCluster": {"spec": {"postGISVersion": "3.4"}},
    "MongoDBCommunity": {"spec": {"version": "7.0.0"}},
    "Redis": {"spec": {"kubernetesConfig": {"image": "example.org/other:1"}}},
    "QdrantCluster": {"spec": {"antiAffinity": False}},
    "ServiceAccount": {},
    "PersistentVolumeClaim": {},
}
"""What somebody does to an object of each kind, beside changing a label."""


def _damage(obj: Manifest) -> Manifest:
    labels: Manifest = {"metadata": {"labels": {CLAIM_NAME: "elsewhere"}}}
    if obj["kind"] != "Secret":
        return labels | DAMAGE[obj["kind"]]
    # What is random is written once: who edits a password has changed it.
    written_once = obj["metadata"]["name"].endswith(("-auth", "-login"))
    return {} if written_once else labels | {"data": dict.fromkeys(obj["data"], "eA==")}


def _filled(spec: Manifest, namespace: str, lab: str) -> Manifest:
    """A spec with the names of a lab filled in."""
    filled: Manifest = json.loads(json.dumps(spec).replace(NAMESPACE, namespace).replace(LAB, lab))
    return filled


def _over(base: Manifest, patch: Manifest) -> Manifest:
    """The base with a patch laid over it, maps merged."""
    return base | {
        key: _over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in patch.items()
    }


def _difference(have: Any, want: Any, where: str = "") -> str:
    """The first place where two things differ."""
    if isinstance(have, dict) and isinstance(want, dict):
        for key in sorted(have.keys() | want.keys()):
            if have.get(key) != want.get(key):
                return _difference(have.get(key), want.get(key), f"{where}/{key}")
    if isinstance(have, list) and isinstance(want, list) and len(have) == len(want):
        for number, (one, other) in enumerate(zip(have, want, strict=True)):
            if one != other:
                return _difference(one, other, f"{where}/{number}")
    return f"{where} is {json.dumps(have)[:600]}, not {json.dumps(want)[:600]}"


# --- what is decided --------------------------------------------------------------------------------------------------

TOGETHER = (
    *("registry", "userOverrides", "documentStores", "cacheStores", "vectorStores", "databases"),
    "database.gateway",
)
"""What means nothing in parts."""


def alone(first: Any, later: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The first value with one part of the later one in its place, and the path of that part, for all that differ."""
    if first == later:
        return
    if isinstance(later, dict) and at not in TOGETHER and at.count(".") < 2:
        base = first or {}
        for key, value in later.items():
            for where, changed in alone(base.get(key), value, f"{at}.{key}" if at else key):
                yield where, base | {key: changed}
    elif at == "files" and first:
        for number, (one, other) in enumerate(zip(first, later, strict=False)):
            for where, changed in alone(one, other, at):
                yield where, [*first[:number], changed, *first[number + 1 :]]
    else:
        yield at, later


def parts(row: Row) -> Iterator[tuple[str, Manifest, Manifest]]:
    """What a row changes, each part alone: its path, and spec and environment with no more than that changed."""
    spec, data = row.values[0]
    for later_spec, later_data in row.values[1:]:
        yield from ((where, changed, data) for where, changed in alone(spec, later_spec))
        yield from ((where, spec, changed) for where, changed in alone(data, later_data))


def started_with(spec: Manifest, data: Manifest) -> str:
    """Digest of what a session of such a lab would take over."""
    within = EnvironmentConfig.parse(environment("any", **_over(ENVIRONMENT_DATA, data)))
    here = lab(within, **_filled(spec, "team", "lab"))
    storage = within.data.storage
    keys = replace(KEYS, access_key=f"key-{here.storage_secret.name}", endpoint=storage.endpoint, region=storage.region)
    login = LOGIN if here.generates_login else Login(keys.access_key, keys.secret_key)
    return current(here, replace(running(here), storage=keys, login=login), "main")


@EACH_ROW
def test_every_part_of_a_row_asks_for_another_start_or_none_does(row: Row) -> None:
    """In a row that changes much at once, nobody sees which of it a session is named as outdated for."""
    before = started_with(*row.values[0])
    wrong = [
        where
        for where, *changed in parts(row)
        if (started_with(*changed) != before) != (row.outdated and where not in row.unaffected)
    ]
    assert wrong == []


@EACH_ROW
def test_a_row_changes_all_of_its_fields(row: Row) -> None:
    changed = {where for where, *_ in parts(row)}
    assert [field for field in row.fields if not any(f"{field}.".startswith(f"{where}.") for where in changed)] == []
    assert row.unaffected <= changed


DATA_MOUNT = volume("lab-datalab")
SESSION = educates("WorkshopSession", "lab-main", labels=LABELS)


def test_the_data_mount_stays_until_no_session_may_have_it() -> None:
    here = lab(data={"enabled": False})
    assert prune(here, set(), (DATA_MOUNT, SESSION)).delete == [SESSION]
    assert prune(here, set(), (DATA_MOUNT,)).delete == [DATA_MOUNT]


@pytest.mark.parametrize(
    ("changes", "namespaces"),
    [
        pytest.param({}, {"lab-main"}, id="it has none"),
        pytest.param(
            {"places": {"lab-main": Place.OURS, "lab-main-vc": Place.OURS}},
            {"lab-main", "lab-main-vc"},
            id="it has one",
        ),
        pytest.param(
            {"phase": Phase.PENDING, "places": {"lab-main-vc": Place.OURS}}, {"lab-main"}, id="it does not run yet"
        ),
    ],
)
def test_policies_of_a_virtual_cluster_that_is_not_asked_for_any_more(
    changes: dict[str, Any], namespaces: set[str]
) -> None:
    here = lab()
    policies = live_session_policies(here, session_is(running(here), **changes), "main")
    assert {policy["metadata"]["namespace"] for policy in policies} == namespaces


def test_the_configuration_of_sessions_is_made_anew_where_it_is_lost() -> None:
    here = lab(files=[GIT])
    seen = running(here)
    made = lost(here, seen)
    assert made is not None
    assert made["metadata"] == {"name": WORKSHOP_CONFIG, "namespace": "lab"}
    assert made["data"] == workshop_config(here, workshop_spec(here, seen))
    assert lost(here, replace(seen, workshop_config=made)) is None


def test_the_configuration_of_sessions_is_left_to_the_runtime() -> None:
    """Before the environment runs, and where what only it knows is part of the configuration."""
    here = lab()
    assert lost(here, running(here, phase=Phase.PENDING)) is None
    here = lab(files=[{"image": {"url": "$(image_repository)/course:1"}}])
    assert lost(here, running(here)) is None


# --- what happens -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own: these labs stay behind, which would keep what comes after them waiting."""
    with Cluster.start(tmp_path_factory.mktemp("own-control-plane")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates, kubelet and the operators of stores beside the daemon."""
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture(scope="module")
def outcome(cluster: Cluster, played: None) -> dict[str, list[str]]:
    """What went otherwise than its row says, by row."""

    async def play() -> dict[str, list[str]]:
        client = await Client.connect(str(cluster.kubeconfig), user_agent="test")
        try:
            async with World(client) as world:
                for name, expands in ((GROWING, True), ("other", False)):
                    body = {
                        "apiVersion": "storage.k8s.io/v1",
                        "kind": "StorageClass",
                        "metadata": {"name": name},
                        "provisioner": "standin.csi.example.org",
                        "allowVolumeExpansion": expands,
                    }
                    await client.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body=body)
                namespace = unique("test")
                for name in (namespace, SHARED):
                    cluster.api.create_namespace(name)
                    open_to_claims(cluster, name, rights.STORAGE if name == SHARED else rights.CLAIMS)
                await client.request(
                    "POST",
                    f"/apis/gateway.networking.k8s.io/v1/namespaces/{SHARED}/gateways",
                    body={
                        "apiVersion": "gateway.networking.k8s.io/v1",
                        "kind": "Gateway",
                        "metadata": {"name": GATEWAY["parentName"]},
                        "spec": {
                            "gatewayClassName": "any",
                            "listeners": [
                                {
                                    "name": GATEWAY["sectionName"],
                                    "port": 443,
                                    "protocol": "TLS",
                                    "tls": {"mode": "Passthrough"},
                                    "allowedRoutes": {"namespaces": {"from": "All"}},
                                }
                            ],
                        },
                    },
                )
                stage = Play(client, world, namespace)
                common = await stage.environment({})
                rows = [*ROWS, *ENVIRONMENT_ROWS]
                reachable = await stage.environment({"database": {"gateway": GATEWAY}})
                scenes = asyncio.gather(stage.full(reachable), stage.rigid(), stage.misled(common))
                longest_first = sorted(rows, key=lambda row: -row.restarts)
                outcomes = await asyncio.gather(*(stage.play(row, common) for row in longest_first))
                done = await scenes
                played = {row.id: problems for row, problems in zip(longest_first, outcomes, strict=True)}
                return {name: problems for part in (played, *done) for name, problems in part.items()}
        finally:
            await client.close()

    return asyncio.run(play())


def leaves(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Paths of all fields of a model that hold no other model; keys and indices left out."""
    for described in model.model_fields.values():
        at = f"{path}{described.alias}"
        inner = list(_models(described.annotation))
        yield from (leaf for one in inner for leaf in leaves(one, f"{at}.")) if inner else (at,)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def test_every_field_of_a_claim_has_a_row() -> None:
    covered = {field for row in ROWS for field in row.fields}
    assert covered | {"crossplane"} == set(leaves(DatalabSpec)), "what is ignored is in a row's values alone"


ELSEWHERE = (
    *("iam.", "allowed.", "ingress.domain", "ingress.class", "ingress.openTo.", "ingress.protection."),
    *("components.redis.replicas", "components.qdrant.resources", "reservedNames"),
)
"""Keys of an environment that change nothing of a lab that is there, are refused, or tested with what they protect."""


def test_every_key_of_an_environment_has_a_row() -> None:
    covered = tuple(field for row in ENVIRONMENT_ROWS for field in row.fields)
    lacking = [leaf for leaf in leaves(EnvironmentData) if not leaf.startswith((*covered, *ELSEWHERE))]
    assert lacking == []


@pytest.mark.cluster
@pytest.mark.timeout(600)  # of which the first test needs almost all: it has everything played
@EACH_ROW
def test_an_edit_ends_as_if_it_had_been_so_from_the_start(row: Row, outcome: dict[str, list[str]]) -> None:
    assert outcome[row.id] == []


@pytest.mark.cluster
@pytest.mark.timeout(600)  # of which the first test needs almost all: it has everything played
@pytest.mark.parametrize("scene", SCENES)
def test_what_is_done_to_a_lab(scene: str, outcome: dict[str, list[str]]) -> None:
    assert outcome[scene] == []
