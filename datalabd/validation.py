"""What makes a claim unacceptable, and what makes it questionable.

The schema is checked first, by the same models that the CustomResourceDefinition is made of: the API server does so for
stored claims, this module also for the rest (v1beta1's sessions, files on disk). Then come small named checks, all of
them, so that an author sees every mistake at once. An update is not blamed for mistakes that were there before it.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from datalabd import names
from datalabd.api.conversion import CLASSES, to_v1beta2
from datalabd.api.meta import (
    V1BETA1,
    FieldError,
    Manifest,
    NamespacedName,
    Problem,
    shorten,
)
from datalabd.api.patterns import DNS_NAME, SERVICE_LABEL, in_words
from datalabd.api.quantity import parse
from datalabd.api.v1beta2 import DatalabSpec, Policy, Role
from datalabd.limits import limit_errors
from datalabd.reserved import reserved_errors
from datalabd.rules import class_error, home_class_error
from datalabd.sources import size_errors, source_errors
from datalabd.steps import Steps, run
from datalabd.stores import APPLICATION_ROLES
from datalabd.submission import Names, ParsedClaim, Submission, names_in

NAMES_ROOM = 50
"""Characters that the names in one warning may take."""
POSTGRES_TEMPLATES = frozenset({"template0", "template1"})


_NUMBER = re.compile(r"\[\d+\]")
_SESSION_ITEM = re.compile(r"spec\.sessions\[(\d+)\]")
_SESSION_FIELD = re.compile(r"(spec\.sessions\[(\d+)\])\.(?:name|state)")


def validate(new: Submission, old: Submission | None = None, *, exists: bool = False) -> list[FieldError]:
    """Every reason to refuse a claim, by fields of the version it is written in; none if it is being deleted.

    `old` is the claim before an update, in the same version and seen in the same environment: what was wrong in it
    already is not reported again, unless the update chooses another environment. What depends on the environment is
    left unchecked without one. Classes are compared with those of the volumes, where these are known, else with what
    the claim said before. Of a lab that `exists`, what may be younger than it is left to `rules.judge`.
    """
    return run(validation(new, old, exists=exists))


def validation(new: Submission, old: Submission | None, *, exists: bool = False) -> Steps[list[FieldError]]:
    """The same in steps."""
    if new.is_going or (old is not None and new.says_the_same(old)):
        return []
    errors = yield from _errors(new, exists=exists)
    before, after = None if old is None else old.parsed, new.parsed
    if after is not None and after.environment is not None and not exists:
        yield
        same = before is not None and old is not None and new.environment_name == old.environment_name
        known_spec = before.spec if same and before is not None else None
        limits = limit_errors(after.spec, after.environment, known_spec)
        errors += [_written(new.claim, error) for error in limits]
    if old is None:
        return errors
    if errors and new.environment_name == old.environment_name:
        # What is removed before an item changes its number, and nothing else about it.
        known = Counter(map(_unnumbered, (yield from _errors(old))))
        errors = [error for error in errors if not _taken_from(known, _unnumbered(error))]
    if before is None or after is None:
        return errors
    for check in UPDATE_CHECKS:
        yield
        errors += [_written(new.claim, error) for error in check(before, after)]
    return errors


def warnings(new: Submission, old: Submission | None = None) -> list[str]:
    """What the author of an acceptable claim should know, a sentence each; none for a claim being deleted."""
    if new.is_going or (old is not None and new.says_the_same(old)) or new.parsed is None:
        return []
    found = [warning for source in WARNINGS for warning in source(new.parsed)]
    if not found or old is None or old.parsed is None:
        return found
    known = {warning for source in WARNINGS for warning in source(old.parsed)}
    return [warning for warning in found if warning not in known]


def broken_rules(new: Submission) -> list[str]:
    """Rules that are younger than an acceptable claim, which breaks them and goes on, a sentence each."""
    if new.is_going or new.parsed is None or new.schema_errors:
        return []
    errors = [error for rule in RULES for error in rule(new.parsed)]
    if new.environment is not None:
        errors += limit_errors(new.parsed.spec, new.environment)
    return [f"{_written(new.claim, error)}; what exists goes on" for error in errors]


def listed(items: Sequence[str], room: int) -> str:
    """Names in a row, `a, b and 3 more`, in at most `room` characters; the first is cut where it is too long itself."""

    def rest(shown: int) -> str:
        return f" and {len(items) - shown} more" if shown < len(items) else ""

    most = min(len(items), room // 2 + 1)  # an item takes two characters at least
    rows = (", ".join(items[:shown]) + rest(shown) for shown in range(most, 0, -1))
    cut = items[0][: max(room - len(rest(1)) - 1, 0)]
    return next((row for row in rows if len(row) <= room), f"{cut}…{rest(1)}")


def names_of(claim: Manifest) -> Names:
    """What the derived names of a claim, of either version, are made of; as much as can be read of an invalid one."""
    return names_in(to_v1beta2(claim))


CLUSTER_NAME = tuple[str, str]
"""Kind and name of what is unique in the cluster: a namespace, host or group."""


class Rival(NamedTuple):
    """Another claim, as one that competes for names."""

    key: NamespacedName
    names: Names
    """What it asks for."""
    held: Names | None
    """What of that it has already; None if nothing."""
    comes_first: bool
    """Whether it is the one to have what nobody has yet."""


def clashes(claim: Manifest, others: Iterable[tuple[NamespacedName, Names]]) -> list[FieldError]:
    """Fields of the claim that make a name which another claim of the cluster makes too; each field once.

    `others` are all claims but this one, of any namespace. One of the same namespace is named; of others nothing is
    told but the name in question.
    """
    return taken(claim, _holders(unique_names(names_of(claim)), others))


def names_lost(claim: Manifest, held: Names | None, rivals: Sequence[Rival]) -> dict[CLUSTER_NAME, NamespacedName]:
    """Names that the claim has to leave to a rival, and to which; `held` are those it has already.

    Who has a name keeps it; what nobody has, or two have at once, goes to whoever comes first.
    """
    mine = unique_names(names_of(claim))
    safe = mine & unique_names(held) if held is not None else frozenset()
    having = [(rival, rival.held) for rival in rivals if rival.held is not None]
    first = [(rival.key, rival.names) for rival in rivals if rival.comes_first]
    return _holders(mine - safe, [*((rival.key, has) for rival, has in having), *first]) | _holders(
        safe, [(rival.key, has) for rival, has in having if rival.comes_first]
    )


def taken(claim: Manifest, holders: Mapping[CLUSTER_NAME, NamespacedName]) -> list[FieldError]:
    """Fields of the claim that make a name of somebody else's; each field once."""
    errors: dict[str, FieldError] = {}
    for key, path in _cluster_names(names_of(claim)):
        if key in holders and path not in errors:
            (kind, name), holder = key, holders[key]
            near = holder.namespace == (_metadata(claim).get("namespace") or "default")
            detail = f'the {kind} "{name}" belongs to {f"lab {holder.name}" if near else "another lab"}'
            errors[path] = _written(claim, FieldError(path, Problem.INVALID, None, detail))
    return list(errors.values())


