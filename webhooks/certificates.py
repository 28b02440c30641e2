"""Authority and serving certificate of the webhooks: issued, renewed, shared by replicas through a Secret.

A renewed authority is announced beside the old one before anything is signed with it, so that the API server trusts
every replica at every moment.
"""

import base64
import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from datalabd.api.meta import FIELD_MANAGER, MANAGED_BY, Manifest

CA_LIFETIME = datetime.timedelta(days=3650)
LIFETIME = datetime.timedelta(days=90)
CLOCK_SKEW = datetime.timedelta(minutes=5)
SECRET_KEYS = ("ca.crt", "ca.key", "tls.crt", "tls.key")


@dataclass(frozen=True)
class Bundle:
    """An authority and the certificate it signed, PEM. Its repr shows no key."""

    ca: bytes
    """Certificates to trust: the current authority first, then its predecessor if that may still be in use."""
    ca_key: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Bundle(expires={self.expires.isoformat()})"

    @property
    def expires(self) -> datetime.datetime:
        """When the serving certificate expires."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc

    def secret(self, namespace: str, name: str) -> Manifest:
        """The Secret that replicas share."""
        values = dict(zip(SECRET_KEYS, (self.ca, self.ca_key, self.certificate, self.key), strict=True))
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"namespace": namespace, "name": name, "labels": {MANAGED_BY: FIELD_MANAGER}},
            "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
        }

    @classmethod
    def from_secret(cls, secret: Manifest) -> Self:
        """The bundle in a Secret; ValueError if it holds none that is whole."""
        data = secret.get("data") or {}
        try:
            bundle = cls(*(base64.b64decode(data[key], validate=True) for key in SECRET_KEYS))
            ca, _ = _signer(bundle)
            leaf = x509.load_pem_x509_certificate(bundle.certificate)
            leaf.verify_directly_issued_by(ca)
            if serialization.load_pem_private_key(bundle.key, None).public_key() != leaf.public_key():
                raise ValueError("the key does not belong to the certificate")
        except (KeyError, TypeError, ValueError, InvalidSignature) as error:
            raise ValueError(f"the Secret holds no usable certificate: {error!r}") from error
        return bundle


def issue(hosts: Sequence[str], now: datetime.datetime) -> Bundle:
    """A new authority, and a certificate for these host names and addresses."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"datalabd webhook authority {now:%Y-%m-%d %H:%M:%S}")])
    ca = (
        _builder(name, ca_key.public_key(), now, CA_LIFETIME)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = ca.public_bytes(serialization.Encoding.PEM)
    return _leaf(pem, _pem(ca_key), hosts, now)


def renew(bundle: Bundle, hosts: Sequence[str], now: datetime.datetime) -> Bundle:
    """The bundle, or a newer one where a third or less of a lifetime is left, or the hosts have changed.

    A new authority brings the old one along: whoever still trusts only that one is told of both first.
    """
    ca, _ = _signer(bundle)
    if _is_due(ca, now):
        fresh = issue(hosts, now)
        both = with_predecessors(fresh.ca, split(ca.public_bytes(serialization.Encoding.PEM)), now)
        return Bundle(both, fresh.ca_key, fresh.certificate, fresh.key)
    leaf = x509.load_pem_x509_certificate(bundle.certificate)
    if _is_due(leaf, now) or _hosts_of(leaf) != set(hosts):
        return _leaf(_current(bundle.ca, now), bundle.ca_key, hosts, now)
    return bundle


def split(pem: bytes) -> frozenset[bytes]:
    """The certificates of a PEM text, each as DER; none where it is no such text."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return frozenset()
    return frozenset(certificate.public_bytes(serialization.Encoding.DER) for certificate in found)


def with_predecessors(pem: bytes, others: Iterable[bytes], now: datetime.datetime) -> bytes:
    """A PEM text of authorities with `others`, DER, after them: those that are valid at `now` and not there yet."""
    more = (x509.load_der_x509_certificate(other) for other in sorted(set(others) - split(pem)))
    return b"".join(
        [pem]
        + [
            certificate.public_bytes(serialization.Encoding.PEM)
            for certificate in more
            if certificate.not_valid_after_utc > now
        ]
    )


def load(context: ssl.SSLContext, bundle: Bundle) -> None:
    """Serve this certificate from now on; connections that are open keep theirs."""
    with tempfile.TemporaryDirectory(prefix="datalabd-") as directory:
        path = Path(directory, "tls.pem")
        path.touch(mode=0o600)
        path.write_bytes(bundle.key + bundle.certificate)
        context.load_cert_chain(path)


def server_context() -> ssl.SSLContext:
    """A TLS context for the webhook port: TLS 1.2 or later, no certificate yet."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _leaf(ca_pem: bytes, ca_key_pem: bytes, hosts: Sequence[str], now: datetime.datetime) -> Bundle:
    ca = x509.load_pem_x509_certificate(ca_pem)
    signer = serialization.load_pem_private_key(ca_key_pem, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "datalabd webhook")]), key.public_key(), now, LIFETIME
        )
        .issuer_name(ca.subject)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Bundle(ca_pem, ca_key_pem, certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether two thirds of its lifetime are over."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


def _signer(bundle: Bundle) -> tuple[x509.Certificate, bytes]:
    """The current authority; ValueError if key and certificate do not belong together."""
    ca = x509.load_pem_x509_certificates(bundle.ca)[0]
    key = serialization.load_pem_private_key(bundle.ca_key, None)
    if key.public_key() != ca.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    return ca, bundle.ca_key


def _current(ca: bytes, now: datetime.datetime) -> bytes:
    """The authorities that are still valid, the current one first."""
    return b"".join(
        certificate.public_bytes(serialization.Encoding.PEM)
        for certificate in x509.load_pem_x509_certificates(ca)
        if certificate.not_valid_after_utc > now
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
