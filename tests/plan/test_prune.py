import pytest

from datalabd.api.meta import RETAINED, Manifest
from datalabd.plan.prune import Pruning, identity, prune
from tests.factories import LABELS, environment, lab, secret, volume

HOME = volume("lab-old-persistent")
DATA_MOUNT = volume("lab-datalab")
KEPT = volume("lab-older-persistent", labels=LABELS | {RETAINED: "true"})
GOING = volume("lab-gone-persistent", deletionTimestamp="2026-03-01T11:00:00Z")
POLICY: Manifest = {"kind": "NetworkPolicy", "metadata": {"name": "x", "namespace": "lab"}}
LEFT = POLICY | {"metadata": POLICY["metadata"] | {"labels": {RETAINED: "true"}}}
ENDING = POLICY | {"metadata": POLICY["metadata"] | {"namespace": "lab-main"}}
LOGIN = secret("lab-login", labels=LABELS)


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
