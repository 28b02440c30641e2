"""What the Workspace API answers; `workspace_bodies` has what it is sent.

What stands in an answer is checked by nobody: it tells what is there, and that may be odd. Times are RFC 3339 in UTC.
"""

import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from datalabd.api.storage import Mode, Permission
from datalabd.api.v1beta2 import State


class StoreType(StrEnum):
    """Kinds of stores, in the order in which they are told."""

    DATABASE = "database"
    VECTOR = "vector"
    CACHE = "cache"
    DOCUMENT = "document"


class Status(StrEnum):
    """How far a workspace is."""

    READY = "ready"
    PROVISIONING = "provisioning"


def _utc(value: datetime.datetime) -> datetime.datetime:
    try:
        return value.replace(tzinfo=value.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999 in UTC") from None


Time = Annotated[datetime.datetime, AfterValidator(_utc)]


def stamp(value: datetime.datetime) -> str:
    """A time as answers have it: UTC, with its fraction of a second where it has one."""
    return value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


class Wire(BaseModel):
    """Base of bodies and answers; names are as on the wire."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Created(Wire):
    """A workspace that was made, or edited."""

    name: str
    warnings: list[str] | None = Field(None, description="What admission has to say; left out where it is nothing.")


class LifecycleRule(Wire):
    """What becomes of objects after an age or at a time."""

    target: str
    mode: Mode
    min_age: str | None = None
    at: Time | None = None


class Bucket(Wire):
    """A bucket of the workspace's own."""

    name: str
    discoverable: bool
    lifecycle_rules: list[LifecycleRule] = []


class Credentials(Wire):
    """Keys of the object storage."""

    bucketname: str
    access: str
    secret: str
    endpoint: str
    region: str
    since: Time | None = Field(None, description="When they were replaced last.")


class BucketAccessRequest(Wire):
    """Who asks whom for a bucket, and what came of it.

    Without `request_timestamp` nobody asked yet; with it alone the request waits.
    """

    workspace: str
    bucket: str
    permission: Permission = Field(description="Level that was granted; until then, that is wanted.")
    request_timestamp: Time | None = None
    grant_timestamp: Time | None = None
    denied_timestamp: Time | None = None
    reason: str | None = Field(None, description="What the request says.")
    decision: str | None = Field(None, description="What the decision says.")
    expires: Time | None = Field(None, description="When the grant ends by itself.")


class StorageView(Wire):
    """The object storage."""

    buckets: list[Bucket] = []
    credentials: Credentials | None = None
    bucket_access_requests: list[BucketAccessRequest] = []


class StoredObject(Wire):
    """An object."""

    key: str
    size: int = Field(description="Bytes.")
    modified: Time | None = None


class ObjectPage(Wire):
    """Objects of a bucket whose keys begin with a prefix, those with a further `/` only by what is before it."""

    bucket: str
    prefix: str
    prefixes: list[str] = []
    objects: list[StoredObject] = []
    continue_: str | None = Field(None, alias="continue", description="Where the next page begins; left out: nowhere.")


class BucketUsage(Wire):
    """How much there is in a bucket."""

    objects: int
    bytes: int
    complete: bool = Field(description="Whether all of it was counted; if not, there is more than this.")


class Membership(Wire):
    """A member."""

    member: str
    role: Literal["owner", "admin", "user"]
    creation_timestamp: Time | None = Field(
        None, description="When the role was given, where that is recorded; else when the workspace was made."
    )
    problem: str | None = Field(None, description="Why Keycloak does not know of the member.")


class StoreView(Wire):
    """A store."""

    name: str
    type: StoreType
    storage: str | None = None
    backup_storage: str | None = None
    creation_timestamp: Time | None = None
    server: str | None = Field(None, description="Of a database: the server that it is on, with which it is cared for.")
    ready: bool | None = Field(None, description="Whether it can be used; left out where that is not known.")
    message: str | None = Field(None, description="What keeps it, or others of its kind, from being ready.")
    credentials_since: Time | None = Field(None, description="When its credentials were made or replaced last.")
    rotating: bool = Field(False, description="Whether its credentials are being replaced.")
    rotated: bool = Field(False, description="Whether they were replaced since the store was made.")
    backup: str | None = Field(
        None, description="The last backup that was asked for: `Requested`, `Running`, `Succeeded` or `Failed`."
    )
    restore: str | None = Field(None, description="The last restore that was asked for, likewise.")


class Session(Wire):
    """A session."""

    name: str
    state: State
    url: str | None = None
    ready: bool = False
    phase: str | None = Field(
        None,
        description="Phase that the runtime reports; where the lab keeps a session from starting, `Pending`, or "
        "`Failed` if somebody has to mend the lab.",
    )
    message: str | None = Field(
        None, description="What the runtime has to say, or the lab of what keeps the session from starting."
    )
    since: Time | None = Field(None, description="When the lab's sessions became ready, or ceased to be.")
    warnings: list[str] | None = Field(
        None, description="What admission has to say of its change; left out where it is nothing."
    )


class RegistryCredentials(Wire):
    """Login of the container registry; only the endpoint for credentials tells the password."""

    username: str
    password: str


StoreCredentials = dict[str, dict[str, dict[str, Any]]]
"""By type, then by store; of databases by server."""


class DatalabView(Wire):
    """The lab."""

    memberships: list[Membership] = []
    available: bool
    available_store_types: list[StoreType] = []
    stores: list[StoreView] = []
    sessions: list[Session] = []
    max_sessions: int
    store_credentials: StoreCredentials = {}
    container_registry_credentials: RegistryCredentials | None = None


class VolumeClaim(Wire):
    """A volume of the lab."""

    name: str
    size: str


class StorageUsage(Wire):
    """Volumes of the lab, and what they may take in all."""

    quota: str | None = None
    requested: str
    remaining: str | None = None
    persistent_volume_claims: list[VolumeClaim] = []


class ResourceUsage(Wire):
    """What the lab uses of the cluster."""

    storage: StorageUsage


class User(Wire):
    """Who asks, and what they may do on this workspace."""

    name: str
    permissions: list[str]


_HINDRANCE = "What its Storage waits for, else what its lab does; left out for whom may not see buckets, or sessions."


class ConditionView(Wire):
    """A condition of a Storage or a Datalab that does not say what it should."""

    object: Literal["Storage", "Datalab"]
    type: str
    reason: str
    message: str
    since: Time | None = None
    stalled: bool = Field(description="Whether it needs a person.")


class Workspace(Wire):
    """A workspace as its viewer may see it."""

    name: str
    creation_timestamp: Time | None = None
    version: str
    status: Status
    storage: StorageView
    datalab: DatalabView
    resource_usage: ResourceUsage | None = None
    problem: str | None = Field(None, description="Why credentials cannot be told; `status` is not `ready` then.")
    message: str | None = Field(None, description=_HINDRANCE)
    conditions: list[ConditionView] = Field(
        [], description="Those that do not say what they should; left out for whom may not see members: they name them."
    )
    user: User


class SessionLink(Wire):
    """A session, and where it is opened."""

    name: str
    url: str
    ready: bool | None = Field(None, description="Whether a started one can be opened.")


class WorkspaceRow(Wire):
    """A workspace in the list."""

    name: str
    url: str
    sessions: list[SessionLink] = Field([], description="Those that are started.")
    stopped: list[SessionLink] = []
    status: Status
    members: int | None = Field(None, description="How many there are; left out for whom may not see them.")
    pending: int | None = Field(None, description="Requests that wait for a decision of this workspace.")
    problem: str | None = Field(None, description="Why its `status` cannot be told.")
    message: str | None = Field(None, description=_HINDRANCE)


class AllCredentials(Wire):
    """Every credential of a workspace, in clear."""

    storage: Credentials | None = None
    store_credentials: StoreCredentials = {}
    container_registry_credentials: RegistryCredentials | None = None


class Token(Wire):
    """A token of the workspace's own client."""

    access_token: str
    token_type: str
    expires_in: int | None
    scope: str | None


class Opened(Wire):
    """A session that can be used."""

    url: str


class Starting(Wire):
    """A session that is on its way."""

    status: Literal["starting"] = "starting"
    url: str | None = None
    message: str | None = Field(None, description="What it waits for, as in the list of sessions.")


class Asked(Wire):
    """Something that was asked of a store, once for the nonce; the claim's status tells how far it is."""

    name: str
    nonce: str
    warnings: list[str] | None = Field(None, description="What admission has to say; left out where it is nothing.")


class Activity(Wire):
    """One Event."""

    time: Time | None
    type: str
    reason: str
    message: str = Field(description="Empty for whom may not see members: it names them.")
    object: str = Field(description="Kind of the object that it is of.")
    count: int = 1


class ActivityPage(Wire):
    """Events, newest first."""

    items: list[Activity]
    continue_: str | None = Field(None, alias="continue", description="Where the next page begins; left out: nowhere.")


class Problem(Wire):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = Field([], description="What is wrong with single members of the request.")


class ErrorDetail(Wire):
    """An error."""

    detail: str | dict[str, Any] | list[dict[str, Any]]
