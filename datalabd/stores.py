"""What databases and stores report: live objects in, facts out. Pure.

Operators differ in how they tell: PGO and MongoDB's by the status of their resource, those of Redis and Qdrant not at
all, so that their StatefulSets are looked at.
"""

import base64
import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from datalabd import names
from datalabd.api import quantity
from datalabd.api.meta import (
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    PREFIX,
    RETAINED,
    ROTATED,
    ROTATING,
    SINCE,
    USERS_REVISION,
    Manifest,
)
from datalabd.lab import Lab
from datalabd.live import annotations, condition, dig, integer, is_true, labels, objects, text
from datalabd.text import moment

Inside = Mapping[tuple[str, str], Manifest]
"""Live objects of the workshop namespace by kind and name."""

POSTGRES, ROUTE = "PostgresCluster", "TLSRoute"
DOCUMENT_STORE, CACHE_STORE, VECTOR_STORE = "MongoDBCommunity", "Redis", "QdrantCluster"
KINDS = (POSTGRES, DOCUMENT_STORE, CACHE_STORE, VECTOR_STORE)
"""Kinds that hold data."""
OPERATORS = {
    POSTGRES: "PGO 6 (postgres-operator.crunchydata.com/v1)",
    ROUTE: "the Gateway API, 1.5 or later (gateway.networking.k8s.io/v1)",
    DOCUMENT_STORE: "the MongoDB operator (mongodbcommunity.mongodb.com/v1)",
    CACHE_STORE: "the Redis operator (redis.redis.opstreelabs.in/v1beta2)",
    VECTOR_STORE: "the Qdrant operator (qdrant.io/v1alpha1)",
}
"""Who brings a kind."""
SUPERUSER = "postgres"
NEXT = "next"
"""Key of an auth Secret: the password that is being introduced beside the present one."""
ROTATION_VARIABLE = "DATALABD_ROTATION"
"""Variable of a Redis server's pod; another value has it started anew."""
APPLICATION_ROLES = ("datalab-a", "datalab-b")
"""Logins of a lab that is not to be superuser; one is in use, the other takes over at the next rotation."""
RESTORES_MAX = 200
"""Nonces of restores that are remembered."""
INITIALISED = f"{PREFIX}/initialised"
"""Annotation of a PostgresCluster: digest of what it was told to run once."""
RESTORED = f"{PREFIX}/restored"
"""Annotation of a PostgresCluster: the nonces of its restores in place; of a Secret: that of the last it heeded."""
ACTIVE_ROLE = f"{PREFIX}/role"
"""Annotation of a PostgresCluster: the role whose login the lab has."""
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_PORT = re.compile(r"[0-9]{1,5}")
YOUNG_SECONDS = 180.0
"""As long as a database server may take for its first login before sessions start without it."""


@dataclass(frozen=True)
class DatabaseLogin:
    """How a lab logs in to one PostgreSQL server; `uri` is empty where the operator gives none."""

    host: str
    port: str
    user: str
    password: str = field(repr=False)
    uri: str = field(repr=False)


@dataclass(frozen=True)
class Turn:
    """How far the rotation of one credential is."""

    rotated: str = ""
    """Nonce of the last finished one."""
    rotating: str = ""
    """Nonce of one under way in which two passwords hold."""
    since: str = ""
    """When the credential was made, RFC 3339."""

    def annotations(self) -> dict[str, str]:
        """What a Secret says of it; `since` only once it differs from the Secret's own age."""
        said = {ROTATED: self.rotated, ROTATING: self.rotating, SINCE: self.since if self.rotated else ""}
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True)
class Role:
    """One login of a PostgreSQL server, as its operator's Secret has it."""

    name: str
    login: DatabaseLogin
    turn: Turn
    settled: bool
    """Whether the server knows this password, as far as its operator says; until then that is about to tell it."""
    told_after: str
    """Nonce of the restore after which its operator was told this password again."""
    uid: str
    version: str
    """uid and resourceVersion of the Secret."""


@dataclass(frozen=True)
class Job:
    """Something an operator does once, by the nonce that asked for it."""

    nonce: str = ""
    state: Literal["", "Running", "Succeeded", "Failed"] = ""


@dataclass(frozen=True)
class Size:
    """A volume as it is asked for now."""

    storage: str
    storage_class: str | None


