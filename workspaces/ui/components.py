"""Every part that screens are made of, in every state: a page for whoever changes how they look. Pure."""

import datetime

from workspaces.operations import Needs
from workspaces.ui.forms import Attempt, Form
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.screens import Screen

SYMBOLS = (
    *("logo", "home", "workspaces", "members", "bucket", "share", "session", "store", "key", "activity"),
    *("add", "start", "stop", "remove", "open", "copy", "check", "warning", "clock", "rotate"),
    *("search", "close", "edit", "download", "show", "more", "folder", "file"),
)
MOMENTS = {
    "seconds": datetime.timedelta(seconds=-20),
    "minutes": datetime.timedelta(minutes=-5),
    "hours": datetime.timedelta(hours=-3),
    "days": datetime.timedelta(days=-9),
    "months": datetime.timedelta(days=-90),
    "soon": datetime.timedelta(days=6),
}


def context(inputs: Inputs) -> Context:
    """A form as it is, and one that was refused."""
    attempt = Attempt(
        "form-refused",
        {"name": "Not a name", "kind": "b", "text": "one\ntwo"},
        "This cannot be done now",
        {"name": "must be letters", "kind": "is not offered here", "text": "line 2: is not known"},
    )
    return {
        "symbols": SYMBOLS,
        "moments": {name: f"{inputs.now + distance:%Y-%m-%dT%H:%M:%SZ}" for name, distance in MOMENTS.items()},
        "plain": Form("plain", {}, None),
        "refused": Form("refused", {}, attempt),
    }


COMPONENTS = Screen("components", "/ui/components", Needs.TOKEN, "Components", context=context)
