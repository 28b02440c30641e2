"""What keeps sessions protected is held by the API server itself: no process of ours runs here."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_NAMESPACE, PROTECTION, Manifest
from datalabd.plan.ingress_protection import REGISTRY_INGRESS, SESSION_INGRESS
from hack.cluster import Cluster
from tests.integration.daemon import eventually
from tests.integration.objects import Answer, create, read, replace, unique
from tests.integration.routes import install_route_kinds, route
from webhooks.ingress_policies import (
    ENDPOINT_CONTROLLERS,
    LAB_SECRETS,
    PLATFORM_HOSTS,
    PROTECTING_OBJECTS,
    SESSION_BACKENDS,
    SESSION_INGRESSES,
    lab_secrets,
    platform_hosts,
    protecting_objects,
    session_backends,
    session_ingresses,
)
from webhooks.registration import CLEANERS

pytestmark = pytest.mark.cluster

NGINX = "nginx.ingress.kubernetes.io"
DOMAIN = "policies.example.org"
US = ("--as=us", "--as-group=system:masters")
ROOT = ("--as=carol", "--as-group=system:masters")
"""Somebody who may do everything, and is not who runs datalabd."""
OWNER = ("--as=dave",)
"""Somebody with the role `admin` in the one namespace."""
RUNTIME = ("--as=system:serviceaccount:training:some-name",)
"""Educates, by its rights."""
COPIER = ("--as=system:serviceaccount:training:copier",)
"""Educates' secrets-manager, by its rights: it may do nothing with sessions."""
GATEWAY = ("--as=system:serviceaccount:cert-manager:cert-manager",)
"""Somebody who was given the right to route."""
BACKEND = {"service": {"name": "any", "port": {"number": 80}}}
SIGN = {PROTECTION: f"{NGINX}/auth-url", f"{NGINX}/auth-url": "https://auth.example.org"}
POLICIES = (SESSION_INGRESSES, PROTECTING_OBJECTS, LAB_SECRETS, SESSION_BACKENDS, PLATFORM_HOSTS)


@pytest.fixture(scope="module", autouse=True)
def in_force(cluster: Cluster) -> Iterator[None]:
    """The policies, once the API server goes by them."""
    install_route_kinds(cluster)
    rules = {
        "policies-runtime": {"apiGroups": ["training.educates.dev"], "resources": ["*"], "verbs": ["*"]},
        "policies-copier": {
            "apiGroups": ["secrets.educates.dev"],
            "resources": ["secretcopiers"],
            "verbs": ["get", "list", "watch", "patch", "update"],
        },
        "policies-gateway": {
            "apiGroups": ["pkg.internal"],
            "resources": ["environmentconfigs"],
            "verbs": ["route"],
        },
    }
    for name, rule in rules.items():
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
        cluster.api.create(role | {"rules": [rule]})
    for name, role_name, account in (
        ("policies-runtime", "policies-runtime", "training:some-name"),
        ("policies-runtime-admin", "admin", "training:some-name"),
        ("policies-copier", "policies-copier", "training:copier"),
        ("policies-copier-secrets", "admin", "training:copier"),
        ("policies-gateway", "policies-gateway", "cert-manager:cert-manager"),
        ("policies-gateway-admin", "admin", "cert-manager:cert-manager"),
    ):
        cluster.kubectl(
            "create", "clusterrolebinding", name, f"--clusterrole={role_name}", f"--serviceaccount={account}"
        )
    made = session_ingresses("us") + protecting_objects("us") + lab_secrets("us") + session_backends()
    made += platform_hosts([DOMAIN], [DOMAIN, f"auth.{DOMAIN}"])
    for manifest in made:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))
    name = lab_namespace(cluster)
    cluster.api.create(planned("NetworkPolicy", "closed", name))
    of_a_session = lab_namespace(cluster, **OF_A_SESSION)
    beside = storage_credentials(name)
    probes = (
        lambda: create(cluster, beside, *OWNER, "--dry-run=server", check=False),
        lambda: create(cluster, ingress(name, "a.example.com"), *OWNER, "--dry-run=server", check=False),
        lambda: delete(cluster, planned("NetworkPolicy", "closed", name), *OWNER, "--dry-run=server"),
        lambda: create(cluster, ingress("default", DOMAIN), *RUNTIME, "--dry-run=server", check=False),
        lambda: create(cluster, service(of_a_session, **ELSEWHERE), *OWNER, "--dry-run=server", check=False),
    )
    for probe in probes:
        eventually(lambda probe=probe: "ValidatingAdmissionPolicy" in probe().stderr)  # type: ignore[misc]
    yield
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        cluster.kubectl("delete", kind, *POLICIES)
    names = [f"policies-{who}" for who in ("runtime-admin", "copier-secrets", "gateway-admin")]
    cluster.kubectl("delete", "clusterrolebinding", *names, *rules)
    cluster.kubectl("delete", "clusterrole", *rules)


