"""Ingresses as Educates, operators and session users make them, while labs are protected by nginx and oauth2-proxy."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import PROTECTION, Manifest
from hack.cluster import Cluster
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import Answer, claim, create, environment, read, replace, unique
from tests.integration.routes import install_route_kinds, route

pytestmark = pytest.mark.cluster

NGINX = "nginx.ingress.kubernetes.io"
DOMAIN = "ingress-nginx.example.org"
PROTECTED = "ingress-nginx"
BACKEND = {"service": {"name": "any", "port": {"number": 80}}}
CALLS = 'datalabd_webhook_requests_total{code="200",webhook="validate-routes"}'
WANTED = {
    f"{NGINX}/auth-url": f"https://auth.{DOMAIN}/oauth2/auth",
    f"{NGINX}/auth-signin": f"https://auth.{DOMAIN}/oauth2/start?rd=https://$host$escaped_request_uri",
    f"{NGINX}/auth-response-headers": "X-Auth-Request-User",
    PROTECTION: f"{NGINX}/auth-response-headers,{NGINX}/auth-signin,{NGINX}/auth-url",
}


def rule(host: str | None = None) -> Manifest:
    paths = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}
    return paths if host is None else {"host": host} | paths


def ingress(namespace: str, *hosts: str | None, **more: Any) -> Manifest:
    """An Ingress with a rule for each host; None: a rule for all hosts. `more` are members of its metadata, or spec."""
    spec = {"rules": [rule(host) for host in hosts]} if hosts else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": unique("ing"), "namespace": namespace} | {k: v for k, v in more.items() if k != "spec"},
        "spec": spec | more.get("spec", {}),
    }


def workshop_namespace(cluster: Cluster, name: str) -> None:
    """The namespace that Educates makes for a lab."""
    labels = {"training.educates.dev/component": "environment", "training.educates.dev/environment.name": name}
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def of_session(
    lab: str, session: str, domain: str = DOMAIN, application: str = "workshop", **annotations: str
) -> Manifest:
    """The Ingress that Educates makes for a session, or for its registry."""
    main = f"{lab}-{session}"
    name, hosts = (main, [main, f"editor-{main}", f"{main}-editor"])
    if application == "registry":
        name, hosts = f"{main}-registry", [f"registry-{main}"]
    return ingress(
        lab,
        *(f"{host}.{domain}" for host in hosts),
        name=name,
        labels={
            "training.educates.dev/component": "session",
            "training.educates.dev/application": application,
            "training.educates.dev/environment.name": lab,
            "training.educates.dev/session.name": main,
        },
        annotations={f"{NGINX}/enable-cors": "true"} | annotations,
    )


def annotations(manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = manifest["metadata"].get("annotations", {})
    return found


def tried(cluster: Cluster, manifest: Manifest, *options: str) -> Answer:
    return create(cluster, manifest, "--dry-run=server", "-o", "json", *options, check=False)


def accepted(answer: Answer) -> Manifest:
    assert answer.returncode == 0, answer.stderr
    stored: Manifest = json.loads(answer.stdout)
    return stored


def refused(answer: Answer, *said: str) -> None:
    assert answer.returncode != 0, answer.stdout
    for text in said:
        assert text in answer.stderr
    assert "Internal error" not in answer.stderr
    assert "failed calling webhook" not in answer.stderr


@pytest.fixture(scope="module", autouse=True)
def guarded(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """The environment exists, and the API server asks about whatever reaches below its domain."""
    protection = {"type": "nginx", "responseHeaders": ["Authorization", "X-Auth-Request-User"]}
    cluster.api.create(environment(PROTECTED, ingress={"protection": protection}))
    until_guarded(cluster, datalabd, DOMAIN)
    yield
    datalabd.clear()  # it would not let an environment go that claims still use
    cluster.kubectl("delete", "dlenv", PROTECTED)


def until_guarded(cluster: Cluster, datalabd: Daemon, domain: str) -> None:
    """Until the API server asks about hosts below the domain: it reads registrations with a moment's delay."""

    def asked() -> bool:
        before = datalabd.metrics().get(CALLS, 0)
        tried(cluster, ingress("default", f"nobody.{domain}"))
        return datalabd.metrics().get(CALLS, 0) > before

    eventually(asked)


