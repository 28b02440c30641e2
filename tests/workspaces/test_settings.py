"""Settings: a wrong one is named, and what is not safe is refused before anything starts (WS 2; 6.18 to 6.20)."""

import ipaddress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.workspace import StoreType
from workspaces.permissions import SessionChanges
from workspaces.rates import Rates
from workspaces.settings import SECRET_MAX, Settings

NOWHERE = Path("/nonexistent")
ISSUER = {"OIDC_ISSUER": "https://id.example.org/realms/labs"}


def read(pod: Path = NOWHERE, /, **environ: str) -> Settings:
    return Settings.read(ISSUER | environ, pod)


def test_nothing_is_needed_but_an_issuer() -> None:
    assert read() == Settings(oidc_issuer="https://id.example.org/realms/labs")


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("WORKSPACE_NAMESPACE", " team ", "namespace", "team"),
        ("WORKSPACE_HOST", "::1", "host", "::1"),
        ("WORKSPACE_PORT", "0", "port", 0),
        ("PREFIX_FOR_NAME", "ws-", "prefix", "ws"),
        ("PROVIDER_ENVIRONMENT", " ", "environment", "datalab"),
        ("USE_VCLUSTER", "Yes", "use_vcluster", True),
        ("SESSION_MODE", "AUTO", "session_mode", "auto"),
        ("SESSION_CHANGES", "Operators", "session_changes", SessionChanges.OPERATORS),
        ("MAX_SESSIONS", "3", "max_sessions", 3),
        ("ENDPOINT", "https://s3", "endpoint", "https://s3"),
        ("AWS_ENDPOINT_URL", "https://s3", "endpoint", "https://s3"),
        ("AWS_DEFAULT_REGION", "r", "region", "r"),
        (
            "STORAGE_ENDPOINTS",
            "s3.example, http://minio:9000/",
            "storage_endpoints",
            (("https", "s3.example", 443), ("http", "minio", 9000)),
        ),
        ("DISABLED_STORES", "redis; Vector-Stores", "disabled_types", frozenset({StoreType.CACHE, StoreType.VECTOR})),
        ("DISABLED_STORE_TYPES", "*", "disabled_types", frozenset(StoreType)),
        ("DISABLED_STORE_TYPES", "mongo,nonsense", "disabled_types", frozenset({StoreType.DOCUMENT})),
        ("DISABLE_STORES", "on", "disable_stores", True),
        ("DISABLE_DOCKER_REGISTRY", "", "disable_registry", False),
        ("TOKEN_BROKER_TOKEN_ENDPOINT", "https://id/token", "token_endpoint", "https://id/token"),
        ("STORAGE_SECRET_NAME", "<principal>-s3", "storage_secret", "<principal>-s3"),
        ("CONTAINER_REGISTRY_SECRET_NAME", "{principal}", "registry_secret", "{principal}"),
        ("UI_MODE", "UI", "ui_mode", "ui"),
        ("FRONTEND_URL", "/x", "frontend_url", "/x"),
        ("FRONTEND_URL", "/x/y/", "frontend_url", "/x/y"),
        ("FRONTEND_URL", "", "frontend_url", "/ui/management"),
        ("FRONTEND_URL", "https://cdn.example/x", "frontend_url", "https://cdn.example/x"),
        ("FRONTEND_URL", "http://localhost:9000/", "frontend_url", "http://localhost:9000/ui/management"),
        ("AUTH_AUDIENCE", "", "auth_audience", "workspace-api"),
        ("OIDC_ISSUER", "http://127.0.0.1:8080/realms/x/", "oidc_issuer", "http://127.0.0.1:8080/realms/x/"),
        ("OIDC_ISSUER", "http://[::1]:8080", "oidc_issuer", "http://[::1]:8080"),
        ("OIDC_JWKS_URL", "https://id/certs", "oidc_jwks_url", "https://id/certs"),
        ("OIDC_ALGORITHMS", "RS256, EdDSA", "oidc_algorithms", ("RS256", "EdDSA")),
        ("OIDC_LEEWAY_SECONDS", "0", "oidc_leeway_seconds", 0.0),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "trusted_proxies", (ipaddress.ip_network("10.0.0.0/8"),)),
        ("SESSION_PROBE", "OFF", "session_probe", "off"),
        ("SESSION_PROBE", "http://{session}.{workspace}/", "session_probe", "http://{session}.{workspace}/"),
        ("RATE_LIMITS", "off", "rates", None),
        ("RATE_LIMITS", "reads=5", "rates", Rates(reads=5)),
        ("LOG_LEVEL", "Debug", "log_level", "debug"),
        ("AUTH_DEBUG", "true", "log_level", "info"),
    ],
)
def test_what_a_variable_says(variable: str, value: str, field: str, expected: Any) -> None:
    assert getattr(read(**{variable: value}), field) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKSPACE_PORT", "65536"),
        ("WORKSPACE_PORT", "http"),
        ("WORKSPACE_NAMESPACE", " "),
        ("FRONTEND_URL", "ui"),
        ("FRONTEND_URL", "/ui/?a"),
        ("FRONTEND_URL", "http://cdn.example/ui"),
        ("PREFIX_FOR_NAME", "Ws"),
        ("PREFIX_FOR_NAME", "-ws"),
        ("PREFIX_FOR_NAME", "w" * 31),
        ("USE_VCLUSTER", "perhaps"),
        ("SESSION_CHANGES", "nobody"),
        ("TOKEN_BROKER_TOKEN_ENDPOINT", "id.example.org"),
        ("STORAGE_SECRET_NAME", "<user>"),
        ("STORAGE_ENDPOINTS", "https://s3.example, ftp://s3"),
        ("STORAGE_CA_FILE", "/nonexistent"),
        ("BROWSER_ENDPOINT", "http://files.example"),
        ("UI_MODE", "maybe"),
        ("AUTH_MODE", "basic"),
        ("OIDC_ISSUER", "http://id.example.org"),
        ("OIDC_ISSUER", "https://id.example.org:port"),
        ("OIDC_ISSUER", ""),
        ("OIDC_ALGORITHMS", "HS256"),
        ("OIDC_ALGORITHMS", ""),
        ("OIDC_LEEWAY_SECONDS", "301"),
        ("OIDC_LEEWAY_SECONDS", "a"),
        ("OIDC_CA_FILE", "/nonexistent"),
        ("OIDC_CLIENT_ID", "portal"),
        ("OIDC_CLIENT_SECRET_FILE", "/nonexistent"),
        ("COOKIE_KEY_FILE", "/"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("GATEWAY_SECRET_FILE", "/nonexistent"),
        ("SESSION_PROBE", "sometimes"),
        ("RATE_LIMITS", "fast"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{variable}: (must|cannot|is|/nonexistent)|^OIDC_CLIENT_SECRET_FILE: is"):
        read(**{variable: value})


def test_browsers_go_where_this_process_goes() -> None:
    with pytest.raises(ValueError, match=r"^BROWSER_ENDPOINT: set ENDPOINT too"):
        read(BROWSER_ENDPOINT="https://files.example")
    with pytest.raises(ValueError, match=r"^BROWSER_ENDPOINT: set ENDPOINT too"):
        read(BROWSER_ENDPOINT="https://files.example", ENDPOINT="ftp://s3")
    found = read(BROWSER_ENDPOINT="https://files.example", ENDPOINT="http://minio:9000")
    assert found.browser_endpoint == "https://files.example"


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"^WORKSPACE_PORT: must .*\nLOG_LEVEL: must "):
        read(LOG_LEVEL="loud", WORKSPACE_PORT="http")


@pytest.mark.parametrize(
    ("variable", "value", "name", "taken"),
    [
        ("MAX_SESSIONS", "abc", "max_sessions", 3),
        ("MAX_SESSIONS", "5000", "max_sessions", 100),
        ("MAX_SESSIONS", "-1", "max_sessions", 0),
        ("TOKEN_BROKER_TIMEOUT_SECONDS", "soon", "token_timeout_seconds", 10.0),
        ("TOKEN_BROKER_TIMEOUT_SECONDS", "0.1", "token_timeout_seconds", 1.0),
        ("TOKEN_BROKER_TIMEOUT_SECONDS", "nan", "token_timeout_seconds", 1.0),
        ("SESSION_MODE", "Perhaps", "session_mode", "off"),
    ],
)
def test_what_is_taken_for_something_else_is_told_once(variable: str, value: str, name: str, taken: object) -> None:
    doubts: list[str] = []
    found = Settings.read(ISSUER | {variable: f" {value} "}, NOWHERE, doubts.append)
    assert (getattr(found, name), doubts) == (taken, [f"{variable}: {value} is taken for {taken}"])


def test_what_is_as_it_says_needs_no_word() -> None:
    said = {"MAX_SESSIONS": "5", "TOKEN_BROKER_TIMEOUT_SECONDS": "2.5", "SESSION_MODE": "AUTO", "UI_MODE": "no"}
    doubts: list[str] = []
    for more in (said, {"MAX_SESSIONS": " "}):
        Settings.read(ISSUER | more, NOWHERE, doubts.append)
    assert doubts == []


def test_secrets_are_read_from_their_files(tmp_path: Path) -> None:
    for name in ("client", "gateway"):
        (tmp_path / name).write_text(f" {name}-secret\n")
    (tmp_path / "cookie").write_text(f"{'k' * 25}-secret\n")
    found = read(
        OIDC_CLIENT_ID="portal",
        OIDC_CLIENT_SECRET_FILE=str(tmp_path / "client"),
        COOKIE_KEY_FILE=str(tmp_path / "cookie"),
        GATEWAY_SECRET_FILE=str(tmp_path / "gateway"),
    )
    assert (found.oidc_client_secret, found.cookie_key, found.gateway_secret) == (
        "client-secret",
        b"k" * 25 + b"-secret",
        "gateway-secret",
    )
    assert "-secret" not in repr(found)


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * (SECRET_MAX + 1), b"\xff"])
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ValueError, match=r"^GATEWAY_SECRET_FILE: must hold"):
        read(GATEWAY_SECRET_FILE=str(tmp_path / "secret"))


