"""What is installed before anything runs: Educates' kinds, roles and account; the kinds of stores and of the gateway.

The definitions here say no more than what is used: own words for where the real ones are not at hand.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from datalabd.api import storage
from datalabd.api.meta import Manifest
from datalabd.errors import NotFound
from datalabd.kube.client import APPLY_PATCH, Client, path
from datalabd.kube.resources import CRDS, NAMESPACES, Resource
from hack.deadlines import scaled

MANAGER = "educates-installer"
OPERATOR_NAMESPACE = "educates"
SERVICE_ACCOUNT = "session-manager"
SECRETS_ACCOUNT = "secrets-manager"

SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)

SERVED_SECONDS = 60.0

# ---- Schemas

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
TIME: Schema = {"type": "string", "format": "date-time"}
OPEN: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _object(required: str = "", **properties: Schema) -> Schema:
    """A structure of these fields; the names of required ones are separated by spaces."""
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def _open(required: str = "", **properties: Schema) -> Schema:
    """A structure that may have other fields as well."""
    return OPEN | _object(required, **properties)


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _keyed(items: Schema, *keys: str) -> Schema:
    """A list of which every entry has other keys."""
    return _list(items) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _enabled(**properties: Schema) -> Schema:
    return _open("enabled", enabled=FLAG, **properties)


OBJECTS = _list(OPEN)
ENV = _list(_open("name", name=TEXT, value=TEXT))
SECRET_LIST = _list(_open("name namespace", name=TEXT, namespace=TEXT))
SOURCES = _list(_open(path=TEXT | {"default": "."}))
TOKEN = _object(enabled=FLAG | {"default": True})

WORKSHOP = _open(
    "title description",
    title=TEXT,
    description=TEXT,
    version=TEXT,
    workshop=_open(image=TEXT, files=SOURCES, packages=_list(_object("name files", name=TEXT, files=SOURCES))),
    environment=_open(objects=OBJECTS, secrets=SECRET_LIST),
    session=_open(
        namespaces=_open(role=TEXT, budget=TEXT, limits=OPEN, security=_open(policy=TEXT, token=TOKEN)),
        resources=_object(memory=TEXT, storage=TEXT, volume=_object("name", name=TEXT, subPath=TEXT)),
        env=_list(_open("name", name=TEXT, value=TEXT)),
        envFrom=OBJECTS,
        applications=_open(
            workshop=_open(enabled=FLAG),
            terminal=_enabled(layout=TEXT),
            editor=_enabled(),
            console=_enabled(),
            slides=_enabled(),
            docker=_enabled(memory=TEXT, storage=TEXT),
            registry=_enabled(memory=TEXT, storage=TEXT, volume=_object("name", name=TEXT, subPath=TEXT)),
            vcluster=_enabled(version=TEXT),
        ),
        dashboards=_list(_object("name", name=TEXT, url=TEXT)),
        ingresses=_list(_open("name", name=TEXT, host=TEXT, port=WHOLE, protocol=TEXT, path=TEXT)),
        objects=OBJECTS,
    ),
)
ENVIRONMENT = _open(
    "workshop",
    workshop=_object("name", name=TEXT),
    environment=_open(objects=OBJECTS, secrets=SECRET_LIST),
    request=_enabled(token=TEXT),
    session=_open(username=TEXT, password=TEXT, env=ENV, ingress=_open(domain=TEXT, secret=TEXT)),
    theme=_object(name=TEXT),
    cookies=_object(domain=TEXT),
)
SESSION = _open(
    "environment",
    environment=_object("name", name=TEXT),
    session=_open("id", id=TEXT, username=TEXT, password=TEXT, env=ENV, ingress=_open(domain=TEXT, secret=TEXT)),
)
COPIER = _open(
    rules=_list(
        _open(
            "sourceSecret",
            sourceSecret=_object("name namespace", name=TEXT, namespace=TEXT),
            targetNamespaces=_open(nameSelector=_object("matchNames", matchNames=_list(TEXT))),
            targetSecret=_open(name=TEXT),
            reclaimPolicy=TEXT | {"enum": ["Delete", "Retain"], "default": "Delete"},
        )
    )
)


def crds() -> list[Manifest]:
    """Definitions of the four kinds of Educates that a lab consists of. None has a status subresource."""
    return [
        _crd("training.educates.dev", "Workshop", WORKSHOP),
        _crd("training.educates.dev", "WorkshopEnvironment", ENVIRONMENT),
        _crd("training.educates.dev", "WorkshopSession", SESSION),
        _crd("secrets.educates.dev", "SecretCopier", COPIER),
    ]


def storage_crd() -> Manifest:
    """Definition of Storages: what the real one refuses, fills in and keeps apart by key."""
    rule = _object(
        "target mode",
        target=TEXT | {"pattern": storage.TARGET},
        mode=TEXT | {"enum": [mode.value for mode in storage.Mode]},
        minAge=TEXT | {"pattern": storage.AGE},
        at=TIME,
    ) | {
        "x-kubernetes-validations": [
            {
                "rule": "has(self.minAge) != has(self.at)",
                "message": "Lifecycle rules must set exactly one of minAge or at.",
            }
        ]
    }
    bucket = _object(
        "bucketName",
        bucketName=TEXT,
        discoverable=FLAG | {"default": False},
        lifecycleRules=_keyed(rule, "target"),
    )
    request = _object("bucketName requestedAt", bucketName=TEXT, reason=TEXT, requestedAt=TIME)
    grant = _object(
        "bucketName grantee permission grantedAt",
        bucketName=TEXT,
        grantee=TEXT,
        permission=TEXT | {"enum": [level.value for level in storage.Permission]},
        grantedAt=TIME,
    )
    rollover = _object(
        "interval maxToKeep",
        interval=TEXT | {"enum": ["daily", "weekly", "monthly", "quarterly", "yearly", "none"], "default": "none"},
        maxToKeep=WHOLE | {"minimum": 1, "maximum": 10, "default": 1},
    )
    spec = _object(
        "principal buckets",
        principal=TEXT,
        credentialsRollover=rollover,
        buckets=_keyed(bucket, "bucketName"),
        bucketAccessRequests=_keyed(request, "bucketName"),
        bucketAccessGrants=_keyed(grant, "bucketName", "grantee"),
    )
    said = _object(
        "type status lastTransitionTime reason",
        type=TEXT,
        status=TEXT,
        reason=TEXT,
        message=TEXT,
        lastTransitionTime=TIME,
        observedGeneration=WHOLE,
    )
    return _namespaced("pkg.internal", "v1beta1", "Storage", spec, status=_object(conditions=_keyed(said, "type")))


def store_crds() -> list[Manifest]:
    """Definitions of databases, stores, the gateway with its routes, and what APISIX asks by. All have a status
    subresource.

    What is written by us or read by a stand-in is spelled out; everything else is let through.
    """
    volume = _open(accessModes=_list(TEXT), resources=OPEN, storageClassName=TEXT)
    reference = _open("name", name=TEXT, namespace=TEXT)
    postgres = _open(
        "instances postgresVersion",
        postgresVersion=WHOLE,
        instances=_list(_open("dataVolumeClaimSpec", name=TEXT, replicas=WHOLE, dataVolumeClaimSpec=volume)),
        users=_list(_open("name", name=TEXT, databases=_list(TEXT))),
        shutdown=FLAG,
        backups=OPEN,
    )
    mongodb = _open(
        "security type users",
        members=WHOLE,
        type=TEXT | {"enum": ["ReplicaSet"]},
        version=TEXT,
        security=_open(authentication=OPEN),
        users=_list(
            _open(
                "name roles",
                name=TEXT,
                db=TEXT | {"default": "admin"},
                roles=_list(_open("name db", name=TEXT, db=TEXT)),
                passwordSecretRef=_open("name", name=TEXT, key=TEXT),
                scramCredentialsSecretName=TEXT,
            )
        ),
        statefulSet=_open("spec", spec=OPEN),
    )
    redis = _open(
        "kubernetesConfig",
        kubernetesConfig=_open("image", image=TEXT, redisSecret=OPEN, ignoreAnnotations=_list(TEXT)),
        storage=_open(volumeClaimTemplate=OPEN, keepAfterDelete=FLAG),
        env=ENV,
        acl=_open(secret=OPEN),
    )
    quantities = {"type": "object", "additionalProperties": _object(value=TEXT, format=TEXT)}  # as in the real one
    key = _open(enabled=FLAG, secret=_open(name=TEXT, key=TEXT))
    qdrant = _open(
        image=_open(repository=TEXT, tag=TEXT, pullPolicy=TEXT),
        persistence=_open(size=TEXT, storageClassName=TEXT),
        replicas=WHOLE,
        antiAffinity=FLAG,
        apiKey=key,
        readApiKey=key,
        resources=_object(limits=quantities, requests=quantities),
    )
    gateway = _open("gatewayClassName listeners", gatewayClassName=TEXT, listeners=_list(_open("name", name=TEXT)))
    route = _open(
        "hostnames rules",
        parentRefs=_list(_open("name", name=TEXT, namespace=TEXT, sectionName=TEXT)),
        hostnames=_list(TEXT),
        rules=_list(_open("backendRefs", backendRefs=_list(reference))),
    )
    plugin = _open("name enable", name=TEXT, enable=FLAG | {"default": True}, secretRef=TEXT, config=OPEN)
    networking = "gateway.networking.k8s.io"
    return [
        _namespaced("postgres-operator.crunchydata.com", "v1", "PostgresCluster", postgres),
        _namespaced("mongodbcommunity.mongodb.com", "v1", "MongoDBCommunity", mongodb, plural="mongodbcommunity"),
        # As in the real one, nothing that its operator might write to a status would be kept.
        _namespaced("redis.redis.opstreelabs.in", "v1beta2", "Redis", redis, plural="redis", status=_object()),
        _namespaced("qdrant.io", "v1alpha1", "QdrantCluster", qdrant, status=_object(message=TEXT)),
        _namespaced(networking, "v1", "Gateway", gateway),
        _namespaced(networking, "v1", "TLSRoute", route),
        _namespaced("apisix.apache.org", "v2", "ApisixPluginConfig", _open("plugins", plugins=_list(plugin))),
    ]


def _namespaced(
    group: str, version: str, kind: str, spec: Schema, *, plural: str = "", status: Schema = OPEN
) -> Manifest:
    """A namespaced kind whose status is a subresource. Kubernetes' own groups ask for a word that they may be used."""
    crd = _crd(group, kind, spec)
    names = crd["spec"]["names"] | ({"plural": plural} if plural else {})
    approved = {"annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"}}
    served = crd["spec"]["versions"][0] | {
        "name": version,
        "schema": {"openAPIV3Schema": _object(spec=spec, status=status)},
        "subresources": {"status": {}},
    }
    metadata = {"name": f"{names['plural']}.{group}"} | (approved if group.endswith(".k8s.io") else {})
    return crd | {
        "metadata": metadata,
        "spec": crd["spec"] | {"scope": "Namespaced", "names": names, "versions": [served]},
    }


