"""Who makes which name, as claims and runtimes come, change and go."""

import pytest

from datalabd.api.meta import CLAIM_NAME, CLAIM_NAMESPACE, FIELD_MANAGER, MANAGED_BY, V1BETA2, Manifest, NamespacedName
from datalabd.kube import resources as kinds
from datalabd.kube.informers import EVERYWHERE
from datalabd.kube.name_index import NameIndex
from datalabd.kube.store import Store
from datalabd.submission import Names
from datalabd.validation import unique_names

ONE, TWO = NamespacedName("team", "one"), NamespacedName("team", "two")


class Cluster:
    """The stores that an index follows."""

    def __init__(self) -> None:
        self.claims, self.runtimes = Store(kinds.DATALABS), Store(kinds.WORKSHOP_ENVIRONMENTS)
        self.index = NameIndex(self.claims, self.runtimes)
        self._version = 0

    def hold(self, *objects: Manifest) -> None:
        """Let there be these claims and runtimes, and no others."""
        self._version += 1
        for store in (self.claims, self.runtimes):
            listed = [
                obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._version)}}
                for obj in objects
                if obj["kind"] == store.resource.kind
            ]
            store.replace(EVERYWHERE, listed)

    def makers(self, *wanted: str) -> dict[str, set[NamespacedName]]:
        """Who makes these hosts."""
        return {name: self.index.makers(("host", name)) for name in wanted}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def claim(key: NamespacedName, *sessions: str) -> Manifest:
    return {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": {"sessions": [{"name": session} for session in sessions]},
    }


def runtime(name: str, of: NamespacedName | None) -> Manifest:
    labels = {} if of is None else {MANAGED_BY: FIELD_MANAGER, CLAIM_NAMESPACE: of.namespace, CLAIM_NAME: of.name}
    return {"kind": "WorkshopEnvironment", "metadata": {"name": name, "labels": labels}}


def test_names_come_change_and_go_with_their_claim(cluster: Cluster) -> None:
    cluster.hold(claim(ONE, "a", "b"), claim(TWO))
    assert cluster.makers("one-a", "one-b", "two") == {"one-a": {ONE}, "one-b": {ONE}, "two": {TWO}}
    cluster.hold(claim(ONE, "b", "c"), claim(TWO))
    assert cluster.makers("one-a", "one-b", "one-c", "two") == {
        "one-a": set(),
        "one-b": {ONE},
        "one-c": {ONE},
        "two": {TWO},
    }
    cluster.hold(claim(TWO))
    assert cluster.makers("one", "one-b", "two") == {"one": set(), "one-b": set(), "two": {TWO}}


def test_a_name_may_have_several_makers(cluster: Cluster) -> None:
    other, session = NamespacedName("team", "one-a"), ("host", "one-a")
    cluster.hold(claim(ONE, "a"), claim(other))
    assert cluster.index.makers(session) == {ONE, other}
    assert cluster.index.holders([session, ("host", "free")], but=ONE) == {session: other}
    assert cluster.index.holders([session], but=other) == {session: ONE}
    assert cluster.index.holders([session], but=TWO) == {session: ONE}


def test_a_runtime_that_was_kept_keeps_its_names(cluster: Cluster) -> None:
    cluster.hold(claim(ONE, "a"), runtime("one", of=ONE))
    assert not cluster.index.is_kept(ONE)
    cluster.hold(runtime("one", of=ONE))
    assert cluster.index.is_kept(ONE)
    assert cluster.index.holders(unique_names(Names("one")), but=TWO) == dict.fromkeys(unique_names(Names("one")), ONE)
    assert cluster.makers("one-a") == {"one-a": set()}
    cluster.hold(claim(ONE, "a"), runtime("one", of=ONE))
    assert cluster.makers("one-a") == {"one-a": {ONE}}
    cluster.hold()
    assert not cluster.index.is_kept(ONE)
    assert cluster.makers("one") == {"one": set()}


def test_a_runtime_is_that_of_whoever_it_says_now(cluster: Cluster) -> None:
    elsewhere = NamespacedName("elsewhere", "one")
    cluster.hold(runtime("one", of=ONE))
    cluster.hold(runtime("one", of=elsewhere))
    assert cluster.makers("one") == {"one": {elsewhere}}
    cluster.hold(runtime("one", of=None))
    assert cluster.makers("one") == {"one": set()}
