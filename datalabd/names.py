"""Every name and host derived from a claim: one place, so that admission, plan and teardown agree.

Educates fixes most of them (environment = namespace = claim name, session namespace `<environment>-<id>`, hosts of the
session gateway); the rest keep the names that existing installations already use.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

LABEL_MAX = 63
"""Characters of one DNS label: namespaces, Service names, leftmost host labels, label values."""
EVERY_HOST = ""
"""Stands for every host, in the one form in which hosts are compared (`datalabd.routes.hosts`)."""
WORKSHOP_CONFIG = "workshop-config"
"""Secret in the workshop namespace: what sessions are configured with and download. Educates names it."""
POSTGRES_USERS = 63
"""Users of one PostgreSQL server beside PGO's own `postgres`: it refuses a server of more than 64."""
_NOT_IN_VARIABLES = re.compile("[^A-Za-z0-9]")
_POSTGRES_USER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_NO_ROLES = frozenset({"postgres", "public", "none"})
"""PGO's own user, and words that PostgreSQL has no roles of, quoted or not."""


def workshop_namespace(claim: str) -> str:
    """Namespace of the lab's runtime: session pods, volumes, stores. Educates names it like the environment."""
    return claim


def session(claim: str, name: str) -> str:
    """WorkshopSession, its namespace, its Deployment, Service and Ingress."""
    return f"{claim}-{name}"


def vcluster_namespace(claim: str, name: str) -> str:
    """Namespace of the session's virtual cluster."""
    return f"{session(claim, name)}-vc"


def volume(claim: str, name: str) -> str:
    """PersistentVolumeClaim that is the session's home directory."""
    return f"{session(claim, name)}-persistent"


def credentials(claim: str) -> str:
    """Secret with everything a session needs to reach storage and stores; also the csi-rclone volume of that name."""
    return f"{claim}-datalab"


def claim_of_credentials(secret: str) -> str:
    """The claim whose credentials a Secret of this name holds; any other name as it is."""
    return secret.removesuffix(credentials(""))


def login(claim: str) -> str:
    """Secret with the lab's own login, beside the claim."""
    return f"{claim}-login"


def identity_secret_copy(claim: str) -> str:
    """Secret with the same in the workshop namespace, as ingress controllers and programs of the lab read it."""
    return f"{claim}-oauth2-client"


def apisix_secret(claim: str) -> str:
    """Secret of the workshop namespace with what APISIX logs people in by."""
    return f"{claim}-apisix"


def apisix_plugins(claim: str) -> str:
    """ApisixPluginConfig that stands before the lab's sessions."""
    return f"workspace-oidc-{claim}"


ClusterName = tuple[str, str]
"""Kind and name of what is unique in the cluster: a namespace, host or group."""


def cluster_names(
    claim: str, sessions: Sequence[str], databases: Sequence[str]
) -> Iterator[tuple[ClusterName, str, str]]:
    """Every name of a claim that is unique in the cluster, with the field and the part of the lab it comes from."""
    yield ("namespace", workshop_namespace(claim)), "metadata.name", ""
    yield ("host", claim), "metadata.name", ""
    for group in groups(claim):
        yield ("group", group), "metadata.name", ""
    for index, name in enumerate(sessions):
        path = f"spec.sessions[{index}].name"
        for namespace in session_namespaces(claim, name):
            yield ("namespace", namespace), path, name
        for host in session_hosts(claim, name):
            yield ("host", host), path, name
    for host in databases:
        yield ("host", database_host(claim, host)), f"spec.databases[{host}]", f"database {host}"


def own_secrets(claim: str) -> list[str]:
    """Secrets that are made beside the claim."""
    return [credentials(claim), login(claim), identity_secret(claim)]


def inside_secrets(claim: str) -> list[str]:
    """Secrets of the workshop namespace that others make for the lab, or may have made before."""
    return [credentials(claim), WORKSHOP_CONFIG, identity_secret_copy(claim), apisix_secret(claim)]


def session_hosts(claim: str, name: str) -> list[str]:
    """Leftmost labels of the hosts of one session, the main one first; the registry's last."""
    main = session(claim, name)
    return [main, f"editor-{main}", f"{main}-editor", f"data-{main}", f"{main}-data", f"registry-{main}"]


def host_owners(label: str) -> set[str]:
    """Names of labs that have a host with this leftmost label, or would with another session or database server.

    None for more than one label: labs have no such hosts.
    """
    if "." in label:
        return set()
    rests = [label, *(label.removeprefix(part) for part in ("editor-", "data-", "registry-") if label.startswith(part))]
    cuts = [(rest[:at], rest[at + 1 :]) for rest in rests for at, letter in enumerate(rest) if letter == "-"]
    return {label} | {claim for claim, _ in cuts} | {claim for _, claim in cuts}


def session_namespaces(claim: str, name: str) -> list[str]:
    """Namespaces that come and go with one session."""
    return [session(claim, name), vcluster_namespace(claim, name)]


