"""What an edit will do, told to whoever makes it. Pure; what a lab consists of is read from its plan.

Sentences of at most `LENGTH_MAX` characters, the gravest first, as only `COUNT_MAX` of them are shown.
"""

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from pydantic import BaseModel, ValidationError

from datalabd.api import quantity
from datalabd.api.environment import (
    Allowed,
    EnvironmentConfig,
    Network,
    Protection,
    ProtectionType,
    Retention,
    StorageClasses,
)
from datalabd.api.meta import CLAIM_ANNOTATIONS, CLAIM_LABELS, PREFIX, Manifest, shorten
from datalabd.api.v1beta2 import DatalabSpec, Policy, State
from datalabd.errors import ClaimInvalid
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed, SessionFacts, StorageKeys
from datalabd.plan import qdrant, stages
from datalabd.plan.educates.sessions import PARTS, Part
from datalabd.plan.educates.workshop import withheld_secrets
from datalabd.plan.ingress_protection import handed_on
from datalabd.plan.prune import Identity, identity
from datalabd.steps import Steps
from datalabd.submission import Submission
from datalabd.validation import listed

LENGTH_MAX = 120
COUNT_MAX = 10
KEYS = StorageKeys("", "", "", "")
SUPPLIED = Observed(storage=KEYS, client_secret="of the client", api_server=(("192.0.2.1", 443),))
"""A lab of which nothing exists yet, and which lacks nothing that others supply."""
STORES = {"documentStores": "document_stores", "cacheStores": "cache_stores", "vectorStores": "vector_stores"}
_UNLIMITED = {
    "allowed": Allowed.model_construct(policies=list(Policy)),
    "storage_classes": StorageClasses.model_construct(),
}
_OURS = (f"{PREFIX}/", "datalab.pkg.internal/")
"""Our prefix, and how it is misspelt."""
_ALIKE = 0.7
"""How alike two names are of which one may be meant for the other, by `difflib`."""
_ATTRIBUTES = {str(info.alias): (name,) for name, info in DatalabSpec.model_fields.items()}
"""Attributes of a parsed spec by the field that each is read from."""
_READ_BY: dict[ProtectionType, tuple[str, ...]] = {
    ProtectionType.NGINX: ("auth_url", "signin_url", "response_headers"),
    ProtectionType.APISIX: ("discovery_url", "opa_url", "opa_policy"),
    ProtectionType.TRAEFIK: ("middleware",),
    ProtectionType.ANNOTATIONS: ("annotations",),
}
"""Fields of a protection by the one type that reads them."""


def few(sentences: Sequence[str]) -> list[str]:
    """The first sentences, none too long; and how many more there are."""
    shown = [text if len(text) <= LENGTH_MAX else f"{text[: LENGTH_MAX - 1]}…" for text in sentences[:COUNT_MAX]]
    more = len(sentences) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


def creation(new: Submission, *, kept: bool = False) -> Steps[list[str]]:
    """What a new claim makes; `kept`: an earlier one of its name and namespace left something behind."""
    lab = _lab(new, new.environment)
    if lab is None:
        return []
    objects: set[Identity] = set()
    # There is as much of them whatever they start with.
    sessions = dict.fromkeys(lab.started, SessionFacts(started_with="anything"))
    for stage in stages(lab, replace(SUPPLIED, sessions=sessions), str):
        objects.update(map(identity, stage.objects))
        yield
    sizes = list(_volumes(lab))
    kinds = [f"{_count(count, what)} of {size}" for (what, size), count in Counter(sizes).items()]
    total = float(sum(quantity.parse(size) for _, size in sizes)) / 2**30
    made = f"creates {len(objects)} objects, {_count(len(sizes), 'volume')}"
    in_detail = f"{made}: {', '.join(kinds)}"
    if sizes:
        made = in_detail if len(in_detail) <= LENGTH_MAX else f"{made} of {total:.4g}Gi in all"
    found = ["what an earlier claim of this name and namespace left behind is found again"] if kept else []
    return [*found, *_withheld_secrets(lab), made]


