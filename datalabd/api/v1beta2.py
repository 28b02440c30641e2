"""Datalab v1beta2, the hub: what is stored, and what the rest of the project speaks of.

Every bound, default and description here also becomes the CustomResourceDefinition (`crd.py`).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, StrictBool, StringConstraints, model_validator

from datalabd.api.meta import Manifest, Model
from datalabd.api.patterns import DATABASE_NAME, DNS_LABEL, DNS_NAME, HTTP_URL, SERVICE_LABEL, SHA256, TRIMMED, WORD
from datalabd.api.quantity import Quantity

SessionName = Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=DNS_LABEL)]
# Longest names made of a key: PGO's pods and their revision label take 25 characters beside it, MongoDB's 19 and
# Qdrant's 18.
HostKey = Annotated[str, StringConstraints(min_length=1, max_length=38, pattern=SERVICE_LABEL)]
StoreKey = Annotated[str, StringConstraints(min_length=1, max_length=38, pattern=DNS_LABEL)]
CacheKey = Annotated[str, StringConstraints(min_length=1, max_length=38, pattern=SERVICE_LABEL)]
DatabaseName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DATABASE_NAME)]
User = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=TRIMMED)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_NAME)]
Namespace = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=WORD)]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class State(StrEnum):
    """Whether a session is to run."""

    STARTED = "started"
    STOPPED = "stopped"


class Role(StrEnum):
    """What a member of the lab is."""

    ADMIN = "admin"
    USER = "user"


class Budget(StrEnum):
    """Size classes of what a session's own namespace may use, smallest first."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    X_LARGE = "x-large"
    XX_LARGE = "xx-large"
    XXX_LARGE = "xxx-large"


class Policy(StrEnum):
    """Pod security standards, strictest first."""

    RESTRICTED = "restricted"
    BASELINE = "baseline"
    PRIVILEGED = "privileged"


class KubernetesRole(StrEnum):
    """Cluster roles that a session user can be given in the session's own namespaces."""

    ADMIN = "admin"
    EDIT = "edit"
    VIEW = "view"


class UserOverride(Model):
    """What is different for one member."""

    role: Role | None = Field(
        None,
        description="admin makes the member an administrator; user says nothing new. The first user always is one.",
    )
    granted_at: AwareDatetime | None = Field(None, description="When the role was granted; for the record only.")


class Session(Model):
    """One workspace: a home directory that lasts, and a runtime while started."""

    name: SessionName = Field(
        description="DNS label; hosts and namespaces, 63 characters at most, are made of the lab's name and this one."
    )
    state: State = Field(
        State.STARTED, description="started runs the session; stopped keeps only its home directory and its addresses."
    )


class Database(Model):
    """One PostgreSQL server."""

    names: list[DatabaseName] = Field(
        min_length=1,
        max_length=50,
        description="Databases of the server, at most 50, each named once.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    storage: Quantity = Field(description="Size of the data volume; it can grow, not shrink.")
    backup_storage: Quantity = Field(description="Size of the backup volume; it can grow, not shrink.")


class Store(Model):
    """One document, cache or vector store."""

    storage: Quantity = Field(description="Size of the store's volume; it never shrinks; document stores never grow.")


class Data(Model):
    """The object storage, mounted and browsable."""

    enabled: StrictBool = Field(True, description="Whether sessions show the object storage in a browser tab.")
    read_only_mount: StrictBool = Field(False, description="Whether the object storage can only be read there.")


class Registry(Model):
    """A container registry beside each session."""

    enabled: StrictBool = Field(False, description="Whether each session has a container registry of its own.")
    storage: Quantity | None = Field(None, description="Size of the registry's volume; 5Gi if left out.")


class Persistence(Model):
    """The volumes that are home directories."""

    storage_class_name: ObjectName | None = Field(
        None,
        description="Storage class of home directories; the environment may limit the choice and names the default.",
    )


class Quota(Model):
    """How much a session may use; the environment says what applies where the claim does not."""

    memory: Quantity | None = Field(None, description="Memory of a session's container.")
    storage: Quantity | None = Field(None, description="Size of a session's home directory; it can grow, not shrink.")
    budget: Budget | None = Field(None, description="Size class of what a session's own namespace may use.")


class Security(Model):
    """What a session may do; the environment says what applies where the claim does not."""

    policy: Policy | None = Field(
        None, description="Pod security standard of session namespaces; privileged adds Docker."
    )
    kubernetes_access: StrictBool | None = Field(
        None, description="Whether sessions hold a token for the Kubernetes API in their own namespaces."
    )
    kubernetes_role: KubernetesRole | None = Field(None, description="What that token may do there.")
    external_egress: StrictBool | None = Field(
        None, description="Whether the lab reaches addresses outside the cluster, within what the environment allows."
    )


class SecretReference(Model):
    """A Secret with the credentials of a download."""

    name: ObjectName = Field(
        description="Name of the Secret. Downloads find the lab's own, `NAME-datalab`, and no other."
    )
    namespace: Namespace | None = Field(None, description="Only the claim's own namespace is accepted.")


class Prereleases(Model):
    """Which pre-releases count."""

    identifiers: list[Annotated[str, StringConstraints(min_length=1, max_length=63)]] | None = Field(
        None, max_length=20, description="Pre-release identifiers to accept; any if left out."
    )


class Semver(Model):
    """Chooses the newest version that fits."""

    constraints: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        None, description="Range of versions, as in >=1.0.0 <2.0.0."
    )
    prereleases: Prereleases | None = Field(None, description="Takes pre-releases into account.")


