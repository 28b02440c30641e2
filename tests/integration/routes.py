"""Routes of every kind, and definitions of those kinds for an API server that has no controllers of them."""

import json

from datalabd.api.meta import Manifest
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.objects import unique

_VERSIONS = {
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
    "GRPCRoute": ("gateway.networking.k8s.io", "v1", "grpcroutes"),
    "TLSRoute": ("gateway.networking.k8s.io", "v1", "tlsroutes"),
    "ApisixRoute": ("apisix.apache.org", "v2", "apisixroutes"),
    "ApisixPluginConfig": ("apisix.apache.org", "v2", "apisixpluginconfigs"),
    "IngressRoute": ("traefik.io", "v1alpha1", "ingressroutes"),
    "IngressRouteTCP": ("traefik.io", "v1alpha1", "ingressroutetcps"),
    "HTTPProxy": ("projectcontour.io", "v1", "httpproxies"),
}
"""By kind: group, version, plural."""
_LEGACY = {"traefik.io": "traefik.containo.us"}
"""Groups by which kinds were known before."""


def install_route_kinds(cluster: Cluster, *kinds: str) -> None:
    """Have the API server serve these kinds, all if none are named, with schemas that take anything.

    What is installed already stays.
    """
    wanted = [(kind, *_VERSIONS[kind]) for kind in kinds or _VERSIONS]
    wanted += [(kind, _LEGACY[group], version, plural) for kind, group, version, plural in wanted if group in _LEGACY]
    for kind, group, version, plural in wanted:
        name = f"{plural}.{group}"
        if cluster.kubectl("get", "crd", name, "--ignore-not-found", "-o", "name").stdout:
            continue
        open_object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": open_object}}}
        # Part of the group is protected: whoever defines its kinds has to say where they come from.
        metadata = {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}}
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": names,
                "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
            },
        }
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(crd))
        cluster.kubectl("wait", f"crd/{name}", "--for=condition=Established", f"--timeout={scaled(60):.0f}s")


def route(kind: str, namespace: str, *hosts: str) -> Manifest:
    """A route of this kind that answers for these hosts; for whatever it can, if none are given."""
    group, version, _ = _VERSIONS.get(kind, ("networking.k8s.io", "v1", ""))
    backend = {"service": {"name": "any", "port": {"number": 80}}}
    paths = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    matcher = "HostSNI" if kind == "IngressRouteTCP" else "Host"
    specs: dict[str, Manifest] = {
        "Ingress": {"rules": [{"host": host} | paths for host in hosts] or [paths]},
        "ApisixRoute": {
            "http": [{"name": "a", "match": {"paths": ["/*"]} | ({"hosts": list(hosts)} if hosts else {})}]
        },
        "TLSRoute": {"hostnames": list(hosts), "rules": [{"backendRefs": [{"name": "any", "port": 5432}]}]},
        "HTTPProxy": {"virtualhost": {"fqdn": hosts[0]} if hosts else {}},
    }
    rules = [{"match": f"{matcher}(`{host}`)"} for host in hosts] or [{"match": "PathPrefix(`/`)"}]
    default = {"routes": rules} if kind.startswith("IngressRoute") else {"hostnames": list(hosts)} if hosts else {}
    return {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": {"name": unique("route"), "namespace": namespace},
        "spec": specs.get(kind, default),
    }
