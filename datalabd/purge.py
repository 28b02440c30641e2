"""`datalabd purge`: what was retained of a lab is let go for good, once a person agreed to the list of it.

    find → tell → ask → sessions → databases and stores → volumes and Secrets → environment, its namespace → Workshop

Deleted is exactly what stood in the list, as it stood there: each request names uid and resourceVersion, so that what
a claim takes up again meanwhile stays. Nothing is remembered outside the cluster: a purge that was cut short is run
again, and goes on with what is left.
"""

import asyncio
import contextlib
import datetime
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from datalabd import names
from datalabd.api.meta import (
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    FIELD_MANAGER,
    MANAGED_BY,
    RETAINED,
    UNPROTECTED,
    Manifest,
    NamespacedName,
    claim_of,
    is_planned,
)
from datalabd.errors import Conflict, DatalabdError, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.apply import describe
from datalabd.kube.cache import STORE_KINDS
from datalabd.kube.client import METADATA_ONLY, Client, path
from datalabd.kube.resources import Resource, resource_of
from datalabd.live import text
from datalabd.observed import is_durable

SECRETS = kinds.SECRETS._replace(metadata_only=True)
"""What is in them is nobody's business here."""
DURABLE_KINDS = (*STORE_KINDS, kinds.VOLUME_CLAIMS, SECRETS)
STEPS = (
    {kinds.WORKSHOP_SESSIONS.kind},
    {kind.kind for kind in STORE_KINDS},
    {kinds.VOLUME_CLAIMS.kind, SECRETS.kind},
    {kinds.WORKSHOP_ENVIRONMENTS.kind},
    {kinds.WORKSHOPS.kind},
)
"""What runs before what it runs on: operators still need the Secrets of what they take down."""
WAIT_SECONDS = 300.0
"""How long a purge waits for what it deleted to be gone: finalizers of operators, pods that still use a volume."""
LOOK_SECONDS = 1.0
"""Pause between two looks at what is on its way out."""


class Refused(DatalabdError):
    """Nothing more is deleted; the message says why, and what to do."""


@dataclass(frozen=True)
class Kept:
    """What is there of one lab, as it was listed."""

    lab: NamespacedName
    claimed: bool | None
    """Whether its claim exists: then only single objects may go, those that it does not declare any more.

    None: nobody can say, as the API server does not serve claims. Then only what a deletion has marked may go.
    """
    durable: tuple[Manifest, ...] = ()
    """Databases, stores, home directories and the Secrets they are opened with, in this order."""
    runtime: tuple[Manifest, ...] = ()
    """WorkshopEnvironment and Workshop: the last to go."""
    sessions: tuple[Manifest, ...] = ()
    """WorkshopSessions, which none is left of but where the claim went without datalabd."""
    beside: tuple[Manifest, ...] = ()
    """Secrets of the lab beside its claim, of which the same holds."""
    others: tuple[Manifest, ...] = ()
    """Volumes that operators made in the lab's namespace: they go with it, if not before."""
    namespace: Manifest | None = None
    """The lab's own, which goes with its WorkshopEnvironment."""
    volumes: Mapping[str, Manifest] = field(default_factory=dict)
    """PersistentVolumes by the uid of the claim they are bound to."""

    @property
    def retained(self) -> list[Manifest]:
        """What may be purged."""
        return [obj for obj in (*self.durable, *self.runtime) if is_retained(obj)]

    @property
    def unmarked(self) -> list[Manifest]:
        """What is the lab's and was never marked as retained: its claim declares it, or went without us."""
        return [obj for obj in self.everything if not is_retained(obj)]

    @property
    def everything(self) -> list[Manifest]:
        """All that would keep a new claim from having the lab, in order of deletion."""
        return [*self.sessions, *self.durable, *self.beside, *self.runtime]