def occupied(claim: Manifest, old: Manifest | None, foreign: Collection[str]) -> list[FieldError]:
    """Fields of the claim that make a namespace of these, which exist and are not its own; each field once.

    Not those that it made before an update: where it lost a namespace since, its status says so.
    """
    before = frozenset() if old is None else unique_names(names_of(old))
    errors: dict[str, FieldError] = {}
    for key, path in _cluster_names(names_of(claim)):
        kind, name = key
        if kind == "namespace" and name in foreign and key not in before:
            detail = "a namespace of that name exists and is not a lab's; the lab would need it for itself"
            errors.setdefault(path, _written(claim, FieldError(path, Problem.INVALID, name, detail)))
    return list(errors.values())


def answered_elsewhere(claim: Manifest, domain: str, taken: Mapping[str, str]) -> list[FieldError]:
    """Sessions of the claim that have one of these hosts (`RouteIndex.taken`), for which another's route answers; each
    session once. A route of the claim's own namespace is named; of others nothing is told but the host in question.
    """
    made_of = names_of(claim)
    near = f" {_metadata(claim).get('namespace') or 'default'}/"
    errors: list[FieldError] = []
    for index, session in enumerate(made_of.sessions):
        own = (names.EVERY_HOST, *(f"{label}.{domain}" for label in names.session_hosts(made_of.claim, session)))
        if (host := next((host for host in own if host in taken), None)) is not None:
            named = near in taken[host]
            route = taken[host] if named else "a route of another namespace"
            removal = (
                "have that route removed"
                if named
                else "have those who run the platform remove it: `datalabd hosts` lists it"
            )
            detail = f"{route} answers for its host {host}: choose another name, or {removal}"
            if host == names.EVERY_HOST:
                into = names.workshop_namespace(made_of.claim)
                detail = f"{route} leads into namespace {into}, past what protects sessions: {removal}"
            path = f"spec.sessions[{index}].name"
            errors.append(_written(claim, FieldError(path, Problem.FORBIDDEN, session, detail)))
    return errors


