"""`datalabd render`: the plan of claims in files, without a cluster.

The claims take the way that they take in a cluster: what the API server does by schema, then `default`, `validate`,
`resolve`, `observe` and `plan`. Live objects from a file stand in for what the reconciler would see. Stage gates are
ignored: what is printed is the lab as it is meant to be in the end.
"""

import datetime
import functools
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, ValidationError

from datalabd import names, stores
from datalabd.api import quantity
from datalabd.api.conversion import to_v1beta2
from datalabd.api.crd import custom_resource_definitions
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import (
    CLAIM_UID,
    V1BETA1,
    V1BETA2,
    FieldError,
    Manifest,
    Model,
    NamespacedName,
    Problem,
    claim_of,
    field_error,
    is_planned,
    shorten,
)
from datalabd.api.v1beta2 import Namespace
from datalabd.defaults import default
from datalabd.errors import ClaimInvalid, DatalabdError, EnvironmentInvalid
from datalabd.kube import resources as kinds
from datalabd.lab import Lab, environment_name, resolve
from datalabd.observed import PLUGIN_CONFIG, Observed, Place, View, observe, view
from datalabd.plan import Plan, Stage, network_policies, plan
from datalabd.plan.metadata import other_owner
from datalabd.plan.prune import Identity, identity
from datalabd.plan.realm import realm_state
from datalabd.submission import Names, Submission
from datalabd.validation import clashes, names_of, validate, warnings

INPUT_MAX = 16 * 1024 * 1024
"""Bytes of one input."""
VALUES_MAX = 1_000_000
"""Values in one input, those that YAML aliases repeat counted each time."""
DEPTH_MAX = 100
"""Objects and lists within each other."""
UNFOLDED = 2**31 - 1
"""Width at which no text is folded; libyaml takes no greater one."""
CLAIMS_MAX = 200
"""Claims at once: each is compared with every other."""

Parsed = TypeVar("Parsed")

_ENVIRONMENTS = (kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS)
"""Ours before Crossplane's of the same name."""
_LIVE = {(resource.group, resource.kind): resource for resource in kinds.RESOURCES if resource not in _ENVIRONMENTS}
_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Refused(DatalabdError):
    """Nothing can be rendered; one sentence for each mistake."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        super().__init__("; ".join(self.mistakes))


@dataclass(frozen=True)
class Rendered:
    """Objects in the order of apply, claim by claim; and what is to be known beside them."""

    objects: tuple[Manifest, ...]
    realm_states: tuple[Manifest, ...]
    """What Keycloak is to hold, claim by claim: no Kubernetes objects."""
    notes: tuple[str, ...]
    """A sentence each."""


class Objects:
    """Plain live objects, looked up as the reconciler looks them up in its caches."""

    def __init__(self, objects: Iterable[Manifest] = (), documents: Mapping[Identity, int] | None = None) -> None:
        self._objects = {identity(obj): obj for obj in objects}
        self.documents = documents or {}
        """Where in their file they stand, counted from 1."""
        self._by_kind: dict[str, list[Manifest]] = {}
        for obj in self:
            self._by_kind.setdefault(obj["kind"], []).append(obj)

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self._objects.values())

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object; the namespace of a cluster-scoped one is empty."""
        return self._objects.get((kind, namespace, name))

    def of(self, kind: str) -> list[Manifest]:
        """All objects of a kind."""
        return self._by_kind.get(kind, [])

    def within(self, kind: str, namespace: str) -> list[Manifest]:
        """All objects of a kind in a namespace."""
        return [obj for obj in self.of(kind) if obj["metadata"].get("namespace") == namespace]

    def made_for(self, kind: str, uid: str) -> list[Manifest]:
        """All objects of a kind that carry the uid of this claim."""
        return [obj for obj in self.of(kind) if _uid(obj) == uid]

    def joined(self, objects: Iterable[Manifest]) -> "Objects":
        """These objects and others, which win over those of the same name."""
        return Objects([*self, *map(_as_live, objects)], self.documents)


