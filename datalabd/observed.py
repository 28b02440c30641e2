"""What is: live objects in, facts the plan decides by out. Pure; whoever knows live objects gives them as `Live`."""

import datetime
import functools
import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from datalabd import names, stores
from datalabd.api.meta import ACCOUNT, CLAIM_UID, PREFIX, STORAGE_CLAIM, Manifest, NamespacedName, claim_of, is_planned
from datalabd.endpoints import is_listed, shown
from datalabd.identity import Admin, IamView, Outcome, admin
from datalabd.lab import Lab
from datalabd.live import annotations, condition, dig, integer, labels, objects, text, texts
from datalabd.stores import DatabaseFacts, Inside, Size, StoreFacts, Turn, claimed, decoded
from datalabd.text import bounded, moment

PLUGIN_CONFIG = "ApisixPluginConfig"
STARTED_WITH = f"{PREFIX}/started-with"
"""Annotation of a session: digest of everything it took over when it was created and never looks at again."""
ENVIRONMENT_LABEL = "training.educates.dev/environment.name"

STORE_SECRETS = ("-mongodb-auth", "-redis-auth", "-redis-acl", "-qdrant-auth")
"""How the names of the Secrets end that stores are opened with."""
_ACCESS_KEYS = ("AWS_ACCESS_KEY_ID", "accessKey", "username", "CONSOLE_ACCESS_KEY", "attribute.access")
_SECRET_KEYS = ("AWS_SECRET_ACCESS_KEY", "secretKey", "password", "CONSOLE_SECRET_KEY", "attribute.secret")


URL_MAX = 512
"""Bytes of a session's address that its status repeats."""
CLIENT_SECRET_MAX = 255
"""Characters that Keycloak keeps."""


T = TypeVar("T")


class Live(Protocol):
    """Live objects, by the names of their kinds; the namespace of one that has none is empty."""

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object."""

    def within(self, kind: str, namespace: str) -> Iterable[Manifest]:
        """All objects of a kind in a namespace."""

    def made_for(self, kind: str, uid: str) -> Iterable[Manifest]:
        """All objects of a kind that carry the uid of this claim."""


@dataclass(frozen=True, repr=False)
class View:
    """The live objects that concern one lab, as cached; None or absent where there is none. No repr: it has Secrets."""

    storage_secret: Manifest | None = None
    login_secret: Manifest | None = None
    client_secret: Manifest | None = None
    client_secret_copy: Manifest | None = None
    apisix_secret: Manifest | None = None
    apisix_plugins: Manifest | None = None
    iam: IamView = field(default_factory=IamView)
    identity: Outcome | None = None
    credentials: Manifest | None = None
    credentials_copy: Manifest | None = None
    workshop_config: Manifest | None = None
    workshop: Manifest | None = None
    environment: Manifest | None = None
    namespaces: Mapping[str, Manifest] = field(default_factory=dict)
    """By name: those whose name the lab derives."""
    sessions: Mapping[str, Manifest] = field(default_factory=dict)
    """WorkshopSessions by session name."""
    deployments: Mapping[str, Manifest] = field(default_factory=dict)
    """Session Deployments by session name."""
    endpoint_slices: tuple[Manifest, ...] = ()
    """Of Service default/kubernetes."""
    volumes: tuple[Manifest, ...] = ()
    """PersistentVolumeClaims of ours in the workshop namespace, those an earlier claim left behind included."""
    inside: Inside = field(default_factory=dict)
    """What databases and stores are read from (`stores.inputs`)."""
    durable: tuple[Manifest, ...] = ()
    """Databases and stores of ours in the workshop namespace, those an earlier claim left behind included."""
    owned: tuple[Manifest, ...] = ()
    """Everything that carries the claim's uid."""
    runtime_served: bool = True
    served: frozenset[str] = frozenset()
    """Kinds of databases and stores, and of their routes, that the cluster knows."""
    account: str = ACCOUNT
    """Who we are to the API server."""
    hosts_taken: Mapping[str, str] = field(default_factory=dict)
    """Hosts of sessions for which a route answers that is not the lab's, with that route."""
    now: datetime.datetime = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Place(StrEnum):
    """What a namespace is to us."""

    ABSENT = "absent"
    OURS = "ours"
    TERMINATING = "terminating"
    FOREIGN = "foreign"


class Phase(StrEnum):
    """Phases of environments and sessions, of whichever runtime."""

    ABSENT = ""
    PENDING = "Pending"
    RUNNING = "Running"
    FAILED = "Failed"
    DELETING = "Deleting"


