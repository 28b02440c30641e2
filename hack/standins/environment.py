"""What Educates makes of a WorkshopEnvironment: pure functions."""

import posixpath
import secrets
from dataclasses import dataclass
from typing import Any

import yaml

from datalabd.api.meta import Manifest
from hack.standins.secret_copier import copier

LABEL = "training.educates.dev"
CLUSTER_DOMAIN = "cluster.local"
WORKSHOP_IMAGE = "ghcr.io/educates/educates-base-environment:3.7.1"


@dataclass(frozen=True)
class Settings:
    """What an Educates installation is configured with. An empty ingress secret means Ingresses without TLS."""

    domain: str = "lab.example.org"
    ingress_class: str = "nginx"
    ingress_secret: str = ""
    """TLS Secret in the operator's namespace."""
    protocol: str = "https"
    storage_class: str = ""
    namespace: str = "educates"
    """The operator's own namespace."""


def labels(component: str, environment: Manifest, workshop: str) -> dict[str, str]:
    """The labels of everything generated; portals are not played."""
    return {
        f"{LABEL}/component": component,
        f"{LABEL}/workshop.name": workshop,
        f"{LABEL}/portal.name": "",
        f"{LABEL}/portal.uid": "",
        f"{LABEL}/environment.name": environment["metadata"]["name"],
        f"{LABEL}/environment.uid": environment["metadata"]["uid"],
    }


def namespace(name: str, inherited: dict[str, str], policy: str) -> Manifest:
    """A namespace under a pod security policy."""
    own = {
        f"{LABEL}/policy.engine": "pod-security-standards",
        f"{LABEL}/policy.name": policy,
        "pod-security.kubernetes.io/enforce": policy,
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": inherited | own}}


def variables(environment: Manifest, workshop: str, spec: Manifest, settings: Settings) -> dict[str, str]:
    """What environment objects may refer to."""
    name = environment["metadata"]["name"]
    image = spec.get("workshop", {}).get("image") or WORKSHOP_IMAGE
    registry = environment["spec"].get("registry") or {}
    repository = "/".join(filter(None, [registry.get("host"), registry.get("namespace")]))
    return {
        "environment_name": name,
        "workshop_namespace": name,
        "workshop_name": workshop,
        "workshop_version": str(spec.get("version") or "latest"),
        "workshop_image": image,
        "image_repository": repository or f"registry.default.svc.{CLUSTER_DOMAIN}",
        "oci_image_cache": f"{name}-image-cache.{name}.svc.{CLUSTER_DOMAIN}",
        "assets_repository": f"{name}-assets.{name}.svc.{CLUSTER_DOMAIN}",
        "platform_arch": "amd64",
        "cluster_domain": CLUSTER_DOMAIN,
        "ingress_domain": settings.domain,
        "ingress_protocol": settings.protocol,
        "ingress_port": "443" if settings.protocol == "https" else "80",
        "ingress_port_suffix": "",
        "ingress_secret": settings.ingress_secret,
        "ingress_class": settings.ingress_class,
        "storage_class": settings.storage_class,
        "training_portal": "",
        "service_account": "educates-services",
        "workshop_environment_uid": environment["metadata"]["uid"],
        "environment_token": environment["spec"].get("request", {}).get("token") or secrets.token_hex(16),
    }


def children(environment: Manifest, workshop: str, spec: Manifest, settings: Settings) -> list[Manifest]:
    """What stands in the workshop namespace before the objects of the Workshop, in order of creation."""
    name = environment["metadata"]["name"]
    certificate = [{"name": settings.ingress_secret, "namespace": settings.namespace}]
    theme = (environment["spec"].get("theme") or {}).get("name")
    listed = {
        "ingress-secret": certificate if settings.ingress_secret else [],
        "workshop-secrets": secrets_of(spec, workshop),
        "environment-secrets": secrets_of(environment["spec"], workshop),
        "website-theme": [{"name": theme, "namespace": settings.namespace, "as": "workshop-theme"}] if theme else [],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "workshop-config", "namespace": name},
            "stringData": workshop_config(spec),
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "educates-services", "namespace": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"educates-web-console-{name}"},
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]}],
        },
        *(copier(f"educates-{kind}-{name}", items, name) for kind, items in listed.items()),
    ]


def secrets_of(spec: Manifest, workshop: str) -> list[Manifest]:
    """The Secrets that a Workshop or an environment wants copied; their names know one variable."""
    return [
        item | {"name": item["name"].replace("$(workshop_name)", workshop)}
        for item in (spec.get("environment") or {}).get("secrets") or []
    ]


def secret_names(environment: Manifest, settings: Settings) -> list[str]:
    """The Secrets that must be in the workshop namespace before a session may start."""
    workshop = environment["status"]["educates"]["workshop"]
    listed = [*secrets_of(workshop["spec"], workshop["name"]), *secrets_of(environment["spec"], workshop["name"])]
    return [item["name"] for item in listed] + ([settings.ingress_secret] if settings.ingress_secret else [])


def workshop_config(spec: Manifest) -> dict[str, str]:
    """The keys of Secret `workshop-config`: what the session's dashboard and downloads are configured with."""
    session = spec.get("session") or {}
    shown: Manifest = {"applications": session.get("applications") or {}}
    shown |= {key: session.get(key) or [] for key in ("ingresses", "dashboards")}
    said = {key: spec.get(key, "") for key in ("title", "description")} | {"version": spec.get("version", "latest")}
    content = spec.get("workshop") or {}
    config = {"workshop.yaml": yaml.safe_dump({"spec": said | {"session": shown}})}
    for index, source in enumerate(content.get("files") or [], start=1):
        where = posixpath.normpath(posixpath.join("/opt/assets/files", source.get("path", ".")))
        config[f"vendir-assets-{index:02}.yaml"] = _vendir([(where, [source | {"path": "."}])])
    if packages := content.get("packages"):
        config["vendir-packages.yaml"] = _vendir([(f"/opt/packages/{p['name']}", p["files"]) for p in packages])
    return config


def _vendir(directories: list[tuple[str, list[Any]]]) -> str:
    listed = [{"path": path, "contents": contents} for path, contents in directories]
    return yaml.safe_dump({"apiVersion": "vendir.k14s.io/v1alpha1", "kind": "Config", "directories": listed})
