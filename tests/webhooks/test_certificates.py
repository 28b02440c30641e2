import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from webhooks import certificates
from webhooks.certificates import CA_LIFETIME, CLOCK_SKEW, LIFETIME, Bundle, issue, renew

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
HOSTS = ["datalabd.datalabd.svc", "127.0.0.1"]
LEAF_DUE = (LIFETIME + CLOCK_SKEW) * 2 / 3 - CLOCK_SKEW
CA_DUE = (CA_LIFETIME + CLOCK_SKEW) * 2 / 3 - CLOCK_SKEW
SECOND = datetime.timedelta(seconds=1)


def leaf(bundle: Bundle) -> x509.Certificate:
    return x509.load_pem_x509_certificate(bundle.certificate)


def authorities(bundle: Bundle) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(bundle.ca)


# --- issue ------------------------------------------------------------------------------------------------------------


def test_a_certificate_is_signed_by_its_authority() -> None:
    bundle = issue(HOSTS, NOW)
    (ca,) = authorities(bundle)
    leaf(bundle).verify_directly_issued_by(ca)


def test_a_certificate_names_hosts_and_addresses() -> None:
    names = leaf(issue(HOSTS, NOW)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["datalabd.datalabd.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


def test_a_certificate_is_for_servers_only() -> None:
    extensions = leaf(issue(HOSTS, NOW)).extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_an_authority_signs_no_other_authority() -> None:
    (ca,) = authorities(issue(HOSTS, NOW))
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_lifetimes() -> None:
    bundle = issue(HOSTS, NOW)
    (ca,) = authorities(bundle)
    assert (leaf(bundle).not_valid_before_utc, bundle.expires) == (NOW - CLOCK_SKEW, NOW + LIFETIME)
    assert (ca.not_valid_before_utc, ca.not_valid_after_utc) == (NOW - CLOCK_SKEW, NOW + CA_LIFETIME)


def test_two_are_never_alike() -> None:
    one, other = issue(HOSTS, NOW), issue(HOSTS, NOW)
    assert (one.key, one.ca_key) != (other.key, other.ca_key)
    assert leaf(one).serial_number != leaf(other).serial_number


# --- renew ------------------------------------------------------------------------------------------------------------


def test_a_young_certificate_is_kept() -> None:
    bundle = issue(HOSTS, NOW)
    assert renew(bundle, HOSTS, NOW + LEAF_DUE - SECOND) is bundle


def test_the_order_of_hosts_does_not_matter() -> None:
    bundle = issue(HOSTS, NOW)
    assert renew(bundle, HOSTS[::-1], NOW) is bundle


def test_a_certificate_is_renewed_by_the_same_authority() -> None:
    bundle = issue(HOSTS, NOW)
    renewed = renew(bundle, HOSTS, NOW + LEAF_DUE)
    assert (renewed.ca, renewed.ca_key) == (bundle.ca, bundle.ca_key)
    assert renewed.key != bundle.key
    assert renewed.expires == NOW + LEAF_DUE + LIFETIME


def test_an_expired_certificate_is_renewed() -> None:
    late = NOW + LIFETIME * 2
    assert renew(issue(HOSTS, NOW), HOSTS, late).expires == late + LIFETIME


@pytest.mark.parametrize("hosts", [["other.svc"], [*HOSTS, "::1"], HOSTS[:1]])
def test_other_hosts_are_a_new_certificate(hosts: list[str]) -> None:
    bundle = issue(HOSTS, NOW)
    renewed = renew(bundle, hosts, NOW)
    assert renewed.ca == bundle.ca
    assert renewed.certificate != bundle.certificate
    assert renew(renewed, hosts, NOW) is renewed


def test_an_authority_is_kept_until_two_thirds_of_its_life() -> None:
    bundle = issue(HOSTS, NOW)
    assert renew(bundle, HOSTS, NOW + CA_DUE - SECOND).ca == bundle.ca


def test_a_new_authority_brings_the_old_one_along() -> None:
    bundle = issue(HOSTS, NOW)
    renewed = renew(bundle, HOSTS, NOW + CA_DUE)
    new, old = authorities(renewed)
    assert [old] == authorities(bundle)
    leaf(renewed).verify_directly_issued_by(new)
    assert renew(renewed, HOSTS, NOW + CA_DUE) is renewed


def test_the_old_authority_stays_while_it_is_valid() -> None:
    renewed = renew(issue(HOSTS, NOW), HOSTS, NOW + CA_DUE)
    before, after = NOW + CA_LIFETIME - SECOND, NOW + CA_LIFETIME
    assert len(authorities(renew(renewed, HOSTS, before))) == 2
    assert len(authorities(renew(renewed, HOSTS, after))) == 1


def test_at_most_two_authorities_are_trusted() -> None:
    bundle = issue(HOSTS, NOW)
    for year in range(1, 60):
        bundle = renew(bundle, HOSTS, NOW + datetime.timedelta(days=365) * year)
        assert len(authorities(bundle)) <= 2


# --- Secret -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotated", [False, True])
def test_a_bundle_survives_its_secret(rotated: bool) -> None:
    bundle = renew(issue(HOSTS, NOW), HOSTS, NOW + CA_DUE) if rotated else issue(HOSTS, NOW)
    assert Bundle.from_secret(bundle.secret("datalabd", "cert")) == bundle


def test_the_secret() -> None:
    secret = issue(HOSTS, NOW).secret("datalabd", "cert")
    assert secret["metadata"] == {
        "namespace": "datalabd",
        "name": "cert",
        "labels": {"app.kubernetes.io/managed-by": "datalabd"},
    }
    assert set(secret["data"]) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}


@pytest.mark.parametrize("key", certificates.SECRET_KEYS)
@pytest.mark.parametrize("value", ["", "bm90IFBFTQ==", "no base64!", None])
def test_a_damaged_secret_is_no_bundle(key: str, value: str | None) -> None:
    secret = issue(HOSTS, NOW).secret("datalabd", "cert")
    if value is None:
        del secret["data"][key]
    else:
        secret["data"][key] = value
    with pytest.raises(ValueError, match="no usable certificate"):
        Bundle.from_secret(secret)


@pytest.mark.parametrize("key", certificates.SECRET_KEYS)
def test_a_part_of_another_bundle_makes_none(key: str) -> None:
    secret = issue(HOSTS, NOW).secret("datalabd", "cert")
    secret["data"][key] = issue(HOSTS, NOW).secret("datalabd", "cert")["data"][key]
    with pytest.raises(ValueError, match="no usable certificate"):
        Bundle.from_secret(secret)


def test_an_encrypted_key_makes_none() -> None:
    bundle = issue(HOSTS, NOW)
    key = serialization.load_pem_private_key(bundle.ca_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"a")
    )
    secret = Bundle(bundle.ca, encrypted, bundle.certificate, bundle.key).secret("datalabd", "cert")
    with pytest.raises(ValueError, match="no usable certificate"):
        Bundle.from_secret(secret)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {}}])
