"""The plan of a lab: every object it consists of, in the order of apply. Pure; the only place that decides.

The reconciler applies it, the documentation lists it, admission warns by it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from datalabd import names
from datalabd.api.meta import ROTATED, ROTATING, Manifest
from datalabd.lab import Lab
from datalabd.observed import PLUGIN_CONFIG, Observed, Phase, Place, SessionFacts
from datalabd.plan import (
    apisix,
    credentials,
    keycloak,
    mongodb,
    network_policies,
    postgres,
    qdrant,
    redis,
    rotation,
    volumes,
)
from datalabd.plan.educates import sessions
from datalabd.plan.educates.environment import workshop_environment
from datalabd.plan.educates.workshop import live_session_policies, workshop
from datalabd.plan.prune import Identity, identity
from datalabd.plan.rotation import NewPassword
from datalabd.rules import NEW_FILES, Judgement, judge
from datalabd.steps import Steps, run
from datalabd.stores import (
    CACHE_STORE,
    DOCUMENT_STORE,
    OPERATORS,
    POSTGRES,
    ROUTE,
    VECTOR_STORE,
    DatabaseFacts,
    StoreFacts,
    Turn,
)


@dataclass(frozen=True)
class Stage:
    """Objects that can be applied together once the stage waits for nothing."""

    name: str
    objects: tuple[Manifest, ...] = field(default=(), repr=False)
    waits: str | None = None
    """What must happen first; None: apply now."""
    part: str | None = None
    """The part of the lab this stage is for, a session or a store; parts do not hold each other up."""
    create_only: bool = False
    """Random contents: written once, never again."""
    keeps: tuple[Identity, ...] = ()
    """Objects that stay as they are although this pass cannot plan them: an input is missing, not unwanted."""


@dataclass(frozen=True)
class Plan:
    """All stages of a lab, in order of apply."""

    stages: tuple[Stage, ...]
    new_passwords: tuple[NewPassword, ...] = ()
    """For operators' Secrets, once the stages are applied."""
    realm: keycloak.Wanted | None = None
    """For Keycloak; None: nothing, or not yet."""
    judged: Judgement = field(default_factory=Judgement)
    """What of the lab breaks a rule."""

    @property
    def wanted(self) -> set[Identity]:
        """Everything that must not be pruned, whether it can be applied now or not."""
        return {identity(obj) for stage in self.stages for obj in stage.objects} | {
            kept for stage in self.stages for kept in stage.keeps
        }


Fresh = Callable[[], str]
"""Gives a new random password, safe in URLs, with every call."""


def plan(lab: Lab, seen: Observed, fresh: Fresh) -> Plan:
    """The plan of a lab, from what is seen of it; `fresh` is asked for the passwords that do not exist yet."""
    return run(planning(lab, seen, fresh))


def planning(lab: Lab, seen: Observed, fresh: Fresh) -> Steps[Plan]:
    """The same in steps, one for each stage."""
    judged, made = judge(lab, seen), list[Stage]()
    for stage in stages(lab, seen, fresh):
        made.append(_without_held(lab, stage, judged.held))
        yield
    return Plan(
        tuple(made),
        tuple(rotation.new_passwords(lab, seen, fresh)),
        keycloak.wanted(lab, seen),
        judged,
    )


def _without_held(lab: Lab, stage: Stage, held: Mapping[str, str]) -> Stage:
    """The stage without what breaks a rule and is not there yet."""
    if not held:
        return stage
    part = NEW_FILES if stage.name == "runtime" else stage.part or ""
    if part in held:
        return replace(stage, waits=held[part])
    homes = {names.volume(lab.name, session) for session in lab.sessions if session in held}
    return replace(stage, objects=tuple(obj for obj in stage.objects if obj["metadata"]["name"] not in homes))


def stages(lab: Lab, seen: Observed, fresh: Fresh) -> Iterator[Stage]:
    """The stages of a plan, each made when it is asked for: those of a large lab take a while."""
    yield _login(lab, seen, fresh)
    yield _client_secret(lab, seen, fresh)
    yield _credentials(lab, seen)
    yield _runtime(lab, seen)
    yield _workshop_namespace(lab, seen)
    yield _client_secret_copy(lab, seen)
    yield from _apisix(lab, seen, fresh)
    yield from _databases(lab, seen)
    yield from _document_stores(lab, seen, fresh)
    yield from _cache_stores(lab, seen, fresh)
    yield from _vector_stores(lab, seen, fresh)
    for session in lab.started:
        yield from _session(lab, seen, session)


def _login(lab: Lab, seen: Observed, fresh: Fresh) -> Stage:
    if not lab.generates_login:
        return Stage("login")
    nonce = rotation.due(lab, f"login/{lab.name}", seen.login_turn)
    if seen.login is not None and not nonce:
        return Stage("login", keeps=(("Secret", lab.namespace, names.login(lab.name)),))
    turn = rotation.turned(seen, nonce) if nonce else Turn()
    # A login Secret of ours that somebody emptied is written again; one that appears meanwhile is only read.
    return Stage("login", (credentials.login(lab, fresh(), turn),), create_only=not seen.login_exists)


