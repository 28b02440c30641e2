"""Refusals that are decided before a request reaches its handler. They hold nothing of what was sent."""

from workspaces.problems import Problem


class Unauthorized(Problem):
    """401: nobody knows who asks. `description` says more to whoever develops a client, `reason` to the log."""

    def __init__(self, detail: str, reason: str, description: str = "") -> None:
        error = f', error="invalid_token", error_description="{description}"' if description else ""
        super().__init__(401, detail, description, {"WWW-Authenticate": f'Bearer realm="workspaces"{error}'})
        self.reason = reason


class CrossSite(Problem):
    """403: a page of another site sent a browser here to change something, or we cannot tell that none did."""

    def __init__(self, sentence: str = "A change by a browser has to come from a page of this site") -> None:
        super().__init__(403, "Forbidden", sentence)


class TooManyRequests(Problem):
    """429: the user asked too often."""

    def __init__(self, seconds: float) -> None:
        super().__init__(429, "Too many requests", headers=_retry_after(seconds))


class IdentityUnavailable(Problem):
    """503: who asks cannot be told at the moment."""

    def __init__(self, seconds: float) -> None:
        super().__init__(503, "The identity provider cannot be reached", headers=_retry_after(seconds))


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, -int(-seconds // 1)))}
