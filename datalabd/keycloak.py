"""Makes a realm of Keycloak hold what the plan says of a lab; the only importer of python-keycloak.

Every pass reads first and writes only the difference, so that it can be broken off anywhere, repeated, and made by two
replicas at once. Clients and groups carry the mark of their claim from the request on that creates them. What carries
another mark, or none, is somebody else's: it is neither changed nor deleted.

python-keycloak knows the paths, and keeps a token. It has no lock around that, and one error for all that goes wrong on
the way to a server, so both are added here; it also waits for ever where it is not told otherwise.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from keycloak import KeycloakAdmin, KeycloakOpenIDConnection
from keycloak.exceptions import KeycloakAuthenticationError, KeycloakConnectionError, KeycloakOperationError

from datalabd import metrics, names
from datalabd.api.meta import REALM_MARK, NamespacedName, shorten
from datalabd.errors import KeycloakError, KeycloakForbidden, KeycloakForeign, KeycloakUnavailable, RealmMissing
from datalabd.identity import Access as Access
from datalabd.live import dig, objects, text, texts
from datalabd.plan.realm import DEVICE_GRANT, FLOWS, Group, RealmState

GRACE_SECONDS = 0.5
"""How long a pass that is cancelled waits for the answer to what it asked last."""
REQUESTS_MAX = 8
"""In flight at once: more only wait in Keycloak."""
TRIES = 5
"""Passes until the realm holds still."""
DOUBTS = 2
"""Refusals that may be a lost race."""
ROLES = ("manage-clients", "manage-users")
"""What the admin client needs, both of client `realm-management`."""

Json = dict[str, Any]
"""A representation of Keycloak's."""
P = ParamSpec("P")
T = TypeVar("T")

_GROUP_MAPPER = "oidc-group-membership-mapper"
_AUDIENCE_MAPPER = "oidc-audience-mapper"
_DEVICE_GRANT = "oauth2.device.authorization.grant.enabled"


@dataclass(frozen=True)
class Converged:
    """What a pass did, in words; and for each user who could not be made a member what is wrong."""

    changed: tuple[str, ...]
    users: Mapping[str, str]


class _Moved(KeycloakError):
    """404 or 409: the realm is no longer what was read a moment ago."""


class _Connection(KeycloakOpenIDConnection):
    """Renews its token once, however many requests find it expired at the same moment."""

    def __init__(self, access: Access, trust: ssl.SSLContext) -> None:
        self._access = access
        self._renewing = asyncio.Lock()
        super().__init__(
            server_url=f"{access.url.rstrip('/')}/",  # without the slash it would drop the last part of a path
            realm_name=access.realm,
            client_id=access.client_id,
            client_secret_key=access.client_secret,
            grant_type="client_credentials",
            verify=trust,  # type: ignore[arg-type]  # httpx takes it; of what is declared, a path is deprecated there
            timeout=None,  # ours is around the whole of a request
        )
        for manager in (self, self.keycloak_openid.connection):
            manager.async_s.send = _measured(manager.async_s.send)  # type: ignore[method-assign]

    async def a_refresh_token(self) -> None:
        """A token other than that of the moment of the call."""
        stale = self.token
        async with self._renewing:
            if self.token is stale:
                try:
                    await self.a_get_token()
                except (KeycloakAuthenticationError, KeycloakOperationError) as error:
                    raise _login_refused(self._access, error) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self.keycloak_openid.connection.aclose()
        await super().aclose()