def _holders(
    wanted: frozenset[CLUSTER_NAME], others: Iterable[tuple[NamespacedName, Names]]
) -> dict[CLUSTER_NAME, NamespacedName]:
    """Who makes these names, the first of several."""
    found: dict[CLUSTER_NAME, NamespacedName] = {}
    for owner, other in others:
        for key in wanted & unique_names(other):
            found.setdefault(key, owner)
    return found


@lru_cache(maxsize=8192)
def unique_names(made_of: Names) -> frozenset[CLUSTER_NAME]:
    """Every name made of these that is unique in the cluster. Cached, as every claim is compared with all others."""
    return frozenset(key for key, _ in _cluster_names(made_of))


# --- schema -----------------------------------------------------------------------------------------------------------


def _errors(submission: Submission, *, exists: bool = False) -> Steps[list[FieldError]]:
    found = list(submission.schema_errors)
    if not found:
        parsed = submission.parsed
        assert parsed is not None, "the schema was checked above"
        for check in CHECKS:
            if exists and check in RULES:
                continue
            yield
            found += check(parsed)
        yield
    return list(dict.fromkeys(_written(submission.claim, error) for error in found))


def _unnumbered(error: FieldError) -> FieldError:
    return replace(error, path=_NUMBER.sub("[]", error.path), detail=_NUMBER.sub("[]", error.detail))


def _taken_from(known: Counter[FieldError], error: FieldError) -> bool:
    """Whether the error is one of these, which then are one less."""
    known[error] -= 1
    return known[error] >= 0


def _written(claim: Manifest, error: FieldError) -> FieldError:
    """The error with its fields as the claim's version has them: a session that is a string has no `.name`."""
    if claim.get("apiVersion") != V1BETA1 or "spec.sessions[" not in str(error):
        return error
    sessions = claim["spec"]["sessions"]

    def field(match: re.Match[str]) -> str:
        # A user's own text may look like such a field: its number then means nothing.
        written_as_text = [isinstance(item, str) for item in sessions][int(match.group(2)) :][:1]
        return match.group(1) if any(written_as_text) else match.group()

    path = _SESSION_FIELD.sub(field, error.path)
    at = _SESSION_ITEM.fullmatch(path)
    if at is not None and not isinstance(sessions[int(at.group(1))], str | dict):
        return replace(error, path=path, detail="must be a string, or an object with name and state")
    return replace(error, path=path, detail=_SESSION_FIELD.sub(field, error.detail))


def _metadata(claim: Manifest) -> Manifest:
    return _dict(claim.get("metadata"))


def _dict(value: Any) -> Manifest:
    return value if isinstance(value, dict) else {}


# --- names ------------------------------------------------------------------------------------------------------------


def _name(claim: ParsedClaim) -> Iterator[FieldError]:
    if claim.name and (len(claim.name) > names.LABEL_MAX or not re.fullmatch(SERVICE_LABEL, claim.name)):
        detail = f"{in_words(SERVICE_LABEL)}, at most {names.LABEL_MAX} characters"
        yield FieldError("metadata.name", Problem.INVALID, shorten(claim.name), detail)


def _reserved(claim: ParsedClaim) -> Iterator[FieldError]:
    """No namespace, client or host of ours may be one that exists for another purpose."""
    for _, error in reserved_errors(claim.name, claim.namespace, claim.spec, claim.environment):
        yield error


