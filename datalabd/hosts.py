"""`datalabd hosts`: which routes of the cluster answer below the domains of labs, whosoever they are.

What stood there before its domain was the labs' is listed as well: admission leaves it alone, and it is found so.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from datalabd import names, routes
from datalabd.api.environment import domain_of, hosts_of
from datalabd.api.meta import Manifest
from datalabd.errors import DatalabdError, Forbidden, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.kube.store import key_of
from datalabd.lab import environment_name
from datalabd.routes import hosts
from datalabd.routes.index import outline
from datalabd.validation import names_of

HEADER = ("HOST", "ROUTE", "NAMESPACE", "LAB", "NOTE")
NOT_THE_LABS = "not the lab's"
LEADS_IN = "leads into the lab"
MANY = "stands for many names"
PLATFORM = "the platform's"


@dataclass(frozen=True, order=True)
class Row:
    """One host of one route."""

    host: str
    """Every host is `*`."""
    route: str
    """Kind and name."""
    namespace: str
    lab: str
    """Namespace and name of the claim whose host it is; `-` for nobody's."""
    note: str

    @property
    def cells(self) -> tuple[str, ...]:
        """As it is printed."""
        return (self.host, self.route, self.namespace, self.lab, self.note)


def run(kubeconfig: str | None) -> int:
    """Print the routes that answer below the domains of labs; returns the exit code: 1 where something is unread."""
    try:
        return asyncio.run(_run(kubeconfig))
    except DatalabdError as error:
        print(f"datalabd: {error}", file=sys.stderr)
        return 1


async def _run(kubeconfig: str | None) -> int:
    client = await Client.connect(kubeconfig)
    code = 0
    try:
        environments = [
            manifest
            for kind in (kinds.CROSSPLANE_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS)
            for manifest in await _list(client, kind)
        ]
        claims = await _list(client, kinds.DATALABS)
        found: list[Manifest] = []
        for kind in kinds.ROUTES:
            try:
                found += map(outline, await _list(client, kind))
            except Forbidden as error:
                print(f"datalabd: {error}", file=sys.stderr)
                code = 1
    finally:
        await client.close()
    listed = sorted(rows(found, claims, environments))
    print("\n".join(_table([HEADER, *(row.cells for row in listed)])) if listed else _nothing(environments))
    return code


async def _list(client: Client, kind: kinds.Resource) -> list[Manifest]:
    """All objects of a kind; none of one that the cluster does not know."""
    try:
        return (await client.list(kind))[0]
    except NotFound:
        return []


def rows(outlines: Iterable[Manifest], claims: Sequence[Manifest], environments: Sequence[Manifest]) -> Iterator[Row]:
    """What there is to say of routes (`index.outline`): a row for each host below a domain of these environments, and
    for every host of a route that leads to the Services of a lab."""
    # Of two environments of one name ours counts, which comes last.
    chosen = {manifest["metadata"]["name"]: domain for manifest in environments if (domain := domain_of(manifest))}
    platform = {host for manifest in environments for host in hosts_of(manifest)}
    domains = set(chosen.values())
    owners: dict[str, tuple[Manifest, str]] = {}
    for claim in claims:
        if domain := chosen.get(environment_name(claim)):
            for host, purpose in routes.lab_hosts(*names_of(claim), domain):
                owners.setdefault(host, (claim, purpose))
    labs = {names.workshop_namespace(claim["metadata"]["name"]): str(key_of(claim)) for claim in claims}
    for route in outlines:
        metadata = route["metadata"]
        namespace = metadata.get("namespace", "")
        entered = labs.get(route.get("into", ""))
        for host in route["hosts"]:
            if entered is not None:
                yield Row(host or "*", f"{route['kind']}/{metadata['name']}", namespace, entered, LEADS_IN)
                continue
            if not any(hosts.reaches_below(host, domain) for domain in domains):
                continue
            lab, note = "-", ""
            if host in owners:
                claim, purpose = owners[host]
                lab = str(key_of(claim))
                is_own = purpose in routes.purposes(route, namespace, claim["metadata"]["name"])
                note = "" if is_own else NOT_THE_LABS
            elif hosts.is_broad(host):
                note = MANY
            elif host in platform:
                note = PLATFORM
            yield Row(host or "*", f"{route['kind']}/{metadata['name']}", namespace, lab, note)


def _nothing(environments: Sequence[Manifest]) -> str:
    domains = sorted({domain for manifest in environments if (domain := domain_of(manifest))})
    return f"No route answers below {', '.join(domains)}." if domains else "No environment names a domain of labs."


def _table(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
