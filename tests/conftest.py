"""What tests share: one control plane for the whole run, a client of it, and a namespace for each test."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from datalabd.kube.client import Client
from hack.account import open_to_claims
from hack.cluster import Cluster
from hack.guarded import Lifeline
from tests.rights import Rights
from tests.servers import shared_directory


def pytest_configure(config: pytest.Config) -> None:
    """Watch over what the tested process may do."""
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
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane; names of cluster-scoped objects have to be unique to their test."""
    with Cluster.start(tmp_path_factory.mktemp("control-plane")) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The product's client, as administrator."""
    client = await Client.connect(str(cluster.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace, where claims may be made; its deletion is asked for and not awaited."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.api.create_namespace(name)
    open_to_claims(cluster, name)
    yield name
    cluster.api.delete("namespace", name)
