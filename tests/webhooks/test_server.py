"""The application as the API server calls it, over caches that hold what a test puts there."""

import asyncio
import base64
import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY

from datalabd.api.meta import (
    ACCOUNT,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    ENVIRONMENT,
    FIELD_MANAGER,
    MANAGED_BY,
    PROTECT,
    PROTECTION,
    V1BETA1,
    V1BETA2,
    Manifest,
)
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource
from datalabd.observed import ENVIRONMENT_LABEL
from tests.kube.scripted import Reply, Scripted, listing, serve, status
from webhooks.server import BODY_MAX, LOOKUPS, LOOKUPS_MAX, application

PATHS = [
    "/mutate/datalabs",
    "/validate/datalabs",
    "/warn/datalabs",
    "/validate/environmentconfigs",
    "/convert",
    "/mutate/ingresses",
    "/validate/routes",
]
CLAIMS_NEED = (kinds.DATALABS, kinds.NAMESPACES, kinds.WORKSHOP_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS)
ROUTES_NEED = (kinds.DATALABS, kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS)
"""Kinds without which nobody can judge."""
NGINX = "nginx.ingress.kubernetes.io"
ALIAS = f"{NGINX}/server-alias"
WWW_REDIRECT = f"{NGINX}/from-to-www-redirect"
DOMAIN = "lab.example.org"
MakeClient = Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]


@dataclass
class Webhooks:
    """The application, its caches, and the API server that it may ask."""

    client: TestClient[web.Request, web.Application]
    cache: Cache
    api_server: Scripted

    def hold(self, kind: Resource, *objects: Manifest) -> None:
        """Let the cache of a kind hold just these."""
        self.cache.informers.store(kind).replace(EVERYWHERE, list(objects))

    def answer_next(self, reply: Reply) -> None:
        """What the API server says to the next request."""
        self.api_server.script.append(reply)

    async def ask(self, path: str, **request: Any) -> Manifest:
        """The `response` to an AdmissionReview."""
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1"} | request}
        body = io.BytesIO(json.dumps(review).encode())
        async with self.client.post(path, data=body, headers={"Content-Type": "application/json"}) as http:
            assert http.status == 200, await http.text()
            response: Manifest = (await http.json())["response"]
        assert response["uid"] == "u-1"
        return response


