import os
import socket
from pathlib import Path

import pytest

from datalabd.config import Settings


def test_nothing_is_said() -> None:
    assert Settings.read({}) == Settings(
        namespace="datalabd",
        service="datalabd",
        webhook_host="0.0.0.0",
        webhook_port=9443,
        metrics_host="0.0.0.0",
        metrics_port=8080,
        certificate_dir="",
        workers=8,
        log_level="info",
        identity="",
    )


def test_everything_is_said(tmp_path: Path) -> None:
    read = Settings.read(
        {
            "DATALABD_NAMESPACE": "labs",
            "DATALABD_SERVICE": "hooks",
            "DATALABD_WEBHOOK_HOST": "::",
            "DATALABD_WEBHOOK_PORT": "0",
            "DATALABD_METRICS_HOST": "127.0.0.1",
            "DATALABD_METRICS_PORT": "65535",
            "DATALABD_CERTIFICATE_DIR": str(tmp_path),
            "DATALABD_WORKERS": "1",
            "DATALABD_LOG_LEVEL": "DEBUG",
            "DATALABD_IDENTITY": "me",
        }
    )
    assert read == Settings("labs", "hooks", "::", 0, "127.0.0.1", 65535, str(tmp_path), 1, "DEBUG", "me")


def test_what_kubernetes_sets_for_our_service_is_ignored() -> None:
    assert Settings.read({"DATALABD_SERVICE_HOST": "10.43.0.7", "DATALABD_PORT": "tcp://10.43.0.7:443"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        pytest.param("WORKERS", "many", "must be a whole number, not 'many'", id="word"),
        pytest.param("WORKERS", "", "must be a whole number, not ''", id="empty"),
        pytest.param("WORKERS", "-1", "must be a whole number, not '-1'", id="negative"),
        pytest.param("WORKERS", "1.5", "must be a whole number, not '1.5'", id="fraction"),
        pytest.param("WORKERS", "²", "must be a whole number, not '²'", id="a digit that is none"),
        pytest.param("WORKERS", "0", "must be at least 1", id="no workers"),
        pytest.param("WEBHOOK_PORT", "65536", "must be at most 65535", id="no port of webhooks"),
        pytest.param("METRICS_PORT", "99999", "must be at most 65535", id="no port of metrics"),
        pytest.param("LOG_LEVEL", "loud", "must be debug, info, warning or error", id="level"),
        pytest.param("CERTIFICATE_DIR", "/nowhere", "/nowhere is no directory", id="directory"),
    ],
)
def test_mistakes_name_their_variable(variable: str, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^DATALABD_{variable}: ") as caught:
        Settings.read({f"DATALABD_{variable}": text})
    assert str(caught.value) == f"DATALABD_{variable}: {expected}"


@pytest.mark.parametrize(
    ("settings", "url_port", "expected"),
    [
        pytest.param(Settings(), None, (0, 0), id="free ports"),
        pytest.param(Settings(), 9000, (9000, 0), id="the port of the URL"),
        pytest.param(Settings(webhook_port=1, metrics_port=2), None, (1, 2), id="chosen ports"),
        pytest.param(Settings(webhook_port=1), 9000, (1, 0), id="a chosen port behind another one of the URL"),
    ],
)
def test_on_workstation(settings: Settings, url_port: int | None, expected: tuple[int, int]) -> None:
    after = settings.on_workstation(url_port)
    assert (after.webhook_port, after.metrics_port) == expected


def test_on_workstation_leaves_the_rest() -> None:
    assert Settings(namespace="labs", workers=2).on_workstation(None) == Settings(
        namespace="labs", workers=2, webhook_port=0, metrics_port=0
    )


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        pytest.param("me", "me", id="chosen"),
        pytest.param("", f"{socket.gethostname()}-{os.getpid()}", id="host and process"),
    ],
)
def test_lease_identity(identity: str, expected: str) -> None:
    assert Settings(identity=identity).lease_identity == expected
