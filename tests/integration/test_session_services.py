"""What the how-to has people run beside a session, done by the session's own account within its role and budget.

A real API server decides: its authorization, its admission of pods, its quotas; pods are made by its own controllers.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import yaml

from datalabd.api.meta import Manifest
from hack import policies, session_services
from hack.cluster import Cluster, binaries
from hack.standins.budget import BUDGETS
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import let_go, open_namespace
from tests.integration.stage import Stage, standins
from tests.reference import shared

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

PAGE = session_services.DIRECTORY.parent / "additional-services.md"
BLOCK = re.compile(r"^```console[^\n]*\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
"""What people are shown with its output; blocks without a prompt need more than an API server."""
ROLES = ("view", "edit", "admin")
BUCKET = "my-bucket"
PATIENCE_SECONDS = 60.0
"""For what several controllers have to do one after the other."""


@dataclass(frozen=True)
class Shell:
    """The terminal of a session: its account's token, its namespace, its variables."""

    stage: Stage
    lab: str
    session: str = "main"

    @property
    def namespace(self) -> str:
        """The session's own."""
        return f"{self.lab}-{self.session}"

    @cached_property
    def _environ(self) -> dict[str, str]:
        cluster = self.stage.cluster
        kubeconfig = cluster.kubeconfig_for(f"{self.lab}/{self.namespace}")
        cluster.kubectl(
            "config", "set-context", "--current", f"--namespace={self.namespace}", "--kubeconfig", str(kubeconfig)
        )
        tools = Path(binaries()["kubectl"]).parent
        variables = {
            name: value for name, value in self.stage.values(f"{self.lab}-datalab", self.lab).items() if name.isupper()
        }
        return variables | {
            "KUBECONFIG": str(kubeconfig),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(kubeconfig.parent),
            "SESSION_NAMESPACE": self.namespace,
        }

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """What bash answers, in the directory of the files."""
        answer = subprocess.run(
            ["bash", "-c", script],
            cwd=session_services.DIRECTORY,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert answer.returncode == 0 or not check, answer.stderr + answer.stdout
        return answer

    def may(self, verb: str, what: str, namespace: str = "") -> bool:
        """Whether the API server would let the account, in all namespaces if none is given.

        `what` may be a subresource, such as `pods/exec`.
        """
        kind, _, subresource = what.partition("/")
        resource = self.stage.cluster.api.resource(kind)
        group = resource.api_version.rpartition("/")[0]
        asked = {"verb": verb, "group": group, "resource": resource.plural, "subresource": subresource}
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{self.lab}", "system:authenticated"]
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{self.lab}:{self.namespace}",
                "groups": groups,
                "resourceAttributes": asked | {"namespace": namespace},
            },
        }
        answer = self.stage.cluster.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def pods(self, app: str) -> list[Manifest]:
        """Those of one Deployment that are not on their way out."""
        found = self.stage.list("pods", f"app={app}", self.namespace)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def addressed(self, app: str) -> Manifest:
        """A pod of that Deployment, once it has an address."""
        found = eventually(lambda: [pod for pod in self.pods(app) if "podIP" in pod["status"]], PATIENCE_SECONDS)
        return found[0]

    def refusals(self) -> str:
        """What the ReplicaSets of the namespace are told by the API server, if anything is refused."""
        return "\n".join(
            condition["message"]
            for replicas in self.stage.cluster.api.list("replicasets", self.namespace)
            for condition in replicas.get("status", {}).get("conditions", [])
            if condition["type"] == "ReplicaFailure"
        )

    def clear(self) -> None:
        """Remove everything, and return when the quota has all of it back."""
        for what in ("-f dask.yaml -f mlflow.yaml", "secret object-storage"):
            self.run(f"kubectl delete --ignore-not-found {what}")

        def free() -> bool:
            quota = self.stage.get("resourcequota", "compute-resources", self.namespace)
            return bool(quota and set(quota["status"]["used"].values()) == {"0"})

        eventually(free, PATIENCE_SECONDS)


@pytest.fixture(scope="module", autouse=True)
def playing(cluster: Cluster) -> Iterator[None]:
    shared("educates/session-clusterroles.yaml")  # with rules of our own making this would show nothing
    with standins(cluster, installed=False):
        yield


