"""The stand-in does what PGO does, its unkind sides included."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from datalabd.api.meta import Manifest
from datalabd.errors import Invalid, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import CONFIG_MAPS, POSTGRES_CLUSTERS, SECRETS, STATEFUL_SETS, VOLUME_CLAIMS, Resource
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.postgresql import PostgreSQL, PostgreSQLError, Servers
from hack.standins import Kubelet, install_store_crds
from hack.standins.kubelet import PODS
from hack.standins.postgres import EVENTS, JOBS, PostgresOperator
from hack.standins.postgres_objects import BACKUP, CLUSTER, PREFIX, RESTORE
from hack.standins.statefulsets import SERVICES, values
from tests.reference import SHARED
from tests.servers import postgresql_servers

__all__ = ["postgresql_servers"]
pytestmark = pytest.mark.cluster

RESYNC_SECONDS = 0.5
CLASSES = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
Condition = Callable[[Manifest], object]


def volume(storage: str, storage_class: str = "any") -> Manifest:
    """The spec of a claim."""
    return {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": storage}},
    }


def ready(cluster: Manifest) -> bool:
    """Whether server and host of backups are, as its status says."""
    status = cluster.get("status", {})
    return bool(
        status.get("observedGeneration") == cluster["metadata"]["generation"]
        and status["instances"][0].get("readyReplicas")
        and status["pgbackrest"]["repoHost"]["ready"]
        and status.get("usersRevision")
    )


def started(cluster: Manifest) -> bool:
    """Whether an instance is ready, whatever else is."""
    return any(instance.get("readyReplicas") for instance in cluster.get("status", {}).get("instances", ()))


def condition(cluster: Manifest, kind: str) -> str:
    """Status and reason of a condition; empty where it is absent."""
    found = {entry["type"]: entry for entry in cluster.get("status", {}).get("conditions") or []}
    return f"{found[kind]['status']} {found[kind]['reason']}" if kind in found else ""


@dataclass
class Stage:
    """A namespace, PostgresClusters in it, and patience."""

    client: Client
    namespace: str
    servers: Servers | None = None
    made: list[str] = field(default_factory=list)

    async def declare(self, name: str = "pg0", users: list[Manifest] | None = None, **spec: Any) -> Manifest:
        wanted = {
            "postgresVersion": 17,
            "instances": [{"name": "primary", "replicas": 1, "dataVolumeClaimSpec": volume("1Gi")}],
            "backups": {
                "pgbackrest": {
                    "manual": {"repoName": "repo1"},
                    "repos": [{"name": "repo1", "volume": {"volumeClaimSpec": volume("2Gi")}}],
                }
            },
        } | ({} if users is None else {"users": users})
        self.made.append(name)
        return await self.client.create(
            POSTGRES_CLUSTERS,
            {
                "apiVersion": POSTGRES_CLUSTERS.api_version,
                "kind": "PostgresCluster",
                "metadata": {"name": name, "namespace": self.namespace, "labels": {"own": "label"}},
                "spec": wanted | spec,
            },
        )

    async def ready(self, name: str = "pg0") -> Manifest:
        return await self.until(POSTGRES_CLUSTERS, name, ready)

    async def change(self, name: str = "pg0", annotations: Manifest | None = None, **spec: Any) -> Manifest:
        body = {"metadata": {"annotations": annotations or {}}, "spec": spec}
        return await self.client.patch(POSTGRES_CLUSTERS, self.namespace, name, body)

    async def restore(self, identity: str, *options: str, enabled: bool = True) -> None:
        wanted = {"enabled": enabled, "repoName": "repo1", "options": list(options)}
        await self.change(annotations={RESTORE: identity}, backups={"pgbackrest": {"restore": wanted}})

    async def restored(self, identity: str) -> Manifest:
        """The cluster, running again after a restore."""
        return await self.until(
            POSTGRES_CLUSTERS, "pg0", lambda c: finished(c, "restore", identity) and ready(c) and not running(c)
        )

    async def backed_up(self, identity: str) -> Manifest:
        """The cluster once a manual backup has ended."""
        await self.change(annotations={BACKUP: identity})
        return await self.until(POSTGRES_CLUSTERS, "pg0", lambda c: finished(c, "manualBackup", identity))

    async def secret(self, user: str, cluster: str = "pg0") -> dict[str, str]:
        return values(await self.client.get(SECRETS, self.namespace, f"{cluster}-pguser-{user}"))

    def server(self, cluster: Manifest) -> PostgreSQL:
        assert self.servers is not None
        return self.servers[cluster["metadata"]["uid"]]

    async def log_in(self, cluster: Manifest, user: str, sql: str = "SELECT current_user") -> str:
        """What a client gets that knows the address in a user's Secret, and that its host is really this one."""
        uri = urlsplit((await self.secret(user, cluster["metadata"]["name"]))["uri"])
        server = self.server(cluster)
        assert uri.port == server.port
        said = server.query(
            sql, user=unquote(uri.username or ""), password=unquote(uri.password or ""), database=unquote(uri.path[1:])
        )
        return said.strip()

    async def read(self, resource: Resource, name: str) -> Manifest | None:
        try:
            return await self.client.get(resource, self.namespace, name)
        except NotFound:
            return None

    async def of(self, resource: Resource, cluster: str = "pg0", **labels: str) -> list[Manifest]:
        """What was made for a cluster."""
        wanted = {CLUSTER: cluster} | {f"{PREFIX}/{key.replace('_', '-')}": value for key, value in labels.items()}
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        return (await self.client.list(resource, self.namespace, labelSelector=selector))[0]

    async def until(self, resource: Resource, name: str, wanted: Condition, seconds: float = 90) -> Manifest:
        """The object once the condition holds; the test fails after the deadline."""
        found: Manifest | None = None
        try:
            async with asyncio.timeout(scaled(seconds)):
                while True:
                    found = await self.read(resource, name)
                    if found is not None and wanted(found):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{resource} {name} is not so within {seconds} s: {json.dumps(found)}")

    async def gone(self, resource: Resource, name: str, seconds: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + scaled(seconds)
        while await self.read(resource, name) is not None:
            assert asyncio.get_running_loop().time() < deadline, f"{resource} {name} is still there"
            await asyncio.sleep(0.05)

    async def warned(self, reason: str) -> str:
        """The message of the Event of that reason."""
        async with asyncio.timeout(scaled(20)):
            while True:
                for event in (await self.client.list(EVENTS, self.namespace))[0]:
                    if event["reason"] == reason:
                        return str(event["message"])
                await asyncio.sleep(0.05)


def finished(cluster: Manifest, what: str, identity: str) -> bool:
    """Whether a backup or restore of that identity has ended, well or not."""
    found = cluster.get("status", {}).get("pgbackrest", {}).get(what) or {}
    return found.get("id") == identity and bool(found["finished"])


def running(cluster: Manifest) -> bool:
    """Whether a restore is under way."""
    return bool(condition(cluster, "PGBackRestoreProgressing"))


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with PostgresClusters, and a storage class whose claims may grow."""

    async def run() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        await install_store_crds(client, SHARED / "crds", "PostgresCluster")
        await client.close()

    asyncio.run(run())
    growing = {
        "apiVersion": CLASSES.api_version,
        "kind": CLASSES.kind,
        "metadata": {"name": "growing"},
        "provisioner": "standin.csi.example.org",
        "allowVolumeExpansion": True,
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(growing))
    return cluster


@contextlib.asynccontextmanager
async def acting(client: Client, namespace: str, servers: Servers | None, **options: Any) -> AsyncIterator[Stage]:
    """PGO and a kubelet at work; the clusters are deleted at the end, while PGO can still let go of them."""
    stage = Stage(client, namespace, servers)
    trouble = options.pop("trouble", lambda _: None)
    operator = PostgresOperator(client, servers, resync_seconds=RESYNC_SECONDS, **options)
    async with Kubelet(client, trouble), operator:
        yield stage
        for name in stage.made:
            if (live := await stage.read(POSTGRES_CLUSTERS, name)) is not None:
                await client.delete(POSTGRES_CLUSTERS, namespace, name, live["metadata"]["uid"])
                await stage.gone(POSTGRES_CLUSTERS, name)


@pytest.fixture
async def played(installed: Cluster, client: Client, namespace: str) -> AsyncIterator[Stage]:
    """PGO without PostgreSQL."""
    async with acting(client, namespace, None) as stage:
        yield stage


@pytest.fixture
async def real(installed: Cluster, client: Client, namespace: str, postgresql_servers: Servers) -> AsyncIterator[Stage]:
    """PGO with PostgreSQL."""
    async with acting(client, namespace, postgresql_servers) as stage:
        yield stage


class TestObjects:
    async def test_workloads_carry_the_labels_of_pgo(self, played: Stage) -> None:
        await played.declare(metadata={"labels": {"listed": "label"}})
        await played.ready()
        every = {CLUSTER: "pg0", "listed": "label"}
        [instance] = await played.of(STATEFUL_SETS, instance_set="primary")
        name = instance["metadata"]["name"]
        assert name.startswith("pg0-primary-")
        marks = {f"{PREFIX}/instance-set": "primary", f"{PREFIX}/instance": name}
        assert instance["spec"]["selector"]["matchLabels"] == {CLUSTER: "pg0"} | marks
        pod = await played.until(PODS, f"{name}-0", lambda p: f"{PREFIX}/role" in p["metadata"]["labels"])
        labels = {key: value for key, value in pod["metadata"]["labels"].items() if "kubernetes.io" not in key}
        labels.pop("controller-revision-hash")
        assert labels == every | marks | {
            f"{PREFIX}/data": "postgres",
            f"{PREFIX}/patroni": "pg0-ha",
            f"{PREFIX}/role": "master",
        }
        host = await played.client.get(STATEFUL_SETS, played.namespace, "pg0-repo-host")
        assert host["spec"]["template"]["metadata"]["labels"] == every | {
            f"{PREFIX}/pgbackrest": "",
            f"{PREFIX}/pgbackrest-dedicated": "",
            f"{PREFIX}/data": "pgbackrest",
        }
        claims = {claim["metadata"]["name"] for claim in await played.of(VOLUME_CLAIMS)}
        assert claims == {f"{name}-pgdata", "pg0-repo1"}

    async def test_services_and_secrets(self, played: Stage) -> None:
        await played.declare(users=[{"name": "postgres", "databases": ["dev"]}, {"name": "jane"}])
        await played.ready()
        services = {service["metadata"]["name"] for service in await played.of(SERVICES)}
        assert services == {f"pg0-{part}" for part in ("primary", "replicas", "pods", "ha", "ha-config")}
        found = {secret["metadata"]["name"] for secret in await played.of(SECRETS)}
        assert found == {"pg0-cluster-cert", "pg0-pgbackrest", "pg0-pguser-postgres", "pg0-pguser-jane"}

    async def test_everything_goes_with_it(self, played: Stage) -> None:
        made = await played.declare()
        live = await played.ready()
        assert live["metadata"]["finalizers"] == [f"{PREFIX}/finalizer"]
        await played.client.delete(POSTGRES_CLUSTERS, played.namespace, "pg0", made["metadata"]["uid"])
        await played.gone(POSTGRES_CLUSTERS, "pg0")
        await played.gone(VOLUME_CLAIMS, "pg0-repo1")
        await played.gone(SECRETS, "pg0-pguser-pg0")

    async def test_shutdown_stops_instance_and_host_and_keeps_their_volumes(self, played: Stage) -> None:
        await played.declare()
        await played.ready()
        before = {claim["metadata"]["uid"] for claim in await played.of(VOLUME_CLAIMS)}
        await played.change(shutdown=True)
        stopped = await played.until(
            POSTGRES_CLUSTERS, "pg0", lambda c: not c["status"]["pgbackrest"]["repoHost"]["ready"]
        )
        assert stopped["status"]["instances"] == [{"name": "primary"}]
        assert condition(stopped, "PGBackRestRepoHostReady") == "False RepoHostNotReady"
        assert stopped["status"]["startupInstanceSet"] == "primary"
        assert await played.of(PODS, instance_set="primary") == []
        assert {claim["metadata"]["uid"] for claim in await played.of(VOLUME_CLAIMS)} == before
        await played.change(shutdown=False)
        assert "startupInstance" not in (await played.ready())["status"]

    async def test_volumes_grow_with_the_spec(self, played: Stage) -> None:
        instances = [{"name": "primary", "replicas": 1, "dataVolumeClaimSpec": volume("1Gi", "growing")}]
        await played.declare(instances=instances)
        await played.ready()
        [claim] = await played.of(VOLUME_CLAIMS, data="postgres")
        instances[0]["dataVolumeClaimSpec"] = volume("3Gi", "growing")
        await played.change(instances=instances)
        name = claim["metadata"]["name"]
        await played.until(VOLUME_CLAIMS, name, lambda c: c["status"]["capacity"]["storage"] == "3Gi")

    @pytest.mark.parametrize("storage", [pytest.param("2Gi", id="class"), pytest.param("512Mi", id="shrink")])
    async def test_a_refused_size_is_a_condition_and_stops_nothing(self, played: Stage, storage: str) -> None:
        await played.declare()
        await played.ready()
        wanted = [{"name": "primary", "replicas": 1, "dataVolumeClaimSpec": volume(storage)}]
        await played.change(instances=wanted, users=[{"name": "jane"}])
        live = await played.until(POSTGRES_CLUSTERS, "pg0", lambda c: condition(c, "PersistentVolumeResizing"))
        assert condition(live, "PersistentVolumeResizing").startswith("False ")
        await played.until(SECRETS, "pg0-pguser-jane", lambda _: True)
        wanted[0]["dataVolumeClaimSpec"] = volume("1Gi")
        await played.change(instances=wanted)
        await played.until(POSTGRES_CLUSTERS, "pg0", lambda c: not condition(c, "PersistentVolumeResizing"))


class TestTrouble:
    async def test_an_instance_that_does_not_start(self, installed: Cluster, client: Client, namespace: str) -> None:
        def trouble(obj: Manifest) -> str | None:
            broken = obj["metadata"].get("labels", {}).get(f"{PREFIX}/data") == "postgres"
            return "ImagePullBackOff" if broken and obj.get("kind", "Pod") == "Pod" else None

        async with acting(client, namespace, None, trouble=trouble) as stage:
            await stage.declare()
            live = await stage.until(
                POSTGRES_CLUSTERS, "pg0", lambda c: condition(c, "PGBackRestRepoHostReady").startswith("True")
            )
            assert live["status"]["instances"] == [{"name": "primary", "replicas": 1, "updatedReplicas": 1}]
            assert "usersRevision" not in live["status"]

    async def test_a_host_of_backups_that_does_not_start(
        self, installed: Cluster, client: Client, namespace: str
    ) -> None:
        def trouble(obj: Manifest) -> str | None:
            return "CrashLoopBackOff" if f"{PREFIX}/pgbackrest-dedicated" in obj["metadata"].get("labels", {}) else None

        async with acting(client, namespace, None, trouble=trouble) as stage:
            await stage.declare()
            await stage.change(annotations={BACKUP: "one"})
            live = await stage.until(POSTGRES_CLUSTERS, "pg0", lambda c: c.get("status", {}).get("usersRevision"))
            assert condition(live, "PGBackRestRepoHostReady") == "False RepoHostNotReady"
            assert live["status"]["pgbackrest"]["repoHost"]["ready"] is False
            assert await stage.of(JOBS) == []

    async def test_a_bad_user_name_is_refused_or_breaks_the_whole_cluster(self, played: Stage) -> None:
        users = [{"name": "jane.doe@x"}, {"name": "jeff"}]
        if (SHARED / "crds").is_dir():
            with pytest.raises(Invalid, match=r"spec.users\[0\].name"):
                await played.declare(users=users)
            return
        await played.declare(users=users)
        await played.until(POSTGRES_CLUSTERS, "pg0", started)
        assert await played.read(STATEFUL_SETS, "pg0-repo-host") is None

    async def test_an_absent_config_map_is_waited_for_and_keeps_nothing_else_up(self, played: Stage) -> None:
        await played.declare(databaseInitSQL={"name": "absent", "key": "init.sql"})
        live = await played.ready()
        assert "databaseInitSQL" not in live["status"]
        await played.client.create(CONFIG_MAPS, init(played.namespace, "absent", "SELECT 1"))
        await played.until(POSTGRES_CLUSTERS, "pg0", lambda c: c["status"].get("databaseInitSQL") == "absent")


def init(namespace: str, name: str, script: str) -> Manifest:
    """A ConfigMap with initial SQL."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"init.sql": script}}


class TestUsers:
    async def test_the_first_database_is_in_the_address(self, played: Stage) -> None:
        await played.declare(users=[{"name": "jane", "databases": ["b", "a"]}, {"name": "jim"}])
        await played.ready()
        jane, jim = await played.secret("jane"), await played.secret("jim")
        host = f"pg0-primary.{played.namespace}.svc"
        assert (jane["host"], jane["port"], jane["user"], jane["dbname"]) == (host, "5432", "jane", "b")
        uri = urlsplit(jane["uri"])
        assert (uri.hostname, uri.port, uri.path, unquote(uri.password or "")) == (host, 5432, "/b", jane["password"])
        assert jane["jdbc-uri"].startswith(f"jdbc:postgresql://{host}:5432/b?password=")
        assert jim.keys() == {"host", "port", "user", "password", "verifier"}

    async def test_passwords_are_as_told(self, played: Stage) -> None:
        await played.declare(users=[{"name": "jane", "password": {"type": "AlphaNumeric"}}])
        await played.ready()
        assert (await played.secret("jane"))["password"].isalnum()

    async def test_one_named_like_the_cluster_where_nothing_is_said(self, real: Stage) -> None:
        await real.declare()
        live = await real.ready()
        assert (await real.secret("pg0"))["dbname"] == "pg0"
        assert await real.log_in(live, "pg0", "SELECT current_user, current_database()") == "pg0|pg0"

    async def test_grants_are_those_of_a_new_database(self, real: Stage) -> None:
        await real.declare(
            users=[{"name": "postgres", "databases": ["dev"]}, {"name": "jane", "databases": ["dev"]}, {"name": "jim"}]
        )
        live = await real.ready()
        superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert await real.log_in(live, "postgres", superuser) == "t"
        assert await real.log_in(live, "jane", superuser) == "f"
        await real.log_in(live, "jane", "CREATE SCHEMA mine; CREATE TABLE mine.t (i int)")
        with pytest.raises(PostgreSQLError, match="permission denied for schema public"):
            await real.log_in(live, "jane", "CREATE TABLE t (i int)")
        jim = await real.secret("jim")
        with pytest.raises(PostgreSQLError, match="permission denied for database dev"):
            real.server(live).query("CREATE SCHEMA his", user="jim", password=jim["password"], database="dev")

    async def test_an_empty_verifier_changes_the_password(self, real: Stage) -> None:
        await real.declare(users=[{"name": "jane", "databases": ["dev"]}])
        live = await real.ready()
        before = await real.secret("jane")
        data = {"password": base64.b64encode(b"new/word").decode(), "verifier": ""}
        await real.client.patch(SECRETS, real.namespace, "pg0-pguser-jane", {"data": data})
        secret = await real.until(
            SECRETS, "pg0-pguser-jane", lambda s: values(s)["verifier"] not in ("", before["verifier"])
        )
        assert "new%2Fword" in values(secret)["uri"]
        revision = live["status"]["usersRevision"]
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c["status"]["usersRevision"] != revision)
        assert await real.log_in(live, "jane") == "jane"
        with pytest.raises(PostgreSQLError, match="password authentication failed"):
            real.server(live).query("SELECT 1", user="jane", password=before["password"], database="dev")

    async def test_what_is_no_longer_listed_stays_but_for_its_secret(self, real: Stage) -> None:
        await real.declare(users=[{"name": "jane", "databases": ["dev", "old"]}, {"name": "jim", "databases": ["dev"]}])
        live = await real.ready()
        jim = await real.secret("jim")
        await real.change(users=[{"name": "jane", "databases": ["dev", "new"]}])
        await real.gone(SECRETS, "pg0-pguser-jim")
        await real.ready()
        server = real.server(live)
        for database in ("dev", "old"):
            assert server.query("SELECT 1", user="jim", password=jim["password"], database=database).strip() == "1"
        jane = await real.secret("jane")
        assert server.query("SELECT 1", user="jane", password=jane["password"], database="new").strip() == "1"

    async def test_every_cluster_has_a_server_of_its_own(self, real: Stage) -> None:
        await real.declare("pg0")
        await real.declare("pg1")
        first, second = await real.ready("pg0"), await real.ready("pg1")
        assert (await real.log_in(first, "pg0"), await real.log_in(second, "pg1")) == ("pg0", "pg1")

    async def test_shutdown_disconnects_and_loses_nothing(self, real: Stage) -> None:
        await real.declare(users=[{"name": "postgres", "databases": ["dev"]}])
        live = await real.ready()
        await real.log_in(live, "postgres", "CREATE TABLE t AS SELECT 1 AS i")
        await real.change(shutdown=True)
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: not c["status"]["pgbackrest"]["repoHost"]["ready"])
        assert not real.server(live).running
        await real.change(shutdown=False)
        await real.ready()
        assert await real.log_in(live, "postgres", "SELECT i FROM t") == "1"


