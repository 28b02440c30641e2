"""Whether a tenant's own Secret may say where object storage is: csi-rclone connects there from the node."""

import re
from urllib.parse import urlsplit

from datalabd.api.environment import Storage

Origin = tuple[str, str, int]
"""Scheme, host and port, the port that is usual for the scheme included."""
PORTS = {"https": 443, "http": 80}
"""The usual one of each scheme."""
_PLAIN = re.compile(r"[A-Za-z0-9._~:/%\[\]+-]*", re.ASCII)
"""What an endpoint is written with that all programs read alike: no login, query, fragment or backslash."""


def origin(endpoint: str) -> Origin | None:
    """The origin of an endpoint, https where it names no scheme, as rclone takes it; None for what is none."""
    if not _PLAIN.fullmatch(endpoint):
        return None
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname.rstrip("."), PORTS[parts.scheme] if port is None else port


def is_listed(endpoint: str, storage: Storage) -> bool:
    """Whether an environment lists this endpoint, compared by origin; no endpoint needs no list, nor does its own."""
    if endpoint in ("", storage.endpoint):
        return True
    found = origin(endpoint)
    return found is not None and found in map(origin, (storage.endpoint, *storage.endpoints))


def shown(endpoint: str) -> str:
    """An endpoint as a message repeats it: its origin, as the rest may hold a secret."""
    found = origin(endpoint)
    if found is None:
        return "that is none"
    scheme, host, port = found
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
