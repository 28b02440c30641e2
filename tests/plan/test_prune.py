import pytest

from datalabd.api.meta import RETAINED, Manifest
from datalabd.plan.prune import Identity, Pruning, identity, prune
from tests.factories import LABELS, environment, lab, secret, volume

HOME = volume("lab-old-persistent")
DATA_MOUNT = volume("lab-datalab")
KEPT = volume("lab-older-persistent", labels=LABELS | {RETAINED: "true"})
GOING = volume("lab-gone-persistent", deletionTimestamp="2026-03-01T11:00:00Z")
POLICY: Manifest = {"kind": "NetworkPolicy", "metadata": {"name": "x", "namespace": "lab"}}
LEFT = POLICY | {"metadata": POLICY["metadata"] | {"labels": {RETAINED: "true"}}}
ENDING = POLICY | {"metadata": POLICY["metadata"] | {"namespace": "lab-main"}}
LOGIN = secret("lab-login", labels=LABELS)
STORE: Manifest = {"kind": "Redis", "metadata": {"name": "a", "namespace": "lab", "labels": LABELS}}
KEPT_STORE = STORE | {"metadata": STORE["metadata"] | {"labels": LABELS | {RETAINED: "true"}}}
PASSWORD = secret("a-redis-auth", "lab", labels=LABELS)
ROUTE: Manifest = {"kind": "TLSRoute", "metadata": {"name": "a", "namespace": "lab"}}
ACCOUNT: Manifest = {"kind": "ServiceAccount", "metadata": {"name": "mongodb-kubernetes-appdb", "namespace": "lab"}}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(LOGIN, ("Secret", "team", "lab-login"), id="namespaced"),
        pytest.param({"kind": "Workshop", "metadata": {"name": "lab"}}, ("Workshop", "", "lab"), id="cluster-scoped"),
    ],
)
def test_identity(obj: Manifest, expected: tuple[str, str, str]) -> None:
    assert identity(obj) == expected


@pytest.mark.parametrize(
    ("retention", "obj", "expected"),
    [
        pytest.param("Retain", LOGIN, Pruning([LOGIN], []), id="what holds no data is deleted"),
        pytest.param("Retain", HOME, Pruning([], [HOME]), id="a home directory is retained"),
        pytest.param("Retain", DATA_MOUNT, Pruning([DATA_MOUNT], []), id="the data mount holds nothing"),
        pytest.param("Retain", KEPT, Pruning([], []), id="retained already"),
        pytest.param("Retain", GOING, Pruning([], []), id="being deleted already"),
        pytest.param("Retain", POLICY, Pruning([POLICY], []), id="a policy beside those that are wanted"),
        pytest.param("Retain", LEFT, Pruning([LEFT], []), id="a policy that an earlier claim left behind"),
        pytest.param("Retain", ENDING, Pruning([], []), id="a policy of a namespace that is on its way out"),
        pytest.param(
            "Delete", HOME, Pruning([HOME], []), id="a home directory is deleted where the environment says so"
        ),
        pytest.param("Delete", KEPT, Pruning([], []), id="what was retained is never deleted"),
        pytest.param("Retain", STORE, Pruning([], [STORE]), id="a store is retained"),
        pytest.param("Retain", PASSWORD, Pruning([], [PASSWORD]), id="what a store is opened with is retained"),
        pytest.param("Retain", ROUTE, Pruning([ROUTE], []), id="a route from outside is closed"),
        pytest.param("Retain", ACCOUNT, Pruning([ACCOUNT], []), id="an account that no store needs"),
        pytest.param("Delete", STORE, Pruning([STORE], []), id="a store is deleted where the environment says so"),
        pytest.param("Delete", PASSWORD, Pruning([PASSWORD], []), id="what it is opened with is deleted with it"),
    ],
)
def test_what_is_no_longer_wanted(retention: str, obj: Manifest, expected: Pruning) -> None:
    wanted = {("NetworkPolicy", "lab", "deny-egress")}
    assert prune(lab(environment(retention=retention)), wanted, (obj,)) == expected


@pytest.mark.parametrize("retention", ["Retain", "Delete"])
def test_what_is_wanted_stays(retention: str) -> None:
    here = lab(environment(retention=retention))
    owned = (HOME, DATA_MOUNT, KEPT, LOGIN)
    assert prune(here, {identity(obj) for obj in owned}, owned) == Pruning([], [])


@pytest.mark.parametrize(
    ("retention", "store", "expected"),
    [
        pytest.param("Retain", STORE, Pruning([], [STORE]), id="of a store about to be retained"),
        pytest.param("Retain", KEPT_STORE, Pruning([], []), id="of a store retained before"),
        pytest.param("Delete", STORE, Pruning([STORE, ACCOUNT], []), id="of a store that is deleted"),
    ],
)
def test_what_a_store_runs_by(retention: str, store: Manifest, expected: Pruning) -> None:
    """A retained store goes on running where its operator cannot stop it."""
    assert prune(lab(environment(retention=retention)), set(), (store, ACCOUNT)) == expected


def test_what_only_a_wanted_store_needs_is_planned_with_it() -> None:
    assert prune(lab(), {identity(STORE)}, (STORE, ACCOUNT)) == Pruning([ACCOUNT], [])


GOING_STORE = STORE | {"metadata": STORE["metadata"] | {"deletionTimestamp": "2026-03-01T11:00:00Z"}}


@pytest.mark.parametrize(
    ("store", "wanted", "expected"),
    [
        pytest.param(STORE, set(), [STORE], id="the store first"),
        pytest.param(GOING_STORE, set(), [], id="while the store is going"),
        pytest.param(KEPT_STORE, set(), [PASSWORD], id="of none that goes"),
        pytest.param(STORE, {identity(STORE)}, [PASSWORD], id="beside a wanted store"),
    ],
)
def test_a_secret_goes_after_its_store(store: Manifest, wanted: set[Identity], expected: list[Manifest]) -> None:
    assert prune(lab(environment(retention="Delete")), wanted, (PASSWORD, store)) == Pruning(expected, [])


def test_the_data_mount_stays_while_a_session_may_have_it() -> None:
    session: Manifest = {"kind": "WorkshopSession", "metadata": {"name": "lab-main"}}
    wanted = {("NetworkPolicy", "lab", "deny-egress"), identity(session)}
    assert prune(lab(), wanted, (DATA_MOUNT, session)) == Pruning([], [])
