"""Educates 3.7.1 played: the session-manager, and the secrets-manager beside it.

The session-manager is built on kopf, and that shows: it acts on creation only, keeps its progress in `status.kopf`, and
an annotation says that it has finished with an object, for good or ill. All of that is written through the main
resource, so that every status raises the generation.
"""

import asyncio
import datetime
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from functools import partial

import structlog

from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, KubeError, NamespaceTerminating, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import NAMESPACES, SECRETS, WORKSHOP_ENVIRONMENTS, WORKSHOP_SESSIONS, WORKSHOPS, Resource
from hack.standins import environment as environments
from hack.standins.operator import ERROR_PAUSE_SECONDS, Operator, adopt
from hack.standins.secret_copier import SECRET_COPIERS, Copy, copied, copies, is_of_another
from hack.standins.session import Session
from hack.standins.variables import substitute

log = structlog.get_logger()

MANAGER = "session-manager"
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
QUOTA_TRIES, QUOTA_PAUSE_SECONDS = 25, 0.1
RESOURCE_QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
PORTAL = f"{environments.LABEL}/portal.name"


@dataclass(frozen=True)
class Timing:
    """How long Educates takes and waits, in seconds."""

    batch: float = 0.1
    """From an object's creation to the start of work on it."""
    environment_retry: float = 30.0
    environment_deadline: float = 300.0
    """Age of an environment from which a missing Workshop or a foreign namespace is final."""
    session_environment_retry: float = 60.0
    session_secret_retry: float = 15.0
    session_namespace_retry: float = 60.0
    error_retry: float = 60.0
    """After a refusal that Educates does not expect."""
    secret_change: float = 0.4
    """From a change of a Secret, or of what asks for it, to its copy."""
    secret_timer: float = 60.0

    def scaled(self, factor: float) -> "Timing":
        """All of it, so many times as long."""
        return Timing(*(getattr(self, each.name) * factor for each in fields(self)))


class Later(Exception):
    """Nothing can be done yet: phase Pending, and another try after `delay` seconds."""

    def __init__(self, message: str | None, delay: float) -> None:
        super().__init__(message)
        self.message = message
        self.delay = delay