@pytest.fixture
def lab(cluster: Cluster) -> str:
    """The namespace of a lab, where `OWNER` is an administrator."""
    return lab_namespace(cluster)


def lab_namespace(cluster: Cluster, **labels: str) -> str:
    """A namespace as Educates makes it, with the labels of what owns it."""
    name = unique()
    marks = {
        "app.kubernetes.io/managed-by": "datalabd",
        "training.educates.dev/component": "environment",
        "training.educates.dev/environment.name": name,
        CLAIM_NAME: name,
    }
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks | labels}})
    bind(cluster, name, "ClusterRole", "admin")
    return name


def bind(cluster: Cluster, namespace: str, kind: str, role: str) -> None:
    """Give `OWNER` a role in a namespace."""
    group = "rbac.authorization.k8s.io"
    cluster.api.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": kind, "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "dave"}],
        }
    )


def ingress(namespace: str, host: str, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": unique("ing"), "namespace": namespace} | metadata,
        "spec": {
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}]
        },
    }


def of_session(lab: str, **annotations: str) -> Manifest:
    """The Ingress of a session as it is stored: protected."""
    return ingress(lab, f"{lab}-a.lab.example.org", labels=SESSION_INGRESS, annotations=SIGN | annotations)


def planned(kind: str, name: str, namespace: str, **fields: Any) -> Manifest:
    """An object as datalabd makes it, of a lab called like its namespace."""
    labels = {"app.kubernetes.io/managed-by": "datalabd", CLAIM_NAME: namespace, CLAIM_NAMESPACE: "claims"}
    versions = {"NetworkPolicy": "networking.k8s.io/v1", "ApisixPluginConfig": "apisix.apache.org/v2"}
    spec = {"NetworkPolicy": {"podSelector": {}}, "ApisixPluginConfig": {"plugins": []}}
    return {
        "apiVersion": versions.get(kind, "v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {APPLIED: "0123456789abcdef"},
        },
        **({"spec": spec[kind]} if kind in spec else {}),
    } | fields


def delete(cluster: Cluster, manifest: Manifest, *options: str) -> Answer:
    """What `kubectl delete` answers."""
    metadata = manifest["metadata"]
    place = ["-n", metadata["namespace"], "--wait=false"]
    return cluster.kubectl("delete", manifest["kind"], metadata["name"], *place, *options, check=False)


def changed(manifest: Manifest, *, spec: Manifest | None = None, **metadata: Any) -> Manifest:
    """The manifest with other members in its metadata, or spec."""
    return manifest | {
        "metadata": manifest["metadata"] | metadata,
        "spec": manifest["spec"] | (spec or {}),
    }


def refused(answer: Answer, said: str) -> None:
    assert answer.returncode != 0, answer.stdout
    assert "(Forbidden)" in answer.stderr or "is forbidden" in answer.stderr, answer.stderr
    assert said in answer.stderr


def accepted(answer: Answer) -> None:
    assert answer.returncode == 0, answer.stderr


# --- Ingresses in the namespaces of labs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda lab: of_session(lab), id="as protected as can be"),
        pytest.param(lambda lab: ingress(lab, f"{lab}-a.{DOMAIN}"), id="without labels"),
        pytest.param(lambda lab: ingress(lab, "a.example.com"), id="of another host"),
        pytest.param(lambda lab: ingress(lab, f"{lab}-a.{DOMAIN}", labels=REGISTRY_INGRESS), id="as a registry"),
    ],
)
def test_only_the_runtime_makes_ingresses_in_a_lab(cluster: Cluster, lab: str, made: Any) -> None:
    manifest = made(lab)
    refused(create(cluster, manifest, *OWNER, check=False), "only the runtime makes and changes Ingresses")
    if PROTECTION in manifest["metadata"].get("annotations", {}) or "labels" not in manifest["metadata"]:
        accepted(create(cluster, manifest, *RUNTIME, check=False))


def test_an_ingress_that_nobody_protected_is_refused(cluster: Cluster, lab: str) -> None:
    bare = ingress(lab, f"{lab}-a.{DOMAIN}", labels=SESSION_INGRESS)
    for user in (RUNTIME, ROOT):
        refused(create(cluster, bare, *user, check=False), "nobody was there to protect this session")
    accepted(
        create(cluster, ingress(lab, f"registry-{lab}-a.{DOMAIN}", labels=REGISTRY_INGRESS), *RUNTIME, check=False)
    )