def render(
    claims: Iterable[Manifest], environments: Iterable[Manifest], live: Objects, fresh: Callable[[], str]
) -> Rendered:
    """Everything that the claims, of either version, become; raises `Refused` with the mistakes of all of them.

    `fresh` gives a new password with every call, for what has none among the live objects.
    """
    found = {(manifest["apiVersion"], manifest["metadata"]["name"]): manifest for manifest in environments}
    mistakes: list[str] = []
    notes: list[str] = []
    labs: list[Lab] = []
    taken = {owner: Names(owner.name) for obj in live.of("WorkshopEnvironment") if (owner := claim_of(obj))}
    taken |= {_key(claim): names_of(claim) for claim in live.of("Datalab")}
    mine: set[NamespacedName] = set()
    for index, manifest in enumerate(claims, start=1):
        claim, errors = _admitted(manifest)
        key = _key(claim)
        who = f"Datalab {key}" if key.name else f"Datalab, document {index}"
        environment = None
        try:
            environment = _environment(found, environment_name(claim))
        except EnvironmentInvalid as error:
            mistakes.append(f"EnvironmentConfig {error.name}: {error}")
        submission = Submission(claim, environment)
        errors += validate(submission)
        if key.name:
            if key in mine:
                errors.append(FieldError("metadata.name", Problem.DUPLICATE, key.name, ""))
            errors += clashes(claim, ((owner, other) for owner, other in taken.items() if owner != key))
            mine.add(key)
            taken[key] = names_of(claim)
        mistakes += [f"{who}: {error}" for error in errors]
        if environment is None or errors:
            continue
        notes += [f"{who}: warning: {warning}" for warning in warnings(submission)]
        try:
            labs.append(resolve(_stored(claim, live), environment))
        except ClaimInvalid as error:
            mistakes.append(f"{who}: {error}")
    for lab in labs:
        mistakes += _misshapen(lab, live)
    if mistakes:
        raise Refused(mistakes)
    objects: list[Manifest] = []
    for lab in labs:
        made, told = _lab(lab, live, fresh)
        objects += made
        notes += [f"Datalab {lab.key}: {note}" for note in told]
    return Rendered(tuple(objects), tuple(realm_state(lab).manifest() for lab in labs), tuple(notes))


# --- one lab ----------------------------------------------------------------------------------------------------------


def _lab(lab: Lab, live: Objects, fresh: Callable[[], str]) -> tuple[list[Manifest], list[str]]:
    """The objects of a lab, and what is missing of it and why.

    Planned again, as long as a plan makes what another would read: that counts as written then. So the login that is
    printed is also the one that sessions ask for.
    """
    now = datetime.datetime.now(datetime.UTC)
    seen = observe(lab, _view(lab, live, now))
    first = plan(lab, seen, fresh)
    others = list(_others(lab, live, seen, first))
    made = [obj for stage in first.stages for obj in stage.objects if _is_read_again(obj, live)]
    while True:
        live = live.joined(made)
        seen = observe(lab, _view(lab, live, now))
        wanted = plan(lab, seen, fresh)
        made = [obj for stage in wanted.stages for obj in stage.objects if _is_new_secret(obj, live)]
        if not made:
            break
    objects: dict[Identity, Manifest] = {}
    for stage in wanted.stages:
        for obj in [*stage.objects, *_kept(lab, stage, live)]:
            if not _owner(obj, live):
                objects.setdefault(identity(obj), _printable(obj))
    return list(objects.values()), [*others, *_missing(lab, seen, wanted, objects)]


def _view(lab: Lab, live: Objects, now: datetime.datetime) -> View:
    """What concerns a lab, in a cluster that knows every kind."""
    return replace(view(lab, live, now), served=frozenset({*stores.OPERATORS, PLUGIN_CONFIG}))


def _misshapen(lab: Lab, live: Objects) -> Iterator[str]:
    """What is wrong with objects that concern a lab. They would be read as if they were not there, and made anew."""
    seen = view(lab, live, datetime.datetime.now(datetime.UTC))
    for value in (getattr(seen, known.name) for known in fields(seen)):
        for obj in _manifests(value):
            try:
                _SHAPES.get(obj["kind"], _Live).model_validate(obj)
            except ValidationError as error:
                # Without the values: they may be secret.
                found = [replace(field_error(details), value=None) for details in error.errors(include_url=False)]
                where = f"document {live.documents.get(identity(obj), 0)}, {obj['kind']}"
                yield from (f"{where}: {one}" for one in found)


def _manifests(value: object) -> Iterator[Manifest]:
    """The objects in a value of a view: one, or those of a collection."""
    if isinstance(value, dict) and "kind" in value:
        yield value
    elif isinstance(value, Mapping):
        yield from (obj for obj in value.values() if obj is not None)
    elif isinstance(value, tuple):
        yield from value


