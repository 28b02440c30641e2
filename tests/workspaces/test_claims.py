"""What a token's claims say of who asks. No token is signed here."""

import math
from typing import Any

import pytest

from workspaces.claims import Expected, Identity, TokenRefused, check, identity

NOW = 1_800_000_000
EXPECTED = Expected("https://id.example.org/realms/labs", "workspace-api", 30)
GOOD: dict[str, Any] = {
    "iss": EXPECTED.issuer,
    "aud": ["account", "workspace-api"],
    "exp": NOW + 300,
    "iat": NOW,
    "typ": "Bearer",
    "azp": "portal",
    "sub": "f1",
    "preferred_username": "alice",
}
HEADER = {"alg": "RS256", "typ": "JWT"}


def accepted(header: dict[str, Any] | None = None, **changed: Any) -> str:
    """Why these claims are refused; empty if they are not."""
    claims = {name: value for name, value in (GOOD | changed).items() if value is not ...}
    try:
        check(HEADER if header is None else header, claims, EXPECTED, NOW)
    except TokenRefused as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({}, "", id="good"),
        pytest.param({"typ": ...}, "", id="of an issuer without kinds"),
        pytest.param({"aud": "workspace-api"}, "", id="one audience"),
        pytest.param({"iss": EXPECTED.issuer + "/"}, "issuer", id="another issuer"),
        pytest.param({"iss": ...}, "issuer", id="no issuer"),
        pytest.param({"aud": ...}, "audience", id="no audience"),
        pytest.param({"aud": "workspace-api-2"}, "audience", id="another audience"),
        pytest.param({"aud": ["account"]}, "audience", id="other audiences"),
        pytest.param({"aud": {"workspace-api": True}}, "audience", id="audience as a map"),
        pytest.param({"exp": ...}, "time", id="for ever"),
        pytest.param({"exp": NOW - 29}, "", id="expired within the leeway"),
        pytest.param({"exp": NOW - 30}, "time", id="expired"),
        pytest.param({"exp": True}, "time", id="expiry that is a boolean"),
        pytest.param({"exp": str(NOW + 300)}, "time", id="expiry as text"),
        pytest.param({"exp": math.inf}, "time", id="expiry without end"),
        pytest.param({"nbf": NOW + 30}, "", id="soon within the leeway"),
        pytest.param({"nbf": NOW + 31}, "time", id="not yet"),
        pytest.param({"iat": NOW + 31}, "time", id="of the future"),
        pytest.param({"iat": ...}, "", id="issued at no time"),
        pytest.param({"iat": [NOW]}, "time", id="issued at a list"),
        pytest.param({"typ": "ID"}, "type", id="ID token of Keycloak"),
        pytest.param({"typ": "Refresh"}, "type", id="refresh token"),
        pytest.param({"typ": "Offline"}, "type", id="offline token"),
        pytest.param({"typ": "Logout", "events": {}}, "type", id="logout token"),
        pytest.param({"typ": ["Bearer"]}, "type", id="kind as a list"),
        pytest.param({"typ": ..., "at_hash": "x"}, "type", id="ID token with a hash"),
        pytest.param({"typ": ..., "nonce": "x"}, "type", id="ID token with a nonce"),
        pytest.param({"nonce": "x"}, "", id="access token of an older Keycloak, with a nonce"),
        pytest.param({"cnf": {"jkt": "x"}}, "type", id="bound to a key"),
    ],
)
def test_token_is_accepted_by_its_claims(changed: dict[str, Any], reason: str) -> None:
    assert accepted(**changed) == reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("JWT", ""), ("at+jwt", ""), ("application/at+JWT", ""), ("logout+jwt", "type"), (1, "type")],
)
def test_token_is_accepted_by_the_kind_in_its_header(kind: object, reason: str) -> None:
    assert accepted({"typ": kind}) == reason


def test_a_nonce_is_no_sign_of_an_id_token_where_the_header_says_what_it_is() -> None:
    assert accepted({"typ": "at+jwt"}, typ=..., nonce="x") == ""


