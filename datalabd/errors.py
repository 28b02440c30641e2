"""Every error of the project.

DatalabdError
├── StartupError                     the process cannot start; the message says what to mend
├── ClaimInvalid(field, reason)      the user must act: condition and Event; no retry until the claim changes
├── EnvironmentInvalid(field, …)     the operator must act: condition; retry when the environment changes
├── Foreign(what, owner)             an object we would write belongs to somebody else; retried slowly
├── Contested(what, rival)          somebody sets back what we set; put right again with growing pauses
├── NotYet(what, retry_after)        nothing is wrong: wait for an event, look again at the latest then
│   └── Unreadable(kind, error)      a kind that the lab needs cannot be read
├── InternalError(place)             a defect of ours; retried, as its cause may go
├── KubeError(code, reason, message) the API server said no, or did not answer
│   ├── NotFound 404 · Conflict 409 · Invalid 400/422/500-schema · Expired 410 · Throttled 429
│   ├── Forbidden 403 · Denied 403 by RBAC · NamespaceTerminating 403 or 409 with that cause
│   ├── Unavailable                  5xx, a timeout or a broken connection
│   └── NotLeading                   a write that was kept back: the lease is not held
└── KeycloakError(code, message)     Keycloak said no, or did not answer
    ├── KeycloakUnavailable          5xx, 429, a timeout, a broken connection, a certificate that nobody vouches for
    ├── KeycloakForbidden            401 or 403: the operator must mend the admin client
    ├── RealmMissing                 there is no such realm
    └── KeycloakForeign(what)        a client or group of that name is not this claim's
"""


class DatalabdError(Exception):
    """Base of all errors raised on purpose."""


class StartupError(DatalabdError):
    """The process cannot start, or go on; the message says what to mend."""


class ClaimInvalid(DatalabdError):
    """The claim asks for something it cannot have; only its author can mend it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class EnvironmentInvalid(DatalabdError):
    """The environment a claim names is missing or wrong; only the operator can mend it."""

    def __init__(self, name: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.reason = reason

    @property
    def is_lost(self) -> bool:
        """Whether there is none of use; otherwise nobody knows for a while."""
        return self.reason != "KindUnreadable"


class Foreign(DatalabdError):
    """An object of the planned name exists and does not belong to this claim."""

    def __init__(self, what: str, owner: str) -> None:
        super().__init__(f"{what} exists and belongs to {owner}")
        self.what = what
        self.owner = owner


class Contested(DatalabdError):
    """`rival` sets `what` back each time it is put right; so it is with `others` more objects."""

    def __init__(self, what: str, rival: str, others: int = 0) -> None:
        more = f"; {others} more objects are fought over" if others else ""
        super().__init__(
            f"{what} does not stay as it is applied: {rival} sets it back each time; it is put right with growing "
            f"pauses until that ends{more}"
        )
        self.what = what
        self.rival = rival


class NotYet(DatalabdError):
    """Something is still on its way; `retry_after` seconds is the latest moment to look again."""

    def __init__(self, what: str, retry_after: float = 30.0) -> None:
        super().__init__(what)
        self.what = what
        self.retry_after = retry_after


class InternalError(DatalabdError):
    """Something that nobody foresaw was raised at `place`; its `__cause__` is that."""

    def __init__(self, place: str) -> None:
        super().__init__(f"a defect of datalabd: {place}; please report it with the stack in its log")
        self.place = place


class Unreadable(NotYet):
    """A kind that this lab needs cannot be read, so nothing is known of it."""

    def __init__(self, kind: str, error: "KubeError") -> None:
        super().__init__(f"{kind} cannot be read: {error}")
        self.kind = kind


class KubeError(DatalabdError):
    """The API server refused a request; `code` is the HTTP status, 0 where there was no answer."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.about = ""
        """Kind, namespace and name of the object it was about, where it was about one."""
        self.causes: tuple[tuple[str, str], ...] = ()
        """Fields that are wrong, each with what is wrong with it."""

    def __str__(self) -> str:
        return f"{self.about}: {self.message}" if self.about else self.message


class NotFound(KubeError):
    """404: no such object, or no such kind."""


class Conflict(KubeError):
    """409: the object exists already, or is not the one (uid, resourceVersion) we meant."""


class Invalid(KubeError):
    """400, 422, or an apply with a field the schema lacks: repeating it unchanged is useless."""


class Forbidden(KubeError):
    """403: RBAC, a quota, an admission policy or a webhook said no."""


class Denied(Forbidden):
    """403 by RBAC: `account` may not `what` (verb and resource) in `namespace`, empty for the whole cluster."""

    def __init__(self, message: str, account: str, what: str, namespace: str) -> None:
        super().__init__(403, "Forbidden", message)
        self.account = account
        self.what = what
        self.namespace = namespace


class NamespaceTerminating(KubeError):
    """The namespace is being deleted; what was to be written into it has to wait."""


class Expired(KubeError):
    """410: the resourceVersion is too old, list again."""


class Throttled(KubeError):
    """429: the API server asks for a pause of `retry_after` seconds."""


class Unavailable(KubeError):
    """5xx, a timeout or a broken connection: try again later."""


class NotLeading(KubeError):
    """The lease is not held, or not any more: no byte of the request left since."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "NotLeading", message)


class KeycloakError(DatalabdError):
    """Keycloak refused a request; `code` is the HTTP status, 0 where there was no answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class KeycloakUnavailable(KeycloakError):
    """Down, slow, out of order, or not to be trusted: try again later."""


class KeycloakForbidden(KeycloakError):
    """Our own login is refused, or lacks a role; only the operator can mend it."""


class RealmMissing(KeycloakError):
    """There is no realm of that name."""


class KeycloakForeign(KeycloakError):
    """A client or group of the planned name exists and carries no mark of this claim; it is left alone."""

    def __init__(self, what: str, owner: str) -> None:
        super().__init__(0, f"{what} exists and belongs to {owner}")
        self.what = what
        self.owner = owner
