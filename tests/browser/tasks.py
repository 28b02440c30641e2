"""What people do with the pages, each task once: whichever hands do it, the same is left in the workspace.

Each begins and ends with the workspaces as `scenery` made them; only `FREE` and what a task makes itself is changed.
"""

import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from playwright.async_api import expect

from datalabd.api.meta import BACKUP, RESTORE
from hack.playground import ADMIN, NAMESPACE
from hack.scenery import EMPTY, FREE, HINDERED
from hack.site import OTHER, SLOW, WORKSPACE, Site
from tests.browser.hands import Hands
from tests.integration.objects import unique

HOME = f"/workspaces/{FREE}"
END = "2999-12-31"


@dataclass(frozen=True)
class Task:
    """Something that people do."""

    name: str
    person: str
    act: Callable[[Hands, Site], Awaitable[None]]


TASKS: list[Task] = []


def task(person: str) -> Callable[[Callable[[Hands, Site], Awaitable[None]]], Callable[[Hands, Site], Awaitable[None]]]:
    """Have the function be a task, done by this person."""

    def added(act: Callable[[Hands, Site], Awaitable[None]]) -> Callable[[Hands, Site], Awaitable[None]]:
        TASKS.append(Task(act.__name__, person, act))
        return act

    return added


def fetched(site: Site, workspace: str = FREE) -> Any:
    """The workspace, as the API has it."""
    return site.ask(ADMIN, "GET", f"/workspaces/{workspace}")


def roles(site: Site) -> dict[str, str]:
    """Roles by member."""
    return {row["member"]: row["role"] for row in fetched(site)["datalab"]["memberships"]}


def states(site: Site) -> dict[str, str]:
    """States by session."""
    return {row["name"]: row["state"] for row in fetched(site)["datalab"]["sessions"]}


def key(site: Site) -> str:
    """The secret key of the object storage of `WORKSPACE`."""
    secret = site.cluster.api.get("secret", WORKSPACE, NAMESPACE)
    assert secret is not None
    return base64.b64decode(secret["data"]["AWS_SECRET_ACCESS_KEY"]).decode()


# ---- Members


@task("adam")
async def add_several_members_change_a_role_and_remove_them(hands: Hands, site: Site) -> None:
    one, other = unique("m"), unique("m")
    await hands.open(f"{HOME}/members")
    await hands.press("link", "Add members …")
    await hands.write("User names", f"{one}\n{other}")
    await hands.choose("Role", "Administrator")
    await hands.press("button", "Add")
    await hands.hears("The members are added.")
    await hands.is_at("link", "Add members …")
    await hands.sees(one, "Administrator")
    await hands.press("button", f"Make {one} a user")
    await hands.hears("The role is changed.")
    await hands.is_at("button", f"Make {one} an administrator")
    await hands.sees(one, "User")
    found = roles(site)
    assert (found[one], found[other]) == ("user", "admin")
    for member in (one, other):
        await hands.press("link", f"Remove {member} …")
        await hands.press("button", "Remove")
        await hands.hears("The member is removed.")
        await hands.is_at_content()
        await hands.misses(member)
    assert {one, other}.isdisjoint(roles(site))


@task("olga")
async def hand_a_workspace_over(hands: Hands, site: Site) -> None:
    await hands.open(f"{HOME}/members")
    await hands.press("link", "Hand over to adam …")
    await hands.press("button", "Hand over")
    try:
        await hands.hears("The workspace has another owner.")
        await hands.is_at_content()
        await hands.sees("adam", "Owner")
        assert roles(site)["adam"] == "owner"
    finally:
        site.ask(ADMIN, "PUT", f"{HOME}/owner", {"member": "olga"})


# ---- Buckets


@task("adam")
async def add_a_bucket_let_others_find_it_and_remove_it(hands: Hands, site: Site) -> None:
    name = unique(f"{FREE}-b")
    await hands.open(f"{HOME}/buckets")
    await hands.press("link", "Add a bucket …")
    await hands.write("Name", name)
    await hands.press("button", "Add")
    await hands.hears("The bucket is being made.")
    await hands.is_at("link", "Add a bucket …")
    await hands.press("button", f"Let other workspaces find {name}")
    await hands.hears("The bucket is changed.")
    await hands.is_at("button", f"Hide {name} from other workspaces")
    await hands.sees(name, "May ask for it")
    assert {row["name"]: row["discoverable"] for row in fetched(site)["storage"]["buckets"]}[name]
    await hands.press("link", f"Remove {name} …")
    await hands.write(f"Type the name once more: {name}", name)
    await hands.press("button", "Remove")
    await hands.hears("The bucket is removed.")
    await hands.is_at_content()
    await hands.misses(name)
    assert name not in {row["name"] for row in fetched(site)["storage"]["buckets"]}


