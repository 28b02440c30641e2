"""What PGO makes of a PostgresCluster: pure functions."""

import base64
import datetime
import hashlib
import hmac
import secrets
import string
from typing import Any
from urllib.parse import quote, urlencode

from datalabd.api.meta import Manifest
from datalabd.kube.resources import STATEFUL_SETS
from hack.standins.statefulsets import secret, values
from webhooks.certificates import issue

PREFIX = "postgres-operator.crunchydata.com"
CLUSTER = f"{PREFIX}/cluster"
INSTANCE = f"{PREFIX}/instance"
INSTANCE_SET = f"{PREFIX}/instance-set"
ROLE = f"{PREFIX}/role"
DATA = f"{PREFIX}/data"
USER = f"{PREFIX}/pguser"
PGBACKREST = f"{PREFIX}/pgbackrest"
BACKUP = f"{PREFIX}/pgbackrest-backup"
"""Label of backup Jobs, telling their kind; annotation of a PostgresCluster that asks for a manual one."""
RESTORE = f"{PREFIX}/pgbackrest-restore"
"""Label of restore Jobs; annotation of a PostgresCluster that asks for an in-place restore."""
REPOSITORY = f"{PREFIX}/pgbackrest-repo"
DEDICATED = f"{PREFIX}/pgbackrest-dedicated"

IMAGE = "registry.example.org/crunchy-postgres:standin"
PORT = 5432
ALPHANUMERIC = string.ascii_letters + string.digits
ASCII = "".join(chr(code) for code in range(40, 127) if chr(code) not in "`\\")
"""What PGO makes passwords of unless told otherwise: most of it means something in an address."""
ITERATIONS = 4096


def name_of(live: Manifest) -> str:
    """Name of a PostgresCluster."""
    return str(live["metadata"]["name"])


def marks(live: Manifest, **labels: str) -> Manifest:
    """Metadata of what is made for a PostgresCluster. Its own labels are not handed on, those it lists are."""
    listed = live["spec"].get("metadata") or {}
    return {
        "labels": (listed.get("labels") or {}) | {CLUSTER: name_of(live)} | labels,
        "annotations": listed.get("annotations") or {},
    }


def backup_marks(live: Manifest, **labels: str) -> Manifest:
    """The same for what concerns backups."""
    found = marks(live, **{PGBACKREST: ""} | labels)
    listed = pgbackrest(live).get("metadata") or {}
    return {
        "labels": (listed.get("labels") or {}) | found["labels"],
        "annotations": found["annotations"] | (listed.get("annotations") or {}),
    }


def pgbackrest(live: Manifest) -> Manifest:
    """`spec.backups.pgbackrest`."""
    found: Manifest = (live["spec"].get("backups") or {}).get("pgbackrest") or {}
    return found


def users(live: Manifest) -> list[Manifest]:
    """The users asked for: one with one database, both named like the cluster, where nothing is said."""
    name = name_of(live)
    found: list[Manifest] = live["spec"].get("users", [{"name": name, "databases": [name]}])
    return found


def databases(live: Manifest) -> list[str]:
    """The databases asked for by any user, sorted."""
    return sorted({database for user in users(live) for database in user.get("databases") or []})


# ---- Secrets


def user_secret(live: Manifest, user: Manifest, existing: Manifest | None, port: int) -> Manifest:
    """Secret `<cluster>-pguser-<user>`: a password that is there is kept, and without its verifier gets a new one."""
    cluster, name = name_of(live), user["name"]
    known = values(existing) if existing else {}
    password, verifier = known.get("password", ""), known.get("verifier", "")
    if not password:
        alphabet = ALPHANUMERIC if (user.get("password") or {}).get("type") == "AlphaNumeric" else ASCII
        password, verifier = "".join(secrets.choice(alphabet) for _ in range(24)), ""
    host = f"{cluster}-primary.{live['metadata']['namespace']}.svc"
    data = {
        "host": host,
        "port": str(port),
        "user": name,
        "password": password,
        "verifier": verifier or scram_verifier(password, secrets.token_bytes(16)),
    }
    if listed := user.get("databases"):
        login = f"{quote(name, safe='$&+,;=')}:{quote(password, safe='$&+,;=')}"
        address = f"{host}:{port}/{quote(listed[0], safe='$&+,/:;=@')}"
        query = urlencode({"password": password, "user": name})
        data |= {
            "dbname": listed[0],
            "uri": f"postgresql://{login}@{address}",
            "jdbc-uri": f"jdbc:postgresql://{address}?{query}",
        }
    return secret(f"{cluster}-pguser-{name}", data, **marks(live, **{ROLE: "pguser", USER: name}))


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL stores in place of an ASCII password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt_text}${stored_text}:{server_text}"