class _WithoutEnvironments(Scripted):
    """Has no environments but those it is told to have."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self.script and request.path.endswith("/environmentconfigs"):
            return await listing("1")(request)
        return await super().handle(request)


@pytest.fixture
async def webhooks(aiohttp_client: MakeClient, tmp_path: Path) -> AsyncIterator[Webhooks]:
    api_server = _WithoutEnvironments()
    async with serve(api_server, tmp_path) as client:
        cache = Cache(Informers(client))
        for kind in {*CLAIMS_NEED, *ROUTES_NEED}:
            cache.informers.store(kind).replace(EVERYWHERE, [])
        yield Webhooks(await aiohttp_client(application(client, cache)), cache, api_server)


def claim(name: str = "lab", namespace: str = "team", version: str = V1BETA2, **spec: Any) -> Manifest:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-of-{name}",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {ENVIRONMENT: "courses"},
    }
    return {"apiVersion": version, "kind": "Datalab", "metadata": metadata, "spec": {"users": ["joe"]} | spec}


VERSIONS = itertools.count(1)


def environment(**data: Any) -> Manifest:
    metadata = {"name": "courses", "uid": "uid-of-courses", "resourceVersion": str(next(VERSIONS))}
    ingress = {"domain": DOMAIN, "protection": {"type": "nginx", "responseHeaders": ["A", "B"]}}
    return {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "EnvironmentConfig",
        "metadata": metadata,
        "data": {"ingress": ingress} | data,
    }


SESSION = {"training.educates.dev/component": "session", "training.educates.dev/application": "workshop"}
OF_REGISTRY = SESSION | {"training.educates.dev/application": "registry"}


def ingress(*hosts: str, labels: Any = None, **annotations: str) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "ing", "labels": labels or {}, "annotations": annotations},
        "spec": {"rules": [{"host": host} for host in hosts]},
    }


def alias(hosts: str) -> Manifest:
    return {"kind": "Ingress", "metadata": {"name": "ing", "annotations": {ALIAS: hosts}}, "spec": {}}


def redirect(host: str) -> Manifest:
    metadata = {"name": "ing", "annotations": {WWW_REDIRECT: "true"}}
    return {"kind": "Ingress", "metadata": metadata, "spec": {"rules": [{"host": host}]}}


def requests(webhook: str, code: str) -> float:
    labels = {"webhook": webhook, "code": code}
    return REGISTRY.get_sample_value("datalabd_webhook_requests_total", labels) or 0


def patch(response: Manifest) -> list[Manifest]:
    assert response["allowed"]
    found: list[Manifest] = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
    return found


def message(response: Manifest) -> str:
    assert not response["allowed"]
    return str(response["status"]["message"])


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="half a body"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"{}", id="no review"),
        pytest.param(b'{"apiVersion": "admission.k8s.io/v1", "request": {"uid": "a", "object": {}}}', id="no metadata"),
    ],
)
async def test_a_bad_body_is_a_400(webhooks: Webhooks, path: str, body: bytes) -> None:
    webhook = path.strip("/").replace("/", "-")
    before = requests(webhook, "400")
    async with webhooks.client.post(path, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 400
    assert requests(webhook, "400") == before + 1


async def test_a_body_may_be_as_large_as_two_large_objects(webhooks: Webhooks) -> None:
    padded = claim() | {"padding": "x" * (3 * 1024 * 1024)}
    response = await webhooks.ask("/mutate/datalabs", operation="UPDATE", object=padded, oldObject=padded)
    assert response["allowed"]


async def test_an_over_large_body_is_refused(webhooks: Webhooks) -> None:
    before = requests("mutate-datalabs", "413")
    async with webhooks.client.post("/mutate/datalabs", data=io.BytesIO(b" " * (BODY_MAX + 1))) as answer:
        assert answer.status == 413
    assert requests("mutate-datalabs", "413") == before + 1


async def test_small_reviews_are_answered_while_large_ones_take_all_the_room(webhooks: Webhooks) -> None:
    small = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-2"}}
    large = json.dumps(small | {"padding": "x" * (BODY_MAX - 1024)}).encode()
    is_sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield large[:-1]
        await is_sent.wait()
        yield large[-1:]

    async def post(body: Any) -> int:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(large))}
        async with webhooks.client.post("/warn/datalabs", data=body, headers=headers) as answer:
            return answer.status

    slow = asyncio.create_task(post(slowly()))
    other = asyncio.create_task(post(io.BytesIO(large)))
    for _ in range(3):
        assert (await webhooks.ask("/warn/datalabs", operation="DELETE"))["allowed"]
    assert [slow.done(), other.done()] == [False, False]
    is_sent.set()
    assert [await slow, await other] == [200, 200]


async def test_other_paths_and_methods(webhooks: Webhooks) -> None:
    async with webhooks.client.post("/") as answer:
        assert answer.status == 404
    async with webhooks.client.get("/convert") as answer:
        assert answer.status == 405


async def test_an_answer_is_counted_and_timed(webhooks: Webhooks) -> None:
    def seen() -> list[float]:
        labels = {"webhook": "validate-datalabs"}
        return [
            requests("validate-datalabs", "200"),
            REGISTRY.get_sample_value("datalabd_webhook_latency_seconds_count", labels) or 0,
            REGISTRY.get_sample_value("datalabd_webhook_requests_in_flight", labels) or 0,
        ]

    before = seen()
    await webhooks.ask("/validate/datalabs", operation="DELETE")
    assert seen() == [before[0] + 1, before[1] + 1, 0]


# --- claims -----------------------------------------------------------------------------------------------------------


async def test_defaults_are_a_patch(webhooks: Webhooks) -> None:
    response = await webhooks.ask("/mutate/datalabs", operation="CREATE", object=claim(users=[" joe"]))
    assert patch(response) == [
        {"op": "replace", "path": "/spec/users", "value": ["joe"]},
        {"op": "add", "path": "/spec/secretName", "value": "lab"},
    ]


async def test_a_claim_being_deleted_is_not_changed(webhooks: Webhooks) -> None:
    leaving = claim(users=[" joe"])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert patch(await webhooks.ask("/mutate/datalabs", operation="UPDATE", object=leaving)) == []


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
@pytest.mark.parametrize("spec", [None, 5, [], {"users": 5, "sessions": {}, "databases": [], "quota": "a"}])
async def test_mutation_passes_an_invalid_claim_on(webhooks: Webhooks, version: str, spec: Any) -> None:
    response = await webhooks.ask(
        "/mutate/datalabs", operation="CREATE", object=claim(version=version) | {"spec": spec}
    )
    assert response["allowed"]


async def test_a_good_claim_is_accepted_with_what_it_makes(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    new = claim(sessions=[{"name": "a"}])
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=new)
    (told,) = response.pop("warnings")
    assert told.endswith(" objects, 1 volume: 1 home of 1Gi")
    assert response == {"uid": "u-1", "allowed": True}


async def test_a_claim_is_told_of_what_its_predecessor_left(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.hold(kinds.NAMESPACES, {"metadata": {"name": "lab"} | OWNED})
    kept = {"metadata": {"name": "lab", "uid": "uid-of-environment", "labels": OURS}}
    webhooks.hold(kinds.WORKSHOP_ENVIRONMENTS, kept)
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=claim())
    assert response["warnings"][0].endswith("left behind is found again")


async def test_a_good_update_that_destroys_nothing_is_accepted_in_silence(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    update = {"operation": "UPDATE", "object": claim(users=["joe", "ann"]), "oldObject": claim()}
    assert await webhooks.ask("/validate/datalabs", namespace="team", **update) == {"uid": "u-1", "allowed": True}


async def test_an_update_is_told_by_both_environments(webhooks: Webhooks) -> None:
    other = environment(retention="Delete")
    other["metadata"] |= {"name": "other", "uid": "uid-of-other"}
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(), other)
    new, old = claim(sessions=[{"name": "b"}]), claim(sessions=[{"name": "a"}, {"name": "b"}])
    new["metadata"]["annotations"] = {ENVIRONMENT: "other"}
    update = {"operation": "UPDATE", "object": new, "oldObject": old}
    response = await webhooks.ask("/validate/datalabs", namespace="team", **update)
    assert response["warnings"] == ["spec.sessions: the files of session a are deleted for good"]


def moving(**status: Any) -> Manifest:
    """An update by which a claim goes over to another environment, which the cache does not know."""
    new = claim(sessions=[{"name": "a"}])
    new["metadata"]["annotations"] = {ENVIRONMENT: "nope"}
    return {"operation": "UPDATE", "object": new | {"status": status}, "oldObject": claim(sessions=[{"name": "a"}])}


HELD = {"metadata": {"name": "lab", "labels": {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: "lab", CLAIM_NAMESPACE: "team"}}}
"""The environment by which the runtime holds the lab."""
REFUSAL = (
    f'metadata.annotations[{ENVIRONMENT}]: Invalid value: "nope": a lab that exists may only choose an environment '
    "that does, and is valid: "
)
OF_NO_USE = environment(retention="Never") | {"metadata": {"name": "nope"}}


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        pytest.param([listing("1"), listing("1")], "there is no EnvironmentConfig nope", id="absent"),
        pytest.param([listing("1"), status(404, "NotFound")], "there is no EnvironmentConfig nope", id="no such kind"),
        pytest.param([listing("1", OF_NO_USE)], "data.retention: Unsupported value", id="invalid"),
    ],
)
async def test_a_lab_does_not_go_over_to_an_environment_of_no_use(
    webhooks: Webhooks, replies: list[Reply], expected: str
) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.hold(kinds.WORKSHOP_ENVIRONMENTS, HELD)
    webhooks.hold(kinds.DATALABS, claim())
    for reply in replies:
        webhooks.answer_next(reply)
    response = await webhooks.ask("/validate/datalabs", namespace="team", **moving())
    assert response["status"]["message"].startswith(REFUSAL + expected)


async def test_an_environment_that_the_cache_does_not_know_yet_is_asked_for(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.WORKSHOP_ENVIRONMENTS, HELD)
    webhooks.answer_next(listing("1", environment()))
    assert (await webhooks.ask("/validate/datalabs", namespace="team", **moving()))["allowed"]


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(listing("1"), id="none"),
        pytest.param(status(404, "NotFound"), id="no such kind"),
        pytest.param(listing("1", {"metadata": {"name": "lab"}}), id="somebody else's"),
    ],
)
async def test_a_claim_without_a_runtime_may_choose_what_comes_later(webhooks: Webhooks, runtime: Reply) -> None:
    for reply in (listing("1"), listing("1"), runtime):
        webhooks.answer_next(reply)
    assert (await webhooks.ask("/validate/datalabs", namespace="team", **moving()))["allowed"]


async def test_a_lab_whose_environment_is_lost_may_be_changed_within_the_last_good_one(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    update = moving(effective={"environment": "courses"})
    old = update["object"]
    for policy, allowed in (("restricted", True), ("privileged", False)):
        new = old | {"spec": old["spec"] | {"security": {"policy": policy}}}
        request = {"operation": "UPDATE", "object": new, "oldObject": old}
        assert (await webhooks.ask("/validate/datalabs", namespace="team", **request))["allowed"] is allowed


async def test_a_claim_on_its_way_out_is_told_nothing(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    new = claim()
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    update = {"operation": "UPDATE", "object": new, "oldObject": claim(sessions=[{"name": "a"}])}
    assert "warnings" not in await webhooks.ask("/validate/datalabs", namespace="team", **update)
    gone = await webhooks.ask("/warn/datalabs", operation="DELETE", namespace="team", object=None, oldObject=new)
    assert gone == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param([environment(retention="Delete")], "deleted for good, with backups: 1 home", id="Delete"),
        pytest.param([], "kept for a new claim of this name and namespace: 1 home", id="no environment"),
    ],
)
async def test_a_deletion_is_told_what_it_does(webhooks: Webhooks, held: list[Manifest], expected: str) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, *held)
    old = claim(sessions=[{"name": "a"}])
    response = await webhooks.ask("/warn/datalabs", operation="DELETE", namespace="team", object=None, oldObject=old)
    assert response["allowed"]
    assert response["warnings"] == [expected, "1 member loses access, session a ends"]


async def test_a_deletion_of_which_nothing_is_said_passes(webhooks: Webhooks) -> None:
    assert await webhooks.ask("/warn/datalabs", operation="DELETE") == {"uid": "u-1", "allowed": True}


async def test_a_bad_claim_is_refused_with_every_mistake(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    bad = claim(users=["joe", "joe"], vcluster=True, userOverrides={"bob": {}})
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=bad)
    assert message(response) == (
        '[spec.users[1]: Duplicate value: "joe", spec.userOverrides[bob]: Invalid value: must be one of spec.users]'
    )


async def test_what_the_environment_says_counts(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(allowed={"vcluster": False}))
    response = await webhooks.ask(
        "/validate/datalabs", operation="CREATE", namespace="team", object=claim(vcluster=True)
    )
    assert "spec.vcluster: Forbidden" in message(response)


async def test_crossplanes_environment_counts_where_there_is_none_of_ours(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.CROSSPLANE_ENVIRONMENTS, environment(allowed={"vcluster": False}))
    asked = {"operation": "CREATE", "namespace": "team", "object": claim(vcluster=True)}
    assert not (await webhooks.ask("/validate/datalabs", **asked))["allowed"]
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert (await webhooks.ask("/validate/datalabs", **asked))["allowed"]


@pytest.mark.parametrize("held", [[], [environment(ingress={})]], ids=["missing", "invalid"])
async def test_a_claim_without_a_usable_environment_is_warned(webhooks: Webhooks, held: list[Manifest]) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, *held)
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=claim())
    assert response["allowed"]
    assert response["warnings"][0] == (
        "the environment this claim chooses does not exist, or is invalid; the lab waits for EnvironmentConfig courses"
    )


@pytest.mark.parametrize("fails", [pytest.param(False, id="asked"), pytest.param(True, id="asked in vain")])
async def test_an_environment_made_together_with_its_claim_is_asked_for(webhooks: Webhooks, fails: bool) -> None:
    """As `kubectl apply` of one file does: caches lag."""
    webhooks.answer_next(status(500) if fails else listing("1", environment(allowed={"vcluster": False})))
    asked = {"operation": "CREATE", "namespace": "team", "object": claim(vcluster=True)}
    assert (await webhooks.ask("/validate/datalabs", **asked))["allowed"] == fails


async def test_an_update_says_nothing_of_a_missing_environment(webhooks: Webhooks) -> None:
    update = {"operation": "UPDATE", "namespace": "team", "object": claim(), "oldObject": claim()}
    assert "warnings" not in await webhooks.ask("/validate/datalabs", **update)


async def test_a_claim_does_not_clash_with_itself(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    new = claim(sessions=[{"name": "b"}])
    update = {"operation": "UPDATE", "namespace": "team", "name": "lab", "object": new, "oldObject": claim()}
    assert (await webhooks.ask("/validate/datalabs", **update))["allowed"]


async def test_a_claim_of_the_same_name_elsewhere_is_refused(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(namespace="other"))
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=claim())
    assert "metadata.name: Invalid value: the namespace" in message(response)


async def test_two_that_clash_already_can_be_changed_otherwise(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(namespace="other"), claim())
    new = claim(users=["joe", "jane"])
    update = {"operation": "UPDATE", "namespace": "team", "name": "lab", "object": new, "oldObject": claim()}
    assert (await webhooks.ask("/validate/datalabs", **update))["allowed"]


OWNED = {"ownerReferences": [{"kind": "WorkshopEnvironment", "name": "lab", "uid": "uid-of-environment"}]}
OURS = {
    "app.kubernetes.io/managed-by": "datalabd",
    "datalabs.pkg.internal/name": "lab",
    "datalabs.pkg.internal/namespace": "team",
}


EXISTS = "a namespace of that name exists"


@pytest.mark.parametrize(
    ("namespace", "labels", "refusal"),
    [
        pytest.param(None, None, "", id="there is none"),
        pytest.param({}, None, EXISTS, id="somebody's"),
        pytest.param(OWNED, None, EXISTS, id="of an environment that is gone"),
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, None, "", id="on its way out"),
        pytest.param({}, OURS, EXISTS, id="somebody's, beside an environment of ours"),
        pytest.param(OWNED, {}, EXISTS, id="of another user of Educates"),
        pytest.param(OWNED, OURS, "", id="left behind by this claim's predecessor"),
        pytest.param(
            OWNED,
            OURS | {"datalabs.pkg.internal/namespace": "other"},
            "belongs to another lab",
            id="left behind by another namespace's",
        ),
    ],
)
async def test_the_namespace_a_lab_would_need(
    webhooks: Webhooks, namespace: Manifest | None, labels: dict[str, str] | None, refusal: str
) -> None:
    if namespace is not None:
        webhooks.hold(kinds.NAMESPACES, {"metadata": {"name": "lab"} | namespace})
    if labels is not None:
        webhooks.hold(
            kinds.WORKSHOP_ENVIRONMENTS, {"metadata": {"name": "lab", "uid": "uid-of-environment", "labels": labels}}
        )
    response = await webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", object=claim())
    assert response["allowed"] is not bool(refusal)
    if refusal:
        assert refusal in message(response)
        assert message(response).count("metadata.name") == 1


@pytest.mark.parametrize("name", ["lab-a", "lab-a-vc"])
@pytest.mark.parametrize(
    ("metadata", "free"),
    [
        pytest.param({}, False, id="somebody's"),
        pytest.param({"labels": {ENVIRONMENT_LABEL: "other"}}, False, id="another lab's, or user's of Educates"),
        pytest.param({"labels": {ENVIRONMENT_LABEL: "lab"}}, True, id="left behind by an earlier run"),
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, True, id="on its way out"),
    ],
)
async def test_namespaces_that_a_session_would_need(
    webhooks: Webhooks, name: str, metadata: Manifest, free: bool
) -> None:
    webhooks.hold(kinds.NAMESPACES, {"metadata": {"name": name} | metadata})
    made = {"namespace": "team", "object": claim(sessions=[{"name": "a"}])}
    added = made | {"name": "lab", "oldObject": claim()}
    for operation, request in (("CREATE", made), ("UPDATE", added)):
        response = await webhooks.ask("/validate/datalabs", operation=operation, **request)
        assert response["allowed"] is free
        assert free or f'spec.sessions[0].name: Invalid value: "{name}": {EXISTS}' in message(response)
    kept = made | {"name": "lab", "oldObject": made["object"], "object": claim(sessions=[{"name": "a"}, {"name": "b"}])}
    assert (await webhooks.ask("/validate/datalabs", operation="UPDATE", **kept))["allowed"]


def not_yet(unlisted: Resource) -> Manifest:
    """The refusal of what cannot be judged before this kind is listed, which clients repeat by themselves."""
    text = f"datalabd cannot judge this yet, as the {unlisted.kind}s of the cluster are not listed"
    return {
        "uid": "u-1",
        "allowed": False,
        "status": {
            "status": "Failure",
            "code": 503,
            "reason": "ServiceUnavailable",
            "message": f"{text}; try again in a moment",
            "details": {"retryAfterSeconds": 2},
        },
    }


@pytest.mark.parametrize("unlisted", CLAIMS_NEED, ids=str)
async def test_nothing_is_admitted_before_it_is_known_which_names_are_taken(
    webhooks: Webhooks, unlisted: Resource
) -> None:
    webhooks.cache.informers.store(unlisted).drop(EVERYWHERE)
    request = {"operation": "CREATE", "namespace": "team", "object": claim()}
    assert await webhooks.ask("/validate/datalabs", **request) == not_yet(unlisted)
    going = claim()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    update = {"operation": "UPDATE", "namespace": "team", "name": "lab", "object": going, "oldObject": going}
    assert (await webhooks.ask("/validate/datalabs", **update))["allowed"]


async def test_an_update_is_not_blamed_for_a_foreign_namespace(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.NAMESPACES, {"metadata": {"name": "lab"}})
    update = {"operation": "UPDATE", "namespace": "team", "name": "lab", "object": claim(), "oldObject": claim()}
    assert (await webhooks.ask("/validate/datalabs", **update))["allowed"]


# --- protection of session Ingresses ----------------------------------------------------------------------------------

WANTED = {
    f"{NGINX}/auth-url": f"https://auth.{DOMAIN}/oauth2/auth",
    f"{NGINX}/auth-signin": f"https://auth.{DOMAIN}/oauth2/start?rd=https://$host$escaped_request_uri",
    f"{NGINX}/auth-response-headers": "A,B",
    PROTECTION: f"{NGINX}/auth-response-headers,{NGINX}/auth-signin,{NGINX}/auth-url",
}


def runtime_of(claim: Manifest) -> Manifest:
    metadata = claim["metadata"]
    labels = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAMESPACE: metadata["namespace"], CLAIM_NAME: metadata["name"]}
    return {"metadata": {"name": metadata["name"], "uid": "uid-of-runtime", "resourceVersion": "1", "labels": labels}}


@pytest.fixture
def lab(webhooks: Webhooks) -> None:
    """The claim has its runtime."""
    webhooks.hold(kinds.DATALABS, claim())
    webhooks.hold(kinds.WORKSHOP_ENVIRONMENTS, runtime_of(claim()))


async def protect(webhooks: Webhooks, manifest: Manifest, **request: Any) -> Manifest:
    return await webhooks.ask("/mutate/ingresses", operation="CREATE", namespace="lab", object=manifest, **request)


async def test_a_session_ingress_gets_its_annotations(webhooks: Webhooks, lab: None) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    operations = patch(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))
    assert {one["path"].rpartition("/")[2].replace("~1", "/"): one["value"] for one in operations} == WANTED


async def test_an_ingress_that_has_them_is_left_as_it_is(webhooks: Webhooks, lab: None) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert patch(await protect(webhooks, ingress(f"lab-a.{DOMAIN}", **WANTED))) == []


async def test_without_a_protection_it_is_left_as_it_is(webhooks: Webhooks, lab: None) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(ingress={"domain": DOMAIN}))
    where = "/metadata/annotations/datalabs.pkg.internal~1protection"
    assert patch(await protect(webhooks, ingress(f"lab-a.{DOMAIN}"))) == [{"op": "add", "path": where, "value": ""}]


@pytest.mark.parametrize(
    ("spec", "annotations", "allowed"),
    [
        pytest.param({"ingressClassName": "nginx"}, {}, True, id="the environment's class"),
        pytest.param({}, {}, True, id="the default class"),
        pytest.param({"ingressClassName": "traefik"}, {}, False, id="another class"),
        pytest.param({}, {"kubernetes.io/ingress.class": "traefik"}, False, id="another class by annotation"),
    ],
)
async def test_an_ingress_for_controllers_that_would_not_see_its_protection_is_refused(
    webhooks: Webhooks, lab: None, spec: Manifest, annotations: dict[str, str], allowed: bool
) -> None:
    within = {"domain": DOMAIN, "class": "nginx", "protection": {"type": "nginx"}}
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(ingress=within))
    manifest = ingress(f"lab-a.{DOMAIN}", **annotations)
    response = await protect(webhooks, manifest | {"spec": manifest["spec"] | spec})
    assert response["allowed"] is allowed
    if not allowed:
        assert "protects Ingresses of class nginx" in message(response)


@pytest.fixture
def rival() -> Manifest:
    """A claim that came first, and lost the name all the same; its environment protects nothing."""
    older = claim(namespace="other")
    older["metadata"] |= {"creationTimestamp": "2025-01-01T00:00:00Z", "annotations": {ENVIRONMENT: "lax"}}
    return older


@pytest.mark.parametrize("is_cached", [True, False])
async def test_of_two_claims_the_one_that_has_the_lab_decides(
    webhooks: Webhooks, rival: Manifest, is_cached: bool
) -> None:
    if is_cached:
        webhooks.hold(kinds.WORKSHOP_ENVIRONMENTS, runtime_of(claim()))
    else:
        webhooks.answer_next(status(200, **runtime_of(claim())))
    webhooks.hold(kinds.DATALABS, rival, claim())
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert len(patch(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))) == len(WANTED)


@pytest.mark.parametrize("has_runtime", [True, False])
async def test_a_claim_that_has_not_got_the_lab_decides_nothing(
    webhooks: Webhooks, rival: Manifest, has_runtime: bool
) -> None:
    webhooks.answer_next(status(200, **runtime_of(claim())) if has_runtime else status(404, "NotFound"))
    webhooks.hold(kinds.DATALABS, rival, *([] if has_runtime else [claim()]))
    assert "the lab's claim is not known here yet" in message(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))


async def test_a_namespace_that_no_runtime_made_is_protected_for_its_claim(webhooks: Webhooks) -> None:
    webhooks.answer_next(status(404, "NotFound"))
    webhooks.hold(kinds.DATALABS, claim())
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert len(patch(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))) == len(WANTED)


@pytest.mark.parametrize("held", [[], [environment(ingress={})]], ids=["missing", "invalid"])
async def test_without_a_usable_environment_it_is_refused(webhooks: Webhooks, lab: None, held: list[Manifest]) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, *held)
    assert "the lab's environment cannot be read" in message(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))


async def test_an_ingress_of_a_lab_that_is_not_known_yet_is_refused(webhooks: Webhooks) -> None:
    webhooks.answer_next(status(200, metadata={"name": "lab", "labels": {"app.kubernetes.io/managed-by": "datalabd"}}))
    assert "the lab's claim is not known here yet" in message(await protect(webhooks, ingress(f"lab-a.{DOMAIN}")))


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(status(404, "NotFound"), id="no environment"),
        pytest.param(status(200, metadata={"name": "lab"}), id="somebody's environment"),
    ],
)
async def test_an_ingress_of_another_user_of_educates_is_left_alone(webhooks: Webhooks, reply: Reply) -> None:
    webhooks.answer_next(reply)
    assert patch(await protect(webhooks, ingress("course-a.example.com"))) == []


async def test_an_api_server_that_does_not_answer_is_a_503(webhooks: Webhooks) -> None:
    webhooks.answer_next(status(500))
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "request": {"uid": "u-1", "operation": "CREATE", "namespace": "lab", "object": ingress("a.example.com")},
    }
    before = requests("mutate-ingresses", "503")
    async with webhooks.client.post("/mutate/ingresses", json=body) as answer:
        assert answer.status == 503
    assert requests("mutate-ingresses", "503") == before + 1


# --- hosts that others answer for -------------------------------------------------------------------------------------


def of_others(name: str, *hosts: str) -> Manifest:
    made = ingress(*hosts)
    return made | {"metadata": {"name": name, "namespace": "shop", "resourceVersion": str(next(VERSIONS))}}


@pytest.mark.parametrize(
    ("old", "had_domain", "routes"),
    [
        pytest.param(None, DOMAIN, {0: "x", 1: "y"}, id="a new claim"),
        pytest.param(["a"], DOMAIN, {1: "y"}, id="another session"),
        pytest.param(["a", "b"], DOMAIN, {}, id="the same sessions"),
        pytest.param(["a", "b"], "b.org", {0: "x", 1: "y"}, id="another domain"),
        pytest.param(["a", "b"], "", {}, id="the same sessions, of an environment that is not known"),
    ],
)
async def test_a_session_whose_host_another_route_has(
    webhooks: Webhooks, old: list[str] | None, had_domain: str, routes: dict[int, str]
) -> None:
    before = environment(ingress={"domain": had_domain})
    before["metadata"] |= {"name": "before", "uid": "uid-of-before"}
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(), *([before] if had_domain else []))
    webhooks.hold(kinds.ROUTES[0], of_others("x", f"lab-a.{DOMAIN}"), of_others("y", f"data-lab-b.{DOMAIN}"))
    now = claim(sessions=[{"name": "a"}, {"name": "b"}])
    request: dict[str, Any] = {"operation": "CREATE", "object": now}
    if old is not None:
        was = claim(sessions=[{"name": name} for name in old])
        if had_domain != DOMAIN:
            was["metadata"]["annotations"] = {ENVIRONMENT: "before"}
        request = {"operation": "UPDATE", "object": now, "oldObject": was}
    response = await webhooks.ask("/validate/datalabs", namespace="team", name="lab", **request)
    causes = response.get("status", {}).get("details", {}).get("causes", [])
    hosts = {"x": f"lab-a.{DOMAIN}", "y": f"data-lab-b.{DOMAIN}"}
    refused = [(cause["field"], cause["message"].split(": choose")[0]) for cause in causes]
    assert refused == [
        (
            f"spec.sessions[{index}].name",
            f'Forbidden: "{"ab"[index]}": a route of another namespace answers for its host {hosts[name]}',
        )
        for index, name in routes.items()
    ]


async def test_a_claim_being_deleted_may_have_hosts_of_others(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.hold(kinds.ROUTES[0], of_others("x", f"lab-a.{DOMAIN}"))
    going = claim(sessions=[{"name": "a"}])
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    request = {"operation": "UPDATE", "object": going, "oldObject": claim(sessions=[])}
    assert (await webhooks.ask("/validate/datalabs", namespace="team", name="lab", **request))["allowed"]


# --- guard of the labs' hosts -----------------------------------------------------------------------------------------


async def guard(webhooks: Webhooks, manifest: Manifest, namespace: str = "shop", **request: Any) -> Manifest:
    """The answer about a route that datalabd itself writes, if nobody else is named: all names but labs' are its."""
    user = {"userInfo": {"username": ACCOUNT}}
    return await webhooks.ask("/validate/routes", **user | {"namespace": namespace, "object": manifest} | request)