def test_an_ingress_of_another_user_of_educates_is_nobodys_business(cluster: Cluster) -> None:
    course = lab_namespace(cluster, **{"app.kubernetes.io/managed-by": "somebody"})
    accepted(create(cluster, ingress(course, f"{course}-a.example.com", labels=SESSION_INGRESS), *OWNER, check=False))
    cluster.api.delete("namespace", course)


WITHOUT_SIGN = {key: value for key, value in SIGN.items() if key != PROTECTION}
OTHER_URL = SIGN | {f"{NGINX}/auth-url": "https://evil.example.com"}


@pytest.mark.parametrize("user", [OWNER, RUNTIME, ROOT], ids=["owner", "runtime", "root"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"annotations": {}}, "these annotations protect a session", id="no annotations"),
        pytest.param({"annotations": OTHER_URL}, "these annotations protect a session", id="another address"),
        pytest.param({"annotations": WITHOUT_SIGN}, "these annotations protect a session", id="no sign"),
        pytest.param(
            {"annotations": SIGN | {"kubernetes.io/ingress.class": "other"}},
            "these annotations protect a session",
            id="class by annotation",
        ),
        pytest.param(
            {"annotations": SIGN | {f"{NGINX}/configuration-snippet": "satisfy any;"}}, "would undo", id="snippet"
        ),
        pytest.param({"annotations": SIGN | {f"{NGINX}/satisfy": "any"}}, "would undo", id="satisfy"),
        pytest.param({"annotations": SIGN | {f"{NGINX}/canary": "true"}}, "would undo", id="canary"),
        pytest.param(
            {"annotations": SIGN | {f"{NGINX}/from-to-www-redirect": "true"}}, "would undo", id="another host"
        ),
        pytest.param({"labels": {}}, "its labels and its class", id="no labels"),
        pytest.param({"labels": REGISTRY_INGRESS}, "its labels and its class", id="labels of a registry"),
        pytest.param({"spec": {"ingressClassName": "other"}}, "its labels and its class", id="class"),
    ],
)
def test_a_protected_ingress_stays_so(
    cluster: Cluster, lab: str, change: dict[str, Any], said: str, user: tuple[str, ...]
) -> None:
    create(cluster, of_session(lab), *US)
    name = json.loads(cluster.kubectl("get", "ingress", "-n", lab, "-o", "json").stdout)["items"][0]["metadata"]["name"]
    live = read(cluster, "ingress", name, lab)
    answer = replace(cluster, changed(live, **change), *user)
    if user == OWNER and ("labels" in change or "spec" in change):
        said = "only the runtime makes and changes Ingresses"
    refused(answer, said)
    accepted(replace(cluster, changed(live, **change), *US))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"finalizers": ["example.org/hold"]}, id="finalizer"),
        pytest.param({"annotations": SIGN | {"example.org/seen": "yes"}}, id="another annotation"),
    ],
)
def test_what_does_not_matter_may_change(cluster: Cluster, lab: str, change: dict[str, Any]) -> None:
    manifest = of_session(lab)
    create(cluster, manifest, *US)
    live = read(cluster, "ingress", manifest["metadata"]["name"], lab)
    accepted(replace(cluster, changed(live, **change), *OWNER))
    cluster.kubectl(
        "patch",
        "ingress",
        live["metadata"]["name"],
        "-n",
        lab,
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":null}}',
    )


def test_where_something_else_protects_annotations_are_its_own(cluster: Cluster, lab: str) -> None:
    manifest = ingress(lab, f"{lab}-a.{DOMAIN}", labels=SESSION_INGRESS, annotations={PROTECTION: ""})
    create(cluster, manifest, *RUNTIME)
    live = read(cluster, "ingress", manifest["metadata"]["name"], lab)
    more = {PROTECTION: "", f"{NGINX}/auth-url": "https://elsewhere.example.org"}
    accepted(replace(cluster, changed(live, annotations=more), *ROOT))


def test_a_session_may_end(cluster: Cluster, lab: str) -> None:
    manifest = of_session(lab)
    create(cluster, manifest, *US)
    accepted(delete(cluster, manifest, *RUNTIME))


# --- objects that protect ---------------------------------------------------------------------------------------------

