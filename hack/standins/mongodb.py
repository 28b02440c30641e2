"""The MongoDB operator (MongoDB Kubernetes 1.10): a replica set for each MongoDBCommunity.

Unkind in three ways: a changed claim template makes it Failed until the template is changed back; nothing reaches the
StatefulSet while a pod of it is not ready, not even what would mend the pod; and no set can have no members.
"""

import base64
import hashlib
import hmac
import json
import secrets
from urllib.parse import quote_plus

from datalabd.api.meta import Manifest
from datalabd.errors import Invalid
from datalabd.kube.apply import agrees
from datalabd.kube.client import Client
from datalabd.kube.resources import SECRETS, Resource
from datalabd.kube.store import key_of
from hack.standins.statefulsets import RESYNC_SECONDS, StoreOperator, merged, secret, values

MONGODB = Resource("mongodbcommunity.mongodb.com/v1", "mongodbcommunity", "MongoDBCommunity")
SERVICE_ACCOUNT = "mongodb-kubernetes-appdb"
LAST_CONFIGURATION = "mongodb.com/v1.lastSuccessfulConfiguration"
LAST_VERSION = "mongodb.com/v1.lastAppliedMongoDBVersion"
PORT = 27017
NOT_READY = "ReplicaSet is not yet ready, retrying in 10 seconds"


class Refused(Exception):
    """The message of a Failed phase."""


