"""What is asked of a realm and when, against servers that fail: with one that works, the integration tests do it."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import REGISTRY

from controllers import identity
from controllers.identity import IdentityReconciler, Step, access_to
from controllers.workqueue import Workqueue
from datalabd.api.meta import NamespacedName
from datalabd.errors import InternalError, KeycloakError, KeycloakForbidden, KeycloakUnavailable, NotYet
from datalabd.identity import Admin, Outcome
from datalabd.plan.keycloak import Wanted
from datalabd.plan.realm import realm_state
from hack.deadlines import scaled
from tests.factories import ADMIN, IAM, environment, lab

KEYS = [NamespacedName("team", f"lab-{number}") for number in range(200)]
KEY, OTHER = KEYS[:2]


@dataclass
class Broken:
    """A server that answers every request with the same status, once it is let to."""

    status: int = 503
    requests: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Count the request, wait, refuse."""
        self.requests += 1
        self.asked.set()
        await self.open.wait()
        return web.json_response({"error": "not today"}, status=self.status)

    def wanted(self, **changes: object) -> Wanted:
        """What a lab of a realm there wants."""
        state = realm_state(lab(environment(iam=IAM)))
        return replace(Wanted(self.url, ADMIN, state, "client-secret"), **changes)  # type: ignore[arg-type]


@pytest.fixture
async def keycloak() -> AsyncIterator[Broken]:
    broken = Broken()
    broken.open.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", broken.answer)
    async with TestServer(app) as server:
        broken.url = str(server.make_url("/")).rstrip("/")
        yield broken
        broken.open.set()


@pytest.fixture
def changed() -> list[NamespacedName]:
    """Labs of which there was something new to say."""
    return []


@pytest.fixture
def queue() -> Workqueue[NamespacedName]:
    return Workqueue("identity")


@pytest.fixture
async def reconciler(
    queue: Workqueue[NamespacedName], changed: list[NamespacedName]
) -> AsyncIterator[IdentityReconciler]:
    made = IdentityReconciler(queue, changed.append)
    yield made
    await made.aclose()


async def failure(reconciler: IdentityReconciler, key: NamespacedName) -> KeycloakError | NotYet:
    """What stops a pass."""
    try:
        await reconciler.reconcile(key)
    except (KeycloakError, NotYet) as error:
        return error
    raise AssertionError("nothing did")


async def test_one_lab_finds_out_for_all(
    reconciler: IdentityReconciler, keycloak: Broken, changed: list[NamespacedName]
) -> None:
    for key in KEYS:
        reconciler.want(key, keycloak.wanted())
    failures = [await failure(reconciler, key) for key in KEYS]
    assert isinstance(failures[0], KeycloakUnavailable)
    tried = sum(isinstance(failed, KeycloakUnavailable) for failed in failures)
    assert keycloak.requests == tried < 5  # more than one where this test itself takes longer than the pause
    assert changed == KEYS
    told = Outcome(reason="KeycloakUnavailable", message=str(failures[0]))
    assert [reconciler.outcome(key) for key in KEYS] == [told] * len(KEYS)


async def test_a_defect_is_told_of_without_what_it_was_met_by(
    monkeypatch: pytest.MonkeyPatch,
    reconciler: IdentityReconciler,
    keycloak: Broken,
    changed: list[NamespacedName],
) -> None:
    """There is no answer known that ends a pass so."""
    monkeypatch.setattr("datalabd.keycloak.Keycloak.check", lambda _: int("the-password"))
    reconciler.want(KEY, keycloak.wanted())
    with pytest.raises(InternalError) as raised:
        await reconciler.reconcile(KEY)
    message = str(raised.value)
    assert re.fullmatch("a defect of datalabd: ValueError at .*; please report it with the stack in its log", message)
    assert reconciler.outcome(KEY) == Outcome(reason="InternalError", message=message, stalled=True)
    assert changed == [KEY]


async def test_a_realm_that_failed_is_tried_again_after_its_pause(
    reconciler: IdentityReconciler, keycloak: Broken, changed: list[NamespacedName]
) -> None:
    reconciler.want(KEY, keycloak.wanted())
    assert isinstance(await failure(reconciler, KEY), KeycloakUnavailable)
    async with asyncio.timeout(scaled(5)):
        while isinstance(failed := await failure(reconciler, KEY), NotYet):
            assert failed.retry_after > 0
            await asyncio.sleep(0.05)
    assert isinstance(failed, KeycloakUnavailable)
    assert keycloak.requests == 2
    assert changed == [KEY]  # the same as before is no news


async def test_while_one_lab_finds_out_the_others_wait_for_no_answer(
    reconciler: IdentityReconciler, keycloak: Broken
) -> None:
    reconciler.want(KEY, keycloak.wanted())
    reconciler.want(OTHER, keycloak.wanted())
    keycloak.open.clear()
    first = asyncio.create_task(failure(reconciler, KEY))
    async with asyncio.timeout(scaled(5)):
        await keycloak.asked.wait()
    assert isinstance(await failure(reconciler, OTHER), NotYet)
    assert reconciler.outcome(OTHER) is None
    keycloak.open.set()
    assert isinstance(await first, KeycloakUnavailable)
    assert keycloak.requests == 1