@pytest.fixture(scope="module")
def lab(cluster: Cluster, datalabd: Daemon) -> Iterator[str]:
    """Name of a lab with the sessions `a` and `b`, whose workshop namespace exists."""
    manifest = claim("default", PROTECTED, sessions=[{"name": "a"}, {"name": "b"}], databases={"pg0": DATABASE})
    name = str(manifest["metadata"]["name"])
    cluster.api.create(manifest)
    eventually(lambda: read(cluster, "datalab", name, "default")["metadata"].get("finalizers"))
    workshop_namespace(cluster, name)
    yield name
    cluster.api.delete("datalab", name, "default")
    cluster.api.delete("namespace", name)


DATABASE = {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}


# --- protection -------------------------------------------------------------------------------------------------------


def test_a_session_ingress_is_annotated(cluster: Cluster, lab: str) -> None:
    stored = accepted(tried(cluster, of_session(lab, "a")))
    assert annotations(stored) == WANTED | {f"{NGINX}/enable-cors": "true"}


def test_annotations_it_comes_with_are_corrected(cluster: Cluster, lab: str) -> None:
    stored = accepted(tried(cluster, of_session(lab, "a", **{f"{NGINX}/auth-url": "https://elsewhere.example.com"})))
    assert annotations(stored) == WANTED | {f"{NGINX}/enable-cors": "true"}


def test_an_update_cannot_take_annotations_away(cluster: Cluster, lab: str) -> None:
    manifest = of_session(lab, "a")
    cluster.api.create(manifest)
    name = manifest["metadata"]["name"]
    try:
        cluster.kubectl("annotate", "ingress", name, "-n", lab, *(f"{key}-" for key in WANTED))
        assert annotations(read(cluster, "ingress", name, lab)) == WANTED | {f"{NGINX}/enable-cors": "true"}
    finally:
        cluster.api.delete("ingress", name, lab)


def test_the_ingress_of_a_registry_is_left_alone(cluster: Cluster, lab: str) -> None:
    stored = accepted(tried(cluster, of_session(lab, "a", application="registry")))
    assert annotations(stored) == {f"{NGINX}/enable-cors": "true"}


def test_an_ingress_without_the_labels_is_left_alone(cluster: Cluster, lab: str) -> None:
    stored = accepted(tried(cluster, ingress(lab, f"extra.{DOMAIN}")))
    assert annotations(stored) == {}


def test_another_user_of_educates_is_left_alone(cluster: Cluster) -> None:
    name = unique("course")
    workshop_namespace(cluster, name)
    stored = accepted(tried(cluster, of_session(name, "a", domain="courses.example.org")))
    assert annotations(stored) == {f"{NGINX}/enable-cors": "true"}
    cluster.api.delete("namespace", name)


def test_an_environment_that_cannot_be_read_opens_nothing(cluster: Cluster, datalabd: Daemon) -> None:
    broken = unique("ingress-broken")
    datalabd.stop()
    create(cluster, environment(broken, network={"blacklistIPs": ["here"]}))  # which only we would refuse
    datalabd.start()
    manifest = claim("default", broken, sessions=[{"name": "a"}])
    name = manifest["metadata"]["name"]
    cluster.api.create(manifest)
    workshop_namespace(cluster, name)

    def refusal() -> Answer | None:
        answer = tried(cluster, of_session(name, "a", domain=f"{broken}.example.org"))
        return answer if answer.returncode else None

    answer = eventually(refusal)
    refused(answer, "metadata.annotations", "the lab's environment cannot be read", "must be a network")
    until_guarded(cluster, datalabd, f"{broken}.example.org")
    refused(tried(cluster, ingress("default", f"{name}-a.{broken}.example.org")), "this host belongs to a lab")
    cluster.api.delete("datalab", name, "default")
    eventually(lambda: cluster.kubectl("delete", "dlenv", broken, check=False).returncode == 0)
    cluster.api.delete("namespace", name)


# --- guard ------------------------------------------------------------------------------------------------------------

ALIAS = f"{NGINX}/server-alias"
WWW_REDIRECT = f"{NGINX}/from-to-www-redirect"
HAPROXY = "haproxy-ingress.github.io/server-alias"