class Keycloak:
    """One realm of one Keycloak. Raises `KeycloakError` and nothing else for whatever goes wrong on the way."""

    def __init__(self, access: Access, timeout_seconds: float = 10) -> None:
        self._access = access
        self._timeout = timeout_seconds
        self._connection = _Connection(access, _trust(access.ca))
        self._admin = KeycloakAdmin(connection=self._connection)
        self._requests = asyncio.Semaphore(REQUESTS_MAX)

    async def aclose(self) -> None:
        """Close every connection; requests in flight end with `KeycloakUnavailable`."""
        await self._connection.aclose()

    async def check(self) -> None:
        """Return if Keycloak can be reached, the realm is there, and we hold the roles that `converge` needs.

        Asks for what cannot be done, a client of our own name and a group without one: Keycloak looks at our roles
        before it looks at the rest.
        """
        lacking = []
        for role, method, impossible in (
            ("manage-clients", self._admin.a_create_client, {"clientId": self._access.client_id}),
            ("manage-users", self._admin.a_create_group, {}),
        ):
            try:
                await self._ask(method, impossible)
            except KeycloakForbidden as error:
                if error.code != 403:
                    raise
                lacking.append(role)
            except _Moved as error:
                if error.code == 404:
                    raise self._hidden() from error
            except KeycloakError as error:
                if error.code != 400:
                    raise
        if lacking:
            raise KeycloakForbidden(403, _lacks(self._access.realm, lacking))

    async def converge(self, state: RealmState, secret: str, owner: NamespacedName) -> Converged:
        """Make the realm hold this state, with this secret of the client; nothing is sent if it does.

        Raises `KeycloakForeign` before anything is written if the client or a group is not this owner's.
        """
        changed: dict[str, None] = {}
        users = await self._until_still(lambda: self._pass(state, secret, str(owner), changed))
        return Converged(tuple(changed), users)

    async def close_access(self, lab_name: str, owner: NamespacedName) -> None:
        """Let nobody log in any more, nor go on with a refresh token, and empty the groups; what is not there is fine.

        Access tokens that were handed out are valid until they expire.
        """
        await self._until_still(lambda: self._close(lab_name, str(owner)))

    async def remove(self, lab_name: str, owner: NamespacedName) -> None:
        """Delete the client and the groups; those that are not there, or not this owner's, are fine."""
        await self._until_still(lambda: self._remove(lab_name, str(owner)))

    # --- passes -------------------------------------------------------------------------------------------------------

    async def _until_still(self, once: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat a pass that found the realm changed under its hands, by another replica or by people.

        Of two who give the same role at the same moment, Keycloak refuses one with 400 or 500, as it does much else:
        another look tells whether there is anything left to do.
        """
        doubts = 0
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                return await once()
            except _Moved as error:
                if last:
                    message = f"realm {self._access.realm} keeps changing while it is written: {error}"
                    raise KeycloakUnavailable(error.code, message) from error
            except KeycloakForeign:
                # What is deleted while it is read is told of without its attributes, and so without its mark.
                if last or doubts:
                    raise
                doubts += 1
            except KeycloakError as error:
                if last or doubts == DOUBTS or error.code not in (400, 500):
                    raise
                doubts += 1
        raise AssertionError("unreachable: the last pass returns or raises")

    async def _pass(self, state: RealmState, secret: str, mark: str, changed: dict[str, None]) -> dict[str, str]:
        client, *groups = await self._find(state.client, [group.name for group in state.groups])
        self._require_ours(f'client "{state.client}"', client, mark)
        for group, live in zip(state.groups, groups, strict=True):
            self._require_ours(f'group "{group.name}"', live, mark)
        # One after the other: an interrupted first pass leaves a client without members, never the reverse.
        client_id = await self._client(state, secret, mark, client, changed)
        live_groups = await _together(
            *(self._group(group, mark, live, changed) for group, live in zip(state.groups, groups, strict=True))
        )
        roles = await self._roles(state, client_id, changed)
        present = await _together(*(self._members(live["id"]) for live in live_groups))
        known, unknown = await self._users(state, present)
        await _together(
            self._scope(state, client_id, roles, changed),
            self._service_account(state, client_id, roles, changed),
            *(
                job
                for group, live, members in zip(state.groups, live_groups, present, strict=True)
                for job in (
                    self._group_roles(group, live, state.client, client_id, roles, changed),
                    self._membership(group, live, members, known, changed),
                )
            ),
        )
        return unknown

    async def _close(self, lab_name: str, mark: str) -> None:
        client, *groups = await self._find(names.identity_client(lab_name), names.groups(lab_name))
        if client is not None and _mark(client) == mark and client.get("enabled") is not False:
            await self._ask(self._admin.a_update_client, client["id"], client | {"enabled": False})
        for group in groups:
            if group is not None and _mark(group) == mark:
                members = await self._members(group["id"])
                await _together(*(self._leave(group["id"], user) for user in members.values()))

    async def _remove(self, lab_name: str, mark: str) -> None:
        client, *groups = await self._find(names.identity_client(lab_name), names.groups(lab_name))
        if client is not None and _mark(client) == mark:
            await self._ask(self._admin.a_delete_client, client["id"])
        for group in groups:
            if group is not None and _mark(group) == mark:
                await self._ask(self._admin.a_delete_group, group["id"])

    async def _find(self, client: str, groups: list[str]) -> list[Json | None]:
        """The live client, then the live groups; None for what is not there."""
        return await _together(self._find_client(client), *map(self._find_group, groups))

    async def _find_client(self, name: str) -> Json | None:
        try:
            found = await self._client_id(name)
        except _Moved as error:
            raise self._hidden() from error  # a list is always there
        if found is None:
            return None
        try:
            return self._object(await self._ask(self._admin.a_get_client, found))
        except _Moved:
            return None

    async def _client_id(self, name: str) -> str | None:
        """Keycloak's own name of a client; None where there is none."""
        found = await self._ask(self._admin.a_get_client_id, name)
        return None if found is None else self._text(found)

    def _hidden(self) -> KeycloakUnavailable:
        message = (
            f"{self._access.url} does not lead to Keycloak's Admin API (404): open /admin/realms to datalabd there"
        )
        return KeycloakUnavailable(404, message)

    async def _find_group(self, name: str) -> Json | None:
        try:
            return self._object(await self._ask(self._admin.a_get_group_by_path, name))
        except _Moved:
            return None

    def _require_ours(self, what: str, live: Json | None, mark: str) -> None:
        if live is None or (found := _mark(live)) == mark:
            return
        owner = f"Datalab {shorten(found)}" if found else f"nobody we know: it has no attribute {REALM_MARK}"
        raise KeycloakForeign(f"{what} of realm {self._access.realm}", owner)

    # --- client -------------------------------------------------------------------------------------------------------

    async def _client(
        self, state: RealmState, secret: str, mark: str, live: Json | None, changed: dict[str, None]
    ) -> str:
        """Id of the client, which is as wanted then."""
        wanted = _representation(state, secret, mark)
        if live is None:
            created = self._text(await self._ask(self._admin.a_create_client, wanted))
            changed["client"] = None
            return created
        different = [key for key in wanted if not _holds(live.get(key), wanted[key])]
        mappers, differing = _mappers(_named(live.get("protocolMappers")), wanted["protocolMappers"])
        if "protocolMappers" in different:
            different.remove("protocolMappers")
        if different or differing:
            attributes = dig(live, "attributes") | wanted["attributes"]
            merged = live | wanted | {"attributes": attributes, "protocolMappers": mappers}
            await self._ask(self._admin.a_update_client, live["id"], merged)
            changed |= dict.fromkeys([f"client {key}" for key in different] + [f"mapper {name}" for name in differing])
        return str(live["id"])

    async def _roles(self, state: RealmState, client_id: str, changed: dict[str, None]) -> dict[str, Json]:
        """The client's roles by name, all of which are there then."""
        live = self._objects(await self._ask(self._admin.a_get_client_roles, client_id), "name")
        missing = [role for role in state.roles if role not in {found["name"] for found in live}]
        if missing:
            await _together(
                *(self._ask(self._admin.a_create_client_role, client_id, {"name": role}) for role in missing)
            )
            changed |= dict.fromkeys(f"role {role}" for role in missing)
            live = self._objects(await self._ask(self._admin.a_get_client_roles, client_id), "name")
        return {found["name"]: found for found in live}

    async def _scope(self, state: RealmState, client_id: str, roles: dict[str, Json], changed: dict[str, None]) -> None:
        answer = await self._ask(self._admin.a_get_client_roles_of_client_scope, client_id, client_id)
        live = self._objects(answer, "name")
        missing = [role for role in state.roles if role not in {found["name"] for found in live}]
        if missing:
            given = [_known(roles, role) for role in missing]
            await self._ask(self._admin.a_assign_client_roles_to_client_scope, client_id, client_id, given)
            changed |= dict.fromkeys(f"scope {role}" for role in missing)

    async def _service_account(
        self, state: RealmState, client_id: str, roles: dict[str, Json], changed: dict[str, None]
    ) -> None:
        user = self._object(await self._ask(self._admin.a_get_client_service_account_user, client_id))
        live = self._objects(await self._ask(self._admin.a_get_client_roles_of_user, user["id"], client_id), "name")
        if state.service_account_role not in {found["name"] for found in live}:
            given = [_known(roles, state.service_account_role)]
            await self._ask(self._admin.a_assign_client_role, user["id"], client_id, given)
            changed["service account"] = None

    # --- groups -------------------------------------------------------------------------------------------------------

    async def _group(self, group: Group, mark: str, live: Json | None, changed: dict[str, None]) -> Json:
        """The live group, which is there then."""
        if live is not None:
            return live
        payload = {"name": group.name, "attributes": {REALM_MARK: [mark]}}
        created = self._text(await self._ask(self._admin.a_create_group, payload))
        changed[f"group {group.name}"] = None
        return {"id": created}

    async def _group_roles(
        self,
        group: Group,
        live: Json,
        client: str,
        client_id: str,
        roles: dict[str, Json],
        changed: dict[str, None],
    ) -> None:
        """Give the group its role, and take away every other."""
        by_client = {other: texts(live, "clientRoles", other) for other in dig(live, "clientRoles")}
        if group.role not in by_client.get(client, ()):
            given = [_known(roles, group.role)]
            await self._ask(self._admin.a_assign_group_client_roles, live["id"], client_id, given)
            changed[f"roles of group {group.name}"] = None
        for other, found in by_client.items():
            if strangers := [name for name in found if (other, name) != (client, group.role)]:
                await self._take_client_roles(live["id"], other, strangers)
                changed[f"roles of group {group.name}"] = None
        if live.get("realmRoles"):
            taken = self._objects(await self._ask(self._admin.a_get_group_realm_roles, live["id"]), "name")
            await self._ask(self._admin.a_delete_group_realm_roles, live["id"], taken)
            changed[f"roles of group {group.name}"] = None

    async def _take_client_roles(self, group_id: str, client: str, strangers: list[str]) -> None:
        client_id = await self._client_id(client)
        if client_id is not None:
            answer = await self._ask(self._admin.a_get_group_client_roles, group_id, client_id)
            found = self._objects(answer, "name")
            taken = [role for role in found if role["name"] in strangers]
            await self._ask(self._admin.a_delete_group_client_roles, group_id, client_id, taken)

    # --- members ------------------------------------------------------------------------------------------------------

    async def _members(self, group_id: str) -> dict[str, str]:
        """Ids of all members of a group, by user name."""
        answer = await self._ask(self._admin.a_get_group_members, group_id, {"briefRepresentation": True})
        return {user["username"]: user["id"] for user in self._objects(answer, "username", "id")}

    async def _users(self, state: RealmState, present: list[dict[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
        """Ids of the users that Keycloak has, and what is wrong with the others; both as the claim writes them."""
        seen = {name: user for members in present for name, user in members.items()}
        wanted = list(dict.fromkeys(user for group in state.groups for user in group.members))
        found = await _together(*(self._user(user, seen) for user in wanted))
        known = {user: user_id for user, user_id in zip(wanted, found, strict=True) if user_id is not None}
        unknown = {
            user: f"realm {self._access.realm} has no user {_in_realm(user)}" for user in wanted if user not in known
        }
        return known, unknown

    async def _user(self, user: str, seen: dict[str, str]) -> str | None:
        name = _in_realm(user)
        if name in seen:
            return seen[name]
        answer = await self._ask(
            self._admin.a_get_users, {"username": name, "exact": True, "briefRepresentation": True, "max": 2}
        )
        return next((one["id"] for one in self._objects(answer, "username", "id") if one["username"] == name), None)

    async def _membership(
        self, group: Group, live: Json, members: dict[str, str], known: dict[str, str], changed: dict[str, None]
    ) -> None:
        """Let in who is missing, and put out who does not belong."""
        wanted = {known[user] for user in group.members if user in known}
        strangers, missing = set(members.values()) - wanted, wanted - set(members.values())
        if strangers or missing:
            await _together(
                *(self._leave(live["id"], user) for user in sorted(strangers)),
                *(self._ask(self._admin.a_group_user_add, user, live["id"]) for user in sorted(missing)),
            )
            changed[f"members of group {group.name}"] = None

    async def _leave(self, group_id: str, user: str) -> None:
        await self._ask(self._admin.a_group_user_remove, user, group_id)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _ask(self, method: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> Any:
        """What a method of the library answers, within our time, its errors mapped; `_Moved` for 404 and 409.

        Who is cancelled meanwhile waits for it a little: Keycloak would carry it out all the same, and a connection
        that is dropped while it is made is left open.
        """
        request = asyncio.ensure_future(self._answer(method, *args, **kwargs))
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            await asyncio.wait({request}, timeout=GRACE_SECONDS)
            request.cancel()
            await asyncio.wait({request})
            if not request.cancelled():
                request.exception()  # nobody is there to hear it
            raise

    async def _answer(self, method: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> Any:
        async with self._requests:
            try:
                async with asyncio.timeout(self._timeout):
                    return await method(*args, **kwargs)
            except TimeoutError as error:
                message = f"Keycloak at {self._access.url} did not answer within {self._timeout:g} s"
                raise KeycloakUnavailable(0, message) from error
            except KeycloakConnectionError as error:
                raise _unreachable(self._access.url, error) from error
            except (KeycloakAuthenticationError, KeycloakOperationError) as error:
                raise _refused(self._access, error) from error
            except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
                # The library takes an answer for what it should be.
                raise self._is_none(type(error).__name__) from error

    # --- answers ------------------------------------------------------------------------------------------------------

    def _object(self, answer: Any, *keys: str) -> Json:
        """An answer that has to be an object with these texts, its `id` where none are named."""
        if not isinstance(answer, dict) or not all(isinstance(answer.get(key), str) for key in keys or ("id",)):
            raise self._is_none("an answer of another form")
        return answer

    def _objects(self, answer: Any, *keys: str) -> list[Json]:
        """An answer that has to be a list of such objects."""
        if not isinstance(answer, list):
            raise self._is_none("an answer of another form")
        return [self._object(item, *keys) for item in answer]

    def _text(self, answer: Any) -> str:
        """An answer that has to be a text."""
        if not isinstance(answer, str):
            raise self._is_none("an answer of another form")
        return answer

    def _is_none(self, why: str) -> KeycloakUnavailable:
        return KeycloakUnavailable(0, f"what answers at {self._access.url} is not Keycloak ({why})")


# --- representations --------------------------------------------------------------------------------------------------


def _representation(state: RealmState, secret: str, mark: str) -> Json:
    """The client as Keycloak has it; what is left out is the realm's to decide."""
    return {
        "clientId": state.client,
        "name": state.client,
        "enabled": True,
        "protocol": "openid-connect",
        "publicClient": False,
        "bearerOnly": False,
        "clientAuthenticatorType": "client-secret",
        "secret": secret,
        "rootUrl": state.root_url,
        "adminUrl": state.root_url,
        **FLOWS,
        "redirectUris": list(state.redirect_uris),
        "webOrigins": list(state.web_origins),
        "attributes": {REALM_MARK: mark, _DEVICE_GRANT: _text(DEVICE_GRANT)},
        "protocolMappers": [
            _mapper(
                state.group_mapper.name,
                _GROUP_MAPPER,
                {
                    "claim.name": state.group_mapper.claim_name,
                    "full.path": _text(state.group_mapper.full_path),
                    "id.token.claim": _text(state.group_mapper.add_to_id_token),
                    "access.token.claim": _text(state.group_mapper.add_to_access_token),
                    "userinfo.token.claim": _text(state.group_mapper.add_to_userinfo),
                },
            ),
            *(
                _mapper(
                    audience.name,
                    _AUDIENCE_MAPPER,
                    {
                        "included.client.audience": audience.audience,
                        "id.token.claim": _text(audience.add_to_id_token),
                        "access.token.claim": _text(audience.add_to_access_token),
                    },
                )
                for audience in state.audience_mappers
            ),
        ],
    }


def _mapper(name: str, kind: str, config: dict[str, str]) -> Json:
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}


def _text(value: bool) -> str:
    """A boolean as Keycloak keeps it in attributes and configurations."""
    return str(value).lower()


def _holds(live: Any, wanted: Any) -> bool:
    """Whether a live field is as wanted; lists have no order, and more attributes than ours are fine."""
    if isinstance(wanted, dict):
        return all(dig(live).get(key) == value for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], str):
        return set(texts({"live": live}, "live")) == set(wanted)
    return bool(live == wanted)


def _mappers(live: list[Json], wanted: list[Json]) -> tuple[list[Json], list[str]]:
    """The client's mappers as they should be, and the names of those that are not.

    Of the two kinds that we make, ours are all there are: a token is for nobody else. Other kinds are left alone.
    """
    by_name = {mapper["name"]: mapper for mapper in live}
    names = {mapper["name"] for mapper in wanted}
    stale = [
        mapper["name"]
        for mapper in live
        if mapper["name"] not in names and mapper.get("protocolMapper") in (_GROUP_MAPPER, _AUDIENCE_MAPPER)
    ]
    kept = [mapper for mapper in live if mapper["name"] not in (*names, *stale)]
    different = [
        mapper["name"]
        for mapper in wanted
        if not all(_holds(by_name.get(mapper["name"], {}).get(key), value) for key, value in mapper.items())
    ]
    merged = []
    for mapper in wanted:
        found = by_name.get(mapper["name"], {})
        merged.append(found | mapper | {"config": dig(found, "config") | mapper["config"]})
    return [*kept, *merged], [*different, *stale]


def _mark(live: Json) -> str:
    """The mark of a client, whose attributes are texts, or of a group, whose attributes are lists; empty without."""
    values = texts(live, "attributes", REALM_MARK)
    return values[0] if values else text(live, "attributes", REALM_MARK)


def _named(mappers: Any) -> list[Json]:
    """The mappers of a client as it was read, which all have names."""
    return [mapper for mapper in objects({"live": mappers}, "live") if isinstance(mapper.get("name"), str)]


def _in_realm(user: str) -> str:
    """A user name as Keycloak keeps it."""
    return user.lower()


def _known(roles: dict[str, Json], name: str) -> Json:
    """A role of the client; it was there, or made, a moment ago."""
    if name not in roles:
        raise _Moved(404, f"role {name} is gone again")
    return roles[name]


# --- errors -----------------------------------------------------------------------------------------------------------


def _trust(ca: bytes | None) -> ssl.SSLContext:
    """What certificates are checked against."""
    try:
        if ca is not None and not ca.strip():
            raise ValueError("empty")  # which would mean: trust what the system trusts
        return ssl.create_default_context(cadata=None if ca is None else ca.decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        raise KeycloakError(0, "ca.crt in the Secret of iam.caSecret holds no certificate in PEM") from error


def _unreachable(url: str, error: KeycloakConnectionError) -> KeycloakUnavailable:
    """What keeps us from a server; the library says no more than that it cannot be reached."""
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
        if isinstance(cause, ssl.SSLCertVerificationError):
            return KeycloakUnavailable(
                0,
                f"certificate of {url} is not signed by iam.caSecret, or not for that name ({cause.verify_message}): "
                "put the certificate of its CA as ca.crt into that Secret",
            )
    return KeycloakUnavailable(0, f"Keycloak at {url} cannot be reached: {str(cause) or type(cause).__name__}")


def _said(error: KeycloakAuthenticationError | KeycloakOperationError) -> str:
    """What Keycloak gives as reason, shortened."""
    try:
        body = json.loads(error.response_body or b"")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return ""
    reasons = (body.get(key) for key in ("errorMessage", "error_description", "error"))
    return shorten(next(filter(None, reasons), "")) or ""


def _refused(access: Access, error: KeycloakAuthenticationError | KeycloakOperationError) -> KeycloakError:
    code, said = error.response_code or 0, _said(error)
    if code == 429 or code >= 500:
        return _out_of_order(access, code, said)
    if code == 401:
        return KeycloakForbidden(
            code, f"realm {access.realm} does not accept its own token of the admin client: {said}"
        )
    if code == 403:
        return KeycloakForbidden(code, _lacks(access.realm, ROLES))
    if code == 404 and said.startswith("Realm not found"):
        return RealmMissing(code, _no_realm(access))
    if code in (404, 409):
        return _Moved(code, said)
    return KeycloakError(code, f"Keycloak at {access.url} refuses what it is to hold: {code} {said}".rstrip())


def _login_refused(access: Access, error: KeycloakAuthenticationError | KeycloakOperationError) -> KeycloakError:
    code, said = error.response_code or 0, _said(error)
    if code == 429 or code >= 500:
        return _out_of_order(access, code, said)
    if code == 404 and said.startswith("Realm does not exist"):
        return RealmMissing(code, _no_realm(access))
    if code not in (400, 401, 403):
        return KeycloakUnavailable(code, f"what answers at {access.url} is not Keycloak ({code}): see iam.url")
    return KeycloakForbidden(
        code,
        f"realm {access.realm} refuses the client of iam.adminSecret ({said}): "
        "see its client_id and client_secret, and that the client has service accounts enabled",
    )


def _out_of_order(access: Access, code: int, said: str) -> KeycloakUnavailable:
    return KeycloakUnavailable(code, f"Keycloak at {access.url} is out of order: it answers {code} {said}".rstrip())


def _no_realm(access: Access) -> str:
    return f"Keycloak at {access.url} has no realm {access.realm}: create it, or correct iam.realm"


def _lacks(realm: str, roles: tuple[str, ...] | list[str]) -> str:
    return (
        f"the client of iam.adminSecret lacks {' or '.join(roles)} in realm {realm}: "
        "give its service account these roles of client realm-management"
    )


# --- metrics ----------------------------------------------------------------------------------------------------------


def _measured(send: Callable[..., Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The same way to send a request, counted and timed, whatever becomes of it."""

    async def measured(request: Any, **options: Any) -> Any:
        code, began = "<error>", time.monotonic()
        try:
            response = await send(request, **options)
            code = str(response.status_code)
            return response
        finally:
            metrics.KEYCLOAK_REQUESTS.labels(code=code, method=request.method).inc()
            metrics.KEYCLOAK_SECONDS.labels(method=request.method).observe(time.monotonic() - began)

    return measured


# --- tasks ------------------------------------------------------------------------------------------------------------


async def _together(*jobs: Coroutine[Any, Any, T]) -> list[T]:
    """What the jobs return; the error of one ends the others and is raised, that of a changed realm last."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as errors:
        raise min(errors.exceptions, key=lambda error: isinstance(error, _Moved)) from None
    return [task.result() for task in tasks]
