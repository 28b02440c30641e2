"""Keeps what the API server is told of us: CRDs with their conversion, webhooks, policies.

One replica writes it, the holder of the lease. All of them read it, to know whether the authority of a new certificate
is named everywhere, so that the certificate can be served.

What somebody else changes is put right at once, and not fought over: each further time within a while waits longer.
What others may add stays, such as the namespaces that a provider takes out of a webhook.
"""

import asyncio
import base64
import contextlib
import datetime
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog

from datalabd import metrics
from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, KubeError, NotFound, NotLeading
from datalabd.kube import resources as kinds
from datalabd.kube.apply import agrees as covers
from datalabd.kube.cache import ENVIRONMENTS, Cache
from datalabd.kube.client import Client
from datalabd.kube.reflector import backoff
from datalabd.kube.resources import Resource, resource_of
from datalabd.kube.store import Scope
from webhooks import certificates, ingress_policies
from webhooks.registration import (
    CLAIMS,
    INGRESSES,
    Endpoint,
    abandonment,
    agrees,
    claim_webhooks,
    data_protection,
    ingress_webhooks,
    merged,
    protection,
    rights_protection,
)
from webhooks.serving_certificate import ServingCertificate

log = structlog.get_logger()

OURS = Scope(label_selector="app.kubernetes.io/name=datalabd")
WEBHOOKS = (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS)
WATCHED = (*WEBHOOKS, kinds.ADMISSION_POLICIES, kinds.ADMISSION_POLICY_BINDINGS)
OVERLAP_SECONDS = 600.0
"""How long an authority that is not ours any more stays registered: another replica may still serve what it signed."""
RETRY_SECONDS = 30.0
"""The longest pause after an error of the API server."""
FIGHT_SECONDS = 60.0
"""The longest pause before what somebody keeps changing is put right again: some of it closes access."""
QUIET_SECONDS = 600.0
"""After as long without a change, the next is put right at once again."""

Key = tuple[Resource, str]


