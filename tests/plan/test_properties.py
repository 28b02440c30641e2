"""What holds of every plan, whatever the claim, its environment and the state of the cluster."""

import copy
import datetime
import itertools
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datalabd import names
from datalabd.api import quantity, v1beta1, v1beta2
from datalabd.api.crd import schema
from datalabd.api.environment import EnvironmentConfig, EnvironmentData, mistakes
from datalabd.api.meta import (
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    FIELD_MANAGER,
    MANAGED_BY,
    RETAINED,
    ROTATED,
    STORAGE_CLAIM,
    V1BETA1,
    V1BETA2,
    Manifest,
    Model,
    is_planned,
)
from datalabd.api.patterns import DNS_LABEL, DNS_NAME
from datalabd.kube.apply import agrees
from datalabd.lab import Lab
from datalabd.observed import PLUGIN_CONFIG, View, observe, view
from datalabd.plan import Fresh, Plan, apisix, plan
from datalabd.plan.educates.content import workshop_config
from datalabd.plan.educates.healing import Delete, Patch, look_again, repairs
from datalabd.plan.metadata import digest
from datalabd.plan.prune import identity, prune
from datalabd.render import Objects
from datalabd.status import status
from datalabd.stores import CACHE_STORE, DOCUMENT_STORE, KINDS, POSTGRES, ROUTE, VECTOR_STORE
from datalabd.submission import Submission
from datalabd.validation import validate, warnings
from tests.strategies import claims, environments, labs, spellings, stored

# To find the smallest example that fails may take five minutes.
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(400)]

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
CANARY = "CANARY"
"""In every secret value, and nowhere else."""
ROUNDS = 12
"""Passes within which a lab comes to rest; replacing the password of a cache store takes most of them."""
OPERATED = ("WorkshopEnvironment", "WorkshopSession", *KINDS, ROUTE)

many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


# --- a cluster --------------------------------------------------------------------------------------------------------


def fresh() -> Fresh:
    """Passwords that differ, and come in the same order every time."""
    numbers = itertools.count()
    return lambda: f"{CANARY}-fresh/{next(numbers)}"