def certificates(live: Manifest) -> list[Manifest]:
    """Secrets `<cluster>-cluster-cert` and `<cluster>-pgbackrest`, with certificates made now."""
    cluster, namespace = name_of(live), live["metadata"]["namespace"]
    hosts = [f"{cluster}-{role}.{namespace}.svc" for role in ("primary", "replicas")]
    bundle = issue(hosts, datetime.datetime.now(datetime.UTC))
    authority, certificate, key = (part.decode() for part in (bundle.ca, bundle.certificate, bundle.key))
    return [
        secret(
            f"{cluster}-cluster-cert",
            {"ca.crt": authority, "tls.crt": certificate, "tls.key": key},
            **marks(live, **{f"{PREFIX}/cluster-certificate": "postgres-tls"}),
        ),
        secret(
            f"{cluster}-pgbackrest",
            {
                "pgbackrest.ca-roots": authority,
                "pgbackrest-client.crt": certificate,
                "pgbackrest-client.key": key,
                "pgbackrest-repo-host.crt": certificate,
                "pgbackrest-repo-host.key": key,
            },
            **backup_marks(live, **{f"{PREFIX}/pgbackrest-config": ""}),
        ),
    ]


# ---- Workloads


def services(live: Manifest) -> list[Manifest]:
    """All Services of a cluster; those without a selector get their endpoints from elsewhere."""
    cluster = name_of(live)
    port = {"name": "postgres", "port": live["spec"].get("port", PORT), "targetPort": "postgres", "protocol": "TCP"}
    every = {CLUSTER: cluster}
    kinds: dict[str, tuple[Manifest, Manifest]] = {
        "primary": ({ROLE: "primary"}, {"clusterIP": "None", "ports": [port]}),
        "replicas": ({ROLE: "replica"}, {"selector": every | {ROLE: "replica"}, "ports": [port]}),
        "pods": ({}, {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": every}),
        "ha": ({f"{PREFIX}/patroni": f"{cluster}-ha"}, {"ports": [port]}),
        "ha-config": ({f"{PREFIX}/patroni": f"{cluster}-ha"}, {"clusterIP": "None"}),
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"{cluster}-{suffix}"} | marks(live, **labels),
            "spec": {"type": "ClusterIP"} | spec,
        }
        for suffix, (labels, spec) in kinds.items()
    ]


def data_volume(live: Manifest, instance_set: Manifest, instance: str) -> Manifest:
    """The claim of one instance."""
    labels = {INSTANCE_SET: instance_set["name"], INSTANCE: instance, ROLE: "pgdata", DATA: "postgres"}
    return _claim(f"{instance}-pgdata", marks(live, **labels), instance_set["dataVolumeClaimSpec"])


def repository_volume(live: Manifest, repository: Manifest) -> Manifest:
    """The claim of one repository of backups."""
    labels = {REPOSITORY: repository["name"], f"{PREFIX}/pgbackrest-volume": "", DATA: "pgbackrest"}
    name = f"{name_of(live)}-{repository['name']}"
    return _claim(name, backup_marks(live, **labels), repository["volume"]["volumeClaimSpec"])


def _claim(name: str, metadata: Manifest, spec: Manifest) -> Manifest:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name} | metadata, "spec": spec}


def instance_set(live: Manifest, instance_set: Manifest, instance: str, replicas: int) -> Manifest:
    """The StatefulSet of one instance; it never has more than one pod."""
    cluster = name_of(live)
    selector = {CLUSTER: cluster, INSTANCE_SET: instance_set["name"], INSTANCE: instance}
    labels = selector | {DATA: "postgres", f"{PREFIX}/patroni": f"{cluster}-ha"}
    container = {
        "name": "database",
        "image": live["spec"].get("image", IMAGE),
        "ports": [{"name": "postgres", "containerPort": live["spec"].get("port", PORT), "protocol": "TCP"}],
    }
    volumes = [
        _mounted("postgres-data", f"{instance}-pgdata"),
        {"name": "cert-volume", "secret": {"secretName": f"{cluster}-cluster-cert"}},
    ]
    return _stateful_set(live, instance, marks(live, **labels), selector, container, volumes, replicas)