def _crd(group: str, kind: str, spec: Schema) -> Manifest:
    singular = kind.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"kind": kind, "plural": f"{singular}s", "singular": singular},
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object(spec=spec, status=OPEN)},
                }
            ],
        },
    }


# ---- Roles


def session_roles() -> list[Manifest]:
    """ClusterRoles of session users.

    Not aggregated from Kubernetes' own view, edit and admin: those reach NetworkPolicies, which Educates' do not.
    """
    read, write = ["get", "list", "watch"], ["create", "delete", "patch", "update"]
    workloads = [
        ("", ["configmaps", "persistentvolumeclaims", "pods", "pods/log", "serviceaccounts", "services"]),
        ("apps", ["deployments", "replicasets", "statefulsets"]),
        ("batch", ["cronjobs", "jobs"]),
        ("networking.k8s.io", ["ingresses"]),
    ]
    secrets = [("", ["secrets", "pods/exec", "pods/portforward"])]
    rbac = [("rbac.authorization.k8s.io", ["roles", "rolebindings"])]
    return [
        _cluster_role("view", _rules(workloads, read)),
        _cluster_role("edit", _rules(workloads + secrets, read + write)),
        _cluster_role("admin", _rules(workloads + secrets + rbac, read + write)),
    ]


def _rules(resources: list[tuple[str, list[str]]], verbs: list[str]) -> list[Manifest]:
    return [{"apiGroups": [group], "resources": names, "verbs": verbs} for group, names in resources]