@pytest.mark.parametrize(
    ("access", "roles", "is_platform_admin"),
    [
        pytest.param(
            {
                "ws-a": {"roles": ["ws_api", "ws_admin"]},
                "ws-b": {"roles": ["ws_access", "other"]},
                "ws-c": {"roles": ["ws_api"]},
                "ws-d": {"roles": ["admin"]},
                "account": {"roles": ["view-profile"]},
            },
            {"ws-a": "ws_admin", "ws-b": "ws_access", "ws-c": "ws_api"},
            False,
            id="the first role decides",
        ),
        pytest.param({"workspace-api": {"roles": ["admin"]}}, {}, True, id="platform admin"),
        pytest.param({"workspace-api": {"roles": ["ws_admin"]}}, {}, False, id="other roles of the platform"),
        pytest.param({"workspace-api": {"roles": "admin"}}, {}, False, id="platform role as text"),
        pytest.param({"*": {"roles": ["ws_admin"]}}, {}, False, id="client *"),
        pytest.param({"ws-a": {"roles": "xx_ws_admin_xx"}}, {}, False, id="roles as text"),
        pytest.param({"ws-a": {"roles": {"ws_admin": 1}}}, {}, False, id="roles as a map"),
        pytest.param(
            {"ws-a": ["ws_admin"], "ws-b": None, "ws-c": "ws_admin"}, {}, False, id="clients that are no maps"
        ),
        pytest.param([{"ws-a": {"roles": ["ws_admin"]}}], {}, False, id="a list of clients"),
        pytest.param(
            {"ws-a": {"roles": [["ws_admin"], {}, None, "ws_access"]}}, {"ws-a": "ws_access"}, False, id="odd"
        ),
        pytest.param(None, {}, False, id="null"),
    ],
)
def test_roles_are_read_as_far_as_they_are_well_formed(
    access: object, roles: dict[str, str], is_platform_admin: bool
) -> None:
    assert identity(GOOD | {"resource_access": access}) == Identity(
        "alice",
        subject="f1",
        client="portal",
        is_platform_admin=is_platform_admin,
        roles=roles,  # type: ignore[arg-type]
        issued_at=NOW,
        expires_at=NOW + 300,
    )


@pytest.mark.parametrize(
    ("who", "counted"),
    [
        (Identity("alice", "f1", "portal", roles={"ws-a": "ws_admin"}), "user f1"),
        (Identity("alice", "f1", "ws-a", roles={"ws-a": "ws_admin"}), "user f1"),
        (Identity("alice", "f1", "portal", roles={"ws-a": "ws_api"}), "user f1"),
        (Identity("client ws-a"), "user client ws-a"),
        (Identity("service-account-ws-a", "m1", "ws-a", roles={"ws-a": "ws_api"}), "client ws-a"),
        (Identity("robot", "m2", "ws-a", roles={"ws-a": "ws_api"}), "client ws-a"),
    ],
)
def test_people_are_counted_one_by_one_and_machines_by_workspace(who: Identity, counted: str) -> None:
    assert who.counts_as == counted


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": " alice ", "azp": "portal", "sub": "f1"}, "alice"),
        ({"preferred_username": 7, "azp": "portal", "sub": "f1"}, "portal"),
        ({"preferred_username": " ", "sub": "f1"}, "f1"),
    ],
)
def test_name_is_the_users_else_the_clients_else_the_subject(claims: dict[str, Any], name: str) -> None:
    assert identity(claims).name == name


def test_claims_that_name_nobody_are_refused() -> None:
    with pytest.raises(TokenRefused) as refused:
        identity({"sub": ""})
    assert (refused.value.reason, refused.value.detail) == ("malformed", "Invalid access token")
    assert refused.value.description == "The token is no signed JWT with an object of claims"


def test_a_wrong_audience_is_told_in_upstreams_words() -> None:
    assert TokenRefused("audience").detail == "Invalid token audience"
