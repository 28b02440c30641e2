"""The local control plane does what tests, demo and benchmarks take for granted."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from hack import cluster as hack_cluster
from hack.cluster import EDUCATES, Cluster, ClusterError
from hack.deadlines import scaled
from tests.integration.daemon import eventually

ROOT = Path(hack_cluster.__file__).parent.parent
PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager"]


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def running(cluster: Cluster) -> list[psutil.Process]:
    return [process for process in cluster.processes().values() if process is not None]


def requests(cluster: Cluster) -> list[dict[str, Any]]:
    """The complete lines of the audit log so far."""
    return [json.loads(line) for line in cluster.audit_log.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"]


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hack.cluster", *args], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.mark.cluster
class TestRunning:
    def test_runs_the_three_programs(self, cluster: Cluster) -> None:
        assert [name for name, process in cluster.processes().items() if process] == PROGRAMS

    def test_listens_on_loopback_only(self, cluster: Cluster) -> None:
        listening = [c.laddr.ip for p in running(cluster) for c in p.net_connections() if c.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}

    def test_kubectl_lists_namespaces(self, cluster: Cluster) -> None:
        assert "namespace/default" in cluster.kubectl("get", "namespaces", "--output", "name").stdout.split()

    def test_kubectl_reads_standard_input(self, cluster: Cluster) -> None:
        manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: piped\n"
        assert cluster.kubectl("apply", "--filename", "-", stdin=manifest).stdout == "configmap/piped created\n"

    def test_a_failing_kubectl_says_why(self, cluster: Cluster) -> None:
        with pytest.raises(subprocess.CalledProcessError) as error:
            cluster.kubectl("get", "configmap", "absent")
        assert "NotFound" in error.value.__notes__[0]

    def test_kubectl_without_check_returns_the_failure(self, cluster: Cluster) -> None:
        assert cluster.kubectl("get", "configmap", "absent", check=False).returncode == 1

    def test_the_server_tells_the_pinned_version(self, cluster: Cluster) -> None:
        if hack_cluster.binaries()["kube-apiserver"].parent != hack_cluster.cache_directory():
            pytest.skip("the API server is one that was found, not the pinned one")
        version = json.loads(cluster.kubectl("get", "--raw", "/version").stdout)
        assert version["gitVersion"] == hack_cluster.kubernetes_version()
        assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")

    def test_the_kubeconfig_verifies_the_server(self, cluster: Cluster) -> None:
        (entry,) = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"]
        trusted = base64.b64decode(entry["cluster"].pop("certificate-authority-data"))
        assert entry["cluster"] == {"server": cluster.url}
        assert trusted == (cluster.directory / "pki" / "apiserver.crt").read_bytes()

    def test_secrets_are_readable_by_their_owner_only(self, cluster: Cluster) -> None:
        assert cluster.directory.stat().st_mode & 0o777 == 0o700

    def test_the_admin_token_may_do_everything(self, cluster: Cluster) -> None:
        answer = cluster.kubectl("--token", cluster.admin_token, "auth", "can-i", "*", "*", "--all-namespaces")
        assert answer.stdout.strip() == "yes"

    def test_educates_is_another_user_than_the_administrator(self, cluster: Cluster) -> None:
        whoami = ("auth", "whoami", "--output", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
        educates = ("--kubeconfig", str(cluster.educates_kubeconfig))
        for user, options in (("admin", ()), (EDUCATES, educates)):
            groups = '["system:masters","system:authenticated"]'
            assert cluster.kubectl(*options, *whoami).stdout == f"{user} {groups}"

    def test_a_namespace_is_deleted_with_what_is_in_it(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "namespace", "short-lived")
        cluster.kubectl("create", "configmap", "inside", "--namespace", "short-lived")
        cluster.kubectl("delete", "namespace", "short-lived", "--timeout", f"{scaled(30):.0f}s")
        assert cluster.kubectl("get", "namespace", "short-lived", check=False).returncode == 1

    def test_dependents_are_collected_after_their_owner(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "configmap", "owner")
        uid = cluster.kubectl("get", "configmap", "owner", "--output", "jsonpath={.metadata.uid}").stdout
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        dependent = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "dependent", "ownerReferences": [owner]},
        }
        cluster.kubectl("create", "--filename", "-", stdin=json.dumps(dependent))
        cluster.kubectl("delete", "configmap", "owner")
        eventually(lambda: cluster.kubectl("get", "configmap", "dependent", check=False).returncode == 1)

    def test_the_audit_log_names_who_asked_for_what(self, cluster: Cluster) -> None:
        headers = {"Authorization": f"Bearer {cluster.admin_token}", "User-Agent": "probe/1"}
        trust = ssl.create_default_context(cafile=cluster.directory / "pki" / "apiserver.crt")
        with httpx.Client(verify=trust) as client:
            client.get(f"{cluster.url}/api/v1/namespaces/default/secrets", headers=headers).raise_for_status()

        def seen() -> list[tuple[str, ...]]:
            return [
                (r["stage"], r["level"], r["user"]["username"], r["verb"], r["requestURI"])
                for r in requests(cluster)
                if r.get("userAgent") == "probe/1"
            ]

        eventually(seen)
        assert seen() == [("ResponseComplete", "Metadata", "admin", "list", "/api/v1/namespaces/default/secrets")]

    def test_controllers_have_identities_of_their_own(self, cluster: Cluster) -> None:
        user = "system:serviceaccount:kube-system:namespace-controller"
        eventually(lambda: any(r["user"]["username"] == user for r in requests(cluster)))

    def test_a_service_account_has_only_its_own_rights(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "serviceaccount", "reader")
        cluster.kubectl("create", "role", "reader", "--verb=get", "--resource=configmaps")
        cluster.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader")
        kubeconfig = str(cluster.kubeconfig_for("default/reader"))

        def may(*args: str) -> str:
            return cluster.kubectl("--kubeconfig", kubeconfig, "auth", "can-i", *args, check=False).stdout.strip()

        eventually(lambda: may("get", "configmaps") == "yes")
        assert may("get", "secrets") == "no"

    def test_the_api_server_restarts_with_its_port_and_data(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "configmap", "kept")
        url = cluster.url
        cluster.stop_apiserver()
        assert cluster.processes()["kube-apiserver"] is None
        assert cluster.kubectl("get", "configmap", "kept", check=False).returncode == 1
        cluster.start_apiserver()
        assert cluster.url == url
        assert cluster.kubectl("get", "configmap", "kept").returncode == 0

    def test_it_goes_back_to_a_snapshot_and_has_watchers_list_anew(self, cluster: Cluster, tmp_path: Path) -> None:
        cluster.kubectl("create", "configmap", "before")
        cluster.snapshot(tmp_path / "snapshot")
        cluster.kubectl("delete", "configmap", "before")
        later = cluster.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after"}})
        cluster.restore(tmp_path / "snapshot")
        assert cluster.api.get("configmap", "before") is not None
        assert cluster.api.get("configmap", "after") is None
        seen = later["metadata"]["resourceVersion"]
        path = "/api/v1/namespaces/default/configmaps"
        told = cluster.api.request("GET", path, watch="true", resourceVersion=seen)
        assert (told["type"], told["object"]["code"]) == ("ERROR", httpx.codes.GONE)

    def test_attaching_finds_the_same_cluster(self, cluster: Cluster) -> None:
        other = Cluster.attach(cluster.directory)
        assert (other.url, other.processes()) == (cluster.url, cluster.processes())

    def test_a_directory_holds_one_cluster(self, cluster: Cluster) -> None:
        with pytest.raises(ClusterError, match="stop it first"):
            Cluster.start(cluster.directory)

    def test_a_running_one_is_not_removed(self, cluster: Cluster) -> None:
        with pytest.raises(ClusterError, match="stop it first"):
            cluster.remove()
        assert cluster.kubectl("get", "namespace", "default").returncode == 0


@pytest.mark.cluster
class TestStopping:
    def test_stop_leaves_no_process(self, tmp_path: Path) -> None:
        before = psutil.Process().children(recursive=True)
        cluster = Cluster.start(tmp_path)
        processes = running(cluster)
        cluster.stop()
        assert not any(alive(process) for process in processes)
        assert psutil.Process().children(recursive=True) == before

    def test_stop_may_be_called_twice(self, tmp_path: Path) -> None:
        with Cluster.start(tmp_path) as cluster:
            cluster.stop()

    def test_a_start_that_fails_leaves_no_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hack_cluster, "SERVICE_CIDR", "nonsense")
        before = psutil.Process().children(recursive=True)
        with pytest.raises(ClusterError, match=r"kube-apiserver ended; .*\n.*service-cluster-ip-range"):
            Cluster.start(tmp_path)
        assert psutil.Process().children(recursive=True) == before

    def test_a_directory_can_be_used_again_and_starts_empty(self, tmp_path: Path) -> None:
        with Cluster.start(tmp_path) as first:
            first.kubectl("create", "namespace", "gone")
        with Cluster.start(tmp_path) as second:
            assert second.kubectl("get", "namespace", "gone", check=False).returncode == 1

    def test_a_stopped_one_can_be_removed(self, tmp_path: Path) -> None:
        cluster = Cluster.start(tmp_path / "cluster")
        cluster.stop()
        cluster.remove()
        assert not cluster.directory.exists()

    def test_it_dies_with_its_process_even_if_that_is_killed(self, tmp_path: Path) -> None:
        script = f"from pathlib import Path\nfrom hack.cluster import Cluster\nCluster.start(Path({str(tmp_path)!r}))\n"
        script += "print('ready', flush=True)\ninput()\n"
        arguments = [sys.executable, "-c", script]
        with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "ready\n"
            children = psutil.Process(parent.pid).children(recursive=True)
            assert len(children) == len(PROGRAMS) + 1
            parent.send_signal(signal.SIGKILL)
        eventually(lambda: not any(alive(child) for child in children))

    def test_a_detached_one_outlives_the_command_that_started_it(self, tmp_path: Path) -> None:
        started = command("start", str(tmp_path))
        assert started.stdout == f"export KUBECONFIG={tmp_path}/kubeconfig\n", started.stderr
        with Cluster.attach(tmp_path) as cluster:
            assert cluster.kubectl("get", "namespace", "default").returncode == 0
            assert command("status", str(tmp_path)).returncode == 0
            assert command("stop", str(tmp_path)).returncode == 0
            assert not running(cluster)
        assert command("status", str(tmp_path)).returncode == 1


class TestWithoutCluster:
    def test_a_reused_pid_is_left_alone(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "60"]) as stranger:
            started = psutil.Process(stranger.pid).create_time() - psutil.boot_time()
            earlier = {"pid": stranger.pid, "started": started - 1, "argv": ["etcd"]}
            (tmp_path / "cluster.json").write_text(json.dumps({"url": "", "processes": {"etcd": earlier}}))
            Cluster(tmp_path).stop()
            assert stranger.poll() is None
            stranger.kill()

    def test_a_process_with_pid_and_start_time_is_stopped(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "60"]) as ours:
            started = psutil.Process(ours.pid).create_time() - psutil.boot_time()
            entry = {"pid": ours.pid, "started": started, "argv": ["etcd"]}
            (tmp_path / "cluster.json").write_text(json.dumps({"url": "", "processes": {"etcd": entry}}))
            Cluster(tmp_path).stop()
            assert not psutil.pid_exists(ours.pid)

    def test_attaching_to_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ClusterError, match="no cluster runs in"):
            Cluster.attach(tmp_path)

    def test_a_directory_of_somebody_else_is_not_removed(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").touch()
        Cluster(tmp_path).remove()
        assert (tmp_path / "thesis.txt").exists()

    def test_a_directory_of_somebody_else_is_refused(self, tmp_path: Path, fake_programs: Path) -> None:
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(ClusterError, match="is not empty"):
            Cluster.start(tmp_path)

    def test_binaries_come_from_kubebuilder_assets_before_path(
        self, tmp_path: Path, fake_programs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "etcd").touch(mode=0o755)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
        found = hack_cluster.binaries()
        assert (found["etcd"], found["kubectl"]) == (tmp_path / "etcd", fake_programs / "kubectl")

    def test_the_cache_is_used_before_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        only_from_cache(tmp_path, monkeypatch)
        cache = hack_cluster.cache_directory()
        cache.mkdir(parents=True)
        for name in hack_cluster.PACKAGES:
            (cache / name).touch(mode=0o755)
        assert hack_cluster.binaries() == {name: cache / name for name in hack_cluster.PACKAGES}

    def test_a_missing_go_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        only_from_cache(tmp_path, monkeypatch)
        with pytest.raises(ClusterError, match="install Go"):
            hack_cluster.binaries()

    def test_a_failed_build_shows_the_words_of_go_and_leaves_nothing_to_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        only_from_cache(tmp_path, monkeypatch)
        go = tmp_path / "go"
        go.write_text("#!/bin/sh\necho cannot compile >&2\nexit 1\n")
        go.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
        with pytest.raises(ClusterError, match="go build of etcd failed:\ncannot compile"):
            hack_cluster.build(["etcd"])
        assert not (hack_cluster.cache_directory() / "etcd").exists()

    def test_two_builds_at_once_build_each_program_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        only_from_cache(tmp_path, monkeypatch)
        go = tmp_path / "go"
        go.write_text(
            f'#!/bin/sh\necho x >> {tmp_path}/builds\nwhile [ "$1" != -o ]; do shift; done\necho built > "$2"\n'
        )
        go.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}:{os.defpath}"}
        builders = [
            subprocess.Popen(
                [sys.executable, "-m", "hack.cluster", "build"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        outputs = [builder.communicate()[0] for builder in builders]
        assert outputs == [f"{hack_cluster.cache_directory()}\n"] * 2
        assert (tmp_path / "builds").read_text() == "x\n" * len(hack_cluster.PACKAGES)


@pytest.fixture
def fake_programs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH and holds an executable of every name."""
    directory = tmp_path_factory.mktemp("path")
    for name in hack_cluster.PACKAGES:
        (directory / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return directory


def only_from_cache(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty PATH, no assets, and an empty cache in the directory."""
    monkeypatch.setenv("PATH", str(directory / "empty"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