class TestInitialSql:
    async def test_it_runs_after_users_and_databases_and_once(self, real: Stage) -> None:
        counted = "CREATE TABLE IF NOT EXISTS runs (i int); INSERT INTO runs VALUES (1); GRANT ALL ON runs TO jane;"
        await real.client.create(CONFIG_MAPS, init(real.namespace, "one", f"\\connect dev\n{counted}\n"))
        await real.client.create(CONFIG_MAPS, init(real.namespace, "two", f"\\connect dev\n{counted}\n"))
        reference = {"name": "one", "key": "init.sql"}
        await real.declare(users=[{"name": "jane", "databases": ["dev"]}], databaseInitSQL=reference)
        live = await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c.get("status", {}).get("databaseInitSQL") == "one")

        async def runs() -> str:
            return await real.log_in(live, "jane", "SELECT count(*) FROM runs")

        assert await runs() == "1"
        # Neither another text nor another ConfigMap makes it run again.
        await real.client.patch(
            CONFIG_MAPS, real.namespace, "one", {"data": {"init.sql": f"\\connect dev\n{counted};"}}
        )
        await real.change(databaseInitSQL={"name": "two"})
        await real.ready()
        assert (await real.ready())["status"]["databaseInitSQL"] == "one"
        assert await runs() == "1"
        # Its absence for a while does.
        await real.change(databaseInitSQL=None)
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: "databaseInitSQL" not in c["status"])
        await real.change(databaseInitSQL={"name": "two", "key": "init.sql"})
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c["status"].get("databaseInitSQL") == "two")
        assert await runs() == "2"

    async def test_an_error_counts_only_if_the_script_says_so(self, real: Stage) -> None:
        wrong = "SELECT * FROM absent;\n"
        await real.client.create(CONFIG_MAPS, init(real.namespace, "lax", wrong))
        await real.client.create(CONFIG_MAPS, init(real.namespace, "strict", f"\\set ON_ERROR_STOP on\n{wrong}"))
        await real.declare("pg0", databaseInitSQL={"name": "lax", "key": "init.sql"})
        await real.declare("pg1", databaseInitSQL={"name": "strict", "key": "init.sql"})
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c.get("status", {}).get("databaseInitSQL") == "lax")
        assert "databaseInitSQL" not in (await real.ready("pg1"))["status"]


