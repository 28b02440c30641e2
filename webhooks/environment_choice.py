"""Whether a lab may go over to another environment: one that nobody can read would leave it under its old policies."""

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ENVIRONMENT, FieldError, Manifest, Problem, claim_of, shorten
from datalabd.errors import EnvironmentInvalid
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.store import key_of
from datalabd.lab import environment_name
from webhooks.lookups import Lookups


async def chosen(lookups: Lookups, claim: Manifest) -> EnvironmentConfig:
    """The environment a claim chooses, asked of the API server as caches lag; raises `EnvironmentInvalid`."""
    name = environment_name(claim)
    for kind in (kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS):
        if (manifest := await lookups.find(kind, name)) is not None:
            return EnvironmentConfig.parse(manifest)
    raise EnvironmentInvalid(name, "EnvironmentNotFound", f"there is no EnvironmentConfig {shorten(name)}")


async def has_runtime(cache: Cache, lookups: Lookups, claim: Manifest) -> bool:
    """Whether there is anything of the lab that an environment holds."""
    name = claim["metadata"]["name"]
    runtime = cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", name)
    if runtime is None:
        runtime = await lookups.find(kinds.WORKSHOP_ENVIRONMENTS, name)
    return runtime is not None and claim_of(runtime) == key_of(claim)


def refusal(claim: Manifest, problem: EnvironmentInvalid) -> FieldError:
    """Why a lab stays with the environment it has."""
    where = "annotations" if ENVIRONMENT in (claim["metadata"].get("annotations") or {}) else "labels"
    detail = f"a lab that exists may only choose an environment that does, and is valid: {problem}"
    return FieldError(f"metadata.{where}[{ENVIRONMENT}]", Problem.INVALID, shorten(problem.name), detail)
