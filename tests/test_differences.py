"""What the page of differences says of claims that the composition takes, and datalabd takes otherwise."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import V1BETA2, Manifest
from datalabd.defaults import default
from datalabd.keycloak import _mappers
from datalabd.observed import Observed
from datalabd.plan.credentials import credentials
from datalabd.submission import Submission
from datalabd.validation import validate, warnings
from tests.factories import KEYS, environment, lab

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "differences.md"
SECTION = re.compile(r"^## Claims that are taken otherwise\n(.+?)^## ", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^\| `([a-z-]+)` \|", re.MULTILINE)
STORE = {"storage": "1Gi"}
SERVER = {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}


def claim(name: str = "lab", namespace: str = "team", **spec: Any) -> Manifest:
    """A claim of one member."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": V1BETA2, "kind": "Datalab", "metadata": metadata, "spec": {"users": ["joe"]} | spec}


def many(count: int, value: Manifest) -> dict[str, Manifest]:
    """That many of one kind, by name."""
    return {f"x{number}": value for number in range(count)}


REFUSED: dict[str, list[tuple[Manifest, str]]] = {
    "override-of-a-stranger": [(claim(userOverrides={"eve": {"role": "admin"}}), "spec.userOverrides[eve]")],
    "named-as-its-namespace": [(claim(name="team"), "metadata.name")],
    "download-from-loopback": [
        (claim(files=[{"http": {"url": "https://127.0.0.1/a"}}]), "spec.files[0].http.url"),
        (claim(files=[{"git": {"url": "https://localhost/a", "ref": "main"}}]), "spec.files[0].git.url"),
    ],
    "password-in-an-address": [
        (claim(files=[{"http": {"url": "https://joe:secret@example.org/a"}}]), "spec.files[0].http.url")
    ],
    "capitals-in-secret-name": [(claim(secretName="Keys"), "spec.secretName")],
    "size-zero": [
        (claim(quota={"memory": "0"}), "spec.quota.memory"),
        (claim(cacheStores={"a": {"storage": "0"}}), "spec.cacheStores[a].storage"),
        (claim(databases={"a": SERVER | {"storage": "0Gi"}}), "spec.databases[a].storage"),
    ],
    "many-users": [(claim(users=[f"u{number}" for number in range(501)]), "spec.users")],
    "many-sessions": [(claim(sessions=[{"name": f"s{number}"} for number in range(101)]), "spec.sessions")],
    "many-servers": [(claim(databases=many(51, SERVER)), "spec.databases")],
    "many-stores": [
        (claim(documentStores=many(51, STORE)), "spec.documentStores"),
        (claim(cacheStores=many(51, STORE)), "spec.cacheStores"),
        (claim(vectorStores=many(51, STORE)), "spec.vectorStores"),
    ],
}


def rclone_defaults() -> None:
    """The remote of an environment that says nothing of storage."""
    made = credentials(lab(environment()), KEYS, Observed())
    configuration = base64.b64decode(made["data"]["configData"]).decode()
    assert "\ntype = s3\nprovider = Other\n" in configuration


def port_protocol() -> None:
    """A port that says no protocol."""
    peer = {"namespace": "tools", "ports": [{"port": 80}]}
    (found,) = environment(network={"internalEgress": [peer]}).data.network.internal_egress
    assert [port.protocol for port in found.ports] == ["TCP"]


def white_space() -> None:
    """Around every name that a person types."""
    typed = claim(users=[" joe "], secretName=" keys ", sessions=[{"name": " a "}], databases={"a": {"names": [" b "]}})
    assert default(typed)["spec"] == {
        "users": ["joe"],
        "secretName": "keys",
        "sessions": [{"name": "a"}],
        "databases": {"a": {"names": ["b"]}},
    }


def crossplane_field() -> None:
    """A claim as the composition's users wrote it."""
    written = claim(crossplane={"compositionRef": {"name": "datalab"}})
    assert validate(Submission(written, environment())) == []
    assert warnings(Submission(written, None)) == ["spec.crossplane: is ignored: no composition makes this lab"]


def hand_made_mappers() -> None:
    """One of a kind that datalabd makes, and one of another."""
    audience = {"name": "audience", "protocolMapper": "oidc-audience-mapper"}
    full_name = {"name": "full name", "protocolMapper": "oidc-full-name-mapper"}
    assert _mappers([audience, full_name], []) == ([full_name], ["audience"])


OTHERWISE: dict[str, Callable[[], None]] = {
    "rclone-defaults": rclone_defaults,
    "port-protocol": port_protocol,
    "white-space": white_space,
    "crossplane-field": crossplane_field,
    "hand-made-mappers": hand_made_mappers,
}


def test_the_page_lists_what_is_taken_otherwise() -> None:
    section = SECTION.search(PAGE.read_text())
    assert section is not None
    assert LISTED.findall(section.group(1)) == [*REFUSED, *OTHERWISE]


@pytest.mark.parametrize(
    ("written", "field"),
    [pytest.param(*case, id=f"{id} {case[1]}") for id, cases in REFUSED.items() for case in cases],
)
def test_a_claim_is_refused_that_the_composition_takes(written: Manifest, field: str) -> None:
    assert [error.path for error in validate(Submission(default(written), environment()))] == [field]


@pytest.mark.parametrize("difference", OTHERWISE)
def test_a_claim_is_taken_otherwise(difference: str) -> None:
    OTHERWISE[difference]()
