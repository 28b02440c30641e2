"""Claims, environments, labs and live objects as tests need them: small, valid, and different only in what is given."""

import base64
import datetime
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import CLAIM_NAME, CLAIM_NAMESPACE, CLAIM_UID, FIELD_MANAGER, MANAGED_BY, V1BETA2, Manifest
from datalabd.identity import Admin, Outcome
from datalabd.lab import DatabaseServer, Lab, Store, resolve
from datalabd.observed import ENVIRONMENT_LABEL, Login, Observed, Phase, Place, SessionFacts, StorageKeys
from datalabd.plan.credentials import credentials
from datalabd.plan.educates.sessions import current
from datalabd.plan.educates.workshop import EDUCATES, workshop_spec
from datalabd.plan.keycloak import wanted
from datalabd.stores import KINDS, ROUTE, SUPERUSER, DatabaseFacts, DatabaseLogin, Role, Size, StoreFacts, Turn, roles

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
KEYS = StorageKeys("access", "storage-secret", "https://s3.example.org", "here")
LOGIN = Login("lab", "login-password")
MADE = Turn(since="2026-02-01T00:00:00Z")
"""Of credentials that were never replaced."""
IAM = {
    "url": "https://id.example.org",
    "realm": "labs",
    "adminSecret": {"namespace": "iam", "name": "admin"},
}
"""Of an environment that names a Keycloak."""
ADMIN = Admin("manager", "manager-secret", None)
LABELS = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: "lab", CLAIM_NAMESPACE: "team", CLAIM_UID: "claim-uid"}
"""What makes an object that of the claim below."""
OWNER = {"apiVersion": V1BETA2, "kind": "Datalab", "name": "lab", "uid": "claim-uid", "controller": True}


def claim(**spec: Any) -> Manifest:
    """A claim as the API server serves it, with one member and no session."""
    return {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {"name": "lab", "namespace": "team", "uid": "claim-uid", "generation": 3},
        "spec": {"users": ["ann"], "secretName": "lab"} | spec,
    }


def environment(**data: Any) -> EnvironmentConfig:
    """An environment with defaults wherever it may have them."""
    return EnvironmentConfig.parse(
        {"metadata": {"name": "courses"}, "data": {"ingress": {"domain": "lab.example.org"}} | data}
    )


def lab(within: EnvironmentConfig | None = None, **spec: Any) -> Lab:
    """The lab of `claim(**spec)`; with one started session, `main`, where nothing is said of sessions."""
    return resolve(claim(**{"sessions": [{"name": "main"}]} | spec), within or environment())


def running(lab: Lab, **changes: Any) -> Observed:
    """All is well: what is seen of a lab whose started sessions can be used."""
    seen = Observed(
        storage=KEYS,
        credentials_copied=True,
        login=LOGIN if lab.generates_login else None,
        login_exists=lab.generates_login,
        login_turn=MADE if lab.generates_login else Turn(),
        place=Place.OURS,
        phase=Phase.RUNNING,
        environment_uid="environment-uid",
        environment_version="7",
        api_server=(("10.0.0.1", 6443),),
    )
    if lab.has_realm:
        seen = replace(
            seen,
            client_secret="client-secret",
            client_secret_exists=True,
            client_secret_copied=True,
            client_turn=MADE,
            admin=ADMIN,
        )
        told = wanted(lab, seen)
        assert told is not None
        seen = replace(seen, identity=Outcome(holds=told.digest))
    spec = workshop_spec(lab, seen)
    seen = replace(
        seen,
        workshop_spec=spec,
        workshop_in_use=spec,
        databases={server.host: database_is_ready(lab, server) for server in lab.databases},
        document_stores={store.key: store_is_ready(store, "password") for store in lab.document_stores},
        cache_stores={store.key: store_is_ready(store, "password") for store in lab.cache_stores},
        vector_stores={store.key: store_is_ready(store, "apiKey", "readApiKey") for store in lab.vector_stores},
        served=frozenset({*KINDS, ROUTE}),
    )
    seen = replace(seen, credentials=credentials(lab, KEYS, seen)["data"])
    seen = replace(seen, sessions={name: working(lab, seen, name) for name in lab.started})
    return replace(seen, **changes)


