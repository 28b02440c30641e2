"""What the Workspace API is sent: every body. Members that are not known are ignored; everything else has limits.

A time without a zone is taken for UTC.
"""

import re
from collections.abc import Callable, Hashable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from datalabd.api.patterns import DATABASE_NAME, DNS_LABEL, SERVICE_LABEL
from datalabd.api.quantity import Quantity
from datalabd.api.storage import AGE, Mode, Permission, is_bucket_name
from datalabd.api.v1beta2 import Role, SessionName, State
from datalabd.api.workspace import StoreType, Time, Wire

Item = TypeVar("Item")

LIST_MAX = 500
"""Entries of one list of a body."""


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not have line breaks nor other control characters")
    return value


def _once(key: Callable[[Any], Hashable]) -> AfterValidator:
    """Each key's first item."""

    def first(items: list[Item]) -> list[Item]:
        kept: dict[Hashable, Item] = {}
        for item in items:
            kept.setdefault(key(item), item)
        return list(kept.values())

    return AfterValidator(first)


def _bucket_name(value: str) -> str:
    if not is_bucket_name(value):
        raise ValueError(
            "must be 3 to 63 lower-case letters, digits, '.' and '-', beginning and ending with a letter or digit, "
            "without '..', '.-' and '-.'"
        )
    return value


def _target(value: str) -> str:
    if "*" in value[:-1]:
        raise ValueError("must have * only at its end")
    return value


def _age(value: str) -> str:
    if not re.fullmatch(AGE, value, re.ASCII):
        raise ValueError("must be a number and one of s, m, h, d and w, as in 30d")
    return value


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_printable)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000), AfterValidator(_printable)]
BucketName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=63), AfterValidator(_bucket_name)]
Preferred = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
NewSessionName = Annotated[
    SessionName, BeforeValidator(lambda name: name.strip().lower() if isinstance(name, str) else name)
]


class WorkspaceCreate(Wire):
    """A workspace to be made."""

    preferred_name: Preferred = Field("", description="Name, below the prefix; a random one if blank.")
    default_owner: Preferred = Field("", description="User name of the owner; blank: the first member added is.")


class NewMembership(Wire):
    """A member to be added, or whose role is to change."""

    member: Name = Field(description="User name.")
    role: Literal["owner", "admin", "user"] = Field("user", description="The first member is the owner in any case.")
    creation_timestamp: Time | None = Field(None, description="When the role was given; for the record only.")


_STORE_NAMES = {
    StoreType.DATABASE: (DATABASE_NAME, 63),
    StoreType.VECTOR: (DNS_LABEL, 38),
    StoreType.CACHE: (SERVICE_LABEL, 38),
    StoreType.DOCUMENT: (DNS_LABEL, 38),
}


class NewStore(Wire):
    """A store to be added."""

    name: Name = Field(description="Name of the store; of a database, its own name on the server.")
    type: StoreType = Field(description="What kind of store.")
    storage: Quantity | None = Field(None, description="Size; sizes of what is there already do not change.")
    backup_storage: Quantity | None = Field(None, description="Size of a database server's backups.")

    @model_validator(mode="after")
    def _named_for_its_type(self) -> Self:
        pattern, longest = _STORE_NAMES[self.type]
        if len(self.name) > longest or not re.fullmatch(pattern, self.name):
            raise ValueError(f"a store of type {self.type} must have a name of at most {longest} like {pattern}")
        return self


class NewLifecycleRule(Wire):
    """What becomes of objects after an age or at a time."""

    target: Annotated[Name, AfterValidator(_target)] = Field(description="`*`, a prefix ending in `*`, or a path.")
    mode: Mode = Field(Mode.DELETE, description="Whether objects are deleted or only listed.")
    min_age: Annotated[str, StringConstraints(max_length=20), AfterValidator(_age)] | None = Field(
        None, description="Age of each object, as in `30d`."
    )
    at: Time | None = Field(None, description="Time from which on all objects are meant.")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if (self.min_age is None) == (self.at is None):
            raise ValueError("must have exactly one of min_age and at")
        return self


Rules = Annotated[list[NewLifecycleRule], Field(max_length=100), _once(lambda rule: rule.target)]


class NewBucket(Wire):
    """A bucket to be added, or whose rules are to change."""

    name: BucketName = Field(description="The workspace's name, or one that begins with it and `-`.")
    discoverable: bool = Field(False, description="Whether other workspaces see it and may ask for it.")
    lifecycle_rules: Rules | None = Field(None, description="Rules; left out, those that are there stay.")


class BucketAccess(Wire):
    """A request of the workspace itself, or its decision on that of another."""

    workspace: Name = Field(description="The workspace that asks.")
    bucket: Name = Field(description="The bucket asked for.")
    permission: Permission = Field(Permission.READ_WRITE, description="Level.")
    request_timestamp: Time = Field(description="When it was asked for.")
    grant_timestamp: Time | None = Field(None, description="When it was granted.")
    denied_timestamp: Time | None = Field(None, description="When it was denied or revoked; counts before a grant.")


def _last(items: list[BucketAccess]) -> list[BucketAccess]:
    return list({(item.workspace, item.bucket, item.request_timestamp): item for item in items}.values())


class WorkspaceEdit(Wire):
    """What is added to a workspace; nothing is removed."""

    add_memberships: Annotated[list[NewMembership], _once(lambda item: item.member)] = Field(
        [], max_length=LIST_MAX, description="Members to be added, or to have another role."
    )
    add_stores: Annotated[list[NewStore], _once(lambda item: (item.type, item.name))] = Field(
        [], max_length=LIST_MAX, description="Stores to be added."
    )
    add_buckets: Annotated[list[NewBucket], _once(lambda item: item.name)] = Field(
        [], max_length=LIST_MAX, description="Buckets to be added, or to have other rules."
    )
    patch_bucket_access_requests: Annotated[list[BucketAccess], AfterValidator(_last)] = Field(
        [], max_length=LIST_MAX, description="Requests of this workspace, and its decisions on those of others."
    )


class MembershipPatch(Wire):
    """Another role for a member."""

    role: Role = Field(description="admin or user.")


class OwnerPut(Wire):
    """Who is to own the workspace."""

    member: Name = Field(description="A member of it.")


class BucketPatch(Wire):
    """What is to change of a bucket; what is left out stays."""

    discoverable: bool | None = Field(None, description="Whether other workspaces see it and may ask for it.")
    lifecycle_rules: Rules | None = Field(None, description="All its rules.")


class RequestPut(Wire):
    """What is asked of a bucket of another workspace."""

    permission: Literal[Permission.READ_WRITE, Permission.READ_ONLY, Permission.WRITE_ONLY] = Field(
        Permission.READ_WRITE, description="Level that is wanted."
    )
    reason: Text = Field("", description="What for.")


class GrantPut(Wire):
    """What a workspace gets of a bucket."""

    permission: Permission = Field(description="Level; None denies or revokes.")
    reason: Text = Field("", description="Why; both sides see it.")
    expires: Time | None = Field(None, description="When it ends by itself; left out: never.")


class StoreAction(Wire):
    """Details of a rotation, backup or restore; all may be left out."""

    time: Time | None = Field(None, description="Of a restore: up to when; left out: as far as backups reach.")


class SessionCreate(Wire):
    """A session to be declared."""

    name: NewSessionName = Field(description="DNS label.")
    state: State = Field(State.STOPPED, description="Whether it runs at once.")


class SessionPatch(Wire):
    """Whether a session is to run."""

    state: State
