"""The certificate that the webhook port shows: where it comes from, when it is renewed, and when it is served.

A new authority is served only once every registration names it beside the old one: who registers is told first, and
says when that is so. Replicas share theirs through a Secret, which each of them watches: one that is gone or broken is
stored again from memory, so that nobody has to learn of a new authority for it.
"""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from datalabd import metrics
from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, KubeError, NotFound, StartupError
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.kube.informers import Informers
from datalabd.kube.store import Scope
from webhooks import certificates
from webhooks.certificates import Bundle

log = structlog.get_logger()

CERTIFICATE_SECRET = "datalabd-serving-cert"
CHECK_SECONDS = 3600.0
"""How often it is asked whether a renewal is due."""
MOUNTED_CHECK_SECONDS = 60.0
"""How often mounted files are read: the kubelet needs about as long to change them."""
RETRY_SECONDS = 10.0
ATTEMPTS = 5
"""At storing the Secret, before a conflict is an error like any other."""


class Source(Protocol):
    """Where the bundle comes from."""

    check_seconds: float

    async def current(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        """The bundle that is due at `now`, `known` being the last one; renewed and stored if need be."""


class Mounted:
    """Files that somebody else renews, as cert-manager does."""

    check_seconds = MOUNTED_CHECK_SECONDS

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    async def current(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        """What the files hold; `StartupError` if that cannot be read."""
        try:
            ca, certificate, key = ((self._directory / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        except OSError as error:
            raise StartupError(f"no usable certificate in {self._directory}: {error}") from error
        return Bundle(ca, b"", certificate, key)


class Own:
    """An authority of this process alone."""

    check_seconds = CHECK_SECONDS

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    async def current(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        """A new bundle, or `known`, renewed if that is due."""
        return certificates.renew(known, self._hosts, now) if known else certificates.issue(self._hosts, now)


class Shared:
    """The Secret that replicas share; whoever comes first issues and renews. Any replica may write it."""

    check_seconds = CHECK_SECONDS

    def __init__(self, client: Client, namespace: str, hosts: Sequence[str]) -> None:
        self._client = client
        self._namespace = namespace
        self._hosts = hosts

    async def current(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        """The Secret's bundle; where that is gone or broken, `known`, stored again; renewed if that is due."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(Conflict):  # another replica was faster: look again
                return await self._attempt(known, now)
        return await self._attempt(known, now)

    async def _attempt(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        try:
            secret: Manifest | None = await self._client.get(kinds.SECRETS, self._namespace, CERTIFICATE_SECRET)
        except NotFound:
            secret = None
        stored = _bundle_of(secret)
        base = stored or known
        due = certificates.renew(base, self._hosts, now) if base else certificates.issue(self._hosts, now)
        if due != stored:
            await self._store(due, secret)
            log.info("serving certificate stored", renewed=due != base, missing=secret is None)
        return due

    async def _store(self, bundle: Bundle, over: Manifest | None) -> None:
        body = bundle.secret(self._namespace, CERTIFICATE_SECRET)
        if over is not None:
            body["metadata"]["resourceVersion"] = over["metadata"]["resourceVersion"]
            await self._client.patch(kinds.SECRETS, self._namespace, CERTIFICATE_SECRET, body)
            return
        try:
            await self._client.create(kinds.SECRETS, body)
        except NotFound as error:
            raise StartupError(
                f"namespace {self._namespace} does not exist; create it, or set DATALABD_NAMESPACE"
            ) from error


def _bundle_of(secret: Manifest | None) -> Bundle | None:
    """What a Secret holds, None if that is nothing of use."""
    if secret is None:
        return None
    try:
        return Bundle.from_secret(secret)
    except ValueError as error:
        log.warning("the Secret of the serving certificate is broken", error=str(error))
        return None


class ServingCertificate:
    """What is shown to new connections, and what is to be shown once it is registered."""

    def __init__(self, source: Source) -> None:
        self.context = certificates.server_context()
        """For the webhook port."""
        self._source = source
        self._newest: Bundle | None = None
        self._served: Bundle | None = None
        self._listeners: list[Callable[[], None]] = []
        self._look_again = asyncio.Event()

    @property
    def authorities(self) -> bytes:
        """The authorities, PEM, that registrations have to name: those of what is, or is about to be, served."""
        assert self._newest is not None, "asked for before it was loaded"
        return self._newest.ca

    @property
    def is_waiting(self) -> bool:
        """Whether a certificate waits for its authorities to be registered."""
        return self._served != self._newest

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` when there are other authorities to register."""
        self._listeners.append(listener)

    def watch(self, informers: Informers, namespace: str) -> None:
        """Look again whenever the Secret of this namespace changes or goes."""
        informers.store(kinds.SECRETS).subscribe(self._secret_changed)
        informers.watch(kinds.SECRETS, Scope(namespace, field_selector=f"metadata.name={CERTIFICATE_SECRET}"))

    def _secret_changed(self, secret: Manifest) -> None:
        if secret["metadata"]["name"] == CERTIFICATE_SECRET:
            self._look_again.set()

    async def load(self) -> None:
        """Get the first certificate, and serve it at once: nobody has seen another. Raises `StartupError`."""
        try:
            self._newest = await self._source.current(None, _now())
            self.serve()
        except (KubeError, ValueError, ssl.SSLError) as error:
            raise StartupError(f"no serving certificate: {error}") from error

    async def keep(self) -> None:
        """Renew in time, and follow the Secret, until cancelled."""
        pause = self._source.check_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look_again.wait()
            self._look_again.clear()
            pause = self._source.check_seconds
            try:
                self._adopt(await self._source.current(self._newest, _now()))
            except (KubeError, StartupError, ValueError, ssl.SSLError) as error:
                log.warning("certificate not renewed", error=str(error))
                pause = min(pause, RETRY_SECONDS)

    def _adopt(self, bundle: Bundle) -> None:
        """Make it the newest; serve it at once where that asks nobody to trust another authority."""
        if bundle == self._newest:
            return
        certificates.load(certificates.server_context(), bundle)  # one that is broken is not announced
        self._newest = bundle
        assert self._served is not None, "kept before it was loaded"
        if certificates.split(bundle.ca) <= certificates.split(self._served.ca):
            self.serve()
        for listener in self._listeners:
            listener()

    def serve(self) -> None:
        """Show the newest from the next connection on."""
        assert self._newest is not None, "served before it was loaded"
        certificates.load(self.context, self._newest)
        self._served = self._newest
        metrics.CERTIFICATE_EXPIRY.set(self._newest.expires.timestamp())
        log.info("serving certificate loaded", expires=self._newest.expires.isoformat())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
