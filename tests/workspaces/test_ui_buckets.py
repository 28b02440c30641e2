"""The screens of buckets, of one bucket and of sharing: what they are made of, and how they come out."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest

from tests.workspaces.api import GATEWAY, Api, serving
from tests.workspaces.objects import KEYS, datalab, grant, request, secret, storage
from tests.workspaces.test_object_handlers import Bucket
from tests.workspaces.test_object_storage import answering
from workspaces.permissions import EVERYTHING, NOTHING, Permission, Permissions
from workspaces.ui import buckets, sharing
from workspaces.ui.forms import Outcome
from workspaces.ui.sizes import size

VIEWER = Permissions({Permission.VIEW_BUCKETS})
RULE = {"target": "tmp/*", "mode": "Delete", "min_age": "30d"}
GRANTED = {"workspace": "ws-b", "bucket": "ws-a-x", "permission": "ReadOnly", "grant_timestamp": "2026-01-01T00:00:00Z"}
DENIED = GRANTED | {"denied_timestamp": "2026-01-02T00:00:00Z", "grant_timestamp": None, "bucket": "ws-a"}
WAITS = {"workspace": "ws-c", "bucket": "ws-a", "permission": "ReadWrite", "request_timestamp": "2026-01-01T00:00:00Z"}


def view(*rows: dict[str, Any]) -> dict[str, Any]:
    own = [
        {"name": "ws-a", "discoverable": True, "lifecycle_rules": [RULE]},
        {"name": "ws-a-x", "discoverable": False, "lifecycle_rules": []},
    ]
    return {"name": "ws-a", "storage": {"buckets": own, "bucket_access_requests": list(rows)}}


# ---- What they are made of


def test_rows_of_buckets() -> None:
    found = buckets.context(view(GRANTED, DENIED, WAITS), {"usage": {"ws-a": {"objects": 1}}}, EVERYTHING)
    assert [(row["is_main"], row["held"], row["usage"]) for row in found["rows"]] == [
        (True, 0, {"objects": 1}),
        (False, 1, None),
    ]
    assert (found["may_manage"], found["may_read"]) == (True, True)
    away = {name: {"problem": "away"} for name in ("ws-a", "ws-a-x")}
    nowhere = buckets.context(view(), {"usage": away}, EVERYTHING)
    assert (nowhere["trouble"], nowhere["may_read"]) == ("away", False)
    one_away = buckets.context(view(), {"usage": away | {"ws-a": {"objects": 1}}}, EVERYTHING)
    assert (one_away["trouble"], one_away["may_read"]) == ("", True)
    viewer = buckets.context(view(), {"usage": {}}, VIEWER)
    assert (viewer["may_manage"], viewer["may_read"]) == (False, False)


def one(
    name: str, allowed: Permissions = EVERYTHING, outcome: Outcome | None = None, query: dict[str, str] | None = None
) -> dict[str, Any]:
    return buckets.one(view(), {"usage": {}, "page": None, "trouble": ""}, allowed, query or {}, name, outcome)


def test_a_bucket_with_its_rules() -> None:
    found = one("ws-a", query={"prefix": "a/b/c", "continue": "t"})
    assert (found["rules"], len(found["slots"]), found["may_manage"], found["checked"]) == ([RULE], 3, True, None)
    assert (found["above"], found["is_later"]) == ([("a", "a/"), ("b", "a/b/")], True)
    assert one("ws-a", VIEWER)["may_manage"] is False


def test_nobody_changes_a_bucket_of_another() -> None:
    found = one("ws-b")
    assert (found["bucket"], found["rules"], found["may_manage"]) == (None, [], False)


def test_rules_are_said_before_they_are_kept() -> None:
    typed = {
        "lifecycle_rules.0.target": "*",
        "lifecycle_rules.0.min_age": "2w",
        "lifecycle_rules.1.target": "",
        "b": "x",
    }
    found = one("ws-a", outcome=Outcome("check_rules", {}, typed))
    assert [(rule["where"], rule["count"], rule["unit"]) for rule in found["checked"]] == [("all", 2, "w")]
    assert found["kept"] == {name: value for name, value in typed.items() if name != "b"}
    assert one("ws-a", outcome=Outcome("check_rules", {}, {}))["checked"] == []
    odd = Outcome("check_rules", {}, {"lifecycle_rules.x": "y"})
    assert one("ws-a", outcome=odd)["checked"] == []
    assert one("ws-a", outcome=Outcome("other", {}, {}))["checked"] is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RULE, {"deletes": True, "where": "below", "target": "tmp/", "count": 30, "unit": "d", "at": ""}),
        (
            {"target": "*", "mode": "Notify", "at": "2026-01-01T00:00:00Z"},
            {
                "deletes": False,
                "where": "all",
                "target": "",
                "count": 0,
                "unit": "",
                "at": "2026-01-01T00:00:00Z",
            },
        ),
        (
            {"target": "a/b", "min_age": "+012h"},
            {"deletes": True, "where": "path", "target": "a/b", "count": 12, "unit": "h", "at": ""},
        ),
    ],
)
def test_a_rule_in_words(rule: dict[str, Any], expected: dict[str, Any]) -> None:
    assert buckets.spoken(rule) == expected


def test_rules_of_a_form_are_all_rules() -> None:
    assert buckets.edited([("lifecycle_rules.0.target", "")]) == (
        {"lifecycle_rules": []},
        {},
    )
    made, words = buckets.edited([("lifecycle_rules.3.target", "*"), ("lifecycle_rules.3.min_age", "1d"), ("x", "y")])
    assert made == {"lifecycle_rules": [{"target": "*", "min_age": "1d"}]}
    assert words["lifecycle_rules", 0, "min_age"] == "lifecycle_rules.3.min_age"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KiB"),
        (1536, "1.5 KiB"),
        (150 * 1024, "150 KiB"),
        (1024**5 * 2000, "2000 PiB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected


def test_sharing_by_who_asks_whom() -> None:
    ours = {"workspace": "ws-a", "bucket": "ws-d", "permission": "ReadOnly"}
    asked = ours | {"bucket": "ws-e", "request_timestamp": "2026-01-01T00:00:00Z"}
    found = sharing.context(view(asked, WAITS, GRANTED, DENIED, ours), EVERYTHING)
    assert {part: [(row["bucket"], row["state"]) for row in found[part]] for part in ("by_us", "of_us", "given")} == {
        "by_us": [("ws-e", "waits")],
        "of_us": [("ws-a", "waits")],
        "given": [("ws-a-x", "granted"), ("ws-a", "denied")],
    }
    assert [row["bucket"] for row in found["offered"]] == ["ws-d"]
    assert (found["may_ask"], found["may_decide"]) == (True, True)
    nobody = sharing.context(view(), NOTHING)
    assert (nobody["may_ask"], nobody["may_decide"]) == (False, False)


# ---- How they come out


@contextlib.asynccontextmanager
async def pages(directory: Path, bucket: Bucket | None = None) -> AsyncIterator[Api]:
    """Pages of workspaces ws-a and ws-b, of which the one has its keys of this bucket."""
    own = storage(
        "ws-a",
        buckets=[
            {"bucketName": "ws-a", "discoverable": True, "lifecycleRules": [{"target": "*", "minAge": "1d"}]},
            {"bucketName": "ws-a-<b>"},
        ],
        bucketAccessRequests=[request("ws-b-x", "ReadOnly: maps <script>")],
        bucketAccessGrants=[grant("ws-a", "ws-c", "ReadOnly"), grant("ws-a", "ws-d", "None")],
    )
    other = storage(
        "ws-b",
        buckets=[{"bucketName": "ws-b", "discoverable": True}, {"bucketName": "ws-b-x"}, {"bucketName": "ws-b-y"}],
        bucketAccessRequests=[request("ws-a", "ReadWrite")],
        bucketAccessGrants=[grant("ws-b-y", "ws-a", "ReadOnly")],
    )
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(answering(bucket.answer)) if bucket else "http://127.0.0.1:1"
        keys = secret("ws-a", **KEYS | {"AWS_ENDPOINT_URL": url})
        known = replace(GATEWAY, endpoint=url, ui_mode="ui")
        yield await stack.enter_async_context(
            serving(directory, known, storages=[own, other], datalabs=[datalab()], secrets=[keys])
        )


ROLES = {"alice": "ws_admin", "joe": "ws_access", "robot": "ws_api"}


async def page(api: Api, path: str, user: str = "alice", status: int = 200) -> str:
    """A page, which is strict HTML."""
    answer = await api.ask("GET", path, user, roles={"ws-a": ROLES[user]}, headers={"Accept": "text/html"})
    text = await answer.text()
    assert answer.status == status, text
    html5lib.HTMLParser(strict=True).parse(text)
    return text


@pytest.mark.parametrize("user", ["alice", "joe"])
async def test_every_screen_is_strict_and_shows_no_control_that_would_be_refused(tmp_path: Path, user: str) -> None:
    async with pages(tmp_path, Bucket()) as api:
        found = {}
        for name in ("buckets", "buckets/ws-a", "buckets/ws-b-y", "sharing"):
            found[name] = await page(api, f"/workspaces/ws-a/{name}", user)
            for dialog in ("add", "edit-rules", "share", "ask-ws-b"):
                await page(api, f"/workspaces/ws-a/{name}?dialog={dialog}", user)
        may_manage = user == "alice"
        for name, action in (("buckets", "add_bucket"), ("buckets/ws-a", "check_rules"), ("sharing", "share")):
            assert (f'value="{action}"' in found[name]) == may_manage
        assert 'value="ask"' in found["sharing"]
        assert "<b>" not in found["buckets"]
        assert "maps &lt;script&gt;" in found["sharing"]
        assert "AK" not in "".join(found.values()).replace("TAKE", "")


async def test_machines_see_no_buckets(tmp_path: Path) -> None:
    async with pages(tmp_path, Bucket()) as api:
        for name in ("buckets", "buckets/ws-a", "sharing"):
            await page(api, f"/workspaces/ws-a/{name}", "robot", 403)


async def test_objects_are_listed_and_lead_on(tmp_path: Path) -> None:
    async with pages(tmp_path, Bucket()) as api:
        found = await page(api, "/workspaces/ws-a/buckets/ws-a?prefix=k")
        assert 'href="/workspaces/ws-a/buckets/ws-a/content?key=k"' in found
        assert 'href="/workspaces/ws-a/buckets/ws-a?prefix=k&amp;continue=more"' in found
        assert "more than 20 objects" in found
        assert "more than 20 B" in await page(api, "/workspaces/ws-a/buckets")
        await page(api, "/workspaces/ws-a/buckets/absent", status=404)
        await page(api, f"/workspaces/ws-a/buckets/ws-a?prefix={'x' * 1025}", status=422)


async def test_an_object_storage_that_is_away_takes_nothing_else_along(tmp_path: Path) -> None:
    async with pages(tmp_path) as api:
        away = "The object storage does not answer; try again in a moment"
        found = await page(api, "/workspaces/ws-a/buckets/ws-a")
        assert away in found
        assert "All objects" in found
        assert away in await page(api, "/workspaces/ws-a/buckets")


async def send(api: Api, path: str, **fields: str) -> tuple[int, str]:
    """Status and text of what a form of alice's is answered with."""
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    answer = await api.ask("POST", path, "alice", roles={"ws-a": "ws_admin"}, headers=headers, data=fields)
    text = await answer.text()
    if text:
        html5lib.HTMLParser(strict=True).parse(text)
    return answer.status, text


async def test_forms_are_refused_at_the_field(tmp_path: Path) -> None:
    async with pages(tmp_path, Bucket()) as api:
        name = "add_buckets.0.name"
        status, text = await send(
            api, "/workspaces/ws-a/buckets", action="add_bucket", form="form-add_5f_bucket", **{name: "other"}
        )
        assert status == 422
        assert "must be ws-a or begin with ws-a-" in text
        fields = {"lifecycle_rules.0.target": "*", "lifecycle_rules.0.min_age": "soon", "dry_run": "true"}
        status, text = await send(
            api, "/workspaces/ws-a/buckets/ws-a", action="check_rules", form="form-check_5f_rules-true", **fields
        )
        assert status == 422
        assert 'aria-invalid="true"' in text
        assert 'value="soon"' in text
        status, text = await send(
            api,
            "/workspaces/ws-a/sharing",
            action="grant",
            form="form-grant-ws-a-ws-b",
            b="ws-a",
            workspace="ws-b",
            permission="ReadOnly",
            expires="2020-01-01T00:00",
        )
        assert status == 422
        assert "must be in the future" in text