class TestBackups:
    async def test_a_manual_backup_is_made_once_for_each_value(self, played: Stage) -> None:
        await played.declare()
        await played.ready()
        live = await played.backed_up("one")
        assert live["status"]["pgbackrest"]["manualBackup"]["succeeded"] == 1
        assert condition(live, "PGBackRestManualBackupSuccessful") == "True ManualBackupComplete"
        assert live["status"]["pgbackrest"]["repos"][0]["replicaCreateBackupComplete"] is True
        [first] = await played.of(JOBS, pgbackrest_backup="manual")
        assert first["metadata"]["annotations"][BACKUP] == "one"
        await played.backed_up("two")
        [second] = await played.of(JOBS, pgbackrest_backup="manual")
        assert second["metadata"]["uid"] != first["metadata"]["uid"]

    async def test_none_without_the_spec(self, played: Stage) -> None:
        repos = [{"name": "repo1", "volume": {"volumeClaimSpec": volume("2Gi")}}]
        await played.declare(backups={"pgbackrest": {"repos": repos}})
        await played.change(annotations={BACKUP: "one"})
        live = await played.until(
            POSTGRES_CLUSTERS, "pg0", lambda c: condition(c, "PGBackRestReplicaCreate").startswith("True")
        )
        assert "manualBackup" not in live["status"]["pgbackrest"]

    async def test_one_to_an_unknown_repository_only_warns(self, played: Stage) -> None:
        await played.declare()
        await played.ready()
        await played.change(annotations={BACKUP: "one"}, backups={"pgbackrest": {"manual": {"repoName": "repo2"}}})
        assert "repo2" in await played.warned("InvalidBackupRepo")

    async def test_one_that_fails(self, installed: Cluster, client: Client, namespace: str) -> None:
        def fails(job: Manifest) -> bool:
            return bool(job["metadata"]["labels"].get(BACKUP) == "manual")

        async with acting(client, namespace, None, fails=fails) as stage:
            await stage.declare()
            await stage.ready()
            live = await stage.backed_up("one")
            assert live["status"]["pgbackrest"]["manualBackup"]["failed"] == 1
            assert condition(live, "PGBackRestManualBackupSuccessful") == "False ManualBackupFailed"


