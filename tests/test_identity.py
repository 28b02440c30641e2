import base64
from typing import Any

import pytest

from datalabd.api.environment import Iam
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.identity import Admin, IamView, admin, secrets
from tests.factories import IAM, secret

CA_SECRET = {"namespace": "pki", "name": "ca"}
MANAGER, AUTHORITY = NamespacedName("iam", "admin"), NamespacedName("pki", "ca")
GOOD = secret("admin", "iam", client_id="manager", client_secret="manager-secret")
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"


def authority(text: str) -> Manifest:
    """A Secret with this in the place of certificates."""
    return {"data": {"ca.crt": base64.b64encode(text.encode()).decode()}}


def iam(**settings: Any) -> Iam:
    """What an environment says of Keycloak."""
    return Iam.model_validate(IAM | settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(iam(), [MANAGER], id="who manages it"),
        pytest.param(iam(caSecret=CA_SECRET), [MANAGER, AUTHORITY], id="and who signs its certificate"),
        pytest.param(iam(url=""), [], id="nobody manages it"),
        pytest.param(Iam(), [], id="there is none"),
    ],
)
def test_secrets(settings: Iam, expected: list[NamespacedName]) -> None:
    assert secrets(settings) == expected


@pytest.mark.parametrize(
    ("settings", "known", "expected"),
    [
        pytest.param(iam(), {MANAGER: GOOD}, Admin("manager", "manager-secret", None), id="without an authority"),
        pytest.param(
            iam(caSecret=CA_SECRET),
            {MANAGER: GOOD, AUTHORITY: authority(PEM)},
            Admin("manager", "manager-secret", PEM.encode()),
            id="with an authority",
        ),
        pytest.param(
            iam(),
            {MANAGER: secret("admin", "iam", client_id="manager\n", client_secret="manager-secret\n")},
            Admin("manager", "manager-secret", None),
            id="with the line breaks of editors",
        ),
        pytest.param(
            iam(), {}, "Secret iam/admin does not exist; create it with client_id and client_secret", id="none"
        ),
        pytest.param(
            iam(),
            {MANAGER: secret("admin", "iam", client_id="x")},
            "Secret iam/admin has no value for client_secret",
            id="no secret",
        ),
        pytest.param(
            iam(),
            {MANAGER: secret("admin", "iam", client_id=" ", client_secret="x")},
            "Secret iam/admin has no value for client_id",
            id="a blank name",
        ),
        pytest.param(
            iam(caSecret=CA_SECRET),
            {MANAGER: GOOD},
            "Secret pki/ca does not exist; create it with ca.crt",
            id="no authority",
        ),
        pytest.param(
            iam(caSecret=CA_SECRET),
            {MANAGER: GOOD, AUTHORITY: authority("x")},
            "Secret pki/ca has no certificate in ca.crt",
            id="an authority without use",
        ),
        pytest.param(Iam(), {MANAGER: GOOD}, "", id="no Keycloak"),
    ],
)
def test_admin(settings: Iam, known: dict[NamespacedName, Manifest], expected: Admin | str) -> None:
    assert admin(settings, IamView(known)) == ((None, expected) if isinstance(expected, str) else (expected, ""))


@pytest.mark.parametrize("refused", ["", "Secret iam/admin cannot be read: forbidden"])
def test_secrets_that_have_not_been_read(refused: str) -> None:
    assert admin(iam(), IamView({MANAGER: GOOD}, read=False, refused=refused)) == (None, refused)


def test_secrets_do_not_show() -> None:
    manager, _ = admin(iam(), IamView({MANAGER: GOOD}))
    shown = repr((manager, IamView({MANAGER: GOOD})))
    assert "manager-secret" not in shown
    assert "bWFuYWdlci1zZWNyZXQ=" not in shown
