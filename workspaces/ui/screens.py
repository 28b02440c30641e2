"""Every screen, once: from this table are made the routes, the navigation, and what each screen is shown with. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from workspaces.operations import BUCKET, SESSION, SESSIONS, Needs, Operation, W
from workspaces.permissions import Permission, Permissions
from workspaces.ui import activity, buckets, home, keys, listing, members, sessions, sharing, stores
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_


def _nothing(_: Inputs) -> Context:
    return {}


@dataclass(frozen=True)
class Screen:
    """One page, and its place among the others."""

    name: str
    """Also of its template, `<name>.html`."""
    path: str
    needs: Needs | Permission
    label: str
    parts: tuple[str, ...] = ()
    """Parts of a workspace whose changes it shows, as events name them; none: it shows all."""
    symbol: str = ""
    """In the navigation of a workspace; without one it is not there."""
    context: Callable[[Inputs], Context] = field(default=_nothing)
    """What its template needs beside `view`, `allowed`, `query` and `parts`."""

    @property
    def operation(self) -> Operation:
        """What whoever looks at it is checked by."""
        return Operation(f"show_{self.name}", "GET", self.path, self.needs, self.label)

    @property
    def watched(self) -> tuple[str, ...]:
        """Parts whose changes it is looked at again for; none: all. What a viewer may see depends on the members."""
        return tuple(dict.fromkeys((*self.parts, "members"))) if self.parts else ()

    @property
    def on_workspace(self) -> bool:
        """Whether it is about one workspace."""
        return "{w}" in self.path

    def address(self, parts: Mapping[str, str]) -> str:
        """Its path; KeyError where a part is missing."""
        pieces = self.path.split("/")
        return "/".join(quote(parts[piece[1:-1]], safe="") if piece.startswith("{") else piece for piece in pieces)


NEW = "new"
"""The name of a workspace that a platform admin finds the form for new ones at."""

SCREENS: tuple[Screen, ...] = (
    Screen(
        "workspaces",
        "/workspaces",
        Needs.TOKEN,
        N_("Workspaces"),
        context=listing.context,
    ),
    Screen(NEW, f"/workspaces/{NEW}", Needs.PLATFORM_ADMIN, N_("New workspace")),
    # ---- One workspace, in the order of its navigation
    Screen(
        "home",
        W,
        Needs.ANY,
        N_("Overview"),
        symbol="home",
        context=home.context,
    ),
    Screen(
        "members",
        f"{W}/members",
        Permission.VIEW_MEMBERS,
        N_("Members"),
        parts=("members", "status"),
        symbol="members",
        context=members.context,
    ),
    Screen(
        "buckets",
        f"{W}/buckets",
        Permission.VIEW_BUCKETS,
        N_("Buckets"),
        parts=("buckets", "requests", "credentials"),
        symbol="bucket",
        context=buckets.context,
    ),
    Screen(
        "bucket",
        BUCKET,
        Permission.VIEW_BUCKETS,
        N_("Bucket"),
        parts=("buckets", "requests", "credentials"),
        context=buckets.one,
    ),
    Screen(
        "sharing",
        f"{W}/sharing",
        Permission.VIEW_BUCKETS,
        N_("Sharing"),
        parts=("buckets", "requests"),
        symbol="share",
        context=sharing.context,
    ),
    Screen(
        "sessions",
        SESSIONS,
        Permission.VIEW_SESSIONS,
        N_("Sessions"),
        parts=("sessions", "status"),
        symbol="session",
        context=sessions.context,
    ),
    Screen(
        "session",
        SESSION,
        Permission.VIEW_SESSIONS,
        N_("Session"),
        parts=("sessions", "status"),
        context=sessions.waiting,
    ),
    Screen(
        "stores",
        f"{W}/stores",
        Permission.VIEW_STORES,
        N_("Stores"),
        parts=("stores", "status"),
        symbol="store",
        context=stores.context,
    ),
    Screen(
        "credentials",
        f"{W}/credentials",
        Permission.VIEW_BUCKET_CREDENTIALS,
        N_("Credentials"),
        parts=("credentials", "stores"),
        symbol="key",
        context=keys.context,
    ),
    Screen(
        "activity",
        f"{W}/activity",
        Needs.ANY,
        N_("Activity"),
        symbol="activity",
        context=activity.context,
    ),
)

BY_NAME = {screen.name: screen for screen in SCREENS}


def navigation(allowed: Permissions) -> list[Screen]:
    """Screens of a workspace that somebody with these permissions may look at."""
    return [screen for screen in SCREENS if screen.on_workspace and screen.symbol and may_see(screen.needs, allowed)]


def may_see(needs: Needs | Permission, allowed: Permissions) -> bool:
    """Whether permissions on a workspace suffice for a screen."""
    return needs in allowed if isinstance(needs, Permission) else bool(allowed) and needs is not Needs.PLATFORM_ADMIN
