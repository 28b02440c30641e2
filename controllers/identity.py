"""Have Keycloak hold what labs want of it, apart from everything else: a Keycloak that is away delays nothing but this.

The reconciler of claims says what each lab wants, and asks what became of it; between the two stands this queue with
workers of its own. Nothing here asks the API server for anything.
"""

import asyncio
import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import structlog

from controllers.controller import Result
from controllers.workqueue import Workqueue, backoff
from datalabd import defects
from datalabd.api.meta import NamespacedName
from datalabd.errors import (
    DatalabdError,
    InternalError,
    KeycloakError,
    KeycloakForbidden,
    KeycloakForeign,
    KeycloakUnavailable,
    NotYet,
    RealmMissing,
)
from datalabd.identity import Access, Admin, Outcome
from datalabd.plan.keycloak import Wanted

if TYPE_CHECKING:
    from datalabd.keycloak import Keycloak

log = structlog.get_logger()

RESYNC_SECONDS = 600.0
"""How often a realm is looked at when nothing has changed here: somebody may have changed it there."""
USERS_MISSING_SECONDS = 120.0
"""The same while members are not known there: somebody is about to make them."""
PASS_SECONDS = 60.0
"""The longest one pass over one lab may take, however slowly each answer comes."""
LONGEST_PAUSE_SECONDS = 60.0
"""How long a realm is left alone at most after it failed."""


class Step(IntEnum):
    """What is to be done for a lab, in the order of its life."""

    CONVERGE = 0
    CLOSE = 1
    REMOVE = 2


@dataclass(frozen=True)
class _Task:
    """What one lab wants now."""

    access: Access
    step: Step
    wanted: Wanted | None = None
    """To converge."""


@dataclass
class _Realm:
    """One realm, as all labs in it see it: what fails for one of them fails for all."""

    keycloak: "Keycloak"
    proven: bool = False
    """Whether it was looked at as a whole since it failed last."""
    probing: bool = False
    """Whether one lab is finding out, for all."""
    problem: KeycloakError | None = None
    failures: int = 0
    not_before: float = 0.0
    """Loop time until which it is left alone."""
    busy: int = 0
    """Passes that use it now."""


@dataclass(frozen=True)
class _Reason:
    """How a failure is told in a condition."""

    word: str
    stalled: bool


_REASONS: dict[type[DatalabdError], _Reason] = {
    KeycloakUnavailable: _Reason("KeycloakUnavailable", stalled=False),
    KeycloakForbidden: _Reason("KeycloakForbidden", stalled=True),
    RealmMissing: _Reason("RealmMissing", stalled=True),
    KeycloakForeign: _Reason("NameTaken", stalled=True),
    InternalError: _Reason("InternalError", stalled=True),
}
_OTHER = _Reason("KeycloakError", stalled=False)
_OF_ALL = (KeycloakUnavailable, KeycloakForbidden, RealmMissing)
"""Failures that are the realm's rather than one lab's."""


def access_to(url: str, realm: str, admin: Admin) -> Access:
    """How a realm is reached."""
    return Access(url, realm, admin.client_id, admin.client_secret, admin.ca)