class Selection(Model):
    """Chooses among tags or refs."""

    semver: Semver | None = Field(None, description="By semantic version.")


class Image(Model):
    """Files from a container image."""

    url: Url = Field(description="Image reference: registry, repository, and tag or digest.")
    secret_ref: SecretReference | None = Field(None, description="Registry credentials.")
    dangerous_skip_tls_verify: StrictBool | None = Field(
        None, alias="dangerousSkipTLSVerify", description="Whether to accept any certificate of the registry."
    )
    tag_selection: Selection | None = Field(None, description="Chooses the tag.")


class Verification(Model):
    """Signature check of a commit or tag."""

    public_keys_secret_ref: SecretReference | None = Field(None, description="Secret with the accepted public keys.")


class Git(Model):
    """Files from a git repository."""

    url: Url = Field(description="Repository: https, http, ssh, or user@host:path.")
    ref: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=WORD)] = Field(
        description="Branch, tag or commit; a remote branch as origin/main."
    )
    ref_selection: Selection | None = Field(None, description="Chooses the ref.")
    lfs_skip_smudge: StrictBool | None = Field(None, description="Whether to leave large files (LFS) out.")
    verification: Verification | None = Field(None, description="Requires a signature.")
    secret_ref: SecretReference | None = Field(None, description="Repository credentials.")


