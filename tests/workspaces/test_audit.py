"""What is told of reading credentials, and how often."""

import json
from unittest.mock import patch

import structlog

from datalabd.kube.events import Recorder
from workspaces.audit import ASKED_MAX, Act, Audit, asked
from workspaces.claims import Identity


def test_one_line_a_minute_for_each_reader_and_workspace() -> None:
    told = Audit(Recorder.__new__(Recorder))  # Events are for changes alone
    joe, jane = Identity("joe", subject="1"), Identity("jane", subject="2")
    with structlog.testing.capture_logs() as lines, patch("workspaces.audit.time.monotonic") as clock:
        for now, caller, workspace in (
            (0.0, joe, "ws-a"),
            (59.0, joe, "ws-a"),
            (59.0, joe, "ws-b"),
            (59.0, jane, "ws-a"),
            (61.0, joe, "ws-a"),
        ):
            clock.return_value = now
            told.shown(Act("get_credentials", workspace, caller, "id"))
    assert [(line["user"], line["workspace"]) for line in lines] == [
        ("joe", "ws-a"),
        ("joe", "ws-b"),
        ("jane", "ws-a"),
        ("joe", "ws-a"),
    ]


def test_each_download_is_a_line() -> None:
    audit = Audit(Recorder.__new__(Recorder))
    with structlog.testing.capture_logs() as lines:
        for key in ("a", "a", "b"):
            audit.read(Act("download_object", "ws-a", Identity("joe"), "id", {"bucket": "ws-a", "key": key}))
    assert [line["what"]["key"] for line in lines] == ["a", "a", "b"]
    assert {line["outcome"] for line in lines} == {"allowed"}


def test_a_refusal_says_who_and_what() -> None:
    told = Audit(Recorder.__new__(Recorder))
    with structlog.testing.capture_logs() as lines:
        told.refused(Act("remove_member", "ws-a", Identity("joe", "1", "cli"), "id", {"member": "bob"}), 403)
    assert lines == [
        {
            "event": "audit",
            "log_level": "info",
            "operation": "remove_member",
            "workspace": "ws-a",
            "outcome": "refused",
            "user": "joe",
            "subject": "1",
            "client": "cli",
            "request_id": "id",
            "what": {"member": "bob"},
            "status": 403,
        }
    ]


def test_a_body_of_any_length_makes_a_short_line() -> None:
    rules = [{"target": f"{number}*", "mode": "Delete", "min_age": "1d"} for number in range(100)]
    body = {
        "add_memberships": [{"member": "x" * 255, "role": "admin"}] * 500,
        "add_buckets": [{"name": "ws-a", "lifecycle_rules": rules}],
        "reason": "y" * 1000,
        "discoverable": True,
    }
    told = asked(body)
    assert {name: len(said) for name, said in told.items() if isinstance(said, list)} == {
        "add_memberships": ASKED_MAX,
        "add_buckets": 1,
    }
    assert (told["add_memberships_count"], told["discoverable"]) == (500, True)
    assert {type(entry) for entry in told["add_memberships"]} == {str}
    assert len(json.dumps(told)) < 10_000
    assert asked({"add_memberships": [{"member": "bob"}]}) == {"add_memberships": [{"member": "bob"}]}