def _lengths(claim: ParsedClaim) -> Iterator[FieldError]:
    for index, session in enumerate(claim.spec.sessions):
        derived = [
            names.volume(claim.name, session.name),
            *names.session_namespaces(claim.name, session.name),
            *names.session_hosts(claim.name, session.name),
            *names.session_services(claim.name, session.name),
        ]
        longest = max(derived, key=len)
        if len(longest) > names.LABEL_MAX:
            detail = f'"{longest}", which is made of it, may not be more than {names.LABEL_MAX} characters'
            yield FieldError(f"spec.sessions[{index}].name", Problem.TOO_LONG, shorten(session.name), detail)
    for host in claim.spec.databases:
        label = names.database_host(claim.name, host)
        if len(label) > names.LABEL_MAX:
            detail = f'"{label}", which is made of it, may not be more than {names.LABEL_MAX} characters'
            yield FieldError(f"spec.databases[{host}]", Problem.TOO_LONG, host, detail)


def _cluster_names(made_of: Names) -> Iterator[tuple[CLUSTER_NAME, str]]:
    """Every name of a claim that is unique in the cluster, as (kind, name), with the field it comes from."""
    for name, path, _ in names.cluster_names(made_of.claim, made_of.sessions, made_of.databases):
        yield name, path


def _own_names(claim: ParsedClaim) -> Iterator[tuple[tuple[str, str], str]]:
    """Every name of a claim that is unique within it, as (kind, name), with the field it comes from."""
    spec = claim.spec
    sessions = tuple(session.name for session in spec.sessions)
    yield from _cluster_names(Names(claim.name, sessions, tuple(spec.databases)))
    yield ("volume", names.credentials(claim.name)), "metadata.name"
    for index, session in enumerate(sessions):
        yield ("volume", names.volume(claim.name, session)), f"spec.sessions[{index}].name"
        for service in names.session_services(claim.name, session):
            yield ("Service", service), f"spec.sessions[{index}].name"
    for host in spec.databases:
        for service in names.database_services(host):
            yield ("Service", service), f"spec.databases[{host}]"
    stores = (
        ("documentStores", spec.document_stores, names.document_store_services, names.document_store_variables),
        ("cacheStores", spec.cache_stores, names.cache_store_services, names.cache_store_variables),
        ("vectorStores", spec.vector_stores, names.vector_store_services, names.vector_store_variables),
    )
    for field, keys, services, variables in stores:
        for key in keys:
            for service in services(key):
                yield ("Service", service), f"spec.{field}[{key}]"
            for variable in variables(key):
                yield ("variable", variable), f"spec.{field}[{key}]"
    for host, database in spec.databases.items():
        for variable in names.database_server_variables(host):
            yield ("variable", variable), f"spec.databases[{host}]"
        for index, name in enumerate(database.names):
            for variable in names.database_variables(host, name):
                yield ("variable", variable), f"spec.databases[{host}].names[{index}]"
    yield from _stateful_sets(spec)


def _stateful_sets(spec: DatalabSpec) -> Iterator[tuple[tuple[str, str], str]]:
    """What operators call their StatefulSets, and with them pods and volumes, which no Service need give away."""
    for host in spec.databases:
        yield ("StatefulSet", f"{host}-repo-host"), f"spec.databases[{host}]"
    for key in spec.document_stores:
        for name in (names.document_store(key), f"{names.document_store(key)}-arb"):
            yield ("StatefulSet", name), f"spec.documentStores[{key}]"
    for key in spec.cache_stores:
        yield ("StatefulSet", names.cache_store_services(key)[0]), f"spec.cacheStores[{key}]"
    for key in spec.vector_stores:
        yield ("StatefulSet", names.vector_store_services(key)[0]), f"spec.vectorStores[{key}]"


def _distinct_names(claim: ParsedClaim) -> Iterator[FieldError]:
    """No two fields may lead to the same namespace, host, Service, StatefulSet, volume or variable."""
    first: dict[tuple[str, str], str] = {}
    # Repeated names make everything they lead to collide; `_repetitions` has said so.
    told = {error.path for error in _repetitions(claim)}
    for (kind, name), path in _own_names(claim):
        other = first.setdefault((kind, name), path)
        if other != path and path not in told:
            told.add(path)
            yield FieldError(path, Problem.INVALID, None, f'the {kind} "{name}" is already made of {other}')


# --- members ----------------------------------------------------------------------------------------------------------


def _repetitions(claim: ParsedClaim) -> Iterator[FieldError]:
    spec = claim.spec
    lists = {
        # Keycloak knows names in lower case only.
        "spec.users[{}]": [user.lower() for user in spec.users],
        "spec.sessions[{}].name": [session.name for session in spec.sessions],
    } | {f"spec.databases[{host}].names[{{}}]": database.names for host, database in spec.databases.items()}
    for path, values in lists.items():
        before: set[str] = set()
        for index, value in enumerate(values):
            if value in before:
                yield FieldError(path.format(index), Problem.DUPLICATE, shorten(value), "")
            before.add(value)


