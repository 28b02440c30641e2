"""Every page of the documentation as a reader follows it: each console block runs as printed, or says why not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack import playground
from hack.pages import Shell, blocks, play

ROOT = Path(__file__).resolve().parents[2]
IN_ORDER = (
    "docs/how-to/install.md",
    "docs/how-to/first-claim.md",
    "docs/tutorial/first-lab.md",
    "docs/how-to/protect-ingress.md",
    "docs/how-to/render.md",
    "docs/how-to/rotate.md",
    "docs/how-to/backup-and-restore.md",
    "docs/how-to/operate.md",
    "docs/how-to/purge.md",
)
"""Pages with something to run, as one would read them; what one leaves, the next has."""
WITH_CONSOLE = [
    str(page.relative_to(ROOT))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if any(True for _ in blocks(page.read_text()))
]
NOT_RUN = {
    "README.md": ["each is a run of its own", "what make demo prints", "it needs your cluster"],
    "docs/how-to/additional-services.md": ["in a session's terminal"] * 8,
    "docs/how-to/identity.md": [
        "it needs a Keycloak",
        "it needs your authority's certificate",
        "for a cluster with namespace datalabd",
        "it needs a Keycloak",
        "it runs until it is stopped",
    ],
    "docs/how-to/install.md": [
        "it installs into a cluster, where the images are built and Educates runs",
        "for a cluster with namespace datalabd",
        "an administrator's, who gives user ann her rights",
        "it installs into a cluster that a local run has left",
        "it removes datalabd from a cluster",
        "it leaves a cluster without conversion",
    ],
    "docs/how-to/move-from-rm-workspace-api.md": ["it needs your cluster"] * 2,
    "docs/how-to/migrate.md": ["it needs labs of the composition"] * 7,
    "docs/how-to/operate.md": ["for a deletion that does not end"],
    "docs/how-to/protect-ingress.md": ["it needs APISIX, and a Keycloak"],
    "docs/how-to/snapshots.md": ["it needs a driver that makes snapshots"] * 3,
    "docs/how-to/use-workspaces.md": ["it needs an API and tokens of two people"],
    "docs/how-to/workspaces.md": ["it installs into a cluster, where the images are built"],
    "docs/how-to/workspaces-identity.md": [
        "it needs a Keycloak",
        "it needs an installation",
        "it runs until it is stopped",
    ],
    "docs/tutorial/first-lab.md": ["the test runs on such a control plane"],
}
"""Reasons of the blocks that are not run, page by page: a new one is a decision."""


def test_blocks_that_are_not_run_are_listed() -> None:
    found = {
        page: [block.not_run for block in blocks((ROOT / page).read_text()) if block.not_run] for page in WITH_CONSOLE
    }
    assert {page: reasons for page, reasons in found.items() if reasons} == NOT_RUN


def test_every_page_with_something_to_run_is_played() -> None:
    to_run = {page for page in WITH_CONSOLE if any(not block.not_run for block in blocks((ROOT / page).read_text()))}
    assert to_run == set(IN_ORDER)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What went otherwise than each page says, played one after the other on one control plane."""
    directory = tmp_path_factory.mktemp("pages")
    (directory / "manifests").symlink_to(ROOT / "manifests")
    with playground.start(tmp_path_factory.mktemp("playground")) as cluster:
        environ = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "KUBECACHEDIR": str(directory / "kubectl-cache"),
            "PATH": os.pathsep.join([*playground.programs(), os.environ["PATH"]]),
        }
        played = {}
        for page in IN_ORDER:
            with Shell(directory, environ) as shell:
                played[page] = play((ROOT / page).read_text(), shell)
        yield played


@pytest.mark.cluster
@pytest.mark.timeout(600)  # of which the first test needs almost all: it has every page played
@pytest.mark.parametrize("page", IN_ORDER)
def test_a_page_runs_as_printed(page: str, outcome: dict[str, list[str]]) -> None:
    assert outcome[page] == []
