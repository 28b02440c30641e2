"""Names that no lab may have for its namespaces, hosts and Keycloak client, as the platform has them or may have.

They are compared with every name that a claim derives: lab `istio` may have no session `system`.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Problem, shorten
from datalabd.api.v1beta2 import DatalabSpec

RESERVED: dict[str, tuple[str, ...]] = {
    "Kubernetes and its distributions": (
        *("default", "kube", "kube-*", "kubernetes", "kubernetes-dashboard", "openshift", "openshift-*", "cattle-*"),
        *("rancher", "fleet-*", "gke-*", "gmp-*", "aks-*", "amazon-*", "azure-*", "tigera-*", "calico-*", "cilium*"),
        *("metallb-system", "local-path-storage", "node-feature-discovery", "gpu-operator", "capi-*"),
    ),
    "what labs are made with": (
        *("datalabd", "datalabd-*", "pkg-internal", "pkg-internal-*", "educates", "educates-*", "crossplane"),
        *("crossplane-system", "postgres-operator", "pgo", "mongodb-operator", "redis-operator", "qdrant-operator"),
        *("cnpg-system", "csi-rclone"),
    ),
    "what runs the platform": (
        *("argo", "argocd", "argo-cd", "argo-events", "argo-rollouts", "argo-workflows", "flux", "flux-system"),
        *("tekton-pipelines", "cert-manager", "external-dns", "external-secrets", "sealed-secrets", "vault", "kyverno"),
        *("gatekeeper-system", "opa", "velero", "keda", "knative-serving", "knative-eventing", "dapr-system"),
        *("rook-ceph", "longhorn-system", "openebs", "minio", "minio-operator", "harbor", "gitlab", "gitea"),
    ),
    "who lets requests in": (
        *("ingress-nginx", "ingress-apisix", "nginx-ingress", "nginx-gateway", "apisix", "traefik", "projectcontour"),
        *("haproxy-controller", "kong", "istio-system", "istio-ingress", "istio-gateway", "istio-operator"),
        *("linkerd", "linkerd-viz", "linkerd-jaeger", "envoy-gateway-system", "gateway", "gateway-system"),
    ),
    "who watches": (
        *("monitoring", "observability", "logging", "tracing", "prometheus", "alertmanager", "grafana", "loki"),
        *("mimir", "tempo", "jaeger", "kibana", "elastic-system", "opensearch", "opentelemetry", "sentry", "kiali"),
    ),
    "where people sign in, and clients of every Keycloak": (
        *("keycloak", "dex", "auth", "login", "logout", "signin", "sso", "oauth", "oauth2", "oauth2-proxy", "oidc"),
        *("idp", "id", "iam", "identity", "account", "account-console", "accounts", "admin-cli", "broker"),
        *("realm-management", "security-admin-console", "master-realm"),
    ),
    "hosts that people or programs look for": (
        *("www", "admin", "administrator", "root", "api", "app", "apps", "console", "dashboard", "portal", "status"),
        *("support", "help", "billing", "security", "cdn", "static", "assets", "registry", "git", "mail", "webmail"),
        *("smtp", "imap", "pop", "pop3", "mx", "ns", "ns1", "ns2", "dns", "ftp", "autodiscover", "autoconfig"),
        *("wpad", "isatap", "localhost"),
    ),
}
"""By what they are for; `*` at the end stands for any ending. The reference lists them."""
_LISTED = "a reserved name"


def reserved_errors(
    name: str, namespace: str, spec: DatalabSpec, environment: EnvironmentConfig | None
) -> Iterator[tuple[str, FieldError]]:
    """Fields of a claim that make a reserved name, each once, with the part of the lab that it is for.

    The part is empty for the lab as a whole.
    """
    others = () if environment is None else tuple(environment.data.reserved_names)
    namespaces = {namespace: "the claim's own namespace"}
    hosts: dict[str, str] = {}
    if environment is not None:
        # A client of that name would hand out roles by which the platform judges.
        namespaces |= dict.fromkeys(environment.data.iam.extra_audiences, "an audience of the platform")
        namespaces |= dict.fromkeys(_namespaces(environment), "a namespace of the platform")
        hosts = dict.fromkeys(_hosts(environment), "a host of the platform")
    found: dict[str, tuple[str, str, str]] = {}
    derived = names.cluster_names(name, [session.name for session in spec.sessions], list(spec.databases))
    for (kind, made), path, part in derived:
        owner = namespaces.get(made) if kind == "namespace" else hosts.get(made) if kind == "host" else None
        if owner is not None and (path not in found or found[path][2] == _LISTED):
            found[path] = part, made, owner
        elif kind != "group" and path not in found and is_reserved(made, others):  # the client is called as the lab is
            found[path] = part, made, _LISTED
    for path, (part, made, owner) in found.items():
        yield part, FieldError(path, Problem.INVALID, shorten(made), f"is {owner}; choose another name")


def is_reserved(name: str, others: Iterable[str] = ()) -> bool:
    """Whether a name is reserved by the list above, or by these patterns."""
    return _pattern(tuple(others)).fullmatch(name) is not None


@lru_cache(maxsize=64)
def _pattern(others: tuple[str, ...]) -> re.Pattern[str]:
    known = (*(pattern for group in RESERVED.values() for pattern in group), *others)
    return re.compile("|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in known))


def _namespaces(environment: EnvironmentConfig) -> Iterator[str]:
    data = environment.data
    references = (data.iam.admin_secret, data.iam.ca_secret)
    mentioned = [data.storage.secret_namespace, data.database.gateway.parent_namespace]
    mentioned += [reference.namespace for reference in references if reference is not None]
    mentioned += [peer.namespace for peer in data.network.internal_egress]
    yield from (namespace for namespace in mentioned if namespace)


def _hosts(environment: EnvironmentConfig) -> Iterator[str]:
    """Leftmost labels of the platform's own hosts directly below the domain of the labs."""
    for host in sorted(environment.data.hosts):
        label, _, rest = host.partition(".")
        if rest == environment.data.ingress.domain:
            yield label
