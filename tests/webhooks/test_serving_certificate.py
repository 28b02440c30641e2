"""Sources of the serving certificate that need no cluster; the shared one is tested with the registrar."""

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest

from datalabd.errors import StartupError
from hack.deadlines import scaled
from webhooks import certificates
from webhooks.certificates import Bundle
from webhooks.serving_certificate import Mounted, Own, ServingCertificate

NOW = datetime.datetime.now(datetime.UTC)
HOSTS = ["127.0.0.1"]


def mount(directory: Path, bundle: Bundle) -> None:
    """Files as cert-manager mounts them."""
    for name, pem in (("ca.crt", bundle.ca), ("tls.crt", bundle.certificate), ("tls.key", bundle.key)):
        (directory / name).write_bytes(pem)


class Quick(Mounted):
    """Read all the time."""

    check_seconds = 0.01


async def until_registered(certificate: ServingCertificate) -> None:
    """Return once there are other authorities to register."""
    heard = asyncio.Event()
    certificate.subscribe(heard.set)
    await asyncio.wait_for(heard.wait(), scaled(10))


async def test_a_mounted_authority_waits_to_be_registered(tmp_path: Path) -> None:
    first, second = certificates.issue(HOSTS, NOW), certificates.issue(HOSTS, NOW)
    mount(tmp_path, first)
    certificate = ServingCertificate(Quick(str(tmp_path)))
    await certificate.load()
    assert (certificate.authorities, certificate.is_waiting) == (first.ca, False)
    keeping = asyncio.create_task(certificate.keep())
    mount(tmp_path, second)
    await until_registered(certificate)
    assert (certificate.authorities, certificate.is_waiting) == (second.ca, True)
    certificate.serve()
    assert not certificate.is_waiting
    keeping.cancel()


async def test_a_mounted_certificate_of_the_same_authority_is_served_at_once(tmp_path: Path) -> None:
    first = certificates.issue(HOSTS, NOW)
    second = certificates.renew(first, HOSTS, NOW + datetime.timedelta(days=61))
    assert second.certificate != first.certificate
    mount(tmp_path, first)
    certificate = ServingCertificate(Quick(str(tmp_path)))
    await certificate.load()
    keeping = asyncio.create_task(certificate.keep())
    mount(tmp_path, second)
    await until_registered(certificate)
    assert not certificate.is_waiting
    keeping.cancel()


@pytest.mark.parametrize("name", ["tls.crt", "tls.key"])
async def test_mounted_files_that_are_broken_are_not_announced(tmp_path: Path, name: str) -> None:
    """As while they are being changed, one by one."""
    first = certificates.issue(HOSTS, NOW)
    mount(tmp_path, first)
    certificate = ServingCertificate(Quick(str(tmp_path)))
    await certificate.load()
    keeping = asyncio.create_task(certificate.keep())
    mount(tmp_path, certificates.issue(HOSTS, NOW))
    (tmp_path / name).write_text("nonsense")
    await asyncio.sleep(0.1)
    assert (certificate.authorities, certificate.is_waiting) == (first.ca, False)
    keeping.cancel()


@pytest.mark.parametrize("harm", ["missing", "broken"])
async def test_nothing_starts_with_mounted_files_of_no_use(tmp_path: Path, harm: str) -> None:
    mount(tmp_path, certificates.issue(HOSTS, NOW))
    if harm == "missing":
        (tmp_path / "ca.crt").unlink()
    else:
        (tmp_path / "tls.key").write_text("nonsense")
    with pytest.raises(StartupError):
        await ServingCertificate(Mounted(str(tmp_path))).load()


async def test_an_authority_of_our_own_is_renewed_when_due() -> None:
    source = Own(HOSTS)
    first = await source.current(None, NOW)
    assert await source.current(first, NOW) == first
    later = await source.current(first, NOW + datetime.timedelta(days=61))
    assert (later.ca, later.certificate != first.certificate) == (first.ca, True)


async def test_a_loaded_certificate_is_shown() -> None:
    certificate = ServingCertificate(Own(HOSTS))
    await certificate.load()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.context)
    trust = ssl.create_default_context(cadata=certificate.authorities.decode())
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trust)
        writer.close()
        await writer.wait_closed()