@pytest.fixture(scope="module")
def stage(cluster: Cluster, datalabd: Daemon) -> Iterator[Stage]:
    """Labs of this module; those of its environment reach everything outside but pods and Services."""
    place = open_namespace(cluster, "team")
    network = {"externalEgressCIDRs": ["0.0.0.0/0"], "podCIDRs": ["10.42.0.0/16"], "serviceCIDR": "10.43.0.0/16"}
    yield Stage(cluster, place, network=network)
    let_go(cluster, place)


@pytest.fixture(scope="module")
def shells(stage: Stage) -> dict[str, Shell]:
    """A running session for each budget and for each role, and one with a virtual cluster."""
    labs = {
        name: stage.lab(
            "main",
            quota={"budget": name if name in BUDGETS else "medium"},
            security={"policy": "restricted", "kubernetesRole": role},
            vcluster=name == "virtual",
        )
        for name, role in (
            dict.fromkeys(BUDGETS, "edit") | {"xxx-large": "admin", "view": "view", "virtual": "edit"}
        ).items()
    }
    for lab in labs.values():
        stage.until_ready(lab, 120)
    found = {name: Shell(stage, lab) for name, lab in labs.items()}
    return found | {"edit": found["medium"], "admin": found["xxx-large"]}


# --- Roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["edit", "admin"])
@pytest.mark.parametrize("service", session_services.SERVICES)
def test_accepted_to_the_letter(shells: dict[str, Shell], service: str, role: str) -> None:
    answer = shells[role].run(f"kubectl create --dry-run=server --validate=strict -o name -f {service}.yaml")
    assert len(answer.stdout.splitlines()) == len(session_services.manifests(service))
    assert answer.stderr == ""  # no warning of a policy either


@pytest.mark.parametrize("service", session_services.SERVICES)
def test_who_may_only_look_makes_nothing(shells: dict[str, Shell], service: str) -> None:
    answer = shells["view"].run(f"kubectl create --dry-run=server -f {service}.yaml", check=False)
    assert answer.stdout == ""
    assert answer.stderr.count("forbidden") == len(session_services.manifests(service))


def test_what_each_role_is_for(shells: dict[str, Shell]) -> None:
    asked = [("get", "deployments"), ("create", "secrets"), ("create", "pods/exec"), ("create", "roles")]
    may = {role: [shells[role].may(*what, shells[role].namespace) for what in asked] for role in ROLES}
    assert may == {
        "view": [True, False, False, False],
        "edit": [True, True, True, False],
        "admin": [True, True, True, True],
    }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("create", "networkpolicies.networking.k8s.io"),
        ("delete", "networkpolicies.networking.k8s.io"),
        ("patch", "networkpolicies.networking.k8s.io"),
        ("update", "resourcequotas"),
        ("delete", "limitranges"),
        ("create", "serviceaccounts/token"),
        ("update", "pods/ephemeralcontainers"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
    ],
)
def test_no_role_moves_its_own_bounds(shells: dict[str, Shell], role: str, verb: str, what: str) -> None:
    shell = shells[role]
    assert not shell.may(verb, what, shell.namespace)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("get", "pods"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("patch", "deployments.apps"),
        ("delete", "persistentvolumeclaims"),
        ("impersonate", "serviceaccounts"),
        ("create", "networkpolicies.networking.k8s.io"),
    ],
)
def test_no_role_reaches_beyond_its_namespace(shells: dict[str, Shell], role: str, verb: str, what: str) -> None:
    shell, another = shells[role], shells["large"]
    for place in (shell.lab, shell.stage.namespace, another.lab, another.namespace, "kube-system"):
        assert not shell.may(verb, what, place), place


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("patch", "namespaces"),
        ("create", "namespaces"),
        ("delete", "workshopsessions.training.educates.dev"),
        ("patch", "workshops.training.educates.dev"),
        ("get", "workshopsessions.training.educates.dev"),
        ("get", "environmentconfigs.pkg.internal"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("get", "nodes"),
        ("get", "persistentvolumes"),
    ],
)
def test_no_role_reaches_the_cluster(shells: dict[str, Shell], role: str, verb: str, what: str) -> None:
    shell = shells[role]
    # A request for a namespace itself counts as one within it.
    assert not any(shell.may(verb, what, place) for place in ("", shell.namespace))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("verb", ["get", "patch", "delete"])