@dataclass(frozen=True)
class DatabaseFacts:
    """One declared PostgreSQL server as it is."""

    problem: str = ""
    """The first thing that keeps it from being ready; empty: it is."""
    stalled: bool = False
    """Whether only a person can mend that."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Logins that the lab may be handed, by role."""
    active: str = SUPERUSER
    """Role whose login the lab has."""
    users_revision: str = ""
    """What its operator told it last of its users; another with every new password."""
    data: Size | None = None
    backup: Size | None = None
    age_seconds: float | None = None
    """None while it does not exist."""
    has_data: bool = False
    """Whether it has begun: what it starts from does not matter any more."""
    initialised: bool = False
    """Whether its operator has run what it runs once."""
    initialised_for: str = ""
    """Digest of that, where it can change."""
    has_backups: bool = False
    """Whether there is a repository that it can be restored from."""
    backed_up: Job = field(default_factory=Job)
    """The backup asked for last."""
    restoring: Job = field(default_factory=Job)
    """The restore that its operator is at, or finished last."""
    restored: tuple[str, ...] = ()
    """Nonces of all restores in place that were heeded, the last one last."""
    restore_asked: Manifest | None = None
    """How it is asked to restore now."""
    starts_from_another: bool = False
    """Whether it was made to start from another server's backups."""

    @property
    def login(self) -> DatabaseLogin | None:
        """The login the lab has; None until the operator has made it."""
        return self.roles[self.active].login if self.active in self.roles else None

    @property
    def settling(self) -> bool:
        """Whether its first login can be expected soon."""
        return self.login is None and not self.stalled and (self.age_seconds or 0.0) < YOUNG_SECONDS


@dataclass(frozen=True)
class StoreFacts:
    """One declared document, cache or vector store as it is."""

    problem: str = ""
    """The first thing that keeps it from being ready; empty: it is."""
    stalled: bool = False
    """Whether only a person can mend that."""
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of its auth Secret by key; empty unless all are there."""
    auth_exists: bool = False
    """Whether that Secret is there, usable or not."""
    auth_adopted: bool = False
    """Whether it carries this claim's uid, and no mark of being retained."""
    turn: Turn = field(default_factory=Turn)
    data: Size | None = None
    """Its volume as it is asked for now; unknown for document stores."""
    volumes: tuple[Manifest, ...] = ()
    """Claim templates of a document store, which its operator cannot change."""
    image: tuple[str, str] | None = None
    """Repository and tag of the image it runs, of a live vector store."""
    pods: int | None = None
    """How many it has; None where that is not known."""
    restarted_for: str = ""
    """The rotation that all its pods have been started for."""


def roles(lab: Lab) -> tuple[str, ...]:
    """PostgreSQL roles of which a lab has one at a time."""
    return (SUPERUSER,) if lab.environment.data.database.superuser else APPLICATION_ROLES


def inputs(lab: Lab) -> Iterator[tuple[str, str]]:
    """Kind and name of every object of the workshop namespace that the facts below are read from."""
    for server in lab.databases:
        yield POSTGRES, server.host
        yield ROUTE, server.host
        for role in roles(lab):
            yield "Secret", names.database_login(server.host, role)
    for store in lab.document_stores:
        yield DOCUMENT_STORE, names.document_store(store.key)
        yield "Secret", names.document_store_auth(store.key)
    for store in lab.cache_stores:
        yield CACHE_STORE, store.key
        yield "StatefulSet", store.key
        yield "Secret", names.cache_store_auth(store.key)
    for store in lab.vector_stores:
        yield VECTOR_STORE, store.key
        yield "StatefulSet", names.vector_store_services(store.key)[0]
        yield "Secret", names.vector_store_auth(store.key)


def databases(lab: Lab, inside: Inside, served: frozenset[str], now: datetime.datetime) -> dict[str, DatabaseFacts]:
    """Facts about every declared PostgreSQL server, by host."""
    return {server.host: _database(lab, server.host, inside, served, now) for server in lab.databases}