def _cluster_role(name: str, rules: list[Manifest]) -> Manifest:
    metadata = {"name": f"educates-{name}-session-role"}
    return {"apiVersion": CLUSTER_ROLES.api_version, "kind": CLUSTER_ROLES.kind, "metadata": metadata, "rules": rules}


# ---- Installing


async def install(client: Client, shared: Path | None = None) -> None:
    """Everything but the running operators: kinds, session roles, the accounts `educates/session-manager` and
    `educates/secrets-manager`.

    The real definitions and roles are taken from `shared` where it has them. Repeating it does no harm.
    """
    await install_crds(client, shared and shared / "crds")
    for role in (*_roles(shared), _secrets_role()):
        await _apply(client, CLUSTER_ROLES, role)
    await _apply(
        client, NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
    )
    for name, role_name in ((SERVICE_ACCOUNT, "cluster-admin"), (SECRETS_ACCOUNT, f"educates-{SECRETS_ACCOUNT}")):
        account = {"name": name, "namespace": OPERATOR_NAMESPACE}
        await _apply(client, SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        await _apply(
            client,
            CLUSTER_ROLE_BINDINGS,
            {
                "apiVersion": CLUSTER_ROLE_BINDINGS.api_version,
                "kind": CLUSTER_ROLE_BINDINGS.kind,
                "metadata": {"name": f"{OPERATOR_NAMESPACE}-{name}"},
                "subjects": [{"kind": "ServiceAccount"} | account],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role_name},
            },
        )


