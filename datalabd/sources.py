"""What the sources of a claim's files may point at.

They are downloaded inside the cluster, so an address that means the node, the pod itself or a cloud's metadata service
is refused in every spelling that resolvers understand. Other names that resolve to such an address cannot be told apart
here; network policies hold those.
"""

import re
import socket
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

from datalabd.api.meta import FieldError, Problem, shorten
from datalabd.api.v1beta2 import FILES_MAX, File, SecretReference

GIT_SCHEMES = ("https", "http", "ssh")
IMAGE_SCHEMES = ("oci", "https", "http")
_SCP = re.compile(r"(?:[\w.-]+@)(\[[^\]]+\]|[^:/@\s]+):(?!//)")
"""git's short form of an ssh address: `git@host:path`."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILLED = frozenset(
    {"environment_name", "workshop_name", "workshop_namespace", "workshop_version", "ingress_domain", "cluster_domain"}
)
"""Variables that are never empty; of others nothing may be left where they stood."""
_PLATFORM_HOST = re.compile(
    r"(\$\((image_repository|oci_image_cache|assets_repository)\)"
    r"|(([-\w]|\$\(\w+\))+\.)*\$\((cluster_domain|ingress_domain)\))"
    r"(:\d+|\$\(ingress_port_suffix\))?"
)
"""Hosts with variables whose meaning is the platform's alone: of anything else a claim could make any address."""
PLATFORM_HOST = (
    "may have variables in its host only as $(image_repository), $(oci_image_cache), $(assets_repository), or a name "
    "below $(cluster_domain) or $(ingress_domain)"
)
METADATA_ADDRESSES = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
            "fd00:42::42",  # Scaleway
        ),
    )
)
"""Where clouds tell a node who it is, beside the link-local addresses that most of them use."""
METADATA_HOSTS = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "metadata.oraclecloud.com",
    }
)
"""Names of the same."""
LOCAL = "must not point at a loopback, link-local, metadata or blocked address"
OPTION = "must have no host or user that begins with '-': programs take it for an option"
# IPv6 networks whose addresses end in the IPv4 address that they reach: IPv4-compatible, IPv4-translated (SIIT), NAT64
# (RFC 6052).
_EMBEDDING = (IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"), IPv6Network("64:ff9b::/96"))
# NAT64 of a network's own (RFC 8215), and where the IPv4 address stands behind its prefixes of 48, 56, 64 and 96 bits
# (RFC 6052): first bit and number of bits.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_PLACES = (((48, 16), (72, 16)), ((56, 8), (72, 24)), ((72, 32),), ((96, 32),))


def size_errors(files: Sequence[File], path: str) -> Iterator[FieldError]:
    """Whether all sources together are too large: every look at a lab reads them, and sessions mount them."""
    if sum(len(file.model_dump_json(by_alias=True, exclude_none=True).encode()) for file in files) > FILES_MAX:
        yield FieldError(path, Problem.TOO_LONG, None, f"may not be more than {FILES_MAX // 1024} KiB of JSON in all")


def source_errors(file: File, path: str, namespace: str, blocked: Iterable[str]) -> Iterator[FieldError]:
    """What is wrong with one item of `spec.files`, whose field path is `path`.

    `namespace` is the claim's; `blocked` are networks beside the built-in ones.
    """
    networks = tuple(ip_network(cidr) for cidr in blocked)

    def forbidden(at: str, value: str, detail: str) -> FieldError:
        return FieldError(f"{path}.{at}", Problem.INVALID, shorten(value), detail)

    for at, url, address in _addresses(file):
        if isinstance(address, str):
            yield forbidden(at, url, address)
            continue
        if address.password or (address.username and address.scheme in ("http", "https")):
            # The value is not shown: it holds a credential.
            detail = "must not contain credentials"
            yield FieldError(f"{path}.{at}", Problem.FORBIDDEN, None, detail)
        elif problem := host_problem(address, networks):
            yield forbidden(at, url, problem)
    if file.image and "@" in file.image.url and not _DIGEST.fullmatch(file.image.url.rpartition("@")[2]):
        yield forbidden("image.url", file.image.url, "must end in @sha256: and 64 lower-case hexadecimal digits")
    yield from _path_errors(file, path)
    for at, reference in secrets(file):
        if reference.namespace not in (None, namespace):
            detail = "must be the claim's own namespace"
            yield FieldError(f"{path}.{at}.namespace", Problem.FORBIDDEN, reference.namespace, detail)


Networks = Sequence[IPv4Network | IPv6Network]


def host_problem(address: SplitResult, blocked: Networks = ()) -> str:
    """Why nothing may be read from where a URL points, whatever its scheme; empty: it may. The one judge of hosts.

    Hosts with variables of the runtime are judged by `PLATFORM_HOST`, and here only by how they begin.
    """
    user, _, host = address.netloc.rpartition("@")
    if any(_normalised(_left(part)).startswith("-") for part in (user, host)):
        return OPTION
    if "$(" in host:
        return "" if _PLATFORM_HOST.fullmatch(host) else PLATFORM_HOST
    if not address.hostname:
        return "must name a host"
    is_blocked = any(ip in network for ip in addresses(address.hostname) for network in blocked)
    return LOCAL if is_blocked or is_local(address.hostname) else ""


def is_local(host: str) -> bool:
    """Whether a host of a URL means this machine, this link or a cloud's metadata service.

    By name, or as an address in any spelling.
    """
    name = _normalised(host)
    known = name == "localhost" or name.endswith(".localhost") or name in METADATA_HOSTS
    return known or any(map(_is_local_address, addresses(host)))


def addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """The addresses that a host of a URL spells out, with those embedded in them; none for a name.

    Understands what `inet_aton` does: fewer than four parts, hexadecimal and octal numbers.
    """
    name = _normalised(host).partition("%")[0]
    try:
        address = ip_address(name)
    except ValueError:
        try:
            return [IPv4Address(socket.inet_aton(name))]
        except (OSError, UnicodeError):
            return []
    if isinstance(address, IPv4Address):
        return [address]
    return [address, *_embedded(address)]


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """IPv4 addresses that translators and tunnels reach by an IPv6 address."""
    yield from (ip for ip in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if ip is not None)
    value = int(address)
    ends_in_it = any(address in network for network in _EMBEDDING) and value > 1
    # ISATAP (RFC 5214), below any prefix.
    if ends_in_it or (value >> 32) & 0xFDFFFFFF == 0x00005EFE:
        yield IPv4Address(value & 0xFFFFFFFF)
    for places in _PLACES if address in _LOCAL_NAT64 else ():
        found = 0
        for first, number in places:
            found = found << number | (value >> (128 - first - number)) & ((1 << number) - 1)
        if found:  # nothing there: it stands elsewhere
            yield IPv4Address(found)


def _normalised(host: str) -> str:
    """The host as a resolver would look it up: decoded, compatibility characters folded, no brackets or last dot."""
    folded = unicodedata.normalize("NFKC", unquote(host)).replace(
        "\u3002", "."
    )  # the ideographic full stop, as IDNA does
    return folded.lower().strip("[]").rstrip(".")


def _is_local_address(address: IPv4Address | IPv6Address) -> bool:
    known = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return known or address in METADATA_ADDRESSES


def _addresses(file: File) -> Iterator[tuple[str, str, SplitResult | str]]:
    """Field, URL, and its parts or what is wrong with it."""
    sources = [
        ("image.url", file.image and file.image.url),
        ("git.url", file.git and file.git.url),
        ("http.url", file.http and file.http.url),
    ]
    for at, url in sources:
        if not url:
            continue
        try:
            address = _image(url) if at == "image.url" else _git(url) if at == "git.url" else urlsplit(url)
            if isinstance(address, SplitResult) and "$(" not in address.netloc.rpartition("@")[2]:
                _ = address.port  # raises for a port that is none
        except ValueError:
            yield at, url, "must be a well-formed address"
            continue
        yield at, url, address


def _git(url: str) -> SplitResult | str:
    short = _SCP.match(url)
    if short and "://" not in url:
        path = url[short.end() :]
        if _left(path).startswith("-"):
            return "must have no path that begins with '-': programs take it for an option"
        return SplitResult("ssh", short.group(1), path, "", "")
    address = urlsplit(url)
    if address.scheme not in GIT_SCHEMES or "://" not in url:
        return "must be an address of https, http or ssh, or user@host:path"
    return address


def _image(url: str) -> SplitResult | str:
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() not in IMAGE_SCHEMES:
        return "must be an image reference, optionally with the scheme oci, https or http"
    registry = (rest if separator else url).partition("/")[0]
    if not separator and ("/" not in url or not re.search(r"[.:\[$]", registry)) and registry != "localhost":
        registry = "docker.io"
    return SplitResult(scheme.lower() if separator else "oci", registry, "", "", "")


def _path_errors(file: File, path: str) -> Iterator[FieldError]:
    detail = "must stay below its root: no '..'"
    if _left(file.path).startswith("/"):
        yield FieldError(f"{path}.path", Problem.INVALID, shorten(file.path), "must be relative")
    elif _leaves(file.path):
        yield FieldError(f"{path}.path", Problem.INVALID, shorten(file.path), detail)
    if file.new_root_path is not None and _leaves(file.new_root_path):
        yield FieldError(f"{path}.newRootPath", Problem.INVALID, shorten(file.new_root_path), detail)
    for field, globs in (("includePaths", file.include_paths), ("excludePaths", file.exclude_paths)):
        for index, glob in enumerate(globs or []):
            if _leaves(glob):
                yield FieldError(f"{path}.{field}[{index}]", Problem.INVALID, shorten(glob), detail)


def _leaves(path: str) -> bool:
    left = _left(path)
    return ".." in left and ".." in re.split(r"[/\\]", left)


def _left(path: str) -> str:
    """What is left of a path where variables are as short as can be, those within variables included.

    In one pass, however deep they are nested: every letter comes once, and goes once.
    """
    if "$(" not in path:
        return path
    left: list[str] = []
    for letter in path:
        if letter == ")":
            start = len(left)
            while start and (left[start - 1].isalnum() or left[start - 1] == "_"):
                start -= 1
            if start < len(left) and left[max(start - 2, 0) : start] == ["$", "("]:
                name = "".join(left[start:])
                left[start - 2 :] = ["x"] if name in _FILLED else []
                continue
        left.append(letter)
    return "".join(left)


def secrets(file: File) -> Iterator[tuple[str, SecretReference]]:
    """The Secrets that one item of `spec.files` names, by the field below it."""
    for field in ("image", "git", "http"):
        source = getattr(file, field)
        if source is not None and source.secret_ref is not None:
            yield f"{field}.secretRef", source.secret_ref
    if file.git and file.git.verification and file.git.verification.public_keys_secret_ref is not None:
        yield "git.verification.publicKeysSecretRef", file.git.verification.public_keys_secret_ref
