"""datalabd's own account on a local control plane, with the rights that its manifests give and no others."""

from pathlib import Path

import yaml

from datalabd.api.meta import ACCOUNT, FIELD_MANAGER
from datalabd.config import Settings
from datalabd.plan import rights
from hack.cluster import Cluster
from webhooks.installation import LOCAL_LEASE_NAMESPACE

MANIFESTS = Path(__file__).parents[1] / "manifests"
NAMESPACE = Settings().namespace
LOCAL = "datalabd-local"
WORKSPACES = "datalabd-workspaces"
_SUBJECT = f"--serviceaccount={NAMESPACE}:{FIELD_MANAGER}"


def kubeconfig(cluster: Cluster, *, confined: bool = False) -> Path:
    """The kubeconfig of a datalabd that is run from here; the account and its rights are made if need be.

    A `confined` one sees Secrets in no namespace but `default`, labs' own and those that `open_to_claims` opens.
    """
    path = cluster.directory / "serviceaccounts" / NAMESPACE / f"{FIELD_MANAGER}.kubeconfig"
    if path.exists():
        return path
    cluster.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "deployment" / "namespace.yaml"))
    for part in ("rbac", "local"):
        cluster.kubectl("apply", "--server-side", "-k", str(MANIFESTS / part))
    if confined:
        cluster.kubectl("delete", "clusterrolebinding", rights.CLAIMS)
        open_to_claims(cluster, "default")
    cluster.kubectl("create", "clusterrolebinding", LOCAL, f"--clusterrole={LOCAL}", _SUBJECT)
    cluster.kubectl("create", "rolebinding", LOCAL, "-n", LOCAL_LEASE_NAMESPACE, f"--role={LOCAL}", _SUBJECT)
    return cluster.kubeconfig_for(f"{NAMESPACE}/{FIELD_MANAGER}")


def workspaces_kubeconfig(cluster: Cluster, namespace: str) -> Path:
    """The kubeconfig of a Workspace API for a namespace, which is there; account and rights are made if need be."""
    path = cluster.directory / "serviceaccounts" / namespace / f"{WORKSPACES}.kubeconfig"
    if path.exists():
        return path
    for name in ("roles.yaml", "account.yaml"):
        text = (MANIFESTS / "workspaces" / name).read_text()
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=_in_namespace(text, namespace))
    return cluster.kubeconfig_for(f"{namespace}/{WORKSPACES}")


def _in_namespace(text: str, namespace: str) -> str:
    """Manifests of another namespace; bindings of the whole cluster get a name of their own."""
    manifests = list(yaml.safe_load_all(text))
    for manifest in manifests:
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = namespace
        for subject in manifest.get("subjects", ()):
            subject["namespace"] = namespace
        if manifest["kind"] == "ClusterRoleBinding":
            manifest["metadata"]["name"] += f"-{namespace}"
    return yaml.safe_dump_all(manifests)


def open_to_claims(cluster: Cluster, namespace: str, role: str = rights.CLAIMS) -> None:
    """Let a confined datalabd work for claims of a namespace, or read storage Secrets there."""
    cluster.api.create(rights.binding(ACCOUNT, role, namespace))
