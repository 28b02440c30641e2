"""Credentials: from the first Secret that is whole, and from none that is another's (WS 6.13 to 6.15)."""

from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.storage import read
from datalabd.api.workspace import StoreType
from tests.workspaces.objects import KEYS, SETTINGS, TODAY, datalab, secret, storage
from workspaces import credentials
from workspaces.settings import Settings
from workspaces.sharing import Sharing

ALL = tuple(StoreType)
FOUND = {"bucketname": "ws-a", "access": "AK", "secret": "SK", "endpoint": "https://s3.example", "region": "us-east-1"}


def keys(
    *secrets: Manifest, settings: Settings = SETTINGS, live: Manifest | None = None, others: tuple[Manifest, ...] = ()
) -> dict[str, str] | None:
    live = storage() if live is None else live
    known = {found["metadata"]["name"]: found for found in secrets}
    return credentials.storage_credentials(read(live), Sharing([live, *others]), known.get, settings)


def test_keys_of_the_lab_come_first_if_they_are_whole() -> None:
    whole = secret("ws-a-datalab", **KEYS | {"AWS_ACCESS_KEY_ID": "LAB"})
    assert keys(whole, secret("ws-a", **KEYS)) == FOUND | {"access": "LAB"}
    part = secret("ws-a-datalab", AWS_ACCESS_KEY_ID="LAB", remote="x")
    assert keys(part, secret("ws-a", **KEYS)) == FOUND
    assert keys(part) is None
    assert keys() is None


@pytest.mark.parametrize("value", ["/w==", "no base64!", 5, None, "ä"])
def test_a_secret_with_a_value_that_is_no_text_counts_for_nothing(value: Any) -> None:
    odd = secret("ws-a-datalab", **KEYS)
    odd["data"]["file"] = value
    assert keys(odd, secret("ws-a", **KEYS)) == FOUND


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"access": "a", "secret": "s", "endpoint": "e", "region": "r"}, ("a", "s", "e", "r")),
        (
            {"attribute.access": "a", "attribute.secret": "s", "attribute.endpoint": "e", "attribute.region": "r"},
            ("a", "s", "e", "r"),
        ),
        (KEYS | {"AWS_ACCESS_KEY_ID": " ", "access": "a"}, ("a", "SK", "https://s3.example", "us-east-1")),
    ],
)
def test_keys_have_other_names_too(values: dict[str, str], expected: tuple[str, ...]) -> None:
    found = keys(secret("ws-a", **values))
    assert found is not None
    assert tuple(found[name] for name in ("access", "secret", "endpoint", "region")) == expected


def test_what_a_secret_does_not_say_the_settings_do() -> None:
    settings = replace(SETTINGS, endpoint="https://mine", region="here")
    found = keys(secret("ws-a", access="a", secret="s"), settings=settings)
    assert found == {"bucketname": "ws-a", "access": "a", "secret": "s", "endpoint": "https://mine", "region": "here"}


def test_without_buckets_the_secret_names_one() -> None:
    live = storage(buckets=[])
    assert keys(secret("ws-a", **KEYS), live=live) is None
    found = keys(secret("ws-a", **KEYS | {"BUCKET": "b"}), live=live)
    assert found is not None
    assert found["bucketname"] == "b"


def test_since_when_they_are_as_they_are() -> None:
    assert keys(secret("ws-a", since=TODAY, **KEYS)) == FOUND | {"since": TODAY}


def test_keys_of_another_storage_are_not_taken_for_the_labs() -> None:
    """Workspace `ws-a-datalab` keeps its own keys where the lab of `ws-a` would have its own."""
    theirs, own = secret("ws-a-datalab", **KEYS | {"AWS_ACCESS_KEY_ID": "THEIRS"}), secret("ws-a", **KEYS)
    assert keys(theirs, own, others=(storage("ws-a-datalab"),)) == FOUND
    assert keys(theirs, own, others=(storage("ws-x", principal="ws-a-datalab"),)) == FOUND
    sharing = Sharing([storage(), storage("ws-a-datalab")])
    assert credentials.lab_secret(read(storage()), sharing, {"ws-a-datalab": theirs}.get) == {}


@pytest.mark.parametrize(
    ("template", "name"),
    [("<principal>", "p-a"), ("x-{principal}", "x-p-a"), ("<workspace>-s3", "ws-a-s3"), ("fixed", "fixed")],
)
def test_a_template_names_the_secret(template: str, name: str) -> None:
    settings = replace(SETTINGS, storage_secret=template)
    live = storage(principal="p-a")
    assert keys(secret(name, **KEYS), settings=settings, live=live) == FOUND
    assert keys(secret("ws-a", **KEYS), settings=settings, live=live) is None
    assert credentials.filled("<principal>", read(storage(principal=""))) == "ws-a"


