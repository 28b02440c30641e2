"""Which peers are proxies of ours, and what they say of the request that they received."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a client sees us."""

    scheme: str
    host: str
    """With the port, where one was given."""
    prefix: str = ""
    """Path below which everything is, without a slash at its end."""

    def __str__(self) -> str:
        """As in a header `Origin`."""
        return f"{self.scheme}://{self.host}"

    @property
    def url(self) -> str:
        """What paths of ours are appended to."""
        return f"{self}{self.prefix}"

    @property
    def is_loopback(self) -> bool:
        """Whether the client is on this machine, as far as the name says."""
        name = self.host.rsplit(":", 1)[0] if not self.host.endswith("]") else self.host
        return name.lower() == "localhost" or is_loopback(name.strip("[]"))


def is_loopback(address: str) -> bool:
    """Whether it is an address of this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Proxies:
    """Networks of proxies whose `X-Forwarded-*` count."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def trusts(self, peer: str | None) -> bool:
        """Whether a peer's address is in one of the networks."""
        if peer is None or not self._networks:
            return False
        if (known := self._known.get(peer)) is None:
            if len(self._known) >= 1024:
                self._known.clear()
            known = self._known[peer] = _within(peer, self._networks)
        return known

    def origin(self, peer: str | None, scheme: str, headers: Mapping[str, str]) -> Origin:
        """Where the client sees us. What is not well formed is as if it had not been sent."""
        host = _matching(_HOST, headers.get("Host", "")) or "localhost"
        if not self.trusts(peer):
            return Origin(scheme, host)
        forwarded = _last(headers, "X-Forwarded-Proto").lower()
        prefix = _matching(_PREFIX, _last(headers, "X-Forwarded-Prefix")).rstrip("/")
        return Origin(
            scheme=forwarded if forwarded in ("http", "https") else scheme,
            host=_matching(_HOST, _last(headers, "X-Forwarded-Host")) or host,
            prefix="" if {".", ".."} & set(prefix.split("/")) else prefix,
        )

    def client(self, peer: str | None, headers: Mapping[str, str]) -> str:
        """Address of whoever sent the request: the last that none of our proxies has."""
        address = peer or ""
        for hop in reversed(_joined(headers, "X-Forwarded-For").split(",")):
            if not self.trusts(address):
                break
            try:
                address = str(ipaddress.ip_address(hop.strip()))
            except ValueError:
                break
        return address


def _last(headers: Mapping[str, str], name: str) -> str:
    """What the nearest proxy says: of several values that were appended one after the other, the last."""
    return _joined(headers, name).rpartition(",")[2].strip()


def _joined(headers: Mapping[str, str], name: str) -> str:
    """All lines of a header as one: what some proxies append to the line, others add as another line."""
    return ",".join(value for key, value in headers.items() if key.lower() == name.lower())


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _within(peer: str, networks: Iterable[Network]) -> bool:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