class World:
    """The cluster around one lab: what was written is there at once, and operators have answered at once."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.sent: list[Manifest] = []
        """Everything the plan wrote, as it was planned."""
        self.served = frozenset({*KINDS, ROUTE, PLUGIN_CONFIG})
        self.runtime_served = True
        self.endpoint_slices: tuple[Manifest, ...] = (
            {"endpoints": [{"addresses": ["10.0.0.1", "fd00::1"]}], "ports": [{"port": 6443}]},
        )
        self._versions = itertools.count(1)
        self._fresh = fresh()
        where = lab.storage_secret
        self.put(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": where.name,
                    "namespace": where.namespace,
                    "annotations": {STORAGE_CLAIM: str(lab.key)},
                },
                "data": encoded(AWS_ACCESS_KEY_ID=f"{CANARY}-access", AWS_SECRET_ACCESS_KEY=f"{CANARY}:sto/rage+ä"),
            }
        )
        if apisix.is_wanted(lab) and not lab.has_realm:  # then somebody else has to say who the lab is to Keycloak
            self.put(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": names.identity_secret_copy(lab.name), "namespace": lab.name},
                    "data": encoded(client_id=lab.name, client_secret=f"{CANARY}-client"),
                }
            )

    def put(self, manifest: Manifest) -> Manifest:
        """The live object, which keeps what the API server and operators added to it."""
        before = self.objects.get(identity(manifest), {})
        live = copy.deepcopy(manifest)
        if live["kind"] == "PersistentVolumeClaim":
            asked = live["spec"]["resources"]["requests"]
            # As the API server does, which keeps no size as it was written.
            asked["storage"] = f"{quantity.parse(asked['storage']):.0f}"
        known = before.get("metadata", {})
        live["metadata"] |= {
            "uid": known.get("uid") or f"uid-{next(self._versions)}",
            "resourceVersion": str(next(self._versions)),
            "creationTimestamp": "2026-03-01T11:50:00Z",
            "generation": 1,
        }
        live |= {"status": before["status"]} if "status" in before else {}
        self.objects[identity(manifest)] = live
        return live

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """A live object, in the workshop namespace unless told otherwise."""
        return self.objects.get((kind, self.lab.name if namespace is None else namespace, name))

    def view(self) -> View:
        """What is seen of it."""
        lab = self.lab
        return replace(
            view(lab, Objects(self.objects.values()), NOW),
            endpoint_slices=self.endpoint_slices,
            owned=tuple(
                obj
                for obj in self.objects.values()
                if (obj["metadata"].get("labels") or {}).get(CLAIM_UID) == lab.uid and is_planned(obj)
            ),
            served=self.served,
            runtime_served=self.runtime_served,
        )

    def reconcile(self) -> int:
        """One pass; the number of writes it took."""
        view = self.view()
        seen = observe(self.lab, view)
        wanted = plan(self.lab, seen, self._fresh)
        writes = 0
        for stage in wanted.stages:
            for manifest in stage.objects if stage.waits is None else ():
                live = self.objects.get(identity(manifest))
                if live is None or not (stage.create_only or agrees(live, manifest)):
                    self.put(manifest)
                    self.sent.append(manifest)
                    writes += 1
        for new in wanted.new_passwords:
            secret = self.objects["Secret", self.lab.name, new.name]
            assert (secret["metadata"]["uid"], secret["metadata"]["resourceVersion"]) == (new.uid, new.version)
            secret["metadata"]["annotations"] = secret["metadata"].get("annotations", {}) | new.annotations
            secret["data"] |= encoded(password=new.password, verifier="")
            writes += 1
        pruning = prune(self.lab, wanted.wanted, view.owned)
        assert pruning.retain == []
        for obj in pruning.delete:
            del self.objects[identity(obj)]
            writes += 1
        for repair in repairs(self.lab, seen):
            if isinstance(repair, Patch):
                self._patch(repair)
            elif isinstance(repair, Delete):
                del self.objects[repair.kind, "", repair.name]
            writes += 1
        return writes

    def _patch(self, repair: Patch) -> None:
        target = self.objects[repair.kind, repair.namespace, repair.name]
        for operation in repair.operations:
            *parents, last = operation["path"].strip("/").split("/")
            place = target
            for key in parents:
                place = place[key]
            if operation["op"] == "test":
                assert place[last] == operation["value"]
            else:
                place[last] = copy.deepcopy(operation["value"])

    def settle(self) -> None:
        """Reconcile until nothing is left to write."""
        for _ in range(ROUNDS):
            written = self.reconcile()
            self.operate()
            if not written:
                return
        raise AssertionError(f"still writing after {ROUNDS} passes")

    def operate(self, *kinds: str) -> None:
        """Every operator, or those of these kinds, answers."""
        for (kind, _, _), obj in list(self.objects.items()):
            if kind in (kinds or OPERATED):
                {
                    "WorkshopEnvironment": self._environment,
                    "WorkshopSession": self._session,
                    POSTGRES: self._postgres,
                    ROUTE: self._route,
                    DOCUMENT_STORE: self._document_store,
                    CACHE_STORE: self._cache_store,
                    VECTOR_STORE: self._vector_store,
                }[kind](obj)

    def _environment(self, obj: Manifest) -> None:
        name = obj["metadata"]["name"]
        workshop = self.objects["Workshop", "", name]
        if "status" not in obj:
            spec = copy.deepcopy(workshop["spec"])
            obj["status"] = {"educates": {"phase": "Running", "workshop": {"name": name, "spec": spec}}}
            self._namespace(name, obj)
            config = workshop_config(self.lab, spec)
            if config is not None:
                self._secret(names.WORKSHOP_CONFIG, {**config, "grown": "old"})
        source = self.get("Secret", names.credentials(name), self.lab.namespace)
        if source is not None:
            self._secret(names.credentials(name), source["data"])

    def _session(self, obj: Manifest) -> None:
        name = obj["metadata"]["name"]
        obj["status"] = {"educates": {"phase": "Running", "url": f"https://{name}.example.org"}}
        for namespace in [name, *([f"{name}-vc"] if self.lab.claim.spec.vcluster else [])]:
            self._namespace(namespace, obj)
        available = {"conditions": [{"type": "Available", "status": "True"}]}
        self._put_inside("apps/v1", "Deployment", name, status=available)

    def _postgres(self, obj: Manifest) -> None:
        host, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
        obj["status"] = {
            "observedGeneration": obj["metadata"]["generation"],
            "instances": [{"name": "primary", "readyReplicas": 1}],
            "pgbackrest": {"repoHost": {"ready": True}},
        }
        passwords = []
        for user in obj["spec"]["users"]:
            name = names.database_login(host, user["name"])
            known = (self.get("Secret", name) or {"data": encoded(password=f"{CANARY} {host}@{user['name']}")})["data"]
            address = f"{host}-primary.{namespace}.svc"
            said = encoded(host=address, port="5432", user=user["name"], verifier="SCRAM")
            if "databases" in user:
                said |= encoded(uri=f"postgresql://{user['name']}:{CANARY}%20@{address}:5432/{user['databases'][0]}")
            self._secret(name, said | {"password": known["password"]})
            passwords.append(known["password"])
        obj["status"]["usersRevision"] = digest(passwords)

    def _route(self, obj: Manifest) -> None:
        conditions = [{"type": kind, "status": "True"} for kind in ("Accepted", "ResolvedRefs")]
        obj["status"] = {"parents": [{"conditions": conditions}]}

    def _document_store(self, obj: Manifest) -> None:
        obj["status"] = {"phase": "Running", "currentMongoDBMembers": 1, "currentStatefulSetReplicas": 1}

    def _cache_store(self, obj: Manifest) -> None:
        container = {"name": "redis", "env": obj["spec"].get("env", [])}
        self._pods(obj["metadata"]["name"], {"template": {"spec": {"containers": [container]}}})

    def _vector_store(self, obj: Manifest) -> None:
        self._pods(names.vector_store_services(obj["metadata"]["name"])[0], {})

    def _pods(self, name: str, spec: Manifest) -> None:
        revision = {"currentRevision": "1", "updateRevision": "1"}
        ready = {"observedGeneration": 1, "readyReplicas": 1} | revision
        self._put_inside("apps/v1", "StatefulSet", name, spec={"replicas": 1} | spec, status=ready)

    def _put_inside(self, api_version: str, kind: str, name: str, **rest: Any) -> None:
        metadata = {"name": name, "namespace": self.lab.name}
        before = self.get(kind, name) or {"metadata": {}}
        kept = {key: before["metadata"][key] for key in ("annotations",) if key in before["metadata"]}
        self.objects.pop((kind, self.lab.name, name), None)
        live = self.put({"apiVersion": api_version, "kind": kind, "metadata": metadata | kept} | rest)
        live["metadata"]["uid"] = before["metadata"].get("uid", live["metadata"]["uid"])

    def _secret(self, name: str, data: Manifest) -> None:
        live = self.get("Secret", name)
        if live is None or live["data"] != data:
            self._put_inside("v1", "Secret", name, data=dict(data))

    def _namespace(self, name: str, owner: Manifest) -> None:
        if ("Namespace", "", name) not in self.objects:
            owners = [{"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]
            metadata = {"name": name, "ownerReferences": owners}
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def encoded(**values: str) -> dict[str, str]:
    """Data of a Secret."""
    return {key: b64encode(value.encode()).decode() for key, value in values.items()}


# --- what can be wrong with a live object -----------------------------------------------------------------------------


def _deleting(obj: Manifest) -> None:
    obj["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"


def _foreign(obj: Manifest) -> None:
    obj["metadata"].pop("labels", None)
    obj["metadata"].pop("ownerReferences", None)


def _of_an_earlier_claim(obj: Manifest) -> None:
    if "labels" in obj["metadata"]:
        obj["metadata"]["labels"] |= {CLAIM_UID: "earlier", RETAINED: "true"}


def _emptied(obj: Manifest) -> None:
    obj.pop("data", None)


def _garbled(obj: Manifest) -> None:
    if "data" in obj:
        obj["data"] = dict(zip(obj["data"], itertools.cycle(["%%%", "/w==", ""]), strict=False))


def _silent(obj: Manifest) -> None:
    obj.pop("status", None)


def _failed(obj: Manifest) -> None:
    obj["status"] = {"phase": "Failed", "educates": {"phase": "Failed", "message": "no"}, "conditions": []}


def _retrying(obj: Manifest) -> None:
    obj["status"] = {"phase": "Pending", "educates": {"phase": "Retrying"}, "observedGeneration": 0}


def _changed(obj: Manifest) -> None:
    obj["metadata"]["generation"] = 7


def _rotated(obj: Manifest) -> None:
    obj["metadata"]["annotations"] = obj["metadata"].get("annotations", {}) | {ROTATED: "now"}


HARMS = (
    _deleting, _foreign, _of_an_earlier_claim, _emptied, _garbled, _silent, _failed, _retrying, _changed, _rotated,
)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A cluster in any state: before a lab, on the way to it, settled, and with anything gone or spoilt after that."""
    world = World(draw(labs()))
    for _ in range(draw(st.integers(0, 6))):
        world.reconcile()
        world.operate(*draw(st.sets(st.sampled_from(OPERATED), min_size=1)))
    for place, harm in draw(st.lists(st.tuples(st.integers(0, 99), st.none() | st.sampled_from(HARMS)), max_size=8)):
        key = sorted(world.objects)[place % len(world.objects)] if world.objects else None
        if key is not None and harm is None:
            del world.objects[key]
        elif key is not None and harm is not None:
            harm(world.objects[key])
    world.served = frozenset(draw(st.sets(st.sampled_from((*KINDS, ROUTE))) | st.just({*KINDS, ROUTE})))
    world.runtime_served = draw(st.booleans())
    world.endpoint_slices = draw(st.just(world.endpoint_slices) | st.just(()) | st.just(({"endpoints": None},)))
    return world


