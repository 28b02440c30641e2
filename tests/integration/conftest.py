"""datalabd, running against the control plane of all tests, and what claims and environments are made with."""

from collections.abc import Iterator

import pytest

from hack.cluster import Cluster
from tests.integration.daemon import Daemon, running


@pytest.fixture(scope="module")
def datalabd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A ready daemon, the only one of the cluster; it may be stopped, killed and started again."""
    with running(cluster, tmp_path_factory) as daemon:
        yield daemon
