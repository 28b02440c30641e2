"""Run all stand-ins against the cluster of $KUBECONFIG until interrupted.

    python -m hack.standins [--ingress-domain lab.example.org] [--ingress-class nginx] [--ingress-secret NAME]

Installs what it needs first; the real definitions are used if $DATALABD_SHARED names a directory that has them.
"""

import argparse
import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from datalabd.kube.client import Client
from hack.minio import PASSWORD, USER, Account
from hack.standins import (
    STORES,
    Educates,
    Kubelet,
    StorageProvider,
    install,
    install_storage_crd,
    install_store_crds,
    secrets_manager,
)


async def run(
    kubeconfig: Path,
    domain: str,
    ingress_class: str,
    ingress_secret: str,
    shared: Path | None,
    minio: Account | None = None,
) -> None:
    """Return on SIGINT, SIGTERM or a failure of a stand-in, which is raised."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await Client.connect(str(kubeconfig), user_agent="standins")
    try:
        await install(client, shared)
        await install_store_crds(client, shared and shared / "crds")
        await install_storage_crd(client, shared and shared / "crds")
        async with AsyncExitStack() as entered:
            copying = await entered.enter_async_context(secrets_manager(client, kubeconfig))
            educates = Educates(
                client, copying, domain=domain, ingress_class=ingress_class, ingress_secret=ingress_secret
            )
            playing = [
                await entered.enter_async_context(standin)
                for standin in (
                    educates,
                    Kubelet(client),
                    StorageProvider(client, minio=minio),
                    *(store(client) for store in STORES),
                )
            ]
            print(f"playing Educates, kubelet, storage and operators of stores on {client.server}", flush=True)
            waits = [asyncio.create_task(wait) for wait in (stop.wait(), *(standin.run() for standin in playing))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
    finally:
        await client.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hack.standins", description="Play Educates, the kubelet, storage and operators of stores."
    )
    parser.add_argument("--ingress-domain", default="lab.example.org", metavar="DOMAIN")
    parser.add_argument("--ingress-class", default="nginx", metavar="NAME")
    parser.add_argument("--ingress-secret", default="", metavar="NAME", help="TLS Secret in namespace educates")
    parser.add_argument("--minio", default="", metavar="URL", help=f"has the buckets; its keys are {USER}, {PASSWORD}")
    given = parser.parse_args()
    kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    shared = Path(os.environ["DATALABD_SHARED"]) if os.environ.get("DATALABD_SHARED") else None
    minio = Account.of_environment(given.minio) if given.minio else None
    asyncio.run(run(kubeconfig, given.ingress_domain, given.ingress_class, given.ingress_secret, shared, minio))


if __name__ == "__main__":
    main()
