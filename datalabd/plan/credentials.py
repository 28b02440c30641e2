"""Secret `N-datalab`: everything a session needs to reach storage and stores. Secret `N-login`: the lab's own login."""

import base64

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import StorageKeys
from datalabd.plan.metadata import claim_owner, ours

REMOTE = "datalab"
"""Name of the rclone remote: a fixed one, so that no key turns up in logs and paths."""


def credentials(lab: Lab, keys: StorageKeys) -> Manifest:
    """Secret `N-datalab`; Educates copies it into the workshop namespace, csi-rclone finds its configuration there."""
    style = str(lab.environment.data.storage.force_path_style).lower()
    return _secret(
        lab,
        names.credentials(lab.name),
        {
            "remote": REMOTE,
            "remotePath": "/",
            "configData": _rclone(lab, keys, style),
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_REGION": keys.region,
            "AWS_ENDPOINT_URL": keys.endpoint,
            "AWS_S3_FORCE_PATH_STYLE": style,
        },
    )


def login(lab: Lab, password: str) -> Manifest:
    """Secret `N-login` with user name and password; created once, never written again."""
    return _secret(lab, names.login(lab.name), {"username": lab.name, "password": password})


def _secret(lab: Lab, name: str, values: dict[str, str]) -> Manifest:
    return ours(
        lab,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": name, "namespace": lab.namespace, "ownerReferences": [claim_owner(lab)]},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        },
    )


def _rclone(lab: Lab, keys: StorageKeys, force_path_style: str) -> str:
    storage = lab.environment.data.storage
    settings = {
        "type": storage.type,
        "provider": storage.provider,
        "endpoint": keys.endpoint,
        "region": keys.region,
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "force_path_style": force_path_style,
    }
    return "".join([f"[{REMOTE}]\n", *(f"{key} = {value}\n" for key, value in settings.items())])
