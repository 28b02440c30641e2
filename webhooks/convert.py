"""Converts claims between the versions of their API."""

from typing import Any

from datalabd.api.conversion import convert
from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from datalabd.steps import Steps
from webhooks.review import converted, decode_conversion, not_converted


def datalabs(review: Any) -> Steps[Manifest]:
    """The answer to a ConversionReview; `BadReview` if it is none. Invalid claims are passed on as they are."""
    uid, wanted, objects = decode_conversion(review)
    if wanted not in (V1BETA1, V1BETA2):
        return not_converted(uid, f"there is no version {wanted} of Datalab; known are {V1BETA1} and {V1BETA2}")
    # The API server wants metadata back even where it sent none: an apply has the bare fields of one owner converted.
    made: list[Manifest] = []
    for obj in objects:
        made.append({"metadata": {}} | convert(obj, wanted))
        yield
    return converted(uid, made)