def may(allowed: bool) -> Reply:
    return status(201, status={"allowed": allowed})


@pytest.mark.parametrize(
    ("routes", "runs", "allowed"),
    [
        pytest.param(True, False, True, id="may route environments"),
        pytest.param(False, True, True, id="makes sessions"),
        pytest.param(False, False, False, id="neither"),
    ],
)
async def test_a_free_name_takes_a_right(webhooks: Webhooks, routes: bool, runs: bool, allowed: bool) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.api_server.script += [may(routes), may(runs)]
    user = {"username": "ann", "uid": "1", "groups": ["dev"], "extra": {"scopes": ["a"]}}
    response = await guard(webhooks, ingress(f"shop.{DOMAIN}"), userInfo=user)
    assert response["allowed"] is allowed
    if not allowed:
        assert message(response).startswith(
            f'spec.rules[0].host: Forbidden: "shop.{DOMAIN}": it lies below the domain of labs: '
        )
    assert [path.path for path in webhooks.api_server.requests] == [
        "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    ] * 2


async def test_a_free_name_is_refused_while_nobody_says_what_its_writer_may_do(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.answer_next(status(500))
    request = {"uid": "u-1", "namespace": "shop", "userInfo": {"username": "ann"}, "object": ingress(f"shop.{DOMAIN}")}
    body = {"apiVersion": "admission.k8s.io/v1", "request": request}
    async with webhooks.client.post("/validate/routes", json=body) as answer:
        assert answer.status == 503


async def test_a_host_of_a_lab_takes_more_than_a_right(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    response = await guard(webhooks, ingress(f"lab-a.{DOMAIN}"), userInfo={"username": "root"})
    assert "this host belongs to a lab" in message(response)
    assert webhooks.api_server.requests == []


async def test_an_environment_opens_names_to_others(webhooks: Webhooks) -> None:
    opening = {"namespaces": ["shop-*"], "hosts": [f"*.apps.{DOMAIN}"]}
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(ingress={"domain": DOMAIN, "openTo": opening}))
    user = {"userInfo": {"username": "ann"}}
    assert (await guard(webhooks, ingress(f"any.{DOMAIN}"), namespace="shop-a", **user))["allowed"]
    assert (await guard(webhooks, ingress(f"a.apps.{DOMAIN}"), namespace="elsewhere", **user))["allowed"]
    assert webhooks.api_server.requests == []


async def test_an_invalid_environment_opens_nothing(webhooks: Webhooks) -> None:
    ingress_ = {"domain": DOMAIN, "openTo": {"namespaces": ["*"]}}
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment(ingress=ingress_, auth={"type": "nobody"}))
    webhooks.api_server.script += [may(False), may(False)]
    assert not (await guard(webhooks, ingress(f"a.{DOMAIN}"), userInfo={"username": "ann"}))["allowed"]


@pytest.mark.parametrize(
    "session",
    [
        pytest.param({"name": "a"}, id="good"),
        pytest.param({}, id="without a name"),
        pytest.param({"name": 5}, id="with a number for a name"),
        pytest.param(None, id="null"),
        pytest.param("b", id="string"),
    ],
)
async def test_a_strange_claim_does_not_stop_the_guard(webhooks: Webhooks, session: Any) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[session]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert "this host belongs to a lab" in message(await guard(webhooks, ingress(f"lab.{DOMAIN}")))
    assert (await guard(webhooks, ingress(f"shop.{DOMAIN}")))["allowed"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        pytest.param({"spec": {"rules": [{"host": f"lab-a.{DOMAIN}"}]}}, "spec.rules[0].host", id="host"),
        pytest.param({"spec": {"rules": [{"host": f"pg0-lab.{DOMAIN}"}]}}, "spec.rules[0].host", id="database"),
        pytest.param({"spec": {"rules": [{"host": f"*.{DOMAIN}"}]}}, "spec.rules[0].host", id="wildcard"),
        pytest.param({"spec": {"rules": [{}]}}, "spec.rules[0].host", id="no host"),
        pytest.param({"spec": {"defaultBackend": {"service": {}}}}, "spec.defaultBackend", id="default backend"),
        pytest.param(alias(f"a.org, lab-a.{DOMAIN},"), f"metadata.annotations[{ALIAS}]", id="alias"),
        pytest.param(alias(r"~lab.*"), f"metadata.annotations[{ALIAS}]", id="alias that is a pattern"),
        pytest.param(redirect(f"www.lab-a.{DOMAIN}"), f"metadata.annotations[{WWW_REDIRECT}]", id="redirect of www"),
        pytest.param(redirect(f"www.lab-b.{DOMAIN}"), None, id="redirect elsewhere"),
        pytest.param(alias("a.org"), None, id="alias elsewhere"),
        pytest.param(alias(" , "), None, id="alias of nothing"),
        pytest.param({"spec": {"rules": None}}, None, id="no rules"),
        pytest.param({"spec": None}, None, id="no spec"),
        pytest.param({"spec": {"rules": [{"host": f"lab-b.{DOMAIN}"}]}}, None, id="session that is not declared"),
        pytest.param({"spec": {"rules": [{"host": "*.a.org"}]}}, None, id="wildcard elsewhere"),
    ],
)
async def test_what_reaches_a_lab(webhooks: Webhooks, more: Manifest, field: str | None) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}], databases={"pg0": {}}))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    response = await guard(webhooks, ingress() | more)
    causes = response.get("status", {}).get("details", {}).get("causes", [])
    assert {cause["field"] for cause in causes} == ({field} if field else set())
    assert response["allowed"] is (field is None)