def _owner(obj: Manifest, live: Objects) -> str:
    """Whose the live object of a planned name is, if it is not the lab's: nothing is written there. Else empty."""
    found = live.get(*identity(obj))
    return "" if found is None else other_owner(found, obj)


def _others(lab: Lab, live: Objects, seen: Observed, wanted: Plan) -> Iterator[str]:
    """What is in the way of the lab."""
    for stage in wanted.stages:
        for obj in stage.objects:
            if owner := _owner(obj, live):
                yield f"{obj['kind']} {NamespacedName(*identity(obj)[1:])} left out: it exists, and belongs to {owner}"
    places = {names.workshop_namespace(lab.name): seen.place}
    places |= {name: place for facts in seen.sessions.values() for name, place in facts.places.items()}
    for name, place in places.items():
        if place is Place.FOREIGN:
            yield f"Namespace {name} exists, and is not this lab's: nothing can be made in there"


def _is_read_again(obj: Manifest, live: Objects) -> bool:
    """Whether others are planned by this one: by Secrets as they will be, by stores where there are none yet."""
    if obj["kind"] == "Secret":
        return not _owner(obj, live)
    return obj["kind"] in stores.KINDS and live.get(*identity(obj)) is None


def _is_new_secret(obj: Manifest, live: Objects) -> bool:
    return obj["kind"] == "Secret" and live.get(*identity(obj)) is None


def _kept(lab: Lab, stage: Stage, live: Objects) -> Iterator[Manifest]:
    """What the plan leaves as it is, because it is written once or cannot be told anew."""
    for kept in stage.keeps:
        obj = live.get(*kept)
        if obj is not None and is_planned(obj) and claim_of(obj) == lab.key:
            yield obj


def _missing(lab: Lab, seen: Observed, wanted: Plan, printed: dict[Identity, Manifest]) -> Iterator[str]:
    """What had to be left out, with the reason; an object that is kept as it was is not missing."""
    for stage in wanted.stages:
        if stage.waits is not None and not stage.objects and not any(kept in printed for kept in stage.keeps):
            yield f"{stage.name} left out: {stage.waits}"
    if seen.storage is not None:
        for server in lab.databases:
            if seen.databases[server.host].login is None:
                yield f"credentials without the login of database {server.host}: its operator has not made it"
    network = lab.environment.data.network
    if not (seen.api_server or network.api_server_cidrs or network_policies.API_SERVER in network.exclude_policies):
        yield (
            f"NetworkPolicy {network_policies.API_SERVER} left out: where the API server is, is not known; give the "
            "EndpointSlices of Service default/kubernetes, or set network.apiServerCIDRs in the environment"
        )


def _printable(obj: Manifest) -> Manifest:
    """The object as somebody would write it: without what the API server adds, or an owner that does not exist."""
    metadata = {key: obj["metadata"][key] for key in _KEPT_METADATA if obj["metadata"].get(key)}
    if annotations := metadata.pop("annotations", None):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    if owners := [owner for owner in metadata.pop("ownerReferences", ()) if owner.get("uid")]:
        metadata["ownerReferences"] = owners
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


# --- what the API server does -----------------------------------------------------------------------------------------


class _ClaimMetadata(Model):
    """What of a claim's metadata has a say."""

    name: Annotated[str, StringConstraints(min_length=1)]
    namespace: Namespace = "default"
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


def _admitted(claim: Manifest) -> tuple[Manifest, list[FieldError]]:
    """A claim with the defaults of its schema and ours; and what the API server itself would refuse of it."""
    given = claim.get("metadata") or {}
    errors: list[FieldError] = []
    try:
        metadata = _ClaimMetadata.model_validate(
            {key: value for key, value in given.items() if value not in (None, "")}
            if isinstance(given, dict)
            else given
        ).model_dump()
    except ValidationError as invalid:
        found = [field_error(details) for details in invalid.errors(include_url=False)]
        errors = [replace(error, path=f"metadata.{error.path}".rstrip(".")) for error in found]
        told = given if isinstance(given, dict) else {}
        metadata = {"name": str(told.get("name") or ""), "namespace": str(told.get("namespace") or "default")}
    body = {key: value for key, value in claim.items() if key not in ("metadata", "status")}
    filled = _filled(_schema("Datalab", claim["apiVersion"]), body, "", errors)
    return default(filled | {"metadata": metadata}), errors