async def test_another_realm_is_not_held_up(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    reconciler.want(KEY, keycloak.wanted())
    reconciler.want(OTHER, keycloak.wanted(state=realm_state(lab(environment(iam=IAM | {"realm": "other"})))))
    assert isinstance(await failure(reconciler, KEY), KeycloakUnavailable)
    assert isinstance(await failure(reconciler, OTHER), KeycloakUnavailable)
    assert keycloak.requests == 2


async def test_new_credentials_are_tried_at_once(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    keycloak.status = 401
    reconciler.want(KEY, keycloak.wanted())
    assert isinstance(await failure(reconciler, KEY), KeycloakForbidden)
    assert reconciler.outcome(KEY) == Outcome(
        reason="KeycloakForbidden",
        message="realm labs refuses the client of iam.adminSecret (not today): "
        "see its client_id and client_secret, and that the client has service accounts enabled",
        stalled=True,
    )
    reconciler.want(KEY, keycloak.wanted(admin=Admin("manager", "another", None)))
    assert isinstance(await failure(reconciler, KEY), KeycloakForbidden)
    assert keycloak.requests == 2


async def test_a_certificate_that_is_none(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    reconciler.want(KEY, keycloak.wanted(admin=Admin("manager", "secret", b"-----BEGIN CERTIFICATE-----")))
    await failure(reconciler, KEY)
    outcome = reconciler.outcome(KEY)
    assert outcome is not None
    assert outcome.message == "ca.crt in the Secret of iam.caSecret holds no certificate in PEM"
    assert keycloak.requests == 0


async def test_a_pass_that_takes_too_long(
    reconciler: IdentityReconciler, keycloak: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "PASS_SECONDS", 0.2)
    keycloak.open.clear()
    reconciler.want(KEY, keycloak.wanted())
    failed = await failure(reconciler, KEY)
    assert str(failed) == f"Keycloak at {keycloak.url} is too slow: one lab took more than 0.2 seconds"


async def test_what_is_wanted_again_is_not_asked_for_again(
    reconciler: IdentityReconciler, queue: Workqueue[NamespacedName], keycloak: Broken
) -> None:
    reconciler.want(KEY, keycloak.wanted())
    assert await queue.get() == KEY
    queue.done(KEY)
    reconciler.want(KEY, keycloak.wanted())
    assert len(queue) == 0
    reconciler.want(KEY, keycloak.wanted(secret="another"))
    assert len(queue) == 1


async def test_what_is_wanted_no_more_is_forgotten(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    reconciler.want(KEY, keycloak.wanted())
    await failure(reconciler, KEY)
    reconciler.want(KEY, None)
    assert reconciler.outcome(KEY) is None
    await reconciler.reconcile(KEY)
    assert keycloak.requests == 1


async def test_nothing_is_known_under_a_new_lease(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    reconciler.want(KEY, keycloak.wanted())
    await failure(reconciler, KEY)
    reconciler.begin()
    assert reconciler.outcome(KEY) is None
    await reconciler.reconcile(KEY)
    assert keycloak.requests == 1


async def test_a_deletion_is_told_what_it_waits_for(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    access = access_to(keycloak.url, "labs", ADMIN)
    reconciler.want(KEY, keycloak.wanted())
    await failure(reconciler, KEY)
    before = reconciler.outcome(KEY)
    assert reconciler.take_away(KEY, access, Step.CLOSE) == f"Keycloak at {keycloak.url}"
    await failure(reconciler, KEY)
    assert before is not None
    assert reconciler.take_away(KEY, access, Step.CLOSE) == before.message


async def test_what_comes_later_in_a_deletion_is_not_taken_back(
    reconciler: IdentityReconciler, keycloak: Broken
) -> None:
    access = access_to(keycloak.url, "labs", ADMIN)
    assert reconciler.take_away(KEY, access, Step.REMOVE) != ""
    assert reconciler.take_away(KEY, access, Step.CLOSE) == ""
    assert reconciler.take_away(KEY, access, Step.REMOVE) != ""


def requests(code: str) -> float:
    """How many requests to Keycloak ended like this."""
    return REGISTRY.get_sample_value("datalabd_keycloak_requests_total", {"code": code, "method": "POST"}) or 0.0


async def test_requests_are_counted(reconciler: IdentityReconciler, keycloak: Broken) -> None:
    before = requests("503"), requests("<error>")
    reconciler.want(KEY, keycloak.wanted())
    reconciler.want(OTHER, keycloak.wanted(url="http://127.0.0.1:1"))
    await failure(reconciler, KEY)
    await failure(reconciler, OTHER)
    assert (requests("503") - before[0], requests("<error>") - before[1]) == (1, 1)
