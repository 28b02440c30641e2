from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.plan.data_browser import session_objects
from tests.factories import environment, lab

LABELS = {"app.kubernetes.io/instance": "data-$(session_name)", "app.kubernetes.io/name": "data"}


def from_secret(name: str) -> Manifest:
    """A variable that has its value from the Secret of the lab."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "lab-datalab", "key": name}}}


def test_deployment_and_service() -> None:
    own_namespace = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    liveness = (
        'out="$( (stat /workspace >/dev/null) 2>&1 || true )"; '
        'if echo "$out" | grep -qi "Transport endpoint is not connected"; then exit 1; fi; exit 0'
    )
    container = {
        "name": "data",
        "image": "ghcr.io/versioneer-tech/package-r:v2026.6.5",
        "imagePullPolicy": "Always",
        "ports": [{"name": "http", "containerPort": 8888}],
        "env": [
            {"name": "FB_AUTH_MAPPER", "value": "writer-noshare"},
            {"name": "FB_ALLOW_CHANGING", "value": "true"},
            {"name": "FB_ALLOW_SHARING", "value": "false"},
            {"name": "FB_CREATE_USER_DIR", "value": "false"},
            {"name": "FB_DATABASE", "value": "/db/bolt.db"},
            {"name": "FB_SERVER_PORT", "value": "8888"},
            {"name": "WORKSPACE", "valueFrom": own_namespace},
            {"name": "FB_ROOT", "value": "/workspace"},
            {"name": "FB_BRANDING_NAME", "valueFrom": own_namespace},
            {"name": "FB_AUTH_HEADER", "value": "Accept"},
            from_secret("AWS_ACCESS_KEY_ID"),
            from_secret("AWS_SECRET_ACCESS_KEY"),
            from_secret("AWS_REGION"),
            from_secret("AWS_ENDPOINT_URL"),
            from_secret("AWS_S3_FORCE_PATH_STYLE"),
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/workspace", "readOnly": False},
            {"name": "db", "mountPath": "/db"},
        ],
        "readinessProbe": {"exec": {"command": ["/bin/sh", "-lc", "stat /workspace >/dev/null"]}, "periodSeconds": 10},
        "livenessProbe": {"exec": {"command": ["/bin/sh", "-lc", liveness]}, "periodSeconds": 20},
    }
    pod = {
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
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "lab-datalab"}},
            {"name": "db", "emptyDir": {}},
        ],
    }
    metadata = {"name": "data-$(session_name)", "namespace": "$(workshop_namespace)"}
    assert session_objects(lab()) == [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata | {"labels": LABELS},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "type": "ClusterIP",
                "selector": LABELS,
                "ports": [{"name": "http", "port": 8888, "targetPort": "http", "protocol": "TCP"}],
            },
        },
    ]


def container(**data: Any) -> Manifest:
    """The container of a lab whose claim says this of its data."""
    deployment = session_objects(lab(data=data))[0]
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])


@pytest.mark.parametrize(("name", "expected"), [("FB_AUTH_MAPPER", "reader-noshare"), ("FB_ALLOW_CHANGING", "false")])
def test_variables_of_a_read_only_mount(name: str, expected: str) -> None:
    env = {variable["name"]: variable.get("value") for variable in container(readOnlyMount=True)["env"]}
    assert env[name] == expected


def test_a_read_only_mount() -> None:
    assert container(readOnlyMount=True)["volumeMounts"][0] == {
        "name": "data",
        "mountPath": "/workspace",
        "readOnly": True,
    }


def test_the_environment_says_how_it_runs() -> None:
    resources = {"limits": {"memory": "1Gi"}}
    within = environment(components={"data": {"image": "mirror/browser:1", "resources": resources, "replicas": 2}})
    spec = session_objects(lab(within))[0]["spec"]
    made = spec["template"]["spec"]["containers"][0]
    assert (spec["replicas"], made["image"], made["resources"]) == (2, "mirror/browser:1", resources)
