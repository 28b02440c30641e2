"""How much one claim asks for in all, and what an environment's `allowed.limits` say to that."""

from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import NamedTuple

from datalabd.api import quantity
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Problem
from datalabd.api.v1beta2 import DatalabSpec
from datalabd.defaults import REGISTRY_STORAGE

_NOTHING = Decimal(0)


class Item(NamedTuple):
    """A session, database server or store, with what it takes."""

    part: str
    """As parts of a plan are called."""
    volumes: tuple[tuple[str, Decimal], ...]
    """The field that says it, and the size in bytes."""
    is_session: bool = False


class Use(NamedTuple):
    """What all items together take."""

    volumes: Decimal = _NOTHING
    sessions: int = 0
    stores: int = 0

    def plus(self, item: Item) -> "Use":
        """The same with one item more."""
        total = self.volumes + sum((size for _, size in item.volumes), _NOTHING)
        return Use(total, self.sessions + item.is_session, self.stores + (not item.is_session))


def items(spec: DatalabSpec, environment: EnvironmentConfig) -> Iterator[Item]:
    """Everything that a claim declares, in order."""
    home = quantity.parse(spec.quota.storage or environment.data.defaults.quota.storage)
    volumes = [("spec.quota.storage", home)]
    if spec.registry.enabled:
        volumes.append(("spec.registry.storage", quantity.parse(spec.registry.storage or REGISTRY_STORAGE)))
    for session in spec.sessions:
        yield Item(session.name, tuple(volumes), is_session=True)
    for host, server in spec.databases.items():
        sizes = (("storage", server.storage), ("backupStorage", server.backup_storage))
        path = f"spec.databases[{host}]"
        yield Item(f"database {host}", tuple((f"{path}.{field}", quantity.parse(size)) for field, size in sizes))
    for kind, field, stores in (
        ("document", "documentStores", spec.document_stores),
        ("cache", "cacheStores", spec.cache_stores),
        ("vector", "vectorStores", spec.vector_stores),
    ):
        for key, store in stores.items():
            yield Item(f"{kind} store {key}", ((f"spec.{field}[{key}].storage", quantity.parse(store.storage)),))


def limit_errors(
    spec: DatalabSpec, environment: EnvironmentConfig, before: DatalabSpec | None = None
) -> Iterator[FieldError]:
    """What exceeds the limits, and did not `before` or not by as much."""
    limits, within = environment.data.allowed.limits, _within(environment)
    now = list(items(spec, environment))
    was = [] if before is None else list(items(before, environment))
    known = {(item.part, field): size for item in was for field, size in item.volumes}
    told = set[str]()
    for item in now:
        for field, size in item.volumes:
            largest = size > quantity.parse(limits.volume) and size > known.get((item.part, field), _NOTHING)
            if largest and field not in told:
                told.add(field)
                detail = f"no volume may be more than {limits.volume} {within} (allowed.limits.volume)"
                yield FieldError(field, Problem.FORBIDDEN, None, detail)
    use, used = _use(now), _use(was)
    memory, had = _memory(spec, environment), _NOTHING if before is None else _memory(before, environment)
    if use.volumes > quantity.parse(limits.volumes) and use.volumes > used.volumes:
        detail = (
            f"all volumes together, {_shown(use.volumes)}, may not be more than {limits.volumes} {within} "
            "(allowed.limits.volumes)"
        )
        yield FieldError("spec", Problem.FORBIDDEN, None, detail)
    if use.sessions > limits.sessions and use.sessions > used.sessions:
        detail = f"must have at most {limits.sessions} items {within} (allowed.limits.sessions)"
        yield FieldError("spec.sessions", Problem.TOO_MANY, None, detail)
    if use.stores > limits.stores and use.stores > used.stores:
        detail = f"must have at most {limits.stores} database servers and stores {within} (allowed.limits.stores)"
        yield FieldError("spec", Problem.TOO_MANY, None, detail)
    if memory > quantity.parse(limits.memory) and memory > had:
        detail = (
            f"all sessions together, {_shown(memory)}, may not have more than {limits.memory} {within} "
            "(allowed.limits.memory)"
        )
        yield FieldError("spec.quota.memory", Problem.FORBIDDEN, None, detail)


def beyond(spec: DatalabSpec, environment: EnvironmentConfig, existing: Collection[str]) -> dict[str, str]:
    """Parts that do not exist yet and would exceed a limit, and which; what exists comes first, then what is declared
    first."""
    limits, within = environment.data.allowed.limits, _within(environment)
    declared = list(items(spec, environment))
    use = _use([item for item in declared if item.part in existing])
    memory = quantity.parse(spec.quota.memory or environment.data.defaults.quota.memory)
    found: dict[str, str] = {}
    for item in declared:
        if item.part in existing:
            continue
        grown = use.plus(item)
        exceeded = next(
            (
                name
                for name, value, limit in (
                    ("volume", max(size for _, size in item.volumes), quantity.parse(limits.volume)),
                    ("volumes", grown.volumes, quantity.parse(limits.volumes)),
                    ("sessions", Decimal(grown.sessions if item.is_session else 0), Decimal(limits.sessions)),
                    ("stores", Decimal(0 if item.is_session else grown.stores), Decimal(limits.stores)),
                    ("memory", memory * grown.sessions if item.is_session else _NOTHING, quantity.parse(limits.memory)),
                )
                if value > limit
            ),
            None,
        )
        if exceeded is None:
            use = grown
        else:
            found[item.part] = f"it would exceed allowed.limits.{exceeded} {within}"
    return found


def _use(declared: list[Item]) -> Use:
    use = Use()
    for item in declared:
        use = use.plus(item)
    return use


def _memory(spec: DatalabSpec, environment: EnvironmentConfig) -> Decimal:
    one = quantity.parse(spec.quota.memory or environment.data.defaults.quota.memory)
    return one * len(spec.sessions)


def _within(environment: EnvironmentConfig) -> str:
    return f"in environment {environment.name}"


def _shown(size: Decimal) -> str:
    return f"{float(size) / 2**30:.4g}Gi"
