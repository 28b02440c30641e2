"""A lab: a claim with every default and every value of its environment resolved. What the plan is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from datalabd.api.conversion import database_classes
from datalabd.api.environment import EnvironmentConfig, Login, Retention
from datalabd.api.meta import DEFAULT_ENVIRONMENT, ENVIRONMENT, Manifest, NamespacedName
from datalabd.api.v1beta2 import Budget, Datalab, DatalabSpec, KubernetesRole, Policy, State
from datalabd.api.v1beta2 import Store as DeclaredStore
from datalabd.defaults import REGISTRY_STORAGE
from datalabd.errors import ClaimInvalid, EnvironmentInvalid


@dataclass(frozen=True)
class DatabaseServer:
    """One PostgreSQL server, resolved; classes are None for the cluster's default."""

    host: str
    databases: tuple[str, ...]
    storage: str
    backup_storage: str
    storage_class: str | None
    backup_storage_class: str | None


@dataclass(frozen=True)
class Store:
    """One document, cache or vector store, resolved; the class is None for the cluster's default."""

    key: str
    storage: str
    storage_class: str | None


@dataclass(frozen=True)
class Lab:
    """One lab, resolved."""

    name: str
    namespace: str
    uid: str
    generation: int
    claim: Datalab
    files: tuple[Manifest, ...]
    """The claim's sources of files, verbatim."""
    environment: EnvironmentConfig
    memory: str
    storage: str
    budget: Budget
    policy: Policy
    kubernetes_access: bool
    kubernetes_role: KubernetesRole
    external_egress: bool
    storage_class: str | None
    """Storage class of home directories, None for the cluster's default."""
    registry_storage: str | None
    """Size of the registry's volume, None without a registry."""
    storage_secret: NamespacedName
    """Where the object-storage credentials are read."""
    databases: tuple[DatabaseServer, ...]
    """By host, sorted, as the stores below are by key."""
    document_stores: tuple[Store, ...]
    cache_stores: tuple[Store, ...]
    vector_stores: tuple[Store, ...]
    derived: dict[object, Any] = dataclass_field(default_factory=dict, init=False, repr=False, compare=False)
    """What `observed.derived_lastingly` made of it."""
    lost: EnvironmentInvalid | None = None
    """What is wrong with the environment that the claim chooses, while the last good one holds; None: nothing is."""

    @property
    def key(self) -> NamespacedName:
        """Namespace and name of the claim."""
        return NamespacedName(self.namespace, self.name)

    @property
    def sessions(self) -> list[str]:
        """Names of all declared sessions, in order."""
        return [session.name for session in self.claim.spec.sessions]

    @property
    def started(self) -> list[str]:
        """Names of the sessions that are to run, in order."""
        return [session.name for session in self.claim.spec.sessions if session.state is State.STARTED]

    @property
    def asks_for_login(self) -> bool:
        """Whether sessions ask for a user name and a password themselves."""
        return not self.environment.data.auth.type.is_delegated

    @property
    def generates_login(self) -> bool:
        """Whether that login is a random one of this lab."""
        return self.asks_for_login and self.environment.data.auth.login is Login.GENERATED

    @property
    def has_realm(self) -> bool:
        """Whether its client, groups and roles in Keycloak are ours to keep."""
        return self.environment.data.iam.url is not None

    @property
    def is_protected(self) -> bool:
        """Whether somebody asks who comes: the session itself, or something in front of it."""
        return self.environment.data.is_protected

    @property
    def retains(self) -> bool:
        """Whether volumes and stores outlive their declaration."""
        return self.environment.data.retention is Retention.RETAIN

    def effective(self) -> dict[str, Any]:
        """The resolved values, as `status.effective` shows them."""
        values: dict[str, Any] = {
            "environment": self.environment.name,
            "domain": self.environment.data.ingress.domain,
            "quota": {"memory": self.memory, "storage": self.storage, "budget": str(self.budget)},
            "security": {
                "policy": str(self.policy),
                "kubernetesAccess": self.kubernetes_access,
                "kubernetesRole": str(self.kubernetes_role),
                "externalEgress": self.external_egress,
            },
            "auth": str(self.environment.data.auth.type),
            "protection": str(self.environment.data.ingress.protection.type),
            "retention": str(self.environment.data.retention),
        }
        if self.storage_class:
            values["persistence"] = {"storageClassName": self.storage_class}
        return values


def environment_name(claim: Manifest) -> str:
    """Name of the environment a claim chooses: by annotation, else by label, else the default; none is blank."""
    metadata = claim["metadata"]
    for source in ("annotations", "labels"):
        chosen = (metadata.get(source) or {}).get(ENVIRONMENT)
        if chosen is not None and (name := str(chosen).strip()):
            return name
    return DEFAULT_ENVIRONMENT


