"""Labels, annotations and owner references of everything the plan makes."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from datalabd import names
from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    FIELD_MANAGER,
    MANAGED_BY,
    RETAINED,
    V1BETA2,
    Manifest,
)
from datalabd.lab import Lab

EARLIER_LAB = "an earlier lab of this name"


def labels(lab: Lab) -> dict[str, str]:
    """The labels that make an object this lab's."""
    return {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: lab.name, CLAIM_NAMESPACE: lab.namespace, CLAIM_UID: lab.uid}


def digest(content: Any) -> str:
    """A short fingerprint of JSON-like content: equal content, equal fingerprint."""
    return json_digest(canonical(content))


def canonical(content: Any) -> bytes:
    """JSON in which equal content is equal."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def json_digest(text: bytes) -> str:
    """The fingerprint of content that is canonical JSON already."""
    return hashlib.sha256(text).hexdigest()[:16]


def ours(lab: Lab, manifest: Manifest) -> Manifest:
    """The manifest with this lab's labels and its own digest.

    The digest leaves out name and namespace, so that an object listed in the Workshop, where its namespace is a
    variable, equals the one we reconcile.
    """
    metadata = manifest["metadata"]
    merged = labels(lab) | metadata.get("labels", {})
    annotations = metadata.get("annotations", {})
    content = manifest | {"labels": merged, "annotations": annotations}
    del content["metadata"]
    annotations = annotations | {APPLIED: digest(content)}
    return manifest | {"metadata": metadata | {"labels": merged, "annotations": annotations}}


def other_owner(live: Manifest, desired: Manifest) -> str:
    """Whose a live object is, if it is not that of the lab that `desired` is planned for; else empty.

    What was retained from an earlier claim of that name and namespace is the lab's.
    """
    have = live["metadata"].get("labels") or {}
    want = desired["metadata"]["labels"]
    if have.get(MANAGED_BY) != FIELD_MANAGER or not have.get(CLAIM_NAME):
        return "something other than datalabd"
    if have.get(CLAIM_UID) == want[CLAIM_UID]:
        return ""
    if (have[CLAIM_NAME], have.get(CLAIM_NAMESPACE)) != (want[CLAIM_NAME], want[CLAIM_NAMESPACE]):
        return "another lab"
    return "" if RETAINED in have else EARLIER_LAB


def claim_owner(lab: Lab) -> Manifest:
    """Owner reference to the claim, for objects in its own namespace."""
    return {"apiVersion": V1BETA2, "kind": "Datalab", "name": lab.name, "uid": lab.uid, "controller": True}


def inside(lab: Lab, name: str, annotations: dict[str, str] | None = None) -> Manifest:
    """Metadata of an object in the workshop namespace."""
    metadata: Manifest = {"name": name, "namespace": names.workshop_namespace(lab.name)}
    return metadata | ({"annotations": annotations} if annotations else {})


def beside(lab: Lab, name: str, annotations: dict[str, str] | None = None) -> Manifest:
    """Metadata of an object in the claim's own namespace, which goes with the claim."""
    metadata: Manifest = {"name": name, "namespace": lab.namespace, "ownerReferences": [claim_owner(lab)]}
    return metadata | ({"annotations": annotations} if annotations else {})


def opaque(lab: Lab, metadata: Manifest, values: Mapping[str, str]) -> Manifest:
    """A Secret of these values."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return ours(lab, {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data})
