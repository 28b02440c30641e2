"""What is installed from the wheel can show a page: templates, scripts and catalogues come with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hack.deadlines import scaled

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.thorough

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: away, cluster: {server: "https://127.0.0.1:9"}}]
contexts: [{name: away, context: {cluster: away, user: nobody}}]
users: [{name: nobody, user: {token: none}}]
current-context: away
"""


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def test_a_page_of_the_installed_wheel(tmp_path: Path) -> None:
    """The API server is away, which is a page too."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("datalabd-*.whl")
    pip("install", "--no-deps", "--no-index", "--target", str(tmp_path / "installed"), str(wheel))
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "installed"),
        "WORKSPACE_NAMESPACE": "workspace",
        "WORKSPACE_HOST": "127.0.0.1",
        "WORKSPACE_PORT": "0",
        "AUTH_MODE": "no",
        "UI_MODE": "ui",
    }
    command = [sys.executable, "-c", MAIN, "workspaces", "--kubeconfig", str(tmp_path / "kubeconfig")]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as one:
        try:
            assert one.stdout is not None
            where, port = b"", None
            for line in one.stdout:
                where += line
                if port := re.search(rb'"listening".*"port": ?(\d+)|"port": ?(\d+).*"listening"', line):
                    break
            assert port is not None, where.decode()
            base = f"http://127.0.0.1:{int(port[1] or port[2])}"
            headers = {"Accept": "text/html", "Accept-Language": "de"}
            with httpx.Client(base_url=base, trust_env=False, timeout=scaled(20), headers=headers) as http:
                page = http.get("/workspaces")
                style = http.get(re.findall(r'href="([^"]+app\.css)"', page.text)[0])
        finally:
            one.terminate()
    assert f"imported from {tmp_path}" in where.decode()
    assert (page.status_code, page.headers["Content-Language"]) == (503, "de")
    assert "<h1>" in page.text
    assert "Not available" not in page.text
    assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")


MAIN = """
import sys
import workspaces.ui
print("imported from", workspaces.ui.__file__, flush=True)
from datalabd.__main__ import main
sys.exit(main())
"""
