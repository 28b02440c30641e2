"""Settings of `datalabd workspaces`, read once from its environment; an error names the variable that is wrong."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from datalabd.api.workspace import StoreType
from datalabd.endpoints import Origin, origin
from datalabd.text import bounded
from workspaces.cookies import KEY_MIN
from workspaces.permissions import SessionChanges
from workspaces.proxies import Network, is_loopback
from workspaces.rates import Rates

Value = TypeVar("Value")
Read = Callable[[str], Any]

FRONTEND_PATH = "/ui/management"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SECRET_MAX = 1 << 16
"""Bytes of a file with a secret."""
TRUE, FALSE = frozenset({"true", "1", "yes", "y", "on"}), frozenset({"false", "0", "no", "n", "off", ""})
ALL_TYPES = frozenset({"*", "all", *TRUE})
TYPE_WORDS: Mapping[StoreType, frozenset[str]] = {
    StoreType.DATABASE: frozenset({"database", "databases", "postgres", "postgresql"}),
    StoreType.VECTOR: frozenset({"vector", "vector_store", "vector_stores", "vectorstores", "qdrant"}),
    StoreType.CACHE: frozenset({"cache", "caches", "cache_store", "cache_stores", "cachestores", "redis"}),
    StoreType.DOCUMENT: frozenset(
        {"document", "documents", "document_store", "document_stores", "documentstores", "mongodb", "mongo"}
    ),
}
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Algorithms with a public key; the others are not signatures."""


def _text(value: str) -> str:
    return value.strip()


def _or(default: str) -> Read:
    return lambda value: value.strip() or default


def _one_of(*words: str) -> Read:
    def read(value: str) -> str:
        if (word := value.strip().lower()) not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return read


def _flag(value: str) -> bool:
    word = value.strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError("must be true or false")
    return word in TRUE


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value[:9]) <= 65535):
        raise ValueError("must be a whole number of at most 65535")
    return int(value)


def _seconds(least: float, most: float) -> Read:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not least <= number <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return number

    return read


@dataclass(frozen=True)
class _Instead:
    """What is taken in place of what a variable says, where upstream takes it so."""

    value: object


def _lenient(read: Callable[[str], float], otherwise: float, least: float, most: float) -> Read:
    """As upstream: `otherwise` for what is no number, and the nearest that may be for any other."""

    def take(value: str) -> object:
        try:
            number = read(value)
        except ValueError:
            return _Instead(otherwise)
        taken = min(max(least, number), most)
        return taken if taken == number else _Instead(taken)

    return take


def _session_mode(value: str) -> object:
    word = value.strip().lower()
    return word if word in ("on", "auto", "off") else _Instead("off")


def _types(value: str) -> frozenset[StoreType]:
    words = {word.strip().lower().replace("-", "_").replace(" ", "_") for word in value.replace(";", ",").split(",")}
    return frozenset(kind for kind, known in TYPE_WORDS.items() if words & (known | ALL_TYPES))


def _address(value: str) -> str:
    """An https address, as it is written; http on this machine alone."""
    found = value.strip()
    try:
        parts = urlsplit(found)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        host = ""
    near = host == "localhost" or is_loopback(host)
    if found and (not host or not (parts.scheme == "https" or (parts.scheme == "http" and near))):
        raise ValueError("must be an https address, or an http address of this machine")
    return found


def _frontend(value: str) -> str:
    """A path, or an https address with one; without a slash at its end."""
    text = value.strip().rstrip("/")
    parts = urlsplit(_address(text) if "://" in text else text)
    base = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
    found = base + (parts.path or FRONTEND_PATH)
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", found.removeprefix(base)) or text not in (found, base):
        raise ValueError("must be a path such as /ui, or an https address with one")
    return found


def _origins(value: str) -> tuple[Origin, ...]:
    found = {word: origin(word) for word in value.replace(",", " ").split()}
    if wrong := [word for word, parts in found.items() if parts is None]:
        raise ValueError(f"must be addresses such as https://s3.example.org, not {bounded(wrong[0], 40)}")
    return tuple(parts for parts in found.values() if parts is not None)


