from dataclasses import replace
from typing import Any

import pytest

from datalabd.plan.realm import AudienceMapper, Group, realm_state
from tests.factories import environment, lab

SESSIONS = [{"name": "main"}, {"name": "idle", "state": "stopped"}]
HOSTS = [
    "lab",
    *("lab-main", "editor-lab-main", "lab-main-editor", "data-lab-main", "lab-main-data"),
    *("lab-idle", "editor-lab-idle", "lab-idle-editor", "data-lab-idle", "lab-idle-data"),
]
CLIENT, ACCESS, ADMIN, API = {"client": "lab"}, {"role": "ws_access"}, {"role": "ws_admin"}, {"role": "ws_api"}


def test_document() -> None:
    within = environment(iam={"realm": "acme", "extraAudiences": ["workspace-api"]})
    state = realm_state(lab(within, sessions=SESSIONS, users=["ann", "bob"]))
    assert state.manifest() == {
        "kind": "KeycloakRealmState",
        "realm": "acme",
        "clients": [
            {
                "clientId": "lab",
                "name": "lab",
                "rootUrl": "https://lab.lab.example.org",
                "adminUrl": "https://lab.lab.example.org",
                "accessType": "CONFIDENTIAL",
                "fullScopeAllowed": False,
                "standardFlowEnabled": True,
                "implicitFlowEnabled": False,
                "directAccessGrantsEnabled": False,
                "serviceAccountsEnabled": True,
                "oauth2DeviceAuthorizationGrantEnabled": False,
                "webOrigins": [f"https://{host}.lab.example.org" for host in HOSTS],
                "validRedirectUris": [f"https://{host}.lab.example.org/*" for host in HOSTS],
                "credentialsSecret": "lab-oauth-client",
            }
        ],
        "clientRoles": [CLIENT | role for role in (ACCESS, ADMIN, API)],
        "groups": [{"name": "lab"}, {"name": "lab-admin"}],
        "groupRoles": [{"group": "lab"} | CLIENT | ACCESS, {"group": "lab-admin"} | CLIENT | ADMIN],
        "memberships": [{"group": "lab", "members": ["ann", "bob"]}, {"group": "lab-admin", "members": ["ann"]}],
        "protocolMappers": [
            {
                "client": "lab",
                "type": "group-membership",
                "name": "lab",
                "claimName": "groups",
                "fullPath": False,
                "addToIdToken": True,
                "addToAccessToken": False,
                "addToUserinfo": False,
            }
        ],
        "audienceMappers": [
            {
                "client": "lab",
                "name": "workspace-api-audience",
                "audience": "workspace-api",
                "addToIdToken": False,
                "addToAccessToken": True,
            }
        ],
        "scopeMappings": [{"scopeOf": "lab"} | CLIENT | role for role in (ACCESS, ADMIN, API)],
        "serviceAccountRoles": [{"serviceAccountOf": "lab"} | CLIENT | API],
    }


def test_localhost_is_no_origin_and_a_redirect_only_where_the_environment_says_so() -> None:
    closed = realm_state(lab())
    opened = realm_state(lab(environment(iam={"localhostRedirects": True})))
    assert opened == replace(closed, redirect_uris=(*closed.redirect_uris, "http://localhost:*"))


def test_is_the_same_whether_a_keycloak_is_named_or_not() -> None:
    named = environment(iam={"url": "https://id.example.org", "adminSecret": {"namespace": "iam", "name": "admin"}})
    assert realm_state(lab(named)) == realm_state(lab())


@pytest.mark.parametrize(
    ("users", "overrides", "members", "administrators"),
    [
        pytest.param([], {}, (), (), id="nobody"),
        pytest.param(["ann", "bob"], {}, ("ann", "bob"), ("ann",), id="the first one"),
        pytest.param(
            ["ann", "bob", "cem"],
            {"cem": {"role": "admin"}, "bob": {"role": "user"}},
            ("ann", "bob", "cem"),
            ("ann", "cem"),
            id="and whoever was made one",
        ),
        pytest.param(["ann"], {"ann": {"role": "user"}}, ("ann",), ("ann",), id="the first one whatever is said"),
        pytest.param(["ann"], {"bob": {"role": "admin"}}, ("ann",), ("ann",), id="only members"),
        pytest.param(["ann", "bob", "ann"], {}, ("ann", "bob"), ("ann",), id="each once"),
        pytest.param(["Ann B+c@x"], {}, ("Ann B+c@x",), ("Ann B+c@x",), id="as written"),
    ],
)
def test_groups(
    users: list[str], overrides: dict[str, Any], members: tuple[str, ...], administrators: tuple[str, ...]
) -> None:
    found = realm_state(lab(users=users, userOverrides=overrides)).groups
    assert found == (Group("lab", "ws_access", members), Group("lab-admin", "ws_admin", administrators))


@pytest.mark.parametrize(
    ("audiences", "names"),
    [
        pytest.param("one", ["one-audience"], id="one as a text"),
        pytest.param(["https://API.example.org/v1/"], ["https-api-example-org-v1-audience"], id="words"),
        pytest.param(["___"], ["extra-audience"], id="no word"),
        pytest.param(["a" * 47 + "-bc"], ["a" * 47 + "-audience"], id="cut, without a last dash"),
        pytest.param(["a.b", "a-b", "a_b"], ["a-b-audience", "a-b-2-audience", "a-b-3-audience"], id="equal words"),
        pytest.param(["one", "one"], ["one-audience"], id="each once"),
    ],
)
def test_audience_mappers(audiences: str | list[str], names: list[str]) -> None:
    found = realm_state(lab(environment(iam={"extraAudiences": audiences}))).audience_mappers
    distinct = dict.fromkeys([audiences] if isinstance(audiences, str) else audiences)
    assert found == tuple(AudienceMapper(name, audience) for name, audience in zip(names, distinct, strict=True))
