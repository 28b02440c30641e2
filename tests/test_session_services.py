"""What the how-to has people run beside a session: fit to be applied, and reached by whom it is for."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache

import pytest
import yaml

from datalabd.api.meta import Manifest
from hack import flows, session_services
from hack.policies import Cluster, Host, Labels, Pod
from hack.session_services import Amount
from hack.standins.budget import BUDGETS

VALUES: Manifest = yaml.safe_load(session_services.GATEWAY_VALUES.read_text())
PAGE = (session_services.DIRECTORY.parent / "additional-services.md").read_text()
VERSION = re.compile(r"v?\d+\.\d+\.\d+(-.+)?")
"""A tag that is not moved: a whole version."""


def workloads() -> dict[str, Manifest]:
    """Pod templates by the name of their Deployment."""
    return {
        obj["metadata"]["name"]: obj["spec"]["template"]
        for service in session_services.SERVICES
        for obj in session_services.manifests(service)
        if obj["kind"] == "Deployment"
    }


def containers() -> dict[str, Manifest]:
    """Containers by the name of their Deployment, each of which has one."""
    found = {}
    for name, template in workloads().items():
        (found[name],) = template["spec"]["containers"]
    return found


def images() -> list[str]:
    backend = VALUES["gateway"]["backend"]
    configured = [VALUES["gateway"]["image"], VALUES["controller"]["image"], backend["image"]]
    return [
        *(container["image"] for container in containers().values()),
        *(f"{image['name']}:{image['tag']}" for image in configured),
    ]


# --- The files --------------------------------------------------------------------------------------------------------


def test_every_file_is_told_of() -> None:
    files = {path.name for path in session_services.DIRECTORY.iterdir()}
    assert files == {"dask.yaml", "mlflow.yaml", "dask-gateway-values.yaml"}
    assert {name for name in files if f"`{name}`" not in PAGE and f" {name}" not in PAGE} == set()


@pytest.mark.parametrize("image", images())
def test_images_are_pinned(image: str) -> None:
    repository, _, tag = image.rpartition(":")
    assert repository.startswith("ghcr.io/")
    assert VERSION.fullmatch(tag)


def test_the_page_names_the_versions_of_the_files() -> None:
    dask = containers()["dask-scheduler"]["image"].rpartition(":")[2]
    version, python = re.fullmatch(r"([\d.]+)-py([\d.]+)", dask).groups()  # type: ignore[union-attr]
    assert f"--python {python} --with 'dask[distributed]=={version}'" in PAGE
    assert containers()["dask-worker"]["image"] == containers()["dask-scheduler"]["image"]
    mlflow = containers()["mlflow"]["image"].rpartition(":")[2]
    assert f"mlflow=={mlflow.removeprefix('v').removesuffix('-full')} " in PAGE
    chart = VALUES["gateway"]["image"]["tag"]
    assert f"--version {chart} " in PAGE
    assert f"dask-gateway=={chart}`" in PAGE


def strings(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a manifest, with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, f"{path}[]")
    elif isinstance(value, str):
        yield path, value


def test_no_credentials() -> None:
    objects = [obj for service in session_services.SERVICES for obj in session_services.manifests(service)]
    assert "Secret" not in {obj["kind"] for obj in objects}
    for path, text in strings([*objects, VALUES]):
        assert not re.search(r"(?i)password|token|secret_?key|access_?key", path + text) or path.endswith(
            (".automountServiceAccountToken",)
        ), path
        assert not re.search(r"://[^/\s]+@", text), path
    for container in containers().values():
        literal = {entry["name"] for entry in container.get("env", []) if "value" in entry}
        assert literal <= {"HOME", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}


@pytest.mark.parametrize("name", workloads())
def test_pods_ask_for_nothing_that_restricted_forbids(name: str) -> None:
    spec, container = workloads()[name]["spec"], containers()[name]
    pod = spec["securityContext"]
    assert (pod["runAsNonRoot"], pod["runAsUser"] > 0) == (True, True)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False  # users' code runs there
    # Of a Service `mlflow` there would be MLFLOW_PORT=tcp://…, which MLflow takes for its own setting and ends.
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", workloads())
def test_resources(name: str) -> None:
    resources = containers()[name]["resources"]
    requests, limits = Amount.parse(**resources["requests"]), Amount.parse(**resources["limits"])
    assert 0 < requests.cpu <= limits.cpu
    assert 0 < requests.memory <= limits.memory


@pytest.mark.parametrize("name", workloads())
def test_every_empty_directory_has_a_limit(name: str) -> None:
    scratch = [volume["emptyDir"] for volume in workloads()[name]["spec"]["volumes"] if "emptyDir" in volume]
    assert all(directory["sizeLimit"] for directory in scratch)


def test_what_dask_gateway_starts_is_bounded_and_unprivileged() -> None:
    for part in ("scheduler", "worker"):
        made = VALUES["gateway"]["backend"][part]
        assert made["cores"]["request"] <= made["cores"]["limit"]
        assert made["memory"]["limit"]
        assert made["extraPodConfig"]["securityContext"]["runAsNonRoot"] is True
        assert made["extraContainerConfig"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for part in ("gateway", "controller", "traefik"):
        assert VALUES[part]["resources"]["limits"]
    assert VALUES["traefik"]["service"]["type"] == "ClusterIP"
    assert "cluster_max_workers" in VALUES["gateway"]["extraConfig"]["limits"]


def test_a_database_of_the_lab_may_keep_the_runs() -> None:
    (line,) = re.findall(r"^    (MLFLOW_BACKEND_STORE_URI=.*) \\$", PAGE, re.MULTILINE)
    environ = {"POSTGRES_MAIN_RUNS_URL": "postgresql://ann:p%2Fw@main-primary.n.svc:5432/runs"}
    made = subprocess.run(
        ["bash", "-c", f"printf '%s' {line}"], env=environ, capture_output=True, text=True, check=True
    )
    # Of several drivers the image has this one, whichever is its default.
    assert made.stdout == ("MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://ann:p%2Fw@main-primary.n.svc:5432/runs")
    (source, override) = containers()["mlflow"]["envFrom"]
    assert (source, override) == ({"configMapRef": {"name": "mlflow"}}, {"secretRef": {"name": "object-storage"}})


# --- What fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "alone", "beside"),
    [("small", 1, 0), ("medium", 3, 1), ("large", 7, 5), ("x-large", 15, 13), ("xxx-large", 15, 13)],
)
def test_workers(budget: str, alone: int, beside: int) -> None:
    assert (session_services.workers(budget), session_services.workers(budget, mlflow=True)) == (alone, beside)


def test_the_table_has_every_budget() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", session_services.table(), re.MULTILINE) == list(BUDGETS)


@pytest.mark.parametrize(("cpu", "expected"), [("250m", "0.25"), ("1", "1"), ("1.5", "1.5")])
def test_processors(cpu: str, expected: str) -> None:
    assert Amount.parse(cpu, "1Gi") == Amount(Decimal(expected), Decimal(2**30))


def test_less_than_nothing_is_none() -> None:
    assert Amount.parse("1", "1Gi").without(Amount.parse("2", "1Gi")) is None


# --- Who reaches whom -------------------------------------------------------------------------------------------------

SESSION = Pod(
    "n",
    "10.42.0.1",
    {"training.educates.dev/application": "workshop"}
    | {"training.educates.dev/component": "session", "training.educates.dev/session.name": "n-s"},
)
OTHER_SESSION = Pod("n", "10.42.0.2", {**SESSION.labels, "training.educates.dev/session.name": "n-t"})
CONTROLLER = Pod("ingress", "10.42.1.1", {"app.kubernetes.io/name": "ingress-nginx"})
OTHER_LAB = Pod("m-s", "10.42.1.2", {})
MONITORING = Pod("monitoring", "10.42.1.3", {})
INTERNET = Host("93.184.216.34")
"""The object storage, where it is outside."""
MINIO = Pod("minio", "10.42.1.4", {"tenant": "default"})
"""The object storage, where it is a peer that the operator named."""
POSTGRES = Pod("n", "10.42.1.5", {"postgres-operator.crunchydata.com/cluster": "pg0"})
DNS = Pod("kube-system", "10.42.1.6", {"k8s-app": "kube-dns"})


def pod(name: str, namespace: str = "n-s") -> Pod:
    """The pod of a Deployment of ours."""
    labels: Labels = workloads()[name]["metadata"]["labels"]
    return Pod(namespace, f"10.42.2.{sorted(workloads()).index(name)}", labels)


def ports(name: str) -> list[int]:
    """What a container serves."""
    return [port["containerPort"] for port in containers()[name]["ports"]]


@cache
def within(*, external_egress: bool = True) -> Cluster:
    return flows.cluster(flows.lab("n", external_egress=external_egress), flows.lab("m"))


@pytest.mark.parametrize("external_egress", [True, False])
@pytest.mark.parametrize("namespace", ["n-s", "n-s-vc"])
def test_what_works_with_and_without_external_egress(namespace: str, external_egress: bool) -> None:
    cluster = within(external_egress=external_egress)
    scheduler, worker, mlflow = (pod(name, namespace) for name in ("dask-scheduler", "dask-worker", "mlflow"))
    for port in ports("dask-scheduler"):
        assert cluster.reaches(SESSION, scheduler, port)
    assert cluster.reaches(worker, scheduler, 8786)
    assert cluster.reaches(scheduler, worker, 40331)  # workers listen at any port
    assert cluster.reaches(SESSION, worker, 40331)  # results may be fetched from a worker directly
    for source in (SESSION, worker):  # a task may log
        assert cluster.reaches(source, mlflow, 5000)
    for source in (scheduler, worker, mlflow):
        assert cluster.reaches(source, POSTGRES, 5432)
        assert cluster.reaches(source, DNS, 53, "UDP")
        assert cluster.reaches(source, MINIO, 9000)


@pytest.mark.parametrize("external_egress", [True, False])
def test_object_storage_outside_needs_external_egress(external_egress: bool) -> None:
    cluster = within(external_egress=external_egress)
    assert cluster.reaches(pod("mlflow"), INTERNET, 443) is external_egress
    assert cluster.reaches(pod("dask-worker"), INTERNET, 443) is external_egress


@pytest.mark.parametrize("name", ["dask-scheduler", "mlflow"])
@pytest.mark.parametrize("source", [OTHER_SESSION, CONTROLLER, OTHER_LAB, MONITORING, POSTGRES, INTERNET])
def test_nobody_else_reaches_them(source: Pod | Host, name: str) -> None:
    assert not any(within().reaches(source, pod(name), port) for port in ports(name))


def test_they_reach_their_own_session_alone() -> None:
    reached = [within().reaches(pod("dask-worker"), session, 10080) for session in (SESSION, OTHER_SESSION)]
    assert reached == [True, False]


def test_ports_and_selectors_of_services_lead_to_their_pods() -> None:
    objects = [obj for service in session_services.SERVICES for obj in session_services.manifests(service)]
    for service in (obj for obj in objects if obj["kind"] == "Service"):
        (name,) = (
            name
            for name, template in workloads().items()
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        )
        named = {port["name"]: port["containerPort"] for port in containers()[name]["ports"]}
        assert {port["port"] for port in service["spec"]["ports"]} == {
            named[port["targetPort"]] for port in service["spec"]["ports"]
        }
