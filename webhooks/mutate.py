"""Writes static defaults into claims, and authentication annotations into session Ingresses."""

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Manifest, Problem
from datalabd.defaults import default
from datalabd.plan.ingress_protection import annotations, main_host
from webhooks.review import AdmissionRequest, allowed, denied


def datalab(request: AdmissionRequest) -> Manifest:
    """The claim with its defaults. Never refuses: an invalid claim is refused by those who check it next."""
    if request.object is None or (request.object.get("metadata") or {}).get("deletionTimestamp"):
        return allowed(request.uid)
    return allowed(request.uid, before=request.object, after=default(request.object))


def ingress(request: AdmissionRequest, claim: Manifest, environment: EnvironmentConfig) -> Manifest:
    """The session Ingress with the annotations of its lab's protection, whatever it came with."""
    if request.object is None:
        return allowed(request.uid)
    metadata = claim["metadata"]
    wanted = annotations(environment, metadata["name"], metadata["namespace"], main_host(request.object))
    return allowed(request.uid, before=request.object, after=_annotated(request.object, wanted))


def ingress_refused(request: AdmissionRequest, why: str) -> Manifest:
    """Refusal of a session Ingress whose protection cannot be told: it is made again as soon as it can be."""
    return denied(request, [FieldError("metadata.annotations", Problem.FORBIDDEN, None, why)])


def _annotated(manifest: Manifest, wanted: dict[str, str]) -> Manifest:
    have = manifest["metadata"].get("annotations") or {}
    if not wanted:
        return manifest
    return manifest | {"metadata": manifest["metadata"] | {"annotations": have | wanted}}
