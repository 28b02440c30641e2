"""Weaknesses that concern several modules at once; `docs/explanation/security.md` names the tests of all of them."""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from datalabd import names
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.lab import Lab
from datalabd.observed import observe, view
from datalabd.plan import plan
from datalabd.render import Objects
from datalabd.stores import KINDS
from tests.factories import NOW, fresh, lab, running, secret
from tests.strategies import labs

SERVER = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
HOST_OF = re.compile(r"(?:POSTGRES|MONGO|REDIS|QDRANT)_.+_HOST")
SERVICES: dict[str, Callable[[str], str]] = {
    "PostgresCluster": lambda name: names.database_services(name)[0],
    "MongoDBCommunity": lambda name: f"{name}-svc",
    "Redis": lambda name: name,
    "QdrantCluster": lambda name: f"qdrant-{name}",
}


def planned(of: Lab, **changes: Any) -> list[Manifest]:
    """Every object of a lab whose environment runs."""
    stages = plan(of, running(of, **changes), fresh()).stages
    return [obj for stage in stages for obj in stage.objects]


@pytest.mark.thorough
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(labs())
def test_variables_speak_of_what_is_made(of: Lab) -> None:
    objects = planned(of, databases={}, credentials={})
    (credentials,) = [obj for obj in objects if obj["metadata"]["name"] == names.credentials(of.name) and "data" in obj]
    told = {b64decode(value).decode() for key, value in credentials["data"].items() if HOST_OF.fullmatch(key)}
    made = {(obj["kind"], obj["metadata"]["name"]) for obj in objects if obj["kind"] in KINDS}
    assert told == {f"{SERVICES[kind](name)}.{names.workshop_namespace(of.name)}.svc" for kind, name in made}


@pytest.mark.parametrize(
    ("namespace", "known"),
    [
        pytest.param("lab", True, id="where the server is"),
        pytest.param("team", False, id="where the claim is"),
        pytest.param("lab-main", False, id="where a session is"),
    ],
)
def test_a_login_is_read_where_its_server_is(namespace: str, known: bool) -> None:
    of = lab(databases={"pg0": SERVER})
    (server,) = [obj for obj in planned(of) if obj["kind"] == "PostgresCluster"]
    assert NamespacedName(server["metadata"]["namespace"], server["metadata"]["name"]) == ("lab", "pg0")
    live = server | {"metadata": server["metadata"] | {"creationTimestamp": "2026-03-01T11:00:00Z", "generation": 1}}
    login = secret("pg0-pguser-postgres", namespace, host="h", user="postgres", password="p", verifier="v")
    login["metadata"] |= {"uid": "login-uid", "resourceVersion": "1", "creationTimestamp": "2026-03-01T11:00:00Z"}
    seen = observe(of, replace(view(of, Objects([live, login]), NOW), served=frozenset(KINDS)))
    assert (seen.databases["pg0"].login is not None) is known
