"""Datalab v1beta1: the older words for the same claim.

Objects are read in the hub's words (`conversion.to_v1beta2`, then `v1beta2.Datalab.parse`); these models are the
schema.
"""

from typing import Any

from pydantic import Field

from datalabd.api import v1beta2
from datalabd.api.meta import Model
from datalabd.api.v1beta2 import DatalabStatus, HostKey, LabSpec, ObjectName


class Database(v1beta2.Database):
    """One PostgreSQL server, with storage classes of its own."""

    storage_class_name: ObjectName | None = Field(
        None, description="Class of the data volume; the environment's if left out."
    )
    backup_storage_class_name: ObjectName | None = Field(
        None, description="Class of the backup volume; the environment's if left out."
    )


class DatalabSpec(LabSpec):
    """What the lab is to be."""

    sessions: list[Any] = Field(
        [],
        max_length=100,
        description="Sessions of the lab, each named once: a name, which starts the session, or an object with name "
        "and state (started, stopped, or the older running, paused).",
        # A structural schema cannot say "string or object"; admission checks the items.
        json_schema_extra={"items": {"x-kubernetes-preserve-unknown-fields": True}},
    )
    databases: dict[HostKey, Database] = Field(
        {}, max_length=50, description="PostgreSQL servers by host name, a DNS label that begins with a letter."
    )


class Datalab(Model):
    """One claim."""

    spec: DatalabSpec
    status: DatalabStatus = Field(default_factory=DatalabStatus)