def change(new: Submission, old: Submission, old_environment: EnvironmentConfig | None) -> Steps[list[str]]:
    """What an update destroys, keeps and restarts; both claims are of the same version.

    `old_environment` is the one the old claim chose; None for the one both are seen in.
    """
    environment = new.environment
    same = old_environment is None or old_environment == environment
    if environment is None or (same and new.hub.get("spec") == old.hub.get("spec")):
        return []
    # What a claim may ask for was decided before; what was allowed once may not be any more.
    environment = _open(environment)
    old_environment = environment if old_environment is None or same else _open(old_environment)
    after, before = _lab(new, environment), _lab(old, old_environment)
    if after is None or before is None:
        return []
    yield
    told = [
        *_removals(before, after),
        *_renames(before, after),
        *_endings(before, after),
        *_withheld_secrets(after, before),
    ]
    started = set(after.started)
    running = [session for session in before.started if session in started]
    if running and (parts := _differing(before, after, running[0])):
        yield
        fields = _changed(old.hub["spec"], new.hub["spec"])
        if len(fields) > 1 or not same:  # else it is that one
            fields = yield from _causes(old, new, old_environment, fields, parts, running[0])
        fields = [f"spec.{field}" for field in fields]
        if not same and _differs(parts, _lab(old, environment), running[0]):
            fields.append("the environment")
        many = len(running) > 1
        sessions = f"session{'s' if many else ''} {listed(running, 30)} take{'' if many else 's'} over "
        told.append(_told(sessions, fields or ["the change"], " only when stopped and started again"))
    return told


def deletion(old: Submission) -> list[str]:
    """What deleting a claim destroys and keeps; what is durable is kept while nobody can read its environment."""
    spec, environment = old.spec, old.environment
    if spec is None:
        return []
    stores = sum(len(getattr(spec, field)) for field in STORES.values())
    counts = ((len(spec.sessions), "home"), (len(spec.databases), "database server"), (stores, "store"))
    things = [_count(number, noun) for number, noun in counts if number]
    told = []
    if things:
        deletes = environment is not None and environment.data.retention is Retention.DELETE
        fate = "deleted for good, with backups" if deletes else "kept for a new claim of this name and namespace"
        told.append(f"{fate}: {', '.join(things)}")
    ends = (
        [f"{_count(len(spec.users), 'member')} lose{'s' if len(spec.users) == 1 else ''} access"] if spec.users else []
    )
    running = [session.name for session in spec.sessions if session.state is State.STARTED]
    if running:
        many = len(running) > 1
        ends.append(f"session{'s' if many else ''} {listed(running, 60)} end{'' if many else 's'}")
    return [*told, *([", ".join(ends)] if ends else [])]


def ignored(
    new: Manifest,
    old: Manifest | None,
    annotations: Collection[str] = CLAIM_ANNOTATIONS,
    labels: Collection[str] = CLAIM_LABELS,
) -> list[str]:
    """New and changed annotations and labels with our prefix, or what reads like it, that have no effect.

    `annotations` and `labels` are those that have one; each sentence names the nearest of them, if any is near.
    """
    read = {"annotation": annotations, "label": labels}
    found = [
        (kind, key)
        for kind in read
        for key, value in (new["metadata"].get(f"{kind}s") or {}).items()
        if key.startswith(_OURS) and key not in read[kind]
        if old is None or (old["metadata"].get(f"{kind}s") or {}).get(key) != value
    ]
    # Looking for the nearest takes time, and what stands further down is not shown.
    return [
        f"{kind} {shorten(key)} has no effect{_meant(kind, key, read) if number < COUNT_MAX else ''}"
        for number, (kind, key) in enumerate(found)
    ]


def _meant(kind: str, key: str, read: dict[str, Collection[str]]) -> str:
    """What may have been meant by the key of an annotation or label: the nearest, of its own kind if there is one."""
    name = key.partition("/")[2].lower()
    for other in sorted(read, key=lambda other: other != kind):
        names = {known.partition("/")[2]: known for known in sorted(read[other])}
        if near := difflib.get_close_matches(name, names, 1, _ALIKE):
            return f"; did you mean {'' if other == kind else f'{other} '}{names[near[0]]}?"
    return ""