def last_environment(claim: Manifest) -> str:
    """Name of the last good environment that a claim chose, by its status; empty: it never had one."""
    status = claim.get("status") or {}
    return str((status.get("effective") or {}).get("environment") or status.get("environment") or "")


def last_domain(claim: Manifest) -> str:
    """Domain of the hosts that a lab had last, by its status; empty: none is known."""
    return str(((claim.get("status") or {}).get("effective") or {}).get("domain") or "")


def storage_secret(claim: Manifest, environment: EnvironmentConfig) -> NamespacedName:
    """Where a claim's object-storage credentials are read."""
    metadata = claim["metadata"]
    return NamespacedName(
        environment.data.storage.secret_namespace or metadata.get("namespace", "default"),
        (claim.get("spec") or {}).get("secretName") or metadata["name"],
    )


def resolve(claim: Manifest, environment: EnvironmentConfig, spec: DatalabSpec | None = None) -> Lab:
    """The lab a v1beta2 claim makes in an environment; `spec` is its spec where that is parsed already.

    Raises `ClaimInvalid` where the environment does not allow what the claim asks for, and pydantic's ValidationError
    for a stored claim that no admission has seen.
    """
    parsed = Datalab.parse(claim if spec is None else claim | {"spec": spec})
    spec, data = parsed.spec, environment.data
    quota, security = data.defaults.quota, data.defaults.security
    lab = Lab(
        name=parsed.metadata.name,
        namespace=parsed.metadata.namespace,
        uid=parsed.metadata.uid,
        generation=parsed.metadata.generation,
        claim=parsed,
        files=tuple(claim["spec"].get("files") or ()),
        environment=environment,
        memory=spec.quota.memory or quota.memory,
        storage=spec.quota.storage or quota.storage,
        budget=spec.quota.budget or quota.budget,
        policy=spec.security.policy or security.policy,
        kubernetes_access=_first(spec.security.kubernetes_access, security.kubernetes_access),
        kubernetes_role=spec.security.kubernetes_role or security.kubernetes_role,
        external_egress=_first(spec.security.external_egress, security.external_egress),
        storage_class=_storage_class(spec.persistence.storage_class_name, data.storage_classes.allowed),
        registry_storage=(spec.registry.storage or REGISTRY_STORAGE) if spec.registry.enabled else None,
        storage_secret=storage_secret(claim, environment),
        databases=_databases(parsed, environment, database_classes(claim)),
        document_stores=_stores(spec.document_stores, data.mongodb.storage_class_name),
        cache_stores=_stores(spec.cache_stores, data.redis.storage_class_name),
        vector_stores=_stores(spec.vector_stores, data.qdrant.storage_class_name),
    )
    _require_allowed(lab)
    return lab


def _databases(
    claim: Datalab, environment: EnvironmentConfig, classes: dict[str, dict[str, str]]
) -> tuple[DatabaseServer, ...]:
    settings = environment.data.database
    return tuple(
        DatabaseServer(
            host=host,
            databases=tuple(declared.names),
            storage=declared.storage,
            backup_storage=declared.backup_storage,
            storage_class=classes.get(host, {}).get("storageClassName") or settings.storage_class_name,
            backup_storage_class=classes.get(host, {}).get("backupStorageClassName")
            or settings.backup_storage_class_name,
        )
        for host, declared in sorted(claim.spec.databases.items())
    )


def _stores(declared: Mapping[str, DeclaredStore], storage_class: str | None) -> tuple[Store, ...]:
    return tuple(Store(key, store.storage, storage_class) for key, store in sorted(declared.items()))


def _first(wish: bool | None, default: bool) -> bool:
    return default if wish is None else wish


def _storage_class(wish: str | None, allowed: list[str]) -> str | None:
    """That of homes; whether it may be so is for `rules` to say, as homes may be older than what is allowed."""
    return wish if wish is not None or not allowed else allowed[0]


def _require_allowed(lab: Lab) -> None:
    """The environment's limits once more: admission may have been down, or the environment changed since."""
    allowed = lab.environment.data.allowed
    name = lab.environment.name
    if allowed.namespaces is not None and lab.namespace not in allowed.namespaces:
        raise ClaimInvalid("metadata.namespace", f"environment {name} is not open to namespace {lab.namespace}")
    for field, value, options in (
        ("spec.security.policy", lab.policy, allowed.policies),
        ("spec.security.kubernetesRole", lab.kubernetes_role, allowed.kubernetes_roles),
        ("spec.quota.budget", lab.budget, allowed.budgets),
    ):
        if value not in options:
            raise ClaimInvalid(field, f"environment {name} allows {', '.join(options)}, not {value}")
    if lab.claim.spec.vcluster and not allowed.vcluster:
        raise ClaimInvalid("spec.vcluster", f"environment {name} allows no virtual clusters")