PROTECTING = [
    pytest.param("NetworkPolicy", "closed", id="network policy"),
    pytest.param("ApisixPluginConfig", "workspace-oidc", id="plugins of APISIX"),
    pytest.param("Secret", "{lab}-oauth2-client", id="client of the lab"),
    pytest.param("Secret", "{lab}-apisix", id="what APISIX logs in by"),
]


@pytest.mark.parametrize(("kind", "name"), PROTECTING)
def test_only_we_change_what_protects(cluster: Cluster, lab: str, kind: str, name: str) -> None:
    manifest = planned(kind, name.format(lab=lab), lab)
    cluster.api.create(manifest)
    if kind == "ApisixPluginConfig":
        grant(cluster, lab)
    live = read(cluster, kind, manifest["metadata"]["name"], lab)
    said = f"only datalabd changes it: change the Datalab or its environment (claims/{lab})"
    refused(delete(cluster, manifest, *OWNER), said)
    unmarked = live | {"metadata": live["metadata"] | {"labels": {}, "annotations": {}}}
    refused(replace(cluster, unmarked, *OWNER), said)
    accepted(replace(cluster, live | {"metadata": live["metadata"] | {"annotations": {APPLIED: "x"}}}, *US))
    accepted(delete(cluster, manifest, *US))


def grant(cluster: Cluster, lab: str) -> None:
    """Let `OWNER` write plugin configurations, as APISIX' own roles do."""
    cluster.kubectl(
        "create", "role", "apisix", "-n", lab, "--verb=*", "--resource=apisixpluginconfigs.apisix.apache.org"
    )
    bind(cluster, lab, "Role", "apisix")


@pytest.mark.parametrize("user", [RUNTIME[0], "--as=carol", *(f"--as={cleaner}" for cleaner in CLEANERS)])
def test_the_runtime_and_the_cleaners_may_delete_it(cluster: Cluster, lab: str, user: str) -> None:
    manifest = planned("NetworkPolicy", "closed", lab)
    cluster.api.create(manifest)
    groups = [] if "some-name" in user else ["--as-group=system:masters"]
    accepted(delete(cluster, manifest, user, *groups))


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        pytest.param("NetworkPolicy", "own", {"labels": {}}, id="policy of somebody else"),
        pytest.param("NetworkPolicy", "own", {"annotations": {}}, id="labels inherited"),
        pytest.param("Secret", "other", {}, id="another Secret of ours"),
    ],
)
def test_the_rest_is_nobodys_business(cluster: Cluster, lab: str, kind: str, name: str, change: dict[str, Any]) -> None:
    manifest = planned(kind, name, lab)
    cluster.api.create(manifest | {"metadata": manifest["metadata"] | change})
    accepted(delete(cluster, manifest, *OWNER))


def test_the_namespace_of_a_lab_can_end(cluster: Cluster) -> None:
    lab = lab_namespace(cluster)
    cluster.api.create(planned("NetworkPolicy", "closed", lab))
    cluster.api.create(planned("Secret", f"{lab}-oauth2-client", lab))
    cluster.api.delete("namespace", lab)
    eventually(lambda: cluster.api.get("namespace", lab) is None, 90)


# --- the credentials beside a claim -----------------------------------------------------------------------------------


def storage_credentials(namespace: str, **metadata: Any) -> Manifest:
    """Secret `N-datalab` of claim `any` in this namespace."""
    made = planned("Secret", "any-datalab", namespace, data={"configData": "YQ=="})
    labels = made["metadata"]["labels"] | {CLAIM_NAME: "any", CLAIM_NAMESPACE: namespace}
    return made | {"metadata": made["metadata"] | {"labels": labels} | metadata}


GONE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "11111111-2222-3333-4444-555555555555"}
"""An owner that is not there: the garbage collector deletes what names it."""


