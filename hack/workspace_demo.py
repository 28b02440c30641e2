"""What the demonstration shows of the Workspace API."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from hack import playground
from hack.cluster import ClusterError
from hack.playground import ADMIN, WorkspaceApi

SECONDS = 120.0


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
        self._until(lambda: self._is_ready("ann", "ws-ann") and self._is_ready("bob", "ws-bob"), SECONDS, "ready")
        added = {"add_memberships": [{"member": "carol", "role": "user"}]}
        self._show("Ann adds a member", "ann", "PUT", "/workspaces/ws-ann", added, 202)
        asked = {"permission": "ReadOnly", "reason": "to compare"}
        self._show("Bob asks for her bucket", "bob", "PUT", "/workspaces/ws-bob/requests/ws-ann", asked, 202)
        granted = {"permission": "ReadOnly"}
        self._show("Ann grants it", "ann", "PUT", "/workspaces/ws-ann/grants/ws-ann/ws-bob", granted, 202)
        path = "/workspaces/ws-ann/sessions/default"
        self._until(lambda: self._ask("carol", "GET", path).status_code == 200, SECONDS, "a session open")
        self._show("Carol opens a session", "carol", "GET", path)
        self._show("Carol manages no members", "carol", "DELETE", "/workspaces/ws-ann/members/ann", expected=403)
        print("\n== What the audit log says of that")
        told = [entry for entry in playground.entries(self._api.log.read_text()) if entry.get("event") == "audit"]
        print(f"  {json.dumps(told[-1])}" if told else "  nothing", flush=True)
        if not told or (told[-1]["user"], told[-1]["outcome"]) != ("carol", "refused"):
            raise ClusterError("expected: the audit line of that refusal")

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

    def _ask(self, user: str, method: str, path: str, body: Any = None, *, forged: bool = False) -> httpx.Response:
        headers = {"Accept": "application/json"}
        if user:
            token = self._api.token(user)
            head, _, signature = token.rpartition(".")
            headers["Authorization"] = f"Bearer {head}.{signature[::-1]}" if forged else f"Bearer {token}"
        url = f"{self._api.url}{path}"
        return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=30)