class MongoDBOperator(StoreOperator):
    """Makes Service, Secrets and StatefulSet, then tells by phase and message. Claims outlive what they belong to."""

    def __init__(self, client: Client, resync_seconds: float = RESYNC_SECONDS) -> None:
        super().__init__(client, "mongodb-kubernetes-operator", MONGODB, resync_seconds)
        self.watch(SECRETS, self._secret_changed)

    def _secret_changed(self, changed: Manifest) -> None:
        namespace, name = key_of(changed)
        for live in self.objects:
            wanted = {user["passwordSecretRef"]["name"] for user in live["spec"]["users"]}
            if live["metadata"]["namespace"] == namespace and name in wanted:
                self.changed(live)

    async def sync(self, live: Manifest) -> None:
        """Make one replica set and say how far it has come."""
        if live["metadata"].get("deletionTimestamp"):
            return  # its children go with it
        try:
            _validate(live)
            await self.apply(live, service(live))
            passwords = await self._passwords(live)
            ready = await self._deploy(live, passwords)
        except Refused as refused:
            await self._report(live, {"phase": "Failed", "message": str(refused)})
            return
        if not ready:
            await self._report(live, {"phase": "Pending", "message": NOT_READY})
            return
        members, version = live["spec"]["members"], live["spec"].get("version", "")
        done = {"phase": "Running", "message": None, "version": version}
        counts = {"currentMongoDBMembers": members, "currentStatefulSetReplicas": members}
        await self._report(live, done | counts | {"mongoUri": f"mongodb://{_hosts(live)}/?replicaSet={_name(live)}"})
        await self._connections(live, passwords)
        last = {LAST_CONFIGURATION: json.dumps(live["spec"], sort_keys=True), LAST_VERSION: version}
        if not agrees(live["metadata"].get("annotations") or {}, last):
            await self.patch(MONGODB, *key_of(live), {"metadata": {"annotations": last}})

    async def _deploy(self, live: Manifest, passwords: dict[str, str]) -> bool:
        """Whether all members are up with what was asked for last."""
        stored = self.stateful_sets.get(*key_of(live))
        await self._credentials(live, passwords)
        if stored is not None and not _agents_ready(stored):
            return False
        try:
            current = await self.apply(live, stateful_set(live))
        except Invalid as error:
            raise Refused(
                f"Error deploying MongoDB ReplicaSet: error creating/updating StatefulSet: {error.message}"
            ) from error
        status = current.get("status") or {}
        members = live["spec"]["members"]
        ready: bool = status.get("updatedReplicas") == status.get("readyReplicas") == members
        return ready and status.get("observedGeneration") == current["metadata"]["generation"]

    async def _passwords(self, live: Manifest) -> dict[str, str]:
        """The password of each user; of one whose Secret is gone the stored credentials go on."""
        namespace, found = live["metadata"]["namespace"], {}
        for user in live["spec"]["users"]:
            name, key = user["passwordSecretRef"]["name"], user["passwordSecretRef"].get("key", "password")
            stored = await self.read(SECRETS, namespace, name)
            scram = f"{user['scramCredentialsSecretName']}-scram-credentials"
            if stored is None and await self.read(SECRETS, namespace, scram) is None:
                raise Refused(
                    f"Error ensuring User config: user password secret: {namespace}/{name} and scram secret: "
                    f"{namespace}/{scram} not found"
                )
            if stored is not None:
                if key not in values(stored):
                    missing = f'key "{key}" not present in the Secret {namespace}/{name}'
                    raise Refused(f"Error ensuring User config: {missing}")
                found[user["name"]] = values(stored)[key]
        return found

    async def _credentials(self, live: Manifest, passwords: dict[str, str]) -> None:
        """The Secrets that server and agents read."""
        namespace, name = key_of(live)
        for suffix, key in (("agent-password", "password"), ("keyfile", "keyfile")):
            if await self.read(SECRETS, namespace, f"{name}-{suffix}") is None:
                await self.apply(live, secret(f"{name}-{suffix}", {key: secrets.token_urlsafe(15)}))
        accounts = []
        for user in live["spec"]["users"]:
            scram = f"{user['scramCredentialsSecretName']}-scram-credentials"
            stored = await self.read(SECRETS, namespace, scram)
            known = values(stored) if stored else {}
            if user["name"] in passwords:
                wanted = scram_credentials(user["name"], passwords[user["name"]], known)
                if wanted != known:
                    wanted = scram_credentials(user["name"], passwords[user["name"]], {})
                    await self.apply(live, secret(scram, wanted))
                known = wanted
            roles = [{"role": role["name"], "db": role["db"]} for role in user["roles"]]
            accounts.append({"user": user["name"], "db": user["db"], "roles": roles, "scramSha256Creds": known})
        servers = [
            {"name": f"{name}-{number}", "version": live["spec"].get("version", "")}
            for number in range(live["spec"]["members"])
        ]
        await self._configuration(live, {"processes": servers, "auth": {"usersWanted": accounts}})

    async def _configuration(self, live: Manifest, content: Manifest) -> None:
        """Secret `<name>-config`; its version counts the changes."""
        namespace, name = key_of(live)
        stored = await self.read(SECRETS, namespace, f"{name}-config")
        known: Manifest = json.loads(values(stored)["cluster-config.json"]) if stored else {}
        version = known.pop("version", 0)
        if known != content:
            text = json.dumps(content | {"version": version + 1})
            await self.apply(live, secret(f"{name}-config", {"cluster-config.json": text}))

    async def _connections(self, live: Manifest, passwords: dict[str, str]) -> None:
        """A Secret for each user to connect with; one of that name that somebody else made stays as it is."""
        namespace, name = key_of(live)
        for user, password in passwords.items():
            database = next(one["db"] for one in live["spec"]["users"] if one["name"] == user)
            connection = f"{name}-{database}-{user}"
            stored = await self.read(SECRETS, namespace, connection)
            owners = stored["metadata"].get("ownerReferences") or [] if stored else [live["metadata"]]
            if live["metadata"]["uid"] not in {owner["uid"] for owner in owners}:
                continue
            login = f"{quote_plus(user)}:{quote_plus(password)}"
            options = f"{database}?replicaSet={name}&ssl=false"
            domain = f"{name}-svc.{namespace}.svc.cluster.local"
            content = {
                "username": user,
                "password": password,
                "connectionString.standard": f"mongodb://{login}@{_hosts(live)}/{options}",
                "connectionString.standardSrv": f"mongodb+srv://{login}@{domain}/{options}",
            }
            await self.apply(live, secret(connection, content))

    async def _report(self, live: Manifest, changed: Manifest) -> None:
        status = live.get("status") or {}
        wanted = {"mongoUri": "", "currentMongoDBMembers": 0, "currentStatefulSetReplicas": 0} | status | changed
        if wanted != status | {key: None for key, value in changed.items() if value is None}:
            await self.patch(MONGODB, *key_of(live), {"status": wanted}, "status")


