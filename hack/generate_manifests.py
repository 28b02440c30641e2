"""Writes the manifests that are made of code, or says which of them have drifted.

    python -m hack.generate_manifests [--check]

Exit codes: 0 everything is current, 1 something has drifted (with --check), 2 usage.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import yaml

from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import ACCOUNT, FIELD_MANAGER, Manifest
from datalabd.config import Settings
from datalabd.kube import resources as kinds
from datalabd.kube.cache import API_SERVER, INSIDE_KINDS, RUNTIME_KINDS
from datalabd.kube.resources import Resource
from datalabd.plan import rights
from webhooks.ingress_policies import (
    LAB_SECRETS,
    PLATFORM_HOSTS,
    PROTECTING_OBJECTS,
    SESSION_BACKENDS,
    SESSION_INGRESSES,
    lab_secrets,
    protecting_objects,
    session_backends,
    session_ingresses,
)
from webhooks.installation import LEASE, LOCAL_LEASE_NAMESPACE
from webhooks.registration import (
    ABANDONED_STEPS,
    CLAIMS,
    INGRESSES,
    PROTECTED_CLAIMS,
    PROTECTED_DATA,
    PROTECTED_RIGHTS,
    Endpoint,
    abandonment,
    claim_webhooks,
    data_protection,
    protection,
    rights_protection,
)
from webhooks.serving_certificate import CERTIFICATE_SECRET
from workspaces import app
from workspaces.cache import USAGE_KINDS
from workspaces.settings import Settings as WorkspaceSettings

ROOT = Path(__file__).resolve().parent.parent / "manifests"
HEADER = "# Made by hack/generate_manifests.py; edit the code it is made of instead.\n"

Files = dict[str, list[Manifest]]
"""Objects by file, as a path below `manifests/`."""

NAME = FIELD_MANAGER
NAMESPACE = Settings().namespace
LOCAL = f"{NAME}-local"
PROTECTED = (
    ABANDONED_STEPS,
    PROTECTED_CLAIMS,
    PROTECTED_DATA,
    PROTECTED_RIGHTS,
    SESSION_INGRESSES,
    PROTECTING_OBJECTS,
    LAB_SECRETS,
    SESSION_BACKENDS,
    PLATFORM_HOSTS,
)
READ = ("list", "watch")
WRITE = ("get", "create", "patch", "delete")
"""`get` where an object is there that no list told of, and before a first apply."""
VIEW = ("get", "list", "watch")
EDIT = ("create", "update", "patch", "delete")
WEBHOOKS = (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS)
POLICIES = (kinds.ADMISSION_POLICIES, kinds.ADMISSION_POLICY_BINDINGS)
RUNTIME = {"rbac.educates.dev/session-manager": "true"}
"""Makes a role part of Educates' own, which may then bind it also where it is no cluster administrator."""
VIEWER = {f"{rights.RBAC}/aggregate-to-view": "true"}
EDITOR = {f"{rights.RBAC}/aggregate-to-{role}": "true" for role in ("edit", "admin")}
INSTALL = ("get", "create", "patch", "update")
"""Made by server-side apply, for which the API server checks the name also where the object is new; later replaced."""


def crds() -> Files:
    """The CustomResourceDefinitions, a file each."""
    return {f"crd/{crd['metadata']['name']}.yaml": [crd] for crd in custom_resource_definitions()}


def registrations() -> Files:
    """The webhooks for claims, for the API server to know before the process first runs; it adds the `caBundle`.

    Not those for Ingresses: what they guard depends on the environments, and each apply of a file would undo that.
    """
    return {
        "webhook/protection.yaml": protection() + abandonment() + rights_protection() + data_protection(ACCOUNT),
        "webhook/ingresses.yaml": session_ingresses(ACCOUNT)
        + protecting_objects(ACCOUNT)
        + lab_secrets(ACCOUNT)
        + session_backends(),
        "webhook/claims.yaml": claim_webhooks(Endpoint(b"", service=(NAMESPACE, Settings().service))),
    }