@task("adam")
async def edit_the_rules_of_a_bucket(hands: Hands, site: Site) -> None:
    def rules() -> Any:
        return fetched(site)["storage"]["buckets"][0]["lifecycle_rules"]

    await hands.open(f"{HOME}/buckets")
    await hands.press("link", f"Edit the rules of {FREE}")
    await hands.press("link", "Edit rules …")
    await hands.write("Path", "tmp/*")
    await hands.choose("What becomes of them", "Only list")
    await hands.write("From this age on", "2w")
    await hands.press("button", "See what they do")
    await hands.sees("Objects below tmp/ are only listed after 2 weeks")
    assert rules() == []
    await hands.press("button", "Keep")
    await hands.hears("The rules are kept.")
    await hands.is_at("link", "Edit rules …")
    await hands.sees("Objects below tmp/ are only listed after 2 weeks")
    assert rules() == [{"target": "tmp/*", "mode": "Notify", "min_age": "2w"}]
    await hands.press("link", "Edit rules …")
    await hands.write("Path", "")
    await hands.press("button", "See what they do")
    await hands.press("button", "Keep")
    await hands.hears("The rules are kept.")
    await expect(hands.page.get_by_text("Objects stay until somebody deletes them.", exact=True)).to_be_visible()
    assert rules() == []


@task("adam")
async def look_into_a_bucket_and_download_an_object(hands: Hands, site: Site) -> None:
    assert site.minio is not None
    site.minio.fill(FREE, ["maps/north.txt"], b"what the map says")
    try:
        await hands.open(f"{HOME}/buckets")
        await hands.press("link", FREE, within="main")
        await hands.press("link", "maps/")
        await hands.sees("north.txt", "17 B")
        assert await hands.downloaded("Download maps/north.txt") == b"what the map says"
        await hands.write("Key begins with", "maps/south", "searchbox")
        await hands.press("button", "Show")
        await expect(hands.page.get_by_text("No object has a key like that.")).to_be_visible()
    finally:
        site.minio.ask("DELETE", f"/{FREE}/maps/north.txt").raise_for_status()


# ---- Sharing


@task("stan")
async def ask_for_a_bucket_and_withdraw_that(hands: Hands, site: Site) -> None:
    def asked() -> Any:
        rows = fetched(site, OTHER)["storage"]["bucket_access_requests"]
        return [(row["permission"], row["reason"]) for row in rows if row["bucket"] == bucket]

    bucket = f"{WORKSPACE}-tiles"
    await hands.open(f"/workspaces/{OTHER}/sharing")
    await hands.press("link", f"Ask for {bucket} …")
    await hands.choose("Level", "Read and write")
    await hands.write("What for", "to compare")
    await hands.press("button", "Ask")
    await hands.hears("The request waits for the owner of the bucket.")
    await hands.is_at_content()
    await hands.sees(bucket, "Waiting", "to compare")
    assert asked() == [("ReadWrite", "ReadWrite: to compare")]
    await hands.press("button", f"Withdraw the request for {bucket}")
    await hands.hears("The request is withdrawn.")
    await hands.is_at_content()
    await hands.misses(bucket, "Waiting")