class IdentityReconciler:
    """Does what labs want in Keycloak, one pass at a time for each of them.

    `changed` is called when there is something new to say of a lab.
    """

    def __init__(
        self,
        queue: Workqueue[NamespacedName],
        changed: Callable[[NamespacedName], None],
        resync_seconds: float = RESYNC_SECONDS,
    ) -> None:
        self._queue = queue
        self._changed = changed
        self._resync_seconds = resync_seconds
        self._tasks: dict[NamespacedName, _Task] = {}
        self._outcomes: dict[NamespacedName, Outcome] = {}
        self._done: dict[NamespacedName, _Task] = {}
        """The last task of each lab that ended well."""
        self._realms: dict[Access, _Realm] = {}

    def want(self, key: NamespacedName, wanted: Wanted | None) -> None:
        """Have the realm hold this of a lab, from now on; None: leave it as it is."""
        if wanted is None:
            self.forget(key)
        else:
            access = access_to(wanted.url, wanted.state.realm, wanted.admin)
            self._set(key, _Task(access, Step.CONVERGE, wanted))

    def outcome(self, key: NamespacedName) -> Outcome | None:
        """What became of it; None: nobody knows yet."""
        return self._outcomes.get(key)

    def take_away(self, key: NamespacedName, access: Access, step: Step) -> str:
        """Close the access of a lab, or remove what it had; returns what that waits for, empty when it is done."""
        before = self._tasks.get(key)
        if before is not None and before.access == access and before.step > step:
            return ""  # what comes after it was asked for already
        task = _Task(access, step)
        if before != task:
            self._outcomes.pop(key, None)
        self._set(key, task)
        if self._done.get(key) == task:
            return ""
        outcome = self._outcomes.get(key)
        return outcome.message if outcome else f"Keycloak at {access.url}"

    def forget(self, key: NamespacedName) -> None:
        """Do nothing more for a lab, and know nothing more of it."""
        self._outcomes.pop(key, None)
        self._done.pop(key, None)
        if self._tasks.pop(key, None) is not None:
            self._queue.add(key)  # to part with a realm that nobody needs any more

    def begin(self) -> None:
        """Know nothing of what was wanted under an earlier lease: others have led since."""
        for known in (self._tasks, self._outcomes, self._done):
            known.clear()

    async def aclose(self) -> None:
        """Close all connections."""
        realms, self._realms = self._realms, {}
        for realm in realms.values():
            await realm.keycloak.aclose()

    async def reconcile(self, key: NamespacedName) -> Result:
        """One pass over one lab. Raises what stopped it, after its outcome tells."""
        try:
            return await self._pass(key)
        except DatalabdError:
            raise
        except Exception as error:  # as in a pass over the claim
            problem = InternalError(defects.place(error))
            task = self._tasks.get(key)
            if task is not None:
                self._tell_failure(key, task, problem)
            raise problem from error

    async def _pass(self, key: NamespacedName) -> Result:
        await self._part()
        task = self._tasks.get(key)
        if task is None:
            return Result()
        try:
            realm = self._realms.get(task.access) or await self._meet(task.access)
        except KeycloakError as error:  # a certificate that is none
            self._tell_failure(key, task, error)
            raise
        self._require_open(key, task, realm)
        probe = not realm.proven
        realm.probing |= probe
        realm.busy += 1
        try:
            outcome = await self._attempt(key, task, realm)
        except KeycloakError as error:
            if isinstance(error, _OF_ALL):
                if probe or realm.proven:  # else another pass of the same moment has told already
                    self._failed(realm, error)
            else:
                self._recovered(key, task.access, realm)
            self._tell_failure(key, task, error)
            raise
        finally:
            realm.busy -= 1
            realm.probing &= not probe
        self._recovered(key, task.access, realm)
        if self._tasks.get(key) is not task:
            return Result()  # it wants something else by now, and is in the queue for it
        news = self._done.get(key) != task
        self._done[key] = task
        self._tell(key, outcome, news)
        if task.step is not Step.CONVERGE:
            return Result()
        pause = min(self._resync_seconds, USERS_MISSING_SECONDS) if outcome.users else self._resync_seconds
        return Result(requeue_after=pause * random.uniform(0.9, 1.1))

    async def _attempt(self, key: NamespacedName, task: _Task, realm: _Realm) -> Outcome:
        try:
            async with asyncio.timeout(PASS_SECONDS):
                if not realm.proven:
                    await realm.keycloak.check()
                if task.wanted is not None:
                    converged = await realm.keycloak.converge(task.wanted.state, task.wanted.secret, key)
                    if converged.changed:
                        log.info("realm changed", realm=task.wanted.realm, changed=list(converged.changed))
                    return Outcome(holds=task.wanted.digest, users=dict(converged.users))
                if task.step is Step.CLOSE:
                    await realm.keycloak.close_access(key.name, key)
                else:
                    await realm.keycloak.remove(key.name, key)
                log.info("access closed" if task.step is Step.CLOSE else "removed from realm", realm=task.access.realm)
                return Outcome()
        except TimeoutError as error:
            message = f"Keycloak at {task.access.url} is too slow: one lab took more than {PASS_SECONDS:g} seconds"
            raise KeycloakUnavailable(0, message) from error

    def _set(self, key: NamespacedName, task: _Task) -> None:
        if self._tasks.get(key) != task:
            self._tasks[key] = task
            self._queue.add(key)

    async def _meet(self, access: Access) -> _Realm:
        # What speaks with Keycloak takes a tenth of all memory and import time, and many installations have none.
        library = await asyncio.to_thread(importlib.import_module, "datalabd.keycloak")
        if access not in self._realms:
            self._realms[access] = _Realm(library.Keycloak(access))
        return self._realms[access]

    async def _part(self) -> None:
        """Close the connections to realms that no lab needs any more."""
        needed = {task.access for task in self._tasks.values()}
        for access, realm in list(self._realms.items()):
            if access not in needed and not realm.busy:
                del self._realms[access]
                await realm.keycloak.aclose()

    def _require_open(self, key: NamespacedName, task: _Task, realm: _Realm) -> None:
        """Raise `NotYet` while a realm that failed is left alone, or one lab is finding out whether it still does."""
        pause = realm.not_before - asyncio.get_running_loop().time()
        if pause <= 0 and not realm.probing:
            return
        if realm.problem is not None:
            self._tell_failure(key, task, realm.problem)
        raise NotYet(f"Keycloak at {task.access.url}", max(pause, 1.0) + random.uniform(0.0, 1.0))

    def _failed(self, realm: _Realm, error: KeycloakError) -> None:
        realm.proven, realm.problem = False, error
        realm.failures += 1
        pause = min(backoff(realm.failures), LONGEST_PAUSE_SECONDS)
        realm.not_before = asyncio.get_running_loop().time() + pause

    def _recovered(self, key: NamespacedName, access: Access, realm: _Realm) -> None:
        """Go on with all labs of a realm that has proven well, but for the one that has just found out."""
        if not realm.proven:
            for other, task in self._tasks.items():
                if task.access == access and other != key:
                    self._queue.add(other)
        realm.proven, realm.problem, realm.failures, realm.not_before = True, None, 0, 0.0

    def _tell_failure(self, key: NamespacedName, task: _Task, error: KeycloakError | InternalError) -> None:
        if self._tasks.get(key) is task:
            reason = _REASONS.get(type(error), _OTHER)
            before = self._outcomes.get(key, Outcome())
            message = str(error)
            if isinstance(error, KeycloakForeign):  # whose it is, is no business of this claim's authors
                message = f"{error.what} exists and is not this lab's: remove or mark it there, or rename the lab"
            self._tell(key, replace(before, reason=reason.word, message=message, stalled=reason.stalled))

    def _tell(self, key: NamespacedName, outcome: Outcome, news: bool = False) -> None:
        """Remember an outcome, and say so if it is another one than before."""
        if news or self._outcomes.get(key) != outcome:
            self._outcomes[key] = outcome
            self._changed(key)
