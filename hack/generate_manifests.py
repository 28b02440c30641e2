"""Writes the manifests that are made of code, or says which of them have drifted.

    python -m hack.generate_manifests [--check]

Exit codes: 0 everything is current, 1 something has drifted (with --check), 2 usage.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import FIELD_MANAGER, Manifest
from datalabd.app import CERTIFICATE_SECRET
from datalabd.config import Settings
from datalabd.kube import resources as kinds
from datalabd.kube.cache import API_SERVER, OWNED_KINDS
from datalabd.kube.resources import Resource
from webhooks.ingress_policies import (
    PLATFORM_HOSTS,
    PROTECTING_OBJECTS,
    SESSION_INGRESSES,
    protecting_objects,
    session_ingresses,
)
from webhooks.registration import (
    CLAIMS,
    INGRESSES,
    PROTECTED_CLAIMS,
    PROTECTED_DATA,
    Endpoint,
    claim_webhooks,
    data_protection,
    protection,
)

ROOT = Path(__file__).resolve().parent.parent / "manifests"
HEADER = "# Made by hack/generate_manifests.py; edit the code it is made of instead.\n"

Files = dict[str, list[Manifest]]
"""Objects by file, as a path below `manifests/`."""

NAME = FIELD_MANAGER
NAMESPACE = Settings().namespace
RBAC = "rbac.authorization.k8s.io/v1"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
POLICIES = (PROTECTED_CLAIMS, PROTECTED_DATA, SESSION_INGRESSES, PROTECTING_OBJECTS, PLATFORM_HOSTS)
READ = ("list", "watch")
OWN = ("get", "list", "watch", "create", "patch", "delete")
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
        "webhook/protection.yaml": protection() + data_protection(ACCOUNT),
        "webhook/ingresses.yaml": session_ingresses(ACCOUNT) + protecting_objects(ACCOUNT),
        "webhook/claims.yaml": claim_webhooks(Endpoint(b"", service=(NAMESPACE, Settings().service))),
    }


def roles() -> Files:
    """What the process may do, no verb more than it uses. Secrets are a role apart, which can be bound by place."""
    cluster = [
        _may(("list", "watch", "patch"), kinds.DATALABS),
        _may(("patch",), kinds.DATALABS, subresource="status"),
        _may(READ, kinds.ENVIRONMENT_CONFIGS),
        _may(READ, kinds.CROSSPLANE_ENVIRONMENTS),
        *(_may(OWN, kind) for kind in OWNED_KINDS if kind is not kinds.SECRETS),
        _may(READ, kinds.NAMESPACES),
        _may(("list", "watch", "patch"), kinds.VOLUMES),
        _may(READ, kinds.DEPLOYMENTS),
        _may(READ, kinds.STATEFUL_SETS),
        # Not used: the Role of document stores grants it, and nobody may grant what he may not do himself.
        _may(("get", "patch", "delete"), kinds.PODS),
        _may(("list", "watch", "patch"), kinds.INGRESSES),
        _may(("create",), kinds.EVENTS),
        _may(READ, kinds.CRDS),
        _may(INSTALL, kinds.CRDS, names=[crd["metadata"]["name"] for crd in custom_resource_definitions()]),
        _may(READ, kinds.MUTATING_WEBHOOKS),
        _may(READ, kinds.VALIDATING_WEBHOOKS),
        _may(READ, kinds.ADMISSION_POLICIES),
        _may(READ, kinds.ADMISSION_POLICY_BINDINGS),
        _may(INSTALL, kinds.MUTATING_WEBHOOKS, names=[CLAIMS, INGRESSES]),
        _may(INSTALL, kinds.VALIDATING_WEBHOOKS, names=[CLAIMS, INGRESSES]),
        _may(INSTALL, kinds.ADMISSION_POLICIES, names=POLICIES),
        _may(INSTALL, kinds.ADMISSION_POLICY_BINDINGS, names=POLICIES),
    ]
    own = [
        _may(("create",), kinds.LEASES),
        _may(("get", "update"), kinds.LEASES, names=[NAME]),
        _may(("create",), kinds.SECRETS),
        _may(("get", "patch"), kinds.SECRETS, names=[CERTIFICATE_SECRET]),
    ]
    return {
        "rbac/roles.yaml": [
            _role("ClusterRole", {"name": NAME}, cluster),
            _role("ClusterRole", {"name": f"{NAME}-secrets"}, [_may(OWN, kinds.SECRETS)]),
            _role("Role", {"name": NAME, "namespace": NAMESPACE}, own),
            _role("Role", {"name": NAME, "namespace": API_SERVER.namespace}, [_may(READ, kinds.ENDPOINT_SLICES)]),
        ]
    }


def _may(verbs: Sequence[str], resource: Resource, *, subresource: str = "", names: Sequence[str] = ()) -> Manifest:
    rule: Manifest = {
        "apiGroups": [resource.group],
        "resources": [f"{resource.plural}/{subresource}" if subresource else resource.plural],
        "verbs": list(verbs),
    }
    return rule | ({"resourceNames": list(names)} if names else {})


def _role(kind: str, metadata: Manifest, rules: list[Manifest]) -> Manifest:
    labels = {"app.kubernetes.io/name": NAME}
    return {"apiVersion": RBAC, "kind": kind, "metadata": metadata | {"labels": labels}, "rules": rules}


PARTS: list[Callable[[], Files]] = [crds, registrations, roles]
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