@dataclass(frozen=True)
class StorageKeys:
    """Object-storage credentials, resolved. Its repr shows no secret."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    endpoint: str
    region: str


@dataclass(frozen=True)
class Login:
    """User name and password that a session asks for."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True)
class SessionFacts:
    """One declared session as it is."""

    phase: Phase = Phase.ABSENT
    message: str = ""
    url: str = ""
    uid: str = ""
    age_seconds: float = 0.0
    started_with: str | None = None
    available: bool = False
    """Whether its Deployment serves."""
    has_deployment: bool = False
    waiting_reason: str = ""
    """Why the Deployment is not available, in the words of its controller."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """Its namespaces."""
    held_by: str = ""
    """What keeps one of these from going, in the words of its controller; empty: nothing that does not go by itself."""

    @property
    def ready(self) -> bool:
        """Whether a user can work in it."""
        return self.phase is Phase.RUNNING and self.available


@dataclass(frozen=True)
class Observed:
    """Facts about one lab."""

    storage: StorageKeys | None = None
    storage_problem: str = ""
    """Why there are no storage credentials, in one sentence."""
    storage_known: StorageKeys | None = None
    """Those in Secret `N-datalab`, as long as it is ours and the endpoint in there passes now; while `storage` is away
    they will do."""
    endpoint_refused: bool = False
    """Whether that is because their Secret names an endpoint that the environment does not list."""
    credentials: Mapping[str, str] | None = field(default=None, repr=False)
    """Data of Secret `N-datalab` of ours as it stands, encoded."""
    credentials_copied: bool = False
    """Whether the runtime's copy says the same."""
    login: Login | None = None
    login_exists: bool = False
    """Whether the login Secret is there, usable or not."""
    login_turn: Turn = field(default_factory=Turn)
    client_secret: str = field(default="", repr=False)
    """Of the lab's Keycloak client; empty: there is none of use."""
    client_secret_exists: bool = False
    client_secret_copied: bool = False
    """Whether there is a copy of ours, be it an earlier one."""
    client_turn: Turn = field(default_factory=Turn)
    admin: Admin | None = None
    admin_problem: str = ""
    """Why nothing is known of how to manage the realm, in one sentence; empty as well while it is being read."""
    identity: Outcome | None = None
    """What became of the lab in Keycloak; None: nobody has asked since this process leads."""
    oauth2_client: Mapping[str, str] | None = field(default=None, repr=False)
    """Id and secret of the lab's Keycloak client, as controllers of Ingresses find them; None: not both are there."""
    apisix: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the Secret of ours has that APISIX reads."""
    apisix_secret_exists: bool = False
    has_apisix_plugins: bool = False
    """Whether the plugins of ours are there for APISIX to use."""
    place: Place = Place.ABSENT
    phase: Phase = Phase.ABSENT
    """Of the environment."""
    message: str = ""
    environment_uid: str = ""
    environment_version: str = ""
    workshop_spec: Manifest | None = None
    """Spec of the live Workshop."""
    workshop_config: Manifest | None = field(default=None, repr=False)
    """The Secret that sessions are configured by, which the runtime makes."""
    workshop_in_use: Manifest | None = None
    """The runtime's own copy, which new sessions are made from."""
    homes: Mapping[str, Size] = field(default_factory=dict)
    """Home directories by the name of their claim, those of earlier claims included."""
    holds_durable: bool = False
    """Whether the workshop namespace holds volumes or stores of ours."""
    runtime_served: bool = True
    """Whether the cluster knows the runtime's kinds."""
    sessions: Mapping[str, SessionFacts] = field(default_factory=dict)
    databases: Mapping[str, DatabaseFacts] = field(default_factory=dict)
    """Declared PostgreSQL servers by host."""
    document_stores: Mapping[str, StoreFacts] = field(default_factory=dict)
    """Declared ones by key, as those below."""
    cache_stores: Mapping[str, StoreFacts] = field(default_factory=dict)
    vector_stores: Mapping[str, StoreFacts] = field(default_factory=dict)
    keeps_document_stores: bool = False
    """Whether there are document stores, of earlier declarations included."""
    served: frozenset[str] = frozenset()
    api_server: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of the API server's endpoints."""
    account: str = ACCOUNT
    """Who we are to it."""
    hosts_taken: Mapping[str, str] = field(default_factory=dict)
    """Hosts of sessions for which a route answers that is not the lab's, with that route (`RouteIndex.taken`)."""
    now: datetime.datetime = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    derived: dict[object, tuple[Lab, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `derived_once` made of these facts, and for which lab."""

    @property
    def runtime_ready(self) -> bool:
        """Whether the workshop namespace is there and ours."""
        return self.phase is Phase.RUNNING and self.place is Place.OURS


def derived_once(derive: Callable[[Lab, Observed], T]) -> Callable[[Lab, Observed], T]:
    """`derive`, called once for a lab as it is observed: many stages ask for the same. The result is read-only."""

    @functools.wraps(derive)
    def derived(lab: Lab, seen: Observed) -> T:
        known = seen.derived.get(derive)
        if known is None or known[0] is not lab:
            known = seen.derived[derive] = (lab, derive(lab, seen))
        result: T = known[1]
        return result

    return derived


def derived_lastingly(derive: Callable[[Lab, Observed], T]) -> Callable[[Lab, Observed], T]:
    """`derive`, called once for a lab as long as the API server and our account there stay the same.

    It is given these two facts and no others. The result is read-only.
    """

    @functools.wraps(derive)
    def derived(lab: Lab, seen: Observed) -> T:
        facts = (seen.account, seen.api_server)
        known = lab.derived.get(derive)
        if known is None or known[0] != facts:
            made = derive(lab, Observed(account=seen.account, api_server=seen.api_server))
            known = lab.derived[derive] = (facts, made)
        result: T = known[1]
        return result

    return derived


def view(lab: Lab, live: Live, now: datetime.datetime) -> View:
    """The live objects that concern a lab."""
    inside = names.workshop_namespace(lab.name)
    prefix = names.session(lab.name, "")
    sessions = {obj["metadata"]["name"].removeprefix(prefix): obj for obj in live.made_for("WorkshopSession", lab.uid)}
    derived = [inside] + [
        name for session in {*lab.sessions, *sessions} for name in names.session_namespaces(lab.name, session)
    ]
    return View(
        storage_secret=live.get("Secret", *lab.storage_secret),
        login_secret=live.get("Secret", lab.namespace, names.login(lab.name)),
        client_secret=live.get("Secret", lab.namespace, names.identity_secret(lab.name)),
        client_secret_copy=live.get("Secret", inside, names.identity_secret_copy(lab.name)),
        apisix_secret=live.get("Secret", inside, names.apisix_secret(lab.name)),
        apisix_plugins=live.get(PLUGIN_CONFIG, inside, names.apisix_plugins(lab.name)),
        credentials=live.get("Secret", lab.namespace, names.credentials(lab.name)),
        credentials_copy=live.get("Secret", inside, names.credentials(lab.name)),
        workshop_config=live.get("Secret", inside, names.WORKSHOP_CONFIG),
        workshop=live.get("Workshop", "", lab.name),
        environment=live.get("WorkshopEnvironment", "", lab.name),
        namespaces={name: found for name in derived if (found := live.get("Namespace", "", name))},
        sessions=sessions,
        deployments={
            session: found
            for session in sessions
            if (found := live.get("Deployment", inside, names.session(lab.name, session)))
        },
        endpoint_slices=tuple(
            piece
            for piece in live.within("EndpointSlice", "default")
            if labels(piece).get("kubernetes.io/service-name") == "kubernetes"
        ),
        volumes=tuple(volume for volume in live.within("PersistentVolumeClaim", inside) if is_planned(volume)),
        inside={(kind, name): found for kind, name in stores.inputs(lab) if (found := live.get(kind, inside, name))},
        durable=tuple(obj for kind in stores.KINDS for obj in live.within(kind, inside) if is_planned(obj)),
        now=now,
    )


def observe(lab: Lab, view: View) -> Observed:
    """The facts about a lab."""
    keys, problem = storage_keys(lab, view.storage_secret)
    refusal = _endpoint_refusal(lab, keys)
    credentials = view.credentials if _is_made_for(lab, view.credentials) else None
    managing, iam_problem = admin(lab.environment.data.iam, view.iam)
    environment = view.environment
    educates = _educates(environment)
    uid = environment["metadata"]["uid"] if environment else ""
    namespace = names.workshop_namespace(lab.name)
    return Observed(
        storage=None if refusal else keys,
        storage_problem=problem or refusal,
        storage_known=_known_keys(lab, credentials, keys),
        endpoint_refused=bool(refusal),
        credentials=_data(credentials),
        credentials_copied=credentials is not None
        and view.credentials_copy is not None
        and _data(view.credentials_copy) == _data(credentials),
        login=_login(lab, view, keys),
        login_exists=view.login_secret is not None,
        login_turn=stores.turn(view.login_secret),
        client_secret=_client_secret(lab, view),
        client_secret_exists=view.client_secret is not None,
        client_secret_copied=_is_of(lab, view.client_secret_copy),
        client_turn=stores.turn(view.client_secret),
        admin=managing,
        admin_problem=iam_problem,
        identity=view.identity,
        oauth2_client=_oauth2_client(view.client_secret_copy),
        apisix=_decoded(view.apisix_secret) if _is_of(lab, view.apisix_secret) else {},
        apisix_secret_exists=view.apisix_secret is not None,
        has_apisix_plugins=_is_of(lab, view.apisix_plugins),
        place=_place(view.namespaces.get(namespace), uid),
        phase=phase_of(environment),
        message=bounded(educates.get("message")),
        environment_uid=uid,
        environment_version=environment["metadata"]["resourceVersion"] if environment else "",
        workshop_spec=dig(view.workshop, "spec") if view.workshop else None,
        workshop_config=view.workshop_config,
        workshop_in_use=dig(educates, "workshop", "spec") or None,
        holds_durable=any(is_durable(lab.name, obj) for obj in (*view.volumes, *view.durable)),
        homes={
            volume["metadata"]["name"]: size
            for volume in view.volumes
            if (size := claimed(dig(volume, "spec"))) is not None
        },
        runtime_served=view.runtime_served,
        databases=stores.databases(lab, view.inside, view.served, view.now),
        document_stores=stores.document_stores(lab, view.inside, view.served),
        cache_stores=stores.cache_stores(lab, view.inside, view.served),
        vector_stores=stores.vector_stores(lab, view.inside, view.served),
        keeps_document_stores=any(obj["kind"] == stores.DOCUMENT_STORE for obj in view.durable),
        served=view.served,
        sessions={name: _session(lab, view, name) for name in {*lab.sessions, *view.sessions}},
        api_server=tuple(
            (address, number)
            for piece in view.endpoint_slices
            if piece.get("addressType") != "FQDN"
            for endpoint in objects(piece, "endpoints")
            for address in texts(endpoint, "addresses")
            if _is_address(address)
            for port in objects(piece, "ports")
            # Without a number a port stands for all of them: the API server's Service has none such.
            if 0 < (number := integer(port, "port")) < 2**16
        ),
        account=view.account,
        hosts_taken=view.hosts_taken,
        now=view.now,
    )


def timeless(seen: Observed) -> Observed:
    """The same facts without what time alone changes, by which two looks can be told apart."""
    return replace(
        seen,
        sessions={name: replace(facts, age_seconds=0.0) for name, facts in seen.sessions.items()},
        databases={
            host: facts
            if facts.age_seconds is None
            else replace(facts, age_seconds=0.0 if facts.settling else math.inf)
            for host, facts in seen.databases.items()
        },
        now=Observed.now,
    )


def storage_keys(lab: Lab, secret: Manifest | None) -> tuple[StorageKeys | None, str]:
    """The credentials in a storage Secret, or None and why there are none."""
    where = lab.storage_secret
    wanted = "create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if where.namespace != lab.namespace:
        granted = annotations(secret).get(STORAGE_CLAIM)
        if secret is None or granted != str(lab.key):
            # The same words for both: nobody learns here what a shared namespace holds for others.
            problem = f"Secret {where} does not exist, or is not granted to this lab"
            return None, f'{problem}; {wanted}, annotated {STORAGE_CLAIM}="{lab.key}"'
    elif secret is None:
        return None, f"Secret {where} does not exist; {wanted}"
    if claim_of(secret) is not None:
        # Another lab's login or credentials, it may be, whose members are others.
        return None, f"Secret {where} was made by datalabd for a lab; name one of your own in spec.secretName"
    return _keys(lab, secret, where)


def _known_keys(lab: Lab, secret: Manifest | None, named: StorageKeys | None) -> StorageKeys | None:
    """The keys in Secret `N-datalab`, judged anew: it was the tenant's to write once.

    An endpoint has to be listed, whoever named it; or to be what the storage Secret names as well, as in a lab that is
    older than the list. Nothing else in there counts: all that is derived from the keys is derived again.
    """
    if (
        secret is None
        or (keys := _keys(lab, secret, NamespacedName(lab.namespace, names.credentials(lab.name)))[0]) is None
    ):
        return None
    return keys if keys == named or is_listed(keys.endpoint, lab.environment.data.storage) else None


def _keys(lab: Lab, secret: Manifest, where: NamespacedName) -> tuple[StorageKeys | None, str]:
    """The keys in a Secret, or None and what is wrong with it."""
    access, secret_key = _value(secret, _ACCESS_KEYS), _value(secret, _SECRET_KEYS)
    if not access or not secret_key:
        missing = _ACCESS_KEYS[0] if not access else _SECRET_KEYS[0]
        return None, f"Secret {where} has no value for {missing}"
    storage = lab.environment.data.storage
    keys = StorageKeys(
        access_key=access,
        secret_key=secret_key,
        endpoint=_value(secret, ("AWS_ENDPOINT_URL",)) or storage.endpoint,
        region=_value(secret, ("AWS_REGION",)) or storage.region,
    )
    if any(not text.isprintable() for text in (keys.access_key, keys.secret_key, keys.endpoint, keys.region)):
        # They are written into an INI file: a line break there would add settings.
        return None, f"Secret {where} has a line break or control character in one of its values"
    return keys, ""


def _endpoint_refusal(lab: Lab, keys: StorageKeys | None) -> str:
    """Why a Secret of the claim's own namespace may not name this endpoint; empty: it may.

    Who writes Secrets of the environment's own namespace is trusted to know.
    """
    storage = lab.environment.data.storage
    if keys is None or storage.secret_namespace or is_listed(keys.endpoint, storage):
        return ""
    named = f"Secret {lab.storage_secret} names an endpoint, {shown(keys.endpoint)}"
    advice = "its operator may add it to storage.endpoints, or leave AWS_ENDPOINT_URL out of the Secret"
    return f"{named}, which environment {lab.environment.name} does not list; {advice}"


def is_durable(lab_name: str, obj: Manifest) -> bool:
    """Whether an object holds user data, or opens what does. What the data mount shows is in object storage."""
    name, kind = str(obj["metadata"]["name"]), obj["kind"]
    if kind == "PersistentVolumeClaim":
        return name != names.credentials(lab_name)
    if kind == "Secret":
        return obj["metadata"]["namespace"] == names.workshop_namespace(lab_name) and name.endswith(STORE_SECRETS)
    return kind in stores.KINDS


def _data(secret: Manifest | None) -> Mapping[str, str] | None:
    return None if secret is None else dig(secret, "data")


def _value(secret: Manifest, keys: tuple[str, ...]) -> str | None:
    """The first of several keys that is present."""
    data = dig(secret, "data")
    key = next((key for key in keys if key in data), None)
    return decoded(secret, key) if key else None


def _login(lab: Lab, view: View, storage: StorageKeys | None) -> Login | None:
    username, password = None, None
    if lab.generates_login:
        if _is_of(lab, view.login_secret):
            username, password = decoded(view.login_secret, "username"), decoded(view.login_secret, "password")
    elif lab.asks_for_login and storage is not None:
        username, password = storage.access_key, storage.secret_key
    # An empty name, or `*`, would switch the session's login off.
    return Login(username, password) if username and username != "*" and password else None


def _client_secret(lab: Lab, view: View) -> str:
    secret = decoded(view.client_secret, "clientSecret") or "" if _is_of(lab, view.client_secret) else ""
    return secret if secret.isprintable() and len(secret) <= CLIENT_SECRET_MAX else ""


def _oauth2_client(secret: Manifest | None) -> Mapping[str, str] | None:
    values = {key: value.strip() for key, value in _decoded(secret).items() if key in ("client_id", "client_secret")}
    return values if len(values) == 2 and all(values.values()) else None


def _decoded(secret: Manifest | None) -> dict[str, str]:
    """The values of a Secret that are text."""
    return {key: value for key in dig(secret, "data") if (value := decoded(secret, key)) is not None}


def _is_of(lab: Lab, obj: Manifest | None) -> bool:
    return labels(obj).get(CLAIM_UID) == lab.uid


def _is_made_for(lab: Lab, obj: Manifest | None) -> bool:
    """Whether an object beside the claim is one that we made for it, by all that the API server lets only us write."""
    return obj is not None and _is_of(lab, obj) and claim_of(obj) == lab.key and is_planned(obj)


def _session(lab: Lab, view: View, name: str) -> SessionFacts:
    obj = view.sessions.get(name)
    uid = obj["metadata"]["uid"] if obj else ""
    own = names.session(lab.name, name)
    places = {
        namespace: _place(view.namespaces.get(namespace), uid, own)
        for namespace in names.session_namespaces(lab.name, name)
    }
    held_by = next((held for namespace in places if (held := remaining(view.namespaces.get(namespace)))), "")
    if obj is None:
        return SessionFacts(places=places, held_by=held_by)
    educates = _educates(obj)
    deployment = view.deployments.get(name)
    available, waiting_reason = deployment_facts(deployment)
    created = moment(text(obj, "metadata", "creationTimestamp")) or view.now
    return SessionFacts(
        phase=phase_of(obj),
        message=bounded(educates.get("message")),
        url=bounded(text(educates, "url"), URL_MAX),
        uid=uid,
        age_seconds=max(0.0, (view.now - created).total_seconds()),
        started_with=annotations(obj).get(STARTED_WITH),
        available=available,
        has_deployment=deployment is not None,
        waiting_reason=waiting_reason,
        places=places,
        held_by=held_by,
    )


_LEFT = "NamespaceContentRemaining"
_HELD = ("NamespaceFinalizersRemaining", "NamespaceDeletionContentFailure", "NamespaceDeletionDiscoveryFailure")
"""Conditions of a namespace that does not go by itself; what is in there we may have no right to read."""
_INTRODUCTIONS = ("Some content in the namespace has finalizers remaining: ", "Some resources are remaining: ")


def remaining(namespace: Manifest | None) -> str:
    """What keeps a namespace from going that is being deleted, by its own conditions; empty: nothing yet."""
    if not dig(namespace, "metadata").get("deletionTimestamp"):
        return ""
    told = [
        text(found, "message")
        for kind in (*_HELD, _LEFT)
        if (found := condition(namespace, kind, "status")).get("status") == "True"
    ]
    held = any(condition(namespace, kind, "status").get("status") == "True" for kind in _HELD)
    for introduction in _INTRODUCTIONS:
        told = [message.removeprefix(introduction) for message in told]
    return bounded(f"namespace {text(namespace, 'metadata', 'name')} is held by {'; '.join(told)}") if held else ""


def deployment_facts(deployment: Manifest | None) -> tuple[bool, str]:
    """Whether a session's Deployment serves, and why not, in the words of its controller."""
    available = condition(deployment, "Available", "status").get("status") == "True"
    return available, _why_unavailable(deployment)


def _is_address(text: str) -> bool:
    """Whether a network policy can name this address: not with the zone of an interface."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return not {"/", "%"} & set(text)


def _educates(obj: Manifest | None) -> Manifest:
    return dig(obj, "status", "educates")


def phase_of(obj: Manifest | None) -> Phase:
    """How far an environment or session is; None is one that is not there."""
    if obj is None:
        return Phase.ABSENT
    if obj["metadata"].get("deletionTimestamp"):
        return Phase.DELETING
    phase = text(_educates(obj), "phase")
    # Educates also says Retrying and Unknown: on the way, like nothing said yet.
    return Phase(phase) if phase in (Phase.RUNNING, Phase.FAILED) else Phase.PENDING


def _place(namespace: Manifest | None, owner_uid: str, session: str = "") -> Place:
    """What a namespace is to the environment or session of this uid.

    A namespace that an earlier session of the same name left behind carries Educates' label and is on its way out.
    """
    if namespace is None:
        return Place.ABSENT
    metadata = namespace["metadata"]
    if metadata.get("deletionTimestamp"):
        return Place.TERMINATING
    owners = objects(metadata, "ownerReferences")
    if owner_uid and any(owner.get("uid") == owner_uid for owner in owners):
        return Place.OURS
    if any(owner.get("kind") in ("WorkshopEnvironment", "WorkshopSession") for owner in owners):
        return Place.TERMINATING
    if session and ENVIRONMENT_LABEL in labels(namespace):
        return Place.OURS if owner_uid else Place.TERMINATING
    return Place.FOREIGN


def _why_unavailable(deployment: Manifest | None) -> str:
    """What a Deployment's controller says of it; a pod that could not be made comes before one that takes long."""
    for kind, status in (("ReplicaFailure", "True"), ("Progressing", "False")):
        said = condition(deployment, kind, "status")
        if said.get("status") == status:
            return text(said, "message") or text(said, "reason")
    return ""