def test_an_empty_secret_is_no_bundle(data: dict[str, None]) -> None:
    with pytest.raises(ValueError, match="no usable certificate"):
        Bundle.from_secret(dict(data))


def test_repr_shows_no_key() -> None:
    assert repr(issue(HOSTS, NOW)) == "Bundle(expires=2026-05-30T12:00:00+00:00)"


# --- TLS --------------------------------------------------------------------------------------------------------------


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that completes handshakes and hangs up, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(1, socket.MSG_PEEK) == b"q":
                        return
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except (ssl.SSLError, ConnectionError):
                        continue  # the client did not like what it saw

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        with socket.create_connection(("127.0.0.1", port)) as quitting:
            quitting.sendall(b"q")
        thread.join()


def handshake(port: int, ca: bytes, host: str = "127.0.0.1", **limits: ssl.TLSVersion) -> int:
    """Serial number of the certificate that a client trusting `ca` accepts."""
    context = ssl.create_default_context(cadata=ca.decode())
    for name, version in limits.items():
        setattr(context, name, version)
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection, server_hostname=host) as tls,
    ):
        der = tls.getpeercert(True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_accepts_the_certificate(host: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    bundle, context = issue(HOSTS, now), certificates.server_context()
    certificates.load(context, bundle)
    with serving(context) as port:
        assert handshake(port, bundle.ca, host) == leaf(bundle).serial_number


def test_a_client_refuses_another_host() -> None:
    bundle, context = issue(HOSTS, datetime.datetime.now(datetime.UTC)), certificates.server_context()
    certificates.load(context, bundle)
    with serving(context) as port, pytest.raises(ssl.SSLCertVerificationError):
        handshake(port, bundle.ca, "datalabd.elsewhere.svc")


def test_a_loaded_certificate_is_served_without_a_restart() -> None:
    now = datetime.datetime.now(datetime.UTC)
    old = issue(HOSTS, now - CA_DUE)
    young = renew(old, HOSTS, now - datetime.timedelta(days=1))
    new = renew(young, HOSTS, now)
    context = certificates.server_context()
    certificates.load(context, young)
    with serving(context) as port:
        assert handshake(port, young.ca) == leaf(young).serial_number
        # Told of both before the new one is served: it trusts what is served before and after.
        assert handshake(port, new.ca) == leaf(young).serial_number
        certificates.load(context, new)
        assert handshake(port, new.ca) == leaf(new).serial_number
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(port, young.ca)


def test_old_tls_is_refused() -> None:
    bundle, context = issue(HOSTS, datetime.datetime.now(datetime.UTC)), certificates.server_context()
    certificates.load(context, bundle)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with serving(context) as port:
        assert handshake(port, bundle.ca, maximum_version=ssl.TLSVersion.TLSv1_2)


def test_loading_leaves_no_key_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    certificates.load(certificates.server_context(), issue(HOSTS, NOW))
    assert list(directory.iterdir()) == []
