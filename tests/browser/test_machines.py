"""What uses a workspace's client has no login: it meets the pages by its token alone."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.deadlines import scaled
from hack.playground import NAMESPACE
from hack.site import MACHINE, OTHER, SLOW, WORKSPACE, Site
from tests.browser.test_screens import address, may_do, status
from tests.html_pages import Page
from workspaces.ui.actions import ACTIONS, Action
from workspaces.ui.buckets import RULES
from workspaces.ui.screens import BY_NAME, NEW, SCREENS

PARTS = {"m": "mia", "b": WORKSPACE, "s": SLOW, "type": "database", "name": "dev", "workspace": OTHER}
"""What the forms are about, by parts of paths."""
TYPED = {
    "add_members": {"names": "zoe", "role": "user"},
    "add_bucket": {"add_buckets.0.name": f"{WORKSPACE}-machine"},
    "add_store": {"type": "cache", "name": "machine", "storage": "1Gi"},
    "check_rules": {f"{RULES}.0.target": "*"},
    "change_rules": {f"{RULES}.0.target": "*"},
}
"""What is typed into forms of which an empty one asks for nothing."""
REFUSED = [action for action in ACTIONS if not may_do(action, MACHINE)]


@pytest.fixture(scope="module")
def machine(site: Site) -> Iterator[httpx.Client]:
    """Its requests for pages, with a token that the realm gave it."""
    headers = {"Authorization": f"Bearer {site.token(MACHINE)}", "Accept": "text/html"}
    timeout = scaled(30)
    with httpx.Client(base_url=site.url, headers=headers, verify=site.trust, trust_env=False, timeout=timeout) as one:
        yield one


def specs(site: Site) -> list[Any]:
    """What is asked for of the workspace, by the objects that hold it."""
    live = [site.cluster.api.get(kind, WORKSPACE, NAMESPACE) for kind in ("datalab", "storage")]
    return [one and one["spec"] for one in live]


async def test_every_screen_answers_as_its_permissions_say(machine: httpx.Client) -> None:
    pages = {screen.name: Page(await asyncio.to_thread(machine.get, address(screen))) for screen in SCREENS}
    assert {name: page.status for name, page in pages.items()} == {
        screen.name: status(screen, MACHINE) for screen in SCREENS
    }
    assert [name for name, page in pages.items() if page.status == 200] == [
        "workspaces",
        "home",
        "credentials",
        "activity",
    ]


@pytest.mark.parametrize("action", REFUSED, ids=lambda action: action.name)
async def test_it_may_send_no_form_that_it_is_not_offered(site: Site, machine: httpx.Client, action: Action) -> None:
    before = specs(site)
    typed = TYPED.get(action.name, PARTS)
    fields = {**typed, "action": action.name, "confirm": PARTS.get(action.confirms, WORKSPACE)}
    where = address(BY_NAME[action.screen])
    page = Page(await asyncio.to_thread(lambda: machine.post(where, data=fields, headers={"Origin": site.url})))
    assert page.status == (422 if action.screen == NEW else 403), "to others that is the page of a workspace"
    assert specs(site) == before


async def test_a_token_that_is_refused_is_told_so_by_a_page(machine: httpx.Client) -> None:
    head, _, signature = machine.headers["Authorization"].rpartition(".")
    for token in (f"{head}.{signature[::-1]}", "Bearer nonsense", "Basic bWFjaGluZTpzZWNyZXQ="):
        answer = await asyncio.to_thread(machine.get, address(SCREENS[0]), headers={"Authorization": token})
        page = Page(answer)
        assert (page.status, page.heading) == (401, "You are not logged in")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
