import base64
from dataclasses import replace

import pytest

from datalabd.api.meta import Manifest
from datalabd.plan.credentials import credentials, login
from datalabd.plan.metadata import ours
from tests.factories import KEYS, OWNER, environment, lab

RCLONE = """\
[datalab]
type = s3
provider = Other
endpoint = https://s3.example.org
region = here
access_key_id = access
secret_access_key = storage-secret
force_path_style = true
"""


def secret(name: str, **values: str) -> Manifest:
    """A Secret of ours beside the claim."""
    return ours(
        lab(),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": name, "namespace": "team", "ownerReferences": [OWNER]},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        },
    )


def test_credentials() -> None:
    assert credentials(lab(), KEYS) == secret(
        "lab-datalab",
        remote="datalab",
        remotePath="/",
        configData=RCLONE,
        AWS_ACCESS_KEY_ID="access",
        AWS_SECRET_ACCESS_KEY="storage-secret",
        AWS_REGION="here",
        AWS_ENDPOINT_URL="https://s3.example.org",
        AWS_S3_FORCE_PATH_STYLE="true",
    )


def value(made: Manifest, key: str) -> str:
    """One value of a Secret."""
    return base64.b64decode(made["data"][key]).decode()


def test_the_environment_says_what_kind_of_storage_it_is() -> None:
    storage = {"type": "s3", "provider": "Minio", "force_path_style": False}
    made = credentials(lab(environment(storage=storage)), KEYS)
    wanted = RCLONE.replace("Other", "Minio").replace("style = true", "style = false")
    assert (value(made, "configData"), value(made, "AWS_S3_FORCE_PATH_STYLE")) == (wanted, "false")


@pytest.mark.parametrize("odd", ["a]b", "a=b", "é", "%s", "a#b;c"])
def test_odd_keys_are_kept_as_they_are(odd: str) -> None:
    made = credentials(lab(), replace(KEYS, access_key=odd))
    assert f"\naccess_key_id = {odd}\n" in value(made, "configData")


def test_login() -> None:
    assert login(lab(), "chosen") == secret("lab-login", username="lab", password="chosen")