def objects(of: Plan) -> Iterator[Manifest]:
    """Everything planned, written now or later."""
    for stage in of.stages:
        yield from stage.objects


def planned(world: World) -> list[Manifest]:
    """What is planned as things are."""
    return list(objects(plan(world.lab, observe(world.lab, world.view()), fresh())))


REFUSED = (("components", "qdrant", "resources"), ("components", "redis", "replicas"))
"""Fields of an environment that may not be given."""


def _specs(version: str) -> st.SearchStrategy[Manifest]:
    """What is asked for in claims of one version."""
    parsed = environments().map(EnvironmentConfig.parse)
    return parsed.flatmap(lambda environment: claims(environment, version)).map(lambda claim: claim["spec"])


def _paths(node: Manifest, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field of a schema; `*` stands for any key of a map, items of a list have no step of their own."""
    yield where
    for name, field in node.get("properties", {}).items():
        yield from _paths(field, (*where, name))
    for inside, step in (("additionalProperties", ("*",)), ("items", ())):
        if isinstance(node.get(inside), dict):
            yield from _paths(node[inside], (*where, *step))


def _given(value: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field that is given, likewise; any of them may be the key of a map."""
    yield where
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _given(item, (*where, key))
            yield from _given(item, (*where, "*"))
    for item in value if isinstance(value, list) else ():
        yield from _given(item, where)


# --- properties -------------------------------------------------------------------------------------------------------


@many
@given(st.data())
def test_what_is_drawn_is_valid(data: st.DataObject) -> None:
    written = data.draw(environments())
    assert mistakes(written) == []
    environment = EnvironmentConfig.parse(written)
    claim = data.draw(claims(environment))
    assert validate(Submission(claim, environment)) == []
    assert validate(Submission(stored(claim), environment)) == []
    assert all(len(line) < 256 for line in warnings(Submission(claim, environment)))


@pytest.mark.parametrize(
    ("model", "drawn"),
    [
        pytest.param(EnvironmentData, environments().map(lambda made: made["data"]), id="environment"),
        pytest.param(v1beta1.DatalabSpec, _specs(V1BETA1), id="v1beta1"),
        pytest.param(v1beta2.DatalabSpec, _specs(V1BETA2), id="v1beta2"),
    ],
)
def test_every_field_is_drawn(model: type[Model], drawn: st.SearchStrategy[Manifest]) -> None:
    missing = {path for path in _paths(schema(model)) if path[:3] not in REFUSED}

    @settings(many, max_examples=50, derandomize=False, database=None, phases=[Phase.generate])
    @given(drawn)
    def look(made: Manifest) -> None:
        missing.difference_update(_given(made))

    for _ in range(80):
        if missing:
            look()
    assert missing == set()


@many
@given(worlds())
def test_whatever_is_seen_is_decided(world: World) -> None:
    lab, view = world.lab, world.view()
    seen = observe(lab, view)
    wanted = plan(lab, seen, fresh())
    found = repairs(lab, seen)
    removed = prune(lab, wanted.wanted, view.owned)
    assert {identity(obj) for obj in (*removed.delete, *removed.retain)}.isdisjoint(wanted.wanted)
    assert (look_again(lab, seen) or 1.0) >= 1.0
    claim = {"metadata": {"generation": lab.generation}}
    told = status(claim, lab, seen, wanted, found, None, NOW)
    assert {"Ready", "Synced"} <= {condition["type"] for condition in told["conditions"]}
    assert all(condition["status"] == "True" or condition["message"] for condition in told["conditions"])


@many
@given(worlds())
def test_every_object_is_as_all_are(world: World) -> None:
    made = planned(world)
    no_two_objects_are_one(made)
    names_fit(made)
    every_object_is_labelled_as_the_labs(world.lab, made)
    every_object_stands_where_the_lab_is(world.lab, made)
    secrets_stand_in_secrets_only_and_in_the_spec_of_sessions(made)


def no_two_objects_are_one(made: list[Manifest]) -> None:
    identities = [identity(obj) for obj in made]
    assert len(identities) == len(set(identities))


# Operators add to these names what has to fit into a DNS label or a label's value; see the bounds of the schema.
ROOM = {POSTGRES: 25, DOCUMENT_STORE: 11, CACHE_STORE: 18, VECTOR_STORE: 18}


def names_fit(made: list[Manifest]) -> None:
    for obj in made:
        metadata = obj["metadata"]
        assert re.fullmatch(DNS_NAME, metadata["name"])
        assert len(metadata["name"]) <= 253
        assert len(metadata["name"]) + ROOM.get(obj["kind"], 0) <= 63 or obj["kind"] not in OPERATED
        assert all(len(value) <= 63 for value in metadata["labels"].values())
        namespace = metadata.get("namespace", "x")
        assert re.fullmatch(DNS_LABEL, namespace)
        assert len(namespace) <= 63


def every_object_is_labelled_as_the_labs(lab: Lab, made: list[Manifest]) -> None:
    mark = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: lab.name, CLAIM_NAMESPACE: lab.namespace, CLAIM_UID: lab.uid}
    for obj in made:
        assert obj["metadata"]["labels"].items() >= mark.items()
        assert is_planned(obj)