def repository_host(live: Manifest, replicas: int) -> Manifest:
    """StatefulSet `<cluster>-repo-host`, to which instances, backups and restores of other clusters connect."""
    cluster = name_of(live)
    selector = {CLUSTER: cluster, PGBACKREST: "", DEDICATED: ""}
    metadata = backup_marks(live, **selector | {DATA: "pgbackrest"})
    container = {"name": "pgbackrest", "image": pgbackrest(live).get("image", IMAGE)}
    volumes = [
        *(_mounted(entry["name"], f"{cluster}-{entry['name']}") for entry in volume_repositories(live)),
        {"name": "pgbackrest-server", "secret": {"secretName": f"{cluster}-pgbackrest"}},
    ]
    return _stateful_set(live, f"{cluster}-repo-host", metadata, selector, container, volumes, replicas)


def volume_repositories(live: Manifest) -> list[Manifest]:
    """Repositories that are a volume, as opposed to a bucket."""
    return [repository for repository in pgbackrest(live).get("repos") or [] if "volume" in repository]


def _mounted(name: str, claim: str) -> Manifest:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def _stateful_set(
    live: Manifest,
    name: str,
    metadata: Manifest,
    selector: Manifest,
    container: Manifest,
    volumes: list[Manifest],
    replicas: int,
) -> Manifest:
    return {
        "apiVersion": STATEFUL_SETS.api_version,
        "kind": STATEFUL_SETS.kind,
        "metadata": {"name": name} | metadata,
        "spec": {
            "serviceName": f"{name_of(live)}-pods",
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "template": {"metadata": metadata, "spec": {"containers": [container], "volumes": volumes}},
        },
    }


def job(live: Manifest, name: str, metadata: Manifest, volumes: list[Manifest]) -> Manifest:
    """A Job of pgBackRest. Unlike PGO's it is not tried seven times over ten minutes before it counts as failed."""
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "pgbackrest", "image": pgbackrest(live).get("image", IMAGE)}],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name} | metadata,
        "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": pod}},
    }


def backup_job(live: Manifest, name: str, repository: str, kind: str, identity: str = "") -> Manifest:
    """A backup; a manual one is annotated with what asked for it."""
    metadata = backup_marks(live, **{REPOSITORY: repository, BACKUP: kind})
    if identity:
        metadata["annotations"] = metadata["annotations"] | {BACKUP: identity}
    return job(live, name, metadata, [])


def restore_job(live: Manifest, instance: str) -> Manifest:
    """Job `<cluster>-pgbackrest-restore`, which fills the volume of an instance that does not exist meanwhile."""
    metadata = backup_marks(live, **{RESTORE: "", f"{PREFIX}/startup-instance": instance})
    volumes = [_mounted("postgres-data", f"{instance}-pgdata")]
    return job(live, f"{name_of(live)}-pgbackrest-restore", metadata, volumes)


# ---- SQL


def database_script(names: list[str]) -> str:
    """Creates databases that are absent."""
    return "".join(
        f"SELECT {_literal(f'CREATE DATABASE {identifier(name)}')} "
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {_literal(name)}) \\gexec\n"
        for name in names
    )


def user_script(live: Manifest, verifiers: dict[str, str]) -> str:
    """Creates roles that are absent, sets options and passwords of all, and grants them their databases."""
    lines = []
    for user in users(live):
        name, granted, options = user["name"], user.get("databases") or [], user.get("options", "")
        if name == "postgres":
            granted, options = ["postgres"], "LOGIN SUPERUSER"
        role = identifier(name)
        lines += [
            f"SELECT {_literal(f'CREATE USER {role}')} "
            f"WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {_literal(name)}) \\gexec",
            f"ALTER ROLE {role} WITH {options} PASSWORD {_literal(verifiers[name])};",
            *(f"GRANT ALL PRIVILEGES ON DATABASE {identifier(database)} TO {role};" for database in granted),
        ]
    return "\n".join(["BEGIN;", *lines, "COMMIT;", ""])


def identifier(name: str) -> str:
    """The name as SQL takes it, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def revision(script: str) -> str:
    """What PGO remembers of a script that it ran."""
    return hashlib.sha256(script.encode()).hexdigest()[:10]


# ---- Status


def condition(
    conditions: list[Manifest], live: Manifest, kind: str, status: str, reason: str, message: str
) -> list[Manifest]:
    """The conditions with one of them set; it keeps its time unless its status differs."""
    before = next((entry for entry in conditions if entry["type"] == kind), None)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry: dict[str, Any] = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": live["metadata"]["generation"],
        "lastTransitionTime": before["lastTransitionTime"] if before and before["status"] == status else now,
    }
    return [entry if other is before else other for other in conditions] if before else [*conditions, entry]
