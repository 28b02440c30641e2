import pytest

from datalabd.api.meta import Manifest
from datalabd.observed import Observed, Volume
from datalabd.plan.metadata import ours
from datalabd.plan.volumes import data_mount, home
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
        pytest.param(Volume("40Gi", "old"), "1Gi", ("40Gi", "old"), id="never shrinks, keeps its class"),
        pytest.param(Volume("1Gi", None), "2Gi", ("2Gi", None), id="grows, keeps the cluster's default"),
        pytest.param(Volume("1024Mi", "new"), "1Gi", ("1024Mi", "new"), id="is of that size already"),
    ],
)
def test_a_home_that_exists(live: Volume, asked: str, expected: tuple[str, str | None]) -> None:
    here = lab(environment(storageClasses={"allowed": ["new"]}), quota={"storage": asked})
    spec = home(here, Observed(homes={"lab-main-persistent": live}), "main")["spec"]
    assert (spec["resources"]["requests"]["storage"], spec.get("storageClassName")) == expected


def test_data_mount() -> None:
    assert data_mount(lab()) == claim(
        "lab-datalab",
        {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storageClassName": "csi-rclone",
        },
    )