@pytest.mark.parametrize("kind", [kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS])
async def test_hosts_stay_guarded_while_the_environment_is_invalid(webhooks: Webhooks, kind: Resource) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kind, environment(quota="a lot", auth={"type": "nobody"}))
    assert not (await guard(webhooks, ingress(f"lab-a.{DOMAIN}")))["allowed"]


@pytest.mark.parametrize("data", [None, [], {"ingress": []}, {"ingress": {"domain": 5}}, {"ingress": {"domain": "*"}}])
async def test_an_environment_without_a_domain_guards_nothing(webhooks: Webhooks, data: Any) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.CROSSPLANE_ENVIRONMENTS, environment() | {"data": data})
    assert webhooks.cache.domains() == {}
    assert (await guard(webhooks, ingress("*.org")))["allowed"]


def route(kind: str, *hostnames: str) -> Manifest:
    metadata = {"name": "route"}
    return {"apiVersion": "g/v1", "kind": kind, "metadata": metadata, "spec": {"hostnames": list(hostnames)}}


@pytest.mark.parametrize(
    ("manifest", "namespace", "allowed"),
    [
        pytest.param(ingress(f"lab-a.{DOMAIN}", labels=SESSION), "lab", True, id="session"),
        pytest.param(ingress(f"lab-a.{DOMAIN}", labels=SESSION), "lab-a", False, id="session, in the session's own"),
        pytest.param(ingress(f"lab-a.{DOMAIN}"), "lab", False, id="nobody would protect it"),
        pytest.param(ingress(f"lab-a.{DOMAIN}", labels=OF_REGISTRY), "lab", False, id="session as a registry"),
        pytest.param(ingress(f"registry-lab-a.{DOMAIN}", labels=OF_REGISTRY), "lab", True, id="registry"),
        pytest.param(ingress(f"registry-lab-a.{DOMAIN}", labels=OF_REGISTRY), "shop", False, id="registry elsewhere"),
        pytest.param(ingress(f"*.{DOMAIN}", labels=OF_REGISTRY), "lab", False, id="wildcard as a registry"),
        pytest.param(route("TLSRoute", f"pg0-lab.{DOMAIN}"), "lab", True, id="database"),
        pytest.param(route("TLSRoute", f"pg0-lab.{DOMAIN}"), "shop", False, id="database elsewhere"),
        pytest.param(route("TLSRoute", f"lab-a.{DOMAIN}"), "lab", False, id="session, not protected"),
        pytest.param(route("HTTPRoute", f"lab-a.{DOMAIN}"), "lab", False, id="session by a route nobody protects"),
        pytest.param(route("HTTPRoute", f"pg0-lab.{DOMAIN}"), "lab", False, id="database without TLS"),
    ],
)
async def test_what_is_a_labs_own(webhooks: Webhooks, manifest: Manifest, namespace: str, allowed: bool) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}], databases={"pg0": {}}))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert (await guard(webhooks, manifest, namespace=namespace))["allowed"] is allowed


