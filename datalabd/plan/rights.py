"""What we may do and where: the roles by name, and the RoleBindings by which a lab's namespaces admit us.

The runtime makes these bindings with its own account, when it makes the namespaces: ours could not, as nobody may grant
what he does not hold.
"""

from datalabd.api.meta import FIELD_MANAGER, Manifest
from datalabd.errors import Denied

RBAC = "rbac.authorization.k8s.io"
CLAIMS = f"{FIELD_MANAGER}-claims"
"""ClusterRole for the namespaces of claims."""
STORAGE = f"{FIELD_MANAGER}-storage"
"""ClusterRole for a shared namespace of storage Secrets."""
LAB = f"{FIELD_MANAGER}-lab"
"""ClusterRole for workshop namespaces."""
SESSION = f"{FIELD_MANAGER}-session"
"""ClusterRole for the namespaces of sessions and of their virtual clusters."""
_SERVICE_ACCOUNT = "system:serviceaccount:"


def binding(account: str, role: str, namespace: str | None = None) -> Manifest:
    """RoleBinding of a ClusterRole, called like it, to a user name; without a namespace where it is listed for one."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role} | ({"namespace": namespace} if namespace else {}),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [_subject(account)],
    }


def missing(claim: Manifest, denied: Denied) -> str:
    """What RBAC does not let us do for a claim, and where it can be granted by namespace, the command that does."""
    namespace = denied.namespace
    if not namespace:
        return f"datalabd may not {denied.what}; apply the roles and bindings of this version again"
    subject, role = _subject(denied.account), role_of(claim, namespace)
    who = (
        f"serviceaccount={subject['namespace']}:{subject['name']}"
        if "namespace" in subject
        else "user=" + subject["name"]
    )
    return (
        f"datalabd may not {denied.what} in namespace {namespace}; where it should, say: "
        f"kubectl create rolebinding {role} -n {namespace} --clusterrole={role} --{who}"
    )


def role_of(claim: Manifest, namespace: str) -> str:
    """The ClusterRole that is to be bound in a namespace, for the sake of a claim."""
    name = str(claim["metadata"]["name"])
    if namespace == claim["metadata"]["namespace"]:
        return CLAIMS
    if namespace == name:
        return LAB
    return SESSION if namespace.startswith(f"{name}-") else STORAGE


def _subject(account: str) -> Manifest:
    if account.startswith(_SERVICE_ACCOUNT):
        namespace, _, name = account.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": RBAC, "kind": "User", "name": account}
