import pytest

from datalabd.api.meta import Manifest
from datalabd.observed import Observed
from datalabd.plan.metadata import ours
from datalabd.plan.volumes import claim_spec, data_mount, grown, home
from datalabd.stores import Size
from tests.factories import environment, lab


def claim(name: str, spec: Manifest) -> Manifest:
    """A PersistentVolumeClaim of ours."""
    metadata = {"name": name, "namespace": "lab"}
    return ours(lab(), {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})


def test_home() -> None:
    assert home(lab(), Observed(), "main") == claim(
        "lab-main-persistent", {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    )


@pytest.mark.parametrize(
    ("allowed", "persistence", "expected"),
    [
        pytest.param([], {}, None, id="the cluster's default"),
        pytest.param([], {"storageClassName": "fast"}, "fast", id="any where none is listed"),
        pytest.param(["slow", "fast"], {}, "slow", id="the first of those listed"),
        pytest.param(["slow", "fast"], {"storageClassName": "fast"}, "fast", id="one of those listed"),
    ],
)
def test_storage_class_of_a_home(allowed: list[str], persistence: dict[str, str], expected: str | None) -> None:
    here = lab(environment(storageClasses={"allowed": allowed}), persistence=persistence)
    assert home(here, Observed(), "main")["spec"].get("storageClassName") == expected


def test_size_of_a_home() -> None:
    made = home(lab(quota={"storage": "40Gi"}), Observed(), "main")
    assert made["spec"]["resources"] == {"requests": {"storage": "40Gi"}}


@pytest.mark.parametrize(
    ("live", "asked", "expected"),
    [
        pytest.param(None, "1Gi", Size("1Gi", "new"), id="a new one is as asked for"),
        pytest.param(Size("40Gi", "old"), "1Gi", Size("40Gi", "old"), id="never shrinks, keeps its class"),
        pytest.param(Size("1Gi", None), "2Gi", Size("2Gi", None), id="grows, keeps the cluster's default"),
        pytest.param(Size("1024Mi", "new"), "1Gi", Size("1024Mi", "new"), id="is of that size already"),
        pytest.param(Size("1181116006400m", None), "1Gi", Size("1181116006400m", None), id="grown by a tenth"),
        pytest.param(Size("2147483648", None), "1Gi", Size("2147483648", None), id="told as a number"),
        pytest.param(Size("large", None), "1Gi", Size("1Gi", None), id="of a size that is none"),
    ],
)
def test_grown(live: Size | None, asked: str, expected: Size) -> None:
    assert grown(asked, "new", live) == expected


def test_a_home_that_exists_only_grows() -> None:
    here = lab(environment(storageClasses={"allowed": ["new"]}), quota={"storage": "2Gi"})
    seen = Observed(homes={"lab-main-persistent": Size("1Gi", "old")})
    assert home(here, seen, "main")["spec"] == claim_spec("2Gi", "old")


@pytest.mark.parametrize(
    ("storage_class", "expected"),
    [
        pytest.param("fast", {"storageClassName": "fast"}, id="class"),
        pytest.param(None, {}, id="the cluster's default"),
    ],
)
def test_claim_spec(storage_class: str | None, expected: dict[str, str]) -> None:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}
    assert claim_spec("3Gi", storage_class) == wanted | expected


def test_data_mount() -> None:
    assert data_mount(lab()) == claim(
        "lab-datalab",
        {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storageClassName": "csi-rclone",
        },
    )