@pytest.mark.parametrize(
    ("hosts", "more", "field"),
    [
        pytest.param(["{lab}-a.{domain}"], {}, "spec.rules[0].host", id="host of a session"),
        pytest.param(["shop.example.com", "{lab}-b.{domain}"], {}, "spec.rules[1].host", id="second rule"),
        pytest.param(["editor-{lab}-a.{domain}"], {}, "spec.rules[0].host", id="host of an editor"),
        pytest.param(["data-{lab}-a.{domain}"], {}, "spec.rules[0].host", id="host of a data browser"),
        pytest.param(["registry-{lab}-a.{domain}"], {}, "spec.rules[0].host", id="host of a registry"),
        pytest.param(["pg0-{lab}.{domain}"], {}, "spec.rules[0].host", id="host of a database server"),
        pytest.param(["{lab}.{domain}"], {}, "spec.rules[0].host", id="host of the lab"),
        pytest.param(["*.{domain}"], {}, "spec.rules[0].host", id="wildcard"),
        pytest.param(["*.example.org"], {}, "spec.rules[0].host", id="wildcard above the domain"),
        pytest.param(["*.org"], {}, "spec.rules[0].host", id="wildcard far above the domain"),
        pytest.param([None], {}, "spec.rules[0].host", id="no host"),
        pytest.param([""], {}, "spec.rules[0].host", id="empty host"),
        pytest.param([], {"spec": {"defaultBackend": BACKEND}}, "spec.defaultBackend", id="default backend"),
        pytest.param(
            ["shop.example.com"], {"spec": {"defaultBackend": BACKEND}}, "spec.defaultBackend", id="rule and default"
        ),
        pytest.param(["shop.example.com"], {"annotations": {ALIAS: "a.b, {lab}-a.{domain}"}}, f"[{ALIAS}]", id="alias"),
        pytest.param(
            ["shop.example.com"], {"annotations": {ALIAS: r"~^.*\.example\.org$"}}, f"[{ALIAS}]", id="alias by pattern"
        ),
        pytest.param(
            ["shop.example.com"], {"annotations": {ALIAS: "*.{domain}"}}, f"[{ALIAS}]", id="alias with wildcard"
        ),
        pytest.param(
            ["www.{lab}-a.{domain}"], {"annotations": {WWW_REDIRECT: "true"}}, f"[{WWW_REDIRECT}]", id="redirect of www"
        ),
        pytest.param(
            ["{lab}-a.{domain}"], {"annotations": {f"{NGINX}/canary": "true"}}, "spec.rules[0].host", id="canary"
        ),
    ],
)
def test_an_ingress_elsewhere_may_not_reach_a_lab(
    cluster: Cluster, lab: str, namespace: str, hosts: list[str | None], more: dict[str, Any], field: str
) -> None:
    def filled(text: str) -> str:
        return text.replace("{lab}", lab).replace("{domain}", DOMAIN)

    if "annotations" in more:
        more = {"annotations": {key: filled(value) for key, value in more["annotations"].items()}}
    manifest = ingress(namespace, *(None if host is None else filled(host) for host in hosts), **more)
    refused(tried(cluster, manifest), field, "this host belongs to a lab")


@pytest.fixture(scope="module")
def routes_known(cluster: Cluster) -> None:
    install_route_kinds(cluster)


KINDS = ["HTTPRoute", "GRPCRoute", "TLSRoute", "ApisixRoute", "IngressRoute", "IngressRouteTCP", "HTTPProxy"]


@pytest.mark.usefixtures("routes_known")
@pytest.mark.parametrize("kind", KINDS)
def test_a_route_of_any_kind_may_not_reach_a_lab(
    cluster: Cluster, datalabd: Daemon, lab: str, namespace: str, kind: str
) -> None:
    def asked(*hosts: str, place: str = namespace) -> Answer:
        before = datalabd.metrics()[CALLS]
        answer = tried(cluster, route(kind, place, *hosts))
        assert datalabd.metrics()[CALLS] > before
        return answer

    refused(asked(f"{lab}-a.{DOMAIN}"), "this host belongs to a lab")
    refused(asked(f"{lab}-a.{DOMAIN}", place=lab), "this host belongs to a lab")
    if kind not in ("IngressRoute", "IngressRouteTCP"):  # they know no wildcards
        refused(asked("*.example.org"), "this host belongs to a lab")
    if kind not in ("HTTPProxy", "TLSRoute"):  # without a host one is a part of another, and the other is invalid
        refused(asked(), "this host belongs to a lab")
    accepted(asked(f"shop.{DOMAIN}"))
    refused(tried(cluster, route(kind, namespace, f"shop.{DOMAIN}"), *ANN), RESERVED)
    before = datalabd.metrics()[CALLS]
    accepted(tried(cluster, route(kind, namespace, "shop.example.com")))
    assert datalabd.metrics()[CALLS] == before