class Pauses:
    """When what was changed may be put right: at once, and the next time within a while later and later."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mended: dict[Key, tuple[int, float]] = {}
        """How often in a row, and when last."""

    def left(self, key: Key) -> float:
        """Seconds to wait; 0 or less for none."""
        count, last = self._of(key)
        return last + min(FIGHT_SECONDS, 2.0 ** (count - 1)) - self._clock() if count else 0.0

    def mended(self, key: Key) -> None:
        """It was put right now."""
        self._mended[key] = (self._of(key)[0] + 1, self._clock())

    def _of(self, key: Key) -> tuple[int, float]:
        count, last = self._mended.get(key, (0, 0.0))
        return (0, 0.0) if self._clock() - last > QUIET_SECONDS else (count, last)


class Registrar:
    """Of one replica. `follow` runs in each, `keep` in the one that leads."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        account: str,
        certificate: ServingCertificate,
        endpoint: Callable[[bytes], Endpoint],
    ) -> None:
        self._client = client
        """Fenced: of what is written here, all is the leader's."""
        self._cache = cache
        self._account = account
        self._certificate = certificate
        self._endpoint = endpoint
        """Where we answer, given the authorities to trust."""
        self._to_keep = asyncio.Event()
        self._to_follow = asyncio.Event()
        self.was_trusted = False
        """Whether every registration has named our authorities, at some moment since the start."""
        self.began = False
        """Whether there may be registrations of this process."""
        self.registered = asyncio.Event()
        """Set once everything stands, since we lead."""
        self._settled: dict[Key, str] = {}
        """What was found or put right, as a digest of how we want it: who differs then was changed by somebody."""
        self._accepted: dict[Key, str] = {}
        """Digests of what the API server made of what we wrote, where that is something else."""
        self._pauses = Pauses(lambda: asyncio.get_running_loop().time())
        self._conversions: dict[str, tuple[str, Manifest | None]] = {}
        """The conversion of a CRD, by name, and the version of the CRD in which it was read."""
        self._authorities = b""
        self._others: frozenset[bytes] = frozenset()
        """Authorities besides ours that stay registered for a while."""
        self._others_until = 0.0
        self._definitions: list[Manifest] = []
        """The CRDs, made once."""

    def watch(self) -> None:
        """Hear of every change that matters here."""
        informers = self._cache.informers
        for kind in WATCHED:
            informers.store(kind).subscribe(lambda _: self._changed())
            informers.watch(kind, OURS)
        ours = {kinds.DATALABS.crd, kinds.ENVIRONMENT_CONFIGS.crd}
        informers.store(kinds.CRDS).subscribe(lambda crd: self._changed() if crd["metadata"]["name"] in ours else None)
        for kind in ENVIRONMENTS:
            informers.store(kind).subscribe(lambda _: self._to_keep.set())
        for kind in (*ENVIRONMENTS, kinds.DATALABS, *WATCHED):
            informers.store(kind).subscribe_synced(lambda _: self._changed())
        informers.subscribe(self._to_keep.set)
        self._certificate.subscribe(self._changed)

    def _changed(self) -> None:
        self._to_keep.set()
        self._to_follow.set()

    # --- every replica ------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Have a new certificate served as soon as every registration names its authorities, until cancelled."""
        while True:
            self._to_follow.clear()
            try:
                if await self._names(certificates.split(self._certificate.authorities)):
                    self.was_trusted = True
                    if self._certificate.is_waiting:
                        self._certificate.serve()
            except KubeError as error:
                log.info("registrations not read", error=str(error))
                await asyncio.sleep(backoff(1))
                self._to_follow.set()
            await self._to_follow.wait()

    async def _names(self, authorities: frozenset[bytes]) -> bool:
        """Whether every registration is answered where we answer, and names all of these authorities."""
        configs = [config async for config in self._client_configs()]
        here = self._place(self._endpoint(b"").client_config("/"))
        return bool(configs) and all(
            self._place(config) == here and authorities <= _authorities_of(config) for config in configs
        )

    async def _client_configs(self) -> AsyncIterator[Manifest]:
        """The `clientConfig` of each registration that is there, a conversion's too."""
        for kind in WEBHOOKS:
            for name in (CLAIMS, INGRESSES):
                live = self._cache.informers.store(kind).get("", name)
                for webhook in (live or {}).get("webhooks") or ():
                    yield webhook.get("clientConfig") or {}
        if (conversion := await self._conversion(kinds.DATALABS.crd)) is not None:
            yield (conversion.get("webhook") or {}).get("clientConfig") or {}

    @staticmethod
    def _place(config: Manifest) -> tuple[str, ...]:
        """Where a registration is answered, without the path."""
        if service := config.get("service"):
            return str(service.get("namespace")), str(service.get("name"))
        return tuple(str(config.get("url", "")).split("/", 3)[:3])

    async def _conversion(self, name: str) -> Manifest | None:
        """How a CRD converts; None if it does not, or is not there. Read again when the CRD has changed."""
        known = self._cache.informers.store(kinds.CRDS).get("", name)
        version = known["metadata"]["resourceVersion"] if known is not None else ""
        if not version or self._conversions.get(name, ("",))[0] != version:
            try:
                live = await self._client.get(kinds.CRDS, "", name)
            except NotFound:
                return None
            self._remember(live)
        return self._conversions[name][1]

    def _remember(self, crd: Manifest) -> None:
        conversion = crd["spec"].get("conversion") or {}
        is_webhook = conversion.get("strategy") == "Webhook"
        self._conversions[crd["metadata"]["name"]] = (
            crd["metadata"]["resourceVersion"],
            conversion if is_webhook else None,
        )

    # --- who leads ----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Register everything, and keep it, until cancelled. Errors of the API server are waited out."""
        self.registered.clear()
        self._settled.clear()
        self._authorities = b""
        while not all(self._cache.informers.synced(kind, OURS) for kind in WATCHED):
            self._to_keep.clear()
            await self._to_keep.wait()
        # In a thread, as it takes long enough to delay an admission.
        self._definitions = self._definitions or await asyncio.to_thread(custom_resource_definitions)
        failures = 0
        while True:
            self._to_keep.clear()
            pause = await self._pass()
            if pause is None:
                failures += 1
                await asyncio.sleep(backoff(failures, RETRY_SECONDS))
                continue
            failures = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._to_keep.wait()

    async def _pass(self) -> float | None:
        """Compare everything with what it should be, and write what differs.

        Returns seconds after which to do so again if nothing is heard, None if something could not be written.
        """
        self.began = True
        self._choose_authorities()
        failed, pauses = False, [3600.0, self._others_until - self._now] if self._others else [3600.0]
        for manifest in self._desired():
            try:
                pauses.append(await self._ensure(manifest))
            except NotLeading:
                return None
            except KubeError as error:
                log.warning("not registered", **_names_of(manifest), error=str(error))
                failed = True
        if failed:
            return None
        self.registered.set()
        return max(0.1, min(pause for pause in pauses if pause > 0))

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _choose_authorities(self) -> None:
        """Keep registered, beside a new authority, what was registered before, for as long as it may be served."""
        ours = self._certificate.authorities
        if ours != self._authorities:
            before = certificates.split(self._authorities)
            for kind in WEBHOOKS:
                for name in (CLAIMS, INGRESSES):
                    live = self._cache.informers.store(kind).get("", name)
                    for webhook in (live or {}).get("webhooks") or ():
                        before |= _authorities_of(webhook.get("clientConfig") or {})
            self._authorities = ours
            self._others = before - certificates.split(ours)
            self._others_until = self._now + OVERLAP_SECONDS
        elif self._others and self._now >= self._others_until:
            self._others = frozenset()

    def _desired(self) -> Iterator[Manifest]:
        """Everything that is registered, in order of writing."""
        authorities = certificates.with_predecessors(
            self._authorities, self._others, datetime.datetime.now(datetime.UTC)
        )
        endpoint = self._endpoint(authorities)
        yield from self._crds(endpoint.client_config("/convert"))
        yield from claim_webhooks(endpoint)
        yield from protection()
        yield from abandonment()
        yield from rights_protection()
        yield from data_protection(self._account)
        yield from ingress_policies.session_ingresses(self._account)
        yield from ingress_policies.protecting_objects(self._account)
        yield from ingress_policies.lab_secrets(self._account)
        yield from ingress_policies.session_backends()
        if self._knows_environments():
            domains, hosts = sorted(set(self._cache.domains().values())), sorted(self._cache.platform_hosts())
            yield from ingress_webhooks(endpoint, domains)
            yield from ingress_policies.platform_hosts(domains, hosts)
        else:
            yield from self._guards(endpoint)

    def _guards(self, endpoint: Endpoint) -> Iterator[Manifest]:
        """The webhooks for routes as they are, answered at this endpoint.

        They have to name a new authority before it is served, also while it is not known what is to be guarded: that
        may be so until it is served.
        """
        for kind in WEBHOOKS:
            live = self._cache.informers.store(kind).get("", INGRESSES)
            if live is not None:
                webhooks = [
                    webhook | {"clientConfig": endpoint.client_config(_path_of(webhook.get("clientConfig") or {}))}
                    for webhook in live.get("webhooks") or ()
                ]
                yield {
                    "apiVersion": kind.api_version,
                    "kind": kind.kind,
                    "metadata": {"name": INGRESSES},
                    "webhooks": webhooks,
                }

    def _crds(self, config: Manifest) -> Iterator[Manifest]:
        """The CRDs, with this `clientConfig` for the conversion."""
        for definition in self._definitions:
            spec = definition["spec"]
            if conversion := spec.get("conversion"):
                webhook = conversion["webhook"] | {"clientConfig": config}
                spec = spec | {"conversion": conversion | {"webhook": webhook}}
            yield definition | {"spec": spec}

    def _knows_environments(self) -> bool:
        """Whether it is known what is to be guarded: who knows half of it would take the guard off the other half."""
        informers = self._cache.informers
        # Our own kinds are served by now: one that seems not to be is away for a moment.
        own = informers.synced(kinds.DATALABS) and informers.synced(kinds.ENVIRONMENT_CONFIGS)
        crossplane = kinds.CROSSPLANE_ENVIRONMENTS
        return own and (informers.synced(crossplane) or not informers.served(crossplane))

    async def _ensure(self, manifest: Manifest) -> float:
        """Make an object what it should be; returns seconds until that is due, 0 if it is done."""
        resource, name = resource_of(manifest), manifest["metadata"]["name"]
        key, digest = (resource, name), _digest(manifest)
        if await self._is_right(manifest):
            self._settled[key] = digest
            return 0.0
        was_changed = self._settled.get(key) == digest
        if was_changed and (left := self._pauses.left(key)) > 0:
            return left
        try:
            live, after = await self._write(manifest)
        except Conflict:  # the API server itself writes the status of a policy, a moment after we did
            live, after = await self._write(manifest)
        self._note(after or live or {}, manifest)
        self._settled[key] = digest
        if was_changed and after is not None:
            self._pauses.mended(key)
            metrics.REGISTRATIONS_MENDED.labels(kind=manifest["kind"], name=name).inc()
            log.warning("registration mended", **_names_of(manifest), changed_by=_last_manager(live))
        return 0.0

    async def _write(self, manifest: Manifest) -> tuple[Manifest | None, Manifest | None]:
        """The object before, and after it was made what it should be; None where there was none, or nothing to do."""
        resource, name = resource_of(manifest), manifest["metadata"]["name"]
        try:
            live = await self._client.get(resource, "", name)
        except NotFound:
            # Created by apply: that right can be granted by name, a POST's cannot.
            return None, await self._client.apply(resource, manifest)
        # Replaced, not applied: where a URL was a Service is to be, and an apply would keep both.
        target = self._target(live, manifest)
        return live, None if target is None else await self._client.replace(resource, target)

    async def _is_right(self, manifest: Manifest) -> bool:
        """Whether an object is what it should be, as far as is known."""
        resource, name = resource_of(manifest), manifest["metadata"]["name"]
        known = self._cache.informers.store(resource).get("", name)
        if resource != kinds.CRDS:
            return known is not None and self._is_equal(known, manifest)
        if known is None or (resource, name) not in self._settled:
            return False
        return covers({"is": await self._conversion(name)}, {"is": manifest["spec"].get("conversion")})

    def _target(self, live: Manifest, manifest: Manifest) -> Manifest | None:
        """What to write over a live object; None if it is what it should be."""
        if resource_of(manifest) != kinds.CRDS:
            return None if self._is_equal(live, manifest) else merged(live, manifest)
        if (kinds.CRDS, manifest["metadata"]["name"]) not in self._settled:
            return None if covers(live, manifest) else merged(live, manifest)
        # Once we lead, the schema is left to who applies the manifests of a version that is about to follow this one.
        conversion = {"conversion": manifest["spec"].get("conversion")}
        return None if covers(live["spec"], conversion) else live | {"spec": live["spec"] | conversion}

    def _is_equal(self, live: Manifest, manifest: Manifest) -> bool:
        accepted = self._accepted.get((resource_of(manifest), manifest["metadata"]["name"]))
        return agrees(live, manifest) or accepted == _digest([manifest, _content(live)])

    def _note(self, after: Manifest, manifest: Manifest) -> None:
        """Take the answer to a write at once, and for what it was to be."""
        resource, name = resource_of(manifest), manifest["metadata"]["name"]
        if resource == kinds.CRDS:
            self._remember(after)
            return
        self._cache.informers.store(resource).observe(after)
        if not agrees(after, manifest):
            self._accepted[resource, name] = _digest([manifest, _content(after)])


def _authorities_of(config: Manifest) -> frozenset[bytes]:
    try:
        return certificates.split(base64.b64decode(config.get("caBundle") or "", validate=True))
    except ValueError:
        return frozenset()


def _path_of(config: Manifest) -> str:
    """The path of a registration."""
    return str((config.get("service") or {}).get("path") or urlsplit(str(config.get("url") or "")).path or "/")


def _content(live: Manifest) -> Any:
    return [live.get("webhooks"), live.get("spec")]


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _names_of(manifest: Manifest) -> dict[str, str]:
    return {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}


def _last_manager(live: Manifest | None) -> str:
    """Who wrote it last, by its field managers; empty where nobody is named."""
    entries = (live or {}).get("metadata", {}).get("managedFields") or ()
    newest: Manifest = max(entries, key=lambda entry: str(entry.get("time") or ""), default={})
    return str(newest.get("manager") or "")
