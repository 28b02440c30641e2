"""PGO, the operator of PostgreSQL (Crunchy Data, 6.0): one instance and one host of backups for each PostgresCluster.

With `Servers` there is a real PostgreSQL behind each cluster, in which users, databases, backups and restores are real;
its port is the one in the Secrets, and clients reach it by PGHOSTADDR=127.0.0.1. It runs while the instance's pod does.

Unkind in several ways: the initial SQL runs once, and again only after the field was absent for a while; a restore
resets neither that nor what is known of users, so that passwords in PostgreSQL can be older than their Secrets; a
`dataSource` left in place restores once more after an in-place restore is over; one object the API server refuses, such
as the Secret of a user with a bad name, and nothing after it is made.
"""

import asyncio
import copy
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.errors import Forbidden, Invalid, KubeError, NamespaceTerminating
from datalabd.kube.client import Client, path
from datalabd.kube.resources import CONFIG_MAPS, POSTGRES_CLUSTERS, SECRETS, STATEFUL_SETS, Resource
from datalabd.kube.store import key_of
from hack.postgresql import PostgreSQL, PostgreSQLError, Servers
from hack.standins import postgres_objects as objects
from hack.standins.kubelet import PODS
from hack.standins.postgres_objects import BACKUP, CLUSTER, INSTANCE_SET, RESTORE, name_of, pgbackrest
from hack.standins.statefulsets import RESYNC_SECONDS, StoreOperator, values

log = structlog.get_logger()

JOBS = Resource("batch/v1", "jobs", "Job")
EVENTS = Resource("v1", "events", "Event")
FINALIZER = f"{objects.PREFIX}/finalizer"
INITIALIZED = "PostgresDataInitialized"
RESTORING = "PGBackRestoreProgressing"
READY_FOR_RESTORE = "ReadyForRestore"
REPOSITORY_READY = "PGBackRestRepoHostReady"
REPLICA_CREATE = "PGBackRestReplicaCreate"
MANUAL_BACKUP = "PGBackRestManualBackupSuccessful"
RESIZING = "PersistentVolumeResizing"
LEADER = "master"
"""Role label that Patroni gives the pod of the primary."""