def test_a_key_that_is_too_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 31 + b"\n")
    with pytest.raises(ValueError, match=r"^COOKIE_KEY_FILE: must hold at least 32 bytes"):
        read(COOKIE_KEY_FILE=str(tmp_path / "key"))


def test_no_file_is_no_secret() -> None:
    assert read(GATEWAY_SECRET_FILE="").gateway_secret is None


def test_a_secret_of_a_client_needs_the_client(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ValueError, match=r"^OIDC_CLIENT_ID: is required"):
        read(OIDC_CLIENT_SECRET_FILE=str(tmp_path / "secret"))


def test_the_namespace_is_the_pods(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("team\n")
    assert read(tmp_path / "namespace").namespace == "team"
    assert read(tmp_path / "namespace", WORKSPACE_NAMESPACE="other").namespace == "other"


def test_the_issuer_is_required() -> None:
    with pytest.raises(ValueError, match=r"^OIDC_ISSUER: is required"):
        Settings.read({}, NOWHERE)


def test_a_gateway_has_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set TRUSTED_PROXIES to .* or GATEWAY_SECRET_FILE to"):
        Settings.read({"AUTH_MODE": "gateway"}, NOWHERE)
    (tmp_path / "secret").write_text("x")
    for more in ({"TRUSTED_PROXIES": "10.0.0.0/8"}, {"GATEWAY_SECRET_FILE": str(tmp_path / "secret")}):
        assert Settings.read({"AUTH_MODE": "gateway"} | more, NOWHERE).auth_mode == "gateway"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "192.0.2.1", "example.org"])
def test_everybody_is_let_in_on_this_machine_alone(host: str) -> None:
    with pytest.raises(ValueError, match=r"^AUTH_MODE: no .* set WORKSPACE_HOST to 127\.0\.0\.1"):
        Settings.read({"AUTH_MODE": "no", "WORKSPACE_HOST": host}, NOWHERE)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine(host: str) -> None:
    assert Settings.read({"AUTH_MODE": "no", "WORKSPACE_HOST": host}, NOWHERE).host == host


def test_every_setting_has_a_variable_of_its_own_and_words() -> None:
    variables = [entry.metadata["variable"] for entry in fields(Settings)]
    assert len(set(variables)) == len(variables)
    assert all(entry.metadata["meaning"] for entry in fields(Settings))


def test_kinds_of_stores_that_are_offered() -> None:
    found = read(DISABLED_STORE_TYPES="redis")
    assert [found.offers(kind) for kind in StoreType] == [True, True, False, True]
    assert not read(DISABLE_STORES="1").offers(StoreType.DATABASE)
