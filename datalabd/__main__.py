"""Command line: run | workspaces | render | purge | hosts | version."""

import argparse
import asyncio
import os
import sys
from importlib.metadata import version
from urllib.parse import urlsplit

from datalabd import logs
from datalabd.config import Settings
from datalabd.errors import DatalabdError


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    if options.verb == "version":
        print(version("datalabd"))
        return 0
    verbs = {"render": _render, "purge": _purge, "hosts": _hosts, "run": _run, "workspaces": _workspaces}
    return verbs[options.verb](options)


def _render(options: argparse.Namespace) -> int:
    from datalabd import render  # each verb imports what it needs alone: this one is waited for at a prompt

    if [options.claim, options.environment, options.cluster].count("-") > 1:
        print("datalabd: only one of --claim, --environment and --cluster can be -", file=sys.stderr)
        return 2
    return render.run(
        options.claim,
        options.environment,
        options.cluster,
        options.output,
        kubernetes_only=options.kubernetes_only,
    )


def _purge(options: argparse.Namespace) -> int:
    from datalabd import purge

    return purge.run(
        options.lab,
        options.object,
        agreed=options.yes,
        kubeconfig=options.kubeconfig,
        unmarked=options.unmarked,
        ignore_not_found=options.ignore_not_found,
    )


def _hosts(options: argparse.Namespace) -> int:
    from datalabd import hosts

    return hosts.run(options.kubeconfig)


def _run(options: argparse.Namespace) -> int:
    from datalabd.app import Process
    from webhooks.installation import Local

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


def _workspaces(options: argparse.Namespace) -> int:
    if options.openapi:
        from workspaces import openapi

        sys.stdout.write(openapi.text())
        return 0
    from workspaces.app import Process
    from workspaces.settings import Settings

    doubts: list[str] = []
    try:
        settings = Settings.read(os.environ, doubt=doubts.append)
    except ValueError as error:
        print(f"datalabd: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level)
    for doubt in doubts:
        print(f"datalabd: {doubt}", file=sys.stderr)
    try:
        asyncio.run(Process(settings, options.kubeconfig).run())
    except DatalabdError as error:
        print(f"datalabd: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="datalabd", description="From a Datalab claim to a running, bounded lab.")
    parser.add_argument("--version", action="version", version=version("datalabd"), help="print the version")
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
    workspaces = verbs.add_parser(
        "workspaces",
        help="serve the Workspace API until stopped",
        description="Serve the Workspace API until stopped. Settings are variables of the environment, and "
        "docs/reference/workspaces.md lists them; OIDC_ISSUER is required.",
    )
    workspaces.add_argument(
        "--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config, the pod's account"
    )
    workspaces.add_argument("--openapi", action="store_true", help="print its OpenAPI document instead")
    render = verbs.add_parser("render", help="print every object that claims become, without a cluster")
    render.add_argument("--claim", metavar="FILE", required=True, help="Datalabs of either version; - is stdin")
    render.add_argument(
        "--environment", metavar="FILE", required=True, help="EnvironmentConfigs of either group; each claim chooses"
    )
    render.add_argument("--cluster", metavar="FILE", help="live objects, with status and Secret data, to plan from")
    render.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="default: yaml")
    render.add_argument(
        "--kubernetes-only", action="store_true", help="leave out what Keycloak is to hold, which kubectl cannot apply"
    )
    purge = verbs.add_parser("purge", help="delete for good what was retained of a lab")
    purge.add_argument("lab", metavar="NAMESPACE/NAME", help="its claim, which may be gone")
    purge.add_argument(
        "--object", metavar="KIND/NAME", action="append", default=[], help="only this; may be given several times"
    )
    purge.add_argument(
        "--unmarked",
        action="store_true",
        help="also what no deletion of the claim has marked as retained, sessions that run included: "
        "the claim went without datalabd",
    )
    purge.add_argument(
        "--ignore-not-found", action="store_true", help="exit with 0 if nothing of the lab, or no such object, is found"
    )
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config, the pod's account")
    hosts = verbs.add_parser("hosts", help="list the routes that answer below the domains of labs")
    hosts.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config, the pod's account")
    verbs.add_parser("version", help="print the version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
