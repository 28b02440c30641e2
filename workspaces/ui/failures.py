"""What a page says of an error: in a word what it is, and what to do next. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from workspaces.ui.languages import N_


@dataclass(frozen=True)
class Failure:
    """An error for people."""

    title: str
    advice: str
    offers_login: bool = False
    """Whether logging in may help."""


FAILURES: Mapping[int, Failure] = {
    400: Failure(N_("This request makes no sense"), N_("Go back and try again.")),
    401: Failure(N_("You are not logged in"), N_("Log in, and you come back here."), offers_login=True),
    403: Failure(
        N_("This is not open to you"),
        N_(
            "There is no such workspace, or you have no right to this. "
            "If you were given one just now, log out and in again: it counts from the next login."
        ),
    ),
    404: Failure(N_("There is nothing here"), N_("It was removed, or never was. Look for it in the list.")),
    405: Failure(N_("This cannot be done here"), N_("Go back and try again.")),
    409: Failure(N_("The state of the workspace forbids this"), N_("Look at it again, and then decide.")),
    412: Failure(N_("It has changed since you looked"), N_("Look at it again, and then decide.")),
    413: Failure(N_("This is too much at once"), N_("Send it in smaller parts.")),
    422: Failure(N_("Something in this request is not valid"), N_("Go back and correct it.")),
    429: Failure(N_("Too many requests"), N_("Wait a moment, then try again.")),
    500: Failure(
        N_("Something is broken here"), N_("Try again. If it stays so, give the number below to whoever runs this.")
    ),
    502: Failure(
        N_("The cluster refuses this"), N_("Try again. If it stays so, give the number below to whoever runs this.")
    ),
    503: Failure(N_("Not available at the moment"), N_("This page tries again by itself.")),
}
OTHER = Failure(N_("This did not work"), N_("Go back and try again."))


def failure(status: int) -> Failure:
    """What is said of an answer's status."""
    return FAILURES.get(status, OTHER)