def test_no_role_reaches_claims(shells: dict[str, Shell], role: str, verb: str) -> None:
    shell = shells[role]
    assert not shell.may(verb, "datalabs.pkg.internal", shell.stage.namespace)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("create role r --verb=create --resource=networkpolicies.networking.k8s.io", id="a right it lacks"),
        pytest.param("create rolebinding r --clusterrole=cluster-admin --serviceaccount=x:y", id="every right"),
        pytest.param(
            "label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite", id="label"
        ),
    ],
)
def test_an_administrator_hands_out_no_more_than_they_have(shells: dict[str, Shell], command: str) -> None:
    shell = shells["admin"]
    answer = shell.run("kubectl " + command.format(namespace=shell.namespace), check=False)
    assert answer.returncode != 0
    assert "orbidden" in answer.stderr


# --- Budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_the_table_says_fits_and_no_more(shells: dict[str, Shell], budget: str) -> None:
    shell = shells[budget]
    beside = session_services.workers(budget, mlflow=True)
    shell.clear()
    shell.run("kubectl apply -f dask.yaml")
    eventually(lambda: shell.pods("dask-scheduler") and shell.pods("dask-worker"), PATIENCE_SECONDS)
    fit_to_the_last(shell, session_services.workers(budget))
    if beside:
        shell.run(f"kubectl scale deployment/dask-worker --replicas={beside}")
    else:
        shell.clear()
    assert session_services.has_mlflow(budget)
    shell.run("kubectl apply -f mlflow.yaml")
    eventually(lambda: shell.pods("mlflow"), PATIENCE_SECONDS)
    if beside:
        fit_to_the_last(shell, beside)
    else:
        shell.run("kubectl apply -f dask.yaml")
        eventually(lambda: shell.refusals().count("exceeded quota: compute-resources") == 2, PATIENCE_SECONDS)
    shell.clear()


def fit_to_the_last(shell: Shell, workers: int) -> None:
    """As many workers are made, and for want of quota not one more."""
    shell.run(f"kubectl scale deployment/dask-worker --replicas={workers}")
    eventually(lambda: len(shell.pods("dask-worker")) == workers and not shell.refusals(), PATIENCE_SECONDS)
    shell.run(f"kubectl scale deployment/dask-worker --replicas={workers + 1}")
    refused = eventually(shell.refusals, PATIENCE_SECONDS)
    assert "exceeded quota: compute-resources" in refused
    assert len(shell.pods("dask-worker")) == workers
    told = shell.run("kubectl get events --field-selector reason=FailedCreate").stdout
    assert "exceeded quota: compute-resources" in told


def test_a_full_budget_lets_them_restart(shells: dict[str, Shell]) -> None:
    shell = shells["small"]
    for deployments, service in (("dask-scheduler dask-worker", "dask"), ("mlflow", "mlflow")):
        shell.clear()
        shell.run("kubectl create secret generic object-storage --from-literal=BUCKET=b")
        shell.run(f"kubectl apply -f {service}.yaml")
        for deployment in deployments.split():
            shell.run(f"kubectl wait deployment/{deployment} --for=condition=Available --timeout=60s")
        for deployment in deployments.split():
            shell.run(f"kubectl rollout restart deployment/{deployment}")
            shell.run(f"kubectl rollout status deployment/{deployment} --timeout=60s")
    shell.clear()


@pytest.mark.parametrize("service", session_services.SERVICES)
def test_pods_without_their_security_context_are_refused(shells: dict[str, Shell], service: str) -> None:
    """That all others are made says something only because these are not."""
    shell = shells["xxx-large"]
    objects = session_services.manifests(service)
    for obj in objects:
        if obj["kind"] == "Deployment":
            del obj["spec"]["template"]["spec"]["securityContext"]
    shell.clear()
    shell.run(f"kubectl apply -f - <<'END'\n{yaml.safe_dump_all(objects)}\nEND")
    refused = eventually(shell.refusals, PATIENCE_SECONDS)
    assert 'violates PodSecurity "restricted' in refused
    shell.clear()


# --- The page ---------------------------------------------------------------------------------------------------------


