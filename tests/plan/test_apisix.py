"""What stands before a lab's sessions where APISIX asks who comes."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import PLUGIN_CONFIG, Observed, View, observe
from datalabd.plan import plan
from datalabd.plan.apisix import is_stalled, plugins, problem
from datalabd.plan.educates import sessions
from datalabd.status import status
from tests.factories import LABELS, NOW, claim, environment, fresh, lab, running, secret

CLIENT: dict[str, Any] = {"client_id": "lab", "client_secret": "the-secret"}
LOGIN = CLIENT | {"session.secret": "seal"}
DISCOVERY = "https://id.example.org/realms/acme/.well-known/openid-configuration"


def protected(iam: bool = True, auth: str = "delegated", class_: str = "", **protection: Any) -> Lab:
    """A lab whose sessions APISIX protects."""
    keycloak = {"url": "https://id.example.org/", "adminSecret": {"namespace": "a", "name": "b"}} if iam else {}
    ingress = {"domain": "lab.example.org", "class": class_, "protection": {"type": "apisix"} | protection}
    return lab(environment(auth={"type": auth}, ingress=ingress, iam={"realm": "acme"} | keycloak))


def seen_of(here: Lab, **changes: Any) -> Observed:
    """All is well, and APISIX stands before the session."""
    seen = running(here)
    known: dict[str, Any] = {
        "served": seen.served | {PLUGIN_CONFIG},
        "oauth2_client": CLIENT,
        "apisix": LOGIN,
        "apisix_secret_exists": True,
        "has_apisix_plugins": True,
    }
    return replace(seen, **known | changes)


def stages(here: Lab, seen: Observed) -> dict[str, Any]:
    return {stage.name: stage for stage in plan(here, seen, fresh()).stages if "APISIX" in stage.name}


def values(manifest: Manifest) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in manifest["data"].items()}


# --- objects ----------------------------------------------------------------------------------------------------------


def test_plugins() -> None:
    made = plugins(protected(class_="apisix"))
    assert made["apiVersion"] == "apisix.apache.org/v2"
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("workspace-oidc-lab", "lab")
    groups = {"type": "array", "contains": {"const": "lab"}}
    token = {"type": "object", "required": ["groups"], "properties": {"groups": groups}}
    assert made["spec"] == {
        "ingressClassName": "apisix",
        "plugins": [
            {
                "name": "openid-connect",
                "enable": True,
                "secretRef": "lab-apisix",
                "config": {
                    "discovery": DISCOVERY,
                    "bearer_only": False,
                    "scope": "openid profile email roles",
                    "access_token_in_authorization_header": False,
                    "set_access_token_header": False,
                    "set_id_token_header": False,
                    "set_userinfo_header": False,
                    "set_refresh_token_header": False,
                    "claim_schema": {"type": "object", "required": ["id_token"], "properties": {"id_token": token}},
                },
            }
        ],
    }


def test_open_policy_agent_decides_where_it_is_asked() -> None:
    made = plugins(protected(opaURL="http://opa.opa:8181", opaPolicy="labs/{name}"))
    login, asked = made["spec"]["plugins"]
    assert login["config"]["use_jwks"] is True
    assert "claim_schema" not in login["config"]
    assert asked == {"name": "opa", "enable": True, "config": {"host": "http://opa.opa:8181", "policy": "labs/lab"}}
    assert "ingressClassName" not in made["spec"]


@pytest.mark.parametrize(
    ("iam", "given", "expected"),
    [
        pytest.param(True, {}, DISCOVERY, id="of Keycloak"),
        pytest.param(
            True, {"discoveryURL": "https://other.example.org/{realm}"}, "https://other.example.org/acme", id="given"
        ),
        pytest.param(
            False, {"discoveryURL": "https://other.example.org"}, "https://other.example.org", id="given alone"
        ),
    ],
)
def test_discovery(iam: bool, given: dict[str, str], expected: str) -> None:
    assert plugins(protected(iam, **given))["spec"]["plugins"][0]["config"]["discovery"] == expected


def test_no_secret_stands_in_the_plugins() -> None:
    here = protected()
    assert "the-secret" not in str(plugins(here))
    assert "seal" not in str(plugins(here))


# --- plan -------------------------------------------------------------------------------------------------------------


def test_the_seal_is_made_once_and_the_client_followed() -> None:
    here = protected()
    first = stages(here, seen_of(here, apisix={}, apisix_secret_exists=False, has_apisix_plugins=False))
    (made,) = first["login by APISIX"].objects
    assert values(made) == CLIENT | {"session.secret": "fresh-1"}
    assert first["login by APISIX"].create_only
    assert list(first) == ["login by APISIX", "plugins of APISIX"]

    changed = stages(here, seen_of(here, oauth2_client=CLIENT | {"client_secret": "another"}))
    (made,) = changed["login by APISIX"].objects
    assert values(made) == LOGIN | {"client_secret": "another"}
    assert not changed["login by APISIX"].create_only


def test_a_secret_that_was_emptied_is_written_again() -> None:
    here = protected()
    stage = stages(here, seen_of(here, apisix={}))["login by APISIX"]
    assert values(stage.objects[0])["session.secret"] == "fresh-1"
    assert not stage.create_only


def test_what_is_there_stays_while_its_client_cannot_be_read() -> None:
    here = protected()
    seen = seen_of(here, oauth2_client=None)
    wanted = plan(here, seen, fresh()).wanted
    assert {("Secret", "lab", "lab-apisix"), (PLUGIN_CONFIG, "lab", "workspace-oidc-lab")} <= wanted
    assert problem(here, seen) is None
    found = stages(here, seen)
    assert (found["login by APISIX"].objects, found["login by APISIX"].waits) == ((), None)
    assert found["plugins of APISIX"].objects == (plugins(here),)
    assert found["plugins of APISIX"].waits is None


@pytest.mark.parametrize("session", [True, False], ids=["with a session", "without"])
def test_another_protection_takes_the_plugins_away_after_the_last_session(session: bool) -> None:
    here = lab(environment(ingress={"domain": "lab.example.org", "protection": {"type": "nginx"}}))
    seen = running(here, has_apisix_plugins=True, **({} if session else {"sessions": {}}))
    kept = {("Secret", "lab", "lab-apisix"), (PLUGIN_CONFIG, "lab", "workspace-oidc-lab")}
    assert (kept <= plan(here, seen, fresh()).wanted) is session


# --- sessions ---------------------------------------------------------------------------------------------------------

NOT_SERVED = (
    "the cluster does not know ApisixPluginConfig; install the APISIX ingress controller (apisix.apache.org/v2)"
)
NO_CLIENT = "Secret lab-oauth2-client of namespace lab does not exist"


@pytest.mark.parametrize(
    ("iam", "changes", "said", "stalled"),
    [
        pytest.param(True, {"served": frozenset[str]()}, NOT_SERVED, True, id="no APISIX"),
        pytest.param(True, {"oauth2_client": None}, f"{NO_CLIENT} yet", False, id="its client is made"),
        pytest.param(
            False,
            {"oauth2_client": None},
            f"{NO_CLIENT}: set iam.url in environment courses, or create it with client_id and client_secret",
            True,
            id="nobody makes its client",
        ),
        pytest.param(True, {}, "the plugins of APISIX are being written", False, id="on its way"),
    ],
)
def test_no_session_starts_before_apisix_asks(iam: bool, changes: dict[str, Any], said: str, stalled: bool) -> None:
    here = protected(iam, **({} if iam else {"discoveryURL": DISCOVERY}))
    absent = {"apisix": {}, "has_apisix_plugins": False}
    seen = seen_of(here, **absent | changes, sessions={})
    assert sessions.waits(here, seen, "main") == said
    assert is_stalled(here, seen) is stalled
    told = condition(here, seen, "SessionsReady")
    assert (told["status"], told["reason"], told["message"]) == ("False", "Unprotected", said)
    assert (condition(here, seen, "Stalled").get("reason") == "Unprotected") is stalled


def test_with_apisix_before_it_a_session_starts() -> None:
    here = protected()
    seen = seen_of(here, sessions={})
    assert sessions.waits(here, seen, "main") is None


@pytest.mark.parametrize("key", LOGIN)
def test_half_a_login_is_none(key: str) -> None:
    here = protected()
    assert problem(here, seen_of(here, apisix={k: v for k, v in LOGIN.items() if k != key})) is not None


def condition(here: Lab, seen: Observed, kind: str) -> Manifest:
    told = status(claim(), here, seen, plan(here, seen, fresh()), [], None, NOW)["conditions"]
    return next((one for one in told if one["type"] == kind), {})


# --- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param({"client_id": "lab"}, None, id="half"),
        pytest.param(CLIENT | {"client_secret": " "}, None, id="blank"),
        pytest.param(CLIENT | {"client_secret": "x\n", "more": "y"}, CLIENT | {"client_secret": "x"}, id="line break"),
    ],
)
def test_the_client(made: dict[str, Any] | None, expected: dict[str, str] | None) -> None:
    found = None if made is None else secret("lab-oauth2-client", "lab", **made)
    assert observe(protected(), View(client_secret_copy=found)).oauth2_client == expected


@pytest.mark.parametrize("mine", [True, False])
def test_only_our_own_plugins_count(mine: bool) -> None:
    labels = LABELS if mine else {}
    view = View(
        apisix_secret=secret("lab-apisix", "lab", labels, **LOGIN),
        apisix_plugins={"kind": PLUGIN_CONFIG, "metadata": {"name": "workspace-oidc-lab", "labels": labels}},
    )
    seen = observe(protected(), view)
    assert (seen.apisix, seen.apisix_secret_exists, seen.has_apisix_plugins) == (LOGIN if mine else {}, True, mine)