@pytest.mark.usefixtures("routes_known")
def test_the_route_to_a_database_is_the_labs_own(cluster: Cluster, lab: str, namespace: str) -> None:
    accepted(tried(cluster, route("TLSRoute", lab, f"pg0-{lab}.{DOMAIN}")))
    refused(tried(cluster, route("TLSRoute", namespace, f"pg0-{lab}.{DOMAIN}")), "this host belongs to a lab")


@pytest.mark.usefixtures("routes_known")
@pytest.mark.parametrize(
    ("rule", "reaches"),
    [
        pytest.param("Host(`shop.example.com`) || PathPrefix(`/`)", True, id="or anything"),
        pytest.param("!Host(`shop.example.com`)", True, id="all but one"),
        pytest.param(r"HostRegexp(`^.+\.ingress-nginx\.example\.org$`)", True, id="pattern below the domain"),
        pytest.param(r"HostRegexp(`^.+\.example\.com$`)", False, id="pattern elsewhere"),
        pytest.param("HostRegexp(`.+`)", True, id="pattern of anything"),
        pytest.param("(Host(`a.example.com`) || Host(`b.example.com`)) && PathPrefix(`/`)", False, id="two elsewhere"),
        pytest.param("Host(", True, id="no rule"),
    ],
)
def test_rules_of_traefik(cluster: Cluster, lab: str, namespace: str, rule: str, reaches: bool) -> None:
    manifest = route("IngressRoute", namespace, "a.example.com")
    answer = tried(cluster, manifest | {"spec": {"routes": [{"match": rule}]}})
    if reaches:
        refused(answer, "spec.routes[0].match", "this host belongs to a lab")
    else:
        accepted(answer)


@pytest.mark.usefixtures("lab")
def test_more_rules_than_conditions_may_look_at_are_asked_about(
    cluster: Cluster, datalabd: Daemon, namespace: str
) -> None:
    hosts = [f"{number}.example.com" for number in range(400)]
    before = datalabd.metrics()[CALLS]
    accepted(tried(cluster, ingress(namespace, *hosts)))
    assert datalabd.metrics()[CALLS] > before
    refused(
        tried(cluster, ingress(namespace, *hosts, *(f"{number}.example.net" for number in range(400)))), "divide it"
    )


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        pytest.param({f"{NGINX}/configuration-snippet": "x"}, "would change who comes in", id="snippet"),
        pytest.param({f"{NGINX}/satisfy": "any"}, "would change who comes in", id="satisfy"),
    ],
)
def test_a_session_ingress_that_undoes_its_protection_is_refused(
    cluster: Cluster, lab: str, annotation: dict[str, str], said: str
) -> None:
    refused(tried(cluster, of_session(lab, "a", **annotation)), said)


def test_an_ingress_that_nobody_would_protect_is_refused_in_the_lab_too(cluster: Cluster, lab: str) -> None:
    refused(tried(cluster, ingress(lab, f"{lab}-a.{DOMAIN}")), "this host belongs to a lab")


def test_the_session_of_another_lab_may_not_reach_a_lab(cluster: Cluster, lab: str) -> None:
    other = claim("default", PROTECTED, sessions=[{"name": "a"}])
    name = other["metadata"]["name"]
    cluster.api.create(other)
    eventually(lambda: read(cluster, "datalab", name, "default")["metadata"].get("finalizers"))
    workshop_namespace(cluster, name)
    manifest = of_session(name, "a")
    manifest["spec"]["rules"].append(rule(f"{lab}-a.{DOMAIN}"))
    refused(tried(cluster, manifest), "spec.rules[3].host")
    cluster.api.delete("datalab", name, "default")
    cluster.api.delete("namespace", name)