def every_object_stands_where_the_lab_is(lab: Lab, made: list[Manifest]) -> None:
    places = {"", lab.namespace, names.workshop_namespace(lab.name)}
    places |= {place for session in lab.sessions for place in names.session_namespaces(lab.name, session)}
    assert {obj["metadata"].get("namespace", "") for obj in made} <= places


@many
@given(worlds())
def test_the_same_is_planned_for_the_same(world: World) -> None:
    seen = observe(world.lab, world.view())
    before = copy.deepcopy(world.objects)
    assert plan(world.lab, seen, fresh()) == plan(world.lab, seen, fresh())
    assert observe(world.lab, world.view()) == seen
    assert world.objects == before


@many
@given(labs())
def test_a_lab_comes_to_rest(lab: Lab) -> None:
    world = World(lab)
    world.settle()
    seen = observe(lab, world.view())
    first = plan(lab, seen, fresh())
    assert first == plan(lab, observe(lab, world.view()), fresh())
    for stage in first.stages:
        unprotected = stage.part in lab.started and not lab.is_protected
        assert stage.waits is None or unprotected
        for obj in stage.objects if stage.waits is None else ():
            assert agrees(world.objects[identity(obj)], obj)
    assert first.new_passwords == ()
    assert world.reconcile() == 0