class Http(Model):
    """One downloaded file or archive."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=HTTP_URL)] = Field(
        description="Address: https or http."
    )
    sha256: Annotated[str, StringConstraints(pattern=SHA256)] | None = Field(
        None, description="Digest the download must have: 64 hexadecimal digits."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials of the server.")


class File(Model):
    """One source of files for the sessions; exactly one of image, git and http."""

    path: FilePath = Field(".", description="Directory to put the files in, below the root of all files.")
    include_paths: list[Glob] | None = Field(
        None, max_length=100, description="Globs of what to take; all if left out."
    )
    exclude_paths: list[Glob] | None = Field(None, max_length=100, description="Globs of what to leave out.")
    new_root_path: FilePath | None = Field(None, description="Directory of the source that becomes its root.")
    image: Image | None = Field(None, description="Takes the files from a container image.")
    git: Git | None = Field(None, description="Takes the files from a git repository.")
    http: Http | None = Field(None, description="Takes the files from a web server.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.image, self.git, self.http)) != 1:
            raise ValueError(ONE_SOURCE)
        return self


FILES_MAX = 256 * 1024
"""Bytes of all sources of a claim, as JSON."""
ONE_SOURCE = "must have exactly one of image, git and http"
FileItem = Annotated[
    File,
    Field(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.image), has(self.git), has(self.http)].exists_one(given, given)",
                    "message": ONE_SOURCE,
                }
            ]
        }
    ),
]


class LabSpec(Model):
    """What all versions ask for in the same words."""

    secret_name: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        None, description="Secret with the object-storage credentials; the lab's name if left out or empty."
    )
    users: list[User] = Field(
        [], max_length=500, description="Members of the lab by their user names; the first one is an administrator."
    )
    user_overrides: dict[User, UserOverride] = Field(
        {}, max_length=500, description="What is different for single members, by user name."
    )
    document_stores: dict[StoreKey, Store] = Field(
        {}, max_length=50, description="MongoDB stores by name, a DNS label."
    )
    cache_stores: dict[CacheKey, Store] = Field(
        {}, max_length=50, description="Redis stores by name, a DNS label that begins with a letter."
    )
    vector_stores: dict[StoreKey, Store] = Field({}, max_length=50, description="Qdrant stores by name, a DNS label.")
    vcluster: StrictBool = Field(False, description="Whether each session has a virtual cluster of its own.")
    data: Data = Field(Data.model_construct(), description="The object storage, mounted and browsable.")
    registry: Registry = Field(Registry.model_construct(), description="A container registry beside each session.")
    persistence: Persistence = Field(
        Persistence.model_construct(), description="The volumes that are home directories."
    )
    quota: Quota = Field(default_factory=Quota, description="How much a session may use.")
    security: Security = Field(default_factory=Security, description="What a session may do.")
    files: list[FileItem] = Field(
        [],
        max_length=50,
        description=f"Where files for the sessions come from; at most {FILES_MAX // 1024} KiB of JSON in all.",
    )
    crossplane: dict[str, Any] | None = Field(
        None,
        description="Taken from claims that were written for the Crossplane composition, and ignored.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class DatalabSpec(LabSpec):
    """What the lab is to be."""

    sessions: list[Session] = Field(
        [],
        max_length=100,
        description="Sessions of the lab, each named once.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    databases: dict[HostKey, Database] = Field(
        {}, max_length=50, description="PostgreSQL servers by host name, a DNS label that begins with a letter."
    )


class SessionStatus(Model):
    """What is known of one declared session."""

    state: State | None = Field(None, description="State asked for.")
    phase: str | None = Field(None, description="Phase the runtime reports.")
    message: str | None = Field(None, description="What the runtime has to say about it.")
    url: str | None = Field(None, description="Address of the session, once it can be used.")


class CredentialStatus(Model):
    """What is known of one credential of the lab; never the credential."""

    since: AwareDatetime | None = Field(None, description="When it was made.")
    rotation: str | None = Field(None, description="Nonce of the last finished rotation.")
    rotating: str | None = Field(None, description="Nonce of the rotation under way.")


class UserStatus(Model):
    """What is known of one member of whom there is something to say."""

    message: str | None = Field(None, description="Why Keycloak has no such member.")


class JobStatus(Model):
    """Something done once for a nonce."""

    nonce: str | None = Field(None, description="Nonce that asked for it.")
    state: str | None = Field(None, description="Requested, Running, Succeeded or Failed.")


class DatabaseStatus(Model):
    """What was asked of one PostgreSQL server by annotation."""

    backup: JobStatus | None = Field(None, description="The last backup on demand.")
    restore: JobStatus | None = Field(None, description="The last restore in place.")


CONCERNS = ("StorageReady", "RuntimeReady", "SessionsReady", "DatabasesReady", "StoresReady", "IdentityReady")
"""Aspects of a lab, in the order in which the first that is not ready explains why the lab is not."""
HOSTS_TAKEN = "HostsTaken"
"""Condition that is there only while True: a route that is not the lab's answers for a host of its sessions."""
ENVIRONMENT_LOST = "EnvironmentLost"
"""Condition that is there only while True: nobody can read the environment that the claim chooses."""
CONDITIONS = ("Ready", "Synced", *CONCERNS, HOSTS_TAKEN, ENVIRONMENT_LOST, "Reconciling", "Stalled")
"""Types of conditions that are ours to write and to take away."""


class Condition(Model):
    """One aspect of how the lab is."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(description="Name of the aspect.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, as one word.")
    message: Annotated[str, StringConstraints(max_length=32768)] = Field(description="Why, for people.")
    last_transition_time: AwareDatetime = Field(description="When status changed last.")
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Generation of the claim this was said of.", json_schema_extra={"format": "int64"}
    )


class DatalabStatus(Model):
    """How the lab is."""

    observed_generation: int | None = Field(
        None, description="Generation of the claim that was acted upon last.", json_schema_extra={"format": "int64"}
    )
    environment: str | None = Field(None, description="Environment in use.")
    started: str | None = Field(None, description="Sessions that can be used and sessions declared, as in 1/2.")
    sessions: dict[str, SessionStatus] = Field(default_factory=dict, description="Declared sessions by name.")
    credentials: dict[str, CredentialStatus] = Field(
        default_factory=dict, description="Credentials of the lab, as <kind>/<name>."
    )
    databases: dict[str, DatabaseStatus] = Field(
        default_factory=dict, description="Backups and restores that were asked for, by host."
    )
    realm: str | None = Field(None, description="Keycloak realm that holds the lab's client and groups: its address.")
    users: dict[str, UserStatus] = Field(
        default_factory=dict, description="Members of whom there is something to say, by user name."
    )
    effective: dict[str, Any] = Field(
        default_factory=dict,
        description="Values in use where the environment has a say.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="How the lab is, aspect by aspect.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Metadata(Model):
    """The part of an object's metadata that decisions are made from."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None


class Datalab(Model):
    """One claim."""

    metadata: Metadata
    spec: DatalabSpec
    status: DatalabStatus = Field(default_factory=DatalabStatus)

    @classmethod
    def parse(cls, manifest: Manifest) -> Self:
        """The claim of a v1beta2 manifest; `pydantic.ValidationError` naming every field that is wrong."""
        return cls.model_validate(manifest)
