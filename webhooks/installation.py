"""Which datalabd a cluster belongs to: an installed one behind its Service, or a local run at a URL; never both.

Either looks before it starts, and refuses to take the webhooks of the other away.
"""

import asyncio
import datetime
import ipaddress
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog

from datalabd.api.meta import V1BETA2, Manifest
from datalabd.errors import Invalid, KubeError, NotFound, StartupError
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.kube.lease import is_fresh
from webhooks.registration import CLAIMS, INGRESSES

log = structlog.get_logger()

LOCAL_LEASE_NAMESPACE = "kube-system"
"""Where a local run keeps its Lease: every cluster has it."""
LEASE = "datalabd"
PROBE_SECONDS = 20.0
"""How long a local run tries to be reached: what lies between may look first whether it is ready."""
LOOPBACK = "127.0.0.1"
WEBHOOKS = (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS)


@dataclass(frozen=True)
class Local:
    """A run on a workstation: webhooks are reached by URL, nothing of ours lives in the cluster."""

    url: str | None = None
    """Where the API server reaches us; None: loopback, which must be where it runs too."""

    @property
    def host(self) -> str:
        """The host of that URL."""
        return urlsplit(self.url).hostname or "" if self.url else LOOPBACK

    def refuse_out_of_reach(self, server: str) -> None:
        """Raise `StartupError` where the API server, by its URL, is elsewhere and would look for us on its loopback."""
        if self.url is None and not _is_loopback(urlsplit(server).hostname or ""):
            raise StartupError(
                f"the API server at {server} cannot reach this machine by loopback; "
                "pass --webhook-url with an address of this machine that it can reach"
            )


async def refuse_beside_installation(client: Client) -> None:
    """Raise `StartupError` where an installed datalabd answers: a local run would take its webhooks over, and away."""
    for resource in WEBHOOKS:
        live = await _registration(client, resource)
        if any("service" in config and config.get("caBundle") for config in _client_configs(live)):
            raise StartupError(
                f"datalabd is installed in this cluster: {resource.kind} {CLAIMS} is answered by its Service; "
                "scale it down and delete that registration before you run it from here"
            )


async def refuse_beside_local_run(client: Client) -> None:
    """Raise `StartupError` where a local run answers, and lives: one that stopped renewing its Lease is replaced."""
    for resource in WEBHOOKS:
        urls = [config["url"] for config in _client_configs(await _registration(client, resource)) if "url" in config]
        if not urls:
            continue
        try:
            lease = await client.get(kinds.LEASES, LOCAL_LEASE_NAMESPACE, LEASE)
        except NotFound:
            return
        if is_fresh(lease, datetime.datetime.now(datetime.UTC)):
            raise StartupError(
                f"a local run of datalabd answers for this cluster at {urls[0]}, and holds Lease "
                f"{LOCAL_LEASE_NAMESPACE}/{LEASE} as {lease['spec']['holderIdentity']}: stop it first; "
                "or, if this is a workstation too, pass --local"
            )
        return


async def prove_reachable(client: Client) -> None:
    """Have the API server call us, by a dry run: a workstation it cannot reach would only refuse every claim.

    Raises `StartupError` when it did not within twenty seconds.
    """
    probe = {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {"name": f"probe-{uuid.uuid4().hex[:8]}", "namespace": "default"},
        "spec": {},
    }
    deadline = asyncio.get_running_loop().time() + PROBE_SECONDS
    while True:
        try:
            await client.create(kinds.DATALABS, probe, dry_run=True)
        except Invalid:
            return  # refused by us: reached
        except KubeError as error:
            if asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(1)
                continue
            raise StartupError(
                f"the API server cannot call this process: {error}; check --webhook-url and what lies between"
            ) from error
        return


async def unregister(client: Client, url: str) -> None:
    """Take the webhooks that are answered at `url` away: with nobody behind them they would refuse every claim.

    Those that somebody else answers by now, who leads since, stay.
    """
    for resource in WEBHOOKS:
        for name in (CLAIMS, INGRESSES):
            try:
                live = await client.get(resource, "", name)
                if all(config.get("url", "").startswith(f"{url}/") for config in _client_configs(live)):
                    await client.delete(resource, "", name, live["metadata"]["uid"])
            except NotFound:
                continue
            except KubeError as error:
                log.warning("webhook registration left behind", name=name, error=str(error))


async def _registration(client: Client, resource: kinds.Resource) -> Manifest:
    try:
        return await client.get(resource, "", CLAIMS)
    except NotFound:
        return {}


def _client_configs(live: Manifest) -> Iterator[Manifest]:
    for webhook in live.get("webhooks") or ():
        yield webhook.get("clientConfig") or {}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