def roles() -> Files:
    """What the process may do, no verb more than it uses, a role for each kind of place.

    Everywhere it reads what lists do not tell by namespace, but no Secret; it writes what has no namespace, and the
    claims. The rest is written in labs' own namespaces, to which the runtime admits it by RoleBindings of the plan.
    """
    everywhere = [
        _may(("list", "watch", "patch"), kinds.DATALABS),
        _may(("patch",), kinds.DATALABS, subresource="status"),
        _may(READ, kinds.ENVIRONMENT_CONFIGS),
        _may(READ, kinds.CROSSPLANE_ENVIRONMENTS),
        *(_may(READ + WRITE, kind) for kind in RUNTIME_KINDS),
        *(_may(READ, kind) for kind in INSIDE_KINDS),
        _may(READ, kinds.NAMESPACES),
        _may(("list", "watch", "patch"), kinds.VOLUMES),
        _may(READ, kinds.DEPLOYMENTS),
        *(_may(READ, kind) for kind in kinds.ROUTES if kind.crd not in {inside.crd for inside in INSIDE_KINDS}),
        _may(("create",), kinds.EVENTS),
        _may(("create",), kinds.SUBJECT_ACCESS_REVIEWS),
        _may(READ, kinds.CRDS),
        _may(INSTALL, kinds.CRDS, names=[crd["metadata"]["name"] for crd in custom_resource_definitions()]),
        *(_may(READ, kind) for kind in (*WEBHOOKS, *POLICIES)),
        *(_may(INSTALL, kind, names=[CLAIMS, INGRESSES]) for kind in WEBHOOKS),
        *(_may(INSTALL, kind, names=PROTECTED) for kind in POLICIES),
    ]
    lab = [
        _may(READ + WRITE, kinds.SECRETS),
        *(_may(WRITE, kind) for kind in INSIDE_KINDS),
        _may(READ, kinds.STATEFUL_SETS),
        _may(("patch",), kinds.INGRESSES),
        *GRANTED_ONWARDS,
    ]
    own = [
        _may(("create",), kinds.LEASES),
        _may(("get", "update"), kinds.LEASES, names=[LEASE]),
        _may(("create",), kinds.SECRETS),
        _may(("get", "list", "watch", "patch"), kinds.SECRETS, names=[CERTIFICATE_SECRET]),
    ]
    # It may be read by the role of the same namespace above, which an installed datalabd needs as well.
    local_lease = [_may(("create",), kinds.LEASES), _may(("update",), kinds.LEASES, names=[LEASE])]
    return {
        "rbac/roles.yaml": [
            _role("ClusterRole", {"name": NAME}, everywhere),
            _role("ClusterRole", {"name": rights.CLAIMS}, [_may(READ + WRITE, kinds.SECRETS)]),
            _role("ClusterRole", {"name": rights.STORAGE}, [_may(READ, kinds.SECRETS)]),
            _role("ClusterRole", {"name": rights.LAB}, lab, RUNTIME),
            _role("ClusterRole", {"name": rights.SESSION}, [_may(WRITE, kinds.NETWORK_POLICIES)], RUNTIME),
            _role("Role", {"name": NAME, "namespace": NAMESPACE}, own),
            _role("Role", {"name": NAME, "namespace": API_SERVER.namespace}, [_may(READ, kinds.ENDPOINT_SLICES)]),
            _role("Role", {"name": NAME, "namespace": LOCAL_LEASE_NAMESPACE}, [LOOK_FOR_LOCAL_RUN]),
        ],
        "rbac/users.yaml": [
            _role("ClusterRole", {"name": "datalab-viewer"}, [_may(VIEW, kinds.DATALABS), _status()], VIEWER),
            _role("ClusterRole", {"name": "datalab-editor"}, [_may(VIEW + EDIT, kinds.DATALABS), _status()], EDITOR),
        ],
        "local/roles.yaml": [
            _role(
                "ClusterRole",
                {"name": LOCAL},
                [
                    _may(("create",), kinds.DATALABS),  # a dry run, to prove that the webhooks can be reached
                    *(_may(("delete",), kind, names=[CLAIMS, INGRESSES]) for kind in WEBHOOKS),
                ],
            ),
            _role("Role", {"name": LOCAL, "namespace": LOCAL_LEASE_NAMESPACE}, local_lease),
        ],
    }


def _status() -> Manifest:
    return _may(("get",), kinds.DATALABS, subresource="status")


def _may(verbs: Sequence[str], resource: Resource, *, subresource: str = "", names: Sequence[str] = ()) -> Manifest:
    rule: Manifest = {
        "apiGroups": [resource.group],
        "resources": [f"{resource.plural}/{subresource}" if subresource else resource.plural],
        "verbs": list(verbs),
    }
    return rule | ({"resourceNames": list(names)} if names else {})


def _role(
    kind: str, metadata: Manifest, rules: list[Manifest], labels: Mapping[str, str] = MappingProxyType({})
) -> Manifest:
    marks = {"app.kubernetes.io/name": NAME} | dict(labels)
    return {"apiVersion": f"{rights.RBAC}/v1", "kind": kind, "metadata": metadata | {"labels": marks}, "rules": rules}


