"""Writes static defaults into claims, and authentication annotations into session Ingresses."""

from datalabd.api.conversion import carried_over
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Manifest, Problem
from datalabd.defaults import default
from datalabd.plan.ingress_protection import annotations, main_host, other_class
from webhooks.review import AdmissionRequest, allowed, denied


def datalab(request: AdmissionRequest) -> Manifest:
    """The claim with its defaults, and with what an update cannot say in its version.

    Never refuses: an invalid claim is refused by those who check it next.
    """
    if request.object is None or (request.object.get("metadata") or {}).get("deletionTimestamp"):
        return allowed(request.uid)
    claim = request.object if request.old_object is None else carried_over(request.object, request.old_object)
    return allowed(request.uid, before=request.object, after=default(claim))


def ingress(request: AdmissionRequest, claim: Manifest, environment: EnvironmentConfig) -> Manifest:
    """The session Ingress with the annotations of its lab's protection, whatever it came with.

    One for another class of controllers than the environment's is refused: those would not read them.
    """
    if request.object is None:
        return allowed(request.uid)
    metadata = claim["metadata"]
    wanted = annotations(environment, metadata["name"], metadata["namespace"], main_host(request.object))
    if found := other_class(environment, request.object):
        expected = environment.data.ingress.class_
        detail = f"environment {environment.name} protects Ingresses of class {expected}; set ingress.class there"
        return denied(request, [FieldError("spec.ingressClassName", Problem.INVALID, found, detail)])
    have = request.object["metadata"].get("annotations") or {}
    after = request.object | {"metadata": request.object["metadata"] | {"annotations": have | wanted}}
    return allowed(request.uid, before=request.object, after=after)


def ingress_refused(request: AdmissionRequest, why: str) -> Manifest:
    """Refusal of a session Ingress whose protection cannot be told: it is made again as soon as it can be."""
    return denied(request, [FieldError("metadata.annotations", Problem.FORBIDDEN, None, why)])
