"""Objects of a bucket: where they may be read, and what the answers of an object storage say. Pure."""

import datetime
import re
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from datalabd.api.storage import Storage, is_bucket_name
from datalabd.api.workspace import stamp
from datalabd.endpoints import Origin, origin, shown
from datalabd.text import moment
from workspaces import problems
from workspaces.problems import Problem, problem
from workspaces.settings import Settings
from workspaces.sharing import Sharing
from workspaces.signatures import Keys

PAGE = 100
"""Objects and prefixes of a page."""
PAGE_MAX = 1000
"""What an object storage lists at once."""
COUNTED_MAX = 10_000
"""Objects of a bucket that are counted."""
SIZE_MAX = 2**49
"""Bytes of an object, 512 TiB: ten times what any object storage takes, and all that are counted stay in 64 bits."""
DOWNLOAD_MAX = 100 * 1024 * 1024
"""Bytes of an object that are passed on."""
LINK_SECONDS = 300
KEY_MAX = 1024
"""Bytes of an object's key, or of the beginning of keys."""
TOKEN_MAX = 2048
"""Characters of what an object storage calls the place where a page begins."""

_KEY_ID = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")
_REGION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CODE = re.compile(r"[A-Za-z0-9]{1,64}")
_KEYS_REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"}
)
_ABSENT = {"NoSuchBucket": "bucket_not_made", "NoSuchKey": "object_not_found"}
_ELSEWHERE = frozenset({"PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"})
_LATER = {"Retry-After": str(problems.RETRY_AFTER_SECONDS)}


# ---- Where


@dataclass(frozen=True)
class Place:
    """A bucket at an origin that the operator trusts, and the keys to read it by."""

    origin: Origin
    bucket: str
    keys: Keys
    public: Origin | None
    """Where browsers reach the same; None where they do not."""

    def path(self, key: str = "") -> str:
        """The path of an object, or of the bucket."""
        return f"/{self.bucket}/{key}" if key else f"/{self.bucket}"


def place(
    bucket: str,
    storage: Storage,
    credentials: dict[str, str] | None,
    sharing: Sharing,
    settings: Settings,
    now: datetime.datetime,
) -> Place:
    """Where a bucket's objects are read: its own or one that it was granted, at an origin that is listed.

    The endpoint stands in a Secret, which others than the operator may write. Of it only the origin is used.
    """
    if not is_bucket_name(bucket) or not is_open(bucket, storage, sharing, now):
        raise problem(404, "bucket_not_found", bucket=bucket)
    own = origin(settings.endpoint)
    listed = {own, *settings.storage_endpoints} - {None}
    if not listed:
        raise problem(503, "objects_not_configured")
    if credentials is None:
        raise problem(409, "no_credentials")
    found = origin(credentials["endpoint"])
    if found is None or found not in listed:
        raise problem(409, "endpoint_not_listed", endpoint=shown(credentials["endpoint"]))
    keys = Keys(credentials["access"], credentials["secret"], credentials["region"])
    if not _KEY_ID.fullmatch(keys.access) or not _REGION.fullmatch(keys.region):
        raise problem(502, "storage_refuses_keys")
    return Place(found, bucket, keys, origin(settings.browser_endpoint) if found == own else None)


def is_open(bucket: str, storage: Storage, sharing: Sharing, now: datetime.datetime) -> bool:
    """Whether a bucket is a workspace's own, or is granted to it: to its end, even if nobody has written that yet."""
    if any(own.name == bucket for own in storage.buckets):
        return True
    decision = sharing.decision(bucket, storage.principal) if storage.principal else None
    return decision is not None and decision.in_force and (decision.expires_at is None or now < decision.expires_at)


# ---- What is asked


def query(prefix: str, count: int, token: str, *, nested: bool = True) -> dict[str, str]:
    """What lists a page: with what is below a `/` as one entry, or with all objects one by one."""
    found = {"list-type": "2", "max-keys": str(count), "encoding-type": "url"}
    return (
        found
        | ({"prefix": prefix} if prefix else {})
        | ({"delimiter": "/"} if nested else {})
        | ({"continuation-token": token} if token else {})
    )


def check_key(key: str) -> None:
    """Raise `Problem` for a key that cannot be asked for."""
    if wrong := _wrong_key(key):
        raise problems.wrong(("query", "key"), wrong, key)


def can_be_asked_for(key: str) -> bool:
    """Whether a key names an object, and no server on the way takes it for another's."""
    return not _wrong_key(key)


def _wrong_key(key: str) -> str:
    if not key or len(key.encode()) > KEY_MAX:
        return f"must have 1 to {KEY_MAX} bytes"
    if {".", ".."} & set(key.split("/")):
        return "must not have . or .. between slashes"
    return ""


def check_prefix(prefix: str) -> None:
    """Raise `Problem` for the beginning of no key."""
    if len(prefix.encode()) > KEY_MAX:
        raise problems.wrong(("query", "prefix"), f"must have at most {KEY_MAX} bytes", prefix)