def _stored(claim: Manifest, live: Objects) -> Manifest:
    """An admitted claim as the reconciler reads it: in the hub's words, with the uid that its live objects know."""
    claim = to_v1beta2(claim)
    metadata = claim["metadata"]
    known = live.get("Datalab", metadata["namespace"], metadata["name"])
    uid = metadata["uid"] or (known["metadata"]["uid"] if known else "")
    if not uid:
        # Made for this claim, unless there have been several of that name.
        uids = {_uid(obj) for obj in live if is_planned(obj) and claim_of(obj) == _key(claim)}
        uid = uids.pop() if len(uids) == 1 else ""
    spec = _filled(_schema("Datalab", V1BETA2)["properties"]["spec"], claim["spec"], "spec", [])
    return claim | {"spec": spec, "metadata": metadata | {"uid": uid}}


@functools.cache
def _schema(kind: str, api_version: str) -> Manifest:
    """The structural schema of one version of a kind of ours."""
    (schema,) = [
        version["schema"]["openAPIV3Schema"]
        for definition in custom_resource_definitions()
        for version in definition["spec"]["versions"]
        if definition["spec"]["names"]["kind"] == kind and version["name"] == api_version.rpartition("/")[2]
    ]
    return dict(schema)


def _filled(schema: Manifest, value: Any, path: str, errors: list[FieldError]) -> Any:
    """The value with the schema's defaults and without nulls; fields that the schema lacks are added to `errors`."""
    if isinstance(value, list) and "items" in schema:
        return [_filled(schema["items"], item, f"{path}[{index}]", errors) for index, item in enumerate(value)]
    if not isinstance(value, dict) or "x-kubernetes-preserve-unknown-fields" in schema:
        return value
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    out: Manifest = {}
    for key, item in value.items():
        where = f"{path}.{key}".lstrip(".") if key in properties or others is None else f"{path}[{key}]"
        child = properties.get(key, others)
        if child is None:
            errors.append(FieldError(where, Problem.FORBIDDEN, None, "unknown field"))
        elif item is not None:
            out[key] = _filled(child, item, where, errors)
    for key, child in properties.items():
        if key not in out and "default" in child:
            out[key] = _filled(child, child["default"], f"{path}.{key}", errors)
    return out


def _environment(found: dict[tuple[str, str], Manifest], name: str) -> EnvironmentConfig:
    """The environment of that name, ours before Crossplane's; raises `EnvironmentInvalid`."""
    for kind in _ENVIRONMENTS:
        manifest = found.get((kind.api_version, name))
        if manifest is None:
            continue
        if kind is kinds.ENVIRONMENT_CONFIGS:
            unknown: list[FieldError] = []
            _filled(_schema(kind.kind, kind.api_version)["properties"]["data"], manifest.get("data"), "data", unknown)
            if unknown:
                raise EnvironmentInvalid(name, "EnvironmentInvalid", "; ".join(map(str, unknown)))
        return EnvironmentConfig.parse(manifest)
    raise EnvironmentInvalid(name, "EnvironmentNotFound", "does not exist; --environment has none of that name")


def _key(claim: Manifest) -> NamespacedName:
    return NamespacedName(claim["metadata"]["namespace"], claim["metadata"]["name"])


def _uid(obj: Manifest) -> str:
    """Uid of the claim that an object was made for."""
    return str((obj["metadata"].get("labels") or {}).get(CLAIM_UID, ""))


# --- input ------------------------------------------------------------------------------------------------------------


class _LiveMetadata(Model):
    name: Annotated[str, StringConstraints(min_length=1)]
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: AwareDatetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[dict[str, Any]] | None = None


class _LiveObject(Model):
    """What of every object has to be as the API server has it, to tell which it is and whose."""

    metadata: _LiveMetadata


class _Live(_LiveObject):
    """What objects that concern a lab have to be like. What is in them is read as far as it is there."""

    spec: dict[str, Any] | None = None
    status: dict[str, Any] | None = None


class _LiveSecret(_Live):
    data: dict[str, str] | None = None


def _is_size(value: object) -> object:
    if quantity.held(value) is None:
        raise ValueError("must be a quantity of bytes such as 512Mi, 1.5Gi or 10G")
    return value


class _LiveRequests(Model):
    storage: Annotated[Any, AfterValidator(_is_size)]


class _LiveResources(Model):
    requests: _LiveRequests


class _LiveClaimSpec(Model):
    resources: _LiveResources


class _LiveVolumeClaim(_LiveObject):
    spec: _LiveClaimSpec