def commands() -> list[tuple[str, list[str]]]:
    """Every command that the page shows with its prompt, and the lines of output below it."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(PAGE.read_text()):
        lines = iter(block.splitlines())
        for line in lines:
            if not line.startswith("$ "):
                found[-1][1].append(line)
                continue
            command = line[2:]
            while command.endswith("\\"):
                command += "\n" + next(lines)
            found.append((command, []))
    return found


def test_the_page_from_top_to_bottom(shells: dict[str, Shell]) -> None:
    # The default budget has no room for two workers beside MLflow: that is what its table says, too.
    shell = shells["large"]
    shell.clear()
    shown = commands()
    assert len(shown) >= 8
    variables = ""
    for command, expected in shown:
        answer = shell.run(variables + command)
        if re.fullmatch(r"\w+=\S+", command):
            variables += f"{command}\n"
        if expected:
            assert answer.stdout.splitlines() == expected, command
    made = shell.stage.values("object-storage", shell.namespace)
    given = shell.stage.values(f"{shell.lab}-datalab", shell.lab)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        assert made[name] == given[name] != ""
    assert (made["AWS_DEFAULT_REGION"], made["BUCKET"]) == (given["AWS_REGION"], BUCKET)
    reachable_as_the_page_says(shell)
    shell.clear()


def reachable_as_the_page_says(shell: Shell) -> None:
    """By the policies and labels as they stand in the cluster."""
    api = shell.stage.cluster.api
    spaces = {space["metadata"]["name"]: space["metadata"]["labels"] for space in api.list("namespaces")}
    within = policies.Cluster(spaces, api.list("networkpolicies"))
    (gateway,) = shell.stage.list("pods", "training.educates.dev/application=workshop", shell.lab)
    session, mlflow, scheduler, worker = (
        policies.Pod(pod["metadata"]["namespace"], pod["status"]["podIP"], pod["metadata"]["labels"])
        for pod in (gateway, *map(shell.addressed, ("mlflow", "dask-scheduler", "dask-worker")))
    )
    stranger = policies.Pod(shell.stage.namespace, "10.42.200.1", {})
    for target, port in ((mlflow, 5000), (scheduler, 8786), (scheduler, 8787)):
        assert within.reaches(session, target, port)
        assert not within.reaches(stranger, target, port)
    assert within.reaches(worker, scheduler, 8786)
    assert within.reaches(scheduler, worker, 40331)
    assert within.reaches(mlflow, policies.Host("93.184.216.34"), 443)
    assert within.reaches(worker, session, 40332)  # as executors connect back to a driver


def test_mlflow_waits_for_its_secret(shells: dict[str, Shell]) -> None:
    shell = shells["x-large"]
    shell.clear()
    shell.run("kubectl apply -f mlflow.yaml")

    def reason() -> str:
        statuses = [status for pod in shell.pods("mlflow") for status in pod["status"].get("containerStatuses", [])]
        return "".join(status["state"].get("waiting", {}).get("reason", "") for status in statuses)

    eventually(lambda: reason() == "CreateContainerConfigError", PATIENCE_SECONDS)
    shell.clear()


def test_an_ingress_is_accepted_unless_its_host_is_a_labs(shells: dict[str, Shell]) -> None:
    shell = shells["edit"]
    create = "kubectl create ingress mine --dry-run=server --rule='{host}/*=mlflow:5000'"
    shell.run(create.format(host="mine.example.net"))
    refused = shell.run(create.format(host=f"{shells['large'].namespace}.lab.example.org"), check=False)
    assert refused.returncode != 0
    assert "denied the request" in refused.stderr


# --- The virtual cluster ----------------------------------------------------------------------------------------------


def test_what_runs_in_a_virtual_cluster_is_admitted_by_its_host(shells: dict[str, Shell]) -> None:
    """Its syncer makes the pods, in a namespace of policy `baseline` without a budget."""
    shell = shells["virtual"]
    place = f"{shell.namespace}-vc"
    backend = yaml.safe_load(session_services.GATEWAY_VALUES.read_text())["gateway"]["backend"]
    image = f"{backend['image']['name']}:{backend['image']['tag']}"
    templates = [
        obj["spec"]["template"]
        for service in session_services.SERVICES
        for obj in session_services.manifests(service)
        if obj["kind"] == "Deployment"
    ]
    for part in ("scheduler", "worker"):
        container = {"name": part, "image": image} | backend[part]["extraContainerConfig"]
        templates.append({"spec": backend[part]["extraPodConfig"] | {"containers": [container]}})
    for number, template in enumerate(templates):
        metadata = template.get("metadata", {}) | {"name": f"synced-{number}"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        # The stricter namespace beside it would take them, too.
        for namespace in (place, shell.namespace):
            shell.stage.cluster.kubectl(
                "create", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-", stdin=json.dumps(pod)
            )
    assert shell.stage.get("resourcequota", "compute-resources", place) is None


def test_the_session_account_has_no_business_in_the_host_of_its_virtual_cluster(shells: dict[str, Shell]) -> None:
    shell = shells["virtual"]
    for verb, what in (("get", "secrets"), ("create", "pods"), ("get", "pods"), ("create", "ingresses")):
        assert not shell.may(verb, what, f"{shell.namespace}-vc")