@task("adam")
async def decide_on_a_request(hands: Hands, site: Site) -> None:
    def decided() -> Any:
        rows = fetched(site)["storage"]["bucket_access_requests"]
        (row,) = [row for row in rows if row["workspace"] == OTHER]
        return row["permission"], (row["expires"] or "")[:10], row["decision"]

    asked = {"permission": "ReadOnly", "reason": "for maps"}
    theirs = f"/workspaces/{OTHER}/requests/{FREE}"
    site.ask(ADMIN, "PATCH", f"{HOME}/buckets/{FREE}", {"discoverable": True})
    site.ask(ADMIN, "PUT", theirs, asked)
    try:
        await hands.open(f"{HOME}/sharing")
        await hands.press("link", f"Deny {OTHER} access to {FREE} …")
        await hands.write("Reason", "not yet")
        await hands.press("button", "Deny")
        await hands.hears("The request is denied.")
        await hands.is_at_content()
        await hands.sees(OTHER, "Denied", "not yet")

        await hands.press("link", f"Grant {OTHER} access to {FREE} …")
        await hands.choose("Level", "Read and write")
        await hands.date("Ends by itself, in UTC", END)
        await hands.write("Reason", "for a while")
        await hands.press("button", "Grant")
        await hands.hears("Access is granted.")
        await hands.sees(OTHER, "Granted", "Read and write", "for a while", "Ends")
        assert decided() == ("ReadWrite", END, "for a while")

        await hands.press("link", f"Revoke the access of {OTHER} to {FREE} …")
        await hands.write("Reason", "no more")
        await hands.press("button", "Revoke")
        await hands.hears("Access is revoked.")
        await hands.sees(OTHER, "Denied", "no more")
    finally:
        site.ask(ADMIN, "DELETE", theirs)
        site.ask(ADMIN, "DELETE", f"{HOME}/grants/{FREE}/{OTHER}")
        site.ask(ADMIN, "PATCH", f"{HOME}/buckets/{FREE}", {"discoverable": False})


@task("stan")
async def ask_again_for_what_was_denied(hands: Hands, site: Site) -> None:
    bucket = f"{WORKSPACE}-models"
    await hands.open(f"/workspaces/{OTHER}/sharing")
    await hands.press("link", f"Ask for {bucket} again …")
    await hands.write("What for", "please")
    await hands.press("button", "Ask")
    try:
        await hands.hears("The request waits for the owner of the bucket.")
        await hands.sees(bucket, "Waiting", "please")
    finally:
        denied = {"permission": "None", "reason": "not yet"}
        site.ask(ADMIN, "PUT", f"/workspaces/{WORKSPACE}/grants/{bucket}/{OTHER}", denied)


@task("adam")
async def share_a_bucket_with_who_did_not_ask(hands: Hands, site: Site) -> None:
    await hands.open(f"{HOME}/sharing")
    await hands.press("link", "Share a bucket …")
    await hands.choose("Bucket", FREE)
    await hands.write("Workspace", "ws-elsewhere")
    await hands.choose("Level", "Write")
    await hands.press("button", "Grant")
    try:
        await hands.hears("Access is granted.")
        await hands.is_at("link", "Share a bucket …")
        await hands.sees("ws-elsewhere", "Granted", "Write")
    finally:
        site.ask(ADMIN, "DELETE", f"{HOME}/grants/{FREE}/ws-elsewhere")


# ---- Sessions


@task("adam")
async def add_start_stop_and_remove_a_session(hands: Hands, site: Site) -> None:
    name = unique("s")
    await hands.open(f"{HOME}/sessions")
    await hands.press("link", "Add a session …")
    await hands.write("Name", name)
    await hands.press("button", "Add")
    await hands.hears("The session is added.")
    await hands.is_at("link", "Add a session …")
    await hands.press("button", f"Start session {name}")
    await hands.hears("The session starts.")
    await hands.is_at("link", f"Wait for session {name}")
    assert states(site)[name] == "started"
    await hands.press("button", f"Stop session {name}")
    await hands.hears("The session stops.")
    await hands.is_at("button", f"Start session {name}")
    assert states(site)[name] == "stopped"
    await hands.press("link", f"Remove session {name} …")
    await hands.write("Type the name of the session", name)
    await hands.press("button", "Remove")
    await hands.hears("The session is removed.")
    await hands.is_at_content()
    await hands.misses(name)
    assert name not in states(site)


@task("adam")
async def open_a_session_that_does_not_answer_and_cancel(hands: Hands, site: Site) -> None:
    name = unique("s") + SLOW
    site.ask(ADMIN, "POST", f"{HOME}/sessions", {"name": name, "state": "stopped"})
    try:
        await hands.open(HOME)
        await hands.press("link", f"Start session {name}")
        await expect(hands.page.get_by_role("heading", level=1)).to_have_text(f"Session {name}")
        await expect(hands.page.locator("[aria-current=step]")).to_contain_text("in progress")
        assert states(site)[name] == "started"
        await hands.press("button", "Cancel and stop it")
        await hands.hears("The session stops.")
        await expect(hands.page.get_by_role("heading", level=1)).to_have_text("Sessions")
        assert states(site)[name] == "stopped"
    finally:
        site.ask(ADMIN, "DELETE", f"{HOME}/sessions/{name}")


