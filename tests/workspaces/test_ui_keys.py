"""The screen of credentials: nothing of them until somebody asks, then all of them, with their age."""

from typing import Any

from tests.workspaces.objects import BEFORE, TODAY
from tests.workspaces.screens import inputs
from workspaces.operations import OPERATIONS
from workspaces.permissions import Permission, Permissions
from workspaces.snippets import snippets
from workspaces.ui import keys
from workspaces.ui.forms import Outcome

VIEW: dict[str, Any] = {
    "name": "ws-a",
    "datalab": {
        "stores": [
            {"name": "dev", "type": "database", "server": "pg0", "credentials_since": BEFORE},
            {"name": "prod", "type": "database", "server": "pg0", "credentials_since": BEFORE},
            {"name": "c", "type": "cache", "rotating": True},
        ]
    },
}
STORAGE = {"bucketname": "b", "access": "AK", "secret": "SK", "endpoint": "https://s3", "region": "r", "since": TODAY}
ALL: dict[str, Any] = {
    "storage": STORAGE,
    "store_credentials": {
        "database": {"pg0": {"host": "h", "password": "p", "databases": "dev", "urls": {"dev": "postgresql://h/dev"}}},
        "cache": {"c": {"host": "h", "password": "q"}, "cc": {"host": "h", "password": "q"}},
    },
    "container_registry_credentials": {"username": "u", "password": "p"},
}
VIEWER = Permissions({Permission.VIEW_STORES, Permission.VIEW_BUCKET_CREDENTIALS})


def context(answer: dict[str, Any] | None) -> dict[str, Any]:
    outcome = None if answer is None else Outcome("show_credentials", answer, {})
    return keys.context(inputs(VIEW, {}, VIEWER, outcome=outcome))


def values(group: keys.Group) -> list[tuple[str, str, str]]:
    return [(value.label, value.of, value.value) for value in group.values]


def test_nothing_is_there_before_somebody_asks() -> None:
    found = context(None)
    assert (found["is_shown"], found["groups"], found["everything"]) == (False, (), "")
    assert found["ages"] == [
        {"type": "database", "name": "pg0", "since": BEFORE, "rotating": False, "rotated": False},
        {"type": "cache", "name": "c", "since": None, "rotating": True, "rotated": False},
    ]


def test_everything_is_there_then() -> None:
    found = context(ALL)
    assert [(group.of, group.since) for group in found["groups"]] == [
        ("storage", TODAY),
        ("database/pg0", BEFORE),
        ("cache/c", None),
        ("cache/cc", None),
        ("registry", None),
    ]
    assert [values(group) for group in found["groups"]] == [
        [
            ("Bucket", "", "b"),
            ("Access key", "", "AK"),
            ("Secret key", "", "SK"),
            ("Endpoint", "", "https://s3"),
            ("Region", "", "r"),
        ],
        [
            ("Host", "", "h"),
            ("Password", "", "p"),
            ("Databases", "", "dev"),
            ("Address of a database", "dev", "postgresql://h/dev"),
        ],
        [("Host", "", "h"), ("Password", "", "q")],
        [("Host", "", "h"), ("Password", "", "q")],
        [("User name", "", "u"), ("Password", "", "p")],
    ]


def test_each_snippet_stands_with_its_credentials() -> None:
    found = context(ALL)
    assert [snippet.text for group in found["groups"] for snippet in group.snippets] == [
        snippet.text for snippet in snippets("ws-a", ALL)
    ]
    assert [(snippet.of, snippet.tool) for snippet in found["groups"][1].snippets] == [
        ("database/pg0", "environment"),
        ("database/pg0/dev", "psql"),
    ]
    assert found["everything"].count("export ") == 5 + 3 + 2 + 2 + 2


def test_there_may_be_no_credentials_yet() -> None:
    found = context({})
    assert (found["is_shown"], found["groups"]) == (True, ())


def test_every_tool_and_every_value_has_a_name() -> None:
    assert {snippet.tool for snippet in snippets("ws-a", ALL)} < keys.TOOLS.keys()
    credentials = next(operation for operation in OPERATIONS if operation.name == "get_credentials").answer
    members = credentials.model_json_schema()["$defs"]["Credentials"]["properties"].keys() - {"since"}
    assert members < keys.LABELS.keys()


def test_secrets_are_not_shown_by_accident() -> None:
    assert "SK" not in repr(context(ALL)["groups"])
