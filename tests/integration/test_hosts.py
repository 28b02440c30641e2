"""Hosts of labs for which somebody else's routes answer: those of before, and those that come while nobody asks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.routes import SERVICE_NAMESPACE
from hack.account import kubeconfig
from hack.cluster import Cluster
from tests.integration.daemon import Daemon, eventually, unregister
from tests.integration.objects import Answer, create, unique
from tests.integration.routes import install_route_kinds, route
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TAKEN = "datalabd_hosts_taken"


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates and kubelet beside the daemon, and routes of all kinds."""
    install_route_kinds(cluster)
    with standins(cluster, installed=False):
        yield


@pytest.fixture
def stage(cluster: Cluster, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


def host(name: str) -> str:
    return f"{name}.lab.example.org"


def squat(cluster: Cluster, kind: str, *hosts: str, **metadata: Any) -> Manifest:
    """A route in a namespace of its own, as one that stood there before anybody guarded the domain."""
    namespace = unique("squat")
    cluster.api.create_namespace(namespace)
    made = route(kind, namespace, *hosts)
    made["metadata"] |= metadata
    unregister(cluster, ["validatingwebhookconfigurations"])  # the daemon puts them back

    def created() -> bool:
        answer: Answer = create(cluster, made, check=False)
        refused = ("webhook", "belongs to a lab", "may become a lab's namespace")
        assert answer.returncode == 0 or any(text in answer.stderr for text in refused)
        if answer.returncode:
            unregister(cluster, ["validatingwebhookconfigurations"])
        return answer.returncode == 0

    eventually(created)
    return made


def listed(cluster: Cluster) -> list[list[str]]:
    """What `datalabd hosts` prints, by cells."""
    command = [sys.executable, "-m", "datalabd", "hosts", "--kubeconfig", str(cluster.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stderr == ""
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["HOST", "ROUTE", "NAMESPACE", "LAB", "NOTE"]
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines]


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute", "IngressRoute"])
def test_a_session_is_refused_where_somebody_elses_route_answers(cluster: Cluster, stage: Stage, kind: str) -> None:
    lab = unique()
    older = squat(cluster, kind, host(f"{lab}-second"))
    eventually(lambda: [host(f"{lab}-second")] == [row[0] for row in listed(cluster) if lab in row[0]])
    stage.lab("main", name=lab)
    second = [{"op": "add", "path": "/spec/sessions/-", "value": {"name": "second"}}]

    def refusal() -> str:
        answer = cluster.kubectl(
            *("patch", "datalab", lab, "-n", stage.namespace, "--type=json", "-p", json.dumps(second)),
            "--dry-run=server",
            check=False,
        )
        return answer.stderr

    said = f"a route of another namespace answers for its host {host(f'{lab}-second')}: choose another name"
    eventually(lambda: said in refusal())
    assert older["metadata"]["name"] not in refusal()
    stage.until_ready(lab)
    cluster.kubectl("delete", "-f", "-", stdin=json.dumps(older))
    eventually(lambda: refusal() == "")
    stage.delete(lab)


def test_a_host_that_is_taken_later_is_told_of_and_the_session_goes_on(
    cluster: Cluster, datalabd: Daemon, stage: Stage
) -> None:
    lab = stage.lab("main")
    stage.until_ready(lab)
    session = stage.get("workshopsession", f"{lab}-main", "")
    assert session is not None
    assert datalabd.metrics()[TAKEN] == 0

    other = squat(cluster, "Ingress", host(f"{lab}-main"), host(f"data-{lab}-main"))
    place, name = other["metadata"]["namespace"], other["metadata"]["name"]
    told = stage.until(lab, "HostsTaken", "True", "RouteElsewhere")
    assert told["message"] == f"Ingress {place}/{name} answers for {host(f'{lab}-main')}, and is not this lab's"
    eventually(lambda: "HostsTaken" in stage.events(lab))
    eventually(lambda: datalabd.metrics()[TAKEN] == 2)
    assert stage.condition(lab, "Ready")["status"] == "True"
    assert (stage.get("workshopsession", f"{lab}-main", "") or {})["metadata"]["uid"] == session["metadata"]["uid"]
    mine = [row for row in listed(cluster) if f"{lab}-main" in row[0] and row[2] == place]
    assert mine == [
        [hosts, f"Ingress/{name}", place, f"{stage.namespace}/{lab}", "not the lab's"]
        for hosts in (host(f"data-{lab}-main"), host(f"{lab}-main"))
    ]

    stage.set_state(lab, 0, "stopped")
    stage.gone("workshopsession", f"{lab}-main", "")
    stage.set_state(lab, 0, "started")
    waits = stage.until(lab, "SessionsReady", "False", "HostTaken")["message"]
    assert waits.startswith(f"session main: Ingress {place}/{name} answers for {host(f'{lab}-main')}; ")
    cluster.api.delete("ingress", name, place)
    stage.until_ready(lab)
    assert stage.condition(lab, "HostsTaken") == {}
    eventually(lambda: datalabd.metrics()[TAKEN] == 0)
    stage.delete(lab)


def test_a_way_into_a_lab_from_before_starts_no_session_and_is_told_of(
    cluster: Cluster, datalabd: Daemon, stage: Stage
) -> None:
    """By an annotation of APISIX's an Ingress leads to Services of another namespace, past what protects its own."""
    lab = unique()
    older = squat(cluster, "Ingress", "way.example.com", annotations={SERVICE_NAMESPACE: lab})
    place, name = older["metadata"]["namespace"], older["metadata"]["name"]
    refused = f"a route of another namespace leads into namespace {lab}, past what protects sessions: have"

    def refusal() -> str:
        return create(cluster, stage.claim(lab, "main"), "--dry-run=server", check=False).stderr

    eventually(lambda: refused in refusal())
    stage.lab(name=lab)  # without a session nobody is let in
    stage.until_ready(lab)
    mine = [row for row in listed(cluster) if row[2] == place]
    assert mine == [["way.example.com", f"Ingress/{name}", place, f"{stage.namespace}/{lab}", "leads into the lab"]]
    cluster.api.delete("ingress", name, place)
    add = {"op": "add", "path": "/spec/sessions/-", "value": {"name": "main"}}
    eventually(lambda: refused not in refusal())
    stage.patch(lab, add)
    stage.until_ready(lab)

    again = squat(cluster, "Ingress", "way.example.com", annotations={SERVICE_NAMESPACE: lab})
    place, name = again["metadata"]["namespace"], again["metadata"]["name"]
    what = f"Ingress {place}/{name} leads into namespace {lab}, past what protects sessions"
    assert stage.until(lab, "HostsTaken", "True", "RouteElsewhere")["message"] == f"{what}, and is not this lab's"
    eventually(lambda: datalabd.metrics()[TAKEN] == 1)
    assert stage.condition(lab, "Ready")["status"] == "True"
    stage.set_state(lab, 0, "stopped")
    stage.gone("workshopsession", f"{lab}-main", "")
    stage.set_state(lab, 0, "started")
    stage.until(lab, "SessionsReady", "False", "HostTaken")
    cluster.api.delete("ingress", name, place)
    stage.until_ready(lab)
    assert stage.condition(lab, "HostsTaken") == {}
    stage.delete(lab)


def test_the_account_of_datalabd_may_list_them(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "datalabd", "hosts", "--kubeconfig", str(kubeconfig(cluster, confined=True))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
