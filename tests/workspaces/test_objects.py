"""Where objects may be read, and what the answers of an object storage say."""

from typing import Any

import pytest

from datalabd.api.meta import Manifest
from tests.workspaces.objects import BEFORE, LATER, NOW, SETTINGS, TODAY, grant, storage
from workspaces import objects
from workspaces.objects import Listing, Place
from workspaces.problems import SENTENCES, Problem
from workspaces.settings import Settings
from workspaces.sharing import Sharing
from workspaces.signatures import Keys

HERE = ("https", "s3.example", 443)
CREDENTIALS = {"access": "AK", "secret": "SK", "endpoint": "https://s3.example", "region": "eu"}


def settings(**more: Any) -> Settings:
    return Settings(**{"auth_mode": "no", "host": "127.0.0.1", "endpoint": "https://s3.example"} | more)


def place(
    bucket: str = "ws-a",
    settings: Settings = settings(),  # noqa: B008 - frozen
    *others: Manifest,
    own: Manifest | None = None,
    **credentials: str,
) -> Place:
    sharing = Sharing([own or storage(), *others])
    known = sharing.get("ws-a")
    assert known is not None
    return objects.place(bucket, known, CREDENTIALS | credentials, sharing, settings, NOW)


def test_an_own_bucket_is_read_at_the_endpoint_by_the_keys() -> None:
    found = place()
    assert found == Place(HERE, "ws-a", Keys("AK", "SK", "eu"), None)
    assert (found.path(), found.path("a/b")) == ("/ws-a", "/ws-a/a/b")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("s3.example", HERE),
        ("https://S3.example:443/some/path", HERE),
        ("http://minio:9000", ("http", "minio", 9000)),
    ],
)
def test_an_endpoint_is_compared_by_its_origin_and_is_no_more(endpoint: str, expected: object) -> None:
    known = settings(storage_endpoints=(("http", "minio", 9000),))
    assert place("ws-a", known, endpoint=endpoint).origin == expected


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.example",
        "https://s3.example:444",
        "https://s3.example.evil.example",
        "https://s3.example@evil.example",
        "https://evil.example#s3.example",
        "http://169.254.169.254",
        "http://127.0.0.1:8001",
        "file:///etc/passwd",
        "https://s3.example\r\nX: y",
        "https://[",
    ],
)
def test_no_other_endpoint_is_asked_whatever_the_secret_says(endpoint: str) -> None:
    with pytest.raises(Problem) as caught:
        place(endpoint=endpoint)
    assert caught.value.status == 409
    assert isinstance(caught.value.detail, dict)
    assert caught.value.detail["error"] == "endpoint_not_listed"


@pytest.mark.parametrize(("own", "public"), [("https://s3.example", ("https", "files.example", 443)), ("", None)])
def test_links_are_of_the_main_endpoint_alone(own: str, public: object) -> None:
    known = settings(endpoint=own, storage_endpoints=(HERE,), browser_endpoint="https://files.example")
    assert place("ws-a", known).public == public


@pytest.mark.parametrize(
    ("problem", "bucket", "known", "credentials"),
    [
        ("bucket_not_found", "ws-b", settings(), {}),
        ("bucket_not_found", "..", settings(), {}),
        ("objects_not_configured", "ws-a", SETTINGS, {}),
        ("storage_refuses_keys", "ws-a", settings(), {"access": "AK\r\nX: y"}),
        ("storage_refuses_keys", "ws-a", settings(), {"access": " "}),
        ("storage_refuses_keys", "ws-a", settings(), {"region": "eu/x"}),
    ],
)
def test_what_cannot_be_read_is_said_before_anybody_is_asked(
    problem: str, bucket: str, known: Settings, credentials: dict[str, str]
) -> None:
    odd = storage("ws-a", buckets=[{"bucketName": "ws-a"}, {"bucketName": ".."}])
    with pytest.raises(Problem) as caught:
        place(bucket, known, own=odd, **credentials)
    assert isinstance(caught.value.detail, dict)
    assert caught.value.detail["error"] == problem


def test_nothing_is_read_without_keys() -> None:
    sharing = Sharing([storage()])
    known = sharing.get("ws-a")
    assert known is not None
    with pytest.raises(Problem, match="no_credentials") as caught:
        objects.place("ws-a", known, None, sharing, settings(), NOW)
    assert caught.value.status == 409