def environment(new: EnvironmentConfig, old: EnvironmentConfig | None, labs: int) -> list[str]:
    """What an environment does to the labs that use it, `labs` of them, and what in it has no effect."""
    data, told = new.data, []
    if labs and old is not None:
        using = f"{_count(labs, 'lab')} use{'s' if labs == 1 else ''} it"
        if data.ingress.domain != old.data.ingress.domain:
            told.append(f"data.ingress.domain: {using}, and all addresses change; the runtime's domain has to follow")
        if data.retention is Retention.DELETE and old.data.retention is Retention.RETAIN:
            told.append(f"data.retention: {using}; from now on what is no longer declared is deleted")
        before, now = old.data.iam, data.iam
        if before.url is not None and (before.url, before.realm) != (now.url, now.realm):
            told.append(f"data.iam: {using}; clients and groups in realm {before.realm} stay there, for you to remove")
        if gone := list(_taken_away(old.data, data, "data")):
            told.append(_told("", gone, f": what was set there is taken away; {using}"))
        if image := _other_tag(old, new):
            told.append(f"data.components.qdrant.image: {using}; vector stores that exist keep {image}")
    if (data.iam.url or "").startswith("http:"):
        told.append("data.iam.url: who manages the realm logs in unencrypted")
    protection = data.ingress.protection
    if not data.is_protected:
        path = "data.ingress.protection.type"
        told.append(f"{path}: {protection.type} where auth.type is {data.auth.type}: no session will start")
    if data.auth.type.is_delegated and data.network.ingress_peers == Network().ingress_peers:
        told.append("data.network.ingressPeers: any pod outside the labs reaches sessions, which ask for no login")
    if data.auth.type.is_delegated and protection.type is ProtectionType.NGINX and "{" not in data.ingress.auth_url:
        told.append("data.ingress.protection.authURL: names no lab, as {group} would: who may sign in enters every lab")
    headers = protection.response_headers if protection.type is ProtectionType.NGINX else []
    if withheld := [header for header in headers if header not in handed_on(headers)]:
        told.append(
            f"data.ingress.protection.responseHeaders: {listed(withheld, 45)}: not handed to sessions, "
            "which could open other labs with it"
        )
    if protection.type is ProtectionType.APISIX and protection.opa_url:
        told.append(
            "data.ingress.protection.opaURL: sessions receive their visitors' access tokens; "
            "have the policy admit only tokens whose audience is the lab's own client"
        )
    unset, fields = Protection(), Protection.model_fields
    idle = [
        str(fields[name].alias)
        for kind, names in _READ_BY.items()
        for name in names
        if kind is not protection.type and getattr(protection, name) != getattr(unset, name)
    ]
    if idle:
        told.append(f"data.ingress.protection: {listed(idle, 45)}: no effect where type is {protection.type}")
    return told


def _taken_away(old: BaseModel, new: BaseModel, path: str) -> Iterator[str]:
    """Paths of what was set before and is not any more, and of lists and maps that lack what they had."""
    for name, described in type(new).model_fields.items():
        before, now, at = getattr(old, name), getattr(new, name), f"{path}.{described.alias}"
        if before == now:
            continue
        if not described.is_required() and now == described.get_default(call_default_factory=True):
            yield at
        elif isinstance(before, BaseModel) and isinstance(now, BaseModel):
            yield from _taken_away(before, now, at)
        elif (
            isinstance(before, list | dict) and isinstance(now, list | dict) and any(item not in now for item in before)
        ):
            yield at


def _other_tag(old: EnvironmentConfig, new: EnvironmentConfig) -> str:
    """The image that vector stores keep because a new one has another tag; empty if it has not."""
    before, after = (one.data.components.qdrant.image or qdrant.IMAGE for one in (old, new))
    return before if before.rpartition(":")[2] != after.rpartition(":")[2] else ""


def _lab(
    submission: Submission, environment: EnvironmentConfig | None, field: str = "", other: Submission | None = None
) -> Lab | None:
    """The lab of a claim in an environment, or of one with a single field of its spec as another claim has it.

    None for a claim that was stored while nobody checked.
    """
    hub, spec = submission.hub, submission.spec
    if environment is None or spec is None:
        return None
    if other is not None and other.spec is not None:
        declared = {key: value for key, value in hub["spec"].items() if key != field}
        hub = hub | {"spec": declared | {key: value for key, value in other.hub["spec"].items() if key == field}}
        spec = spec.model_copy(update={name: getattr(other.spec, name) for name in _ATTRIBUTES.get(field, ())})
    try:
        return resolve(hub, environment, spec)
    except (ClaimInvalid, ValidationError):
        return None


def _changed(old: Manifest, new: Manifest) -> list[str]:
    """Fields of two specs that differ."""
    return sorted(field for field in old.keys() | new.keys() if old.get(field) != new.get(field))


