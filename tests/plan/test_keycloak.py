import base64
from dataclasses import replace
from typing import Any

import pytest

from datalabd import names
from datalabd.api.meta import ROTATED, SINCE, Manifest
from datalabd.identity import Admin, Outcome
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan.keycloak import Wanted, client_secret, client_secret_copy, realm_held, wanted
from datalabd.plan.metadata import ours
from datalabd.plan.realm import realm_state
from datalabd.stores import Turn
from tests.factories import ADMIN, IAM, OWNER, environment, lab, running

HERE = lab(environment(iam=IAM))
SEEN = running(HERE)


def opaque(metadata: Manifest, **values: str) -> Manifest:
    """A Secret of the lab."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return ours(HERE, {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data})


def test_client_secret() -> None:
    metadata = {"name": "lab-oauth-client", "namespace": "team", "ownerReferences": [OWNER]}
    assert client_secret(HERE, "chosen", Turn()) == opaque(metadata, clientID="lab", clientSecret="chosen")


def test_a_client_secret_that_replaces_another() -> None:
    made = client_secret(HERE, "chosen", Turn(rotated="2", since="2026-03-01T12:00:00Z"))
    assert {key: made["metadata"]["annotations"][key] for key in (ROTATED, SINCE)} == {
        ROTATED: "2",
        SINCE: "2026-03-01T12:00:00Z",
    }


def test_copy_in_the_workshop_namespace() -> None:
    metadata = {"name": "lab-oauth2-client", "namespace": "lab"}
    assert client_secret_copy(HERE, "chosen") == opaque(metadata, client_id="lab", client_secret="chosen")


WANTED = Wanted("https://id.example.org", ADMIN, realm_state(HERE), "client-secret")


@pytest.mark.parametrize(
    ("here", "changes", "expected"),
    [
        pytest.param(HERE, {}, WANTED, id="everything is there"),
        pytest.param(HERE, {"admin": None}, None, id="nobody to tell it"),
        pytest.param(HERE, {"client_secret": ""}, None, id="no secret yet"),
        pytest.param(lab(), {}, None, id="no Keycloak"),
    ],
)
def test_wanted(here: Lab, changes: dict[str, Any], expected: Wanted | None) -> None:
    assert wanted(here, replace(SEEN, **changes)) == expected


@pytest.mark.parametrize("url", ["https://id.example.org", "https://id.example.org/"])
def test_address_of_the_realm(url: str) -> None:
    assert replace(WANTED, url=url).realm == "https://id.example.org/realms/labs"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"url": "https://id.example.com"}, id="another Keycloak"),
        pytest.param({"secret": "other"}, id="another secret"),
        pytest.param({"state": realm_state(lab(environment(iam=IAM), users=["ann", "bob"]))}, id="another member"),
    ],
)
def test_the_digest_tells(changes: dict[str, Any]) -> None:
    assert replace(WANTED, **changes).digest != WANTED.digest


def test_the_digest_does_not_tell_who_manages_the_realm() -> None:
    assert replace(WANTED, admin=Admin("other", "secret", b"authority")).digest == WANTED.digest


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(SEEN, "https://id.example.org/realms/labs", id="all of it"),
        pytest.param(replace(SEEN, identity=None), "", id="nobody knows"),
        pytest.param(replace(SEEN, identity=Outcome()), "", id="nothing"),
        pytest.param(replace(SEEN, client_secret="other"), "", id="what was wanted before"),
        pytest.param(replace(SEEN, admin=None), "", id="nobody to ask"),
        pytest.param(
            replace(SEEN, identity=Outcome(holds=WANTED.digest, reason="KeycloakUnavailable")),
            "https://id.example.org/realms/labs",
            id="the last that is known of one that is away",
        ),
    ],
)
def test_realm_held(seen: Observed, expected: str) -> None:
    assert realm_held(HERE, seen) == expected


def test_what_is_secret_does_not_show() -> None:
    assert [text for text in ("client-secret", "manager-secret") if text in repr(WANTED)] == []


def test_secrets_beside_the_claim() -> None:
    assert names.own_secrets("lab") == ["lab-datalab", "lab-login", "lab-oauth-client"]