@pytest.mark.parametrize(
    ("hosts", "more"),
    [
        pytest.param(["shop.{domain}"], {}, id="below the domain"),
        pytest.param(["{lab}-c.{domain}"], {}, id="session that does not exist"),
        pytest.param(["{lab}-a.example.com"], {}, id="lab's name below another domain"),
        pytest.param(["*.shop.{domain}"], {}, id="wildcard below it"),
        pytest.param(["shop.example.com"], {"annotations": {ALIAS: "www.example.com"}}, id="alias of one's own"),
    ],
)
def test_an_ingress_that_reaches_no_lab(
    cluster: Cluster, lab: str, namespace: str, hosts: list[str], more: dict[str, Any]
) -> None:
    manifest = ingress(namespace, *(host.replace("{lab}", lab).replace("{domain}", DOMAIN) for host in hosts), **more)
    sent = manifest["spec"], annotations(manifest)
    stored = accepted(tried(cluster, manifest))
    assert (stored["spec"], annotations(stored)) == sent


def test_an_ingress_older_than_the_lab_can_be_changed_but_reach_no_further(
    cluster: Cluster, datalabd: Daemon, namespace: str
) -> None:
    manifest = claim("default", PROTECTED, sessions=[{"name": "a"}, {"name": "b"}])
    name = manifest["metadata"]["name"]
    older = ingress(namespace, f"{name}.{DOMAIN}", finalizers=["example.org/hold"])
    cluster.api.create(older)
    cluster.api.create(manifest)
    eventually(lambda: read(cluster, "datalab", name, "default")["metadata"].get("finalizers"))

    live = read(cluster, "ingress", older["metadata"]["name"], namespace)
    further = live | {"spec": {"rules": [*live["spec"]["rules"], rule(f"{name}-b.{DOMAIN}")]}}
    refused(replace(cluster, further), "spec.rules[1].host")
    relabelled = live | {"metadata": live["metadata"] | {"labels": {"a": "b"}}}
    assert replace(cluster, relabelled).returncode == 0
    cluster.api.delete("ingress", older["metadata"]["name"], namespace)
    patch = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", "ingress", older["metadata"]["name"], "-n", namespace, "--type=merge", "-p", patch)
    cluster.api.delete("datalab", name, "default")


# --- free names below the domain --------------------------------------------------------------------------------------

RESERVED = "it lies below the domain of labs"
SIGN_IN = "it answers for a host where people sign in"
ANN = ("--as=ann",)
"""A tenant: she may write routes of all kinds everywhere, and nothing else."""
ROUTER = ("--as=system:serviceaccount:cert-manager:cert-manager",)
"""As she, and may route environments."""
RUNTIME = ("--as=system:serviceaccount:educates:session-manager",)
"""As she, and may create WorkshopSessions."""
_MAY = {
    "routes": (
        [ANN, ROUTER, RUNTIME],
        {
            "apiGroups": [
                "networking.k8s.io",
                "gateway.networking.k8s.io",
                "apisix.apache.org",
                "traefik.io",
                "projectcontour.io",
            ],
            "resources": ["*"],
            "verbs": ["*"],
        },
    ),
    "route": ([ROUTER], {"apiGroups": ["pkg.internal"], "resources": ["environmentconfigs"], "verbs": ["route"]}),
    "sessions": (
        [RUNTIME],
        {"apiGroups": ["training.educates.dev"], "resources": ["workshopsessions"], "verbs": ["create"]},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def writers(cluster: Cluster) -> Iterator[None]:
    """What those may who write routes here."""
    api = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    for name, (users, rule) in _MAY.items():
        metadata = {"name": f"writers-{name}"}
        cluster.api.create(api | {"kind": "ClusterRole", "metadata": metadata, "rules": [rule]})
        binding = {
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.removeprefix("--as=")}
                for (user,) in users
            ],
        }
        cluster.api.create(api | binding)
    yield
    for name in _MAY:
        cluster.api.delete("clusterrolebinding", f"writers-{name}")
        cluster.api.delete("clusterrole", f"writers-{name}")