def _open(environment: EnvironmentConfig) -> EnvironmentConfig:
    """The environment without limits to what a claim may ask for."""
    return environment.model_copy(update={"data": environment.data.model_copy(update=_UNLIMITED)})


def _volumes(lab: Lab) -> Iterator[tuple[str, str]]:
    """What each durable volume of a lab holds, and its size."""
    yield from (("home", lab.storage) for _ in lab.sessions)
    yield from (("database", server.storage) for server in lab.databases)
    yield from (("backup", server.backup_storage) for server in lab.databases)
    yield from (("store", store.storage) for field in STORES.values() for store in getattr(lab, field))


def _declared(lab: Lab) -> dict[str, list[str]]:
    """Names of all that holds data, by field."""
    spec = lab.claim.spec
    return {"sessions": lab.sessions, "databases": list(spec.databases)} | {
        path: list(getattr(spec, field)) for path, field in STORES.items()
    }


def _removals(before: Lab, after: Lab) -> Iterator[str]:
    data = {"sessions": "the files of session", "databases": "the databases and backups of server"}
    kept = _declared(after)
    for field, names in _declared(before).items():
        gone = [name for name in names if name not in kept[field]]
        if gone:
            many = "s" if len(gone) > 1 else ""
            what = f"spec.{field}: {data.get(field, 'the contents of store')}{many} "
            yield _told(what, gone, f" are {'kept, for when declared again' if after.retains else 'deleted for good'}")
    for host, database in after.claim.spec.databases.items():
        declared = before.claim.spec.databases.get(host)
        announced = set(database.names)
        left = [name for name in declared.names if name not in announced] if declared else []
        if left:
            yield _told(f"spec.databases[{host}].names: ", left, " kept, but no longer announced")


def _renames(before: Lab, after: Lab) -> Iterator[str]:
    """Of sessions; servers and stores are not let through."""
    gone = [name for name in before.sessions if name not in after.sessions]
    added = [name for name in after.sessions if name not in before.sessions]
    if gone and added:
        what = f"spec.sessions: nothing is renamed: the data of {listed(gone, 30)} will not be in "
        yield _told(what, added, "")


def _endings(before: Lab, after: Lab) -> Iterator[str]:
    """What sessions lose although their files stay."""
    declared, started = set(after.sessions), set(after.started)
    sessions = [session for session in before.started if session in declared]
    stopping = [session for session in sessions if session not in started]
    if stopping:
        yield _told("stopping ", stopping, " keeps the files, and deletes what runs in the sessions' own namespaces")
    going_on = [session for session in sessions if session not in stopping]
    if going_on and before.claim.spec.vcluster and not after.claim.spec.vcluster:
        yield _told("spec.vcluster: the virtual clusters of ", going_on, " are deleted when they stop")


def _differing(before: Lab, after: Lab, session: str) -> list[tuple[Part, object]]:
    """Parts of what a session, any of a lab, takes over that would be others if it started after rather than before.

    Each with what it was.
    """
    parts = [(part, part(before, KEYS, SUPPLIED, session)) for part in PARTS]
    return [(part, was) for part, was in parts if part(after, KEYS, SUPPLIED, session) != was]


def _differs(parts: list[tuple[Part, object]], lab: Lab | None, session: str) -> bool:
    """Whether any of these parts would not be what it was."""
    return lab is not None and any(part(lab, KEYS, SUPPLIED, session) != was for part, was in parts)


def _causes(
    old: Submission,
    new: Submission,
    old_environment: EnvironmentConfig | None,
    fields: list[str],
    parts: list[tuple[Part, object]],
    session: str,
) -> Steps[list[str]]:
    """Those of the changed fields that would each change these parts by themselves."""
    found = []
    for field in fields:
        if _differs(parts, _lab(old, old_environment, field, new), session):
            found.append(field)
        yield
    return found


def _withheld_secrets(after: Lab, before: Lab | None = None) -> Iterator[str]:
    """Secrets that new sources of files name in vain."""
    known = before.claim.spec.files if before is not None else []
    if fields := [field for field, file in withheld_secrets(after) if file not in known]:
        yield _told("", fields, ": downloads find no Secret but the lab's own, and fail")


def _told(before: str, names: Sequence[str], after: str) -> str:
    """A sentence about as many names as it has room for."""
    return f"{before}{listed(names, LENGTH_MAX - len(before) - len(after))}{after}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
