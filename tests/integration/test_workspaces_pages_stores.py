"""The pages of stores, credentials and activity as a browser without scripts has them, from a real API server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import RESTORE, ROTATE
from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.issuer import Issuer
from hack.standins import install_store_crds
from tests.html_pages import Page, shown
from tests.integration.daemon import eventually
from tests.integration.objects import unique
from tests.integration.test_workspaces_pages import addresses, ask, page, send
from tests.integration.workspace_server import KEYS, Server, new_namespace, secret, serving, workspace
from tests.reference import SHARED
from workspaces.ui.languages import DEFAULT, LANGUAGES

pytestmark = pytest.mark.cluster

STORES, CREDENTIALS, ACTIVITY = (f"/workspaces/ws-a/{name}" for name in ("stores", "credentials", "activity"))
HOSTILE = "a'b\"<script>&amp;"
WARNING = "what was written since is lost"


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with pages, and a workspace with a database and a cache; a policy warns of restores."""
    namespace = new_namespace(cluster)
    asyncio.run(_install_stores(cluster))
    databases = {"pg0": {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "2Gi"}}
    users = ["alice", "joe"]
    workspace(cluster, namespace, "ws-a", databases=databases, cacheStores={"c": {"storage": "1Gi"}}, users=users)
    values = KEYS | {"POSTGRES_PG0_HOST": "pg0.svc", "POSTGRES_PG0_PASSWORD": HOSTILE, "POSTGRES_PG0_USER": "u"}
    cluster.api.create(secret(namespace, "ws-a-datalab", **values))
    policy = _warn_of_restores(cluster, namespace)
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with serving(cluster, namespace, log, issuer, UI_MODE="ui", LOG_LEVEL="debug") as one:
        yield one
    cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", policy)


async def _install_stores(cluster: Cluster) -> None:
    client = await Client.connect(str(cluster.kubeconfig))
    try:
        await install_store_crds(client, SHARED / "crds" if SHARED.exists() else None)
    finally:
        await client.close()


