"""Secret `N-datalab`: everything a session needs to reach storage and stores. Secret `N-login`: the lab's own login."""

from collections.abc import Callable
from typing import ParamSpec
from urllib.parse import quote, urlencode, urlsplit

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import DatabaseServer, Lab
from datalabd.observed import Observed, StorageKeys, derived_once
from datalabd.plan import postgres
from datalabd.plan.metadata import beside, opaque
from datalabd.stores import SUPERUSER, DatabaseFacts, DatabaseLogin, StoreFacts, Turn, decoded

REMOTE = "datalab"
"""Name of the rclone remote: a fixed one, so that no key turns up in logs and paths."""
MONGODB_PORT, REDIS_PORT, QDRANT_PORT, QDRANT_GRPC_PORT = "27017", "6379", "6333", "6334"
EXTERNAL_PORT = 443
"""Port of the gateway's listener."""
P = ParamSpec("P")


def credentials(lab: Lab, keys: StorageKeys, seen: Observed) -> Manifest:
    """Secret `N-datalab`; Educates copies it into the workshop namespace, csi-rclone finds its configuration there.

    While the login of a database or store is away, it says of that one what it said before.
    """
    return opaque(lab, beside(lab, names.credentials(lab.name)), values_of(lab, keys, seen))


def values_of(lab: Lab, keys: StorageKeys, seen: Observed) -> dict[str, str]:
    """What that Secret says."""
    values = _storage(lab, keys)
    for server in lab.databases:
        facts = seen.databases.get(server.host, DatabaseFacts())
        values |= _database(lab, server, facts)
        if facts.login is None:
            values |= _said(seen, _login_variables, lab, server)
    for store in lab.document_stores:
        values |= _said(seen, names.document_store_variables, store.key)
        values |= _document_store(lab, store.key, seen.document_stores.get(store.key, StoreFacts()))
    for store in lab.cache_stores:
        values |= _said(seen, names.cache_store_variables, store.key)
        values |= _cache_store(lab, store.key, seen.cache_stores.get(store.key, StoreFacts()))
    for store in lab.vector_stores:
        values |= _said(seen, names.vector_store_variables, store.key)
        values |= _vector_store(lab, store.key, seen.vector_stores.get(store.key, StoreFacts()))
    return values


@derived_once
def desired(lab: Lab, seen: Observed) -> Manifest | None:
    """The same; while the storage keys cannot be read, by those known before, and None if there are none of use."""
    keys = seen.storage or seen.storage_known
    return None if keys is None else credentials(lab, keys, seen)


def login(lab: Lab, password: str, turn: Turn) -> Manifest:
    """Secret `N-login` with user name and password; written once, and once for each rotation."""
    values = {"username": lab.name, "password": password}
    return opaque(lab, beside(lab, names.login(lab.name), turn.annotations()), values)


def _storage(lab: Lab, keys: StorageKeys) -> dict[str, str]:
    style = str(lab.environment.data.storage.force_path_style).lower()
    return {
        "remote": REMOTE,
        "remotePath": "/",
        "configData": _rclone(lab, keys, style),
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_REGION": keys.region,
        "AWS_ENDPOINT_URL": keys.endpoint,
        "AWS_S3_FORCE_PATH_STYLE": style,
    }


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


def _said(seen: Observed, variables: Callable[P, list[str]], *args: P.args, **kwargs: P.kwargs) -> dict[str, str]:
    """What the live Secret says of these variables."""
    if not seen.credentials:
        return {}
    secret = {"data": seen.credentials}
    return {name: value for name in variables(*args, **kwargs) if (value := decoded(secret, name)) is not None}


def _login_variables(lab: Lab, server: DatabaseServer) -> list[str]:
    """Variables that the login of a server is part of."""
    urls = ("URL", "URL_EXTERNAL") if lab.environment.data.database.gateway.is_complete else ("URL",)
    return [
        *(names.variable("POSTGRES", server.host, key) for key in ("HOST", "PORT", "USER", "PASSWORD")),
        *(names.variable("POSTGRES", server.host, database, url) for database in server.databases for url in urls),
    ]