def document_stores(lab: Lab, inside: Inside, served: frozenset[str]) -> dict[str, StoreFacts]:
    """Facts about every declared document store, by key."""
    found = {}
    for store in lab.document_stores:
        live = inside.get((DOCUMENT_STORE, names.document_store(store.key)))
        auth = inside.get(("Secret", names.document_store_auth(store.key)))
        facts = _store(lab, DOCUMENT_STORE, live, auth, ("password",), _mongodb_problem(live), served)
        templates = objects(live, "spec", "statefulSet", "spec", "volumeClaimTemplates")
        found[store.key] = replace(facts, volumes=tuple(templates))
    return found


def cache_stores(lab: Lab, inside: Inside, served: frozenset[str]) -> dict[str, StoreFacts]:
    """Facts about every declared cache store, by key."""
    found = {}
    for store in lab.cache_stores:
        live = inside.get((CACHE_STORE, store.key))
        auth = inside.get(("Secret", names.cache_store_auth(store.key)))
        pods = inside.get(("StatefulSet", names.cache_store_services(store.key)[0]))
        facts = _store(lab, CACHE_STORE, live, auth, ("password",), _pods_problem(pods), served)
        size = claimed(dig(live, "spec", "storage", "volumeClaimTemplate", "spec"))
        found[store.key] = replace(facts, data=size, restarted_for=_restarted_for(pods))
    return found


def vector_stores(lab: Lab, inside: Inside, served: frozenset[str]) -> dict[str, StoreFacts]:
    """Facts about every declared vector store, by key."""
    found = {}
    for store in lab.vector_stores:
        live = inside.get((VECTOR_STORE, store.key))
        auth = inside.get(("Secret", names.vector_store_auth(store.key)))
        pods = inside.get(("StatefulSet", names.vector_store_services(store.key)[0]))
        problem = _pods_problem(pods) or ("" if _pods(pods) else "it is stopped while its keys are replaced")
        facts = _store(lab, VECTOR_STORE, live, auth, ("apiKey", "readApiKey"), problem, served)
        persistence, image = dig(live, "spec", "persistence"), dig(live, "spec", "image")
        found[store.key] = replace(
            facts,
            data=sized(persistence.get("size"), persistence.get("storageClassName")) if persistence else None,
            image=(text(image, "repository"), text(image, "tag")) if text(image, "tag") else None,
            pods=_pods(pods),
        )
    return found


def decoded(secret: Manifest | None, key: str) -> str | None:
    """One value of a Secret as text; None where the key is absent or is no base64 of UTF-8."""
    value = dig(secret, "data").get(key)
    try:
        return base64.b64decode(value, validate=True).decode() if isinstance(value, str) else None
    except ValueError:  # no base64, no ASCII, no UTF-8
        return None


def _database(lab: Lab, host: str, inside: Inside, served: frozenset[str], now: datetime.datetime) -> DatabaseFacts:
    live = inside.get((POSTGRES, host))
    if unserved := _unserved(POSTGRES, served):
        return DatabaseFacts(unserved, stalled=True)
    if live is None:
        return DatabaseFacts("it is not created yet")
    revision = text(live, "status", "usersRevision")
    available = {
        name: role
        for name in roles(lab)
        if (role := _role(name, inside.get(("Secret", names.database_login(host, name))), revision))
    }
    said = annotations(live).get(ACTIVE_ROLE)
    active = said if said in roles(lab) else roles(lab)[0]
    restoring = _job(dig(live, "status", "pgbackrest", "restore"))
    problem, stalled = _postgres_problem(live), False
    if problem and restoring.state == "Running":
        problem = f"restore {restoring.nonce} is under way"
    elif problem and restoring.state == "Failed":
        problem = f"restore {restoring.nonce} failed, and left it without data; ask for another with a new nonce"
    if dig(live, "spec").get("shutdown"):
        problem = "it was kept without running, and is being started"
    if not problem and active not in available:
        problem = f"Secret {names.database_login(host, active)} with its login does not exist yet"
    if not problem and lab.environment.data.database.gateway.is_complete:
        stalled = bool(unserved := _unserved(ROUTE, served))
        problem = unserved or _route_problem(inside.get((ROUTE, host)))
    created = moment(text(live, "metadata", "creationTimestamp")) or now
    data, backup = server_sizes(live)
    heeded = [nonce for nonce in annotations(live).get(RESTORED, "").split(",") if nonce]
    if restoring.state == "Succeeded" and restoring.nonce not in heeded:
        heeded.append(restoring.nonce)
    return DatabaseFacts(
        problem=problem,
        stalled=stalled,
        roles=available,
        active=active,
        users_revision=revision,
        data=data,
        backup=backup,
        age_seconds=max(0.0, (now - created).total_seconds()),
        has_data=_holds(live, "PostgresDataInitialized"),
        initialised=bool(dig(live, "status").get("databaseInitSQL")),
        initialised_for=annotations(live).get(INITIALISED, ""),
        has_backups=is_true(live, "status", "pgbackrest", "repoHost", "ready"),
        backed_up=_job(dig(live, "status", "pgbackrest", "manualBackup")),
        restoring=restoring,
        restored=tuple(heeded[-RESTORES_MAX:]),
        restore_asked=dig(live, "spec", "backups", "pgbackrest", "restore") or None,
        starts_from_another="dataSource" in dig(live, "spec"),
    )