def _visible(claim: ParsedClaim) -> Iterator[FieldError]:
    """Whoever reads a claim is to see who gets in, in the order in which it is written."""
    for index, user in enumerate(claim.spec.users):
        if not user.isprintable():
            detail = "must not contain control or invisible characters"
            yield FieldError(f"spec.users[{index}]", Problem.INVALID, shorten(user), detail)


def _overrides(claim: ParsedClaim) -> Iterator[FieldError]:
    users = set(claim.spec.users)
    for user in claim.spec.user_overrides:
        if user not in users:
            yield FieldError(f"spec.userOverrides[{shorten(user)}]", Problem.INVALID, None, "must be one of spec.users")


def _postgres_databases(claim: ParsedClaim) -> Iterator[FieldError]:
    for host, database in claim.spec.databases.items():
        for index, name in enumerate(database.names):
            if name in POSTGRES_TEMPLATES:
                yield FieldError(f"spec.databases[{host}].names[{index}]", Problem.INVALID, name, "is PostgreSQL's own")


# --- references -------------------------------------------------------------------------------------------------------


def _secret_name(claim: ParsedClaim) -> Iterator[FieldError]:
    secret = claim.spec.secret_name
    if secret and not re.fullmatch(DNS_NAME, secret.strip()):
        yield FieldError("spec.secretName", Problem.INVALID, shorten(secret), in_words(DNS_NAME))
    elif secret and secret.strip() in names.own_secrets(claim.name):
        detail = "is made for the lab itself, and has no credentials of object storage to begin with"
        yield FieldError("spec.secretName", Problem.INVALID, shorten(secret), detail)


def _source_sizes(claim: ParsedClaim) -> Iterator[FieldError]:
    yield from size_errors(claim.spec.files, "spec.files")


def _sources(claim: ParsedClaim) -> Iterator[FieldError]:
    blocked = [] if claim.environment is None else claim.environment.data.network.blacklist_ips
    for index, file in enumerate(claim.spec.files):
        yield from source_errors(file, f"spec.files[{index}]", claim.namespace, blocked)


def _storage_class(claim: ParsedClaim) -> Iterator[FieldError]:
    if claim.environment is None:
        return
    error = home_class_error(claim.spec.persistence.storage_class_name, claim.environment)
    if error is not None:
        yield error


def _database_classes(claim: ParsedClaim) -> Iterator[FieldError]:
    if claim.environment is None:
        return
    for host, classes in claim.classes.items():
        for field in CLASSES:
            error = class_error(host, field, classes.get(field), claim.environment)
            if error is not None:
                yield error


def _allowed(claim: ParsedClaim) -> Iterator[FieldError]:
    if claim.environment is None:
        return
    allowed, spec = claim.environment.data.allowed, claim.spec
    name = claim.environment.name
    if allowed.namespaces is not None and claim.namespace not in allowed.namespaces:
        detail = f"environment {name} is not open to namespace {claim.namespace}"
        yield FieldError("metadata.namespace", Problem.FORBIDDEN, None, detail)
    limits = (
        ("spec.security.policy", spec.security.policy, allowed.policies),
        ("spec.security.kubernetesRole", spec.security.kubernetes_role, allowed.kubernetes_roles),
        ("spec.quota.budget", spec.quota.budget, allowed.budgets),
    )
    for path, wanted, open_to in limits:
        if wanted is not None and wanted not in open_to:
            detail = f'"{wanted}" is not among what environment {name} allows: {", ".join(open_to)}'
            yield FieldError(path, Problem.FORBIDDEN, None, detail)
    if spec.vcluster and not allowed.vcluster:
        yield FieldError("spec.vcluster", Problem.FORBIDDEN, None, f"environment {name} allows no virtual clusters")


Check = Callable[[ParsedClaim], Iterator[FieldError]]
RULES: list[Check] = [_reserved, _sources, _storage_class, _database_classes]
"""Those that may be younger than a lab; `rules` applies them to what is there."""
CHECKS: list[Check] = [
    _name,
    _reserved,
    _lengths,
    _repetitions,
    _distinct_names,
    _visible,
    _overrides,
    _postgres_databases,
    _secret_name,
    _source_sizes,
    _sources,
    _storage_class,
    _database_classes,
    _allowed,
]
"""What is asked of every claim, in the order in which answers are told."""