class Final(Exception):
    """Phase Failed for good; the message is for the status."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Work:
    """An object that is being handled, and the event that tells when there is nothing left to do for it."""

    uid: str
    over: asyncio.Event


class Educates(Operator):
    """Both operators of an Educates installation with this ingress domain, class, TLS Secret and storage class.

    Its field manager is `session-manager`. To tell its requests from others' in an audit log, give it a client of its
    own, such as one for the service account `session-manager` that `install` makes. The secrets-manager has an account
    of its own as well: `copying` is a client of it, which writes its copies (`secrets_manager`).
    """

    def __init__(
        self,
        client: Client,
        copying: Client,
        *,
        domain: str = "lab.example.org",
        ingress_class: str = "nginx",
        ingress_secret: str = "",
        protocol: str = "https",
        storage_class: str = "",
        timing: Timing = Timing(),
    ) -> None:
        super().__init__(client, MANAGER)
        self._copying = copying
        self.settings = environments.Settings(
            domain=domain,
            ingress_class=ingress_class,
            ingress_secret=ingress_secret,
            protocol=protocol,
            storage_class=storage_class,
        )
        self.timing = timing
        self._at_work: dict[tuple[Resource, str], Work] = {}
        """By kind and name, objects that the cache does not show as finished with."""
        self._wanted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        """SecretCopiers by namespace and name of a source, and by a target namespace and an empty name."""
        self._interests: dict[str, set[tuple[str, str]]] = {}
        """The same the other way round."""
        self._seen_namespaces: set[str] = set()

        for resource, create in (
            (WORKSHOP_ENVIRONMENTS, self._create_environment),
            (WORKSHOP_SESSIONS, self._create_session),
        ):
            self.watch(resource, partial(self._changed, resource, create))
        self._secrets = self.watch(SECRETS, self._secret_changed)
        self._namespaces = self.watch(NAMESPACES, self._namespace_changed)
        self._copiers = self.watch(SECRET_COPIERS, self._copier_changed)

    async def __aenter__(self) -> "Educates":
        await super().__aenter__()
        self.spawn(self._copy_by_timer())
        return self

    # ---- What kopf does

    def _changed(
        self, resource: Resource, create: Callable[[Manifest, float], Awaitable[Manifest]], obj: Manifest
    ) -> None:
        """Begin with an object not finished with; learn that one is gone."""
        key = (resource, obj["metadata"]["name"])
        live = self._informers.store(resource).get("", key[1])
        metadata = live["metadata"] if live else {}
        work = self._at_work.get(key)
        if work and (work.uid != metadata.get("uid") or LAST_HANDLED in (metadata.get("annotations") or {})):
            work.over.set()
            del self._at_work[key]
            work = None
        if live is None or work or metadata.get("deletionTimestamp"):
            return
        if LAST_HANDLED not in (metadata.get("annotations") or {}):
            self._at_work[key] = work = Work(metadata["uid"], asyncio.Event())
            self.spawn(self._handle(resource, create, live, work.over))

    async def _handle(
        self,
        resource: Resource,
        create: Callable[[Manifest, float], Awaitable[Manifest]],
        obj: Manifest,
        over: asyncio.Event,
    ) -> None:
        """Try until finished with, or until the object is gone. An attempt under way is brought to its end."""
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        handler = f"{resource.kind.lower()}_create"
        progress = _progress(obj, handler)
        delay: float | None = max(self.timing.batch, _seconds_until(progress["delayed"]))
        while delay is not None and not await _within(over, delay):
            obj = self._informers.store(resource).get("", name) or obj
            delay = None
            try:
                status = await create(obj, -_seconds_until(progress["started"]))
            except Later as later:
                status, delay = {"phase": "Pending", "message": later.message}, later.delay
            except Final as final:
                status = {"phase": "Failed", "message": final.message}
            except KubeError as error:
                log.warning("unexpected refusal", kind=resource.kind, name=name, error=str(error))
                status, delay = {"phase": "Failed", "message": None}, self.timing.error_retry
            if resource is WORKSHOP_SESSIONS and PORTAL in (obj["metadata"].get("labels") or {}):
                status = {key: value for key, value in status.items() if key != "phase"}
            log.debug("handled", kind=resource.kind, name=name, phase=status.get("phase"), message=status["message"])
            body: Manifest = {"metadata": {"uid": uid}, "status": {"educates": status}}
            if delay is None:
                body["metadata"]["annotations"] = {LAST_HANDLED: _essence(obj)}
                body["status"]["kopf"] = {"progress": None}
            else:
                progress |= {"delayed": _now(delay), "retries": progress["retries"] + 1}
                body["status"]["kopf"] = {"progress": {handler: progress}}
            await self._write(resource, name, body, over)

    async def _write(self, resource: Resource, name: str, body: Manifest, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                await self.patch(resource, "", name, body)
                return
            except NotFound:
                return
            except KubeError as error:
                log.warning("status not written yet", name=name, error=str(error))
                await asyncio.sleep(ERROR_PAUSE_SECONDS)

    # ---- Environments

    async def _create_environment(self, environment: Manifest, age: float) -> Manifest:
        name, workshop_name = environment["metadata"]["name"], environment["spec"]["workshop"]["name"]
        try:
            workshop = await self.client.get(WORKSHOPS, "", workshop_name)
        except NotFound:
            raise self._not_yet(f"Workshop {workshop_name} is not available.", age) from None
        spec = workshop["spec"]
        marks = environments.labels("environment", environment, workshop_name)
        wanted = adopt(environments.namespace(name, marks, "privileged"), environment)
        try:
            namespace = await self.create(wanted)
        except Conflict:
            namespace = await self.client.get(NAMESPACES, "", name)
            owners = namespace["metadata"].get("ownerReferences") or []
            if all(owner["uid"] != environment["metadata"]["uid"] for owner in owners):
                raise self._not_yet(f"Namespace {name} already exists.", age) from None
        for child in environments.children(environment, workshop_name, spec, self.settings):
            await self._ensure(adopt(child, namespace))
        variables = environments.variables(environment, workshop_name, spec, self.settings)
        objects = [
            obj
            for source in (spec, environment["spec"])
            for obj in substitute((source.get("environment") or {}).get("objects") or [], variables)
        ]
        await self._create_listed(objects, namespace, name, "environment")
        return {
            "phase": "Running",
            "message": None,
            "namespace": name,
            "workshop": {
                "name": workshop_name,
                "uid": workshop["metadata"]["uid"],
                "generation": workshop["metadata"]["generation"],
                "spec": spec,
            },
        }

    def _not_yet(self, message: str, age: float) -> Exception:
        if age >= self.timing.environment_deadline:
            return Final(message)
        return Later(message, self.timing.environment_retry)

    async def _ensure(self, manifest: Manifest) -> None:
        try:
            await self.create(manifest)
        except Conflict:
            log.debug("left by an earlier attempt", kind=manifest["kind"], name=manifest["metadata"]["name"])

    async def _create_listed(self, objects: list[Manifest], owner: Manifest, namespace: str, what: str) -> None:
        """Create objects that a Workshop lists; the first refused one is the end."""
        for obj in objects:
            if not isinstance(obj.get("metadata"), dict):
                raise Final(f"Unable to create {what} object {obj.get('kind')}: it has no metadata")
            try:
                await self.create(adopt(obj, owner), namespace)
            except KubeError as error:
                metadata = obj["metadata"]
                place = f" in namespace {metadata['namespace']}" if metadata.get("namespace") else ""
                subject = f"{obj.get('kind')} {metadata.get('name')}{place}"
                raise Final(f"Unable to create {what} object {subject}: {error}") from error

    # ---- Sessions

    async def _create_session(self, manifest: Manifest, age: float) -> Manifest:
        del age  # a session waits for ever
        try:
            environment = await self.client.get(WORKSHOP_ENVIRONMENTS, "", manifest["spec"]["environment"]["name"])
        except NotFound:
            raise Later(None, self.timing.session_environment_retry) from None
        if (environment.get("status") or {}).get("educates", {}).get("phase") != "Running":
            raise Later(None, self.timing.session_environment_retry)
        for secret in environments.secret_names(environment, self.settings):
            try:
                await self.client.get(SECRETS, environment["metadata"]["name"], secret)
            except NotFound:
                raise Later(None, self.timing.session_secret_retry) from None
        session = Session(manifest, environment, self.settings)
        try:
            namespace = await self.create(adopt(session.namespace(), manifest))
        except Conflict:
            raise Later(None, self.timing.session_namespace_retry) from None
        for child in session.identity():
            await self.create(adopt(child, namespace))
        await self._quotas_are_counted(session.name)
        await self._create_listed(session.objects(), namespace, session.name, "session")
        for child in session.runtime():
            await self.create(adopt(child, namespace))
        sshd = session.application("sshd") or {}
        tunnel = bool((sshd.get("tunnel") or {}).get("enabled"))
        return {
            "phase": "Running",
            "message": None,
            "url": session.url,
            "sshd": {"enabled": bool(sshd), "tunnel": {"enabled": tunnel}},
        }

    async def _quotas_are_counted(self, namespace: str) -> None:
        """Return when nothing is refused any more for a quota without a status, or after a while all the same."""
        for _ in range(QUOTA_TRIES):
            quotas, _ = await self.client.list(RESOURCE_QUOTAS, namespace)
            if all((quota.get("status") or {}).get("used") for quota in quotas):
                return
            await asyncio.sleep(QUOTA_PAUSE_SECONDS)

    # ---- Secrets

    def _copier_changed(self, secret_copier: Manifest) -> None:
        name = secret_copier["metadata"]["name"]
        live = self._copiers.get("", name)
        asked = list(copies(live)) if live else []
        interests = {(*copy.source,) for copy in asked} | {(copy.target.namespace, "") for copy in asked}
        for interest in self._interests.pop(name, set()):
            self._wanted[interest].discard(name)
        for interest in interests:
            self._wanted[interest].add(name)
        self._interests[name] = interests
        if live:
            self._copy_soon(name)

    def _secret_changed(self, secret: Manifest) -> None:
        for name in self._wanted.get((secret["metadata"]["namespace"], secret["metadata"]["name"]), ()):
            self._copy_soon(name)

    def _namespace_changed(self, namespace: Manifest) -> None:
        uid, name = namespace["metadata"]["uid"], namespace["metadata"]["name"]
        if self._namespaces.get("", name) is None:
            self._seen_namespaces.discard(uid)
        elif uid not in self._seen_namespaces:
            self._seen_namespaces.add(uid)
            for copier in self._wanted.get((name, ""), ()):
                self._copy_soon(copier)

    def _copy_soon(self, name: str) -> None:
        self.schedule(("SecretCopier", name), partial(self._copy_all, name), self.timing.secret_change)

    async def _copy_by_timer(self) -> None:
        """The only thing that brings a deleted copy back."""
        while True:
            await asyncio.sleep(self.timing.secret_timer)
            for secret_copier in self._copiers:
                self._copy_soon(secret_copier["metadata"]["name"])

    async def _copy_all(self, name: str) -> None:
        secret_copier = self._copiers.get("", name)
        for copy in copies(secret_copier) if secret_copier else ():
            source = self._secrets.get(*copy.source)
            namespace = self._namespaces.get("", copy.target.namespace)
            if source and namespace and secret_copier and not namespace["metadata"].get("deletionTimestamp"):
                await self._copy(copy, copied(copy, source, secret_copier))

    async def _copy(self, copy: Copy, wanted: Manifest) -> None:
        live = self._secrets.get(*copy.target)
        try:
            if live is None:
                await self.create(wanted, client=self._copying)
            elif is_of_another(live, wanted):
                log.warning("not overwritten", secret=str(copy.target))
            elif (live.get("data") or {}) != wanted["data"]:
                dropped = {key: None for key in live.get("data") or {} if key not in wanted["data"]}
                body = {"data": wanted["data"] | dropped}
                await self.patch(SECRETS, *copy.target, body, client=self._copying)
        except (NotFound, Conflict, NamespaceTerminating) as error:
            log.debug("not copied now", secret=str(copy.target), error=str(error))


# ---- kopf's bookkeeping


def _now(ahead: float = 0.0) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead)).isoformat()


def _seconds_until(moment: str) -> float:
    return (datetime.datetime.fromisoformat(moment) - datetime.datetime.now(datetime.UTC)).total_seconds()


def _progress(obj: Manifest, handler: str) -> Manifest:
    """Where an earlier run of ours left off, else a beginning."""
    kept = ((obj.get("status") or {}).get("kopf") or {}).get("progress") or {}
    begin = {"started": _now(), "delayed": _now(), "purpose": "create", "retries": 0, "success": False}
    return begin | (kept.get(handler) or {})


def _essence(obj: Manifest) -> str:
    """What kopf keeps of an object to tell later edits by."""
    metadata = {key: obj["metadata"][key] for key in ("labels", "annotations") if key in obj["metadata"]}
    return json.dumps({"spec": obj["spec"], "metadata": metadata}, separators=(",", ":")) + "\n"


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came before so many seconds had passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