def server_sizes(live: Manifest | None) -> tuple[Size | None, Size | None]:
    """What a PostgresCluster asks of its volumes: data, backup."""
    repository = next(iter(objects(live, "spec", "backups", "pgbackrest", "repos")), None)
    instance = next(iter(objects(live, "spec", "instances")), None)
    return claimed(dig(instance, "dataVolumeClaimSpec")), claimed(dig(repository, "volume", "volumeClaimSpec"))


def _job(said: Manifest) -> Job:
    nonce = text(said, "id")
    if not nonce:
        return Job()
    if not is_true(said, "finished"):
        return Job(nonce, "Running")
    return Job(nonce, "Succeeded" if integer(said, "succeeded") else "Failed")


def _postgres_problem(live: Manifest) -> str:
    """What PGO's status says is missing."""
    status = dig(live, "status")
    if not status:
        return "its operator has not taken it up yet; is PGO running?"
    if integer(status, "observedGeneration") < integer(live, "metadata", "generation"):
        return "its operator has not taken the last change up yet"
    instances = [instance for instance in objects(status, "instances") if instance.get("name") == "primary"]
    if not any(integer(instance, "readyReplicas") for instance in instances):
        return _first_false(status) or "its server is not ready yet"
    if not is_true(status, "pgbackrest", "repoHost", "ready"):
        return _first_false(status) or "its backups are not ready yet"
    return ""


def _holds(live: Manifest, kind: str) -> bool:
    return condition(live, kind, "status").get("status") == "True"


def _first_false(status: Manifest) -> str:
    """The message of the first condition that does not hold."""
    messages = (text(known, "message") for known in objects(status, "conditions") if known.get("status") == "False")
    return next(filter(None, messages), "")


def _route_problem(route: Manifest | None) -> str:
    """What the gateway says of the route from outside."""
    if route is None:
        return "its route from outside is not created yet"
    parents = objects(route, "status", "parents")
    if not parents:
        return "no gateway has taken its route up; check database.gateway of the environment"
    messages = []
    for parent in parents:
        failing = [kind for kind in ("Accepted", "ResolvedRefs") if condition(parent, kind).get("status") != "True"]
        if not failing:
            return ""
        said = condition(parent, failing[0])
        why = text(said, "message") or text(said, "reason")
        messages.append(f"its route from outside is not {failing[0]}: {why}")
    return messages[0].rstrip(": ")


def _role(name: str, secret: Manifest | None, revision: str) -> Role | None:
    password = decoded(secret, "password")
    host, user, port = decoded(secret, "host"), decoded(secret, "user"), decoded(secret, "port") or "5432"
    if secret is None or not (password and host and user) or not _is_address(host, port):
        return None
    taken_up = bool(decoded(secret, "verifier"))
    # The operator takes a new password up, then runs the SQL, then says so. What it had in hand for another reason when
    # the password was given can be taken for that: the SQL itself it does not show.
    told = annotations(secret).get(USERS_REVISION) != revision
    # Until the operator has taken a new password up, its address has the one before.
    uri = decoded(secret, "uri") if taken_up else None
    return Role(
        name=name,
        login=DatabaseLogin(host, port, user, password, uri if uri and _is_database_url(uri) else ""),
        turn=turn(secret),
        settled=taken_up and told,
        told_after=annotations(secret).get(RESTORED, ""),
        uid=text(secret, "metadata", "uid"),
        version=text(secret, "metadata", "resourceVersion"),
    )