class TestRestores:
    @pytest.fixture
    async def table(self, real: Stage) -> Manifest:
        """A cluster that has been backed up with a table of one row."""
        await real.declare(users=[{"name": "postgres", "databases": ["dev"]}])
        live = await real.ready()
        await real.log_in(live, "postgres", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
        await real.backed_up("one")
        return live

    async def rows(self, real: Stage, cluster: Manifest) -> str:
        return await real.log_in(cluster, "postgres", "SELECT string_agg(i::text, ',' ORDER BY i) FROM t")

    async def test_in_place_to_a_moment(self, real: Stage, table: Manifest) -> None:
        moment = await real.log_in(table, "postgres", "SELECT clock_timestamp()")
        await real.log_in(table, "postgres", "INSERT INTO t VALUES (2)")
        await real.restore("first", "--type=time", f'--target="{moment}"')
        live = await real.restored("first")
        assert await self.rows(real, live) == "1"
        assert condition(live, "PostgresDataInitialized") == "True PGBackRestRestoreComplete"
        assert live["status"]["pgbackrest"]["restore"]["succeeded"] == 1

    async def test_in_place_without_a_target_replays_everything(self, real: Stage, table: Manifest) -> None:
        await real.log_in(table, "postgres", "INSERT INTO t VALUES (2)")
        await real.restore("first")
        assert await self.rows(real, await real.restored("first")) == "1,2"

    async def test_each_value_restores_once(self, real: Stage, table: Manifest) -> None:
        await real.restore("first", "--type=immediate")
        live = await real.restored("first")
        await real.log_in(live, "postgres", "INSERT INTO t VALUES (3)")
        await real.restore("first", enabled=False)
        await real.ready()
        assert await self.rows(real, live) == "1,3"
        await real.restore("second", "--type=immediate")
        assert await self.rows(real, await real.restored("second")) == "1"

    async def test_instance_and_volume_are_the_same_and_observed_late(self, real: Stage, table: Manifest) -> None:
        [before] = await real.of(VOLUME_CLAIMS, data="postgres")
        [instance] = await real.of(STATEFUL_SETS, instance_set="primary")
        await real.restore("first", "--type=immediate")
        under_way = await real.until(POSTGRES_CLUSTERS, "pg0", running)
        assert under_way["status"]["observedGeneration"] < under_way["metadata"]["generation"]
        await real.restored("first")
        [claim] = await real.of(VOLUME_CLAIMS, data="postgres")
        [again] = await real.of(STATEFUL_SETS, instance_set="primary")
        assert claim["metadata"]["uid"] == before["metadata"]["uid"]
        assert again["metadata"]["name"] == instance["metadata"]["name"]
        assert again["metadata"]["uid"] != instance["metadata"]["uid"]

    async def test_passwords_go_back_in_time_until_a_verifier_is_emptied(self, real: Stage, table: Manifest) -> None:
        moment = await real.log_in(table, "postgres", "SELECT clock_timestamp()")
        revision = (await real.ready())["status"]["usersRevision"]
        data = {"password": base64.b64encode(b"later").decode(), "verifier": ""}
        await real.client.patch(SECRETS, real.namespace, "pg0-pguser-postgres", {"data": data})
        changed = await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c["status"]["usersRevision"] != revision)
        await real.restore("first", "--type=time", f'--target="{moment}"')
        live = await real.restored("first")
        assert live["status"]["usersRevision"] == changed["status"]["usersRevision"]
        with pytest.raises(PostgreSQLError, match="password authentication failed"):
            await real.log_in(live, "postgres")
        await real.client.patch(SECRETS, real.namespace, "pg0-pguser-postgres", {"data": {"verifier": ""}})
        old = live["status"]["usersRevision"]
        await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: c["status"]["usersRevision"] != old)
        assert await real.log_in(live, "postgres") == "postgres"

    async def test_a_target_that_is_never_reached_leaves_nothing_running(self, real: Stage, table: Manifest) -> None:
        await real.restore("first", "--type=time", '--target="2099-01-01 00:00:00+00"')
        live = await real.until(POSTGRES_CLUSTERS, "pg0", lambda c: finished(c, "restore", "first"))
        assert condition(live, "PostgresDataInitialized") == "False PGBackRestRestoreFailed"
        assert "readyReplicas" not in live["status"]["instances"][0]
        await real.restore("second", "--type=immediate")
        assert await self.rows(real, await real.restored("second")) == "1"

    async def test_a_clone(self, real: Stage, table: Manifest) -> None:
        await real.log_in(table, "postgres", "INSERT INTO t VALUES (2); SELECT pg_switch_wal()")
        source = {"clusterName": "pg0", "repoName": "repo1", "options": ["--type=immediate"]}
        await real.declare(
            "copy", users=[{"name": "postgres", "databases": ["dev"]}], dataSource={"postgresCluster": source}
        )
        copy = await real.ready("copy")
        assert await self.rows(real, copy) == "1"
        assert copy["status"]["pgbackrest"]["repoHost"]["ready"] is True
        assert (await real.secret("postgres"))["password"] != (await real.secret("postgres", "copy"))["password"]
        assert await self.rows(real, table) == "1,2"

    async def test_a_clone_of_nothing_waits(self, played: Stage) -> None:
        source = {"clusterName": "absent", "repoName": "repo1"}
        await played.declare("copy", dataSource={"postgresCluster": source})
        assert await played.warned("InvalidDataSource") == 'PostgresCluster "absent" does not exist'
        live = await played.client.get(POSTGRES_CLUSTERS, played.namespace, "copy")
        assert condition(live, "PGBackRestoreProgressing") == "True ReadyForRestore"
        assert "observedGeneration" not in live["status"]
        assert await played.of(STATEFUL_SETS, "copy") == []

    async def test_a_clone_of_what_is_shut_down_fails(self, played: Stage) -> None:
        await played.declare()
        await played.ready()
        await played.change(shutdown=True)
        await played.until(POSTGRES_CLUSTERS, "pg0", lambda c: not c["status"]["pgbackrest"]["repoHost"]["ready"])
        await played.declare("copy", dataSource={"postgresCluster": {"clusterName": "pg0", "repoName": "repo1"}})
        live = await played.until(POSTGRES_CLUSTERS, "copy", lambda c: condition(c, "PostgresDataInitialized"))
        assert condition(live, "PostgresDataInitialized") == "False PGBackRestRestoreFailed"

    async def test_a_source_left_in_place_is_restored_from_again(self, real: Stage, table: Manifest) -> None:
        source = {"clusterName": "pg0", "repoName": "repo1", "options": ["--type=immediate"]}
        users = [{"name": "postgres", "databases": ["dev"]}]
        await real.declare("copy", users=users, dataSource={"postgresCluster": source})
        copy = await real.ready("copy")
        await real.log_in(copy, "postgres", "INSERT INTO t VALUES (3)")
        wanted = {"enabled": True, "repoName": "repo1"}
        await real.change("copy", {RESTORE: "first"}, backups={"pgbackrest": {"restore": wanted}})
        await real.until(POSTGRES_CLUSTERS, "copy", lambda c: finished(c, "restore", "first") and ready(c))
        assert await self.rows(real, copy) == "1,3"
        await real.change("copy", backups={"pgbackrest": {"restore": {"enabled": False}}})
        again = "~pgo-bootstrap-copy"
        await real.until(POSTGRES_CLUSTERS, "copy", lambda c: finished(c, "restore", again) and ready(c))
        # Its users have the passwords of the source by now, so that only PGO's own way in is left.
        assert real.server(copy).psql("SELECT string_agg(i::text, ',') FROM t", database="dev").strip() == "1"