def check_token(token: str) -> None:
    """Raise `Problem` for what no earlier answer gave."""
    if len(token) > TOKEN_MAX or not token.isprintable():
        raise _bad_token(token)


def of_token(token: str, refusal: Problem) -> Problem:
    """A refusal of a page, which may be that it begins nowhere."""
    is_argument = isinstance(refusal.detail, dict) and refusal.detail.get("reason") == "InvalidArgument"
    return _bad_token(token) if token and is_argument else refusal


def _bad_token(token: str) -> Problem:
    return problems.wrong(("query", "continue"), "must be what an earlier answer gave", token)


def attachment(key: str) -> str:
    """Header `Content-Disposition` of an object: it is kept under the last part of its key, and never shown."""
    name = key.rstrip("/").rpartition("/")[2] or "object"
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


# ---- What is answered


class _Plain(ElementTree.TreeBuilder):
    """Of documents without a type, which could define entities."""

    def doctype(self, *_: object) -> None:
        raise ValueError("a document type")


def _parsed(document: bytes) -> ElementTree.Element:
    """The root of an XML document; ValueError for what is none."""
    parser = ElementTree.XMLParser(target=_Plain())
    try:
        parser.feed(document)
        return parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from None


@dataclass(frozen=True)
class Listing:
    """A page of an object storage's listing."""

    prefixes: tuple[str, ...]
    objects: tuple[dict[str, Any], ...]
    """Each a `StoredObject`."""
    token: str
    """Where the next one begins; empty: there is none."""

    @classmethod
    def read(cls, document: bytes) -> Self:
        """What a ListBucketResult says; ValueError for anything else."""
        root = _parsed(document)
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise ValueError(f"no listing, but {root.tag[:100]}")
        prefixes = tuple(_key(_text(entry, "Prefix")) for entry in root.iterfind("{*}CommonPrefixes"))
        objects = tuple(map(_object, root.iterfind("{*}Contents")))
        is_cut = _text(root, "IsTruncated") == "true"
        token = _text(root, "NextContinuationToken") if is_cut else ""
        if is_cut and not token:
            raise ValueError("a listing that is cut and does not say where it goes on")
        return cls(prefixes, objects, token)

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(one["size"] for one in self.objects)


def _object(entry: ElementTree.Element) -> dict[str, Any]:
    found: dict[str, Any] = {"key": _key(_text(entry, "Key")), "size": _size(_text(entry, "Size"))}
    at = moment(_text(entry, "LastModified"))
    return found if at is None else found | {"modified": stamp(at)}


def _size(digits: str) -> int:
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(SIZE_MAX)) or int(digits) > SIZE_MAX:
        raise ValueError("no size of an object")
    return int(digits)


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _key(quoted: str) -> str:
    """A key as it is, which was quoted since XML has no form for some characters."""
    return unquote_plus(quoted, errors="strict")


def page(bucket: str, prefix: str, listing: Listing) -> dict[str, Any]:
    """A page as `ObjectPage` of the answer."""
    found: dict[str, Any] = {
        "bucket": bucket,
        "prefix": prefix,
        "prefixes": list(listing.prefixes),
        "objects": list(listing.objects),
    }
    return found | ({"continue": listing.token} if listing.token else {})


def usage(count: int, size: int, *, complete: bool) -> dict[str, Any]:
    """What was counted as `BucketUsage` of the answer."""
    return {"objects": count, "bytes": size, "complete": complete}


# ---- What goes wrong


def refused(status: int, document: bytes) -> Problem:
    """What an object storage's error means; nothing but its code is repeated."""
    code = _code(document)
    if code in _ABSENT:
        return problem(404, _ABSENT[code])
    if code in _KEYS_REFUSED:
        return problem(502, "storage_refuses_keys", reason=code)
    if 300 <= status < 400 or code in _ELSEWHERE:
        return problem(502, "storage_elsewhere")
    if status == 403:
        return problem(403, "storage_forbids")
    if status == 404:
        return problem(404, "object_not_found")
    if status == 429 or status >= 500:
        return away()
    return problem(502, "storage_error", reason=code or str(status))


def _code(document: bytes) -> str:
    try:
        found = _text(_parsed(document), "Code")
    except ValueError:
        return ""
    return found if _CODE.fullmatch(found) else ""


def away() -> Problem:
    """An object storage that does not answer in time."""
    return Problem(503, {"error": "storage_away"}, headers=_LATER)


def busy() -> Problem:
    """Somebody who downloads as much as one may."""
    return Problem(429, {"error": "too_many_downloads"}, headers=_LATER)


def untrusted() -> Problem:
    """One whose certificate is not that of somebody trusted."""
    return problem(502, "storage_untrusted")


def odd() -> Problem:
    """One that answers something else than object storages do."""
    return problem(502, "storage_error")


def too_large(size: int) -> Problem:
    """An object that is not passed on."""
    return problem(413, "object_too_large", size=size, limit=DOWNLOAD_MAX)