class PostgresOperator(StoreOperator):
    """Plays PGO. `fails` tells which Jobs of pgBackRest fail; where a pod must not get ready, tell the Kubelet.

    `exec_seconds`: what it takes to get into a pod, where users and databases are made, before anything is done there.
    """

    def __init__(
        self,
        client: Client,
        servers: Servers | None = None,
        *,
        fails: Callable[[Manifest], bool] = lambda _: False,
        exec_seconds: float = 0.0,
        resync_seconds: float = RESYNC_SECONDS,
    ) -> None:
        super().__init__(client, "postgrescluster-controller", POSTGRES_CLUSTERS, resync_seconds)
        self._servers = servers
        self._fails = fails
        self._exec_seconds = exec_seconds
        self._pods = self.watch(PODS, self._part_changed)
        self._jobs = self.watch(JOBS, self._part_changed)
        self._secrets = self.watch(SECRETS, self._part_changed)

    def _part_changed(self, obj: Manifest) -> None:
        cluster = (obj["metadata"].get("labels") or {}).get(CLUSTER)
        if cluster and (live := self.objects.get(obj["metadata"]["namespace"], cluster)):
            self.changed(live)

    async def sync(self, live: Manifest) -> None:
        """Bring one cluster closer to what it is to be, and say in its status how far that is."""
        if live["metadata"].get("deletionTimestamp"):
            await self._finalise(live)
            return
        await self.add_finalizer(live, FINALIZER)
        status = copy.deepcopy(live.get("status") or {})
        refused: KubeError | None = None
        try:
            if not await self._reconcile(live, status):
                await self._write(live, status)
                return
        except PostgreSQLError as error:
            log.warning("SQL failed", cluster=str(key_of(live)), error=str(error))
        except KubeError as error:
            refused = error
        status["observedGeneration"] = live["metadata"]["generation"]
        await self._write(live, status)
        if refused is not None:
            raise refused

    async def _reconcile(self, live: Manifest, status: Manifest) -> bool:
        """Whether it came to its end; False while data are being restored."""
        pods = self._instance_pods(live)
        _clear(status, RESIZING)
        status["instances"] = [_instance_status(entry, pods) for entry in live["spec"]["instances"]]
        server = self._server(live)
        writable = any(_ready(pod) for pod in pods)
        if server is not None and not pods:
            await asyncio.to_thread(server.stop)
        if await self._restores(live, status, pods):
            return False
        for service in objects.services(live):
            await self.apply(live, service)
        await self._certificates(live)
        for instance_set in live["spec"]["instances"]:
            await self._instance(live, status, instance_set)
        if writable:
            await self._lead(pods, server)
        secrets = {user["name"]: await self._user_secret(live, user) for user in objects.users(live)}
        await self._forget_users(live, set(secrets))
        if writable:
            verifiers = {name: values(secret)["verifier"] for name, secret in secrets.items()}
            await self._script(server, status, "databaseRevision", objects.database_script(objects.databases(live)))
            await self._script(server, status, "usersRevision", objects.user_script(live, verifiers))
        if pgbackrest(live):
            await self._backups(live, status, writable)
        if (job := self._job(live, RESTORE, "")) is not None:
            await self._delete(JOBS, job)
        await self._initial_sql(live, status, server, writable)
        return True

    # ---- Status

    async def _write(self, live: Manifest, status: Manifest) -> None:
        if changes := _difference(live.get("status") or {}, status):
            self.objects.observe(await self.patch(POSTGRES_CLUSTERS, *key_of(live), {"status": changes}, "status"))

    def _set(self, live: Manifest, status: Manifest, kind: str, value: str, reason: str, message: str) -> None:
        conditions = status.get("conditions") or []
        status["conditions"] = objects.condition(conditions, live, kind, value, reason, message)

    async def _warn(self, live: Manifest, reason: str, message: str) -> None:
        """Record an Event; as the recorder does, one object for the same news again and again."""
        namespace, name = key_of(live)
        about = {key: live[key] for key in ("apiVersion", "kind")} | {
            key: live["metadata"][key] for key in ("namespace", "name", "uid")
        }
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{objects.revision(reason + message)}", "namespace": namespace},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
        }
        if await self.read(EVENTS, namespace, event["metadata"]["name"]) is None:  # type: ignore[index]
            await self.create(event)

    # ---- Instances

    def _server(self, live: Manifest) -> PostgreSQL | None:
        return self._servers[live["metadata"]["uid"]] if self._servers is not None else None

    def _instance_pods(self, live: Manifest) -> list[Manifest]:
        return [pod for pod in self._pods if _part_of(live, pod) and INSTANCE_SET in pod["metadata"]["labels"]]

    def _instance_sets(self, live: Manifest) -> list[Manifest]:
        return [one for one in self.stateful_sets if _part_of(live, one) and INSTANCE_SET in one["metadata"]["labels"]]

    async def _instance(self, live: Manifest, status: Manifest, instance_set: Manifest) -> None:
        known = [one for one in self._instance_sets(live) if _instance_set(one) == instance_set["name"]]
        startup = status.get("startupInstance") if status.get("startupInstanceSet") == instance_set["name"] else None
        name = known[0]["metadata"]["name"] if known else startup or _fresh(live, instance_set["name"])
        await self._volume(live, status, objects.data_volume(live, instance_set, name))
        replicas = 0 if live["spec"].get("shutdown") else 1
        self.stateful_sets.observe(
            await self.apply(live, objects.instance_set(live, instance_set, name, replicas)),
        )
        if replicas:
            status.pop("startupInstance", None)
            status.pop("startupInstanceSet", None)
        else:
            status |= {"startupInstance": name, "startupInstanceSet": instance_set["name"]}

    async def _volume(self, live: Manifest, status: Manifest, claim: Manifest) -> None:
        """Make a claim, or have it grow; where that is refused a condition says so, and all else goes on."""
        try:
            await self.apply(live, claim)
        except NamespaceTerminating:
            raise
        except (Forbidden, Invalid) as error:
            await self._warn(live, "PersistentVolumeError", str(error))
            if before := _condition(live.get("status") or {}, RESIZING):
                status["conditions"] = [*(status.get("conditions") or []), before]
            self._set(live, status, RESIZING, "False", error.reason, "One or more volumes cannot be resized")

    async def _lead(self, pods: list[Manifest], server: PostgreSQL | None) -> None:
        """What Patroni does once an instance runs."""
        if server is not None:
            await asyncio.to_thread(server.start)
        for pod in pods:
            if _ready(pod) and pod["metadata"]["labels"].get(objects.ROLE) != LEADER:
                await self.patch(PODS, *key_of(pod), {"metadata": {"labels": {objects.ROLE: LEADER}}})

    async def _finalise(self, live: Manifest) -> None:
        """Stop the instances before anything is collected."""
        for one in self._instance_sets(live):
            if one["spec"]["replicas"]:
                await self.patch(STATEFUL_SETS, *key_of(one), {"spec": {"replicas": 0}})
        if not self._instance_pods(live):
            if self._servers is not None:
                await asyncio.to_thread(self._servers.remove, live["metadata"]["uid"])
            await self.remove_finalizer(live, FINALIZER)

    # ---- Users and databases

    async def _certificates(self, live: Manifest) -> None:
        made = objects.certificates(live)
        for secret in made:
            if self._secrets.get(live["metadata"]["namespace"], secret["metadata"]["name"]) is None:
                self._secrets.observe(await self.apply(live, secret))

    async def _user_secret(self, live: Manifest, user: Manifest) -> Manifest:
        existing = await self.read(SECRETS, live["metadata"]["namespace"], f"{name_of(live)}-pguser-{user['name']}")
        server = self._server(live)
        port = server.port if server is not None else live["spec"].get("port", objects.PORT)
        wanted = objects.user_secret(live, user, existing, port)
        return await self.apply(live, wanted)

    async def _forget_users(self, live: Manifest, wanted: set[str]) -> None:
        """Delete Secrets of users no longer listed; the users themselves stay in PostgreSQL, passwords and all."""
        for secret in self._secrets:
            user = (secret["metadata"].get("labels") or {}).get(objects.USER)
            if user and user not in wanted and _part_of(live, secret):
                await self.client.delete(SECRETS, *key_of(secret), secret["metadata"]["uid"])

    async def _script(self, server: PostgreSQL | None, status: Manifest, field: str, script: str) -> None:
        """Run a script unless the one that ran last was the same."""
        revision = objects.revision(script)
        if status.get(field) != revision:
            await asyncio.sleep(self._exec_seconds)
            if server is not None:
                await asyncio.to_thread(server.psql, script)
            status[field] = revision

    async def _initial_sql(self, live: Manifest, status: Manifest, server: PostgreSQL | None, writable: bool) -> None:
        """Run `databaseInitSQL` once: whatever its ConfigMap says later, and whichever one is named then."""
        reference = live["spec"].get("databaseInitSQL")
        if reference is None:
            status.pop("databaseInitSQL", None)
            return
        if "databaseInitSQL" in status:
            return
        found = await self.client.get(CONFIG_MAPS, live["metadata"]["namespace"], reference["name"])
        script = (found.get("data") or {}).get(reference["key"])
        if script is None:
            raise PostgreSQLError(f"ConfigMap did not contain expected key: {reference['key']}")
        if writable:
            if server is not None:
                await asyncio.to_thread(server.psql, script, stop_on_error=False)
            status["databaseInitSQL"] = reference["name"]

    # ---- Backups

    async def _backups(self, live: Manifest, status: Manifest, writable: bool) -> None:
        known = status.get("pgbackrest") or {}
        stop = live["spec"].get("shutdown") and not self._instance_pods(live)
        host = await self.apply(live, objects.repository_host(live, 0 if stop else 1))
        ready = bool(host.get("status", {}).get("readyReplicas"))
        word = "ready" if ready else "not ready"
        reason = "RepoHostReady" if ready else "RepoHostNotReady"
        message = f"pgBackRest dedicated repository host is {word}"
        self._set(live, status, REPOSITORY_READY, str(ready), reason, message)
        repositories = []
        for repository in objects.volume_repositories(live):
            await self._volume(live, status, objects.repository_volume(live, repository))
            before: Manifest = next(
                (entry for entry in known.get("repos") or [] if entry["name"] == repository["name"]), {}
            )
            stanza = before.get("stanzaCreated", False) or (ready and writable)
            repositories.append(before | {"name": repository["name"], "bound": ready, "stanzaCreated": stanza})
        status["pgbackrest"] = known | {
            "repoHost": {"apiVersion": host["apiVersion"], "kind": host["kind"], "ready": ready},
            "repos": repositories,
        }
        if repositories and ready and writable:
            await self._first_backup(live, status, repositories[0])
        await self._manual_backup(live, status, ready and writable)

    async def _first_backup(self, live: Manifest, status: Manifest, repository: Manifest) -> None:
        """The backup that replicas and clones begin with."""
        done = repository.get("replicaCreateBackupComplete", False)
        if not done:
            job = self._job(live, BACKUP, "replica-create")
            if job is None:
                name = _fresh(live, "backup")
                await self._start(live, objects.backup_job(live, name, repository["name"], "replica-create"))
            elif _ended(job) == "Failed":
                await self._delete(JOBS, job)
            else:
                done = _ended(job) == "Complete"
                await self._finish(live, job, self._back_up)
        repository["replicaCreateBackupComplete"] = done
        reason = "RepoBackupComplete" if done else "RepoBackupNotComplete"
        message = f"pgBackRest replica creation is {'now' if done else 'not currently'} possible"
        self._set(live, status, REPLICA_CREATE, str(done), reason, message)

    async def _manual_backup(self, live: Manifest, status: Manifest, possible: bool) -> None:
        """The backup that an annotation asks for: one at a time, each identity once, its Job kept until the next."""
        wanted = (live["metadata"].get("annotations") or {}).get(BACKUP, "")
        known: Manifest = status["pgbackrest"].get("manualBackup") or {}
        job = self._job(live, BACKUP, "manual")
        if job is not None:
            identity = job["metadata"]["annotations"][BACKUP]
            if known.get("id") == identity:
                status["pgbackrest"]["manualBackup"] = known = _job_status(identity, job)
                if ended := _ended(job):
                    well = ended == "Complete"
                    words = (
                        ("ManualBackupComplete", "Manual backup completed successfully")
                        if well
                        else (
                            "ManualBackupFailed",
                            "Manual backup did not complete successfully",
                        )
                    )
                    self._set(live, status, MANUAL_BACKUP, str(well), *words)
            if _ended(job) and wanted and wanted != identity:
                await self._delete(JOBS, job)
                return
        manual = pgbackrest(live).get("manual")
        if not possible or not wanted or manual is None:
            return
        if known.get("id") != wanted:
            status["pgbackrest"]["manualBackup"] = known = {"id": wanted, "finished": False}
            _clear(status, MANUAL_BACKUP)
        if known["finished"]:
            return
        repository: Manifest = next(
            (entry for entry in status["pgbackrest"]["repos"] if entry["name"] == manual["repoName"]), {}
        )
        if not repository:
            await self._warn(live, "InvalidBackupRepo", f'Unable to find status for "{manual["repoName"]}"')
        elif job is not None:
            await self._finish(live, job, self._back_up)
        elif status["pgbackrest"]["repos"][0].get("replicaCreateBackupComplete"):
            name = _fresh(live, "backup")
            await self._start(live, objects.backup_job(live, name, repository["name"], "manual", wanted))

    async def _back_up(self, live: Manifest) -> None:
        if (server := self._server(live)) is not None:
            await asyncio.to_thread(server.backup)

    # ---- Restores

    async def _restores(self, live: Manifest, status: Manifest, pods: list[Manifest]) -> bool:
        """Fill the volume of a new cluster, or replace what is in that of an old one; whether that is under way."""
        restore = pgbackrest(live).get("restore") or {}
        identity = (live["metadata"].get("annotations") or {}).get(RESTORE, "")
        source: Manifest | None = restore if identity and restore.get("enabled") else None
        if source is None:
            source = (live["spec"].get("dataSource") or {}).get("postgresCluster")
            identity = f"~pgo-bootstrap-{name_of(live)}"
        if source is None:
            return False
        job = self._job(live, RESTORE, "")
        known: Manifest = (status.get("pgbackrest") or {}).get("restore") or {}
        if job is not None and known:
            known = status["pgbackrest"]["restore"] = _job_status(known["id"], job)
            if _ended(job) == "Complete":
                words = ("PGBackRestRestoreComplete", "pgBackRest restore completed successfully")
                self._set(live, status, INITIALIZED, "True", *words)
                _clear(status, RESTORING)
            elif _ended(job):
                self._set(live, status, INITIALIZED, "False", "PGBackRestRestoreFailed", "pgBackRest restore failed")
        under_way = _condition(status, RESTORING)
        if known.get("id") != identity or (under_way and under_way["reason"] != READY_FOR_RESTORE):
            await self._prepare(live, status, pods, job, identity)
            return True
        if (_condition(status, INITIALIZED) or {}).get("status") == "True":
            return False
        if job is None:
            await self._fill(live, status, source)
        elif not _ended(job):
            await self._finish(live, job, partial(self._restore, source=source))
        return True

    async def _prepare(
        self, live: Manifest, status: Manifest, pods: list[Manifest], job: Manifest | None, identity: str
    ) -> None:
        """Take away, one thing at a time, what a restore must not find."""
        status["pgbackrest"] = {"restore": {"id": identity, "finished": False}}
        sets = self._instance_sets(live)
        if "startupInstance" not in status:
            first = live["spec"]["instances"][0]["name"]
            name = sets[0]["metadata"]["name"] if sets else _fresh(live, first)
            status |= {"startupInstance": name, "startupInstanceSet": first}
        obstacle = "restore job" if job is not None else "runners" if pods or sets else ""
        if obstacle:
            message = f"Preparing cluster to restore in-place: removing {obstacle}"
            self._set(live, status, RESTORING, "True", "RestoreInPlaceRequested", message)
            for resource, one in [(JOBS, job)] if job is not None else [(STATEFUL_SETS, one) for one in sets]:
                await self._delete(resource, one)
            return
        _clear(status, INITIALIZED)
        self._set(live, status, RESTORING, "True", READY_FOR_RESTORE, "Restoring cluster in-place")

    async def _fill(self, live: Manifest, status: Manifest, source: Manifest) -> None:
        """Begin a restore if there is something to restore from."""
        origin = self._origin(live, source)
        if origin is None:
            await self._warn(live, "InvalidDataSource", f'PostgresCluster "{source["clusterName"]}" does not exist')
            return
        if source["repoName"] not in [entry["name"] for entry in pgbackrest(origin).get("repos") or []]:
            words = f'PostgresCluster "{name_of(origin)}" does not have a repo named "{source["repoName"]}" defined'
            await self._warn(live, "InvalidDataSource", words)
            return
        first, instance = live["spec"]["instances"][0], status["startupInstance"]
        await self._volume(live, status, objects.data_volume(live, first, instance))
        await self._start(live, objects.restore_job(live, instance))

    def _origin(self, live: Manifest, source: Manifest) -> Manifest | None:
        """The cluster whose backups are to be used."""
        namespace, name = key_of(live)
        return self.objects.get(source.get("clusterNamespace") or namespace, source.get("clusterName") or name)

    async def _restore(self, live: Manifest, source: Manifest) -> None:
        origin = self._origin(live, source)
        if origin is None:
            raise PostgreSQLError("the cluster to restore from is gone")
        host = self.stateful_sets.get(origin["metadata"]["namespace"], f"{name_of(origin)}-repo-host")
        if not ((host or {}).get("status") or {}).get("readyReplicas"):
            raise PostgreSQLError("unable to find a valid repository: its host does not run")
        server, other = self._server(live), self._server(origin)
        if server is not None and other is not None:
            await asyncio.to_thread(server.restore, other, source.get("options") or [])

    # ---- Jobs

    def _job(self, live: Manifest, label: str, value: str) -> Manifest | None:
        for job in self._jobs:
            if _part_of(live, job) and job["metadata"]["labels"].get(label) == value:
                return job
        return None

    async def _start(self, live: Manifest, job: Manifest) -> None:
        self._jobs.observe(await self.apply(live, job))

    async def _finish(self, live: Manifest, job: Manifest, work: Callable[[Manifest], Awaitable[Any]]) -> None:
        """Do the work of a Job once its pod runs, and end the pod: the rest is up to the Job controller."""
        for pod in self._pods:
            owners = [owner["uid"] for owner in pod["metadata"].get("ownerReferences") or []]
            if job["metadata"]["uid"] not in owners or not _ready(pod):
                continue
            phase = "Succeeded"
            try:
                if self._fails(job):
                    raise PostgreSQLError("told to fail")
                await work(live)
            except PostgreSQLError as error:
                log.warning("a Job of pgBackRest failed", job=str(key_of(job)), error=str(error))
                phase = "Failed"
            ended = {"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]}
            self._pods.observe(await self.patch(PODS, *key_of(pod), {"status": ended}, "status"))

    async def _delete(self, resource: Resource, obj: Manifest) -> None:
        """Delete an object; what it owns goes first."""
        options = {"preconditions": {"uid": obj["metadata"]["uid"]}, "propagationPolicy": "Foreground"}
        if not obj["metadata"].get("deletionTimestamp"):
            await self.client.request("DELETE", path(resource, *key_of(obj)), body=options)


def _part_of(live: Manifest, obj: Manifest) -> bool:
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    return NamespacedName(metadata["namespace"], labels.get(CLUSTER, "")) == key_of(live)


def _instance_set(obj: Manifest) -> str:
    return str(obj["metadata"]["labels"][INSTANCE_SET])


def _ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _instance_status(instance_set: Manifest, pods: list[Manifest]) -> Manifest:
    mine = [
        pod
        for pod in pods
        if _instance_set(pod) == instance_set["name"] and not pod["metadata"].get("deletionTimestamp")
    ]
    ready = len([pod for pod in mine if _ready(pod)])
    counts = {"replicas": len(mine), "readyReplicas": ready, "updatedReplicas": len(mine)}
    return {"name": instance_set["name"]} | {key: count for key, count in counts.items() if count}


def _fresh(live: Manifest, part: str) -> str:
    suffix = "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(4))
    return f"{name_of(live)}-{part}-{suffix}"


def _condition(status: Manifest, kind: str) -> Manifest | None:
    return next((entry for entry in status.get("conditions") or [] if entry["type"] == kind), None)


def _clear(status: Manifest, kind: str) -> None:
    status["conditions"] = [entry for entry in status.get("conditions") or [] if entry["type"] != kind]


def _difference(before: Manifest, after: Manifest) -> Manifest:
    """The merge patch that makes one of the other."""
    changes: Manifest = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := _difference(old, value):
                changes[key] = inner
        elif value != old:
            changes[key] = value
    return changes


def _ended(job: Manifest) -> str:
    """`Complete`, `Failed`, or nothing while a Job runs."""
    conditions = job.get("status", {}).get("conditions") or []
    ended = [entry["type"] for entry in conditions if entry["status"] == "True"]
    return next((kind for kind in ("Complete", "Failed") if kind in ended), "")


def _job_status(identity: str, job: Manifest) -> Manifest:
    fields = ("startTime", "completionTime", "succeeded", "failed", "active")
    found = {key: job["status"][key] for key in fields if job.get("status", {}).get(key)}
    return {"id": identity, "finished": bool(_ended(job))} | found
