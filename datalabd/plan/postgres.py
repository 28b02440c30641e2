"""PostgreSQL servers: a PostgresCluster with what it runs once, and its route from outside."""

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import DatabaseServer, Lab
from datalabd.plan import backups, rotation
from datalabd.plan.backups import REPOSITORY
from datalabd.plan.metadata import digest, inside, ours
from datalabd.plan.postgres_roles import init_sql
from datalabd.plan.volumes import claim_spec, grown
from datalabd.stores import ACTIVE_ROLE, INITIALISED, SUPERUSER, DatabaseFacts, roles

POSTGRES_VERSION, POSTGIS_VERSION = 17, "3.5"
PORT = 5432
INIT_KEY = "init.sql"
USERS_MAX = 64
"""PGO refuses more; admission has said so."""


def initialisation(lab: Lab, server: DatabaseServer) -> Manifest:
    """ConfigMap `H-init-sql`."""
    data = {INIT_KEY: _script(lab, server)}
    metadata = inside(lab, names.database_init(server.host))
    return ours(lab, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def postgres_cluster(lab: Lab, server: DatabaseServer, seen: DatabaseFacts) -> Manifest:
    """PostgresCluster `H`: one instance, daily backups beside it, a role for every member."""
    data = grown(server.storage, server.storage_class, seen.data)
    backup = grown(server.backup_storage, server.backup_storage_class, seen.backup)
    return ours(
        lab,
        {
            "apiVersion": "postgres-operator.crunchydata.com/v1",
            "kind": "PostgresCluster",
            "metadata": inside(lab, server.host, _annotations(lab, server, seen)),
            "spec": {
                "postgresVersion": POSTGRES_VERSION,
                "postGISVersion": POSTGIS_VERSION,
                **_initial(lab, server, seen),
                "instances": [
                    {
                        "name": "primary",
                        "replicas": 1,
                        "dataVolumeClaimSpec": claim_spec(data.storage, data.storage_class),
                    }
                ],
                "backups": {
                    "pgbackrest": _repository(claim_spec(backup.storage, backup.storage_class))
                    | backups.pgbackrest(lab, server.host, seen)
                },
                **backups.data_source(lab, server.host, seen),
                "users": _users(lab, server),
            },
        },
    )


def route(lab: Lab, server: DatabaseServer) -> Manifest:
    """TLSRoute `H`: the gateway hands the connection on as it is, so clients start with TLS."""
    gateway = lab.environment.data.database.gateway
    return ours(
        lab,
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "TLSRoute",
            "metadata": inside(lab, server.host),
            "spec": {
                "parentRefs": [
                    {
                        "name": gateway.parent_name,
                        "namespace": gateway.parent_namespace,
                        "sectionName": gateway.section_name,
                    }
                ],
                "hostnames": [external_host(lab, server)],
                "rules": [
                    {"backendRefs": [{"name": names.database_services(server.host)[0], "port": PORT}]},
                ],
            },
        },
    )


def external_host(lab: Lab, server: DatabaseServer) -> str:
    """Host by which the server is reached from outside."""
    return f"{names.database_host(lab.name, server.host)}.{lab.environment.data.ingress.domain}"


def _script(lab: Lab, server: DatabaseServer) -> str:
    return init_sql(server.databases, superuser=lab.environment.data.database.superuser)


def _initial(lab: Lab, server: DatabaseServer, seen: DatabaseFacts) -> Manifest:
    """What PGO is to run. It does so once, and again only after it was told of nothing and has forgotten."""
    if _runs_again(lab, server, seen) and seen.initialised:
        return {}
    return {"databaseInitSQL": {"name": names.database_init(server.host), "key": INIT_KEY}}


def _runs_again(lab: Lab, server: DatabaseServer, seen: DatabaseFacts) -> bool:
    """Whether what ran is not what should have: a database came later, or the environment changed its mind."""
    if seen.age_seconds is None or (lab.environment.data.database.superuser and not seen.initialised_for):
        return False
    return seen.initialised_for != digest(_script(lab, server))


def _annotations(lab: Lab, server: DatabaseServer, seen: DatabaseFacts) -> dict[str, str]:
    found = backups.annotations(lab, server.host, seen)
    if lab.environment.data.database.superuser and not seen.initialised_for:
        return found
    forgets = _runs_again(lab, server, seen) and seen.initialised
    found |= {INITIALISED: seen.initialised_for if forgets else digest(_script(lab, server))}
    role = rotation.database_role(lab, server, seen)
    return {key: value for key, value in found.items() if value} | ({} if role == SUPERUSER else {ACTIVE_ROLE: role})


def _users(lab: Lab, server: DatabaseServer) -> list[Manifest]:
    databases = list(server.databases)
    handed = [{"name": role, "databases": databases} for role in roles(lab)]
    members = [user for user in names.postgres_users(lab.claim.spec.users) if user not in roles(lab)]
    entries: list[Manifest] = [*handed, *({"name": user} for user in members)]
    return entries[:USERS_MAX]


def _repository(volume: Manifest) -> Manifest:
    return {
        "global": {
            f"{REPOSITORY}-retention-full-type": "count",
            f"{REPOSITORY}-retention-full": "4",
            f"{REPOSITORY}-path": f"/pgbackrest/{REPOSITORY}",
        },
        "repos": [
            {
                "name": REPOSITORY,
                "schedules": {"full": "0 1 * * 0", "differential": "0 1 * * 1-6"},
                "volume": {"volumeClaimSpec": volume},
            }
        ],
    }