async def test_an_update_may_not_take_its_protection_off_an_ingress(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    old, new = ingress(f"lab-a.{DOMAIN}", labels=SESSION), ingress(f"lab-a.{DOMAIN}")
    assert not (await guard(webhooks, new, namespace="lab", oldObject=old))["allowed"]
    assert (await guard(webhooks, old, namespace="lab", oldObject=new))["allowed"]


@pytest.mark.parametrize(
    ("had", "annotations", "field"),
    [
        pytest.param({}, {f"{NGINX}/auth-url": "https://a"}, "", id="its protection"),
        pytest.param({}, {f"{NGINX}/enable-cors": "true"}, "", id="what the runtime sets"),
        pytest.param({}, {f"{NGINX}/whitelist-source-range": "10.0.0.0/8"}, "", id="what only keeps out"),
        pytest.param({}, {f"{NGINX}/configuration-snippet": "x"}, f"{NGINX}/configuration-snippet", id="snippet"),
        pytest.param({}, {f"{NGINX}/satisfy": "any"}, f"{NGINX}/satisfy", id="another way in"),
        pytest.param({}, {f"{NGINX}/auth-cache-key": "x"}, f"{NGINX}/auth-cache-key", id="one answer for many"),
        pytest.param({}, {f"{NGINX}/ssl-passthrough": "true"}, f"{NGINX}/ssl-passthrough", id="past the question"),
        pytest.param({f"{NGINX}/satisfy": "any"}, {f"{NGINX}/satisfy": "any"}, "", id="was there before"),
        pytest.param(
            {f"{NGINX}/satisfy": "all"}, {f"{NGINX}/satisfy": "any"}, f"{NGINX}/satisfy", id="was otherwise before"
        ),
        pytest.param({}, {f"{NGINX}/satisfy": "any", PROTECTION: ""}, "", id="somebody else protects it"),
    ],
)
async def test_what_would_undo_a_protection_is_refused(
    webhooks: Webhooks, had: dict[str, str], annotations: dict[str, str], field: str
) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    sign = {PROTECTION: f"{NGINX}/auth-url"}
    old = ingress(f"lab-a.{DOMAIN}", labels=SESSION, **sign | had)
    new = ingress(f"lab-a.{DOMAIN}", labels=SESSION, **sign | annotations)
    response = await guard(webhooks, new, namespace="lab", oldObject=old)
    causes = response.get("status", {}).get("details", {}).get("causes", [])
    assert [cause["field"] for cause in causes] == ([f"metadata.annotations[{field}]"] if field else [])


@pytest.mark.parametrize(
    ("target", "had", "allowed"),
    [
        pytest.param("lab", "", False, id="a lab's"),
        pytest.param("shop", "", True, id="its own"),
        pytest.param("elsewhere", "", False, id="that of a lab to come"),
        pytest.param("elsewhere", "elsewhere", True, id="that of a lab to come, as before"),
        pytest.param("lab", "lab", True, id="as before"),
    ],
)
async def test_services_of_a_lab_are_not_reached_past_its_protection(
    webhooks: Webhooks, target: str, had: str, allowed: bool
) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    key = "k8s.apisix.apache.org/svc-namespace"
    old = ingress("shop.example.com", **({key: had} if had else {}))
    webhooks.api_server.script += [may(False), may(False)]
    tenant = {"username": "alice"}
    response = await guard(webhooks, ingress("shop.example.com", **{key: target}), oldObject=old, userInfo=tenant)
    assert response["allowed"] is allowed


async def test_a_route_of_too_many_hosts_is_refused(webhooks: Webhooks) -> None:
    hosts = [f"{number}.example.com" for number in range(501)]
    assert message(await guard(webhooks, ingress(*hosts))) == (
        "spec.rules[500].host: Too many: a route may have at most 500 hosts, as some may be a lab's; divide it"
    )
    assert (await guard(webhooks, ingress(*hosts[1:])))["allowed"]


def traefik_route(*matches: str) -> Manifest:
    return route("IngressRoute") | {"spec": {"routes": [{"match": match} for match in matches]}}


async def test_a_rule_of_too_many_hosts_is_refused_wherever_they_are(webhooks: Webhooks) -> None:
    rules = [f"Host({', '.join(f'`{rule}-{host}.org`' for host in range(300))})" for rule in range(200)]
    said = message(await guard(webhooks, traefik_route(*rules)))
    assert said.startswith("spec.routes[0].match: Too many: a route may have at most 50 hosts in one rule, ")


async def test_a_route_of_too_many_hosts_may_stay_as_it_is(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    hosts = [f"lab-a.{DOMAIN}", *(f"{number}.example.com" for number in range(501))]
    held = ingress(*hosts)
    held["metadata"]["finalizers"] = ["example.org/hold"]
    assert (await guard(webhooks, ingress(*hosts), oldObject=held))["allowed"]
    for other in (ingress(*hosts, "a.org"), ingress(*hosts, labels=SESSION), alias("a.org") | {"spec": held["spec"]}):
        assert "Too many" in message(await guard(webhooks, other, oldObject=held))
    # Nobody knows what it had, so that what it is to have is new.
    assert "belongs to a lab" in message(await guard(webhooks, ingress(hosts[0]), oldObject=held))


async def test_what_is_no_route_is_a_400(webhooks: Webhooks) -> None:
    review = {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u-1", "object": claim()}}
    async with webhooks.client.post("/validate/routes", json=review) as answer:
        assert answer.status == 400
        assert "Datalab is no kind of route" in await answer.text()


async def test_hosts_are_compared_without_case(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert not (await guard(webhooks, ingress(f"LAB-A.{DOMAIN.upper()}")))["allowed"]


async def test_an_ingress_that_is_deleted_passes(webhooks: Webhooks) -> None:
    assert (await webhooks.ask("/validate/routes", operation="DELETE", object=None))["allowed"]


async def test_an_update_may_keep_but_not_gain(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim(sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    had, gained = ingress(f"lab-a.{DOMAIN}"), ingress(f"lab-a.{DOMAIN}", f"data-lab-a.{DOMAIN}")
    assert (await guard(webhooks, had, oldObject=had))["allowed"]
    refused = await guard(webhooks, gained, oldObject=had)
    assert [cause["field"] for cause in refused["status"]["details"]["causes"]] == ["spec.rules[1].host"]


async def test_a_refusal_names_no_lab(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.DATALABS, claim("secret-project", sessions=[{"name": "a"}]))
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    assert "secret" not in message(await guard(webhooks, ingress("*.example.org")))


@pytest.mark.parametrize("path", ["/mutate/datalabs", "/validate/datalabs", "/mutate/ingresses", "/validate/routes"])
async def test_a_deletion_is_nobodys_business(webhooks: Webhooks, lab: None, path: str) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    old = ingress("a.org") if path == "/validate/routes" else claim()
    response = await webhooks.ask(path, operation="DELETE", namespace="lab", object=None, oldObject=old)
    assert response == {"uid": "u-1", "allowed": True}


# --- environments -----------------------------------------------------------------------------------------------------


async def operate(webhooks: Webhooks, operation: str, new: Manifest | None, old: Manifest | None = None) -> Manifest:
    return await webhooks.ask(
        "/validate/environmentconfigs", operation=operation, name="courses", object=new, oldObject=old
    )


async def test_an_environment_that_nothing_is_wrong_with(webhooks: Webhooks) -> None:
    assert await operate(webhooks, "CREATE", environment()) == {"uid": "u-1", "allowed": True}


async def test_an_environment_is_refused_with_every_mistake(webhooks: Webhooks) -> None:
    bad = environment(network={"podCIDRs": ["here"]}, defaults={"quota": {"memory": "much"}})
    response = await operate(webhooks, "CREATE", bad)
    causes = response["status"]["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["data.defaults.quota.memory", "data.network.podCIDRs[0]"]
    assert response["status"]["code"] == 422


async def test_an_environment_is_not_blamed_for_old_mistakes(webhooks: Webhooks) -> None:
    old = environment(network={"podCIDRs": ["here"]})
    assert (await operate(webhooks, "UPDATE", environment(network={"podCIDRs": ["here"]}), old))["allowed"]
    worse = environment(network={"podCIDRs": ["here", "there"]})
    (cause,) = (await operate(webhooks, "UPDATE", worse, old))["status"]["details"]["causes"]
    assert cause["field"] == "data.network.podCIDRs[1]"


async def test_mending_an_environment(webhooks: Webhooks) -> None:
    assert (await operate(webhooks, "UPDATE", environment(), environment(network={"podCIDRs": ["here"]})))["allowed"]


async def test_an_environment_being_deleted_can_lose_its_finalizers(webhooks: Webhooks) -> None:
    leaving = environment(network={"podCIDRs": ["here"]})
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await operate(webhooks, "UPDATE", leaving, environment()))["allowed"]


async def test_a_change_tells_how_many_labs_use_the_environment(webhooks: Webhooks) -> None:
    other = claim("other", "team")
    other["metadata"]["annotations"] = {ENVIRONMENT: "another"}
    webhooks.hold(kinds.DATALABS, claim("a"), claim("b"), other)
    response = await operate(webhooks, "UPDATE", environment(retention="Delete"), environment())
    assert response["warnings"] == ["data.retention: 2 labs use it; from now on what is no longer declared is deleted"]


async def test_no_annotation_of_ours_has_an_effect_on_an_environment(webhooks: Webhooks) -> None:
    plain, marked = environment(), environment()
    marked["metadata"]["annotations"] = {PROTECT: "true"}
    told = [f"annotation {PROTECT} has no effect"]
    assert (await operate(webhooks, "CREATE", marked))["warnings"] == told
    assert (await operate(webhooks, "UPDATE", marked, plain))["warnings"] == told
    assert "warnings" not in await operate(webhooks, "UPDATE", marked, marked)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        pytest.param([], "", id="unused"),
        pytest.param([claim()], "1 lab uses this environment", id="one lab"),
        pytest.param([claim("a"), claim("b")], "2 labs use this environment", id="two labs"),
    ],
)
async def test_an_environment_in_use_cannot_be_deleted(webhooks: Webhooks, claims: list[Manifest], said: str) -> None:
    webhooks.hold(kinds.DATALABS, *claims)
    response = await operate(webhooks, "DELETE", None, environment())
    assert response["allowed"] is not bool(said)
    if said:
        assert message(response).startswith(said)
        assert (response["status"]["reason"], response["status"]["code"]) == ("Forbidden", 403)


async def test_an_environment_is_not_deleted_while_nobody_knows_its_labs(webhooks: Webhooks) -> None:
    webhooks.cache.informers.store(kinds.DATALABS).drop(EVERYWHERE)
    request = {"operation": "DELETE", "name": "courses"}
    assert await webhooks.ask("/validate/environmentconfigs", **request) == not_yet(kinds.DATALABS)


@pytest.mark.parametrize("unlisted", ROUTES_NEED, ids=str)
async def test_no_route_is_admitted_before_it_is_known_whose_hosts_are_whose(
    webhooks: Webhooks, unlisted: Resource
) -> None:
    webhooks.cache.informers.store(unlisted).drop(EVERYWHERE)
    assert await guard(webhooks, ingress(f"shop.{DOMAIN}")) == not_yet(unlisted)


@pytest.mark.parametrize("unlisted", ROUTES_NEED, ids=str)
async def test_an_ingress_is_protected_only_once_it_is_known_whose_it_is(
    webhooks: Webhooks, unlisted: Resource
) -> None:
    webhooks.cache.informers.store(unlisted).drop(EVERYWHERE)
    webhooks.answer_next(status(404))
    assert await protect(webhooks, ingress(f"lab-a.{DOMAIN}")) == not_yet(unlisted)


async def test_conversion_needs_to_know_nothing(webhooks: Webhooks) -> None:
    for kind in {*CLAIMS_NEED, *ROUTES_NEED}:
        webhooks.cache.informers.store(kind).drop(EVERYWHERE)
    review = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "u-1", "desiredAPIVersion": V1BETA1, "objects": [claim(sessions=[{"name": "a"}])]},
    }
    async with webhooks.client.post("/convert", json=review) as http:
        response = (await http.json())["response"]
    assert response["result"] == {"status": "Success"}
    assert response["convertedObjects"][0]["spec"]["sessions"] == ["a"]


async def test_forged_claims_leave_connections_to_the_api_server_to_others(webhooks: Webhooks) -> None:
    may_answer = asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        await may_answer.wait()
        return await listing("1")(request)

    claims = [claim(f"lab{number}") for number in range(3 * LOOKUPS_MAX)]
    webhooks.api_server.script += [held] * 2 * len(claims)  # two kinds of environments
    asking = [
        asyncio.ensure_future(
            webhooks.ask("/validate/datalabs", operation="CREATE", namespace="team", name=named, object=made)
        )
        for made in claims
        for named in [made["metadata"]["name"]]
    ]
    await asyncio.sleep(0.5)
    assert len(webhooks.api_server.requests) == LOOKUPS_MAX
    may_answer.set()
    assert [(await answer)["allowed"] for answer in asking] == [True] * len(claims)


async def test_a_claim_is_judged_without_an_environment_that_nobody_reads_in_time(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks.client.app[LOOKUPS], "_seconds", 0.05)
    async with webhooks.client.app[LOOKUPS].of("127.0.0.1", LOOKUPS_MAX):
        answer = await webhooks.ask(
            "/validate/datalabs", operation="CREATE", namespace="team", name="lab", object=claim()
        )
    assert answer["allowed"]
    assert not webhooks.api_server.requests


async def test_what_is_known_of_a_writer_waits_for_no_lookup(webhooks: Webhooks) -> None:
    webhooks.hold(kinds.ENVIRONMENT_CONFIGS, environment())
    webhooks.api_server.script += [may(True), may(False)]
    ann = {"username": "ann"}
    assert (await guard(webhooks, ingress(f"shop.{DOMAIN}"), userInfo=ann))["allowed"]
    async with webhooks.client.app[LOOKUPS].of("127.0.0.1", LOOKUPS_MAX):
        assert (await guard(webhooks, ingress(f"other.{DOMAIN}"), userInfo=ann))["allowed"]