def run(
    lab: str,
    objects: Sequence[str],
    *,
    agreed: bool,
    kubeconfig: str | None = None,
    unmarked: bool = False,
    ignore_not_found: bool = False,
) -> int:
    """Purge what is retained of a lab (`NAMESPACE/NAME`), or of that only `objects` (`KIND/NAME`).

    With `unmarked` also what no deletion of its claim has marked: the claim went without datalabd.
    Returns the exit code. 0: it is gone, or its claim exists and nothing is retained. 1: refused, not found, declined
    or not finished, and the last line says why. 2: that is no name of a lab. With `ignore_not_found` a lab or an object
    that is not found is no failure.
    """
    namespace, _, name = lab.partition("/")
    if not (namespace and name) or "/" in name:
        print(f"datalabd: {lab} is not NAMESPACE/NAME of a claim", file=sys.stderr)
        return 2
    try:
        return _run(NamespacedName(namespace, name), objects, agreed, kubeconfig, unmarked, ignore_not_found)
    except KeyboardInterrupt:
        print("datalabd: interrupted; run it again to go on", file=sys.stderr)
    except DatalabdError as error:
        print(f"datalabd: {error}", file=sys.stderr)
    return 1


def _run(
    lab: NamespacedName,
    objects: Sequence[str],
    agreed: bool,
    kubeconfig: str | None,
    unmarked: bool,
    ignore_not_found: bool,
) -> int:
    kept = asyncio.run(_look(lab, kubeconfig))
    if not (kept.claimed or kept.everything or ignore_not_found):
        raise Refused(
            f"nothing found of lab {lab.name} in namespace {lab.namespace}: neither a claim nor anything that one left"
        )
    chosen = choose(kept, objects, unmarked=unmarked, ignore_not_found=ignore_not_found)
    if not chosen:
        print(f"Nothing is retained of lab {lab}.")
        return 0
    print("\n".join(tell(kept, chosen, datetime.datetime.now(datetime.UTC))), flush=True)
    # Outside of an event loop, which would keep the first Ctrl-C for itself.
    if not agreed and not _ask(lab):
        print("Nothing was deleted.")
        return 1
    asyncio.run(_purge(kept, chosen, kubeconfig))
    print(f"Purged from lab {lab}.")
    return 0


def _ask(lab: NamespacedName) -> bool:
    try:
        return input(f"This cannot be undone. Type {lab.name} to go on: ").strip() == lab.name
    except EOFError:
        print()
        return False


@contextlib.asynccontextmanager
async def _connected(kubeconfig: str | None) -> AsyncIterator[Client]:
    client = await Client.connect(kubeconfig)
    try:
        yield client
    finally:
        await client.close()


async def _look(lab: NamespacedName, kubeconfig: str | None) -> Kept:
    async with _connected(kubeconfig) as client:
        return await find(client, lab)


async def find(client: Client, lab: NamespacedName) -> Kept:
    """What the cluster has of a lab now; kinds it does not know have no objects."""
    inside = names.workshop_namespace(lab.name)
    selector = f"{MANAGED_BY}={FIELD_MANAGER},{CLAIM_NAMESPACE}={lab.namespace},{CLAIM_NAME}={lab.name}"
    labelled = [obj for kind in DURABLE_KINDS for obj in await _list(client, kind, inside, selector=selector)]
    durable = [obj for obj in labelled if is_planned(obj) and is_durable(lab.name, obj)]
    runtime = [
        obj
        for kind in (kinds.WORKSHOP_ENVIRONMENTS, kinds.WORKSHOPS)
        for obj in await _list(client, kind, selector=selector)
        if is_planned(obj) and obj["metadata"]["name"] == lab.name
    ]
    claimed = await _is_claimed(client, lab)
    sessions = [] if claimed else await _list(client, kinds.WORKSHOP_SESSIONS, selector=selector)
    beside = [] if claimed else await _list(client, SECRETS, lab.namespace, selector=selector)
    # Another namespace of that name would hold somebody else's volumes.
    namespace = await _live(client, kinds.NAMESPACES, "", inside)
    owners = {owner["uid"] for owner in (namespace or {"metadata": {}})["metadata"].get("ownerReferences") or ()}
    if owners.isdisjoint(obj["metadata"]["uid"] for obj in runtime):
        namespace = None
    claims = await _list(client, kinds.VOLUME_CLAIMS, inside) if namespace is not None else []
    listed = {obj["metadata"]["uid"] for obj in durable}
    others = [obj for obj in claims if obj["metadata"]["uid"] not in listed and is_durable(lab.name, obj)]
    return Kept(
        lab,
        claimed,
        tuple(durable),
        tuple(runtime),
        tuple(filter(is_planned, sessions)),
        # What the claim owns goes with it by itself.
        tuple(obj for obj in beside if is_planned(obj) and not obj["metadata"].get("ownerReferences")),
        tuple(others),
        namespace,
        await _volumes(client, (*durable, *others)),
    )


