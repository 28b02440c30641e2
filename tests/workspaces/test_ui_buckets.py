"""The screens of buckets, of one bucket and of sharing: what they are made of, and how they come out."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest
from aiohttp import web

from tests.workspaces.api import GATEWAY, Api, serving
from tests.workspaces.objects import KEYS, datalab, grant, request, secret, storage
from tests.workspaces.screens import inputs
from tests.workspaces.test_object_handlers import Bucket
from tests.workspaces.test_object_storage import answering
from workspaces.call import Call
from workspaces.handlers import objects, reading
from workspaces.objects import Place
from workspaces.permissions import EVERYTHING, NOTHING, Permission, Permissions
from workspaces.problems import Problem
from workspaces.ui import buckets, loads, sharing
from workspaces.ui.forms import Outcome
from workspaces.ui.paging import Part
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
    found = buckets.context(inputs(view(GRANTED, DENIED, WAITS), {"usage": {"ws-a": {"objects": 1}}, "asks": 0}))
    assert [(row["is_main"], row["held"], row["asked"], row["usage"]) for row in found["rows"]] == [
        (True, 0, 1, {"objects": 1}),
        (False, 1, 0, None),
    ]
    assert (found["may_manage"], found["may_read"]) == (True, True)
    away = {name: {"word": "storage_away", "problem": "away"} for name in ("ws-a", "ws-a-x")}
    nowhere = buckets.context(inputs(view(), {"usage": away, "asks": 0}))
    assert (nowhere["trouble"], nowhere["may_read"]) == (away["ws-a"], False)
    one_away = buckets.context(inputs(view(), {"usage": away | {"ws-a": {"objects": 1}}, "asks": 0}))
    assert (one_away["trouble"], one_away["may_read"]) == (None, True)
    viewer = buckets.context(inputs(view(), {"usage": {}, "asks": 0}, VIEWER))
    assert (viewer["may_manage"], viewer["may_read"]) == (False, False)


def test_buckets_are_shown_page_by_page_with_their_first_rules() -> None:
    many = [{"name": f"ws-a-{n:03}", "discoverable": False, "lifecycle_rules": [RULE] * 12} for n in range(60)]
    found = view() | {"storage": {"buckets": many, "bucket_access_requests": []}}
    shown = buckets.context(inputs(found, {"usage": {}, "asks": 0}, query={"from": "50"}))
    assert [row["name"] for row in shown["rows"]] == [f"ws-a-{n:03}" for n in range(50, 60)]
    assert {(len(row["spoken"]), row["more_rules"]) for row in shown["rows"]} == {(10, 2)}
    assert (shown["list"].total, shown["list"].earlier, shown["is_long"]) == (60, "from=0", True)
    shown = buckets.context(inputs(found, {"usage": {}, "asks": 0}, query={"name": "A-007"}))
    assert ([row["name"] for row in shown["rows"]], shown["filter"]) == (["ws-a-007"], "A-007")


def one(
    name: str, allowed: Permissions = EVERYTHING, outcome: Outcome | None = None, query: dict[str, str] | None = None
) -> dict[str, Any]:
    more: dict[str, Any] = {"usage": {}, "page": None, "trouble": None, "asks": 0}
    return buckets.one(inputs(view(), more, allowed, query=query, outcome=outcome, b=name))


def test_a_bucket_with_its_rules() -> None:
    found = one("ws-a", query={"prefix": "a/b/c", "continue": "t"})
    assert (found["rules"], found["blank"], found["may_manage"], found["checked"]) == ([RULE], 2, True, None)
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
    with pytest.raises(Problem, match="Field required"):
        buckets.edited([("lifecycle_rules[]", ""), ("x", "y")])


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
    assert size(count, ".", str) == expected
    assert size(count, ",", str.lower) == expected.replace(".", ",").lower()


def test_sharing_by_who_asks_whom() -> None:
    ours = {"workspace": "ws-a", "bucket": "ws-d", "permission": "ReadOnly"}
    asked = ours | {"bucket": "ws-e", "request_timestamp": "2026-01-01T00:00:00Z"}
    found = sharing.context(inputs(view(asked, WAITS, GRANTED, DENIED, ours)))
    assert {
        part: [(row["bucket"], row["state"]) for row in found[part].rows] for part in ("by_us", "of_us", "given")
    } == {
        "by_us": [("ws-e", "waits")],
        "of_us": [("ws-a", "waits")],
        "given": [("ws-a-x", "granted"), ("ws-a", "denied")],
    }
    assert [row["bucket"] for row in found["offered"].rows] == ["ws-d"]
    assert (found["may_ask"], found["may_decide"]) == (True, True)
    nobody = sharing.context(inputs(view(), {}, NOTHING))
    assert (nobody["may_ask"], nobody["may_decide"]) == (False, False)


def waits(number: int) -> dict[str, Any]:
    return WAITS | {"workspace": f"ws-x{number}", "reason": "ReadWrite: maps"}


@pytest.mark.parametrize(
    ("query", "first", "earlier", "later"),
    [
        ({}, 0, None, "of_us=25"),
        ({"of_us": "25", "given": "50"}, 25, "of_us=0&given=50", "of_us=50&given=50"),
        ({"of_us": "30"}, 25, "of_us=0", "of_us=50"),
        ({"of_us": "50"}, 50, "of_us=25", None),
        ({"of_us": "999"}, 50, "of_us=25", None),
        ({"of_us": "-1"}, 0, None, "of_us=25"),
        ({"of_us": "9" * 10}, 0, None, "of_us=25"),
    ],
)
def test_a_part_of_sharing_is_shown_page_by_page(
    query: dict[str, str], first: int, earlier: str | None, later: str | None
) -> None:
    rows = [waits(number) for number in range(60)]
    found = sharing.context(inputs(view(*rows), query=query))
    part = found["of_us"]
    assert part == Part(
        [row | {"state": "waits", "reason": "maps"} for row in rows[first : first + 25]], 60, first, earlier, later
    )
    assert (found["is_long"], found["given"]) == (True, Part([], 0, 0, None, None))


def test_sharing_is_filtered_by_name() -> None:
    rows = [waits(number) for number in range(60)]
    found = sharing.context(inputs(view(*rows), query={"name": " WS-X59"}))
    assert [row["workspace"] for row in found["of_us"].rows] == ["ws-x59"]
    assert (found["is_long"], found["filter"]) == (True, " WS-X59")
    assert sharing.context(inputs(view(waits(1))))["is_long"] is False


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


class Odd(Bucket):
    """Has an object whose key no server is asked for."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        text = "<ListBucketResult><Contents><Key>a/../b</Key><Size>1</Size></Contents></ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


