"""What tests of stand-ins share."""

from collections.abc import Iterator

import pytest

from hack.cluster import Cluster
from tests.integration.objects import unique


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace that goes with all it holds, or stand-ins would play on with it in the next test."""
    name = unique("test")
    cluster.api.create_namespace(name)
    yield name
    cluster.api.delete("namespace", name)