def _secrets_role() -> Manifest:
    """What the secrets-manager may: nothing of sessions."""
    rules = [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "verbs": ["get", "list", "watch", "create", "delete", "deletecollection", "patch", "update"],
        },
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": ["secrets.educates.dev"],
            "resources": ["secretcopiers", "secretexporters", "secretimporters", "secretinjectors"],
            "verbs": ["get", "list", "watch", "patch", "update"],
        },
    ]
    metadata = {"name": f"educates-{SECRETS_ACCOUNT}"}
    return {"apiVersion": CLUSTER_ROLES.api_version, "kind": CLUSTER_ROLES.kind, "metadata": metadata, "rules": rules}


def _roles(shared: Path | None) -> list[Manifest]:
    file = shared and shared / "educates" / "session-clusterroles.yaml"
    return list(_documents(file)) if file and file.is_file() else session_roles()


async def install_crds(client: Client, directory: Path | None = None) -> None:
    """Educates' kinds, served when this returns: the real definitions found in `directory`, ours for the rest.

    Raises TimeoutError after a minute in which the API server did not take them up.
    """
    await _install(client, _definitions(directory))


async def install_store_crds(client: Client, directory: Path | None = None, *kinds: str) -> None:
    """The kinds of databases, stores, gateway and APISIX, or of these only those named, served when this returns.

    The real definitions found in `directory`, ours for the rest. Raises TimeoutError after a minute in which the API
    server did not take them up.
    """
    wanted = [crd for crd in store_crds() if not kinds or crd["spec"]["names"]["kind"] in kinds]
    await _install(client, [_real(crd, directory) for crd in wanted])


async def install_storage_crd(client: Client, directory: Path | None = None) -> None:
    """Storages, served when this returns: the real definition found in `directory`, else ours.

    Raises TimeoutError after a minute in which the API server did not take it up.
    """
    await _install(client, [_real(storage_crd(), directory)])


async def _install(client: Client, definitions: list[Manifest]) -> None:
    for crd in definitions:
        await _apply(client, CRDS, crd)
    async with asyncio.timeout(scaled(SERVED_SECONDS)):
        for crd in definitions:
            await _served(client, crd)


def _definitions(directory: Path | None) -> list[Manifest]:
    found = crds()
    for group in ("training", "secrets"):
        for file in sorted(directory.glob(f"*.{group}.educates.dev.yaml")) if directory else []:
            found += _documents(file)
    return list({crd["metadata"]["name"]: crd for crd in found}.values())


def _real(crd: Manifest, directory: Path | None) -> Manifest:
    """The definition of that name in `directory`, else this one."""
    file = directory and directory / f"{crd['metadata']['name']}.yaml"
    found: Manifest = _undescribed(next(_documents(file))) if file and file.is_file() else crd
    return found


def _undescribed(value: Any) -> Any:
    """A copy without descriptions: half of a large definition, whose size our HTTP client would complain of."""
    if isinstance(value, dict):
        return {
            key: _undescribed(item)
            for key, item in value.items()
            if key != "description" or not isinstance(item, str)  # a property may have that name
        }
    return [_undescribed(item) for item in value] if isinstance(value, list) else value


async def _served(client: Client, crd: Manifest) -> None:
    """Return once the kind can be listed: its Established condition comes a moment earlier."""
    spec = crd["spec"]
    version = f"{spec['group']}/{spec['versions'][0]['name']}"
    resource = Resource(version, spec["names"]["plural"], spec["names"]["kind"], spec["scope"] == "Namespaced")
    while True:
        try:
            await client.list(resource)
            return
        except NotFound:
            await asyncio.sleep(0.05)


async def _apply(client: Client, resource: Resource, manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    await client.request(
        "PATCH",
        path(resource, metadata.get("namespace", ""), metadata["name"]),
        params={"fieldManager": MANAGER, "force": "true"},
        body=manifest,
        content_type=APPLY_PATCH,
    )


def _documents(file: Path) -> Iterator[Manifest]:
    # Not the loader written in Python: one of these files has three megabytes, and would take it half a minute.
    return (document for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader) if document)
