"""The data component: object storage mounted into a small file browser, one per session, shown as a dashboard tab."""

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab

IMAGE = "ghcr.io/versioneer-tech/package-r:v2026.6.5"
PORT = 8888
NAME = "data-$(session_name)"
RESOURCES: Manifest = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}

# A FUSE mount whose server died answers every call with this error until the pod is replaced; anything else that
# fails may pass by itself.
_LIVENESS = (
    'out="$( (stat /workspace >/dev/null) 2>&1 || true )"; if echo "$out" | grep -qi '
    '"Transport endpoint is not connected"; then exit 1; fi; exit 0'
)

DASHBOARD: Manifest = {"name": "Data", "url": "$(ingress_protocol)://data-$(session_name).$(ingress_domain)/"}
INGRESS: Manifest = {
    "name": "data",
    "protocol": "http",
    "host": "data-$(session_name).$(workshop_namespace).svc.$(cluster_domain)",
    "port": PORT,
}


def session_objects(lab: Lab) -> list[Manifest]:
    """Deployment and Service, with the runtime's variables left for it to fill in."""
    return [_deployment(lab), _service()]


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/instance": NAME, "app.kubernetes.io/name": "data"}


def _metadata() -> Manifest:
    return {"name": NAME, "namespace": "$(workshop_namespace)"}


def _service() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(),
        "spec": {
            "type": "ClusterIP",
            "selector": _labels(),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _deployment(lab: Lab) -> Manifest:
    component = lab.environment.data.components.data
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata() | {"labels": _labels()},
        "spec": {
            "replicas": component.replicas or 1,
            "selector": {"matchLabels": _labels()},
            "template": {
                "metadata": {"labels": _labels()},
                "spec": {
                    "serviceAccountName": "$(service_account)",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "runAsGroup": 100,
                        "fsGroup": 100,
                        "fsGroupChangePolicy": "OnRootMismatch",
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(lab)],
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": names.credentials(lab.name)}},
                        {"name": "db", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def _container(lab: Lab) -> Manifest:
    component = lab.environment.data.components.data
    return {
        "name": "data",
        "image": component.image or IMAGE,
        "imagePullPolicy": "Always",
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": _env(lab),
        "resources": component.resources or RESOURCES,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/workspace", "readOnly": lab.claim.spec.data.read_only_mount},
            {"name": "db", "mountPath": "/db"},
        ],
        "readinessProbe": {"exec": {"command": ["/bin/sh", "-lc", "stat /workspace >/dev/null"]}, "periodSeconds": 10},
        "livenessProbe": {"exec": {"command": ["/bin/sh", "-lc", _LIVENESS]}, "periodSeconds": 20},
    }


def _env(lab: Lab) -> list[Manifest]:
    read_only = lab.claim.spec.data.read_only_mount
    namespace = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    from_secret = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_S3_FORCE_PATH_STYLE",
    )
    return [
        {"name": "FB_AUTH_MAPPER", "value": "reader-noshare" if read_only else "writer-noshare"},
        {"name": "FB_ALLOW_CHANGING", "value": "false" if read_only else "true"},
        {"name": "FB_ALLOW_SHARING", "value": "false"},
        {"name": "FB_CREATE_USER_DIR", "value": "false"},
        {"name": "FB_DATABASE", "value": "/db/bolt.db"},
        {"name": "FB_SERVER_PORT", "value": str(PORT)},
        {"name": "WORKSPACE", **namespace},
        {"name": "FB_ROOT", "value": "/workspace"},
        {"name": "FB_BRANDING_NAME", **namespace},
        {"name": "FB_AUTH_HEADER", "value": "Accept"},
        *(
            {"name": key, "valueFrom": {"secretKeyRef": {"name": names.credentials(lab.name), "key": key}}}
            for key in from_secret
        ),
    ]