def _client_secret(lab: Lab, seen: Observed, fresh: Fresh) -> Stage:
    if not lab.has_realm:
        # A realm that is not ours to keep any more stays as it is, and so does what opens it.
        return Stage("client secret", keeps=(("Secret", lab.namespace, names.identity_secret(lab.name)),))
    nonce = rotation.due(lab, rotation.client(lab), seen.client_turn)
    secret, turn = ("", rotation.turned(seen, nonce)) if nonce else (seen.client_secret, seen.client_turn)
    made = keycloak.client_secret(lab, secret or fresh(), turn)
    return Stage("client secret", (made,), part="identity", create_only=not seen.client_secret_exists)


def _client_secret_copy(lab: Lab, seen: Observed) -> Stage:
    """What reads the copy is to meet a client that knows it: a new secret waits until Keycloak has it."""
    name, part = "copy of the client secret", "identity"
    copy = ("Secret", names.workshop_namespace(lab.name), names.identity_secret_copy(lab.name))
    if not lab.has_realm:
        return Stage(name, keeps=(copy,))
    if seen.client_secret_copied and not keycloak.realm_held(lab, seen):
        return Stage(name, part=part, keeps=(copy,))
    if not seen.client_secret:
        return Stage(name, part=part, keeps=(copy,), waits="the client secret is being written")
    return Stage(name, (keycloak.client_secret_copy(lab, seen.client_secret),), _no_namespace(seen), part)


def _credentials(lab: Lab, seen: Observed) -> Stage:
    # The runtime's copy may carry our labels; it is the runtime's to keep.
    copy = ("Secret", names.workshop_namespace(lab.name), names.credentials(lab.name))
    if (secret := credentials.desired(lab, seen)) is not None:
        return Stage("credentials", (secret,), keeps=(copy,))
    known = ("Secret", lab.namespace, names.credentials(lab.name))
    return Stage("credentials", waits=seen.storage_problem, keeps=(copy, known))


def _runtime(lab: Lab, seen: Observed) -> Stage:
    """The Workshop before the environment: Educates gives up on an environment without one.

    The namespace is never ours to create, and an environment that finds it taken would fail for good.
    """
    waits = None
    if not seen.runtime_served:
        waits = "the cluster does not know the kinds of training.educates.dev/v1beta1; install Educates"
    elif seen.phase is Phase.ABSENT and seen.place is not Place.ABSENT:
        reason = "is still being deleted" if seen.place is Place.TERMINATING else "exists and is not this lab's"
        waits = f"namespace {names.workshop_namespace(lab.name)} {reason}"
    elif seen.phase is Phase.DELETING:
        waits = "the environment is being deleted"
    return Stage("runtime", (workshop(lab, seen), workshop_environment(lab)), waits)


def _workshop_namespace(lab: Lab, seen: Observed) -> Stage:
    namespace = names.workshop_namespace(lab.name)
    # What opens a service comes before what closes the rest: a change must not cut off those at work.
    objects = network_policies.service_policies(lab)
    objects += [_in(namespace, policy) for policy in network_policies.workshop_policies(lab, seen)]
    if lab.claim.spec.data.enabled:
        objects.append(volumes.data_mount(lab))
    objects += [volumes.home(lab, seen, session) for session in lab.sessions]
    keeps = _kept_policies(lab, seen, namespace) + _kept_apisix(lab, seen)
    return Stage("workshop namespace", tuple(objects), _no_namespace(seen), keeps=keeps)


def _apisix(lab: Lab, seen: Observed, fresh: Fresh) -> Iterator[Stage]:
    """What the plugins read comes before them: without it APISIX would leave one of them out."""
    if not apisix.is_wanted(lab):
        return
    login, part = "login by APISIX", "plugins of APISIX"
    waits = _no_namespace(seen) or apisix.waits(lab, seen)
    if seen.oauth2_client is None:
        yield Stage(login, waits=waits, part=part, keeps=_kept_apisix(lab, seen))
    else:
        made = apisix.secret(lab, seen.oauth2_client, seen.apisix.get(apisix.SESSION_SECRET) or fresh())
        yield Stage(login, (made,), waits, part, create_only=not seen.apisix_secret_exists)
    yield Stage(part, (apisix.plugins(lab),), waits, part)


def _kept_apisix(lab: Lab, seen: Observed) -> tuple[Identity, ...]:
    """What APISIX needs stays, under another protection too, while an Ingress may name it: without it all may come."""
    if not (apisix.is_wanted(lab) or (seen.has_apisix_plugins and apisix.has_sessions(seen))):
        return ()
    namespace = names.workshop_namespace(lab.name)
    secret = ("Secret", namespace, names.apisix_secret(lab.name))
    return (secret, (PLUGIN_CONFIG, namespace, names.apisix_plugins(lab.name)))