# --- updates ----------------------------------------------------------------------------------------------------------

_STORES = ("databases", "document_stores", "cache_stores", "vector_stores")
"""Fields of the spec that hold servers and stores by key."""


def _shrinking(before: ParsedClaim, after: ParsedClaim) -> Iterator[FieldError]:
    """Volumes grow, and never shrink."""
    sizes: list[tuple[str, str | None, str | None]] = []
    if _kept_sessions(before, after):
        sizes.append(("spec.quota.storage", _home_size(before), _home_size(after)))
    for field in _STORES:
        old, new = getattr(before.spec, field), getattr(after.spec, field)
        path = f"spec.{DatalabSpec.model_fields[field].alias}"
        for key in new:
            if key not in old:
                continue
            sizes.append((f"{path}[{key}].storage", old[key].storage, new[key].storage))
            if field == "databases":
                sizes.append((f"{path}[{key}].backupStorage", old[key].backup_storage, new[key].backup_storage))
    for at, was, wanted in sizes:
        if was is not None and wanted is not None and parse(wanted) < parse(was):
            detail = f"may not be less than before, {was}: volumes cannot shrink"
            yield FieldError(at, Problem.FORBIDDEN, None, detail)


def _growing(before: ParsedClaim, after: ParsedClaim) -> Iterator[FieldError]:
    """MongoDB's operator fails on a changed size; the others resize volumes."""
    old, new = before.spec.document_stores, after.spec.document_stores
    for key in new:
        if key in old and parse(new[key].storage) > parse(old[key].storage):
            detail = (
                f"may not be more than before, {old[key].storage}: its operator does not resize volumes; "
                "add a larger store under another name"
            )
            yield FieldError(f"spec.documentStores[{key}].storage", Problem.FORBIDDEN, None, detail)


def _home_size(claim: ParsedClaim) -> str | None:
    stated = claim.spec.quota.storage
    return stated if stated or claim.environment is None else claim.environment.data.defaults.quota.storage


def _storage_class_change(before: ParsedClaim, after: ParsedClaim) -> Iterator[FieldError]:
    was, wanted = _home_class(before), _home_class(after)
    known = after.volumes.homes
    homes = {name: was if known is None else known.get(name, wanted) for name in _kept_sessions(before, after)}
    other = next((name for name, class_ in homes.items() if class_ != wanted), None)
    if was != wanted and other is not None:
        detail = (
            f'must stay "{homes[other] or ""}": the volume of session {other} exists, and a volume cannot change its '
            "class"
        )
        yield FieldError("spec.persistence.storageClassName", Problem.FORBIDDEN, None, detail)


def _home_class(claim: ParsedClaim) -> str | None:
    wanted = claim.spec.persistence.storage_class_name
    allowed = [] if claim.environment is None else claim.environment.data.storage_classes.allowed
    return wanted if not allowed or wanted in allowed else allowed[0]


def _kept_sessions(before: ParsedClaim, after: ParsedClaim) -> list[str]:
    declared = {session.name for session in before.spec.sessions}
    return [session.name for session in after.spec.sessions if session.name in declared]


def _database_class_change(before: ParsedClaim, after: ParsedClaim) -> Iterator[FieldError]:
    # Only v1beta1 has these fields; what v1beta2 cannot say it cannot change.
    if after.written_in != V1BETA1:
        return
    known = after.volumes.servers
    for host in after.spec.databases:
        for index, field in enumerate(CLASSES):
            was, wanted = _database_class(before, host, field), _database_class(after, host, field)
            live = was if known is None else known[host][index] if host in known else wanted
            if host in before.spec.databases and was != wanted != live:
                detail = f'must stay "{live or ""}": a volume cannot change its class'
                yield FieldError(f"spec.databases[{host}].{field}", Problem.FORBIDDEN, None, detail)


def _database_class(claim: ParsedClaim, host: str, field: str) -> str | None:
    stated = claim.classes.get(host, {}).get(field)
    if stated is not None or claim.environment is None:
        return stated
    settings = claim.environment.data.database
    return settings.storage_class_name if field == "storageClassName" else settings.backup_storage_class_name


