"""What runs against the control plane of all tests: datalabd, and the issuer of the Workspace API's users."""

from collections.abc import Iterator

import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import Daemon, running
from tests.integration.workspace_server import USERS


@pytest.fixture(scope="module")
def datalabd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A ready daemon, the only one of the cluster; it may be stopped, killed and started again."""
    with running(cluster, tmp_path_factory) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """An issuer of tokens for `USERS`; a module with other users has a fixture of its own."""
    with Issuer(USERS) as issuer:
        yield issuer
