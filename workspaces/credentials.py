"""Credentials of a workspace, from the Secrets that hold them. Pure; nothing here is logged or kept."""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from datalabd import names
from datalabd.api.meta import SINCE, Manifest
from datalabd.api.storage import Storage
from datalabd.api.workspace import StoreType
from datalabd.live import dig, text, texts
from workspaces.settings import Settings
from workspaces.sharing import Sharing

SecretOf = Callable[[str], Manifest | None]
"""The Secret of a name, where there is one."""
DEFAULT_REGION = "us-east-1"
MASK = "*" * 10
"""What a password is shown as where it is not asked for."""

_ACCESS = ("AWS_ACCESS_KEY_ID", "access", "attribute.access")
_SECRET = ("AWS_SECRET_ACCESS_KEY", "secret", "attribute.secret")
_ENDPOINT = ("AWS_ENDPOINT_URL", "endpoint", "attribute.endpoint")
_REGION = ("AWS_REGION", "region", "attribute.region")

STORE_MEMBERS: Mapping[StoreType, tuple[str, Mapping[str, str]]] = {
    StoreType.VECTOR: (
        "QDRANT",
        {
            "HOST": "host",
            "PORT": "port",
            "GRPC_PORT": "grpc_port",
            "URL": "url",
            "API_KEY": "api_key",
            "READ_API_KEY": "read_api_key",
        },
    ),
    StoreType.CACHE: (
        "REDIS",
        {
            "HOST": "host",
            "PORT": "port",
            "USER": "username",
            "DATABASE": "database",
            "PASSWORD": "password",
            "URL": "url",
        },
    ),
    StoreType.DOCUMENT: (
        "MONGO",
        {
            "HOST": "host",
            "PORT": "port",
            "DATABASE": "database",
            "AUTH_SOURCE": "auth_source",
            "USER": "username",
            "PASSWORD": "password",
            "URI": "uri",
        },
    ),
}
DATABASE_MEMBERS = {
    "HOST": "host",
    "PORT": "port",
    "USER": "username",
    "PASSWORD": "password",
    "HOST_EXTERNAL": "host_external",
}
_KEYS = {
    kind: re.compile(rf"{prefix}_(.+?)_({'|'.join(sorted(members, key=len, reverse=True))})")
    for kind, (prefix, members) in STORE_MEMBERS.items()
}


def decoded(secret: Manifest | None) -> dict[str, str] | None:
    """The values of a Secret; None where there is none, or one of its values is no text."""
    if secret is None:
        return None
    try:
        values = dig(secret, "data").items()
        return {key: binascii.a2b_base64(value, strict_mode=True).decode() for key, value in values}
    except (TypeError, ValueError):  # no text; no base64, no ASCII, no UTF-8
        return None


def secret_names(storage: Storage, sharing: Sharing, settings: Settings) -> list[str]:
    """Secrets that may hold the workspace's credentials, the first that is whole counts.

    The first is made for the Datalab of that name, unless it is what a Storage of that name has its own keys in.
    """
    if settings.storage_secret:
        return [filled(settings.storage_secret, storage)]
    made = names.credentials(storage.name)
    other = sharing.get(made) is not None or set(sharing.of_principal(made)) - {storage.name}
    return [storage.name] if other else [made, storage.name]


def holders(secret: str, sharing: Sharing, settings: Settings) -> Set[str]:
    """Names of the workspaces whose credentials a Secret of this name may hold."""
    if settings.storage_secret or settings.registry_secret:
        return sharing.names
    return sharing.names & {secret, names.claim_of_credentials(secret)}


def filled(template: str, storage: Storage) -> str:
    """The name that a template stands for."""
    principal = storage.principal or storage.name
    for word, name in (("principal", principal), ("workspace", storage.name)):
        template = template.replace(f"<{word}>", name).replace(f"{{{word}}}", name)
    return template


def storage_credentials(
    storage: Storage, sharing: Sharing, secret: SecretOf, settings: Settings
) -> dict[str, str] | None:
    """Keys of the object storage, as `Credentials`; None until a Secret has all of them."""
    for name in secret_names(storage, sharing, settings):
        found = secret(name)
        if (whole := _whole(storage, decoded(found), settings)) is not None:
            since = text(found, "metadata", "annotations", SINCE)
            return whole | ({"since": since} if since else {})
    return None


def _whole(storage: Storage, values: dict[str, str] | None, settings: Settings) -> dict[str, str] | None:
    if values is None:
        return None
    found = {
        "bucketname": storage.buckets[0].name if storage.buckets else values.get("BUCKET", ""),
        "access": _any(values, _ACCESS),
        "secret": _any(values, _SECRET),
        "endpoint": _any(values, _ENDPOINT) or settings.endpoint,
        "region": _any(values, _REGION) or settings.region or DEFAULT_REGION,
    }
    return found if all(found.values()) else None


def _any(values: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((value for key in keys if (value := values.get(key, "").strip())), "")


def lab_secret(storage: Storage, sharing: Sharing, secret: SecretOf) -> dict[str, str]:
    """What the lab's own Secret holds; empty where there is none that is the lab's."""
    made = names.credentials(storage.name)
    if sharing.get(made) is not None or set(sharing.of_principal(made)) - {storage.name}:
        return {}
    return decoded(secret(made)) or {}


def registry_credentials(
    storage: Storage, sharing: Sharing, secret: SecretOf, settings: Settings
) -> dict[str, str] | None:
    """Login of the container registry, its password in clear; None where there is none."""
    if settings.registry_secret:
        values = decoded(secret(filled(settings.registry_secret, storage))) or {}
        found = {"username": values.get("username", ""), "password": values.get("password", "")}
    else:
        values = lab_secret(storage, sharing, secret)
        found = {
            "username": values.get("CONTAINER_REGISTRY_USERNAME", ""),
            "password": values.get("CONTAINER_REGISTRY_PASSWORD", ""),
        }
    return found if all(found.values()) else None


def store_credentials(
    values: Mapping[str, str], datalab: Manifest | None, types: tuple[StoreType, ...]
) -> dict[str, dict[str, dict[str, Any]]]:
    """How to reach stores of these types, by type and store, of databases by server; what is blank is left out."""
    found = {kind: dict(_of_type(values, datalab, kind)) for kind in types}
    return {str(kind): groups for kind, groups in found.items() if groups}


def _of_type(
    values: Mapping[str, str], datalab: Manifest | None, kind: StoreType
) -> Iterator[tuple[str, dict[str, Any]]]:
    if kind is StoreType.DATABASE:
        yield from _servers(values, datalab)
        return
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if value and (parts := _KEYS[kind].fullmatch(key)):
            name = parts[1].lower().replace("_", "-")
            groups.setdefault(name, {})[STORE_MEMBERS[kind][1][parts[2]]] = value
    yield from sorted(groups.items())


def _servers(values: Mapping[str, str], datalab: Manifest | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for host in dig(datalab, "spec", "databases"):
        group: dict[str, Any] = {
            member: value
            for part, member in DATABASE_MEMBERS.items()
            if (value := values.get(names.variable("POSTGRES", host, part)))
        }
        urls: dict[str, str] = {}
        external: dict[str, str] = {}
        databases = texts(datalab, "spec", "databases", host, "names")
        for database in databases:
            inside, outside = names.database_variables(host, database)
            for variable, known in ((inside, urls), (outside, external)):
                if value := values.get(variable):
                    known[database] = value
        if group or urls or external:
            told = {"databases": ",".join(databases), "urls": urls, "external_urls": external}
            yield host, group | {member: value for member, value in told.items() if value}