def _warn_of_restores(cluster: Cluster, namespace: str) -> str:
    """Have the API server say something of each restore, as datalabd does where it runs; the policy's name."""
    name = unique("warns")
    rule = {"apiGroups": ["pkg.internal"], "apiVersions": ["*"], "resources": ["datalabs"], "operations": ["UPDATE"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    expression = f"!has(object.metadata.annotations) || !('{RESTORE}' in object.metadata.annotations)"
    for kind, spec in (
        (
            "ValidatingAdmissionPolicy",
            {
                "failurePolicy": "Ignore",
                "matchConstraints": {"namespaceSelector": selector, "resourceRules": [rule]},
                "validations": [{"expression": expression, "message": WARNING}],
            },
        ),
        ("ValidatingAdmissionPolicyBinding", {"policyName": name, "validationActions": ["Warn"]}),
    ):
        api = "admissionregistration.k8s.io/v1"
        cluster.api.create({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})
    return name


def rows(found: Page) -> set[str]:
    """Ids of the rows of its table."""
    return {row.get("id") for row in found.root.iter("tr") if row.get("id")}


def requests(cluster: Cluster, server: Server, annotation: str) -> str:
    live: Any = cluster.api.get("datalabs", "ws-a", server.namespace)
    return str(live["metadata"].get("annotations", {}).get(annotation, ""))


# ---- Stores


def test_stores_are_listed_with_their_sizes(server: Server) -> None:
    found = page(server, "joe", STORES)
    assert rows(found) == {"row-database_2f_dev", "row-database_2f_prod", "row-cache_2f_c"}
    assert "1 GiB" in found.text
    assert "2 GiB" in found.text
    actions = ("add_store", "check_rotate", "check_backup", "check_restore", "check_remove_store")
    assert [action for action in actions if found.has_form(action)] == []
    assert [action for action in actions if not page(server, "alice", STORES).has_form(action)] == []


def test_a_restore_is_confirmed_after_what_admission_has_to_say(cluster: Cluster, server: Server) -> None:
    fixed = {"type": "database", "name": "dev"}
    moment = {"time": "2026-01-01T10:00"}

    def checked() -> Page | None:
        found = send(server, "alice", page(server, "alice", STORES), "check_restore", moment, **fixed)
        return found if WARNING in found.text else None

    found = eventually(checked)
    assert found.by_id("confirm-restore-database_2f_dev").get("open") is not None
    assert requests(cluster, server, RESTORE) == ""
    refused = send(server, "alice", found, "restore", {"confirm": "de"}, **fixed)
    assert (refused.status, refused.errors()) == (422, {"confirm": "must be dev"})
    assert requests(cluster, server, RESTORE) == ""
    found = send(server, "alice", refused, "restore", {"confirm": "dev"}, **fixed)
    assert found.messages[0] == "The server is being restored."
    host, _, rest = requests(cluster, server, RESTORE).partition("/")
    assert (host, rest.partition("@")[2]) == ("pg0", "2026-01-01T10:00:00Z")


def test_credentials_are_replaced_once_that_is_confirmed(cluster: Cluster, server: Server) -> None:
    found = send(server, "alice", page(server, "alice", STORES), "check_rotate", {}, type="cache", name="c")
    assert requests(cluster, server, ROTATE) == ""
    found = send(server, "alice", found, "rotate", {}, type="cache", name="c")
    assert found.messages[0] == "The credentials are being replaced."
    assert requests(cluster, server, ROTATE).startswith("redis/c/")


def test_a_store_comes_and_goes(server: Server) -> None:
    found = page(server, "alice", STORES)
    refused = send(server, "alice", found, "add_store", {"type": "cache", "name": "Bad_Name", "storage": "1Gi"})
    assert (refused.status, set(refused.errors())) == (422, {"name"})
    assert refused.form("add_store").fields["name"] == "Bad_Name"
    found = send(server, "alice", refused, "add_store", {"type": "cache", "name": "cc", "storage": "1Gi"})
    found = send(server, "alice", page(server, "alice", STORES), "check_remove_store", {}, type="cache", name="cc")
    found = send(server, "alice", found, "remove_store", {"confirm": "cc"}, type="cache", name="cc")
    assert "row-cache_2f_cc" not in rows(found)


# ---- Credentials


def test_credentials_are_shown_to_whoever_asks_and_nobody_else(server: Server) -> None:
    found = page(server, "joe", CREDENTIALS)
    assert not any(value in found.answer.text for value in ("very-secret", "script>&"))
    found = send(server, "joe", found, "show_credentials", {})
    assert found.status == 200
    codes = {shown(element) for element in found.root.iter("code")}
    assert {"AK", "very-secret", "pg0.svc", HOSTILE} <= codes
    assert found.by_id("shown-credentials").get("data-hides") == "60"
    assert found.answer.headers["Cache-Control"] == "no-store"
    assert "very-secret" not in page(server, "joe", CREDENTIALS).answer.text
    copied = [element.get("data-copy", "#").removeprefix("#") for element in found.root.iter("button")]
    assert set(filter(None, copied)) <= found.ids
    assert [line["operation"] for line in server.lines("audit") if line["user"] == "joe"] == ["get_credentials"]


def test_a_machine_gets_no_stores_with_them(server: Server) -> None:
    found = send(server, "robot", page(server, "robot", CREDENTIALS), "show_credentials", {})
    assert "very-secret" in found.answer.text
    assert "pg0" not in found.answer.text
    assert ask(server, "stranger", "POST", CREDENTIALS, data={"action": "show_credentials"}).status_code == 403


# ---- Activity


def test_activity_tells_who_did_what(server: Server) -> None:
    send(server, "alice", page(server, "alice", STORES), "add_store", {"type": "cache", "name": "d", "storage": "1Gi"})

    def changes() -> list[str]:
        found = page(server, "joe", ACTIVITY)
        return [shown(row) for row in found.root.iter("tr") if "changed the workspace" in shown(row)]

    assert "alice" in eventually(changes)[0]
    assert "alice" not in page(server, "robot", ACTIVITY).text
    first = page(server, "joe", f"{ACTIVITY}?limit=1")
    assert "Newest" in page(server, "joe", first.links()["Older"]).links()


# ---- Languages


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != DEFAULT])
def test_every_screen_speaks_every_language(server: Server, language: str) -> None:
    """Strictly parsed as every page; what is data, is the same in all of them."""
    for path in addresses("ws-a"):
        english = page(server, "alice", path)
        found = page(server, "alice", path, headers={"Accept-Language": f"{language}-XX, en;q=0.5"})
        assert (found.root.get("lang"), found.status) == (language, english.status)
        assert found.answer.headers["Content-Language"] == language
        assert found.text != english.text, path
        assert [shown(one) for one in found.root.iter("bdi")] == [shown(one) for one in english.root.iter("bdi")]