def _host(lab: Lab, service: str) -> str:
    return f"{service}.{names.workshop_namespace(lab.name)}.svc"


def _url(scheme: str, user: str, password: str, host: str, path: str, query: dict[str, str] | None = None) -> str:
    """An address with a login; `host` may have a port."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{login}@{host}/{quote(path, safe='')}" + (f"?{urlencode(query)}" if query else "")


def _database(lab: Lab, server: DatabaseServer, facts: DatabaseFacts) -> dict[str, str]:
    known = facts.login
    host = known.host if known else _host(lab, names.database_services(server.host)[0])
    port = known.port if known else str(postgres.PORT)
    values = {
        "HOST": host,
        "PORT": port,
        "USER": known.user if known else SUPERUSER,
        "PASSWORD": known.password if known else "",
        "DATABASES": ",".join(server.databases),
    }
    exposed = lab.environment.data.database.gateway.is_complete
    if exposed:
        values["HOST_EXTERNAL"] = postgres.external_host(lab, server)
    found = {names.variable("POSTGRES", server.host, key): value for key, value in values.items()}
    if known is None:
        return found
    for database in server.databases:
        url = _database_url(known, database)
        found[names.variable("POSTGRES", server.host, database, "URL")] = url
        if exposed:
            external = _from_outside(url, postgres.external_host(lab, server))
            found[names.variable("POSTGRES", server.host, database, "URL_EXTERNAL")] = external
    return found


def _database_url(login: DatabaseLogin, database: str) -> str:
    """The operator's own address where there is one, which has the login encoded already."""
    if login.uri:
        return urlsplit(login.uri)._replace(path=f"/{quote(database, safe='')}").geturl()
    return _url("postgresql", login.user, login.password, f"{login.host}:{login.port}", database)


def _from_outside(url: str, host: str) -> str:
    """The same database through the gateway, which passes TLS on and so needs a client that starts with it."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    given = parts.query.split("&") if parts.query else []
    present = {item.partition("=")[0] for item in given}
    needed = {"sslmode": "require", "sslnegotiation": "direct"}
    query = "&".join([*given, *(f"{key}={value}" for key, value in needed.items() if key not in present)])
    return parts._replace(netloc=f"{login}@{host}:{EXTERNAL_PORT}", query=query).geturl()


def _document_store(lab: Lab, key: str, facts: StoreFacts) -> dict[str, str]:
    host, user = _host(lab, names.document_store_services(key)[0]), f"{key}-app"
    values = {"HOST": host, "PORT": MONGODB_PORT, "DATABASE": key, "AUTH_SOURCE": "admin", "USER": user}
    if password := facts.auth.get("password"):
        values["PASSWORD"] = password
        values["URI"] = _url("mongodb", user, password, f"{host}:{MONGODB_PORT}", key, {"authSource": "admin"})
    return {names.variable("MONGO", key, suffix): value for suffix, value in values.items()}


def _cache_store(lab: Lab, key: str, facts: StoreFacts) -> dict[str, str]:
    host = _host(lab, names.cache_store_services(key)[0])
    values = {"HOST": host, "PORT": REDIS_PORT, "USER": "default", "DATABASE": "0"}
    if password := facts.auth.get("password"):
        values["PASSWORD"] = password
        values["URL"] = _url("redis", "default", password, f"{host}:{REDIS_PORT}", "0")
    return {names.variable("REDIS", key, suffix): value for suffix, value in values.items()}


def _vector_store(lab: Lab, key: str, facts: StoreFacts) -> dict[str, str]:
    host = _host(lab, names.vector_store_services(key)[0])
    url = f"http://{host}:{QDRANT_PORT}"
    values = {"HOST": host, "PORT": QDRANT_PORT, "GRPC_PORT": QDRANT_GRPC_PORT, "URL": url}
    if facts.auth:
        values |= {"API_KEY": facts.auth["apiKey"], "READ_API_KEY": facts.auth["readApiKey"]}
    return {names.variable("QDRANT", key, suffix): value for suffix, value in values.items()}
