"""Convergence of a realm, against a real Keycloak; faults that it cannot be made to show come from a relay."""

import asyncio
import base64
import datetime
import json
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from aiohttp import web

from datalabd.api.meta import REALM_MARK, NamespacedName
from datalabd.errors import (
    KeycloakError,
    KeycloakForbidden,
    KeycloakForeign,
    KeycloakUnavailable,
    RealmMissing,
)
from datalabd.keycloak import Access, Converged, Keycloak
from datalabd.plan.realm import RealmState, realm_state
from hack.keycloak import ADMIN, Realm, Server
from tests.factories import environment, lab
from tests.relay import Relay, nothing, relay
from tests.servers import keycloak_server, realm_name
from webhooks.certificates import issue

__all__ = ["keycloak_server", "realm_name"]

pytestmark = [pytest.mark.servers("Keycloak"), pytest.mark.timeout(600)]

OWNER = NamespacedName("team", "lab")
OTHER = NamespacedName("elsewhere", "lab")
MARK = "team/lab"
SECRET = "of-the-lab"
PATIENCE_SECONDS = 120
"""Of tests that are not about time: the machine may be busy."""


USERS = ("ann", "bob", "cem")


@pytest.fixture(scope="module")
def shared_realm(keycloak_server: Server) -> Realm:
    """A realm with the admin client, and users of any name; making one takes Keycloak as long as many tests."""
    realm = own(keycloak_server, f"realm-{uuid.uuid4().hex[:8]}")
    profile = realm.get("/users/profile")
    (username,) = [attribute for attribute in profile["attributes"] if attribute["name"] == "username"]
    username["validations"] = {}  # names from elsewhere, or of an older Keycloak, need not be as they are by default
    realm.request("PUT", "/users/profile", body=profile)
    return realm


@pytest.fixture
def realm(shared_realm: Realm) -> Iterator[Realm]:
    """The same, as good as new."""
    before = {client["clientId"] for client in shared_realm.get("/clients", max=1000)}
    yield shared_realm
    for client in shared_realm.get("/clients", max=1000):
        if client["clientId"] not in before:
            shared_realm.request("DELETE", f"/clients/{client['id']}")
    for group in shared_realm.get("/groups"):
        shared_realm.request("DELETE", f"/groups/{group['id']}")
    users = {user["username"]: user["id"] for user in shared_realm.get("/users", max=1000)}
    for name in users.keys() - {*USERS}:
        shared_realm.request("DELETE", f"/users/{users[name]}")
    for name in {*USERS} - users.keys():
        shared_realm.add_user(name)


def own(server: Server, name: str, **settings: Any) -> Realm:
    """A realm with the admin client, and users ann, bob and cem."""
    return server.realm(name, users=[{"username": user, "enabled": True} for user in USERS], **settings)


@pytest.fixture
async def front(keycloak_server: Server) -> AsyncIterator[Relay]:
    """What Keycloak is reached through, so that requests can be counted and disturbed."""
    async with relay(keycloak_server.url) as running:
        yield running


@pytest.fixture
async def connect(realm: Realm, front: Relay) -> AsyncIterator[Callable[..., Keycloak]]:
    """Makes a client of the realm, different only in what is given."""
    made: list[Keycloak] = []

    def new(timeout_seconds: float = PATIENCE_SECONDS, **changes: Any) -> Keycloak:
        access = Access(front.url, realm.name, realm.client_id, realm.client_secret, None)
        made.append(Keycloak(replace(access, **changes), timeout_seconds))
        return made[-1]

    yield new
    for client in made:
        await client.aclose()


def state(realm: Realm, **spec: Any) -> RealmState:
    """What is wanted of claim team/lab, with two members and one more audience where nothing else is said."""
    within = environment(iam={"realm": realm.name, "extraAudiences": ["workspace-api"]})
    return realm_state(lab(within, **{"users": ["ann", "bob"]} | spec))


def renamed(wanted: RealmState, name: str) -> RealmState:
    """The same of a lab of another name."""
    groups = tuple(replace(group, name=group.name.replace(wanted.client, name, 1)) for group in wanted.groups)
    mapper = replace(wanted.group_mapper, name=name)
    return replace(wanted, client=name, groups=groups, group_mapper=mapper)


CLIENT_FIELDS = (
    *("clientId", "name", "enabled", "protocol", "publicClient", "bearerOnly", "clientAuthenticatorType", "secret"),
    *("rootUrl", "adminUrl", "fullScopeAllowed", "standardFlowEnabled", "implicitFlowEnabled"),
    *("directAccessGrantsEnabled", "serviceAccountsEnabled"),
)