@pytest.mark.parametrize(
    ("user", "free", "labs"),
    [
        pytest.param(ANN, False, False, id="tenant"),
        pytest.param(ROUTER, True, False, id="who may route environments"),
        pytest.param(RUNTIME, True, False, id="who makes sessions"),
        pytest.param((), True, False, id="administrator"),
    ],
)
def test_who_may_have_a_free_name(
    cluster: Cluster, lab: str, namespace: str, user: tuple[str, ...], free: bool, labs: bool
) -> None:
    for host in (f"anything.{DOMAIN}", f"{lab}-second.{DOMAIN}"):
        answer = tried(cluster, ingress(namespace, host), *user)
        if free:
            accepted(answer)
        else:
            refused(answer, "spec.rules[0].host", RESERVED)
    assert (tried(cluster, ingress(namespace, f"{lab}-a.{DOMAIN}"), *user).returncode == 0) is labs
    accepted(tried(cluster, ingress(namespace, "shop.example.com"), *user))


@pytest.mark.usefixtures("routes_known")
@pytest.mark.parametrize(
    ("kind", "host", "said"),
    [
        pytest.param("IngressRoute", "{lab}-a.{domain}.", "this host belongs to a lab", id="Traefik, lab"),
        pytest.param("IngressRoute", "auth.{domain}.", SIGN_IN, id="Traefik, login page"),
        pytest.param("IngressRouteTCP", "pg0-{lab}.{domain}.", "this host belongs to a lab", id="Traefik, database"),
        pytest.param("ApisixRoute", "*example.org", SIGN_IN, id="APISIX, above the domain"),
        pytest.param("ApisixRoute", "*{domain}", SIGN_IN, id="APISIX, the domain"),
        pytest.param("ApisixRoute", "*-a.{domain}", "this host belongs to a lab", id="APISIX, within a label"),
        pytest.param("HTTPRoute", "{lab}-a.{domain}.", "this host belongs to a lab", id="Gateway API, dot at the end"),
        pytest.param("HTTPProxy", "{lab}-A.{domain}:443", "this host belongs to a lab", id="Contour, port and case"),
    ],
)
def test_every_spelling_of_a_host_is_the_host(
    cluster: Cluster, lab: str, namespace: str, kind: str, host: str, said: str
) -> None:
    named = host.replace("{lab}", lab).replace("{domain}", DOMAIN)
    refused(tried(cluster, route(kind, namespace, named), *ANN), said)


def test_a_name_that_was_had_before_stays_and_no_other_comes(cluster: Cluster, namespace: str) -> None:
    older = ingress(namespace, f"older.{DOMAIN}", f"another.{DOMAIN}")
    cluster.api.create(older)
    live = read(cluster, "ingress", older["metadata"]["name"], namespace)
    annotated = live | {"metadata": live["metadata"] | {"annotations": {"a": "b"}}}
    assert replace(cluster, annotated, *ANN).returncode == 0
    assert replace(cluster, live | {"spec": {"rules": [rule(f"another.{DOMAIN}")]}}, *ANN).returncode == 0
    refused(replace(cluster, live | {"spec": {"rules": [rule(f"third.{DOMAIN}")]}}, *ANN), RESERVED)
    refused(replace(cluster, live, *ANN), f"older.{DOMAIN}", RESERVED)
    cluster.api.delete("ingress", older["metadata"]["name"], namespace)


