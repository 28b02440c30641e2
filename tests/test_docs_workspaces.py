"""What the how-tos of the Workspace API print to be copied is what tests run."""

from pathlib import Path

import pytest
import yaml

from datalabd.api.meta import Manifest
from hack import nginx, pages
from hack.cluster import Cluster
from workspaces.settings import Settings

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "docs" / "how-to" / "workspaces.md"
IDENTITY = ROOT / "docs" / "how-to" / "workspaces-identity.md"
SERVICE = "http://datalabd-workspaces.workspace.svc"


def test_nginx_of_the_tests_is_that_of_the_page() -> None:
    location = nginx.LOCATION.format(path="/sub/", prefix="/sub", behind=f"{SERVICE}/")
    assert pages.fenced(IDENTITY, "nginx") == [f"{nginx.BUFFERS}\n{location}"]


def test_the_service_of_the_pages_is_that_of_the_manifests() -> None:
    service = yaml.safe_load((ROOT / "manifests" / "workspaces" / "service.yaml").read_text())
    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("datalabd-workspaces", "workspace")
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("http", 80)]
    for block in pages.fenced(IDENTITY, "yaml"):
        assert "datalabd-workspaces" in block or "openid-connect" in block


@pytest.mark.cluster
def test_the_overlays_of_the_pages_are_built(cluster: Cluster, tmp_path: Path) -> None:
    (install,), (login,) = (pages.fenced(page, "yaml overlay") for page in (INSTALL, IDENTITY))
    for overlay in (yaml.safe_load(install), yaml.safe_load(install) | yaml.safe_load(login)):
        manifests = _built(cluster, overlay, tmp_path)
        settings = manifests["ConfigMap"]["data"]
        known = {entry.metadata["variable"] for entry in Settings.__dataclass_fields__.values()}
        assert settings.keys() <= known
        assert settings["OIDC_ISSUER"] == "https://id.example.org/realms/labs"
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(settings[name]).parent) for name in ("OIDC_CLIENT_SECRET_FILE", "COOKIE_KEY_FILE")} <= mounts
    assert container["image"] == "registry.example.org/datalabd:0.1.0"


def _built(cluster: Cluster, overlay: Manifest, directory: Path) -> dict[str, Manifest]:
    """What an overlay makes of the manifests here, by kind."""
    (directory / "base").unlink(missing_ok=True)
    (directory / "base").symlink_to(ROOT / "manifests" / "workspaces", target_is_directory=True)
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(overlay | {"resources": ["base"]}))
    built = cluster.kubectl("kustomize", "--load-restrictor=LoadRestrictionsNone", str(directory)).stdout
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(built)}
