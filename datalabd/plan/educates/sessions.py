"""WorkshopSessions: when one may be created, what it is created with, and which running ones are outdated."""

from collections.abc import Callable, Mapping

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import (
    STARTED_WITH,
    Login,
    Observed,
    Phase,
    Place,
    SessionFacts,
    StorageKeys,
    derived_lastingly,
    derived_once,
)
from datalabd.plan import apisix, credentials
from datalabd.plan.educates.content import is_current
from datalabd.plan.educates.workshop import EDUCATES, session_content
from datalabd.plan.metadata import canonical, digest, json_digest, ours

NO_LOGIN = "*"
"""User name that makes Educates' gateway let everybody in: only where something in front of it asks who comes."""


def waits(lab: Lab, seen: Observed, session: str) -> str | None:
    """Why a started session's object cannot be written yet; None if it can. What exists already waits for little."""
    facts = seen.sessions.get(session, SessionFacts())
    if facts.phase is Phase.DELETING:
        return f"session {session} is being deleted"
    # These two hold for a living session as well: one that is still Pending would start without a login.
    if not lab.is_protected:
        return "nothing protects sessions: set auth.type or ingress.protection.type in the environment"
    if lab.asks_for_login and seen.login is None:
        return "the session login does not exist yet"
    if facts.phase is not Phase.ABSENT:
        return None
    if taken := host_taken(lab, seen, session):
        return taken
    if unprotected := apisix.problem(lab, seen):
        return unprotected
    if not seen.runtime_ready:
        return "the lab's environment is not running yet"
    if seen.credentials is None:
        return f"Secret {names.credentials(lab.name)} does not exist yet"
    if opening := _opening(seen):
        return f"{opening} is being set up"
    if credentials.desired(lab, seen) is None:
        return f"{seen.storage_problem}; Secret {names.credentials(lab.name)} has nothing that may be used without it"
    if seen.credentials != _credentials(lab, seen):
        return f"Secret {names.credentials(lab.name)} is not current yet"
    if not seen.credentials_copied:
        return f"Secret {names.credentials(lab.name)} is not copied into namespace {lab.name} yet"
    if seen.workshop_in_use is None or seen.workshop_in_use != seen.workshop_spec:
        return "the environment's copy of the Workshop is not current yet"
    if not is_current(lab, seen):
        return f"Secret {names.WORKSHOP_CONFIG} of the environment is not current yet"
    left = sorted(name for name, place in facts.places.items() if place is not Place.ABSENT)
    if left:
        foreign = [name for name in left if facts.places[name] is Place.FOREIGN]
        if foreign:
            return f"namespace {foreign[0]} exists and is not this lab's"
        return f"namespace {left[0]} of the previous run still exists"
    return None


def host_taken(lab: Lab, seen: Observed, session: str) -> str | None:
    """Which route of somebody else answers for a host of the session, or leads to it by another; None if none does."""
    if names.EVERY_HOST in seen.hosts_taken:
        into = names.workshop_namespace(lab.name)
        return f"{seen.hosts_taken[names.EVERY_HOST]} leads into namespace {into}, past what protects sessions"
    domain = lab.environment.data.ingress.domain
    own = (f"{label}.{domain}" for label in names.session_hosts(lab.name, session))
    return next((f"{seen.hosts_taken[host]} answers for {host}" for host in own if host in seen.hosts_taken), None)


def workshop_session(lab: Lab, seen: Observed, session: str) -> Manifest:
    """WorkshopSession `N-S`.

    Owned by the environment, so that both go in one step: Educates does not tie them together. What a living session
    started with is kept as it is: only a new one takes over something new.
    """
    spec = _spec(lab, session, seen.login)
    facts = seen.sessions.get(session, SessionFacts())
    started_with = facts.started_with or current(lab, seen, session)
    return ours(
        lab,
        {
            "apiVersion": EDUCATES,
            "kind": "WorkshopSession",
            "metadata": {
                "name": names.session(lab.name, session),
                "annotations": {STARTED_WITH: started_with},
                "ownerReferences": [
                    {
                        "apiVersion": EDUCATES,
                        "kind": "WorkshopEnvironment",
                        "name": lab.name,
                        "uid": seen.environment_uid,
                    }
                ],
            },
            "spec": spec,
        },
    )


def current(lab: Lab, seen: Observed, session: str) -> str:
    """Digest of what the session would take over if it started now: its variables are those of the credentials."""
    content, variables = _taken_over_by_all(lab, seen)
    return json_digest(b"[" + b",".join((content, canonical(_spec(lab, session, seen.login)), variables)) + b"]")


def _credentials(lab: Lab, seen: Observed) -> Mapping[str, str] | None:
    """Data of the credentials as they should be; as they are while nobody can say."""
    secret = credentials.desired(lab, seen)
    return seen.credentials if secret is None else secret["data"]


Part = Callable[[Lab, StorageKeys, Observed, str], object]
PARTS: tuple[Part, ...] = (
    lambda lab, keys, seen, session: session_content(lab),
    lambda lab, keys, seen, session: _spec(lab, session, seen.login),
    lambda lab, keys, seen, session: credentials.values_of(lab, keys, seen),
)
"""What `current` is a digest of, by part; with these keys of the object storage."""


@derived_once
def _taken_over_by_all(lab: Lab, seen: Observed) -> tuple[bytes, bytes]:
    """What all sessions of the lab take over, as JSON: a digest of their content, and their variables."""
    return _content(lab, seen), canonical(_credentials(lab, seen) or {})


@derived_lastingly
def _content(lab: Lab, seen: Observed) -> bytes:
    """The digest of the content of all sessions, as JSON."""
    return canonical(digest(session_content(lab)))


def outdated(lab: Lab, seen: Observed) -> list[str]:
    """Started sessions that run with something older than the claim, its environment or their login now say."""
    return [
        name
        for name in lab.started
        if (facts := seen.sessions.get(name)) and facts.started_with and facts.started_with != current(lab, seen, name)
    ]


def _opening(seen: Observed) -> str:
    """A database or store whose credentials will be there in a moment: a session reads them when it starts."""
    for host, database in seen.databases.items():
        if database.settling:
            return f"database server {host}"
    for kind, stores in (
        ("document", seen.document_stores),
        ("cache", seen.cache_stores),
        ("vector", seen.vector_stores),
    ):
        for key, store in stores.items():
            if not store.auth:
                return f"{kind} store {key}"
    return ""


def _spec(lab: Lab, session: str, login: Login | None) -> Manifest:
    ingress = lab.environment.data.ingress
    env = {"SESSION_NAME": names.session(lab.name, session), "FRAME_ANCESTORS": ""}
    if lab.claim.spec.vcluster:
        env["KUBECONFIG"] = "/opt/kubeconfig/config"
    asked = login if lab.asks_for_login else Login(NO_LOGIN, "")
    credentials = {"username": asked.username, "password": asked.password} if asked else {}
    return {
        "environment": {"name": lab.name},
        "session": {
            "id": session,
            "ingress": {"domain": ingress.domain, "secret": ingress.secret},
            "env": [{"name": name, "value": value} for name, value in env.items()],
            **credentials,
        },
    }
