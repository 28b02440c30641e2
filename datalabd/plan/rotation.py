"""Rotation of credentials: asked for by annotation, once for each nonce; every step is safe to repeat.

What a Secret was made for stands in its annotations, written in one step with what it holds. So a pass that is
interrupted before the write repeats it with another random value, and one interrupted after it finds it done.

- MongoDB, the lab's login: one step.
- Keycloak client: its Secret, then the client, then the copy that ingress controllers read.
- Qdrant reads its keys when it starts: they are replaced, it is stopped, and started when its pods are gone.
- Redis reads its access list when it starts: the next password is let in beside the present one, the server is started
  anew, and only then the next one is handed out and the present one leaves the list.
- PostgreSQL: one step for the superuser; application roles take turns, so that what runs goes on.
"""

import datetime
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from datalabd import names
from datalabd.api.meta import ROTATE, USERS_REVISION, items
from datalabd.lab import DatabaseServer, Lab
from datalabd.observed import Observed
from datalabd.stores import RESTORED, DatabaseFacts, Role, StoreFacts, Turn

KINDS = ("postgres", "mongodb", "redis", "qdrant", "login", "client")
REQUEST = re.compile(r"(?P<credential>(?P<kind>[a-z]+)/(?P<name>[a-z0-9-]{1,63}))/(?P<nonce>[A-Za-z0-9._-]{1,63})")


@dataclass(frozen=True)
class NewPassword:
    """A password for the Secret of an operator, which then tells the server."""

    name: str
    uid: str
    version: str
    password: str = field(repr=False)
    annotations: dict[str, str]


def requests(annotations: dict[str, str]) -> Mapping[str, str]:
    """Requested nonces by credential; what is no request is left out, as admission refuses it."""
    return _requests(annotations.get(ROTATE, ""))


@functools.lru_cache(maxsize=64)
def _requests(said: str) -> Mapping[str, str]:
    found = (REQUEST.fullmatch(item) for item in items(said))
    return {item["credential"]: item["nonce"] for item in found if item}


def due(lab: Lab, credential: str, turn: Turn) -> str:
    """The nonce this credential is to be replaced for now; empty if it need not be."""
    nonce = requests(lab.claim.metadata.annotations).get(credential, "")
    return "" if nonce == turn.rotated else nonce


def client(lab: Lab) -> str:
    """What the secret of the lab's Keycloak client is called here."""
    return f"client/{lab.name}"


def turned(seen: Observed, nonce: str) -> Turn:
    """What a Secret says that is replaced now."""
    return Turn(rotated=nonce, since=seen.now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def made_anew(seen: Observed, nonce: str, store: StoreFacts) -> Turn:
    """What a Secret says that is made: for `nonce` if one is asked for.

    A store that is there already has lost its Secret, and reads the new one only when it starts: so it has to.
    """
    if not nonce and store.data is None:
        return Turn()
    return turned(seen, nonce or f"made-anew-{seen.now.astimezone(datetime.UTC):%Y%m%d%H%M%S}")


def database_role(lab: Lab, server: DatabaseServer, facts: DatabaseFacts) -> str:
    """The role whose login the lab is to have: the other one, once that has the password asked for."""
    active = facts.roles.get(facts.active)
    idle = next((role for role in facts.roles.values() if role.name != facts.active), None)
    if active is None or idle is None:
        return facts.active
    nonce = due(lab, f"postgres/{server.host}", active.turn)
    return idle.name if nonce and idle.settled and idle.turn.rotated == nonce else facts.active


def new_passwords(lab: Lab, seen: Observed, fresh: Callable[[], str]) -> list[NewPassword]:
    """What the operators of databases are to be given."""
    found = []
    for server in lab.databases:
        facts = seen.databases.get(server.host, DatabaseFacts())
        active = facts.roles.get(facts.active)
        if active is None:
            continue
        role = next((role for role in facts.roles.values() if role.name != facts.active), active)
        nonce = due(lab, f"postgres/{server.host}", active.turn)
        if nonce and role.settled and role.turn.rotated != nonce:
            said = turned(seen, nonce).annotations() | ({RESTORED: facts.restored[-1]} if facts.restored else {})
            found.append(_handed(server, facts, role, fresh(), said))
        elif facts.restored and active.settled and active.told_after != facts.restored[-1]:
            # The server is back at passwords of the past, and its operator does not know; new ones it will tell.
            found.append(_handed(server, facts, active, active.login.password, {RESTORED: facts.restored[-1]}))
    return found


def _handed(
    server: DatabaseServer, facts: DatabaseFacts, role: Role, password: str, annotations: dict[str, str]
) -> NewPassword:
    secret = names.database_login(server.host, role.name)
    said = annotations | {USERS_REVISION: facts.users_revision}
    return NewPassword(secret, role.uid, role.version, password, said)


def turns(lab: Lab, seen: Observed) -> dict[str, Turn]:
    """How far every credential of the lab is, by `<kind>/<name>`; those that do not exist yet are left out."""
    found = {}
    for host, facts in seen.databases.items():
        if facts.active in facts.roles:
            found[f"postgres/{host}"] = facts.roles[facts.active].turn
    stores: tuple[tuple[str, dict[str, StoreFacts]], ...] = (
        ("mongodb", dict(seen.document_stores)),
        ("redis", dict(seen.cache_stores)),
        ("qdrant", dict(seen.vector_stores)),
    )
    for kind, known in stores:
        found |= {f"{kind}/{key}": facts.turn for key, facts in known.items() if facts.auth}
    if lab.generates_login and seen.login is not None:
        found[f"login/{lab.name}"] = seen.login_turn
    if lab.has_realm and seen.client_secret:
        found[client(lab)] = seen.client_turn
    return found
