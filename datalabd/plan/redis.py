"""Cache stores: a Redis, its password and its access list each."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from datalabd import names
from datalabd.api.meta import APPLIED, Manifest
from datalabd.lab import Lab, Store
from datalabd.observed import Observed
from datalabd.plan.metadata import inside, opaque, ours
from datalabd.plan.rotation import made_anew, turned
from datalabd.plan.volumes import claim_spec, grown
from datalabd.stores import NEXT, ROTATION_VARIABLE, StoreFacts, Turn

IMAGE = "quay.io/opstree/redis:v7.0.15"


def turn(seen: StoreFacts, nonce: str, now: Observed, fresh: Callable[[], str]) -> tuple[dict[str, str], Turn]:
    """The passwords its auth Secret is to hold, and for which rotation; `nonce` is the one asked for."""
    present = seen.auth.get("password")
    if present is None:
        return {"password": fresh()}, made_anew(now, nonce, seen)
    following, state = seen.auth.get(NEXT), seen.turn
    if following is not None and state.rotating and seen.restarted_for == state.rotating:
        return {"password": following}, turned(now, state.rotating)
    if following is not None:
        return {"password": present, NEXT: following}, state
    if nonce:
        return {"password": present, NEXT: fresh()}, replace(state, rotating=nonce)
    return {"password": present}, state


def auth(lab: Lab, store: Store, passwords: dict[str, str], turn: Turn) -> Manifest:
    """Secret `K-redis-auth`."""
    return opaque(lab, inside(lab, names.cache_store_auth(store.key), turn.annotations()), passwords)


def acl(lab: Lab, store: Store, passwords: Mapping[str, str]) -> Manifest:
    """Secret `K-redis-acl`: the one user and every password it may log in with."""
    accepted = " ".join(f">{password}" for password in passwords.values())
    values = {"user.acl": f"user default on {accepted} ~* +@all\n"}
    return opaque(lab, inside(lab, names.cache_store_acl(store.key)), values)


def redis(lab: Lab, store: Store, seen: StoreFacts) -> Manifest:
    """Redis `K`. The init container gives the server, which runs as another user, its directory."""
    component = lab.environment.data.components.redis
    image = component.image or IMAGE
    nonce = seen.turn.rotating or seen.turn.rotated
    size = grown(store.storage, store.storage_class, seen.data)
    return ours(
        lab,
        {
            "apiVersion": "redis.redis.opstreelabs.in/v1beta2",
            "kind": "Redis",
            "metadata": inside(lab, store.key),
            "spec": {
                "kubernetesConfig": {
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "redisSecret": {"name": names.cache_store_auth(store.key), "key": "password"},
                    "updateStrategy": {},
                    # Its operator hands annotations on to what it makes, which must not pass for planned by us.
                    "ignoreAnnotations": [APPLIED],
                    **({"resources": component.resources} if component.resources else {}),
                },
                "initContainer": {
                    "enabled": True,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c"],
                    "args": ["mkdir -p /data/appendonlydir && chmod 0777 /data /data/appendonlydir"],
                    "securityContext": {"runAsUser": 0},
                },
                **({"env": [{"name": ROTATION_VARIABLE, "value": nonce}]} if nonce else {}),
                "acl": {"secret": {"secretName": names.cache_store_acl(store.key)}},
                "storage": {
                    **({"keepAfterDelete": True} if lab.retains else {}),
                    "volumeClaimTemplate": {"metadata": {}, "spec": claim_spec(size.storage, size.storage_class)},
                    "volumeMount": {},
                },
            },
        },
    )
