"""Asks the API server what the writer of an object may do beside writing it."""

import asyncio
import hashlib
from collections.abc import Callable

import orjson

from datalabd.api.meta import Manifest
from datalabd.errors import Unavailable
from datalabd.kube import resources as kinds
from webhooks.lookups import Lookups

CACHE_SECONDS = 5.0
"""How long an answer counts: a burst of one writer asks once, and a role given or taken counts soon."""
CACHE_MAX = 1000
"""Answers kept."""
TIMEOUT_SECONDS = 3.0
"""How long an admission waits for an answer: well within its own timeout."""

Right = tuple[str, str, str]
"""Verb, API group, plural: over all objects of a kind without namespaces."""


class Authorizer:
    """Answers of the API server, by SubjectAccessReview, remembered for a moment."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._answers: dict[tuple[bytes, Right], tuple[float, bool]] = {}

    async def allows(self, lookups: Lookups, user: Manifest, right: Right) -> bool:
        """Whether a user, as `userInfo` of a review has it, has a right. Raises `KubeError` where nobody can say."""
        key = hashlib.sha256(orjson.dumps(user, option=orjson.OPT_SORT_KEYS)).digest(), right
        now = self._clock()
        asked, allowed = self._answers.get(key, (-CACHE_SECONDS, False))
        if now - asked < CACHE_SECONDS:
            return allowed
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                allowed = await _ask(lookups, user, right)
        except TimeoutError as error:
            raise Unavailable(0, "Timeout", "the API server did not say in time what a user may do") from error
        self._answers.pop(key, None)
        while len(self._answers) >= CACHE_MAX:
            self._answers.pop(next(iter(self._answers)))  # the oldest
        self._answers[key] = self._clock(), allowed
        return allowed


async def _ask(lookups: Lookups, user: Manifest, right: Right) -> bool:
    verb, group, plural = right
    review = {
        "apiVersion": kinds.SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": kinds.SUBJECT_ACCESS_REVIEWS.kind,
        "metadata": {},
        "spec": {
            "user": user.get("username") or "",
            "uid": user.get("uid") or "",
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "resourceAttributes": {"verb": verb, "group": group, "resource": plural},
        },
    }
    answer = await lookups.review(kinds.SUBJECT_ACCESS_REVIEWS, review)
    return (answer.get("status") or {}).get("allowed") is True