async def _is_claimed(client: Client, lab: NamespacedName) -> bool | None:
    """Whether the claim exists; None where the API server does not serve claims.

    They may be there even so, as after a CustomResourceDefinition that is being restored.
    """
    try:
        found, _ = await client.list(kinds.DATALABS, lab.namespace, fieldSelector=f"metadata.name={lab.name}")
    except NotFound:
        return None
    return bool(found)


def _require_known(claimed: bool | None, unmarked: Sequence[Manifest], lab: NamespacedName) -> None:
    """Raise `Refused` for objects that no deletion has marked where nobody can say whether the claim is gone."""
    if unmarked and claimed is None:
        raise Refused(
            f"{', '.join(map(describe, unmarked))}: not retained by a deletion of the claim, and nobody can say "
            f"whether claim {lab} is gone, as the API server does not serve {kinds.DATALABS}; "
            "install the CustomResourceDefinitions first"
        )


async def _volumes(client: Client, claims: Iterable[Manifest]) -> dict[str, Manifest]:
    found = {}
    for claim in claims:
        name = claim["spec"].get("volumeName") if claim["kind"] == kinds.VOLUME_CLAIMS.kind else None
        if name and (volume := await _volume(client, name, claim["metadata"]["uid"])) is not None:
            found[claim["metadata"]["uid"]] = volume
    return found


async def _volume(client: Client, name: str, claim_uid: str) -> Manifest | None:
    """The PersistentVolume of that name, if it is bound to exactly this claim."""
    try:
        volume = await client.get(kinds.VOLUMES, "", name)
    except NotFound:
        return None
    return volume if text(volume, "spec", "claimRef", "uid") == claim_uid else None


def choose(
    kept: Kept, objects: Sequence[str], *, unmarked: bool = False, ignore_not_found: bool = False
) -> list[Manifest]:
    """What is to be deleted of `kept`, in order; raises `Refused` where some of it must not be."""
    if objects:
        there = dict.fromkeys(objects)
        if ignore_not_found:
            there = {text: None for text in there if any(_is_called(obj, text) for obj in kept.everything)}
        return [_named(kept, text) for text in there]
    if not kept.everything:
        return []
    if kept.claimed:
        retained = ", ".join(_short(obj) for obj in kept.retained if obj in kept.durable)
        undeclared = f", or name with --object what it declares no more: {retained}" if retained else ""
        raise Refused(f"the claim {kept.lab} is not gone: delete it first{undeclared}")
    _require_known(kept.claimed, kept.unmarked, kept.lab)
    if kept.unmarked and not unmarked:
        raise Refused(
            f"{', '.join(map(describe, kept.unmarked))}: not retained by a deletion of the claim, which went without "
            "datalabd; pass --unmarked if all of it is to go too"
        )
    return kept.everything


def _named(kept: Kept, text: str) -> Manifest:
    for obj in kept.durable:
        if _is_called(obj, text):
            if not is_retained(obj):
                raise Refused(f"{describe(obj)} is not retained: the claim {kept.lab} declares it")
            return obj
    known = ", ".join(_short(obj) for obj in kept.retained if obj in kept.durable) or "nothing"
    raise Refused(f"{text} is not among what is retained of lab {kept.lab}: {known}")


def _is_called(obj: Manifest, text: str) -> bool:
    """Whether this `KIND/NAME` names the object."""
    kind, _, name = text.partition("/")
    return kind.lower() in (obj["kind"].lower(), resource_of(obj).plural) and name == obj["metadata"]["name"]


