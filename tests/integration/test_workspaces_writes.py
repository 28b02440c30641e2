"""What the Workspace API writes to a real API server, and what it leaves as it was."""

import asyncio
import contextlib
import datetime
import itertools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from datalabd.api.meta import Manifest
from datalabd.kube.client import MERGE_PATCH, path
from datalabd.kube.resources import DATALABS
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.objects import unique
from tests.integration.workspace_server import USERS, Server, new_namespace, serving, workspace

pytestmark = pytest.mark.cluster

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(lambda user: USERS.get(user) or roles_of(user)) as issuer:
        yield issuer


def roles_of(user: str) -> dict[str, list[str]]:
    """`admin-of-W` administers W, `user-of-W` has access to it."""
    role, _, name = user.partition("-of-")
    return {name: [{"admin": "ws_admin", "user": "ws_access"}[role]]} if name else {}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = new_namespace(cluster)
    return name


@pytest.fixture(scope="module")
def replicas(
    cluster: Cluster, namespace: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    directory = tmp_path_factory.mktemp("workspaces")
    with (
        serving(cluster, namespace, directory / "one", issuer) as one,
        serving(cluster, namespace, directory / "other", issuer) as other,
    ):
        yield one, other


@pytest.fixture
def server(replicas: tuple[Server, Server]) -> Server:
    return replicas[0]


@pytest.fixture
def name(cluster: Cluster, namespace: str, server: Server) -> str:
    """A fresh workspace that the server knows."""
    name = unique("w")
    workspace(cluster, namespace, name, sessions=[{"name": "default", "state": "started"}])
    wait_for(server, name)
    return name


def wait_for(server: Server, name: str) -> None:
    eventually(lambda: ask(server, "root", "GET", f"/workspaces/{name}").status_code == 200, 10)


def ask(server: Server, user: str, method: str, where: str, body: Any = None, **options: Any) -> httpx.Response:
    with server.as_(user) as client:
        return client.request(method, where, json=body, **options)


def spec(cluster: Cluster, namespace: str, kind: str, name: str) -> Any:
    live = cluster.api.get(kind, name, namespace)
    assert live is not None
    return live["spec"]


# ---- Creation and deletion


def test_a_workspace_is_created_and_deleted(cluster: Cluster, namespace: str, server: Server) -> None:
    name = unique("w")
    made = ask(server, "root", "POST", "/workspaces", {"preferred_name": name, "default_owner": "Jane.Doe "})
    assert (made.status_code, made.json()) == (201, {"name": name})
    storage = cluster.api.get("storages", name, namespace)
    datalab = cluster.api.get("datalabs.pkg.internal", name, namespace)
    assert storage is not None
    assert datalab is not None
    assert storage["spec"] == {"principal": name, "buckets": [{"bucketName": name, "discoverable": True}]}
    assert storage["metadata"]["annotations"]["storages.pkg.internal/environment"] == "datalab"
    assert storage["metadata"]["labels"] == {"storages.pkg.internal/discoverable": "true"}
    assert datalab["metadata"]["annotations"]["datalabs.pkg.internal/environment"] == "datalab"
    assert datalab["spec"]["users"] == ["jane.doe"]
    assert datalab["spec"]["sessions"] == [{"name": "default", "state": "started"}]
    assert datalab["spec"]["registry"] == {"enabled": True}
    assert ask(server, "root", "GET", f"/workspaces/{name}").json()["status"] == "provisioning"
    again = ask(server, "root", "POST", "/workspaces", {"preferred_name": name})
    assert (again.status_code, again.json()) == (422, {"detail": {"error": "Workspace with this name already exists"}})
    gone = ask(server, "root", "DELETE", f"/workspaces/{name}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert ask(server, "root", "GET", f"/workspaces/{name}").status_code == 404
    assert ask(server, "root", "DELETE", f"/workspaces/{name}").json() == {"detail": "Not Found"}


@pytest.mark.parametrize("role", ["admin", "user"])
def test_a_name_given_again_is_closed_to_earlier_tokens(server: Server, role: str) -> None:
    name = unique("w")
    where = f"/workspaces/{name}"
    member = f"{role}-of-{name}"
    assert ask(server, "root", "POST", "/workspaces", {"preferred_name": name, "default_owner": member}).is_success
    with server.as_(member) as earlier:
        eventually(lambda: earlier.get(where).status_code == 200, 10)
        assert ask(server, "root", "DELETE", where).status_code == 204
        time.sleep(1.0 - time.time() % 1.0)  # times of objects and tokens have whole seconds
        eventually(
            lambda: (
                ask(server, "root", "POST", "/workspaces", {"preferred_name": name, "default_owner": "vic"}).is_success
            ),
            10,
        )
        wait_for(server, name)
        body = {"add_memberships": [{"member": member, "role": "admin"}]}
        refused = [
            earlier.get(where),
            earlier.get(f"{where}/credentials"),
            earlier.put(where, json=body),
        ]
        assert [(answer.status_code, answer.json()) for answer in refused] == [(403, {"detail": "Forbidden"})] * 3
        assert earlier.get("/workspaces").json() == []
    assert ask(server, member, "GET", where).status_code == 200  # the issuer goes by names alone


def test_what_a_deleted_workspace_left_goes_to_nobody_else_by_its_name(
    cluster: Cluster, namespace: str, server: Server
) -> None:
    name = unique("w")
    cluster.api.create_namespace(name)
    home = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    left = {"metadata": {"name": f"{name}-main-persistent", "namespace": name}, "spec": home}
    cluster.api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | left)
    asked = {"preferred_name": name, "default_owner": "zoe"}

    def refused() -> bool:
        answer = ask(server, "root", "POST", "/workspaces?dry_run=true", asked)
        return (answer.status_code, answer.json()) == (
            409,
            {"detail": {"error": "data_exists", "volumes": [f"{name}-main-persistent"]}},
        )

    eventually(refused)
    assert ask(server, "root", "POST", "/workspaces?data=take", asked).status_code == 422
    assert ask(server, "root", "POST", "/workspaces?data=adopt", asked).status_code == 201


def test_what_was_granted_to_a_workspace_that_kubectl_deleted_goes_to_nobody_else_by_its_name(
    cluster: Cluster, namespace: str, server: Server, name: str
) -> None:
    gone = unique("w")
    asked = {"preferred_name": gone, "default_owner": "zoe"}
    assert ask(server, "root", "POST", "/workspaces", asked).status_code == 201
    granted = f"/workspaces/{name}/grants/{name}/{gone}"
    assert ask(server, "root", "PUT", granted, {"permission": "ReadWrite", "reason": "for zoe"}).status_code == 202
    for kind in ("datalabs.pkg.internal", "storages"):
        cluster.api.delete(kind, gone, namespace)
    eventually(lambda: ask(server, "root", "GET", f"/workspaces/{gone}").status_code == 404, 10)
    asked["default_owner"] = "vic"

    def said() -> tuple[list[str], list[str]]:
        live = cluster.api.get("storages", name, namespace)
        assert live is not None
        return (
            [grant["grantee"] for grant in live["spec"]["bucketAccessGrants"]],
            sorted(live["metadata"].get("annotations", {})),
        )

    before = ([gone], ["storages.pkg.internal/grant-reasons"])
    assert said() == before
    with refusing(cluster, "datalabs", "CREATE", gone, unless="object.metadata.name != '{name}'"):
        eventually(lambda: ask(server, "root", "POST", "/workspaces?dry_run=true", asked).status_code == 409)
        assert ask(server, "root", "POST", "/workspaces", asked).status_code == 409
    eventually(lambda: ask(server, "root", "POST", "/workspaces?dry_run=true", asked).status_code == 201)
    assert said() == before  # nothing of others ends for what is not made
    assert ask(server, "root", "POST", "/workspaces", asked).status_code == 201
    assert said() == ([], [])
    ended = [line for line in server.lines("audit") if line["operation"] == "end_grant" and line["workspace"] == name]
    assert [(line["user"], line["what"]) for line in ended] == [("root", {"grantee": gone})]


def test_a_workspace_is_not_made_while_grants_to_an_earlier_one_cannot_be_ended(
    cluster: Cluster, namespace: str, server: Server, name: str
) -> None:
    gone = unique("w")
    granted = f"/workspaces/{name}/grants/{name}/{gone}"
    assert ask(server, "root", "PUT", granted, {"permission": "ReadOnly"}).status_code == 202
    values = itertools.cycle([False, True])

    def is_active() -> bool:
        body = {"discoverable": next(values)}
        return ask(server, "root", "PATCH", f"/workspaces/{name}/buckets/{name}", body).status_code == 409

    with refusing(cluster, "storages", "UPDATE", name):
        eventually(is_active)
        answer = ask(server, "root", "POST", "/workspaces", {"preferred_name": gone, "default_owner": "zoe"})
        assert (answer.status_code, answer.json()) == (409, {"detail": {"error": "grants_exist", "workspaces": [name]}})
        assert cluster.api.get("storages", gone, namespace) is None


@pytest.mark.parametrize("user", ["stranger", "alice"])
def test_only_a_platform_admin_creates_and_deletes(server: Server, user: str, name: str) -> None:
    for method, where in (("POST", "/workspaces"), ("DELETE", f"/workspaces/{name}")):
        answer = ask(server, user, method, where, {} if method == "POST" else None)
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


def test_a_dry_run_creates_nothing(cluster: Cluster, namespace: str, server: Server) -> None:
    name = unique("w")
    made = ask(server, "root", "POST", "/workspaces?dry_run=true", {"preferred_name": name})
    assert (made.status_code, made.json()) == (201, {"name": name})
    assert cluster.api.get("storages", name, namespace) is None


def test_what_admission_says_of_a_creation_is_told(cluster: Cluster, server: Server) -> None:
    name = unique("w")
    asked = {"preferred_name": name, "default_owner": "jane"}
    with refusing(cluster, "datalabs", "CREATE", name, unless="object.metadata.name != '{name}'", how="Warn"):
        eventually(lambda: "warnings" in ask(server, "root", "POST", "/workspaces?dry_run=true", asked).json())
        made = ask(server, "root", "POST", "/workspaces", asked)
    (warning,) = made.json()["warnings"]
    assert (made.status_code, made.json()["name"], "not now" in warning) == (201, name, True)


def test_a_half_made_workspace_is_completed(cluster: Cluster, namespace: str, server: Server) -> None:
    name = unique("w")
    body = {"preferred_name": name, "default_owner": "jane"}
    assert ask(server, "root", "POST", "/workspaces", body).status_code == 201
    cluster.api.delete("datalabs.pkg.internal", name, namespace)
    eventually(lambda: not ask(server, "root", "GET", f"/workspaces/{name}").json()["datalab"]["memberships"], 10)
    assert ask(server, "root", "POST", "/workspaces", body | {"default_owner": "joe"}).status_code == 422
    assert ask(server, "root", "POST", "/workspaces", body).status_code == 201
    assert spec(cluster, namespace, "datalabs.pkg.internal", name)["users"] == ["jane"]


# ---- Edits


def test_an_edit_of_everything(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    body = {
        "add_memberships": [{"member": "carol", "role": "admin", "creation_timestamp": AT}, {"member": "dan"}],
        "add_buckets": [{"name": f"{name}-data", "lifecycle_rules": [{"target": "tmp/*", "min_age": "2w"}]}],
    }
    answer = ask(server, f"admin-of-{name}", "PUT", f"/workspaces/{name}", body)
    assert (answer.status_code, answer.json()) == (202, {"name": name})
    lab = spec(cluster, namespace, "datalabs.pkg.internal", name)
    assert lab["users"] == ["alice", "carol", "dan"]
    assert lab["userOverrides"]["carol"]["role"] == "admin"
    found = ask(server, f"admin-of-{name}", "GET", f"/workspaces/{name}").json()
    assert [bucket["name"] for bucket in found["storage"]["buckets"]] == [name, f"{name}-data"]
    assert found["storage"]["buckets"][1]["lifecycle_rules"] == [{"target": "tmp/*", "mode": "Delete", "min_age": "2w"}]
    assert [(row["member"], row["role"]) for row in found["datalab"]["memberships"]] == [
        ("alice", "owner"),
        ("carol", "admin"),
        ("dan", "user"),
    ]


def test_an_edit_is_all_or_nothing(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    """The Storage would take it; the Datalab does not: it would have more members than its schema allows."""
    before = [cluster.api.get(kind, name, namespace) for kind in ("storages", "datalabs.pkg.internal")]
    body = {
        "add_memberships": [{"member": f"m{number}"} for number in range(500)],
        "add_buckets": [{"name": f"{name}-data"}],
    }
    answer = ask(server, f"admin-of-{name}", "PUT", f"/workspaces/{name}", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"][0] == "body"
    after = [cluster.api.get(kind, name, namespace) for kind in ("storages", "datalabs.pkg.internal")]
    assert after == before


@contextlib.contextmanager
def refusing(
    cluster: Cluster,
    plural: str,
    operation: str,
    name: str,
    unless: str = "request.dryRun || object.metadata.name != '{name}'",
    how: str = "Deny",
) -> Iterator[None]:
    """A policy that refuses this of one object, after its dry run; or warns of it."""
    policy = unique("refuse")
    match = {
        "apiGroups": ["pkg.internal"],
        "apiVersions": ["*"],
        "operations": [operation],
        "resources": [plural],
    }
    rule = {
        "expression": unless.replace("{name}", name),
        "message": "not now",
        "reason": "Forbidden",
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": policy}}
    spec = {"matchConstraints": {"resourceRules": [match]}, "validations": [rule]}
    binding = {"policyName": policy, "validationActions": [how]}
    cluster.api.create(api | {"kind": "ValidatingAdmissionPolicy", "spec": spec})
    cluster.api.create(api | {"kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    try:
        yield
    finally:
        cluster.api.delete("validatingadmissionpolicybindings", policy)
        cluster.api.delete("validatingadmissionpolicies", policy)


def test_half_an_edit_is_taken_back(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    """The Storage is refused after its dry run, when the Datalab is written already."""
    where = f"/workspaces/{name}"
    values = itertools.cycle([False, True])

    def is_active() -> bool:
        body = {"discoverable": next(values)}
        return ask(server, "root", "PATCH", f"{where}/buckets/{name}", body).status_code == 409

    with refusing(cluster, "storages", "UPDATE", name):
        eventually(is_active)
        before = spec(cluster, namespace, "datalabs.pkg.internal", name)
        answer = ask(server, "root", "PUT", where, both(name))
        assert (answer.status_code, answer.json()["detail"]["error"]) == (409, "refused_by_policy")
        assert answer.json()["detail"]["message"] == "not now"
        assert spec(cluster, namespace, "datalabs.pkg.internal", name) == before
        assert "carol" not in ask(server, "root", "GET", where).text


def both(name: str) -> dict[str, Any]:
    """An edit of both objects that claims no name of a bucket."""
    rules = [{"target": "tmp/*", "min_age": "2w"}]
    return {"add_memberships": [{"member": "carol"}], "add_buckets": [{"name": name, "lifecycle_rules": rules}]}


def test_half_an_edit_that_cannot_be_taken_back_is_told(
    cluster: Cluster, namespace: str, server: Server, name: str
) -> None:
    """The Storage is refused after its dry run, and the Datalab that is written already may lose no member."""
    where = f"/workspaces/{name}"
    keep = "request.dryRun || object.metadata.name != '{name}' || size(object.spec.users) >= size(oldObject.spec.users)"
    assert ask(server, "root", "PUT", where, {"add_memberships": [{"member": "dan"}]}).status_code == 202
    with (
        refusing(cluster, "storages", "UPDATE", name),
        refusing(cluster, "datalabs", "UPDATE", name, keep),
    ):
        values = itertools.cycle([False, True])
        bucket = f"{where}/buckets/{name}"
        eventually(lambda: ask(server, "root", "PATCH", bucket, {"discoverable": next(values)}).status_code == 409)

        def keeps_members() -> bool:
            answer = ask(server, "root", "DELETE", f"{where}/members/dan")
            if answer.status_code == 204:
                ask(server, "root", "PUT", where, {"add_memberships": [{"member": "dan"}]})
            return answer.status_code == 409

        eventually(keeps_members)
        answer = ask(server, "root", "PUT", where, both(name))
        assert (answer.status_code, answer.json()) == (
            502,
            {"detail": {"error": "partly_applied", "written": "Datalab", "not_written": "Storage"}},
        )
        assert spec(cluster, namespace, "datalabs.pkg.internal", name)["users"] == ["alice", "dan", "carol"]
        assert "lifecycleRules" not in spec(cluster, namespace, "storages", name)["buckets"][0]
        assert "carol" in ask(server, "root", "GET", where).text  # what is there is told
    lines = server.lines("half of an edit is not taken back yet")
    assert {line["kind"] for line in lines} == {"Datalab"}
    eventually(lambda: ask(server, "root", "PUT", where, both(name)).status_code == 202)  # and may be asked for again
    assert spec(cluster, namespace, "storages", name)["buckets"][0]["lifecycleRules"]


def test_half_a_creation_is_taken_back(cluster: Cluster, namespace: str, server: Server) -> None:
    name = unique("w")
    with refusing(cluster, "datalabs", "CREATE", name):

        def refused() -> bool:
            answer = ask(server, "root", "POST", "/workspaces", {"preferred_name": name})
            if answer.status_code == 201:
                assert ask(server, "root", "DELETE", f"/workspaces/{name}").status_code == 204
            return answer.status_code == 409

        eventually(refused)
        assert cluster.api.get("storages", name, namespace) is None
        assert ask(server, "root", "GET", f"/workspaces/{name}").status_code == 404
    eventually(lambda: ask(server, "root", "POST", "/workspaces", {"preferred_name": name}).status_code == 201)


def test_whoever_may_not_edit_a_part_edits_nothing(server: Server, name: str) -> None:
    body = {"add_memberships": [{"member": "carol"}]}
    assert ask(server, f"user-of-{name}", "PUT", f"/workspaces/{name}", body).status_code == 403
    assert ask(server, f"user-of-{name}", "PUT", f"/workspaces/{name}", {}).status_code == 202
    assert ask(server, "stranger", "PUT", f"/workspaces/{name}", {}).status_code == 403


def test_nobody_grants_himself_the_bucket_of_another(server: Server, name: str) -> None:
    entry = {"workspace": "ws-b", "bucket": name, "request_timestamp": AT, "grant_timestamp": AT}
    answer = ask(server, "bob", "PUT", f"/workspaces/{name}", {"patch_bucket_access_requests": [entry]})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


def test_buckets_of_others_are_not_taken(server: Server, name: str) -> None:
    foreign = ask(server, f"admin-of-{name}", "PUT", f"/workspaces/{name}", {"add_buckets": [{"name": "somebody"}]})
    assert foreign.status_code == 422
    assert foreign.json()["detail"][0]["loc"] == ["body", "add_buckets", 0, "name"]


def test_a_write_meant_for_another_state_changes_nothing(server: Server, name: str) -> None:
    user, where = f"admin-of-{name}", f"/workspaces/{name}"
    tag = ask(server, user, "GET", where).headers["ETag"]
    body = {"add_memberships": [{"member": "carol"}]}
    assert ask(server, user, "PUT", where, body, headers={"If-Match": tag}).status_code == 202
    late = ask(server, user, "PUT", where, {"add_memberships": [{"member": "dan"}]}, headers={"If-Match": tag})
    assert late.status_code == 412
    members = ask(server, user, "GET", where).json()["datalab"]["memberships"]
    assert [row["member"] for row in members] == ["alice", "carol"]


def test_a_change_of_status_alone_refuses_nobody(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    user, where = f"admin-of-{name}", f"/workspaces/{name}"
    tag = ask(server, user, "GET", where).headers["ETag"]
    status = {"status": {"sessions": {"default": {"state": "started", "url": "https://lab.example"}}}}
    cluster.api.request("PATCH", path(DATALABS, namespace, name, "status"), status, MERGE_PATCH)
    eventually(lambda: ask(server, user, "GET", f"{where}/sessions").json()[0]["ready"], 10)
    body = {"add_memberships": [{"member": "carol"}]}
    assert ask(server, user, "PUT", where, body, headers={"If-Match": tag}).status_code == 202


# ---- Members


def test_members_change_and_go(server: Server, name: str) -> None:
    user, where = f"admin-of-{name}", f"/workspaces/{name}"
    ask(server, user, "PUT", where, {"add_memberships": [{"member": "carol"}, {"member": "dan"}]})
    assert ask(server, user, "PATCH", f"{where}/members/carol", {"role": "admin"}).status_code == 202
    assert ask(server, user, "DELETE", f"{where}/members/dan").status_code == 204
    assert ask(server, user, "DELETE", f"{where}/members/alice").status_code == 409
    assert ask(server, "root", "PUT", f"{where}/owner", {"member": "carol"}).status_code == 202
    rows = ask(server, user, "GET", where).json()["datalab"]["memberships"]
    assert [(row["member"], row["role"]) for row in rows] == [("carol", "owner"), ("alice", "admin")]


def test_what_go_escapes_is_changed_like_anything_else(server: Server, name: str) -> None:
    member = "<b>&\"'\\é"
    where = f"/workspaces/{name}"
    ask(server, "root", "PUT", where, {"add_memberships": [{"member": member}]}).raise_for_status()
    ask(server, "root", "DELETE", f"{where}/members/{quote(member, safe='')}").raise_for_status()
    for reason in (f"{member}\n\u2028\u2029", "plain"):
        decision = {"permission": "ReadOnly", "reason": reason}
        ask(server, "root", "PUT", f"{where}/grants/{name}/ws-odd", decision).raise_for_status()


def test_removal_locks_an_old_token_out_on_every_replica(replicas: tuple[Server, Server], name: str) -> None:
    one, other = replicas
    user, where = f"user-of-{name}", f"/workspaces/{name}"
    ask(one, "root", "PUT", where, {"add_memberships": [{"member": user}]})
    assert ask(one, user, "GET", where).status_code == 200
    assert ask(one, "root", "DELETE", f"{where}/members/{user}").status_code == 204
    assert ask(one, user, "GET", where).status_code == 403
    eventually(lambda: ask(other, user, "GET", where).status_code == 403, 2)


# ---- Sessions


def test_sessions(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    user, where = f"admin-of-{name}", f"/workspaces/{name}/sessions"
    made = ask(server, user, "POST", where, {"name": " Analysis "})
    assert (made.status_code, made.json()) == (201, {"name": "analysis", "state": "stopped", "ready": False})
    twice = ask(server, user, "POST", where, {"name": "analysis"})
    assert (twice.status_code, twice.json()["detail"]) == (409, {"error": "session_exists", "session": "analysis"})
    assert ask(server, user, "POST", where, {"name": "third"}).status_code == 201
    over = ask(server, user, "POST", where, {"name": "fourth"})
    limit = {"error": "session_limit_exceeded", "max_sessions": 3}
    assert (over.status_code, over.json()["detail"]) == (422, limit)
    stopped = ask(server, user, "PATCH", f"{where}/default", {"state": "stopped"})
    assert (stopped.status_code, stopped.json()) == (202, {"name": "default", "state": "stopped", "ready": False})
    assert ask(server, user, "DELETE", f"{where}/third").status_code == 204
    missing = ask(server, user, "DELETE", f"{where}/third")
    assert (missing.status_code, missing.json()["detail"]) == (404, {"error": "session_not_found", "session": "third"})
    assert spec(cluster, namespace, "datalabs.pkg.internal", name)["sessions"] == [
        {"name": "default", "state": "stopped"},
        {"name": "analysis", "state": "stopped"},
    ]


def test_opening_a_stopped_session_starts_it(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    where = f"/workspaces/{name}/sessions/default"
    ask(server, "root", "PATCH", where, {"state": "stopped"})

    def state() -> str:
        return str(spec(cluster, namespace, "datalabs.pkg.internal", name)["sessions"][0]["state"])

    user = f"user-of-{name}"
    assert ask(server, user, "HEAD", where).status_code == 202
    assert ask(server, user, "GET", where, headers={"Sec-Purpose": "prefetch"}).status_code == 403
    assert ask(server, user, "GET", where, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert state() == "stopped"
    opened = ask(server, user, "GET", where)
    assert (opened.status_code, opened.json(), opened.headers["Retry-After"]) == (202, {"status": "starting"}, "10")
    assert state() == "started"
    undeclared = ask(server, user, "GET", f"/workspaces/{name}/sessions/other")
    error = "Session enabling unavailable: session 'other' is not declared"
    assert (undeclared.status_code, undeclared.json()) == (404, {"detail": {"error": error}})


def test_a_session_that_answers_is_told(cluster: Cluster, namespace: str, server: Server, name: str) -> None:
    status = {"status": {"sessions": {"default": {"state": "started", "url": "https://lab.example"}}}}
    cluster.api.request("PATCH", path(DATALABS, namespace, name, "status"), status, MERGE_PATCH)
    where, user = f"/workspaces/{name}/sessions/default", f"user-of-{name}"
    eventually(lambda: ask(server, user, "GET", where).status_code == 200, 10)
    assert ask(server, user, "GET", where).json() == {"url": "https://lab.example"}
    page = ask(server, user, "GET", where, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert "location.replace" in page.text


# ---- Requests and grants


def test_a_bucket_is_asked_for_and_granted_until_a_time(
    cluster: Cluster, namespace: str, server: Server, name: str
) -> None:
    other = unique("w")
    workspace(cluster, namespace, other)
    wait_for(server, other)
    asked = {"permission": "ReadOnly", "reason": "for maps"}
    assert ask(server, f"user-of-{other}", "PUT", f"/workspaces/{other}/requests/{name}", asked).status_code == 202

    def row(workspace_name: str) -> dict[str, Any]:
        rows = ask(server, "root", "GET", f"/workspaces/{workspace_name}").json()["storage"]["bucket_access_requests"]
        return next(row for row in rows if (row["workspace"], row["bucket"]) == (other, name))

    assert (row(name)["permission"], row(name)["reason"]) == ("ReadOnly", "ReadOnly: for maps")
    assert "grant_timestamp" not in row(name)
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    grant = {"permission": "ReadWrite", "expires": ends.isoformat()}
    answer = ask(server, f"admin-of-{name}", "PUT", f"/workspaces/{name}/grants/{name}/{other}", grant)
    assert answer.status_code == 202, answer.text
    assert row(other)["permission"] == "ReadWrite"
    assert "expires" in row(other)
    eventually(lambda: "denied_timestamp" in row(other), 15)
    late = datetime.datetime.now(datetime.UTC) - ends
    assert late.total_seconds() < 5 + 5  # within 5 s, and what it takes to see it
    (left,) = spec(cluster, namespace, "storages", name)["bucketAccessGrants"]
    assert left["permission"] == "None"


# ---- Races


async def at_once(replicas: tuple[Server, Server], calls: list[tuple[str, str, str, Any]]) -> list[httpx.Response]:
    """Answers to requests that are made at once, to each replica every other one."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await asyncio.gather(
            *(
                client.request(
                    method,
                    f"{replicas[number % 2].url}{where}",
                    json=body,
                    headers={"Authorization": f"Bearer {replicas[0].issuer.access_token(user)}"},
                )
                for number, (user, method, where, body) in enumerate(calls)
            )
        )


async def test_no_edit_of_32_writers_is_lost(
    cluster: Cluster, namespace: str, replicas: tuple[Server, Server], name: str
) -> None:
    wait_for(replicas[1], name)
    calls = [
        ("root", "PUT", f"/workspaces/{name}", {"add_memberships": [{"member": f"user-{number}"}]})
        for number in range(32)
    ]
    found = await at_once(replicas, calls)
    codes = [answer.status_code for answer in found]
    assert set(codes) <= {202, 409}
    assert codes.count(202) >= 2
    kept = {f"user-{number}" for number, code in enumerate(codes) if code == 202}
    assert set(spec(cluster, namespace, "datalabs.pkg.internal", name)["users"]) == {"alice", *kept}


async def test_the_limit_of_sessions_holds(
    cluster: Cluster, namespace: str, replicas: tuple[Server, Server], name: str
) -> None:
    wait_for(replicas[1], name)
    calls = [("root", "POST", f"/workspaces/{name}/sessions", {"name": f"s{number}"}) for number in range(16)]
    codes = [answer.status_code for answer in await at_once(replicas, calls)]
    assert codes.count(201) == 2
    assert set(codes) <= {201, 409, 422}
    assert len(spec(cluster, namespace, "datalabs.pkg.internal", name)["sessions"]) == 3


async def test_different_sessions_are_removed_and_stopped_at_once(
    cluster: Cluster, namespace: str, replicas: tuple[Server, Server], name: str
) -> None:
    for session in ("one", "two"):
        ask(replicas[0], "root", "POST", f"/workspaces/{name}/sessions", {"name": session, "state": "started"})
    eventually(lambda: len(ask(replicas[1], "root", "GET", f"/workspaces/{name}/sessions").json()) == 3, 10)
    where = f"/workspaces/{name}/sessions"
    calls = [("root", "DELETE", f"{where}/default", None), ("root", "PATCH", f"{where}/two", {"state": "stopped"})]
    assert [answer.status_code for answer in await at_once(replicas, calls)] == [204, 202]
    assert spec(cluster, namespace, "datalabs.pkg.internal", name)["sessions"] == [
        {"name": "one", "state": "started"},
        {"name": "two", "state": "stopped"},
    ]


async def test_one_of_many_creations_of_a_name_succeeds(
    cluster: Cluster, namespace: str, replicas: tuple[Server, Server]
) -> None:
    name = unique("w")
    calls = [("root", "POST", "/workspaces", {"preferred_name": name, "default_owner": "jane"}) for _ in range(8)]
    codes = [answer.status_code for answer in await at_once(replicas, calls)]
    assert 1 <= codes.count(201) <= 2
    assert set(codes) == {201, 422}
    assert cluster.api.get("storages", name, namespace) is not None
    assert spec(cluster, namespace, "datalabs.pkg.internal", name)["users"] == ["jane"]


def test_another_replica_sees_a_write_within_a_second(replicas: tuple[Server, Server], name: str) -> None:
    one, other = replicas
    wait_for(other, name)
    ask(one, "root", "PUT", f"/workspaces/{name}", {"add_memberships": [{"member": "carol"}]})
    began = time.monotonic()

    def members(server: Server) -> list[Any]:
        return list(ask(server, "root", "GET", f"/workspaces/{name}").json()["datalab"]["memberships"])

    assert len(members(one)) == 2
    eventually(lambda: len(members(other)) == 2, 5)
    assert time.monotonic() - began < 2


# ---- Audit


def test_a_change_leaves_a_line_and_an_event(server: Server, name: str) -> None:
    ask(server, "root", "PUT", f"/workspaces/{name}", {"add_memberships": [{"member": "carol"}]})
    ask(server, f"user-of-{name}", "DELETE", f"/workspaces/{name}/members/carol")
    lines = [
        line for line in server.lines("audit") if (line["workspace"], line["operation"]) != (name, "get_workspace")
    ]
    lines = [line for line in lines if line["workspace"] == name]
    assert [(line["operation"], line["user"], line["outcome"]) for line in lines] == [
        ("edit_workspace", "root", "allowed"),
        ("remove_member", f"user-of-{name}", "refused"),
    ]
    assert lines[0]["asked"] == {"add_memberships": [{"member": "carol"}]}
    assert {"path": "/spec/users/-", "after": "carol"} in lines[0]["changes"]
    assert lines[0]["request_id"]

    def items() -> list[Manifest]:
        return list(ask(server, "root", "GET", f"/workspaces/{name}/activity").json()["items"])

    (event,) = eventually(items, 10)
    assert (event["reason"], event["object"], event["type"]) == ("ChangedByRequest", "Datalab", "Normal")
    assert event["message"].startswith("root asked for edit_workspace")
