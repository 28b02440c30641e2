"""Proof of idleness: what our processes ask of the API server while nothing changes, told by its audit log.

    python -m hack.idle [--labs 10] [--seconds 300]

Exit code 0 if there was nothing but watches, and of each process its one lease. Prints resident memory too.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hack import labs, playground
from hack.cluster import ClusterError

SETTLE_SECONDS = 5.0
AGENTS = {"datalabd": "datalabd", "datalabd-workspaces": "workspaces"}
"""What our processes call themselves to the API server, and are called in the playground."""


def requests(audit_log: Path, offset: int) -> Iterator[tuple[str, str, str]]:
    """Agent, verb and path of our requests since that many bytes of the log; watches and own leases left out."""
    with audit_log.open("rb") as log:
        log.seek(offset)
        for line in log:
            if not line.endswith(b"\n"):
                return  # still being written
            entry = json.loads(line)
            agent, path = entry.get("userAgent", ""), entry["requestURI"].partition("?")[0]
            if agent not in AGENTS or entry["verb"] == "watch" or path.endswith(f"/leases/{agent}"):
                continue
            yield agent, entry["verb"], path


def main() -> int:
    """Run the proof."""
    parser = argparse.ArgumentParser(prog="python -m hack.idle", description=__doc__.splitlines()[0])
    parser.add_argument("--labs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=300.0)
    given = parser.parse_args()
    names = [f"lab-{number:02}" for number in range(given.labs)]
    with tempfile.TemporaryDirectory(prefix="datalabd-idle-") as scratch:
        try:
            with playground.start(Path(scratch, "cluster")) as cluster:
                labs.prepare(cluster, names)
                cluster.kubectl("apply", "-f", "-", stdin=labs.claims(names))
                labs.wait_ready(cluster, len(names))
                playground.start_workspaces(cluster)
                time.sleep(SETTLE_SECONDS)
                offset = cluster.audit_log.stat().st_size
                print(f"{len(names)} labs are ready; watching for {given.seconds:.0f} s …", flush=True)
                time.sleep(given.seconds)
                counted = Counter(requests(cluster.audit_log, offset))
                resident = {agent: labs.resident_mib(cluster, name) for agent, name in AGENTS.items()}
        except ClusterError as error:
            print(error, file=sys.stderr)
            return 1
    for (agent, verb, path), count in counted.most_common():
        print(f"  {count:5} {agent} {verb} {path}")
    print(f"{counted.total()} requests besides watches and leases in {given.seconds:.0f} s with {len(names)} labs")
    for agent, mib in resident.items():
        print(f"{agent}: {mib:.0f} MiB resident")
    return 1 if counted else 0


if __name__ == "__main__":
    sys.exit(main())