def _renaming(before: ParsedClaim, after: ParsedClaim) -> Iterator[FieldError]:
    """A server or store that comes as another of its kind goes is meant to be that one, and is not."""
    for field in _STORES:
        old, new = getattr(before.spec, field), getattr(after.spec, field)
        gone = [key for key in old if key not in new]
        for key in new if gone else ():
            if key not in old:
                detail = (
                    f"may not come in the edit that takes {listed(gone, NAMES_ROOM)} away: nothing is renamed, and no "
                    "data moves; add it first, copy what is needed, then remove, or remove in an edit before"
                )
                yield FieldError(
                    f"spec.{DatalabSpec.model_fields[field].alias}[{key}]", Problem.FORBIDDEN, None, detail
                )


UPDATE_CHECKS: list[Callable[[ParsedClaim, ParsedClaim], Iterator[FieldError]]] = [
    _renaming,
    _shrinking,
    _growing,
    _storage_class_change,
    _database_class_change,
]
"""What is asked of the claim before and after an update."""


# --- warnings ---------------------------------------------------------------------------------------------------------


def _idle_overrides(claim: ParsedClaim) -> Iterator[str]:
    first = claim.spec.users[0] if claim.spec.users else None
    override = claim.spec.user_overrides.get(first) if first is not None else None
    if override is not None and override.role is Role.USER:
        yield f"spec.userOverrides[{first}].role: has no effect, the first of spec.users is always an administrator"


def _letter_case(claim: ParsedClaim) -> Iterator[str]:
    for index, user in enumerate(claim.spec.users):
        if user != user.lower():
            yield f"spec.users[{index}]: Keycloak knows user names in lower case only; {user.lower()} is looked for"


def _composition(claim: ParsedClaim) -> Iterator[str]:
    if claim.spec.crossplane is not None:
        yield "spec.crossplane: is ignored: no composition makes this lab"


def _blanks(claim: ParsedClaim) -> Iterator[str]:
    secret = claim.spec.secret_name
    if secret and secret != secret.strip():
        yield "spec.secretName: white space around it is dropped"


def _unsafe_sources(claim: ParsedClaim) -> Iterator[str]:
    for index, file in enumerate(claim.spec.files):
        for field in ("image", "git", "http"):
            source = getattr(file, field)
            if source is not None and source.url.lower().startswith("http://"):
                yield f"spec.files[{index}].{field}.url: http can be read and changed on its way; use https"
        if file.image is not None and file.image.dangerous_skip_tls_verify:
            yield f"spec.files[{index}].image.dangerousSkipTLSVerify: anybody on the way can replace the files"


def _unreachable_sources(claim: ParsedClaim) -> Iterator[str]:
    egress = claim.spec.security.external_egress
    if egress is None and claim.environment is not None:
        egress = claim.environment.data.defaults.security.external_egress
    if claim.spec.files and egress is False:
        yield "spec.files: can only come from inside the cluster, because externalEgress is false"


def _privileges(claim: ParsedClaim) -> Iterator[str]:
    if claim.spec.security.policy is Policy.PRIVILEGED:
        yield "spec.security.policy: privileged lets session users take over the node their session runs on"


def _without_role(claim: ParsedClaim) -> Iterator[str]:
    if not claim.spec.databases:
        return
    fitting = [user for user in claim.spec.users if names.is_postgres_user(user)]
    named = {*fitting, "postgres"}
    others = [user for user in claim.spec.users if user not in named]
    owners: list[str] = []
    if claim.environment is not None and not claim.environment.data.database.superuser:
        owners = [user for user in fitting if user in APPLICATION_ROLES]
    for left_out, why in (
        (others, "PGO does not take such names"),
        (owners, "the lab's own roles are called so"),
        (fitting[names.POSTGRES_USERS :], f"a server has {names.POSTGRES_USERS} at most"),
    ):
        if left_out:
            yield f"spec.users: no PostgreSQL role for {listed(left_out, NAMES_ROOM)}: {why}"


WARNINGS: list[Callable[[ParsedClaim], Iterator[str]]] = [
    _idle_overrides,
    _letter_case,
    _composition,
    _blanks,
    _unsafe_sources,
    _unreachable_sources,
    _privileges,
    _without_role,
]
"""What is told of every claim that has it."""
