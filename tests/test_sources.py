import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.v1beta2 import File
from datalabd.sources import PLATFORM_HOST, addresses, is_local, size_errors, source_errors

LOCAL = "must not point at a loopback, link-local, metadata or blocked address"
OPTION = "must have no host or user that begins with '-': programs take it for an option"
OPTION_PATH = "must have no path that begins with '-': programs take it for an option"
GIT = "must be an address of https, http or ssh, or user@host:path"
IMAGE = "must be an image reference, optionally with the scheme oci, https or http"
FILLED = ("environment_name", "workshop_name")
DIGEST = "must end in @sha256: and 64 lower-case hexadecimal digits"


def errors(**file: Any) -> list[tuple[str, str]]:
    found = source_errors(File.model_validate(file), "f", "team", ["10.9.0.0/16", "fd00:ec2::254/128"])
    return [(error.path, error.detail) for error in found]


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("localhost", id="name"),
        pytest.param("LOCALHOST.", id="name in capitals with a last dot"),
        pytest.param("a.localhost", id="name below"),
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.1", id="short loopback"),
        pytest.param("0.0.0.0", id="unspecified"),
        pytest.param("0", id="unspecified, as short as can be"),
        pytest.param("169.254.169.254", id="link-local"),
        pytest.param("169.254.169.254.", id="last dot"),
        pytest.param("169.254.43518", id="three parts"),
        pytest.param("2852039166", id="decimal"),
        pytest.param("0xA9FEA9FE", id="hexadecimal"),
        pytest.param("0251.0376.0251.0376", id="octal"),
        pytest.param("%31%36%39.254.169.254", id="percent-encoded"),
        pytest.param("１６９.２５４.１６９.２５４", id="full-width digits"),
        pytest.param("169。254。169。254", id="ideographic dots"),
        pytest.param("[::1]", id="IPv6 loopback"),
        pytest.param("fe80::1", id="IPv6 link-local"),
        pytest.param("fe80::1%25eth0", id="with a zone"),
        pytest.param("::ffff:169.254.169.254", id="IPv4-mapped"),
        pytest.param("::ffff:a9fe:a9fe", id="IPv4-mapped in hexadecimal"),
        pytest.param("64:ff9b::a9fe:a9fe", id="NAT64"),
        pytest.param("2002:a9fe:a9fe::", id="6to4"),
        pytest.param("::169.254.169.254", id="IPv4-compatible"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("64:ff9b:1::a9fe:a9fe", id="NAT64 of a network's own"),
        pytest.param("64:ff9b:1:a9fe:a9:fe00::", id="the same behind 48 bits"),
        pytest.param("64:ff9b:1:12a9:fe:a9fe::", id="the same behind 56 bits"),
        pytest.param("64:ff9b:1:1234:a9:fea9:fe00:0", id="the same behind 64 bits"),
        pytest.param("2001:0:4136:e378:8000:63bf:5601:5601", id="Teredo client"),
        pytest.param("2001:0:a9fe:a9fe::1", id="Teredo server"),
        pytest.param("::ffff:0:169.254.169.254", id="IPv4-translated"),
        pytest.param("2001:db8::5efe:a9fe:a9fe", id="ISATAP"),
        pytest.param("2001:db8::200:5efe:a9fe:a9fe", id="ISATAP, globally unique"),
        pytest.param("100.100.100.200", id="metadata of Alibaba Cloud"),
        pytest.param("168.63.129.16", id="metadata of Azure"),
        pytest.param("64:ff9b::168.63.129.16", id="metadata of Azure by NAT64"),
        pytest.param("fd00:ec2::254", id="metadata of AWS"),
        pytest.param("Metadata.Google.Internal.", id="metadata of Google Cloud by name"),
        pytest.param("instance-data", id="metadata of AWS by name"),
    ],
)
def test_is_local(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "10.0.0.1",
        "2001:db8::1",
        "localhost.example.org",
        "mylocalhost",
        "é.example.org",
        "1.2.3.4.5",
        "64:ff9b:1::808:808",
        "64:ff9b:1:808:8:800::",
        "2001:0:808:808:8000:63bf:f7f7:f7f7",
        "::ffff:0:8.8.8.8",
        "metadata.example.org",
        "100.100.100.201",
        "",
    ],
)
def test_is_not_local(host: str) -> None:
    assert not is_local(host)