_SHAPES: dict[str, type[Model]] = {"Secret": _LiveSecret, "PersistentVolumeClaim": _LiveVolumeClaim}


def claims_in(text: str) -> list[Manifest]:
    """The claims of a file; raises `Refused`."""
    found = _documents(text)
    if len(found) > CLAIMS_MAX:
        raise Refused([f"holds more than {CLAIMS_MAX} claims"])
    wanted = f"a Datalab of {V1BETA1} or {V1BETA2}"
    return _only(found, {(V1BETA1, "Datalab"), (V1BETA2, "Datalab")}, wanted)


def environments_in(text: str) -> list[Manifest]:
    """The environments of a file, of either group; raises `Refused`."""
    groups = " or ".join(kind.api_version for kind in _ENVIRONMENTS)
    known = {(kind.api_version, kind.kind) for kind in _ENVIRONMENTS}
    found = _only(_documents(text), known, f"an EnvironmentConfig of {groups}")
    seen: set[tuple[str, str]] = set()
    mistakes = []
    for index, manifest in enumerate(found, start=1):
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str) or not name:
            mistakes.append(f"document {index}: {FieldError('metadata.name', Problem.REQUIRED, None, '')}")
        elif (manifest["apiVersion"], name) in seen:
            mistakes.append(f"document {index}: {FieldError('metadata.name', Problem.DUPLICATE, shorten(name), '')}")
        else:
            seen.add((manifest["apiVersion"], name))
    if mistakes:
        raise Refused(mistakes)
    return found


def live_in(text: str) -> Objects:
    """The live objects of a file; kinds that say nothing of a lab are passed over. Raises `Refused`.

    A file may hold a whole cluster: what is wrong with objects that concern no claim is nobody's business here.
    """
    mistakes: list[str] = []
    found: list[Manifest] = []
    documents: dict[Identity, int] = {}
    for index, obj in enumerate(_documents(text), start=1):
        group, kind = str(obj.get("apiVersion")).rpartition("/")[0], obj.get("kind")
        resource = _LIVE.get((group, str(kind)))
        if resource is None:
            continue
        try:
            _LiveObject.model_validate(obj)
        except ValidationError as error:
            told = [replace(field_error(details), value=None) for details in error.errors(include_url=False)]
            mistakes += [f"document {index}, {resource.kind}: {one}" for one in told]
            continue
        if resource.namespaced:
            obj = obj | {"metadata": {"namespace": "default"} | _without_nulls(obj["metadata"])}
        obj = _as_live(to_v1beta2(obj) if resource is kinds.DATALABS and _has_spec(obj) else obj)
        found.append(obj)
        documents[identity(obj)] = index
    if mistakes:
        raise Refused(mistakes)
    return Objects(found, documents)


def _has_spec(claim: Manifest) -> bool:
    """Whether a claim can be converted at all."""
    return isinstance(claim.get("spec"), dict)


