"""Command line: run | version."""

import argparse
import asyncio
import os
import sys
from importlib.metadata import version
from urllib.parse import urlsplit

from datalabd import logs
from datalabd.app import Local, Process
from datalabd.config import Settings
from datalabd.errors import DatalabdError


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    if options.verb == "version":
        print(version("datalabd"))
        return 0
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        print(f"datalabd: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level)
    if options.webhook_url is not None and not options.local:
        print("datalabd: --webhook-url goes with --local", file=sys.stderr)
        return 2
    local = None
    if options.local:
        local = Local(options.webhook_url)
        url = urlsplit(options.webhook_url or "")
        if options.webhook_url and (url.scheme != "https" or not url.hostname):
            print("datalabd: --webhook-url must be an address like https://10.0.0.5:9443", file=sys.stderr)
            return 2
        settings = settings.on_workstation(url.port)
    try:
        asyncio.run(Process(settings, options.kubeconfig, local).run())
    except DatalabdError as error:
        print(f"datalabd: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="datalabd", description="From a Datalab claim to a running, bounded lab.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="serve the webhooks and reconcile claims until stopped")
    run.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config, the pod's account")
    run.add_argument(
        "--local",
        action="store_true",
        help="run outside the cluster: installs the CRDs, registers the webhooks by URL, takes them away when stopped",
    )
    run.add_argument(
        "--webhook-url",
        metavar="URL",
        help="with --local: where the API server reaches this machine (https://…), unless both share it",
    )
    verbs.add_parser("version", help="print the version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
