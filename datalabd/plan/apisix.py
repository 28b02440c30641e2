"""APISIX before a lab's sessions: the plugins that ask who comes, and the Secret by which they log people in.

Read against apisix-ingress-controller 1.8 to 2.1 and APISIX 3.13. The controller lays each key of the one Secret that a
plugin may name over the plugin's configuration, a dot in the key leading into an object. Where that object stands in
the configuration as well, version 2 forgets what else is in it: so `session` is in the Secret alone.

An Ingress whose plugin configuration does not exist is served without any plugin: no session starts before it does, and
it stays while there is one.
"""

from collections.abc import Mapping
from typing import Any

from datalabd import names
from datalabd.api.environment import ProtectionType
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import PLUGIN_CONFIG, Observed, Phase
from datalabd.plan.ingress_protection import address, words
from datalabd.plan.metadata import inside, opaque, ours

SESSION_SECRET = "session.secret"
"""Key of the Secret: what APISIX seals its cookies with, so that it is the same for all of its workers and replicas."""
CLIENT_KEYS = ("client_id", "client_secret")
SCOPE = "openid profile email roles"


def is_wanted(lab: Lab) -> bool:
    """Whether APISIX is to ask who comes."""
    return lab.environment.data.ingress.protection.type is ProtectionType.APISIX


def has_sessions(seen: Observed) -> bool:
    """Whether there is a session whose Ingress may still name the plugins."""
    return any(facts.phase is not Phase.ABSENT for facts in seen.sessions.values())


def has_login(seen: Observed) -> bool:
    """Whether APISIX has what it logs people in by, be its client still to be read or not."""
    return all(seen.apisix.get(key) for key in (*CLIENT_KEYS, SESSION_SECRET))


def waits(lab: Lab, seen: Observed) -> str | None:
    """Why the plugins cannot be written yet; None if they can."""
    if PLUGIN_CONFIG not in seen.served:
        return (
            f"the cluster does not know {PLUGIN_CONFIG}; install the APISIX ingress controller (apisix.apache.org/v2)"
        )
    if seen.oauth2_client is None and not has_login(seen):
        secret = f"Secret {names.identity_secret_copy(lab.name)} of namespace {names.workshop_namespace(lab.name)}"
        if lab.environment.data.iam.url is not None:
            return f"{secret} does not exist yet"
        return f"{secret} does not exist: set iam.url in environment {lab.environment.name}, or create it with " + (
            " and ".join(CLIENT_KEYS)
        )
    return None


def problem(lab: Lab, seen: Observed) -> str | None:
    """Why a session would be open to everybody who finds it, or is; None if APISIX asks who comes, or need not."""
    if not is_wanted(lab):
        return None
    if seen.has_apisix_plugins and has_login(seen):
        return None
    return waits(lab, seen) or "the plugins of APISIX are being written"


def is_stalled(lab: Lab, seen: Observed) -> bool:
    """Whether only a person can mend that."""
    return PLUGIN_CONFIG not in seen.served or (seen.oauth2_client is None and lab.environment.data.iam.url is None)


def secret(lab: Lab, client: Mapping[str, str], session_secret: str) -> Manifest:
    """Secret `N-apisix`: the lab's client and the random secret of APISIX' own sessions."""
    values = {key: client[key] for key in CLIENT_KEYS} | {SESSION_SECRET: session_secret}
    return opaque(lab, inside(lab, names.apisix_secret(lab.name)), values)


def plugins(lab: Lab) -> Manifest:
    """ApisixPluginConfig `workspace-oidc-N`.

    Where Open Policy Agent is asked it decides, also on tokens that programs bring along. Without it browsers alone are
    let in, and of those who log in the lab's group: their ID token names it (`claim_schema`, since APISIX 3.13).
    """
    data = lab.environment.data
    protection, known = data.ingress.protection, words(data, lab.name, lab.namespace)
    realm = f"{(data.iam.url or '').rstrip('/')}/realms/{{realm}}/.well-known/openid-configuration"
    config: dict[str, Any] = {
        "discovery": address(protection.discovery_url or realm, known),
        "bearer_only": False,
        "scope": SCOPE,
        # Sessions receive the headers that are set here, and a token may open other labs.
        "access_token_in_authorization_header": False,
        "set_access_token_header": False,
        "set_id_token_header": False,
        "set_userinfo_header": False,
        "set_refresh_token_header": False,
    }
    asked = []
    if protection.opa_url and protection.opa_policy:
        config["use_jwks"] = True
        # Open Policy Agent reads the token from the request.
        config["access_token_in_authorization_header"] = config["set_access_token_header"] = True
        opa = {"host": address(protection.opa_url, known), "policy": address(protection.opa_policy, known)}
        asked = [{"name": "opa", "enable": True, "config": opa}]
    else:
        config["claim_schema"] = _holds(
            "id_token", _holds("groups", {"type": "array", "contains": {"const": lab.name}})
        )
    login = {
        "name": "openid-connect",
        "enable": True,
        "secretRef": names.apisix_secret(lab.name),
        "config": config,
    }
    spec: Manifest = {"plugins": [login, *asked]}
    if data.ingress.class_:
        spec["ingressClassName"] = data.ingress.class_
    metadata = inside(lab, names.apisix_plugins(lab.name))
    return ours(lab, {"apiVersion": "apisix.apache.org/v2", "kind": PLUGIN_CONFIG, "metadata": metadata, "spec": spec})


def _holds(name: str, schema: Manifest) -> Manifest:
    """A schema of objects that have this member."""
    return {"type": "object", "required": [name], "properties": {name: schema}}