def _as_live(obj: Manifest) -> Manifest:
    """The object with the metadata that every live one has; one without a date is as new as can be."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    missing = {"uid": "", "resourceVersion": "", "creationTimestamp": now}
    return obj | {"metadata": missing | _without_nulls(obj["metadata"])}


def _without_nulls(value: Manifest) -> Manifest:
    return {key: item for key, item in value.items() if item is not None}


def _only(found: list[Manifest], known: set[tuple[str, str]], wanted: str) -> list[Manifest]:
    """The documents, if all are of a known apiVersion and kind."""
    wrong = [
        index
        for index, manifest in enumerate(found, start=1)
        if (str(manifest.get("apiVersion")), str(manifest.get("kind"))) not in known
    ]
    if wrong or not found:
        raise Refused(
            [f"document {index}: is not {wanted}" for index in wrong] or [f"holds no document: give {wanted}"]
        )
    return found


def _documents(text: str) -> list[Manifest]:
    """The objects of a YAML or JSON text, those in Lists one by one; raises `Refused`."""
    count = [0]
    found: list[Any] = []
    for document in _parsed(text):
        value = _json(document, count, 0)
        is_list = isinstance(value, dict) and (value.get("apiVersion"), value.get("kind")) == ("v1", "List")
        items = value.get("items") if is_list else value
        found += items if isinstance(items, list) and is_list else [] if items is None else [items]
    wrong = [index for index, item in enumerate(found, start=1) if not isinstance(item, dict)]
    if wrong:
        raise Refused(f"document {index}: must be an object" for index in wrong)
    return found


def _parsed(text: str) -> list[Any]:
    """The documents of a text. What is wrong is told by its place alone: the text may hold secrets."""
    if text.lstrip().startswith("{"):
        try:
            return [json.loads(text)]
        except RecursionError as error:
            raise Refused([_TOO_DEEP]) from error
        except ValueError:
            pass  # not JSON, so it has to be YAML, which may begin like it
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_MAX:
                raise Refused([_TOO_DEEP])
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Refused([f"{where}is not valid YAML"]) from error
    except ValueError as error:
        raise Refused(["holds a number that cannot be read"]) from error


_TOO_LARGE = "holds an integer of more than 64 bits"
_TOO_DEEP = f"is nested deeper than {DEPTH_MAX} levels"


def _json(value: Any, count: list[int], depth: int) -> Any:
    """The value as JSON has it, keys as text; raises `Refused` for what JSON does not know, and beyond the limits."""
    count[0] += 1
    if count[0] > VALUES_MAX:
        raise Refused([f"holds more than {VALUES_MAX} values"])
    if depth > DEPTH_MAX:
        raise Refused([_TOO_DEEP])
    match value:
        case dict():
            return {_json_key(key): _json(item, count, depth + 1) for key, item in value.items()}
        case list():
            return [_json(item, count, depth + 1) for item in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            raise Refused(["holds a number that JSON does not know"])
        case int() if not -(2**63) <= value < 2**63:
            raise Refused([_TOO_LARGE])
        case str():
            return _text(value)
        case None | bool() | int() | float():
            return value
    raise Refused(["holds a value that JSON does not know"])


def _json_key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, int) and not -(2**63) <= key < 2**63:
        raise Refused([_TOO_LARGE])
    if isinstance(key, str | int):
        return _text(str(key))
    raise Refused(["holds a key that is no text"])


def _text(text: str) -> str:
    """The text, unless it holds half a character, as the escapes of JSON allow."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(["holds a text that is not Unicode"]) from error
    return text


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's where it was built
    """Reads what JSON can say: dates stay text, as in kubectl."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


# --- output -----------------------------------------------------------------------------------------------------------


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # as above
    """Writes texts so that kubectl's parser too takes them for texts, and every value in full."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors."""
        return True


# What is text for this library and a boolean or a number for kubectl's has to be quoted.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9_]+)?$|^[-+]?0[bBoOxX][0-9a-fA-F_]+$"),
    list("-+.0123456789"),
)


def as_yaml(obj: Manifest) -> str:
    """The object as one document of a YAML stream."""
    return str(yaml.dump(obj, Dumper=_Dumper, explicit_start=True, sort_keys=False, allow_unicode=True, width=UNFOLDED))


def as_json(objects: Iterable[Manifest]) -> str:
    """The objects as one List."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}, indent=2, ensure_ascii=False) + "\n"


# --- command line -----------------------------------------------------------------------------------------------------


def run(claim: str, environment: str, cluster: str | None, output: str, *, kubernetes_only: bool) -> int:
    """Print what the claims of a file become; returns the exit code. `-` is stdin, for one of the files."""
    try:
        claims = _read(claim, claims_in)
        environments = _read(environment, environments_in)
        live = _read(cluster, live_in) if cluster is not None else Objects()
        rendered = render(claims, environments, live, lambda: secrets.token_urlsafe(24))
    except Refused as error:
        for mistake in error.mistakes:
            print(f"datalabd: {mistake}", file=sys.stderr)
        return 1
    for note in rendered.notes:
        print(f"datalabd: {note}", file=sys.stderr)
    printed = rendered.objects if kubernetes_only else rendered.objects + rendered.realm_states
    try:
        sys.stdout.writelines([as_json(printed)] if output == "json" else map(as_yaml, printed))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read along has seen enough; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _read(file: str, parse: Callable[[str], Parsed]) -> Parsed:
    """What a file holds; raises `Refused`, naming the file."""
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            content = sys.stdin.buffer.read(INPUT_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(INPUT_MAX + 1)
        if len(content) > INPUT_MAX:
            raise Refused([f"is larger than {INPUT_MAX // 1024**2} MiB"])
        return parse(content.decode("utf-8-sig"))
    except OSError as error:
        raise Refused([f"{name}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise Refused([f"{name}: is not UTF-8"]) from error
    except Refused as error:
        raise Refused(f"{name}: {mistake}" for mistake in error.mistakes) from error
