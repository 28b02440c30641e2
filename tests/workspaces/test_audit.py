"""What is told of reading credentials, and how often."""

from unittest.mock import patch

import structlog

from datalabd.kube.events import Recorder
from workspaces.audit import Act, Audit
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