def test_an_environment_opens_names(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    name = unique("ingress-open")
    domain = f"{name}.example.org"
    opening = {"namespaces": [f"{namespace[:-1]}*"], "hosts": [f"*.apps.{domain}"]}
    cluster.api.create(environment(name, ingress={"openTo": opening}))
    until_guarded(cluster, datalabd, domain)
    accepted(tried(cluster, ingress(namespace, f"shop.{domain}"), *ANN))
    refused(tried(cluster, ingress("default", f"shop.{domain}"), *ANN), RESERVED)
    accepted(tried(cluster, ingress("default", f"shop.apps.{domain}", f"*.apps.{domain}"), *ANN))
    manifest = claim("default", name, sessions=[{"name": "a"}])
    lab = manifest["metadata"]["name"]
    cluster.api.create(manifest)
    eventually(lambda: read(cluster, "datalab", lab, "default")["metadata"].get("finalizers"))
    refused(tried(cluster, ingress(namespace, f"{lab}-a.{domain}"), *ANN), "this host belongs to a lab")
    refused(tried(cluster, ingress(namespace, f"{lab}-b.{domain}"), *ANN), RESERVED)
    cluster.api.delete("datalab", lab, "default")
    eventually(lambda: cluster.kubectl("delete", "dlenv", name, check=False).returncode == 0)


# --- who is asked about -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "more", "asked"),
    [
        pytest.param([f"x.{DOMAIN}"], {}, True, id="below the domain"),
        pytest.param([f"x.y.{DOMAIN}"], {}, True, id="deep below the domain"),
        pytest.param([f"*.{DOMAIN}"], {}, True, id="wildcard of the domain"),
        pytest.param(["*.example.org"], {}, True, id="wildcard above the domain"),
        pytest.param(["a.example.com", f"x.{DOMAIN}"], {}, True, id="second rule"),
        pytest.param([None], {}, True, id="rule without a host"),
        pytest.param([], {"spec": {"defaultBackend": BACKEND}}, True, id="default backend alone"),
        pytest.param(["a.example.com"], {"annotations": {ALIAS: "b"}}, False, id="alias elsewhere"),
        pytest.param(["a.example.com"], {"annotations": {ALIAS: f"b, x.{DOMAIN}"}}, True, id="alias below the domain"),
        pytest.param(["a.example.com"], {"annotations": {ALIAS: ".example.org"}}, True, id="alias with a leading dot"),
        pytest.param(["a.example.com"], {"annotations": {ALIAS: "~.*"}}, True, id="alias by pattern"),
        pytest.param(["a.example.com"], {"annotations": {HAPROXY: f"X.{DOMAIN}"}}, True, id="alias of HAProxy"),
        pytest.param(["a.example.com"], {"annotations": {f"{HAPROXY}-regex": "b"}}, True, id="pattern of HAProxy"),
        pytest.param([], {"spec": {"defaultBackend": BACKEND, "rules": []}}, True, id="default backend and no rule"),
        pytest.param(["a.example.com"], {}, False, id="elsewhere"),
        pytest.param([DOMAIN], {}, False, id="the domain itself"),
        pytest.param([DOMAIN], {"annotations": {WWW_REDIRECT: "true"}}, True, id="redirect below the domain"),
        pytest.param([DOMAIN], {"annotations": {WWW_REDIRECT: "false"}}, False, id="no redirect"),
        pytest.param(["www.example.com"], {"annotations": {WWW_REDIRECT: "true"}}, False, id="redirect elsewhere"),
        pytest.param([f"x{DOMAIN}"], {}, False, id="a longer name"),
        pytest.param(["*.example.com"], {}, False, id="wildcard elsewhere"),
        pytest.param(["a.example.com"], {"annotations": {"b": "c"}}, False, id="other annotations"),
        pytest.param(["a.example.com"], {"annotations": {}, "labels": {}}, False, id="empty annotations"),
        pytest.param(
            ["a.example.com"], {"spec": {"tls": [{"hosts": [f"x.{DOMAIN}"]}], "ingressClassName": "a"}}, False, id="tls"
        ),
    ],
)
def test_only_what_may_reach_a_lab_is_asked_about(
    cluster: Cluster,
    datalabd: Daemon,
    namespace: str,
    hosts: list[str | None],
    more: dict[str, Any],
    asked: bool,
) -> None:
    before = datalabd.metrics()[CALLS]
    answer = tried(cluster, ingress(namespace, *hosts, **more))
    assert (datalabd.metrics()[CALLS] > before) is asked
    assert answer.returncode == 0 or "this host belongs to a lab" in answer.stderr


def test_a_new_environment_widens_the_guard(cluster: Cluster, datalabd: Daemon) -> None:
    name = unique("ingress-late")
    cluster.api.create(environment(name))
    until_guarded(cluster, datalabd, f"{name}.example.org")
    cluster.kubectl("delete", "dlenv", name)