def test_only_we_write_the_credentials_beside_a_claim(cluster: Cluster, lab: str) -> None:
    said = "only datalabd writes it: change the Datalab or its storage Secret"
    manifest = storage_credentials(lab)
    refused(create(cluster, manifest, *OWNER, check=False), said)
    accepted(create(cluster, manifest, *US))
    live = read(cluster, "secret", "any-datalab", lab)
    metadata = live["metadata"]
    changes: tuple[Manifest, ...] = (
        {"data": {"configData": "Yg=="}},
        {"data": live["data"] | {"s3-endpoint": "Yg=="}},
        {"immutable": True},
        {"metadata": metadata | {"labels": {}}},
        {"metadata": metadata | {"labels": metadata["labels"] | {CLAIM_NAMESPACE: "other"}}},
        {"metadata": metadata | {"annotations": {}}},
        {"metadata": metadata | {"ownerReferences": [GONE]}},
    )
    for change in changes:
        refused(replace(cluster, live | change, *OWNER), said)
    refused(delete(cluster, manifest, *OWNER), said)
    refused(cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{lab}/secrets", *OWNER, check=False), said)
    for user in (US, ROOT, RUNTIME):
        accepted(replace(cluster, live | changes[0], *user, "--dry-run=server"))
        accepted(delete(cluster, manifest, *user, "--dry-run=server"))
    noted = metadata["annotations"] | {"example.org/seen": "yes"}
    accepted(replace(cluster, live | {"metadata": metadata | {"annotations": noted}}, *OWNER))
    unmarked = planned("Secret", "other-datalab", lab)
    unmarked["metadata"]["labels"] = {}
    refused(create(cluster, unmarked, *OWNER, check=False), said)
    accepted(create(cluster, unmarked, *ROOT))
    other = read(cluster, "secret", "other-datalab", lab)
    accepted(replace(cluster, other | {"data": {"key": "Yg=="}}, *OWNER))  # somebody's who was there before
    accepted(delete(cluster, unmarked, *OWNER))
    cluster.api.delete("namespace", lab)
    eventually(lambda: cluster.api.get("namespace", lab) is None, 90)


def test_only_the_runtime_writes_their_copy_in_the_lab(cluster: Cluster, lab: str) -> None:
    said = "only datalabd writes it: change the Datalab or its storage Secret"
    name = f"{lab}-datalab"
    marks = {"secrets.educates.dev/copier-rule": "secretcopier/a", "secrets.educates.dev/secret-name": f"claims/{name}"}
    labels = {"app.kubernetes.io/managed-by": "datalabd", CLAIM_NAME: lab, CLAIM_NAMESPACE: "claims"}
    copy: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": lab, "annotations": marks},
        "data": {"configData": "YQ=="},
    }
    refused(create(cluster, copy, *OWNER, check=False), said)
    accepted(create(cluster, copy, *COPIER))
    live = read(cluster, "secret", name, lab)
    metadata = live["metadata"]
    changes: tuple[Manifest, ...] = (
        {"data": {"configData": "Yg=="}},
        {"metadata": metadata | {"labels": labels}},
        {"metadata": metadata | {"annotations": marks | {"secrets.educates.dev/copier-rule": "secretcopier/b"}}},
        {"metadata": metadata | {"annotations": marks | {"secrets.educates.dev/secret-name": "else/where"}}},
        {"metadata": metadata | {"ownerReferences": [GONE]}},
    )
    for change in changes:
        refused(replace(cluster, live | change, *OWNER), said)
    refused(delete(cluster, copy, *OWNER), said)
    refused(cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{lab}/secrets", *OWNER, check=False), said)
    noted = metadata["annotations"] | {"example.org/seen": "yes"}
    accepted(replace(cluster, live | {"metadata": metadata | {"annotations": noted}}, *OWNER))
    live = read(cluster, "secret", name, lab)
    # The secrets-manager hands the labels of the source on, and writes the whole of it.
    accepted(replace(cluster, live | changes[0] | {"metadata": live["metadata"] | {"labels": labels}}, *COPIER))
    refused(cluster.kubectl("label", "secret", name, "-n", lab, f"{CLAIM_NAME}-", *OWNER, check=False), said)
    for user in (US, ROOT, COPIER):
        accepted(delete(cluster, copy, *user, "--dry-run=server"))
    cluster.api.delete("namespace", lab)
    eventually(lambda: cluster.api.get("namespace", lab) is None, 90)


def test_a_secret_called_like_a_copy_elsewhere_stays_its_writers(cluster: Cluster, shop: str) -> None:
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{shop}-datalab", "namespace": shop}}
    accepted(create(cluster, own, *ROOT))
    live = read(cluster, "secret", f"{shop}-datalab", shop)
    accepted(replace(cluster, live | {"data": {"key": "Yg=="}}, *OWNER))
    accepted(delete(cluster, own, *OWNER))


# --- where Services of sessions lead ----------------------------------------------------------------------------------

OF_A_SESSION = {"training.educates.dev/component": "session"}
ELSEWHERE: Manifest = {"type": "ExternalName", "externalName": "other-main.other.svc.cluster.local"}


def service(namespace: str, **spec: Any) -> Manifest:
    metadata = {"name": unique("svc"), "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]} | spec}


def addresses(kind: str, namespace: str) -> Manifest:
    """Where a Service without a selector leads, in either way of writing it."""
    metadata: Manifest = {"name": unique("svc"), "namespace": namespace}
    if kind == "Endpoints":
        subsets = [{"addresses": [{"ip": "10.42.0.7"}], "ports": [{"port": 10080}]}]
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "subsets": subsets}
    metadata["labels"] = {"kubernetes.io/service-name": metadata["name"]}
    slice_: Manifest = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.7"]}], "ports": [{"port": 10080}]}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": kind, "metadata": metadata} | slice_