def test_addresses_of_a_name() -> None:
    assert addresses("example.org") == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param({"git": {"url": "https://example.org/a.git", "ref": "main"}}, [], id="git over https"),
        pytest.param({"git": {"url": "ssh://git@example.org:22/a", "ref": "main"}}, [], id="git over ssh"),
        pytest.param({"git": {"url": "git@example.org:a/b.git", "ref": "main"}}, [], id="git over ssh, short"),
        pytest.param({"git": {"url": "file:///etc", "ref": "main"}}, [("f.git.url", GIT)], id="file"),
        pytest.param({"git": {"url": "ext::sh", "ref": "main"}}, [("f.git.url", GIT)], id="git runs a command"),
        pytest.param(
            {"git": {"url": "git://example.org/a", "ref": "main"}}, [("f.git.url", GIT)], id="git's own scheme"
        ),
        pytest.param({"git": {"url": "/srv/a", "ref": "main"}}, [("f.git.url", GIT)], id="path"),
        pytest.param(
            {"git": {"url": "a@169.254.169.254:x", "ref": "m"}}, [("f.git.url", LOCAL)], id="short, link-local"
        ),
        pytest.param({"git": {"url": "a@[fe80::1]:x", "ref": "m"}}, [("f.git.url", LOCAL)], id="short, IPv6"),
        pytest.param({"http": {"url": "https://example.org:8443/a"}}, [], id="http with a port"),
        *(
            pytest.param({"git": {"url": url, "ref": "main"}}, [("f.git.url", OPTION)], id=url)
            for url in (
                "ssh://-oProxyCommand=id/x",
                "git@-oProxyCommand=id:x",
                "git@[-oProxyCommand=id]:x",
                "ssh://%2DoProxyCommand=id/x",
                "ssh://$(nothing)-oProxyCommand=id/x",
                "ssh://-oProxyCommand=id@example.org/x",
                "ssh://$(nothing)-oProxyCommand=id@example.org/x",
                "ssh://-x.$(cluster_domain)/x",
                "https://-x.example.org/x",
            )
        ),
        pytest.param({"git": {"url": "git@example.org:-x", "ref": "m"}}, [("f.git.url", OPTION_PATH)], id="path"),
        pytest.param({"http": {"url": "https://-x.example.org/"}}, [("f.http.url", OPTION)], id="http from an option"),
        pytest.param({"image": {"url": "oci://-x.example.org/a"}}, [("f.image.url", OPTION)], id="image of an option"),
        pytest.param({"http": {"url": "http://[64:ff9b:1::a9fe:a9fe]/"}}, [("f.http.url", LOCAL)], id="NAT64"),
        pytest.param({"image": {"url": "100.100.100.200/a"}}, [("f.image.url", LOCAL)], id="image from metadata"),
        pytest.param({"http": {"url": "HTTP://127.0.0.1:8001/"}}, [("f.http.url", LOCAL)], id="http to loopback"),
        pytest.param({"http": {"url": "https://[fe80::1]/"}}, [("f.http.url", LOCAL)], id="http to IPv6 link-local"),
        pytest.param({"http": {"url": "https://10.9.1.2/"}}, [("f.http.url", LOCAL)], id="network the operator blocks"),
        pytest.param({"http": {"url": "https://[fd00:ec2::254]/"}}, [("f.http.url", LOCAL)], id="IPv6 network blocked"),
        pytest.param(
            {"http": {"url": "https://joe:pass@example.org/"}},
            [("f.http.url", "must not contain credentials")],
            id="credentials",
        ),
        pytest.param(
            {"http": {"url": "https://token@example.org/"}},
            [("f.http.url", "must not contain credentials")],
            id="token as a user",
        ),
        pytest.param({"http": {"url": "https:///a"}}, [("f.http.url", "must name a host")], id="no host"),
        pytest.param(
            {"http": {"url": "https://example.org:99999/"}},
            [("f.http.url", "must be a well-formed address")],
            id="bad port",
        ),
        pytest.param(
            {"http": {"url": "https://[::1/"}}, [("f.http.url", "must be a well-formed address")], id="bad IPv6"
        ),
        pytest.param({"image": {"url": "example.org/a/b:1"}}, [], id="image"),
        pytest.param({"image": {"url": "busybox"}}, [], id="image of the default registry"),
        pytest.param({"image": {"url": "library/busybox:1.36"}}, [], id="image below the default registry"),
        pytest.param({"image": {"url": "oci://example.org/a"}}, [], id="image with a scheme"),
        pytest.param(
            {"image": {"url": "$(image_repository)/a:$(workshop_version)"}}, [], id="filled in by the runtime"
        ),
        *(
            pytest.param({"http": {"url": f"https://{host}/a"}}, [], id=f"host of the platform: {host}")
            for host in (
                "$(assets_repository)",
                "$(oci_image_cache):5000",
                "files.$(workshop_namespace).svc.$(cluster_domain)",
                "data-$(session_name).$(ingress_domain)$(ingress_port_suffix)",
            )
        ),
        *(
            pytest.param({"http": {"url": f"http://{host}/a"}}, [("f.http.url", PLATFORM_HOST)], id=f"host {host}")
            for host in (
                "127.0.0$(training_portal).1",
                "169.254$(ingress_port_suffix).169.254",
                "127.$(workshop_version).1",
                "$(environment_name)",
                "$(training_portal)localhost",
                "127.0.0.1$($(training_portal)training_portal)",
                "$(base64(x))",
                "$(ingress_domain).example.org",
                "$(image_repository)example.org",
            )
        ),
        pytest.param(
            {"git": {"url": "git@127.0.0$(training_portal).1:a", "ref": "m"}},
            [("f.git.url", PLATFORM_HOST)],
            id="git over ssh, short, with a variable",
        ),
        pytest.param(
            {"image": {"url": "127.0.0$(training_portal).1/a"}},
            [("f.image.url", PLATFORM_HOST)],
            id="image with a variable",
        ),
        pytest.param({"path": "$(workshop_name)/a", "image": {"url": "a"}}, [], id="path with a variable"),
        *(
            pytest.param({"path": path, "image": {"url": "a"}}, [("f.path", said)], id=f"path {path}")
            for path, said in (
                (".$(training_portal)./.$(training_portal)./a", "must stay below its root: no '..'"),
                ("a/$(training_portal)../../b", "must stay below its root: no '..'"),
                (".$($(training_portal)training_portal).", "must stay below its root: no '..'"),
                ("$(training_portal)/etc", "must be relative"),
            )
        ),
        pytest.param(
            {"newRootPath": ".$(training_portal).", "includePaths": [".$(x)./**"], "image": {"url": "a"}},
            [
                ("f.newRootPath", "must stay below its root: no '..'"),
                ("f.includePaths[0]", "must stay below its root: no '..'"),
            ],
            id="variables in what is taken",
        ),
        pytest.param({"image": {"url": "docker-archive:///a"}}, [("f.image.url", IMAGE)], id="image from a file"),
        pytest.param({"image": {"url": "localhost:5000/a"}}, [("f.image.url", LOCAL)], id="image from this machine"),
        pytest.param(
            {"image": {"url": "localhost/a"}}, [("f.image.url", LOCAL)], id="image from this machine, no port"
        ),
        pytest.param({"image": {"url": "169.254.1.1/a"}}, [("f.image.url", LOCAL)], id="image from link-local"),
        pytest.param({"image": {"url": f"example.org/a@sha256:{'0' * 64}"}}, [], id="digest"),
        pytest.param({"image": {"url": "example.org/a@sha256:00"}}, [("f.image.url", DIGEST)], id="short digest"),
        pytest.param(
            {"image": {"url": "example.org/a@md5:00"}}, [("f.image.url", DIGEST)], id="digest of another kind"
        ),
        pytest.param(
            {"path": "../a", "http": {"url": "https://example.org"}},
            [("f.path", "must stay below its root: no '..'")],
            id="path leaves its root",
        ),
        pytest.param(
            {"path": "/etc", "http": {"url": "https://example.org"}}, [("f.path", "must be relative")], id="/etc"
        ),
        pytest.param({"path": "a..b", "http": {"url": "https://example.org"}}, [], id="dots within a name"),
        pytest.param(
            {"newRootPath": "a/../..", "http": {"url": "https://example.org"}},
            [("f.newRootPath", "must stay below its root: no '..'")],
            id="root leaves its root",
        ),
        pytest.param(
            {"includePaths": ["/a/**", "../**"], "excludePaths": ["..\\b"], "http": {"url": "https://example.org"}},
            [
                ("f.includePaths[1]", "must stay below its root: no '..'"),
                ("f.excludePaths[0]", "must stay below its root: no '..'"),
            ],
            id="globs leave their root",
        ),
        pytest.param(
            {"http": {"url": "https://example.org", "secretRef": {"name": "a", "namespace": "team"}}},
            [],
            id="own namespace",
        ),
        pytest.param(
            {"http": {"url": "https://example.org", "secretRef": {"name": "a", "namespace": "kube-system"}}},
            [("f.http.secretRef.namespace", "must be the claim's own namespace")],
            id="Secret of another namespace",
        ),
        pytest.param(
            {
                "git": {
                    "url": "https://example.org",
                    "ref": "main",
                    "verification": {"publicKeysSecretRef": {"name": "a", "namespace": "other"}},
                }
            },
            [("f.git.verification.publicKeysSecretRef.namespace", "must be the claim's own namespace")],
            id="keys of another namespace",
        ),
    ],
)
def test_source_errors(file: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors(**file) == expected


PIECES = [*"$()./x_", "$(", "$(x)", "environment_name", "$(workshop_name)"]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map("".join))
def test_what_is_left_of_a_path_does_not_depend_on_the_order(path: str) -> None:
    expected, before = path, ""
    while expected != before:
        before = expected
        expected = re.sub(r"\$\((\w+)\)", lambda name: "x" if name[1] in FILLED else "", before)
    assert bool(errors(includePaths=[path], image={"url": "a"})) is (".." in re.split(r"[/\\]", expected))


def test_nested_variables_take_no_longer_than_others() -> None:
    # Longer than a claim can have it, so that it would take many seconds and not many milliseconds.
    deep = f"{'$(a' * 20_000}{')' * 20_000}"
    file = File.model_validate({"image": {"url": "a"}}).model_copy(update={"include_paths": [deep]})
    began = time.process_time()
    assert list(source_errors(file, "f", "team", [])) == []
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        pytest.param("x", [], id="many"),
        pytest.param("é", ["f: Too long: may not be more than 256 KiB of JSON in all"], id="too many"),
    ],
)
def test_size_errors(letters: str, expected: list[str]) -> None:
    globs = {"includePaths": [letters * 1000] * 100, "image": {"url": "a"}}
    files = [File.model_validate(globs), File.model_validate(globs)]
    assert [str(error) for error in size_errors(files, "f")] == expected


def test_a_credential_is_not_repeated() -> None:
    (error,) = source_errors(File.model_validate({"http": {"url": "https://a:s3cret@example.org"}}), "f", "team", [])
    assert "s3cret" not in str(error)