def fresh() -> Callable[[], str]:
    """Gives the passwords `fresh-1`, `fresh-2` and so on."""
    numbers = itertools.count(1)
    return lambda: f"fresh-{next(numbers)}"


def database_is_ready(lab: Lab, server: DatabaseServer) -> DatabaseFacts:
    """A PostgreSQL server that can be used."""
    return DatabaseFacts(
        roles={name: role(server, name) for name in roles(lab)},
        active=roles(lab)[0],
        data=Size(server.storage, server.storage_class),
        backup=Size(server.backup_storage, server.backup_storage_class),
        age_seconds=600.0,
        has_backups=True,
    )


def role(server: DatabaseServer, name: str = SUPERUSER, **changes: Any) -> Role:
    """A login of a PostgreSQL server, which the server knows and which was never replaced."""
    host = f"{server.host}-primary.lab.svc"
    uri = f"postgresql://{name}:{name}-secret@{host}:5432/{server.databases[0]}"
    made = Role(
        name=name,
        login=DatabaseLogin(host, "5432", name, f"{name}-secret", uri),
        turn=MADE,
        settled=True,
        told_after="",
        uid=f"{name}-uid",
        version="5",
    )
    return replace(made, **changes)


def store_is_ready(store: Store, *keys: str) -> StoreFacts:
    """A store that can be used."""
    return StoreFacts(
        auth={key: f"{store.key}-{key}" for key in keys},
        auth_exists=True,
        auth_adopted=True,
        turn=MADE,
        data=Size(store.storage, store.storage_class),
    )


def working(lab: Lab, seen: Observed, session: str) -> SessionFacts:
    """A session that can be used and is up to date."""
    own, virtual = names.session_namespaces(lab.name, session)
    return SessionFacts(
        phase=Phase.RUNNING,
        url=f"https://{names.session(lab.name, session)}.{lab.environment.data.ingress.domain}",
        uid=f"{session}-uid",
        age_seconds=600.0,
        started_with=current(lab, seen, session),
        available=True,
        has_deployment=True,
        places={own: Place.OURS, virtual: Place.OURS if lab.claim.spec.vcluster else Place.ABSENT},
    )


def session_is(seen: Observed, session: str = "main", **changes: Any) -> Observed:
    """The same, but for one session; `SessionFacts` of it that was absent are those of none."""
    facts = replace(seen.sessions.get(session, SessionFacts()), **changes)
    return replace(seen, sessions={**seen.sessions, session: facts})


def secret(name: str, namespace: str = "team", labels: dict[str, str] | None = None, **values: str) -> Manifest:
    """A live Secret with these values."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def namespace(name: str, owner: tuple[str, str] | None = None, **metadata: Any) -> Manifest:
    """A live Namespace; `owner` is kind and uid."""
    owners = [{"apiVersion": EDUCATES, "kind": owner[0], "name": "x", "uid": owner[1]}] if owner else []
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "ownerReferences": owners} | metadata}


def educates(kind: str, name: str, status: Manifest | None = None, **metadata: Any) -> Manifest:
    """A live object of Educates, made ten minutes ago; `status` is what stands in `status.educates`."""
    return {
        "apiVersion": EDUCATES,
        "kind": kind,
        "metadata": {
            "name": name,
            "uid": f"{name}-uid",
            "resourceVersion": "7",
            "creationTimestamp": "2026-03-01T11:50:00Z",
        }
        | metadata,
        "spec": {},
        "status": {"educates": status or {}},
    }


def session_namespace(lab: str, session: str, **labels: str) -> Manifest:
    """The namespace of a session as its runtime labels it."""
    marks = {ENVIRONMENT_LABEL: lab, "training.educates.dev/component": "session"}
    return namespace(names.session(lab, session), ("WorkshopSession", f"{session}-uid"), labels=marks | labels)


def volume(name: str, labels: dict[str, str] | None = None, **metadata: Any) -> Manifest:
    """A live PersistentVolumeClaim in the workshop namespace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "lab", "uid": f"{name}-uid", "labels": labels or LABELS} | metadata,
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "standard"},
    }