# ---- Stores


@task("adam")
async def add_a_store_replace_its_credentials_and_remove_it(hands: Hands, site: Site) -> None:
    def names() -> Any:
        return {row["name"] for row in fetched(site)["datalab"]["stores"]}

    name = unique("s")
    await hands.open(f"{HOME}/stores")
    await hands.press("link", "Add a store …")
    await hands.choose("Kind", "Cache (Redis)")
    await hands.write("Name", name)
    await hands.write("Size", "1Gi")
    await hands.press("button", "Add")
    await hands.hears("The store is being made.")
    await hands.sees(name, "Cache")
    assert name in names()
    await hands.press("button", f"Replace credentials … {name}")
    await expect(hands.page.get_by_role("dialog")).to_contain_text(name)
    await hands.press("link", "Cancel")
    await hands.press("button", f"Remove … {name}")
    await hands.write(f"Type the name once more: {name}", name)
    await hands.press("button", "Remove")
    await hands.hears("The store is removed.")
    await hands.is_at_content()
    await hands.misses(name)
    assert name not in names()


@task("adam")
async def see_what_a_restore_would_do(hands: Hands, site: Site) -> None:
    asked = hands.page.get_by_role("dialog")
    await hands.open(f"/workspaces/{WORKSPACE}/stores")
    await hands.press("button", "Back up … dev")
    await expect(asked).to_contain_text("dev")
    await hands.press("link", "Cancel")
    await hands.press("link", "Restore … dev")
    await hands.date("Moment to go back to, in UTC", "2026-01-01")
    await hands.press("button", "See what happens")
    await expect(asked.last).to_contain_text("restores pg0 in place")
    await hands.press("link", "Cancel")
    await expect(asked).to_have_count(0)
    live = site.cluster.api.get("datalab", WORKSPACE, NAMESPACE)
    assert live is not None
    assert {RESTORE, BACKUP}.isdisjoint(live["metadata"].get("annotations", {}))


# ---- Credentials


@task("mia")
async def look_at_credentials(hands: Hands, site: Site) -> None:
    await hands.open(f"/workspaces/{WORKSPACE}/credentials")
    async with hands.visitor.showing():
        await hands.press("button", "Show")
        await expect(hands.page.get_by_role("heading", name="Object storage")).to_be_visible()
        await hands.copies("Secret key", key(site))
        await hands.press("link", "Activity")
        await expect(hands.page.get_by_role("heading", level=1)).to_have_text("Activity")


# ---- Workspaces


@task(ADMIN)
async def make_a_workspace_and_delete_it(hands: Hands, site: Site) -> None:
    name = unique("ws")
    hands.visitor.expects_status(404)  # the page of what was deleted may look once more before another takes its place
    await hands.open("/workspaces")
    await hands.press("link", "New workspace")
    await hands.write("Name", name)
    await hands.write("User name of the owner", "olga")
    await hands.press("button", "Create")
    await hands.hears("The workspace is being made.")
    await expect(hands.page.get_by_role("heading", level=1)).to_have_text(name)
    assert fetched(site, name)["datalab"]["memberships"][0]["member"] == "olga"
    await hands.press("link", "Delete this workspace …")
    await hands.write("Type the name of the workspace", name)
    await hands.press("button", "Delete")
    await hands.hears("The workspace is being deleted.")
    await expect(hands.page.get_by_role("heading", level=1)).to_have_text("Workspaces")


@task("olga")
async def find_a_workspace_in_the_list(hands: Hands, site: Site) -> None:
    await hands.open("/workspaces?limit=2")
    await hands.press("link", "Next page")
    await expect(hands.page.locator("main tbody tr")).to_have_count(2)
    await hands.press("link", "First page")
    await hands.write("Name contains", "hind", "searchbox")
    await hands.choose("State", "Being prepared")
    await hands.press("button", "Filter")
    await hands.misses(EMPTY)
    await hands.press("link", HINDERED)
    await expect(hands.page.get_by_role("heading", level=1)).to_have_text(HINDERED)


@task("mia")
async def read_the_pages_in_another_language(hands: Hands, site: Site) -> None:
    await hands.open(HOME)
    await hands.choose("Language", "Deutsch")
    await hands.press("button", "Change")
    await expect(hands.page.locator("html")).to_have_attribute("lang", "de")
    await hands.press("link", "Mitglieder")
    await expect(hands.page).to_have_title(re.compile("Mitglieder"))
