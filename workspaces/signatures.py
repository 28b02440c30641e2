"""Requests to S3, signed by AWS Signature Version 4 with the keys of a workspace. Pure."""

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from datalabd.endpoints import PORTS, Origin

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()
"""Digest of a body that is empty."""
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Keys:
    """What requests of a workspace are signed with."""

    access: str
    secret: str = field(repr=False)
    region: str


def signed(
    method: str,
    origin: Origin,
    path: str,
    query: Mapping[str, str],
    keys: Keys,
    now: datetime.datetime,
    *,
    headers: Mapping[str, str] = NONE,
    digest: str = EMPTY,
) -> tuple[str, dict[str, str]]:
    """Address and headers of a request whose body has this digest.

    The path is as it is, neither quoted nor normalised; the address is quoted, and has to be sent as it stands.
    """
    host = _host(origin)
    sent = {name.lower(): value for name, value in headers.items()}
    sent |= {"x-amz-content-sha256": digest, "x-amz-date": _stamp(now)}
    covered = sent | {"host": host}
    signature = _signature(method, path, _query(query), covered, digest, keys, now)
    credential = f"{keys.access}/{_scope(keys, now)}"
    names = ";".join(sorted(covered))
    sent["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return f"{address(origin)}{_target(path, _query(query))}", sent


def presigned(
    method: str, origin: Origin, path: str, query: Mapping[str, str], keys: Keys, now: datetime.datetime, seconds: int
) -> str:
    """An address that whoever has it may ask for, for so long."""
    host = _host(origin)
    whole = {
        **query,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{keys.access}/{_scope(keys, now)}",
        "X-Amz-Date": _stamp(now),
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    text = _query(whole)
    signature = _signature(method, path, text, {"host": host}, UNSIGNED, keys, now)
    return f"{address(origin)}{_target(path, f'{text}&X-Amz-Signature={signature}')}"


def address(origin: Origin) -> str:
    """An origin as it is written."""
    return f"{origin[0]}://{_host(origin)}"


def _signature(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    digest: str,
    keys: Keys,
    now: datetime.datetime,
) -> str:
    ordered = sorted(headers)
    lines = [method, _quoted(path), query, *(f"{name}:{headers[name].strip()}" for name in ordered), ""]
    request = "\n".join([*lines, ";".join(ordered), digest])
    words = [ALGORITHM, _stamp(now), _scope(keys, now), hashlib.sha256(request.encode()).hexdigest()]
    key = f"AWS4{keys.secret}".encode()
    for part in _scope(keys, now).split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, "\n".join(words).encode(), "sha256").hexdigest()


def _scope(keys: Keys, now: datetime.datetime) -> str:
    return f"{_stamp(now)[:8]}/{keys.region}/s3/aws4_request"


def _stamp(now: datetime.datetime) -> str:
    return now.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def _host(origin: Origin) -> str:
    """Header `Host`, as clients send it: without the port that is usual."""
    scheme, host, port = origin
    name = f"[{host}]" if ":" in host else host
    return name if port == PORTS[scheme] else f"{name}:{port}"


def _query(query: Mapping[str, str]) -> str:
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))


def _quoted(path: str) -> str:
    return quote(path, safe="/-_.~")


def _target(path: str, query: str) -> str:
    return _quoted(path) + (f"?{query}" if query else "")
