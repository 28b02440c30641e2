"""What the demonstration shows of the Workspace API."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx

from hack import playground
from hack.cluster import ClusterError
from hack.playground import ADMIN, WorkspaceApi
from workspaces.permissions import ROLE_PERMISSIONS, Permissions, Role
from workspaces.ui.screens import SCREENS, may_see

SECONDS = 120.0
PEOPLE = ("ann", "bob", "carol")
"""Owners of `ws-ann` and `ws-bob`, and a member of the former."""


class Headings(HTMLParser):
    """The headings of a page, in order: of the page itself, and of dialogs, which open when they are asked for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.own: list[str] = []
        self.dialogs: list[str] = []
        self._at = self.own
        self._is_inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note that a heading or a dialog begins."""
        if tag == "dialog":
            self._at = self.dialogs
        if re.fullmatch("h[1-6]", tag):
            self._is_inside = True
            self._at.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note that it ends."""
        if tag == "dialog":
            self._at = self.own
        self._is_inside = self._is_inside and not re.fullmatch("h[1-6]", tag)

    def handle_data(self, data: str) -> None:
        """Take up its text."""
        if self._is_inside:
            self._at[-1] = " ".join(f"{self._at[-1]} {data}".split())


class WorkspaceDemo:
    """Shows requests and answers, and fails where those are not what they should be."""

    def __init__(self, api: WorkspaceApi, until: Callable[[Callable[[], bool], float, str], None]) -> None:
        self._api = api
        self._until = until

    def run(self) -> None:
        """All of it."""
        print(f"\n== The Workspace API, at {self._api.url}")
        self._show("Nobody is let in without a token", "", "GET", "/workspaces", expected=401)
        self._show("Nor by a token that somebody changed", ADMIN, "GET", "/workspaces", expected=401, forged=True)
        for name, owner in (("ws-ann", "ann"), ("ws-bob", "bob")):
            body = {"preferred_name": name, "default_owner": owner}
            self._show(f"A platform admin makes a workspace for {owner}", ADMIN, "POST", "/workspaces", body, 201)
        self._until(
            lambda: self._is_ready("ann", "ws-ann") and self._is_ready("bob", "ws-bob"), SECONDS, "both are ready"
        )
        added = {"add_memberships": [{"member": "carol", "role": "user"}]}
        self._show("Ann adds a member", "ann", "PUT", "/workspaces/ws-ann", added, 202)
        asked = {"permission": "ReadOnly", "reason": "to compare"}
        self._show("Bob asks for her bucket", "bob", "PUT", "/workspaces/ws-bob/requests/ws-ann", asked, 202)
        granted = {"permission": "ReadOnly"}
        self._show("Ann grants it", "ann", "PUT", "/workspaces/ws-ann/grants/ws-ann/ws-bob", granted, 202)
        path = "/workspaces/ws-ann/sessions/default"
        self._until(lambda: self._ask("carol", "GET", path).status_code == 200, SECONDS, "the session answers")
        self._show("Carol opens a session", "carol", "GET", path)
        self._show("Carol manages no members", "carol", "DELETE", "/workspaces/ws-ann/members/ann", expected=403)
        audited = self._audited()
        print("\n== What the audit log says of that")
        print(f"  {json.dumps(audited[-1])}" if audited else "  nothing", flush=True)
        if not audited or (audited[-1]["user"], audited[-1]["outcome"]) != ("carol", "refused"):
            raise ClusterError("expected: the audit line of that refusal")
        self._show_pages("ann", "the owner", ROLE_PERMISSIONS[Role.ADMIN])
        self._show_pages("carol", "a member", ROLE_PERMISSIONS[Role.ACCESS])

    def _audited(self) -> list[dict[str, Any]]:
        return [entry for entry in playground.entries(self._api.log.read_text()) if entry.get("event") == "audit"]

    def _show_pages(self, user: str, role: str, allowed: Permissions) -> None:
        """Print the headings of each page that somebody may look at, and what those say that they may not."""
        print(f"\n== The pages as {user}, {role}, sees them: status, address, headings, and in brackets what opens")
        parts = {"w": "ws-ann", "b": "ws-ann", "s": "default"}
        for screen in SCREENS:
            path = screen.address(parts)
            answer = self._ask(user, "GET", path, accept="text/html")
            expected = 200 if may_see(screen.needs, allowed) else 403
            headings = Headings(answer.text)
            opens = f" [{' · '.join(headings.dialogs)}]" if headings.dialogs else ""
            print(f"  {answer.status_code} {path}: {' · '.join(headings.own)}{opens}", flush=True)
            if answer.status_code != expected or not headings.own:
                raise ClusterError(f"expected: a page with a heading, and status {expected}")

    def _is_ready(self, user: str, name: str) -> bool:
        answer = self._ask(user, "GET", f"/workspaces/{name}")
        return answer.is_success and answer.json()["status"] == "ready"

    def _show(
        self,
        title: str,
        user: str,
        method: str,
        path: str,
        body: Any = None,
        expected: int = 200,
        *,
        forged: bool = False,
    ) -> None:
        """Print a request under a title, send it, print the answer."""
        print(f"\n== {title}")
        data = "" if body is None else f" -d '{json.dumps(body)}'"
        print(f"$ curl -X {method} …{path}{data}", flush=True)
        answer = self._ask(user, method, path, body, forged=forged)
        print(f"  {answer.status_code} {answer.text.strip()[:300]}", flush=True)
        if answer.status_code != expected:
            raise ClusterError(f"expected: an answer of {expected}")

    def _ask(
        self,
        user: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        forged: bool = False,
        accept: str = "application/json",
    ) -> httpx.Response:
        headers = {"Accept": accept}
        if user:
            token = self._api.token(user)
            head, _, signature = token.rpartition(".")
            headers["Authorization"] = f"Bearer {head}.{signature[::-1]}" if forged else f"Bearer {token}"
        url = f"{self._api.url}{path}"
        return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=30)
