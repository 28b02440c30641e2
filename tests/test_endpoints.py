import pytest

from datalabd.api.environment import Storage
from datalabd.endpoints import Origin, is_listed, origin, shown

LISTED = Storage(endpoint="s3.example.org", endpoints=["https://minio.example.org:9000/", "http://[fd00::1]:9000"])


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://s3.example.org", ("https", "s3.example.org", 443)),
        ("HTTPS://S3.Example.org.:443/path", ("https", "s3.example.org", 443)),
        ("http://s3.example.org", ("http", "s3.example.org", 80)),
        ("s3.example.org:9000", ("https", "s3.example.org", 9000)),
        ("http://[fd00::1]:9000", ("http", "fd00::1", 9000)),
        ("ftp://s3.example.org", None),
        ("https://user@s3.example.org", None),
        ("https://s3.example.org#@169.254.169.254", None),
        ("https://s3.example.org?x", None),
        ("https://s3.example.org\\@169.254.169.254", None),
        ("https://s3.example.org:x", None),
        ("https://s3.example.org:99999", None),
        ("https://[::1", None),
        ("http:169.254.169.254", None),
        ("https://", None),
        ("https://ｓ3.example.org", None),
        (" ", None),
    ],
)
def test_origin(endpoint: str, expected: Origin | None) -> None:
    assert origin(endpoint) == expected


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "https://s3.example.org",
        "https://s3.example.org:443/x",
        "https://MINIO.example.org:9000",
        "http://[fd00::1]:9000/",
    ],
)
def test_is_listed(endpoint: str) -> None:
    assert is_listed(endpoint, LISTED)


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("http://s3.example.org", id="another scheme"),
        pytest.param("https://s3.example.org:8443", id="another port"),
        pytest.param("https://minio.example.org", id="no port"),
        pytest.param("https://x.s3.example.org", id="a host below"),
        pytest.param("http://169.254.169.254/latest", id="metadata service"),
        pytest.param("https://10.0.0.1", id="a private address"),
        pytest.param("nonsense://", id="no endpoint"),
    ],
)
def test_is_not_listed(endpoint: str) -> None:
    assert not is_listed(endpoint, LISTED)


def test_what_the_environment_says_itself_is_not_doubted() -> None:
    assert is_listed("nonsense://", Storage(endpoint="nonsense://"))
    assert not is_listed("other://", Storage(endpoint="nonsense://"))


def test_an_environment_without_any_lists_none() -> None:
    assert not is_listed("nonsense://", Storage())
    assert not is_listed("https://s3.example.org", Storage())


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://s3.example.org/x", "https://s3.example.org:443"),
        ("http://[fd00::1]", "http://[fd00::1]:80"),
        ("https://key:secret@s3.example.org", "that is none"),
    ],
)
def test_shown_without_what_may_be_secret(endpoint: str, expected: str) -> None:
    assert shown(endpoint) == expected