@pytest.fixture
def session(cluster: Cluster) -> str:
    """The namespace of a session, where `OWNER` may write whatever leads somewhere."""
    name = lab_namespace(cluster, **OF_A_SESSION)
    grants = [
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["*"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["*"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "addresses"}}
    create(cluster, role | {"rules": grants}, "-n", name)
    bind(cluster, name, "Role", "addresses")
    return name


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ELSEWHERE, id="another name"),
        pytest.param({"externalIPs": ["10.42.0.7"]}, id="somebody else's address"),
    ],
)
def test_a_service_of_a_session_leads_to_its_own_pods(cluster: Cluster, session: str, spec: Manifest) -> None:
    said = "a Service leads to pods of that namespace"
    refused(create(cluster, service(session, **spec), *OWNER, check=False), said)
    own = service(session, selector={"app": "mine"})
    accepted(create(cluster, own, *OWNER))
    live = read(cluster, "Service", own["metadata"]["name"], session)
    refused(replace(cluster, live | {"spec": live["spec"] | spec}, *OWNER), said)


@pytest.mark.parametrize("kind", ["Endpoints", "EndpointSlice"])
def test_addresses_of_a_session_are_the_control_planes(cluster: Cluster, session: str, kind: str) -> None:
    refused(create(cluster, addresses(kind, session), *OWNER, check=False), "the control plane alone writes addresses")
    for controller in ENDPOINT_CONTROLLERS:
        made = addresses(kind, session)
        accepted(create(cluster, made, f"--as={controller}", "--as-group=system:masters"))


@pytest.mark.parametrize(
    ("user", "made"),
    [
        pytest.param(ROOT, service("", **ELSEWHERE), id="a name, by an administrator"),
        pytest.param(ROOT, addresses("Endpoints", ""), id="addresses, by an administrator"),
        pytest.param(RUNTIME, service("", **ELSEWHERE), id="a name, by the runtime"),
    ],
)
def test_the_platform_leads_where_it_wants(
    cluster: Cluster, session: str, user: tuple[str, ...], made: Manifest
) -> None:
    accepted(create(cluster, made | {"metadata": made["metadata"] | {"namespace": session}}, *user))


MIRROR = {f"{NGINX}/mirror-target": "http://other-main.other.svc.cluster.local:10080$request_uri"}
SAID = "annotations lead a controller nowhere else than to pods of that namespace; leave out "


@pytest.mark.parametrize("kind", ["Ingress", "Service"])
@pytest.mark.parametrize(
    "key",
    [
        f"{NGINX}/mirror-target",
        f"{NGINX}/auth-url",
        f"{NGINX}/configuration-snippet",
        "haproxy-ingress.github.io/auth-url",
        "k8s.apisix.apache.org/auth-uri",
        "getambassador.io/config",
    ],
)
def test_annotations_of_a_session_lead_nowhere_else(cluster: Cluster, session: str, kind: str, key: str) -> None:
    made = ingress(session, "a.example.com") if kind == "Ingress" else service(session, selector={"app": "mine"})
    plain = {f"{NGINX}/proxy-body-size": "1g", "example.org/seen": "yes"}
    bad = plain | {key: "http://other-main.other.svc.cluster.local:10080/"}
    refused(create(cluster, changed(made, annotations=bad), *OWNER, check=False), SAID + key)
    accepted(create(cluster, changed(made, annotations=plain), *OWNER))
    live = read(cluster, kind, made["metadata"]["name"], session)
    refused(replace(cluster, changed(live, annotations=bad), *OWNER), SAID + key)
    for user in (RUNTIME, ROOT):
        accepted(replace(cluster, changed(live, annotations=bad), *user, "--dry-run=server"))