def _algorithms(value: str) -> tuple[str, ...]:
    found = tuple(value.replace(",", " ").split())
    if not found or not ALGORITHMS.issuperset(found):
        raise ValueError(f"must be some of {', '.join(sorted(ALGORITHMS))}")
    return found


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(word) for word in value.replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.0.0.0/8, with commas between: {error}") from None


def _template(value: str) -> str:
    """A name with `<principal>`, `{principal}` or `<workspace>` in it, or none of them."""
    rest = value.strip()
    for word in ("<principal>", "{principal}", "<workspace>", "{workspace}"):
        rest = rest.replace(word, "x")
    if rest and not all(letter.isascii() and (letter.isalnum() or letter in "-.") for letter in rest):
        raise ValueError("must be the name of a Secret, in which <principal> and <workspace> stand for the names")
    return value.strip()


def _probe(value: str) -> str:
    found = value.strip()
    if found.lower() in ("on", "off"):
        return found.lower()
    if not found.startswith(("http://", "https://")):
        raise ValueError("must be on, off, or an address in which {workspace} and {session} stand for the names")
    return found


def _prefix(value: str) -> str:
    found = value.strip().rstrip("-")
    if found and not all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in found):
        raise ValueError("must be lower-case letters, digits and '-'")
    if len(found) > 30 or found.startswith("-"):
        raise ValueError("must be at most 30 characters, the first no '-'")
    return found


def _content(value: str) -> bytes | None:
    """What a file holds; None where none is named."""
    if not value.strip():
        return None
    try:
        with open(value.strip(), "rb") as file:
            content = file.read(SECRET_MAX + 1).strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not content or len(content) > SECRET_MAX:
        raise ValueError(f"must hold something, and at most {SECRET_MAX} bytes")
    return content


def _cookie_key(value: str) -> bytes | None:
    content = _content(value)
    if content is not None and len(content) < KEY_MIN:
        raise ValueError(f"must hold at least {KEY_MIN} bytes, such as `openssl rand -base64 {KEY_MIN}` prints")
    return content


def _secret(value: str) -> str | None:
    content = _content(value)
    try:
        return None if content is None else content.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("must hold ASCII text") from None