def held(realm: Realm, name: str = "lab") -> dict[str, Any]:
    """Everything that the realm holds of a lab, read by its administrator."""
    client = realm.client(name)
    if client is None:
        return {"groups": {group: realm.group(group) for group in (name, f"{name}-admin")}}
    path = f"/clients/{client['id']}"
    account = realm.get(f"{path}/service-account-user")["id"]
    return {
        "client": {field: client.get(field) for field in CLIENT_FIELDS},
        "attributes": {
            key: client["attributes"].get(key) for key in (REALM_MARK, "oauth2.device.authorization.grant.enabled")
        },
        "redirectUris": sorted(client["redirectUris"]),
        "webOrigins": sorted(client["webOrigins"]),
        "mappers": {one["name"]: (one["protocolMapper"], configuration(one)) for one in client["protocolMappers"]},
        "roles": sorted(role["name"] for role in realm.get(f"{path}/roles")),
        "scope": sorted(role["name"] for role in realm.get(f"{path}/scope-mappings/clients/{client['id']}")),
        "account": sorted(role["name"] for role in realm.get(f"/users/{account}/role-mappings/clients/{client['id']}")),
        "groups": {
            group: live and (live["attributes"], live["realmRoles"], live["clientRoles"], realm.members(group))
            for group in (name, f"{name}-admin")
            for live in [realm.group(group)]
        },
    }


def configuration(mapper: dict[str, Any]) -> dict[str, str]:
    """What a mapper is told. Keycloak itself adds to one for an audience that it is not for the user's data."""
    config: dict[str, str] = mapper["config"]
    added = {"userinfo.token.claim": "false"} if mapper["protocolMapper"] == "oidc-audience-mapper" else {}
    return {key: value for key, value in config.items() if added.get(key) != value}


def whole(name: str = "lab", mark: str = MARK, members: tuple[str, ...] = ("ann", "bob")) -> dict[str, Any]:
    """What `held` finds once `state` has converged."""
    attributes = {REALM_MARK: [mark]}
    hosts = ["lab", "lab-main", "editor-lab-main", "lab-main-editor", "data-lab-main", "lab-main-data"]
    return {
        "client": {
            "clientId": name,
            "name": name,
            "enabled": True,
            "protocol": "openid-connect",
            "publicClient": False,
            "bearerOnly": False,
            "clientAuthenticatorType": "client-secret",
            "secret": SECRET,
            "rootUrl": "https://lab.lab.example.org",
            "adminUrl": "https://lab.lab.example.org",
            "fullScopeAllowed": False,
            "standardFlowEnabled": True,
            "implicitFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "serviceAccountsEnabled": True,
        },
        "attributes": {REALM_MARK: mark, "oauth2.device.authorization.grant.enabled": "false"},
        "redirectUris": sorted(f"https://{host}.lab.example.org/*" for host in hosts),
        "webOrigins": sorted(f"https://{host}.lab.example.org" for host in hosts),
        "mappers": {
            name: (
                "oidc-group-membership-mapper",
                {
                    "claim.name": "groups",
                    "full.path": "false",
                    "id.token.claim": "true",
                    "access.token.claim": "false",
                    "userinfo.token.claim": "false",
                },
            ),
            "workspace-api-audience": (
                "oidc-audience-mapper",
                {
                    "included.client.audience": "workspace-api",
                    "access.token.claim": "true",
                    "id.token.claim": "false",
                },
            ),
        },
        "roles": ["ws_access", "ws_admin", "ws_api"],
        "scope": ["ws_access", "ws_admin", "ws_api"],
        "account": ["ws_api"],
        "groups": {
            name: (attributes, [], {name: ["ws_access"]}, list(members)),
            f"{name}-admin": (attributes, [], {name: ["ws_admin"]}, list(members[:1])),
        },
    }


# --- a new lab --------------------------------------------------------------------------------------------------------