def test_an_ingress_of_a_session_that_leads_elsewhere_since_before(cluster: Cluster, session: str) -> None:
    made = ingress(session, "a.example.com", annotations=MIRROR, finalizers=["example.org/hold"])
    accepted(create(cluster, made, *ROOT))
    live = read(cluster, "ingress", made["metadata"]["name"], session)
    other = {key: f"{value}x" for key, value in MIRROR.items()}
    refused(replace(cluster, changed(live, annotations=other), *OWNER), SAID + next(iter(MIRROR)))
    accepted(replace(cluster, changed(live, annotations={}), *OWNER, "--dry-run=server"))
    accepted(
        replace(cluster, changed(live, annotations=MIRROR | {"example.org/seen": "yes"}), *OWNER, "--dry-run=server")
    )
    accepted(delete(cluster, made, *OWNER))
    live = read(cluster, "ingress", made["metadata"]["name"], session)
    accepted(replace(cluster, changed(live, finalizers=[]), *OWNER))
    assert cluster.api.get("ingress", made["metadata"]["name"], session) is None


def test_services_and_ingresses_of_others_are_theirs(cluster: Cluster, shop: str) -> None:
    accepted(create(cluster, service(shop, **ELSEWHERE), *OWNER))
    accepted(create(cluster, ingress(shop, "shop.example.com", annotations=MIRROR), *OWNER))


# --- hosts of the platform --------------------------------------------------------------------------------------------

SIGN_IN = "takes the right to route environmentconfigs.pkg.internal"


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> str:
    """A namespace that is no lab's, where `OWNER` is an administrator and may write routes of all kinds."""
    bind(cluster, namespace, "ClusterRole", "admin")
    groups = ("gateway.networking.k8s.io", "apisix.apache.org", "traefik.io", "projectcontour.io")
    rules = [{"apiGroups": list(groups), "resources": ["*"], "verbs": ["*"]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "routes"},
        "rules": rules,
    }
    create(cluster, role, "-n", namespace)
    bind(cluster, namespace, "Role", "routes")
    return namespace


KINDS = ["Ingress", "HTTPRoute", "GRPCRoute", "TLSRoute", "ApisixRoute", "IngressRoute", "IngressRouteTCP", "HTTPProxy"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("host", "taken"),
    [(f"auth.{DOMAIN}", True), (DOMAIN, True), (f"shop.{DOMAIN}", False), ("shop.example.com", False)],
)
def test_where_people_sign_in_is_the_platforms(cluster: Cluster, shop: str, kind: str, host: str, taken: bool) -> None:
    answer = create(cluster, route(kind, shop, host), *OWNER, "--dry-run=server", check=False)
    if taken:
        refused(answer, SIGN_IN)
    else:
        accepted(answer)
    for user in (GATEWAY if kind == "Ingress" else ROOT, ROOT):
        accepted(create(cluster, route(kind, shop, host), *user, "--dry-run=server", check=False))


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        pytest.param("IngressRoute", f"auth.{DOMAIN}.", id="Traefik, dot at the end"),
        pytest.param("IngressRouteTCP", f"AUTH.{DOMAIN}.", id="Traefik, case and dot"),
        pytest.param("ApisixRoute", f"*{DOMAIN}", id="APISIX, star without a dot"),
        pytest.param("ApisixRoute", "*licies.example.org", id="APISIX, star within a label"),
        pytest.param("HTTPRoute", f"auth.{DOMAIN}.", id="Gateway API, dot at the end"),
        pytest.param("HTTPProxy", f"auth.{DOMAIN}:443", id="Contour, port"),
        pytest.param("HTTPProxy", f"ａuth.{DOMAIN}", id="what CEL cannot read"),
    ],
)
def test_every_spelling_of_a_host_of_the_platform(cluster: Cluster, shop: str, kind: str, host: str) -> None:
    refused(create(cluster, route(kind, shop, host), *OWNER, "--dry-run=server", check=False), SIGN_IN)


@pytest.mark.parametrize(
    ("key", "alias", "taken"),
    [
        pytest.param(f"{NGINX}/server-alias", "www.example.com", False, id="elsewhere"),
        pytest.param(f"{NGINX}/server-alias", f"a.org, auth.{DOMAIN}.", True, id="the login page"),
        pytest.param(f"{NGINX}/server-alias", f".{DOMAIN}", True, id="leading dot"),
        pytest.param(f"{NGINX}/server-alias", "~.*", True, id="pattern"),
        pytest.param("haproxy-ingress.github.io/server-alias", f"auth.{DOMAIN}", True, id="HAProxy"),
        pytest.param("haproxy-ingress.github.io/redirect-from", "b.org", False, id="HAProxy, elsewhere"),
        pytest.param("haproxy-ingress.github.io/server-alias-regex", "^b$", True, id="HAProxy, pattern"),
    ],
)
def test_aliases_that_cover_hosts_of_the_platform(
    cluster: Cluster, shop: str, key: str, alias: str, taken: bool
) -> None:
    manifest = ingress(shop, "shop.example.com", annotations={key: alias})
    answer = create(cluster, manifest, *OWNER, "--dry-run=server", check=False)
    if taken:
        refused(answer, SIGN_IN)
    else:
        accepted(answer)


