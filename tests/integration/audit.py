"""What the audit log tells of the replicas: who led when, who wrote what, and what was made more than once."""

import datetime
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datalabd.api.meta import ACCOUNT
from tests.integration.replicas import Replica

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
OF_ANY_REPLICA = frozenset({("leases", "datalabd"), ("secrets", "datalabd-serving-cert")})
"""What is written to become leader, or before anybody is."""


class Written(NamedTuple):
    """One write of datalabd that was done."""

    replica: str
    arrived: float
    """Unix time, as is the next."""
    answered: float
    verb: str
    resource: str
    """With its subresource, if any."""
    namespace: str
    name: str
    made: bool
    """Whether the object is new."""

    @property
    def is_lease(self) -> bool:
        """Whether it took the Lease, renewed it or let it go."""
        return (self.resource, self.name) == ("leases", "datalabd")


def written(log: Path, replicas: Iterable[Replica], offset: int = 0) -> list[Written]:
    """The writes since that many bytes of the log, in order of their answers; reviews and dry runs are none."""
    names = {replica.credential: replica.identity for replica in replicas}
    return sorted(_written(log, names, offset), key=lambda write: write.answered)


def _written(log: Path, names: dict[str, str], offset: int) -> Iterator[Written]:
    with log.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n") or ACCOUNT.encode() not in line:
                continue
            entry = json.loads(line)
            of = entry.get("objectRef") or {}
            code = (entry.get("responseStatus") or {}).get("code", 0)
            if (
                entry["user"]["username"] != ACCOUNT
                or entry["verb"] not in WRITES
                or not 200 <= code < 300
                or "dryRun=" in entry["requestURI"]
                or of.get("apiGroup", "") in ("authentication.k8s.io", "authorization.k8s.io")
            ):
                continue
            (credential,) = entry["user"]["extra"]["authentication.kubernetes.io/credential-id"]
            yield Written(
                replica=names[credential],
                arrived=_seconds(entry["requestReceivedTimestamp"]),
                answered=_seconds(entry["stageTimestamp"]),
                verb=entry["verb"],
                resource="/".join(filter(None, [of["resource"], of.get("subresource")])),
                namespace=of.get("namespace", ""),
                name=of.get("name", ""),
                made=code == 201,
            )


def _seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()


def leaders(writes: Sequence[Written]) -> list[tuple[float, str]]:
    """Since when who led, by the first write to the Lease after that of another."""
    held = [(write.answered, write.replica) for write in writes if write.is_lease]
    return [next(group) for _, group in itertools.groupby(held, key=lambda one: one[1])]


def of_former_leaders(writes: Sequence[Written]) -> list[Written]:
    """Writes that arrived while another replica led; what any replica may write aside."""
    terms = leaders(writes)
    found = []
    for write in writes:
        led = [replica for since, replica in terms if since <= write.arrived]
        if (write.resource, write.name) not in OF_ANY_REPLICA and led and led[-1] != write.replica:
            found.append(write)
    return found


def made_twice(writes: Sequence[Written]) -> list[tuple[str, str, str]]:
    """Kind, namespace and name of what was made twice without being deleted in between; Events aside."""
    there: Counter[tuple[str, str, str]] = Counter()
    most: Counter[tuple[str, str, str]] = Counter()
    for write in writes:
        key = (write.resource, write.namespace, write.name)
        if write.verb == "delete":
            there[key] = 0
        elif write.made and write.resource != "events":
            there[key] += 1
            most[key] = max(most[key], there[key])
    return sorted(key for key, count in most.items() if count > 1)
