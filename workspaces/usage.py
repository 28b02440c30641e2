"""What a workspace uses of the cluster: its volume claims, and what they may take in all. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.api.quantity import held
from datalabd.live import dig, text

_UNITS = [(unit, 1024**power) for power, unit in reversed(list(enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)))]


def usage(quotas: Iterable[Manifest], claims: Iterable[Manifest]) -> dict[str, Any]:
    """As `ResourceUsage`. The tightest quota counts, as it is written; what is no size counts for nothing."""
    sizes = sorted(_sizes(claims))
    requested = sum((size for _, _, size in sizes), Decimal())
    found: dict[str, Any] = {"requested": written(requested)}
    limits = [limit for quota in quotas if (limit := _limit(quota)) is not None]
    if limits:
        quota, said = min(limits)
        found |= {"quota": said, "remaining": written(max(Decimal(), quota - requested))}
    found["persistent_volume_claims"] = [{"name": name, "size": said} for name, said, _ in sizes]
    return {"storage": found}


def written(size: Decimal) -> str:
    """Bytes in the largest binary unit of which they are a whole number."""
    whole = int(size)
    return next(
        (f"{whole // factor}{unit}" for unit, factor in _UNITS if whole and whole == size and whole % factor == 0),
        str(whole),
    )


def _sizes(claims: Iterable[Manifest]) -> Iterable[tuple[str, str, Decimal]]:
    for claim in claims:
        said = dig(claim, "spec", "resources", "requests").get("storage")
        size = held(said)
        if size is not None and size >= 0:
            yield text(claim, "metadata", "name"), str(said), size


def _limit(quota: Manifest) -> tuple[Decimal, str] | None:
    for part in ("status", "spec"):
        said = dig(quota, part, "hard").get("requests.storage")
        size = held(said)
        if size is not None and size >= 0:
            return size, str(said)
    return None