@pytest.mark.parametrize("host", ["*.policies.example.org", "*.example.org", ""])
def test_hosts_that_cover_those_of_the_platform(cluster: Cluster, shop: str, host: str) -> None:
    refused(create(cluster, ingress(shop, host), *OWNER, "--dry-run=server", check=False), SIGN_IN)


def test_a_redirect_from_www_leads_to_no_host_of_the_platform(cluster: Cluster, shop: str) -> None:
    redirects = {f"{NGINX}/from-to-www-redirect": "true"}
    manifest = ingress(shop, f"www.auth.{DOMAIN}")
    refused(create(cluster, changed(manifest, annotations=redirects), *OWNER, "--dry-run=server", check=False), SIGN_IN)
    accepted(create(cluster, manifest, *OWNER))
    live = read(cluster, "ingress", manifest["metadata"]["name"], shop)
    refused(replace(cluster, changed(live, annotations=redirects), *OWNER), SIGN_IN)
    elsewhere = changed(ingress(shop, "www.example.com"), annotations=redirects)
    accepted(create(cluster, elsewhere, *OWNER, "--dry-run=server"))


def test_a_route_that_was_there_before_can_be_finalized(cluster: Cluster, shop: str) -> None:
    manifest = ingress(shop, f"auth.{DOMAIN}", finalizers=["example.org/hold"])
    create(cluster, manifest, *ROOT)
    name = manifest["metadata"]["name"]
    live = read(cluster, "ingress", name, shop)
    further = changed(live, spec={"rules": [*live["spec"]["rules"], {"host": "a.example.com"}]})
    refused(replace(cluster, further, *OWNER), SIGN_IN)
    accepted(replace(cluster, changed(live, finalizers=[]), *OWNER))


@pytest.mark.parametrize(
    ("host", "key", "said"),
    [
        pytest.param(f"shop.{DOMAIN}", "server-snippet", "could open every lab", id="server"),
        pytest.param(f"shop.{DOMAIN}", "configuration-snippet", "could open every lab", id="location"),
        pytest.param(f"shop.{DOMAIN}", "auth-snippet", "could open every lab", id="auth"),
        pytest.param(f"shop.{DOMAIN}", "stream-snippet", "could open every lab", id="stream"),
        pytest.param(f"shop.{DOMAIN}", "modsecurity-snippet", "could open every lab", id="modsecurity"),
        pytest.param(f"shop.{DOMAIN}", "nginx.org/server-snippets", "could open every lab", id="nginx.org"),
        pytest.param(f"shop.{DOMAIN}", "nginx.org/location-snippets", "could open every lab", id="nginx.org, location"),
        pytest.param(
            f"shop.{DOMAIN}", "haproxy-ingress.github.io/config-backend", "could open every lab", id="HAProxy"
        ),
        pytest.param(f"shop.{DOMAIN}", "haproxy.org/backend-config-snippet", "could open every lab", id="haproxy.org"),
        pytest.param(f"shop.{DOMAIN}", "nginx.org/proxy-read-timeout", "", id="nginx.org, no snippet"),
        pytest.param(f"shop.{DOMAIN}", "proxy-body-size", "", id="no snippet"),
        pytest.param("shop.example.com", "server-snippet", "", id="elsewhere"),
    ],
)
def test_snippets_below_a_labs_domain(cluster: Cluster, shop: str, host: str, key: str, said: str) -> None:
    manifest = ingress(shop, host, annotations={key if "/" in key else f"{NGINX}/{key}": "x"})
    answer = create(cluster, manifest, *OWNER, "--dry-run=server", check=False)
    if said:
        refused(answer, said)
    else:
        accepted(answer)
    accepted(create(cluster, manifest, *GATEWAY, "--dry-run=server", check=False))


@pytest.mark.parametrize("name", POLICIES)
def test_the_api_server_has_nothing_to_say_against_the_policy(cluster: Cluster, name: str) -> None:
    def checked() -> Manifest | None:
        live: Manifest = json.loads(cluster.kubectl("get", "validatingadmissionpolicy", name, "-o", "json").stdout)
        status: Manifest = live.get("status") or {}
        return status if status.get("observedGeneration") == live["metadata"]["generation"] else None

    assert eventually(checked)["typeChecking"] == {}