def _databases(lab: Lab, seen: Observed) -> Iterator[Stage]:
    for server in lab.databases:
        part = f"database {server.host}"
        facts = seen.databases.get(server.host, DatabaseFacts())
        objects = (postgres.initialisation(lab, server), postgres.postgres_cluster(lab, server, facts))
        yield Stage(part, objects, _unready(seen, POSTGRES), part)
        if lab.environment.data.database.gateway.is_complete:
            yield Stage(f"route of {part}", (postgres.route(lab, server),), _unready(seen, ROUTE), part)


def _document_stores(lab: Lab, seen: Observed, fresh: Fresh) -> Iterator[Stage]:
    if lab.document_stores or seen.keeps_document_stores:
        yield Stage("document stores", tuple(mongodb.prerequisites(lab)), _no_namespace(seen), "document stores")
    for store in lab.document_stores:
        part = f"document store {store.key}"
        facts = seen.document_stores.get(store.key, StoreFacts())
        nonce = rotation.due(lab, f"mongodb/{store.key}", facts.turn)
        turn = rotation.turned(seen, nonce) if nonce else facts.turn
        password = facts.auth.get("password") if turn == facts.turn else None
        yield _auth(part, seen, facts, mongodb.auth(lab, store, password or fresh(), turn))
        made = mongodb.mongodb(lab, store, facts.volumes)
        yield Stage(part, (made,), _unready(seen, DOCUMENT_STORE, facts), part)


def _cache_stores(lab: Lab, seen: Observed, fresh: Fresh) -> Iterator[Stage]:
    for store in lab.cache_stores:
        part = f"cache store {store.key}"
        facts = seen.cache_stores.get(store.key, StoreFacts())
        passwords, turn = redis.turn(facts, rotation.due(lab, f"redis/{store.key}", facts.turn), seen, fresh)
        yield _auth(part, seen, facts, redis.auth(lab, store, passwords, turn))
        objects = (redis.acl(lab, store, facts.auth), redis.redis(lab, store, facts))
        yield Stage(part, objects, _unready(seen, CACHE_STORE, facts), part)


def _vector_stores(lab: Lab, seen: Observed, fresh: Fresh) -> Iterator[Stage]:
    for store in lab.vector_stores:
        part = f"vector store {store.key}"
        facts = seen.vector_stores.get(store.key, StoreFacts())
        keys, turn = qdrant.turn(facts, rotation.due(lab, f"qdrant/{store.key}", facts.turn), seen, fresh)
        yield _auth(part, seen, facts, qdrant.auth(lab, store, keys, turn))
        yield Stage(part, (qdrant.qdrant(lab, store, facts),), _unready(seen, VECTOR_STORE, facts), part)


def _auth(part: str, seen: Observed, facts: StoreFacts, secret: Manifest) -> Stage:
    """What a store is opened with: random, written once; again only to replace or adopt it, or if it was emptied."""
    name = f"credentials of {part}"
    said = secret["metadata"]["annotations"]
    same = all(said.get(key, "") == facts.turn.annotations().get(key, "") for key in (ROTATED, ROTATING))
    if facts.auth and facts.auth_adopted and same:
        return Stage(name, keeps=(identity(secret),), part=part)
    return Stage(name, (secret,), _no_namespace(seen), part, create_only=not facts.auth_exists)


def _no_namespace(seen: Observed) -> str | None:
    return None if seen.runtime_ready else "the lab's environment is not running yet"


def _unready(seen: Observed, kind: str, facts: StoreFacts | None = None) -> str | None:
    """Why an object of this kind cannot be written yet: an operator would make up the credentials it does not find."""
    if seen.runtime_ready and kind not in seen.served:
        return f"the cluster does not know {kind}; install {OPERATORS[kind]}"
    if seen.runtime_ready and facts is not None and not facts.auth:
        return "its credentials are being written"
    return _no_namespace(seen)


def _session(lab: Lab, seen: Observed, session: str) -> Iterator[Stage]:
    """The session, then what keeps the policies of its namespaces current.

    Not before it runs: Educates creates them from the Workshop, and gives up on a session whose objects exist already.
    """
    waits = sessions.waits(lab, seen, session)
    yield Stage(f"session {session}", (sessions.workshop_session(lab, seen, session),), waits, session)
    policies = live_session_policies(lab, seen, session)
    facts = seen.sessions.get(session, SessionFacts())
    namespaces = {policy["metadata"]["namespace"] for policy in policies}
    running = facts.phase is Phase.RUNNING and all(facts.places.get(name) is Place.OURS for name in namespaces)
    waits = None if running else f"session {session} is not running yet"
    yield Stage(
        f"network policies of session {session}",
        tuple(policies),
        waits,
        session,
        keeps=_kept_policies(lab, seen, *sorted(namespaces)),
    )


def _kept_policies(lab: Lab, seen: Observed, *namespaces: str) -> tuple[Identity, ...]:
    """The way to the API server stays open while nobody can say where that is."""
    if seen.api_server or lab.environment.data.network.api_server_cidrs:
        return ()
    return tuple(("NetworkPolicy", namespace, network_policies.API_SERVER) for namespace in namespaces)


def _in(namespace: str, manifest: Manifest) -> Manifest:
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}