GRANTED_ONWARDS: list[Manifest] = [_may(("get", "patch", "delete"), kinds.PODS)]
"""Never used: the Role of document stores grants it, and nobody may grant what he may not do himself."""

LOOK_FOR_LOCAL_RUN = _may(("get",), kinds.LEASES, names=[LEASE])
"""Where the webhooks are answered at a URL, to know whether somebody is there."""

WORKSPACES = {"app.kubernetes.io/name": app.ACCOUNT}
WORKSPACES_NAMESPACE = WorkspaceSettings().namespace


def workspaces() -> Files:
    """The Workspace API: an account of its own that sees one namespace, and of others quotas and volume claims."""
    settings, name, namespace = WorkspaceSettings(), app.ACCOUNT, WORKSPACES_NAMESPACE
    here = {"name": name, "namespace": namespace, "labels": WORKSPACES}
    objects = ("get", "list", "watch", "create", "patch", "delete")
    own = [
        *(_may(objects, kind) for kind in (kinds.STORAGES, kinds.DATALABS)),
        _may(READ, kinds.SECRETS),
        _may(("list", "create"), kinds.EVENTS),
        _may(("create",), kinds.LEASES),
        _may(("get", "update"), kinds.LEASES, names=[app.LEASE]),
    ]
    cluster = [_may(READ, kinds.CRDS), _may(("get",), kinds.CRDS, names=[kinds.DATALABS.crd])]
    usage = [_may(READ, kind) for kind in USAGE_KINDS]
    roles = [
        _role("ClusterRole", {"name": name}, cluster, WORKSPACES),
        _role("ClusterRole", {"name": f"{name}-usage"}, usage, WORKSPACES),
        _role("Role", {"name": name, "namespace": namespace}, own, WORKSPACES),
    ]
    port = {"name": "http", "containerPort": settings.port}
    selector = {"matchLabels": WORKSPACES}
    probe = {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2}
    spread = {
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": selector,
    }
    container = {
        "name": "workspaces",
        "image": f"{NAME}:{version(NAME)}",
        "args": ["workspaces"],
        "envFrom": [{"configMapRef": {"name": name}}],
        "ports": [port],
        "readinessProbe": probe | {"httpGet": {"path": "/readyz", "port": "http"}},
        "livenessProbe": probe | {"httpGet": {"path": "/probe", "port": "http"}, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "384Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 20,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    }
    deployment = {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": selector,
        "template": {"metadata": {"labels": WORKSPACES}, "spec": pod},
    }
    service = {"selector": WORKSPACES, "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]}
    policy = {
        "podSelector": selector,
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
    }
    budget = {"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here, "automountServiceAccountToken": False}
    config = {"OIDC_ISSUER": "https://keycloak.example.org/realms/labs"}
    return {
        "workspaces/roles.yaml": roles,
        "workspaces/account.yaml": [account, *(_bound_to(role, name, namespace) for role in roles)],
        "workspaces/config.yaml": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": config}],
        "workspaces/deployment.yaml": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": here, "spec": deployment}
        ],
        "workspaces/service.yaml": [{"apiVersion": "v1", "kind": "Service", "metadata": here, "spec": service}],
        "workspaces/disruption-budget.yaml": [
            {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": here, "spec": budget}
        ],
        "workspaces/network-policy.yaml": [
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": here, "spec": policy}
        ],
    }


def _bound_to(role: Manifest, account: str, namespace: str) -> Manifest:
    metadata = {key: value for key, value in role["metadata"].items() if key in ("name", "namespace", "labels")}
    return {
        "apiVersion": f"{rights.RBAC}/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rights.RBAC, "kind": role["kind"], "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


PARTS: list[Callable[[], Files]] = [crds, registrations, roles, workspaces]
"""Everything that is generated."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def render() -> dict[Path, str]:
    """The text of every generated file."""
    return {
        ROOT / name: HEADER + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)
        for part in PARTS
        for name, objects in part().items()
    }


def drifted() -> list[Path]:
    """Generated files that are missing or not what the code says."""
    return [path for path, text in render().items() if not path.is_file() or path.read_text() != text]


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the manifests that are made of code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something has drifted")
    arguments = parser.parse_args()
    stale = drifted()
    texts = {} if arguments.check else render()
    for path in stale:
        print(path.relative_to(ROOT.parent))
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path])
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
