"""What tests share: one control plane for the whole run, a client of it, and a namespace for each test."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.deadlines import scaled, slowness
from hack.guarded import Lifeline
from tests.integration.objects import let_go, open_namespace
from tests.leftovers import sweep
from tests.rights import Rights
from tests.servers import shared_directory

BROWSER = "tests/browser/"
CLUSTER = pytest.StashKey[Cluster]()


def pytest_configure(config: pytest.Config) -> None:
    """Measure the machine before there are workers, and watch over what the tested process may do."""
    slowness()
    config.pluginmanager.register(Rights(config), "rights")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have servers that workers share end with who commands them, however that ends and whoever started them."""
    if not hasattr(session.config, "workerinput"):
        session.config.add_cleanup(Lifeline(shared_directory(session.config)).close)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that may take longest, so that no worker is left with one of them in the end."""
    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0), _expected(item))
    items.sort(key=lambda item: -longest[item.path])
    for item in items:
        if allowed := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(scaled(allowed.args[0])), append=False)
        elif item.config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(scaled(float(item.config.getini("timeout")))))


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A file is one worker's, and so are all tests of the pages: they share a stage, which none starts twice."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Deal the tests out by file where that is asked for, with the exception that is made of the pages'."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_report_header() -> str:
    """Say how long is waited for what."""
    return f"deadlines: {slowness():.1f} times those of an idle machine"


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Have the report of a test tell which servers it needs; it may be made in another process."""
    for mark in item.iter_markers("servers"):
        item.user_properties += (("server", name) for name in mark.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests passed with each real server: none of them was played."""
    passed = terminalreporter.stats.get("passed", ())
    counts = Counter(value for report in passed for key, value in report.user_properties if key == "server")
    if counts:
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        terminalreporter.line(f"passed with real servers: {told}")


def _expected(item: pytest.Item) -> float:
    """Seconds that a test may take, if it says so; what needs a cluster comes before what does not."""
    allowed = item.get_closest_marker("timeout")
    return allowed.args[0] if allowed else float(item.get_closest_marker("cluster") is not None)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane; names of cluster-scoped objects have to be unique to their test."""
    with Cluster.start(tmp_path_factory.mktemp("control-plane")) as cluster:
        request.config.stash[CLUSTER] = cluster
        yield cluster


@pytest.fixture(scope="module", autouse=True)
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a module, nothing is on the control plane that somebody would work on."""
    yield
    cluster = request.config.stash.get(CLUSTER, None)
    if cluster is not None:
        sweep(cluster)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The product's client, as administrator."""
    client = await Client.connect(str(cluster.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace, where claims may be made; they are let go in the end."""
    name = open_namespace(cluster, "test")
    yield name
    let_go(cluster, name)