def _is_address(host: str, port: str) -> bool:
    """Whether a host and a port can be written into an address."""
    return _HOST.fullmatch(host) is not None and _PORT.fullmatch(port) is not None and int(port) < 2**16


def _is_database_url(uri: str) -> bool:
    """Whether programs can be handed this as the address of a PostgreSQL server."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:  # half of an IPv6 address, a port that is no number
        return False
    return parts.scheme in ("postgresql", "postgres") and uri.isprintable() and _is_address(host or "", str(port or 0))


def turn(secret: Manifest | None) -> Turn:
    """How far the rotation of what a Secret holds is."""
    said = annotations(secret)
    since = said.get(SINCE) or text(secret, "metadata", "creationTimestamp")
    return Turn(said.get(ROTATED, ""), said.get(ROTATING, ""), since)


def _store(
    lab: Lab,
    kind: str,
    live: Manifest | None,
    secret: Manifest | None,
    keys: tuple[str, ...],
    problem: str,
    served: frozenset[str],
) -> StoreFacts:
    marks = labels(secret)
    values = {key: value for key in (*keys, NEXT) if (value := decoded(secret, key))}
    mine = marks.get(CLAIM_UID) == lab.uid
    same = marks.get(CLAIM_NAME) == lab.name and marks.get(CLAIM_NAMESPACE) == lab.namespace
    usable = all(key in values for key in keys) and (mine or (same and RETAINED in marks))
    unserved = _unserved(kind, served)
    return StoreFacts(
        problem=unserved or ("it is not created yet" if live is None else problem),
        stalled=bool(unserved),
        auth=values if usable else {},
        auth_exists=secret is not None,
        auth_adopted=mine and RETAINED not in marks,
        turn=turn(secret),
    )


def _unserved(kind: str, served: frozenset[str]) -> str:
    return "" if kind in served else f"the cluster does not know {kind}; install {OPERATORS[kind]}"


def _mongodb_problem(live: Manifest | None) -> str:
    """What the MongoDB operator's status says is missing."""
    status = dig(live, "status")
    phase = text(status, "phase")
    if not phase:
        return "its operator has not taken it up yet; is the MongoDB operator running?"
    if phase != "Running":
        return f"phase {phase}: {text(status, 'message') or 'without a message'}"
    if not integer(status, "currentMongoDBMembers") or not integer(status, "currentStatefulSetReplicas"):
        return "none of its members is running yet"
    return ""


def _pods_problem(pods: Manifest | None) -> str:
    """What a StatefulSet says is missing."""
    if pods is None:
        return "its operator has not taken it up yet; is that running?"
    status, wanted = dig(pods, "status"), _replicas(pods)
    ready = integer(status, "readyReplicas")
    if integer(status, "observedGeneration") < integer(pods, "metadata", "generation"):
        return "its pods are about to change"
    if ready < wanted:
        return f"{ready} of {wanted} pods are ready"
    return ""


def _replicas(pods: Manifest) -> int:
    """How many pods a StatefulSet is to have; Kubernetes' default is one."""
    return integer(pods, "spec", "replicas") if "replicas" in dig(pods, "spec") else 1


def _pods(pods: Manifest | None) -> int | None:
    """How many pods a StatefulSet has, once it is as it should be; None before."""
    return None if _pods_problem(pods) else integer(pods, "status", "replicas")


def _restarted_for(pods: Manifest | None) -> str:
    """The rotation that every pod of a StatefulSet runs with; empty while an older pod lives."""
    status = dig(pods, "status")
    if _pods_problem(pods) or status.get("currentRevision") != status.get("updateRevision"):
        return ""
    containers = objects(pods, "spec", "template", "spec", "containers")
    variables = [variable for container in containers for variable in objects(container, "env")]
    return next((text(item, "value") for item in variables if item.get("name") == ROTATION_VARIABLE), "")


def claimed(spec: Manifest) -> Size | None:
    """What a volume claim's spec asks for; None where it asks for nothing that could be read."""
    return sized(dig(spec, "resources", "requests").get("storage"), spec.get("storageClassName"))


def sized(storage: object, storage_class: object) -> Size | None:
    """A size as a live object has it, in whichever of Kubernetes' notations; None for what is none."""
    if quantity.held(storage) is None:
        return None
    return Size(str(storage), storage_class if isinstance(storage_class, str) else None)