async def test_what_cannot_be_downloaded_offers_no_download(tmp_path: Path) -> None:
    async with pages(tmp_path, Odd()) as api:
        found = await page(api, "/workspaces/ws-a/buckets/ws-a")
        assert "a/../b" in found
        assert "Only with credentials" in found
        assert "Download" not in found


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


async def test_who_cannot_mend_it_is_told_what_it_means_and_the_log_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(loads.log, "warning", lambda event, **more: logged.append({"event": event} | more))
    unset = replace(GATEWAY, ui_mode="ui")
    keys = secret("ws-a", **KEYS)
    async with serving(tmp_path, unset, storages=[storage()], datalabs=[datalab()], secrets=[keys]) as api:
        for path in ("/workspaces/ws-a/buckets", "/workspaces/ws-a/buckets/ws-a"):
            found = await page(api, path)
            assert "ask whoever runs this service" in found
            assert "ENDPOINT" not in found
    error = "Objects are not read here: ENDPOINT or STORAGE_ENDPOINTS has to name the object storage"
    assert logged == [{"event": "objects cannot be read", "workspace": "ws-a", "error": error}] * 2


async def test_no_workspace_is_held_while_its_page_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of pages that wait for the object storage would hold some MB each."""
    order: list[str] = []
    view_of, usage_of = reading.view, objects.page

    def viewed(call: Call, **more: bool) -> dict[str, Any]:
        order.append("view")
        return view_of(call, **more)

    async def listed(call: Call) -> dict[str, Any]:
        found = await usage_of(call)
        order.append("objects")
        return found

    async with pages(tmp_path, Bucket()) as api:
        count = api.services.objects.usage

        async def counted(place: Place) -> dict[str, Any]:
            found = await count(place)
            order.append("count")
            return found

        monkeypatch.setattr(api.services.objects, "usage", counted)
        monkeypatch.setattr(objects, "page", listed)
        monkeypatch.setattr(reading, "view", viewed)
        await page(api, "/workspaces/ws-a/buckets/ws-a")
        await page(api, "/workspaces/ws-a/buckets")
    assert (sorted(order[:2]), order[2:]) == (["count", "objects"], ["view", "count", "view"])


async def test_a_page_looks_again_for_what_is_still_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pages(tmp_path, Bucket()) as api:
        paths = ("/workspaces/ws-a/buckets", "/workspaces/ws-a/buckets/ws-a")
        monkeypatch.setattr(loads, "MEASURED_SECONDS", 0)
        assert ['data-asks="2"' in await page(api, path) for path in paths] == [True, True]
        monkeypatch.undo()
        assert ["data-asks" in await page(api, path) for path in paths] == [False, False]


async def test_sizes_are_in_the_readers_language(tmp_path: Path) -> None:
    """A decimal comma in German; octets in French."""
    async with pages(tmp_path, Bucket()) as api:
        for language, expected in (("de", "mehr als 20 B"), ("fr", "plus de 20 o")):
            headers = {"Accept": "text/html", "Accept-Language": language}
            answer = await api.ask(
                "GET", "/workspaces/ws-a/buckets", "alice", roles={"ws-a": "ws_admin"}, headers=headers
            )
            assert expected in await answer.text()


async def version(api: Api, path: str, form: str) -> str:
    """What a form of a page says of what it is about."""
    found = re.search(
        rf'id="{form}"[^>]*>(?:\s*<input[^>]*>)*?\s*<input [^>]*name="version" value="(\w+)"', await page(api, path)
    )
    assert found is not None
    return found[1]


async def test_hundreds_of_requests_are_paged_and_each_can_be_decided(tmp_path: Path) -> None:
    names = [f"ws-r{number:03}" for number in range(300)]
    asking = [storage(name, bucketAccessRequests=[request("ws-a", "ReadOnly: maps")]) for name in names]
    known = replace(GATEWAY, ui_mode="ui")
    async with serving(tmp_path, known, storages=[storage(), *asking], datalabs=[datalab()]) as api:
        first = await page(api, "/workspaces/ws-a/sharing")
        assert first.count('<tr id="of-us-') == 25
        assert "1 to 25 of 300" in first
        assert "ReadOnly: maps" not in first
        last = "/workspaces/ws-a/sharing?of_us=275"
        shown = await page(api, last)
        assert 'href="/workspaces/ws-a/sharing?of_us=275&amp;dialog=grant-ws-r299_2f_ws-a"' in shown
        assert '<dialog id="grant-ws-r299_2f_ws-a"' in await page(api, f"{last}&dialog=grant-ws-r299_2f_ws-a")
        fields = {"action": "grant", "form": "form-grant-ws-a-ws-r299", "b": "ws-a", "workspace": "ws-r299"}
        fields |= {"permission": "ReadOnly", "expires": "2020-01-01T00:00"}
        fields["version"] = await version(api, f"{last}&dialog=grant-ws-r299_2f_ws-a", fields["form"])
        status, text = await send(api, last, **fields)
        assert (status, "must be in the future" in text, 'aria-invalid="true"' in text) == (422, True, True)
        status, text = await send(api, "/workspaces/ws-a/sharing", **fields)
        assert (status, "expires: must be in the future" in text) == (422, True), "its form is on another page"


async def test_forms_are_refused_at_the_field(tmp_path: Path) -> None:
    async with pages(tmp_path, Bucket()) as api:
        name = "add_buckets.0.name"
        status, text = await send(
            api, "/workspaces/ws-a/buckets", action="add_bucket", form="form-add_5f_bucket", **{name: "other"}
        )
        assert status == 422
        assert "must be ws-a or begin with ws-a-" in text
        fields = {"lifecycle_rules.0.target": "*", "lifecycle_rules.0.min_age": "soon", "dry_run": "true"}
        form, where = "form-check_5f_rules-true", "/workspaces/ws-a/buckets/ws-a"
        fields["version"] = await version(api, where, form)
        status, text = await send(api, where, action="check_rules", form=form, **fields)
        assert status == 422
        assert 'aria-invalid="true"' in text
        assert 'value="soon"' in text
        form, where = "form-grant-ws-a-ws-b", "/workspaces/ws-a/sharing"
        status, text = await send(
            api,
            where,
            action="grant",
            form=form,
            version=await version(api, where, form),
            b="ws-a",
            workspace="ws-b",
            permission="ReadOnly",
            expires="2020-01-01T00:00",
        )
        assert status == 422
        assert "must be in the future" in text