@pytest.mark.parametrize(
    ("permission", "principal", "is_read"),
    [("ReadOnly", "ws-a", True), ("None", "ws-a", False), ("ReadOnly", "ws-c", False), ("ReadOnly", "", False)],
)
def test_a_bucket_of_another_is_read_while_it_is_granted(permission: str, principal: str, is_read: bool) -> None:
    other = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", permission)])
    own = storage("ws-a", principal=principal)
    if is_read:
        assert place("ws-b", settings(), other, own=own).bucket == "ws-b"
        return
    with pytest.raises(Problem, match="bucket_not_found"):
        place("ws-b", settings(), other, own=own)


@pytest.mark.parametrize(("ends", "is_read"), [(BEFORE, False), (TODAY, False), (LATER, True), ("soon", True)])
def test_a_grant_ends_at_its_time_even_if_nobody_has_written_that(ends: str, is_read: bool) -> None:
    other = storage("ws-b", bucketAccessGrants=[grant("ws-b", "ws-a", "ReadOnly") | {"expiresAt": ends}])
    if is_read:
        assert place("ws-b", settings(), other).bucket == "ws-b"
        return
    with pytest.raises(Problem, match="bucket_not_found"):
        place("ws-b", settings(), other)


def test_what_is_asked() -> None:
    assert objects.query("a/", 100, "t") == {
        "list-type": "2",
        "max-keys": "100",
        "encoding-type": "url",
        "prefix": "a/",
        "delimiter": "/",
        "continuation-token": "t",
    }
    assert objects.query("", 1000, "", nested=False) == {"list-type": "2", "max-keys": "1000", "encoding-type": "url"}


@pytest.mark.parametrize("key", ["a", "a//b", "/a", "a/", "..a/.b.", "ü" * 512, "a\nb", "a b+c%20"])
def test_any_key_may_be_asked_for(key: str) -> None:
    objects.check_key(key)
    assert objects.can_be_asked_for(key)
    objects.check_prefix(key)


@pytest.mark.parametrize("key", ["", "..", "a/../b", "./a", "ü" * 513])
def test_a_key_that_servers_take_for_anothers_is_refused(key: str) -> None:
    with pytest.raises(Problem) as caught:
        objects.check_key(key)
    assert caught.value.status == 422
    assert not objects.can_be_asked_for(key)


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(Problem, match="must have at most 1024 bytes"):
        objects.check_prefix("ü" * 513)
    objects.check_token("x" * 2048)
    for token in ("x" * 2049, "a\nb"):
        with pytest.raises(Problem, match="must be what an earlier answer gave"):
            objects.check_token(token)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b.csv", "attachment; filename=\"b.csv\"; filename*=UTF-8''b.csv"),
        ("dir/", "attachment; filename=\"dir\"; filename*=UTF-8''dir"),
        ("/", "attachment; filename=\"object\"; filename*=UTF-8''object"),
        ('ü"\r\n;.x', "attachment; filename=\"_____.x\"; filename*=UTF-8''%C3%BC%22%0D%0A%3B.x"),
    ],
)
def test_a_file_is_called_as_its_key_ends(key: str, expected: str) -> None:
    assert objects.attachment(key) == expected


# ---- Answers

LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>ws-a</Name><Prefix>a</Prefix>
<IsTruncated>true</IsTruncated><NextContinuationToken>next=</NextContinuationToken>
<Contents><Key>a%2F%2Fb+c%0A%2B</Key><LastModified>2026-05-05T20:00:00.000Z</LastModified><Size>3</Size></Contents>
<Contents><Key>%C3%BC</Key><Size>4</Size></Contents>
<CommonPrefixes><Prefix>a%20b%2F</Prefix></CommonPrefixes></ListBucketResult>"""


def test_a_listing_is_read() -> None:
    listing = Listing.read(LISTING)
    stored = [{"key": "a//b c\n+", "size": 3, "modified": "2026-05-05T20:00:00Z"}, {"key": "ü", "size": 4}]
    assert objects.page("ws-a", "a", listing) == {
        "bucket": "ws-a",
        "prefix": "a",
        "prefixes": ["a b/"],
        "objects": stored,
        "continue": "next=",
    }
    assert listing.size == 7
    assert objects.usage(4, 14, complete=False) == {"objects": 4, "bytes": 14, "complete": False}


def test_sizes_of_all_that_are_counted_are_numbers_of_json() -> None:
    one = b"<Contents><Key>a</Key><Size>%d</Size></Contents>" % objects.SIZE_MAX
    listing = Listing.read(b"<ListBucketResult>%s</ListBucketResult>" % one)
    assert listing.size * objects.COUNTED_MAX < 2**63


def test_a_listing_without_a_namespace_that_ends_is_read() -> None:
    assert Listing.read(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>") == Listing((), (), "")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="cut"),
        pytest.param(b"<html/>", id="other"),
        pytest.param(b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", id="no token"),
        pytest.param(b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", id="no size"),
        *(
            pytest.param(
                b"<ListBucketResult><Contents><Key>a</Key><Size>%s</Size></Contents></ListBucketResult>" % size,
                id=f"size {size[:5].decode()}",
            )
            for size in (b"-1", b"+1", b"1_0", "\u0661".encode(), b"562949953421313", b"9" * 30, b"9" * 5000)
        ),
        pytest.param(
            b"<ListBucketResult><Contents><Key>%FF</Key><Size>1</Size></Contents></ListBucketResult>", id="no UTF-8"
        ),
        pytest.param(b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult>&b;</ListBucketResult>', id="entities"),
    ],
)
def test_what_is_no_listing_is_none(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Listing.read(document)


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>secret words</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "document", "expected", "detail"),
    [
        (404, error("NoSuchBucket"), 404, {"error": "bucket_not_made"}),
        (404, error("NoSuchKey"), 404, {"error": "object_not_found"}),
        (404, b"", 404, {"error": "object_not_found"}),
        (403, error("AccessDenied"), 403, {"error": "storage_forbids"}),
        (403, b"", 403, {"error": "storage_forbids"}),
        (403, error("InvalidAccessKeyId"), 502, {"error": "storage_refuses_keys", "reason": "InvalidAccessKeyId"}),
        (
            403,
            error("SignatureDoesNotMatch"),
            502,
            {"error": "storage_refuses_keys", "reason": "SignatureDoesNotMatch"},
        ),
        (301, error("PermanentRedirect"), 502, {"error": "storage_elsewhere"}),
        (307, b"", 502, {"error": "storage_elsewhere"}),
        (400, error("IllegalLocationConstraintException"), 502, {"error": "storage_elsewhere"}),
        (503, error("SlowDown"), 503, {"error": "storage_away"}),
        (429, b"", 503, {"error": "storage_away"}),
        (500, b"<html>", 503, {"error": "storage_away"}),
        (400, error("InvalidArgument"), 502, {"error": "storage_error", "reason": "InvalidArgument"}),
        (400, error("<script>"), 502, {"error": "storage_error", "reason": "400"}),
        (400, b"Client sent an HTTP request to an HTTPS server.", 502, {"error": "storage_error", "reason": "400"}),
    ],
)
def test_what_an_error_means(status: int, document: bytes, expected: int, detail: dict[str, str]) -> None:
    found = objects.refused(status, document)
    assert (found.status, found.detail) == (expected, detail)
    assert found.sentence == SENTENCES[detail["error"]]
    assert found.headers == ({"Retry-After": "5"} if expected == 503 else {})


def test_a_page_that_begins_nowhere_is_the_askers_fault() -> None:
    refusal = objects.refused(400, error("InvalidArgument"))
    assert objects.of_token("", refusal) is refusal
    assert objects.of_token("t", objects.odd()).status == 502
    assert objects.of_token("t", refusal).status == 422
    assert objects.of_token("t", Problem(403, "Forbidden")).status == 403


def test_other_refusals() -> None:
    found = [objects.away(), objects.busy(), objects.untrusted(), objects.odd(), objects.too_large(1 << 30)]
    assert [(one.status, one.detail) for one in found] == [
        (503, {"error": "storage_away"}),
        (429, {"error": "too_many_downloads"}),
        (502, {"error": "storage_untrusted"}),
        (502, {"error": "storage_error"}),
        (413, {"error": "object_too_large", "size": 1 << 30, "limit": 104857600}),
    ]