def test_an_update_that_changes_nothing_guarded_is_not_asked_about(
    cluster: Cluster, datalabd: Daemon, namespace: str
) -> None:
    older = ingress(namespace, f"held.{DOMAIN}", finalizers=["example.org/hold"])
    cluster.api.create(older)
    name = older["metadata"]["name"]
    before = datalabd.metrics()[CALLS]
    cluster.api.delete("ingress", name, namespace)
    patch = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", "ingress", name, "-n", namespace, "--type=merge", "-p", patch, *ANN)
    assert datalabd.metrics()[CALLS] == before
    assert cluster.api.get("ingress", name, namespace) is None


def test_a_load_balancers_finalizer_goes_when_the_lab_is_gone(cluster: Cluster, datalabd: Daemon) -> None:
    """The namespace is retained, the claim is not: nobody can say any more how the Ingress would be protected."""
    manifest = claim("default", PROTECTED, sessions=[{"name": "a"}])
    name = manifest["metadata"]["name"]
    cluster.api.create(manifest)
    eventually(lambda: read(cluster, "datalab", name, "default")["metadata"].get("finalizers"))
    workshop_namespace(cluster, name)
    made = of_session(name, "a")
    made["metadata"]["finalizers"] = ["ingress.k8s.aws/resources"]
    cluster.api.create(made)
    cluster.kubectl("delete", "datalab", name, "-n", "default")
    cluster.api.delete("ingress", made["metadata"]["name"], name)
    live = read(cluster, "ingress", made["metadata"]["name"], name)
    assert live["metadata"]["deletionTimestamp"]
    noted = live | {"metadata": live["metadata"] | {"annotations": annotations(live) | {"a": "b"}}}
    assert replace(cluster, noted).returncode == 0
    patch = json.dumps([{"op": "remove", "path": "/metadata/finalizers"}])
    cluster.kubectl("patch", "ingress", made["metadata"]["name"], "-n", name, "--type=json", "-p", patch)
    eventually(lambda: cluster.api.get("ingress", made["metadata"]["name"], name) is None)
    cluster.api.delete("namespace", name)


# --- nobody there -----------------------------------------------------------------------------------------------------


@pytest.fixture
def held(cluster: Cluster, namespace: str) -> str:
    """An Ingress below the domain that a finalizer holds."""
    made = ingress(namespace, f"held-{namespace}.{DOMAIN}", finalizers=["example.org/hold"])
    cluster.api.create(made)
    return str(made["metadata"]["name"])


@pytest.fixture
def nobody(request: pytest.FixtureRequest, cluster: Cluster, datalabd: Daemon, lab: str) -> Iterator[None]:
    if "held" in request.fixturenames:
        request.getfixturevalue("held")  # made while somebody says that it may be
    datalabd.kill()
    yield
    datalabd.start()
    until_guarded(cluster, datalabd, DOMAIN)


@pytest.mark.usefixtures("nobody")
def test_a_session_ingress_is_refused_while_nobody_protects_it(cluster: Cluster, lab: str) -> None:
    answer = tried(cluster, of_session(lab, "b"))
    assert answer.returncode != 0
    assert 'failed calling webhook "protect.ingresses.pkg.internal"' in answer.stderr


@pytest.mark.usefixtures("nobody")
def test_an_ingress_below_the_domain_is_refused_while_nobody_guards_it(cluster: Cluster, namespace: str) -> None:
    answer = tried(cluster, ingress(namespace, f"shop.{DOMAIN}"))
    assert answer.returncode != 0
    assert 'failed calling webhook "guard.ingresses.pkg.internal"' in answer.stderr


@pytest.mark.usefixtures("nobody")
def test_a_finalizer_goes_while_nobody_is_there(cluster: Cluster, held: str, namespace: str) -> None:
    patch = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", "ingress", held, "-n", namespace, "--type=merge", "-p", patch)


@pytest.mark.usefixtures("nobody")
def test_an_ingress_elsewhere_passes_while_nobody_is_there(cluster: Cluster, namespace: str) -> None:
    accepted(tried(cluster, ingress(namespace, "shop.example.com")))


@pytest.mark.usefixtures("nobody")
def test_an_ingress_below_the_domain_can_be_deleted_while_nobody_is_there(cluster: Cluster, lab: str) -> None:
    manifest = of_session(lab, "a")
    cluster.kubectl("delete", "ingress", manifest["metadata"]["name"], "-n", lab, "--ignore-not-found")