# --- secrets ----------------------------------------------------------------------------------------------------------


def told(text: str) -> set[str]:
    """In which spellings a secret value turns up in a text."""
    return {spelling for spelling in spellings(CANARY) if spelling in text}


def without_login(obj: Manifest) -> Manifest:
    """The one exception: Educates takes a session's login from nowhere but the session's own spec."""
    if obj["kind"] != "WorkshopSession":
        return obj
    session = {key: value for key, value in obj["spec"]["session"].items() if key not in ("username", "password")}
    return obj | {"spec": obj["spec"] | {"session": session}}


def secrets_stand_in_secrets_only_and_in_the_spec_of_sessions(made: list[Manifest]) -> None:
    for obj in made:
        assert told(json.dumps(without_login(obj), ensure_ascii=False)) == set() or obj["kind"] == "Secret"
        assert told(json.dumps(obj["metadata"])) == set()


@many
@given(worlds())
def test_no_status_and_no_repr_names_a_secret(world: World) -> None:
    lab, view = world.lab, world.view()
    seen = observe(lab, view)
    wanted, found = plan(lab, seen, fresh()), repairs(lab, seen)
    for shown in (lab, seen, view, wanted, found):
        assert told(repr(shown)) == set()
    claim = {"metadata": {"generation": lab.generation}}
    assert told(json.dumps(status(claim, lab, seen, wanted, found, None, NOW))) == set()
