"""Educates' secrets-manager: which Secret a SecretCopier copies where, and by what account."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.kube.client import Client, path
from datalabd.kube.resources import SERVICE_ACCOUNTS, Resource
from hack.standins.crds import OPERATOR_NAMESPACE, SECRETS_ACCOUNT

SECRET_COPIERS = Resource("secrets.educates.dev/v1beta1", "secretcopiers", "SecretCopier", namespaced=False)
COPIED_FROM = "secrets.educates.dev/secret-name"
"""Annotation of a copy: `<namespace>/<name>` of its source. A Secret that names another is never overwritten."""
COPIER_RULE = "secrets.educates.dev/copier-rule"
"""Annotation of a copy: by which SecretCopier it was made. A Secret that names another is never overwritten."""
TOKEN_SECONDS = 365 * 24 * 3600
"""For how long the account is played: one token is asked for."""


@contextlib.asynccontextmanager
async def secrets_manager(client: Client, kubeconfig: Path) -> AsyncIterator[Client]:
    """A client of Educates' second operator, which copies Secrets and may do nothing with sessions.

    `client` may ask for a token of its account, which `install` makes; `kubeconfig` says where the API server is.
    """
    wanted = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    }
    account = path(SERVICE_ACCOUNTS, OPERATOR_NAMESPACE, SECRETS_ACCOUNT, "token")
    token = (await client.request("POST", account, body=wanted))["status"]["token"]
    with _kubeconfig(kubeconfig, token) as own:
        copying = await Client.connect(own, user_agent="standins")
        try:
            yield copying
        finally:
            await copying.close()


@contextlib.contextmanager
def _kubeconfig(file: Path, token: str) -> Iterator[str]:
    """The path of the same kubeconfig with this token; a file that only we may read."""
    config = yaml.safe_load(file.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as own:
        yaml.safe_dump(config, own)
        own.flush()
        yield own.name


class Copy(NamedTuple):
    """One Secret to be copied."""

    source: NamespacedName
    target: NamespacedName
    labels: dict[str, str]
    owned: bool
    """Whether the copy goes with its SecretCopier; it never goes with its source."""


def copier(name: str, secrets: list[Manifest], namespace: str) -> Manifest:
    """A SecretCopier that copies `{name, namespace, labels, as}` into one namespace."""
    rules = [
        {
            "sourceSecret": {"name": secret["name"], "namespace": secret["namespace"]},
            "targetNamespaces": {"nameSelector": {"matchNames": [namespace]}},
            "targetSecret": {"name": secret.get("as", secret["name"]), "labels": secret.get("labels") or {}},
            "reclaimPolicy": "Delete",
        }
        for secret in secrets
    ]
    return {
        "apiVersion": SECRET_COPIERS.api_version,
        "kind": SECRET_COPIERS.kind,
        "metadata": {"name": name},
        "spec": {"rules": rules},
    }


def copies(secret_copier: Manifest) -> Iterator[Copy]:
    """What a SecretCopier asks for. Of the ways to choose namespaces only names are played, without wildcards."""
    for rule in secret_copier.get("spec", {}).get("rules") or []:
        source = NamespacedName(rule["sourceSecret"]["namespace"], rule["sourceSecret"]["name"])
        target = rule.get("targetSecret") or {}
        for namespace in rule.get("targetNamespaces", {}).get("nameSelector", {}).get("matchNames", []):
            yield Copy(
                source,
                NamespacedName(namespace, target.get("name") or source.name),
                target.get("labels") or {},
                rule.get("reclaimPolicy", "Delete") == "Delete",
            )


def copied(copy: Copy, source: Manifest, secret_copier: Manifest) -> Manifest:
    """The copy as it is to be."""
    owner = {
        "apiVersion": SECRET_COPIERS.api_version,
        "kind": SECRET_COPIERS.kind,
        "name": secret_copier["metadata"]["name"],
        "uid": secret_copier["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": copy.target.name,
            "namespace": copy.target.namespace,
            "labels": copy.labels,
            "annotations": {
                COPIER_RULE: f"secretcopier/{secret_copier['metadata']['name']}",
                COPIED_FROM: str(copy.source),
            },
            "ownerReferences": [owner] if copy.owned else [],
        },
        "type": source.get("type", "Opaque"),
        "data": source.get("data") or {},
    }


def is_of_another(live: Manifest, wanted: Manifest) -> bool:
    """Whether what is there in place of a copy says of itself that it was made otherwise."""
    have, want = live["metadata"].get("annotations") or {}, wanted["metadata"]["annotations"]
    return any(have.get(key, text) != text for key, text in want.items())