def _variable(name: str, read: Read, default: Any, meaning: str, *, repr: bool = True) -> Any:
    return field(default=default, repr=repr, metadata={"variable": name, "read": read, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """Everything `datalabd workspaces` can be told, by the variable of each field."""

    namespace: str = _variable(
        "WORKSPACE_NAMESPACE", _text, "workspace", "namespace of Storages, Datalabs and Secrets; the pod's own if unset"
    )
    host: str = _variable("WORKSPACE_HOST", _text, "0.0.0.0", "address to listen on")
    port: int = _variable("WORKSPACE_PORT", _port, 8181, "port; 0: a free one, which log line `listening` tells")
    prefix: str = _variable("PREFIX_FOR_NAME", _prefix, "", "put before the names of new workspaces, with a dash")
    environment: str = _variable("PROVIDER_ENVIRONMENT", _or("datalab"), "datalab", "environment of new workspaces")
    use_vcluster: bool = _variable(
        "USE_VCLUSTER", _flag, False, "whether sessions of new workspaces have virtual clusters"
    )
    session_mode: str = _variable(
        "SESSION_MODE",
        _session_mode,
        "on",
        "session `default` of new workspaces: `on` started, `auto` stopped; else there is none",
    )
    max_sessions: int = _variable("MAX_SESSIONS", _lenient(int, 3, 0, 100), 3, "sessions that a workspace may declare")
    session_changes: SessionChanges = _variable(  # noqa: RUF009 - an enum does not change
        "SESSION_CHANGES",
        lambda value: SessionChanges(_one_of(*SessionChanges)(value)),
        SessionChanges.ADMINS,
        "who changes sessions: `admins` of the workspace, or `operators`, who are platform admins",
    )
    endpoint: str = _variable(
        "ENDPOINT", _text, "", "object storage, where the Secret names none; unset: `AWS_ENDPOINT_URL`"
    )
    region: str = _variable(
        "REGION",
        _text,
        "",
        "region, where the Secret names none; unset: `AWS_REGION`, `AWS_DEFAULT_REGION`, `us-east-1`",
    )
    storage_endpoints: tuple[Origin, ...] = _variable(
        "STORAGE_ENDPOINTS",
        _origins,
        (),
        "further object storages at which objects are read, as `storage.endpoints` of environments lists them",
    )
    storage_ca_file: str = _variable(
        "STORAGE_CA_FILE", _text, "", "file with the certificates to trust there; empty: those of the system"
    )
    browser_endpoint: str = _variable(
        "BROWSER_ENDPOINT",
        _address,
        "",
        "where browsers reach `ENDPOINT`: they get a link of five minutes; empty: objects are passed on",
    )
    disabled_types: frozenset[StoreType] = _variable(
        "DISABLED_STORE_TYPES",
        _types,
        frozenset(),
        "kinds of stores not to offer, with commas between; unset: `DISABLED_STORES`",
    )
    disable_stores: bool = _variable("DISABLE_STORES", _flag, False, "whether no kind of store is offered")
    disable_registry: bool = _variable(
        "DISABLE_DOCKER_REGISTRY", _flag, False, "whether new workspaces have no registry"
    )
    token_endpoint: str = _variable(
        "TOKEN_BROKER_TOKEN_ENDPOINT",
        _address,
        "",
        "token endpoint of the realm, for `GET /workspaces/{w}/token`; empty: 503 there",
    )
    token_timeout_seconds: float = _variable(
        "TOKEN_BROKER_TIMEOUT_SECONDS", _lenient(float, 10.0, 1.0, 60.0), 10.0, "seconds to wait for it"
    )
    storage_secret: str = _variable(
        "STORAGE_SECRET_NAME",
        _template,
        "",
        "Secret with keys, as `<principal>-s3`; empty: `<workspace>-datalab`, then `<workspace>`",
    )
    registry_secret: str = _variable(
        "CONTAINER_REGISTRY_SECRET_NAME",
        _template,
        "",
        "Secret with the registry's `username` and `password`; empty: `<workspace>-datalab`",
    )
    ui_mode: str = _variable(
        "UI_MODE",
        _one_of("no", "ui"),
        "no",
        "`ui`: browsers get pages; `no`: they get lists and what waits for a session",
    )
    frontend_url: str = _variable(
        "FRONTEND_URL",
        _frontend,
        FRONTEND_PATH,
        "path below which scripts and styles of pages are; an https address with one: where browsers find them",
    )
    auth_mode: str = _variable(
        "AUTH_MODE",
        _one_of("oidc", "gateway", "no"),
        "oidc",
        "who verifies tokens: `oidc` this process, `gateway` a proxy, `no` nobody",
    )
    auth_audience: str = _variable("AUTH_AUDIENCE", _or("workspace-api"), "workspace-api", "audience of tokens")
    oidc_issuer: str = _variable("OIDC_ISSUER", _address, "", "issuer of tokens; required with `AUTH_MODE=oidc`")
    oidc_jwks_url: str = _variable(
        "OIDC_JWKS_URL", _address, "", "where its keys are; empty: as its discovery document says"
    )
    oidc_ca_file: str = _variable(
        "OIDC_CA_FILE", _text, "", "file with the certificates to trust at the issuer; empty: those of the system"
    )
    oidc_algorithms: tuple[str, ...] = _variable(
        "OIDC_ALGORITHMS", _algorithms, ("RS256", "PS256", "ES256"), "algorithms of signatures that are accepted"
    )
    oidc_leeway_seconds: float = _variable(
        "OIDC_LEEWAY_SECONDS", _seconds(0, 300), 30.0, "seconds by which clocks may differ"
    )
    oidc_client_id: str = _variable("OIDC_CLIENT_ID", _text, "", "client by which browsers log in here")
    oidc_client_secret: str | None = _variable(
        "OIDC_CLIENT_SECRET_FILE", _secret, None, "file with its secret", repr=False
    )
    cookie_key: bytes | None = _variable(
        "COOKIE_KEY_FILE",
        _cookie_key,
        None,
        "file with the key of login cookies, the same for all replicas; empty: a random key",
        repr=False,
    )
    trusted_proxies: tuple[Network, ...] = _variable(
        "TRUSTED_PROXIES", _networks, (), "networks of proxies whose `X-Forwarded-*` count"
    )
    gateway_secret: str | None = _variable(
        "GATEWAY_SECRET_FILE", _secret, None, "file with what the proxy sends in `X-Gateway-Secret`", repr=False
    )
    session_probe: str = _variable(
        "SESSION_PROBE",
        _probe,
        "on",
        "whether a session has to answer before it is ready: `on`, `off`, or the URL to ask",
    )
    rates: Rates | None = _variable(  # noqa: RUF009 - frozen
        "RATE_LIMITS", Rates.parse, Rates(), "requests a second for each user, three times as many at once; or `off`"
    )
    log_level: str = _variable(
        "LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "`debug`, `info`, `warning` or `error`"
    )

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        pod_namespace: Path = POD_NAMESPACE,
        doubt: Callable[[str], object] = lambda _: None,
    ) -> Self:
        """The settings in `environ`; ValueError with a line for each variable that is wrong.

        `doubt` is called with a sentence for each that is taken for something else than it says.
        """
        found: dict[str, Any] = {}
        if pod_namespace.is_file():
            found["namespace"] = pod_namespace.read_text().strip()
        said = _with_fallbacks(environ)
        wrong = []
        for entry in fields(cls):
            variable = entry.metadata["variable"]
            if variable in said:
                try:
                    taken = entry.metadata["read"](said[variable])
                except ValueError as error:
                    wrong.append(f"{variable}: {error}")
                    continue
                if isinstance(taken, _Instead):
                    taken = taken.value
                    if value := said[variable].strip():
                        doubt(f"{variable}: {bounded(value, 40)} is taken for {taken}")
                found[entry.name] = taken
        if wrong:
            raise ValueError("\n".join(wrong))
        settings = cls(**found)
        settings._check()
        return settings

    def _check(self) -> None:
        """Raise ValueError for settings that do not go together."""
        if not self.namespace:
            raise ValueError("WORKSPACE_NAMESPACE: must not be blank")
        if self.auth_mode == "oidc" and not self.oidc_issuer:
            raise ValueError("OIDC_ISSUER: is required: set it to the address of the realm that issues tokens")
        if self.auth_mode == "gateway" and not (self.trusted_proxies or self.gateway_secret):
            raise ValueError(
                "AUTH_MODE: gateway believes whatever reaches this process: set TRUSTED_PROXIES to the networks of the "
                "proxy that verifies tokens, or GATEWAY_SECRET_FILE to a file with what it sends in X-Gateway-Secret"
            )
        if self.auth_mode == "no" and not (self.host == "localhost" or is_loopback(self.host)):
            raise ValueError(
                "AUTH_MODE: no lets everybody do everything: set WORKSPACE_HOST to 127.0.0.1, or AUTH_MODE to oidc"
            )
        if self.oidc_client_secret is not None and not self.oidc_client_id:
            raise ValueError("OIDC_CLIENT_ID: is required with OIDC_CLIENT_SECRET_FILE")
        if self.oidc_client_id and self.oidc_client_secret is None:
            raise ValueError("OIDC_CLIENT_SECRET_FILE: is required with OIDC_CLIENT_ID")
        if self.oidc_ca_file and not Path(self.oidc_ca_file).is_file():
            raise ValueError(f"OIDC_CA_FILE: {self.oidc_ca_file} is no file")
        if self.storage_ca_file and not Path(self.storage_ca_file).is_file():
            raise ValueError(f"STORAGE_CA_FILE: {self.storage_ca_file} is no file")
        if self.browser_endpoint and origin(self.endpoint) is None:
            raise ValueError(
                "BROWSER_ENDPOINT: set ENDPOINT too, to the address by which this process reaches the same"
            )

    def offers(self, kind: StoreType) -> bool:
        """Whether stores of this kind are to be offered, where the cluster has them."""
        return not self.disable_stores and kind not in self.disabled_types


_FALLBACKS = {
    "ENDPOINT": ("AWS_ENDPOINT_URL",),
    "REGION": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "DISABLED_STORE_TYPES": ("DISABLED_STORES",),
}


def _with_fallbacks(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables, with others in place of those that are unset or blank."""
    said = dict(environ)
    for variable, others in _FALLBACKS.items():
        found = next((said[name] for name in (variable, *others) if said.get(name, "").strip()), None)
        if found is not None:
            said[variable] = found
    return said
