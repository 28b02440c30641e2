"""Signatures are those of the examples that AWS gives with its algorithm."""

import datetime

import pytest

from workspaces.signatures import Keys, presigned, signed

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
BUCKET = ("https", "examplebucket.s3.amazonaws.com", 443)
THEN = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "address", "names", "signature"),
    [
        pytest.param(
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            "https://examplebucket.s3.amazonaws.com/test.txt",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="object",
        ),
        pytest.param(
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="list",
        ),
    ],
)
def test_a_request_is_signed_as_aws_signs_it(
    path: str, query: dict[str, str], headers: dict[str, str], address: str, names: str, signature: str
) -> None:
    url, sent = signed("GET", BUCKET, path, query, KEYS, THEN, headers=headers)
    assert url == address
    assert sent.pop("authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert sent == {name.lower(): value for name, value in headers.items()} | {
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-amz-date": "20130524T000000Z",
    }


def test_a_link_is_signed_as_aws_signs_it() -> None:
    assert presigned("GET", BUCKET, "/test.txt", {}, KEYS, THEN, 86400) == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (("http", "s3", 80), "http://s3/b/a%20b//%C3%BC%2B?x=%2F"),
        (("http", "s3", 9000), "http://s3:9000/b/a%20b//%C3%BC%2B?x=%2F"),
        (("https", "fd00::1", 9000), "https://[fd00::1]:9000/b/a%20b//%C3%BC%2B?x=%2F"),
    ],
)
def test_an_address_is_quoted_once_and_left_as_it_is(origin: tuple[str, str, int], expected: str) -> None:
    assert signed("GET", origin, "/b/a b//ü+", {"x": "/"}, KEYS, THEN)[0] == expected


def test_a_secret_is_in_no_repr() -> None:
    assert repr(KEYS) == "Keys(access='AKIAIOSFODNN7EXAMPLE', region='us-east-1')"