def registry(*secrets: Manifest, settings: Settings = SETTINGS) -> dict[str, str] | None:
    known = {found["metadata"]["name"]: found for found in secrets}
    return credentials.registry_credentials(read(storage()), Sharing([storage()]), known.get, settings)


def test_the_login_of_the_registry() -> None:
    said = {"CONTAINER_REGISTRY_USERNAME": "u", "CONTAINER_REGISTRY_PASSWORD": "p"}
    assert registry(secret("ws-a-datalab", **said)) == {"username": "u", "password": "p"}
    assert registry(secret("ws-a-datalab", CONTAINER_REGISTRY_USERNAME="u")) is None
    settings = replace(SETTINGS, registry_secret="<workspace>-registry")
    own = secret("ws-a-registry", username="u", password="p")
    assert registry(own, settings=settings) == {"username": "u", "password": "p"}
    assert registry(settings=settings) is None


VALUES = {
    "POSTGRES_PG0_HOST": "h",
    "POSTGRES_PG0_PORT": "5432",
    "POSTGRES_PG0_USER": "u",
    "POSTGRES_PG0_PASSWORD": "p",
    "POSTGRES_PG0_HOST_EXTERNAL": "x",
    "POSTGRES_PG0_DEV_URL": "postgresql://dev",
    "POSTGRES_PG0_DEV_URL_EXTERNAL": "postgresql://x/dev",
    "MONGO_MY_DOCS_HOST": "h",
    "MONGO_MY_DOCS_PORT": "27017",
    "MONGO_MY_DOCS_DATABASE": "d",
    "MONGO_MY_DOCS_AUTH_SOURCE": "a",
    "MONGO_MY_DOCS_USER": "u",
    "MONGO_MY_DOCS_PASSWORD": "p",
    "MONGO_MY_DOCS_URI": "mongodb://",
    "REDIS_C_HOST": "h",
    "REDIS_C_PORT": "6379",
    "REDIS_C_USER": "u",
    "REDIS_C_DATABASE": "0",
    "REDIS_C_PASSWORD": "p",
    "REDIS_C_URL": "redis://",
    "QDRANT_V_HOST": "h",
    "QDRANT_V_PORT": "6333",
    "QDRANT_V_GRPC_PORT": "6334",
    "QDRANT_V_URL": "http://",
    "QDRANT_V_API_KEY": "k",
    "QDRANT_V_READ_API_KEY": "r",
    "QDRANT_B_HOST": "",
    "REDIS_OTHER": "x",
}


def test_how_to_reach_stores() -> None:
    """WS 6.13 to 6.15: by kind, then by store; databases by server."""
    live = datalab(databases={"pg0": {"names": ["dev", "prod"]}, "pg1": {"names": ["x"]}})
    assert credentials.store_credentials(VALUES, live, ALL) == {
        "database": {
            "pg0": {
                "host": "h",
                "port": "5432",
                "username": "u",
                "password": "p",
                "host_external": "x",
                "databases": "dev,prod",
                "urls": {"dev": "postgresql://dev"},
                "external_urls": {"dev": "postgresql://x/dev"},
            }
        },
        "vector": {
            "v": {
                "host": "h",
                "port": "6333",
                "grpc_port": "6334",
                "url": "http://",
                "api_key": "k",
                "read_api_key": "r",
            }
        },
        "cache": {
            "c": {"host": "h", "port": "6379", "username": "u", "database": "0", "password": "p", "url": "redis://"}
        },
        "document": {
            "my-docs": {
                "host": "h",
                "port": "27017",
                "database": "d",
                "auth_source": "a",
                "username": "u",
                "password": "p",
                "uri": "mongodb://",
            }
        },
    }


def test_a_password_alone_is_told() -> None:
    """WS 6.14."""
    live = datalab(databases={"pg0": {"names": ["dev"]}})
    found = credentials.store_credentials({"POSTGRES_PG0_PASSWORD": "p"}, live, ALL)
    assert found == {"database": {"pg0": {"password": "p", "databases": "dev"}}}


def test_kinds_that_cannot_be_had_are_not_told() -> None:
    assert credentials.store_credentials(VALUES, None, (StoreType.DATABASE,)) == {}