async def test_a_new_lab_from_nothing(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    done = await connect().converge(state(realm), SECRET, OWNER)
    assert held(realm) == whole()
    assert done.users == {}
    assert set(done.changed) == {
        *("client", "role ws_access", "role ws_admin", "role ws_api"),
        *("scope ws_access", "scope ws_admin", "scope ws_api", "service account"),
        *("group lab", "members of group lab", "roles of group lab"),
        *("group lab-admin", "members of group lab-admin", "roles of group lab-admin"),
    }


async def test_a_second_pass_sends_nothing(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    wanted = state(realm, users=["ann", "nobody"])
    await connect().converge(wanted, SECRET, OWNER)
    front.requests.clear()
    done = await connect().converge(wanted, SECRET, OWNER)
    assert (front.writes, done.changed) == ([], ())
    assert done.users == {"nobody": f"realm {realm.name} has no user nobody"}


async def test_a_lab_without_members(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    client = connect()
    await client.converge(state(realm), SECRET, OWNER)
    await client.converge(state(realm, users=[]), SECRET, OWNER)
    assert held(realm) == whole(members=())


async def test_what_the_claim_no_longer_has_goes(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    client = connect()
    within = environment(
        iam={"realm": realm.name, "extraAudiences": ["workspace-api", "old"], "localhostRedirects": True}
    )
    sessions = [{"name": "main"}, {"name": "other"}]
    more = realm_state(lab(within, users=["cem", "ann", "bob"], sessions=sessions))
    await client.converge(more, SECRET, OWNER)
    assert held(realm) != whole()
    await client.converge(state(realm), SECRET, OWNER)
    assert held(realm) == whole()


async def test_a_new_secret_replaces_the_old(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    client = connect()
    await client.converge(state(realm), "before", OWNER)
    done = await client.converge(state(realm), SECRET, OWNER)
    assert done.changed == ("client secret",)
    assert held(realm) == whole()
    form = {"grant_type": "client_credentials", "client_id": "lab"}
    assert realm.token(**form, client_secret="before").status_code == 401
    assert realm.token(**form, client_secret=SECRET).status_code == 200


async def test_what_others_added_to_the_client_stays(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    """Attributes and mappers that say nothing of whom a token is for, or of groups."""
    client = connect()
    await client.converge(state(realm), SECRET, OWNER)
    live = the_client(realm)
    change(realm, description="theirs", attributes=live["attributes"] | {"theirs": "kept"})
    mapper = {"name": "theirs", "protocol": "openid-connect", "protocolMapper": "oidc-full-name-mapper", "config": {}}
    realm.request("POST", f"/clients/{live['id']}/protocol-mappers/models", body=mapper)
    change(realm, rootUrl="https://wrong.example.org")
    done = await client.converge(state(realm), SECRET, OWNER)
    assert done.changed == ("client rootUrl",)
    found = the_client(realm)
    assert (found["description"], found["attributes"]["theirs"]) == ("theirs", "kept")
    assert "theirs" in [one["name"] for one in found["protocolMappers"]]


# --- drift ------------------------------------------------------------------------------------------------------------


def the_client(realm: Realm) -> dict[str, Any]:
    live = realm.client("lab")
    assert live is not None
    return live


def the_group(realm: Realm, name: str = "lab") -> str:
    live = realm.group(name)
    assert live is not None
    return str(live["id"])


def change(realm: Realm, **fields: Any) -> None:
    live = the_client(realm)
    realm.request("PUT", f"/clients/{live['id']}", body=live | fields)


def mapper(realm: Realm, name: str) -> tuple[str, dict[str, Any]]:
    live = the_client(realm)
    (found,) = [one for one in live["protocolMappers"] if one["name"] == name]
    return f"/clients/{live['id']}/protocol-mappers/models/{found['id']}", found


def drop_mapper(realm: Realm, name: str) -> None:
    realm.request("DELETE", mapper(realm, name)[0])


def bend_mapper(realm: Realm, name: str, **config: str) -> None:
    path, found = mapper(realm, name)
    realm.request(
        "PUT", path, body=found | {"config": found["config"] | {k.replace("_", "."): v for k, v in config.items()}}
    )


def retype_mapper(realm: Realm, name: str) -> None:
    live = the_client(realm)
    mappers = [
        one | ({"protocolMapper": "oidc-full-name-mapper"} if one["name"] == name else {})
        for one in live["protocolMappers"]
    ]
    realm.request("PUT", f"/clients/{live['id']}", body=live | {"protocolMappers": mappers})


def add_mapper(realm: Realm) -> None:
    live = the_client(realm)
    config = {"included.client.audience": "account", "access.token.claim": "true"}
    body = {"name": "theirs", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper", "config": config}
    realm.request("POST", f"/clients/{live['id']}/protocol-mappers/models", body=body)


def drop_role(realm: Realm, name: str) -> None:
    realm.request("DELETE", f"/clients/{the_client(realm)['id']}/roles/{name}")


def roles(realm: Realm, *names: str) -> list[dict[str, Any]]:
    found = realm.get(f"/clients/{the_client(realm)['id']}/roles")
    return [role for role in found if role["name"] in names]


def map_roles(realm: Realm, method: str, holder: str, *names: str) -> None:
    realm.request(method, f"{holder}/role-mappings/clients/{the_client(realm)['id']}", body=roles(realm, *names))


def drop_scope(realm: Realm) -> None:
    own = the_client(realm)["id"]
    realm.request("DELETE", f"/clients/{own}/scope-mappings/clients/{own}", body=roles(realm, "ws_admin"))


def account(realm: Realm) -> str:
    path = f"/clients/{the_client(realm)['id']}/service-account-user"
    return f"/users/{realm.get(path)['id']}"


def add_realm_role(realm: Realm) -> None:
    role = realm.get("/roles/offline_access")  # every realm has it
    realm.request("POST", f"/groups/{the_group(realm)}/role-mappings/realm", body=[role])


def add_other_role(realm: Realm) -> None:
    found = realm.client("account")
    assert found is not None
    (role,) = [one for one in realm.get(f"/clients/{found['id']}/roles") if one["name"] == "view-applications"]
    realm.request("POST", f"/groups/{the_group(realm)}/role-mappings/clients/{found['id']}", body=[role])


def member(realm: Realm, method: str, group: str, name: str) -> None:
    realm.request(method, f"/users/{realm.user_id(name)}/groups/{the_group(realm, group)}")


DRIFT: dict[str, Callable[[Realm], None]] = {
    "client": lambda realm: (realm.request("DELETE", f"/clients/{the_client(realm)['id']}"), None)[1],
    "client enabled": lambda realm: change(realm, enabled=False),
    "client name": lambda realm: change(realm, name="other"),
    "client publicClient": lambda realm: change(realm, publicClient=True),
    "client rootUrl": lambda realm: change(realm, rootUrl="https://wrong.example.org"),
    "client adminUrl": lambda realm: change(realm, adminUrl="https://wrong.example.org"),
    "client fullScopeAllowed": lambda realm: change(realm, fullScopeAllowed=True),
    "client standardFlowEnabled": lambda realm: change(realm, standardFlowEnabled=False),
    "client implicitFlowEnabled": lambda realm: change(realm, implicitFlowEnabled=True),
    "client directAccessGrantsEnabled": lambda realm: change(realm, directAccessGrantsEnabled=True),
    "client clientAuthenticatorType": lambda realm: change(realm, clientAuthenticatorType="client-jwt"),
    "client redirectUris": lambda realm: change(realm, redirectUris=["https://evil.example.org/*"]),
    "client webOrigins": lambda realm: change(realm, webOrigins=[]),
    "client secret": lambda realm: change(realm, secret="of somebody else"),
    "client attributes": lambda realm: change(
        realm,
        attributes=the_client(realm)["attributes"] | {"oauth2.device.authorization.grant.enabled": "true"},
    ),
    "mapper lab": lambda realm: drop_mapper(realm, "lab"),
    "mapper workspace-api-audience": lambda realm: drop_mapper(realm, "workspace-api-audience"),
    "mapper theirs": add_mapper,
    "role ws_admin": lambda realm: drop_role(realm, "ws_admin"),
    "role ws_api": lambda realm: drop_role(realm, "ws_api"),
    "scope ws_admin": drop_scope,
    "service account": lambda realm: map_roles(realm, "DELETE", account(realm), "ws_api"),
    "group lab": lambda realm: (realm.request("DELETE", f"/groups/{the_group(realm)}"), None)[1],
    "group lab-admin": lambda realm: (realm.request("DELETE", f"/groups/{the_group(realm, 'lab-admin')}"), None)[1],
    "roles of group lab": lambda realm: map_roles(realm, "DELETE", f"/groups/{the_group(realm)}", "ws_access"),
    "members of group lab": lambda realm: member(realm, "DELETE", "lab", "bob"),
    "members of group lab-admin": lambda realm: member(realm, "DELETE", "lab-admin", "ann"),
}
"""What is reported as changed, by what was done to the realm."""
MORE_DRIFT: list[tuple[str, str, Callable[[Realm], None]]] = [
    ("mapper lab", "bent", lambda realm: bend_mapper(realm, "lab", access_token_claim="true")),
    ("mapper lab", "of another kind", lambda realm: retype_mapper(realm, "lab")),
    (
        "mapper workspace-api-audience",
        "bent",
        lambda realm: bend_mapper(realm, "workspace-api-audience", included_client_audience="other"),
    ),
    (
        "roles of group lab",
        "more of the client",
        lambda realm: map_roles(realm, "POST", f"/groups/{the_group(realm)}", "ws_admin", "ws_api"),
    ),
    ("roles of group lab", "one of the realm", add_realm_role),
    ("roles of group lab", "one of another client", add_other_role),
    ("members of group lab", "a stranger", lambda realm: member(realm, "PUT", "lab", "cem")),
    ("members of group lab-admin", "no administrator", lambda realm: member(realm, "PUT", "lab-admin", "bob")),
]


@pytest.mark.parametrize(
    ("told", "drift"),
    [pytest.param(told, drift, id=told) for told, drift in DRIFT.items()]
    + [pytest.param(told, drift, id=f"{told}: {what}") for told, what, drift in MORE_DRIFT],
)
async def test_drift_is_repaired(
    realm: Realm, connect: Callable[..., Keycloak], told: str, drift: Callable[[Realm], None]
) -> None:
    client = connect()
    await client.converge(state(realm), SECRET, OWNER)
    drift(realm)
    assert held(realm) != whole()
    done = await client.converge(state(realm), SECRET, OWNER)
    assert told in done.changed
    assert held(realm) == whole()
    assert (await client.converge(state(realm), SECRET, OWNER)).changed == ()


# --- users ------------------------------------------------------------------------------------------------------------


async def test_an_unknown_user_keeps_nobody_out(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    done = await connect().converge(state(realm, users=["ann", "nobody", "bob"]), SECRET, OWNER)
    assert done.users == {"nobody": f"realm {realm.name} has no user nobody"}
    assert held(realm) == whole()


@pytest.mark.parametrize(
    "name",
    ["ann+lab@example.org", "zoë", "jane.o'neil", "a b", "%41nn", "x" * 255, "&exact=false", "анна", "名前"],
)
async def test_user_names_are_found_exactly(realm: Realm, connect: Callable[..., Keycloak], name: str) -> None:
    realm.add_user(name)
    realm.add_user(f"{name[:200]}-and-more")
    client = connect()
    done = await client.converge(state(realm, users=[name]), SECRET, OWNER)
    assert (done.users, realm.members("lab"), realm.members("lab-admin")) == ({}, [name], [name])
    assert (await client.converge(state(realm, users=[name]), SECRET, OWNER)).changed == ()


@pytest.mark.parametrize("name", ["an", "nn", "*", "a*", "%", "ann ", "ann@x", "ánn"])
async def test_a_part_of_a_name_finds_nobody(realm: Realm, connect: Callable[..., Keycloak], name: str) -> None:
    done = await connect().converge(replace_members(state(realm), name), SECRET, OWNER)
    assert (list(done.users), realm.members("lab")) == ([name], [])


def replace_members(wanted: RealmState, *members: str) -> RealmState:
    return replace(wanted, groups=tuple(replace(group, members=members) for group in wanted.groups))


async def test_capitals_do_not_matter(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    client = connect()
    done = await client.converge(state(realm, users=["Ann", "BOB", "NOBODY"]), SECRET, OWNER)
    assert done.users == {"NOBODY": f"realm {realm.name} has no user nobody"}
    assert held(realm) == whole()
    assert (await client.converge(state(realm, users=["Ann", "BOB"]), SECRET, OWNER)).changed == ()


async def test_a_service_account_can_be_a_member(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    client, name = connect(), f"service-account-{ADMIN}"
    done = await client.converge(state(realm, users=[name]), SECRET, OWNER)
    assert (done.users, realm.members("lab")) == ({}, [name])
    assert (await client.converge(state(realm, users=[name]), SECRET, OWNER)).changed == ()


async def test_a_user_who_is_deleted_between_two_passes(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    client = connect()
    await client.converge(state(realm), SECRET, OWNER)
    realm.request("DELETE", f"/users/{realm.user_id('bob')}")
    done = await client.converge(state(realm), SECRET, OWNER)
    assert done == Converged((), {"bob": f"realm {realm.name} has no user bob"})


async def test_a_user_who_is_deleted_within_a_pass(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay
) -> None:
    bob = realm.user_id("bob")

    async def delete_bob(method: str, path: str) -> None:
        if method == "PUT" and f"/users/{bob}/groups/" in path:
            front.before = nothing
            await asyncio.to_thread(realm.request, "DELETE", f"/users/{bob}")

    front.before = delete_bob
    done = await connect().converge(state(realm), SECRET, OWNER)
    assert done.users == {"bob": f"realm {realm.name} has no user bob"}
    assert held(realm) == whole(members=("ann",))


async def test_more_members_than_a_page_holds(
    keycloak_server: Server, realm_name: str, connect: Callable[..., Keycloak]
) -> None:
    """All are seen, to keep them and to put them out."""
    many = [f"user-{number:03}" for number in range(230)]
    groups = [{"name": name, "attributes": {REALM_MARK: [MARK]}} for name in ("lab", "lab-admin")]
    users = [{"username": name, "enabled": True, "groups": ["/lab", "/lab-admin"]} for name in many]
    realm = keycloak_server.realm(f"{realm_name}-many", groups=groups, users=users)
    client = connect(realm=realm.name, client_secret=realm.client_secret)
    kept = [*many[:60], *many[-40:]]
    done = await client.converge(state(realm, users=kept), SECRET, OWNER)
    assert done.users == {}
    assert (realm.members("lab"), realm.members("lab-admin")) == (sorted(kept), kept[:1])


# --- what is not ours -------------------------------------------------------------------------------------------------


def everything(realm: Realm) -> Any:
    """All clients and groups of a realm, but for what changes by itself."""
    clients = realm.get("/clients", max=1000)
    groups = realm.get("/groups", briefRepresentation="false")
    return sorted(clients, key=lambda one: str(one["id"])), [(one, realm.members(one["name"])) for one in groups]


def foreign_client(realm: Realm) -> str:
    realm.request("POST", "/clients", body={"clientId": "lab", "secret": "theirs", "redirectUris": ["https://theirs/"]})
    return f'client "lab" of realm {realm.name} exists and belongs to nobody we know: it has no attribute {REALM_MARK}'


def client_of_another(realm: Realm) -> str:
    realm.request("POST", "/clients", body={"clientId": "lab", "attributes": {REALM_MARK: str(OTHER)}})
    return f'client "lab" of realm {realm.name} exists and belongs to Datalab elsewhere/lab'


def foreign_group(realm: Realm) -> str:
    realm.request("POST", "/groups", body={"name": "lab"})
    member(realm, "PUT", "lab", "cem")
    return f'group "lab" of realm {realm.name} exists and belongs to nobody we know: it has no attribute {REALM_MARK}'


def group_of_another(realm: Realm) -> str:
    """Members of claim lab-admin, who would become administrators of lab."""
    realm.request("POST", "/groups", body={"name": "lab-admin", "attributes": {REALM_MARK: ["team/lab-admin"]}})
    member(realm, "PUT", "lab-admin", "cem")
    return f'group "lab-admin" of realm {realm.name} exists and belongs to Datalab team/lab-admin'


@pytest.mark.parametrize("exists", [foreign_client, client_of_another, foreign_group, group_of_another])
async def test_what_is_not_ours_is_refused_and_untouched(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay, exists: Callable[[Realm], str]
) -> None:
    message, client = exists(realm), connect()
    before = everything(realm)
    with pytest.raises(KeycloakForeign) as refused:
        await client.converge(state(realm), SECRET, OWNER)
    assert str(refused.value) == message
    await client.close_access("lab", OWNER)
    await client.remove("lab", OWNER)
    assert (everything(realm), front.writes) == (before, [])


@pytest.mark.parametrize("name", ["account", "realm-management", "security-admin-console", ADMIN])
async def test_clients_of_keycloak_and_our_own_are_not_taken(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay, name: str
) -> None:
    client = connect()
    with pytest.raises(KeycloakForeign):
        await client.converge(renamed(state(realm), name), SECRET, OWNER)
    await client.remove(name, OWNER)
    assert front.writes == []


async def test_a_claim_that_was_made_anew_takes_up_what_was_left(
    realm: Realm, connect: Callable[..., Keycloak]
) -> None:
    client = connect()
    await client.converge(state(realm), "before", OWNER)
    await client.close_access("lab", OWNER)
    await client.converge(state(realm), SECRET, OWNER)
    assert held(realm) == whole()


# --- at the same time, and broken off ---------------------------------------------------------------------------------


async def test_two_replicas_at_once(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    one, other = connect(), connect()
    for number in range(6):
        wanted = renamed(state(realm), f"lab{number}")
        results = await asyncio.gather(*(client.converge(wanted, SECRET, OWNER) for client in (one, other)))
        assert [result.users for result in results] == [{}, {}]
        assert held(realm, f"lab{number}") == whole(f"lab{number}")


async def test_one_removes_while_the_other_converges(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    """Which one wins is open; nothing else may come of it, and the next pass ends as it should."""
    one, other = connect(), connect()
    for _ in range(4):
        await one.converge(state(realm), SECRET, OWNER)
        results = await asyncio.gather(
            one.converge(state(realm), SECRET, OWNER), other.remove("lab", OWNER), return_exceptions=True
        )
        assert all(isinstance(r, Converged | KeycloakUnavailable | None) for r in results), results
        await one.converge(state(realm), SECRET, OWNER)
        assert held(realm) == whole()


@pytest.mark.parametrize("what", ["client", "group"])
async def test_what_is_deleted_while_it_is_read_is_looked_at_again(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay, what: str
) -> None:
    """Keycloak tells of it without its attributes then, and so without its mark."""
    await connect().converge(state(realm), SECRET, OWNER)
    live = realm.client("lab") if what == "client" else realm.group("lab")
    assert live is not None
    told = f"/clients/{live['id']}" if what == "client" else "/group-by-path/lab"

    async def half(method: str, path: str) -> web.Response | None:
        if not path.endswith(told):
            return None
        front.before = nothing
        await asyncio.to_thread(realm.request, "DELETE", f"/{what}s/{live['id']}")
        return web.json_response(live | {"attributes": {}})

    front.before = half
    assert (await connect().converge(state(realm), SECRET, OWNER)).users == {}
    assert front.before is nothing
    assert held(realm) == whole()


@pytest.mark.parametrize("answered", [False, True], ids=["before it arrives", "before it is answered"])
async def test_killed_at_each_write(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay, answered: bool
) -> None:
    """A pass that ends there, and a whole one after it, come to the same."""
    for count in range(1, 100):
        name = f"lab{count}"
        wanted = renamed(state(realm), name)
        if await killed(connect(), front, wanted, count, answered):
            assert (await connect().converge(wanted, SECRET, OWNER)).users == {}
        assert held(realm, name) == whole(name)
        if len(front.writes) < count:
            break
        front.requests.clear()
    assert count > 12


async def killed(client: Keycloak, front: Relay, wanted: RealmState, at: int, answered: bool) -> bool:
    """Whether a pass was broken off at its write of that number."""
    reached, front.requests[:] = asyncio.Event(), []

    async def hang(method: str, path: str) -> None:
        if method != "GET" and not path.endswith("/token") and len(front.writes) >= at:
            reached.set()
            await asyncio.Event().wait()

    setattr(front, "after" if answered else "before", hang)
    work = asyncio.create_task(client.converge(wanted, SECRET, OWNER))
    death = asyncio.create_task(reached.wait())
    await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
    setattr(front, "after" if answered else "before", nothing)
    for task in (work, death):
        task.cancel()
    await asyncio.wait({work, death})
    return reached.is_set()


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_one_token_for_all_who_ask_at_once(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    client = connect()
    labs = [renamed(state(realm), f"lab{number}") for number in range(4)]
    await asyncio.gather(*(client.converge(wanted, SECRET, OWNER) for wanted in labs))
    assert front.logins == 1


async def test_a_token_that_expires_within_a_pass_is_renewed(
    keycloak_server: Server, realm_name: str, connect: Callable[..., Keycloak], front: Relay
) -> None:
    """Keycloak finds it expired, not we: the request was on its way for longer than the token lives."""
    realm = own(keycloak_server, realm_name, accessTokenLifespan=3)

    async def delay(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/groups"):
            front.before = nothing
            await asyncio.sleep(3.5)

    front.before = delay
    await connect(realm=realm.name, client_secret=realm.client_secret).converge(state(realm), SECRET, OWNER)
    assert front.before is nothing
    assert front.logins >= 2
    assert held(realm) == whole()


# --- faults -----------------------------------------------------------------------------------------------------------


async def failure(realm: Realm, client: Keycloak) -> KeycloakError:
    """What all that can be asked for fails with, which is the same."""
    found = []
    for job in (
        client.check(),
        client.converge(state(realm), SECRET, OWNER),
        client.close_access("lab", OWNER),
        client.remove("lab", OWNER),
    ):
        with pytest.raises(KeycloakError) as failed:
            await job
        found.append(failed.value)
    assert len({(type(error), str(error)) for error in found}) == 1
    assert realm.client_secret not in str(found[0])
    assert SECRET not in str(found[0])
    return found[0]


async def test_down(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    error = await failure(realm, connect(url="http://127.0.0.1:1"))
    assert isinstance(error, KeycloakUnavailable)
    assert str(error).startswith("Keycloak at http://127.0.0.1:1 cannot be reached: ")


async def test_slow(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    async def sleep(method: str, path: str) -> None:
        await asyncio.Event().wait()

    front.before = sleep
    error = await failure(realm, connect(timeout_seconds=0.2))
    assert isinstance(error, KeycloakUnavailable)
    assert str(error) == f"Keycloak at {front.url} did not answer within 0.2 s"


@pytest.mark.parametrize("code", [500, 502, 503, 429])
@pytest.mark.parametrize("where", ["/token", "/admin/"], ids=["login", "request"])
async def test_out_of_order(
    realm: Realm, connect: Callable[..., Keycloak], front: Relay, code: int, where: str
) -> None:
    async def fail(method: str, path: str) -> web.Response | None:
        return web.Response(status=code, text="<html>oh</html>") if where in path else None

    front.before = fail
    error = await failure(realm, connect())
    assert isinstance(error, KeycloakUnavailable)
    assert (error.code, str(error)) == (code, f"Keycloak at {front.url} is out of order: it answers {code}")


async def test_something_else_answers(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    async def welcome(method: str, path: str) -> web.Response:
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    front.before = welcome
    error = await failure(realm, connect())
    assert isinstance(error, KeycloakUnavailable)
    assert str(error).startswith(f"what answers at {front.url} is not Keycloak")


async def test_the_address_is_wrong(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    error = await failure(realm, connect(url=f"{front.url}/auth"))
    assert str(error) == f"what answers at {front.url}/auth is not Keycloak (404): see iam.url"


async def test_a_proxy_hides_the_admin_api(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    async def hide(method: str, path: str) -> web.Response | None:
        return web.Response(status=404) if "/admin/" in path else None

    front.before = hide
    error = await failure(realm, connect())
    assert isinstance(error, KeycloakUnavailable)
    assert str(error) == (
        f"{front.url} does not lead to Keycloak's Admin API (404): open /admin/realms to datalabd there"
    )


async def test_the_realm_is_missing(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    error = await failure(realm, connect(realm="nowhere"))
    assert isinstance(error, RealmMissing)
    assert str(error) == f"Keycloak at {front.url} has no realm nowhere: create it, or correct iam.realm"


async def test_the_login_is_refused(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    error = await failure(realm, connect(client_secret="wrong"))
    assert isinstance(error, KeycloakForbidden)
    assert str(error) == (
        f"realm {realm.name} refuses the client of iam.adminSecret (Invalid client or Invalid client credentials): "
        "see its client_id and client_secret, and that the client has service accounts enabled"
    )


async def test_restored_from_a_backup(
    keycloak_server: Server, realm_name: str, connect: Callable[..., Keycloak]
) -> None:
    """The realm as it was before the lab: the client comes back with the secret that everybody has."""
    for _ in range(2):
        realm = own(keycloak_server, realm_name)
        client = connect(realm=realm.name, client_secret=realm.client_secret)
        await client.converge(state(realm), SECRET, OWNER)
        assert held(realm) == whole()
        realm.request("DELETE", "")


class TestCertificate:
    async def test_signed_by_the_authority_of_the_environment(
        self, keycloak_server: Server, connect: Callable[..., Keycloak]
    ) -> None:
        await connect(url=keycloak_server.secure_url, ca=keycloak_server.ca).check()

    @pytest.mark.parametrize("other", [False, True], ids=["those of the system", "another one"])
    async def test_signed_by_nobody_we_trust(
        self, keycloak_server: Server, realm: Realm, connect: Callable[..., Keycloak], other: bool
    ) -> None:
        ca = another_authority() if other else None
        error = await failure(realm, connect(url=keycloak_server.secure_url, ca=ca))
        assert isinstance(error, KeycloakUnavailable)
        assert re.fullmatch(
            rf"certificate of {keycloak_server.secure_url} is not signed by iam\.caSecret, or not for that name "
            r"\(.+\): put the certificate of its CA as ca\.crt into that Secret",
            str(error),
        )

    @pytest.mark.parametrize("ca", [b"", b"nonsense", b"\xff\xfe"], ids=["empty", "no PEM", "no text"])
    async def test_an_authority_that_is_none(self, connect: Callable[..., Keycloak], ca: bytes) -> None:
        with pytest.raises(KeycloakError, match=re.escape("ca.crt in the Secret of iam.caSecret holds no certificate")):
            connect(ca=ca)


def another_authority() -> bytes:
    return issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC)).ca


# --- roles of our own -------------------------------------------------------------------------------------------------


async def test_the_two_roles_are_enough(realm: Realm, connect: Callable[..., Keycloak]) -> None:
    before = everything(realm)
    await connect().check()
    assert everything(realm) == before


@pytest.mark.parametrize(
    ("held_roles", "lacking"),
    [
        pytest.param((), "manage-clients or manage-users", id="none"),
        pytest.param(("manage-clients",), "manage-users", id="of clients"),
        pytest.param(("manage-users",), "manage-clients", id="of users"),
        pytest.param(("view-clients", "view-users"), "manage-clients or manage-users", id="only to look"),
    ],
)
async def test_roles_that_are_missing(
    keycloak_server: Server,
    realm_name: str,
    connect: Callable[..., Keycloak],
    held_roles: tuple[str, ...],
    lacking: str,
) -> None:
    realm = keycloak_server.realm(f"{realm_name}-less", held_roles)
    client = connect(realm=realm.name, client_secret=realm.client_secret)
    message = (
        f"the client of iam.adminSecret lacks {lacking} in realm {realm.name}: "
        "give its service account these roles of client realm-management"
    )
    with pytest.raises(KeycloakForbidden) as refused:
        await client.check()
    assert str(refused.value) == message
    with pytest.raises(KeycloakForbidden):
        await client.converge(state(realm), SECRET, OWNER)


# --- what members get -------------------------------------------------------------------------------------------------


class Browser:
    """Somebody who logs in through the client, as a browser and the service behind it would."""

    def __init__(self, server: Server, realm: Realm) -> None:
        self._http = httpx.Client(
            base_url=f"{server.secure_url}/realms/{realm.name}/protocol/openid-connect",
            verify=ssl.create_default_context(cadata=server.ca.decode()),
            timeout=60,
        )

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def log_in(self, user: str) -> dict[str, Any]:
        """The tokens; fails where the login page is refused."""
        back = "https://lab-main.lab.example.org/oauth_callback"
        asked = {"client_id": "lab", "response_type": "code", "scope": "openid", "redirect_uri": back}
        page = self._http.get("/auth", params=asked)
        assert page.status_code == 200, page.text
        form = re.search(r'action="([^"]+)"', page.text)
        assert form is not None
        answer = self._http.post(unescape(form[1]), data={"username": user, "password": "secret"})
        assert answer.status_code == 302, answer.text
        assert answer.headers["Location"].startswith(back)
        (code,) = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
        answer = self.token(grant_type="authorization_code", code=code, redirect_uri=back)
        tokens: dict[str, Any] = answer.raise_for_status().json()
        return tokens

    def token(self, origin: str = "", **form: str) -> httpx.Response:
        """The answer of the token endpoint to the client."""
        headers = {"Origin": origin} if origin else {}
        return self._http.post("/token", data=form | {"client_id": "lab", "client_secret": SECRET}, headers=headers)


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


@pytest.fixture
def browser(keycloak_server: Server, realm: Realm) -> Iterator[Browser]:
    """Somebody's browser, in a realm where dan and eve can log in."""
    realm.add_user("dan", "secret")
    realm.add_user("eve", "secret")
    with Browser(keycloak_server, realm) as found:
        yield found


async def test_tokens_of_members(realm: Realm, connect: Callable[..., Keycloak], browser: Browser) -> None:
    await connect().converge(state(realm, users=["ann", "dan"]), SECRET, OWNER)
    tokens = browser.log_in("dan")
    access, identity = claims(tokens["access_token"]), claims(tokens["id_token"])
    assert access["resource_access"]["lab"]["roles"] == ["ws_access"]
    assert "workspace-api" in access["aud"]
    assert "groups" not in access
    assert identity["groups"] == ["lab"]
    answer = browser.token(
        "https://lab-main.lab.example.org", grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "https://lab-main.lab.example.org"


async def test_tokens_of_administrators(realm: Realm, connect: Callable[..., Keycloak], browser: Browser) -> None:
    await connect().converge(state(realm, users=["dan"]), SECRET, OWNER)
    tokens = browser.log_in("dan")
    assert sorted(claims(tokens["access_token"])["resource_access"]["lab"]["roles"]) == ["ws_access", "ws_admin"]
    assert sorted(claims(tokens["id_token"])["groups"]) == ["lab", "lab-admin"]


async def test_tokens_of_strangers_say_nothing(
    realm: Realm, connect: Callable[..., Keycloak], browser: Browser
) -> None:
    await connect().converge(state(realm), SECRET, OWNER)
    tokens = browser.log_in("eve")
    assert "lab" not in claims(tokens["access_token"]).get("resource_access", {})
    assert claims(tokens["id_token"]).get("groups", []) == []


async def test_closed_to_those_who_are_in(realm: Realm, connect: Callable[..., Keycloak], browser: Browser) -> None:
    client = connect()
    await client.converge(state(realm, users=["dan"]), SECRET, OWNER)
    tokens = browser.log_in("dan")
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert browser.token(**refresh).status_code == 200
    await client.close_access("lab", OWNER)
    assert browser.token(**refresh).status_code in (400, 401)
    assert browser.token(grant_type="client_credentials").status_code in (400, 401)
    assert (realm.members("lab"), realm.members("lab-admin")) == ([], [])
    with pytest.raises(AssertionError):
        browser.log_in("dan")


async def test_closing_twice_sends_nothing(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    client = connect()
    await client.converge(state(realm), SECRET, OWNER)
    await client.close_access("lab", OWNER)
    front.requests.clear()
    await client.close_access("lab", OWNER)
    assert front.writes == []


async def test_removed(realm: Realm, connect: Callable[..., Keycloak], front: Relay) -> None:
    client = connect()
    before = everything(realm)
    await client.converge(state(realm), SECRET, OWNER)
    await client.remove("lab", OTHER)
    assert held(realm) == whole()
    await client.remove("lab", OWNER)
    assert everything(realm) == before
    front.requests.clear()
    await client.remove("lab", OWNER)
    assert front.writes == []


def test_the_credentials_are_not_in_a_repr() -> None:
    assert repr(Access("u", "r", "the-id", "the-secret", None)) == "Access(url='u', realm='r', ca=None)"
