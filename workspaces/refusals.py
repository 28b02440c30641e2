"""Refusals that are decided before a request reaches its handler, as what answers it has to say."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

NONE: Mapping[str, str] = MappingProxyType({})


class Refusal(Exception):
    """A request is not handled. `detail` is for the answer, and holds nothing of what was sent."""

    status: ClassVar[int]

    def __init__(self, detail: str, headers: Mapping[str, str] = NONE) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers


class Unauthorized(Refusal):
    """401: nobody knows who asks. `description` says more to whoever develops a client, `reason` to the log."""

    status = 401

    def __init__(self, detail: str, reason: str, description: str = "") -> None:
        error = f', error="invalid_token", error_description="{description}"' if description else ""
        super().__init__(detail, {"WWW-Authenticate": f'Bearer realm="workspaces"{error}'})
        self.reason = reason


class CrossSite(Refusal):
    """403: a page of another site sent a browser here to change something, or we cannot tell that none did."""

    status = 403


class TooManyRequests(Refusal):
    """429: the user asked too often."""

    status = 429

    def __init__(self, seconds: float) -> None:
        super().__init__("Too many requests", _retry_after(seconds))


class IdentityUnavailable(Refusal):
    """503: who asks cannot be told at the moment."""

    status = 503

    def __init__(self, seconds: float) -> None:
        super().__init__("The identity provider cannot be reached", _retry_after(seconds))


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, -int(-seconds // 1)))}