def session_services(claim: str, name: str) -> list[str]:
    """Names of Services (and with them DNS labels) of one session in the workshop namespace."""
    main = session(claim, name)
    return [main, f"{main}-registry", f"data-{main}"]


def database_host(claim: str, host: str) -> str:
    """Leftmost label of a database server's address outside the cluster."""
    return f"{host}-{claim}"


def groups(claim: str) -> list[str]:
    """Keycloak groups: members, administrators."""
    return [claim, f"{claim}-admin"]


def identity_client(claim: str) -> str:
    """Keycloak client through which members of the lab log in."""
    return claim


def identity_secret(claim: str) -> str:
    """Secret with that client's id and secret, beside the claim."""
    return f"{claim}-oauth-client"


ACCESS_ROLE, ADMIN_ROLE, API_ROLE = "ws_access", "ws_admin", "ws_api"
"""Roles of that client: of members, of administrators, of its service account."""


def database_services(host: str) -> list[str]:
    """Services PGO makes for one PostgreSQL server, in the workshop namespace as all stores are."""
    return [f"{host}-{role}" for role in ("primary", "replicas", "pods", "ha", "ha-config")]


def database_login(host: str, user: str) -> str:
    """Secret in which PGO keeps the login of one user of a server."""
    return f"{host}-pguser-{user}"


def postgres_users(users: Sequence[str]) -> list[str]:
    """Those of a lab's users who get a PostgreSQL role of their own, in order and each once.

    The rest go without: PGO refuses a whole server for one name that does not fit.
    """
    return list(_postgres_users(tuple(users)))


@lru_cache(maxsize=64)
def _postgres_users(users: tuple[str, ...]) -> tuple[str, ...]:
    """The same for every server of a lab."""
    return tuple(dict.fromkeys(filter(is_postgres_user, users)))[:POSTGRES_USERS]


def is_postgres_user(user: str) -> bool:
    """Whether a server takes a user of that name as one of a lab's."""
    return user not in _NO_ROLES and _POSTGRES_USER.fullmatch(user) is not None


def database_init(host: str) -> str:
    """ConfigMap with what a server runs once."""
    return f"{host}-init-sql"


def document_store(key: str) -> str:
    """MongoDBCommunity, and its StatefulSet."""
    return f"mongodb-{key}"


def document_store_auth(key: str) -> str:
    """Secret with a MongoDB store's password."""
    return f"{key}-mongodb-auth"


def cache_store_auth(key: str) -> str:
    """Secret with a Redis store's password."""
    return f"{key}-redis-auth"


def cache_store_acl(key: str) -> str:
    """Secret with a Redis store's access list."""
    return f"{key}-redis-acl"


def vector_store_auth(key: str) -> str:
    """Secret with a Qdrant store's keys."""
    return f"{key}-qdrant-auth"


def document_store_services(key: str) -> list[str]:
    """Services of one MongoDB store."""
    return [f"mongodb-{key}-svc"]


def cache_store_services(key: str) -> list[str]:
    """Services of one Redis store; the first is also its StatefulSet."""
    return [key, f"{key}-headless", f"{key}-additional"]


def vector_store_services(key: str) -> list[str]:
    """Services of one Qdrant store; the first is also its StatefulSet."""
    return [f"qdrant-{key}", f"qdrant-{key}-headless"]


def variable(*parts: str) -> str:
    """Environment variable made of the parts: `variable("POSTGRES", "my-db.1", "URL")` is `POSTGRES_MY_DB_1_URL`."""
    text = "_".join(parts)
    usual = text.replace("-", "_").replace(".", "_")
    return (usual if usual.isascii() and usual.isidentifier() else _NOT_IN_VARIABLES.sub("_", text)).upper()


def document_store_variables(key: str) -> list[str]:
    """Variables that tell sessions of one MongoDB store."""
    suffixes = ("HOST", "PORT", "DATABASE", "AUTH_SOURCE", "USER", "PASSWORD", "URI")
    return [variable("MONGO", key, suffix) for suffix in suffixes]


def cache_store_variables(key: str) -> list[str]:
    """Variables that tell sessions of one Redis store."""
    return [variable("REDIS", key, suffix) for suffix in ("HOST", "PORT", "USER", "DATABASE", "PASSWORD", "URL")]


def vector_store_variables(key: str) -> list[str]:
    """Variables that tell sessions of one Qdrant store."""
    suffixes = ("HOST", "PORT", "GRPC_PORT", "URL", "API_KEY", "READ_API_KEY")
    return [variable("QDRANT", key, suffix) for suffix in suffixes]


def database_server_variables(host: str) -> list[str]:
    """Variables that tell sessions of one PostgreSQL server."""
    suffixes = ("HOST", "PORT", "USER", "PASSWORD", "DATABASES", "HOST_EXTERNAL")
    return [variable("POSTGRES", host, suffix) for suffix in suffixes]


def database_variables(host: str, name: str) -> list[str]:
    """Variables that tell sessions of one database of a server."""
    url = variable("POSTGRES", host, name, "URL")
    return [url, f"{url}_EXTERNAL"]