def is_retained(obj: Manifest) -> bool:
    """Whether an object is ours, made from a plan, and marked as kept."""
    return claim_of(obj) is not None and is_planned(obj) and RETAINED in (obj["metadata"].get("labels") or {})


def tell(kept: Kept, chosen: Sequence[Manifest], now: datetime.datetime) -> list[str]:
    """The list a person is asked about: what is deleted, how large and old it is, what becomes of its storage."""
    unknown = f", of which nobody can say whether it is gone: the API server does not serve {kinds.DATALABS}"
    claim = f"claim {kept.lab}{unknown if kept.claimed is None else '' if kept.claimed else ', which is gone'}"
    rows = [("KIND", "NAME", "SIZE", "AGE", "STORAGE")]
    with_namespace = kept.others if any(obj in kept.runtime for obj in chosen) else ()
    for obj in (*chosen, *with_namespace):
        metadata = obj["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        rows.append((obj["kind"], name, _size(obj), _age(obj, now), _storage(kept, obj)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    end = []
    if any(obj["kind"] == kinds.WORKSHOP_ENVIRONMENTS.kind for obj in chosen):
        end = ["", f"With the WorkshopEnvironment goes namespace {kept.lab.name}, and all that is in it."]
    return [f"To be deleted, of {claim}:", "", *(line.rstrip() for line in lines), *end]


def _short(obj: Manifest) -> str:
    """What `--object` takes."""
    return f"{obj['kind']}/{obj['metadata']['name']}"


def _size(obj: Manifest) -> str:
    if obj["kind"] != kinds.VOLUME_CLAIMS.kind:
        return "-"
    return text(obj, "status", "capacity", "storage") or text(obj, "spec", "resources", "requests", "storage") or "-"


def _age(obj: Manifest, now: datetime.datetime) -> str:
    seconds = (now - datetime.datetime.fromisoformat(obj["metadata"]["creationTimestamp"])).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _storage(kept: Kept, obj: Manifest) -> str:
    volume = kept.volumes.get(obj["metadata"]["uid"])
    if volume is None:
        return "-"
    policy = text(volume, "spec", "persistentVolumeReclaimPolicy")
    freed = policy == "Delete" or (secured_by_us(volume) and is_retained(obj))
    return f"{volume['metadata']['name']}: {'freed' if freed else f'stays, by its reclaim policy {policy}'}"


def secured_by_us(volume: Manifest) -> bool:
    """Whether it was datalabd that set the reclaim policy of a PersistentVolume to Retain; it was Delete before."""
    return text(volume, "spec", "persistentVolumeReclaimPolicy") == "Retain" and any(
        entry.get("manager") == FIELD_MANAGER
        and "f:persistentVolumeReclaimPolicy" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        for entry in volume["metadata"].get("managedFields") or ()
    )


async def _purge(kept: Kept, chosen: Sequence[Manifest], kubeconfig: str | None) -> None:
    async with _connected(kubeconfig) as client:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                for step in STEPS:
                    await _step(client, kept, [obj for obj in chosen if obj["kind"] in step])
        except TimeoutError as error:
            raise Refused(f"not all is gone after {WAIT_SECONDS:.0f} s; run it again to go on") from error


async def _step(client: Client, kept: Kept, objects: Sequence[Manifest]) -> None:
    for obj in objects:
        if obj["kind"] == kinds.WORKSHOP_ENVIRONMENTS.kind:
            await _require_nothing_durable(client, kept)
        await _let_go(client, kept, obj)
    for obj in objects:
        await _until_gone(client, obj)
        await _free_again(client, kept, obj)
        if obj["kind"] == kinds.WORKSHOP_ENVIRONMENTS.kind and kept.namespace is not None:
            await _until_gone(client, kept.namespace)


async def _require_nothing_durable(client: Client, before: Kept) -> None:
    """Look once more before the namespace goes: what nobody agreed to lose may have come since."""
    now = await find(client, before.lab)
    told = {obj["metadata"]["uid"] for obj in before.others}
    new = [*now.durable, *(obj for obj in now.others if obj["metadata"]["uid"] not in told)]
    if new:
        raise Refused(f"{describe(new[0])} is there and was not in the list; run it again to see it")


async def _let_go(client: Client, kept: Kept, obj: Manifest) -> None:
    """Have one object deleted, as long as it stays retained if it was; nothing else that happens to it matters."""
    resource, name, uid = resource_of(obj), describe(obj), obj["metadata"]["uid"]
    where = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    while True:
        live = await _live(client, resource, *where)
        if live is None or live["metadata"]["uid"] != uid or live["metadata"].get("deletionTimestamp"):
            return
        if is_retained(obj) and not is_retained(live):
            # A purge cut short may have annotated it; it is declared again, and protected like the rest.
            await client.patch(resource, *where, {"metadata": {"uid": uid, "annotations": {UNPROTECTED: None}}})
            raise Refused(f"{name} was taken up again by its claim, and stays")
        if not kept.claimed:
            claimed = await _is_claimed(client, kept.lab)
            if claimed:
                raise Refused(f"the claim {kept.lab} was made again: what is left of the lab stays")
            _require_known(claimed, [] if is_retained(obj) else [obj], kept.lab)
        version = live["metadata"]["resourceVersion"]
        body = {"metadata": {"uid": uid, "resourceVersion": version, "annotations": {UNPROTECTED: "true"}}}
        try:
            marked = await client.patch(resource, *where, body)
            await _free(client, kept.volumes.get(uid))
            preconditions = {"uid": uid, "resourceVersion": marked["metadata"]["resourceVersion"]}
            options = {"preconditions": preconditions, "propagationPolicy": "Background"}
            await client.request("DELETE", path(resource, *where), body=options)
        except NotFound:
            return
        except Conflict:
            continue  # it changed since: look again at what it is now
        return


async def _free(client: Client, volume: Manifest | None) -> None:
    """Take back that a volume outlives its claim, where it was datalabd that had it so.

    Before the claim goes: afterwards nothing would say any more that a person agreed to it. Should the claim stay
    after all, because it was taken up again, the process secures its volume anew.
    """
    if volume is not None and secured_by_us(volume):
        body = {"metadata": {"uid": volume["metadata"]["uid"]}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}}
        try:
            await client.patch(kinds.VOLUMES, "", volume["metadata"]["name"], body)
        except NotFound:
            return