def _validate(live: Manifest) -> None:
    """Raise `Refused` for what the operator will not even try."""
    if (members := live["spec"].get("members", 0)) <= 0:
        raise Refused(
            f"error validating new Spec: number of arbiters specified (0) is greater or equal than the number of "
            f"members in the replicaset ({members}). At least one member must not be an arbiter"
        )


def _name(live: Manifest) -> str:
    name: str = live["metadata"]["name"]
    return name


def _hosts(live: Manifest) -> str:
    namespace, name = key_of(live)
    domain = f"{name}-svc.{namespace}.svc.cluster.local:{PORT}"
    return ",".join(f"{name}-{number}.{domain}" for number in range(live["spec"]["members"]))


def _agents_ready(stored: Manifest) -> bool:
    """Whether the agent of every pod follows its instructions; without any pod there is none that does not."""
    status = stored.get("status") or {}
    return not status.get("replicas") or bool(status.get("readyReplicas") == stored["spec"]["replicas"])


def scram_credentials(user: str, password: str, known: dict[str, str]) -> dict[str, str]:
    """What is stored instead of a password, with the salts already known or with new ones."""
    legacy = hashlib.md5(f"{user}:mongo:{password}".encode()).hexdigest()
    return _scram("1", legacy, 10000, known) | _scram("256", password, 15000, known)


def _scram(number: str, password: str, rounds: int, known: dict[str, str]) -> dict[str, str]:
    algorithm = f"sha{number}"
    salt = known.get(f"{algorithm}-salt") or base64.b64encode(secrets.token_bytes(16)).decode()
    salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), base64.b64decode(salt), rounds)
    client = hmac.digest(salted, b"Client Key", algorithm)
    return {
        f"{algorithm}-salt": salt,
        f"sha-{number}-stored-key": base64.b64encode(hashlib.new(algorithm, client).digest()).decode(),
        f"sha-{number}-server-key": base64.b64encode(hmac.digest(salted, b"Server Key", algorithm)).decode(),
    }


def service(live: Manifest) -> Manifest:
    """The headless Service `<name>-svc`."""
    name = _name(live)
    labels = {"app": f"{name}-svc"}
    port = {"name": "mongodb", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels, "ports": [port]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-svc", "labels": labels},
        "spec": spec,
    }


def stateful_set(live: Manifest) -> Manifest:
    """The StatefulSet, with what the user says of it merged in. Of the resource's own labels nothing reaches it."""
    name, custom = _name(live), live["spec"].get("statefulSet") or {}
    labels = {"app": f"{name}-svc"}
    image = f"docker.io/mongodb/mongodb-community-server:{live['spec'].get('version', '')}-ubi8"
    pod = {
        "serviceAccountName": SERVICE_ACCOUNT,
        "containers": [
            {"name": "mongodb-agent", "image": "quay.io/mongodb/mongodb-agent:108.0.12.8846-1"},
            {"name": "mongod", "image": image},
        ],
        "volumes": [{"name": "automation-config", "secret": {"secretName": f"{name}-config"}}],
    }
    spec = {
        "serviceName": f"{name}-svc",
        "replicas": live["spec"]["members"],
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [_claim("data-volume", "10G"), _claim("logs-volume", "2G")],
    }
    metadata = {"name": name} | (custom.get("metadata") or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": merged(spec, custom.get("spec") or {}),
    }


def _claim(name: str, size: str) -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name}, "spec": spec}
