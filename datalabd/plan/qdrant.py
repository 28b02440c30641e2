"""Vector stores: a QdrantCluster and its keys each."""

from collections.abc import Callable
from dataclasses import replace

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab, Store
from datalabd.observed import Observed
from datalabd.plan.metadata import inside, opaque, ours
from datalabd.plan.rotation import made_anew, turned
from datalabd.plan.volumes import grown
from datalabd.stores import StoreFacts, Turn

KEYS = ("apiKey", "readApiKey")
IMAGE = "qdrant/qdrant:v1.13.4"


def turn(seen: StoreFacts, nonce: str, now: Observed, fresh: Callable[[], str]) -> tuple[dict[str, str], Turn]:
    """The keys its auth Secret is to hold, and for which rotation; `nonce` is the one asked for."""
    state = seen.turn
    if not seen.auth:
        new = made_anew(now, nonce, seen)
        return {key: fresh() for key in KEYS}, Turn(rotating=new.rotated) if seen.data else new
    keys = {key: seen.auth[key] for key in KEYS}
    if state.rotating:
        return keys, turned(now, state.rotating) if seen.pods == 0 else state
    if nonce:
        return {key: fresh() for key in KEYS}, replace(state, rotating=nonce)
    return keys, state


def auth(lab: Lab, store: Store, keys: dict[str, str], turn: Turn) -> Manifest:
    """Secret `K-qdrant-auth`, with the key to write and the one to read."""
    return opaque(lab, inside(lab, names.vector_store_auth(store.key), turn.annotations()), keys)


def qdrant(lab: Lab, store: Store, seen: StoreFacts) -> Manifest:
    """QdrantCluster `K`.

    A live one keeps its tag, which stands in the selector of its pods and cannot change; another repository has perhaps
    not that one, so that it is followed only where the tag stays. While its keys are being
    replaced it has no pods: they read keys when they start, and there is no other way to have them do so.
    """
    component = lab.environment.data.components.qdrant
    size = grown(store.storage, store.storage_class, seen.data)
    repository, tag = _image(component.image or IMAGE)
    if seen.image is not None and seen.image[1] != tag:
        repository, tag = seen.image
    spec: Manifest = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "antiAffinity": True,
        "persistence": {"size": size.storage}
        | ({"storageClassName": size.storage_class} if size.storage_class else {}),
    }
    for key in KEYS:
        spec[key] = {"enabled": True, "secret": {"name": names.vector_store_auth(store.key), "key": key}}
    if seen.turn.rotating:
        spec["replicas"] = 0
    elif component.replicas:
        spec["replicas"] = component.replicas
    metadata = inside(lab, store.key)
    return ours(lab, {"apiVersion": "qdrant.io/v1alpha1", "kind": "QdrantCluster", "metadata": metadata, "spec": spec})


def _image(image: str) -> tuple[str, str]:
    """Repository and tag; a colon before the last slash is that of a registry's port."""
    path, _, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{path}/{name}" if path else name, tag or "latest"