async def _free_again(client: Client, kept: Kept, claim: Manifest) -> None:
    """The same once more: a reconciler that saw the claim a moment longer may have secured its volume again."""
    volume = kept.volumes.get(claim["metadata"]["uid"])
    if volume is not None:
        await _free(client, await _volume(client, volume["metadata"]["name"], claim["metadata"]["uid"]))


async def _until_gone(client: Client, obj: Manifest) -> None:
    where = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    told = False
    while (live := await _live(client, resource_of(obj), *where)) is not None:
        if live["metadata"]["uid"] != obj["metadata"]["uid"]:
            break
        if not told:
            finalizers = ", ".join(live["metadata"].get("finalizers") or ()) or "the API server"
            print(f"waiting for {describe(obj)}: {finalizers}", flush=True)
            told = True
        await asyncio.sleep(LOOK_SECONDS)
    print(f"deleted {describe(obj)}", flush=True)


async def _live(client: Client, resource: Resource, namespace: str, name: str) -> Manifest | None:
    """Metadata of a live object, and nothing of what is in it; None if there is none, or no such kind."""
    try:
        live = await client.request("GET", path(resource, namespace, name), accept=METADATA_ONLY[True])
    except NotFound:
        return None
    return live | {"apiVersion": resource.api_version, "kind": resource.kind}


async def _list(client: Client, resource: Resource, namespace: str = "", *, selector: str = "") -> list[Manifest]:
    try:
        found, _ = await client.list(resource, namespace, labelSelector=selector)
    except NotFound:
        return []  # the cluster does not know the kind
    # Asked for metadata alone, the API server calls each object a PartialObjectMetadata.
    return [obj | {"apiVersion": resource.api_version, "kind": resource.kind} for obj in found]
