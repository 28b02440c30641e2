"""How the API server learns of the webhooks: which requests it asks about, where, and whom it trusts to answer."""

import base64
from collections.abc import Iterable

from datalabd.api.meta import FIELD_MANAGER, MANAGED_BY, PROTECT, Manifest

TIMEOUT_SECONDS = 10
_LABELS = {MANAGED_BY: FIELD_MANAGER, "app.kubernetes.io/name": FIELD_MANAGER}
_SESSION_INGRESS = {
    "training.educates.dev/component": "session",
    "training.educates.dev/application": "workshop",
}
CLAIMS = "datalabd"
INGRESSES = "datalabd-ingresses"
PROTECTED_CLAIMS = "datalabd-protected-claims"


class Endpoint:
    """Where the webhooks answer: a Service in the cluster, or a URL outside it. With the authority that vouches."""

    def __init__(self, ca: bytes, *, service: tuple[str, str] | None = None, url: str | None = None) -> None:
        self._ca = ca
        self._service = service
        self._url = url

    def client_config(self, path: str) -> Manifest:
        """The `clientConfig` of one webhook."""
        config: Manifest = {"caBundle": base64.b64encode(self._ca).decode()} if self._ca else {}
        if self._service is not None:
            namespace, name = self._service
            return config | {"service": {"namespace": namespace, "name": name, "path": path, "port": 443}}
        return config | {"url": f"{self._url}{path}"}


def claim_webhooks(endpoint: Endpoint) -> list[Manifest]:
    """The registrations for claims of both versions; errors then speak of the version that was written."""
    rules = {"apiGroups": ["pkg.internal"], "apiVersions": ["v1beta1", "v1beta2"], "resources": ["datalabs"]}
    return [
        _configuration(
            "MutatingWebhookConfiguration",
            CLAIMS,
            _webhook(
                "default.datalabs.pkg.internal",
                endpoint.client_config("/mutate/datalabs"),
                [rules | {"operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}],
            )
            | {"reinvocationPolicy": "IfNeeded"},
        ),
        _configuration(
            "ValidatingWebhookConfiguration",
            CLAIMS,
            _webhook(
                "validate.datalabs.pkg.internal",
                endpoint.client_config("/validate/datalabs"),
                [rules | {"operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}],
            ),
        ),
    ]


def ingress_webhooks(endpoint: Endpoint, domains: Iterable[str]) -> list[Manifest]:
    """The registrations for Ingresses: protect those of sessions, keep all others off the labs' hosts.

    Written by the process alone, never from a file: what is guarded depends on the domains of all environments.
    """
    rule = {
        "apiGroups": ["networking.k8s.io"],
        "apiVersions": ["v1"],
        "resources": ["ingresses"],
        "operations": ["CREATE", "UPDATE"],
        "scope": "Namespaced",
    }
    protect = _webhook("protect.ingresses.pkg.internal", endpoint.client_config("/mutate/ingresses"), [rule]) | {
        "objectSelector": {"matchLabels": _SESSION_INGRESS},
        "namespaceSelector": {"matchLabels": {"training.educates.dev/component": "environment"}},
        # Others may mutate after us: the annotations have to be there in the end.
        "reinvocationPolicy": "IfNeeded",
    }
    guard = _webhook("guard.ingresses.pkg.internal", endpoint.client_config("/validate/ingresses"), [rule]) | {
        "matchConditions": [{"name": "reaches-a-lab-domain", "expression": reaches(sorted(set(domains)))}]
    }
    return [
        _configuration("MutatingWebhookConfiguration", INGRESSES, protect),
        _configuration("ValidatingWebhookConfiguration", INGRESSES, guard),
    ]


def protection() -> list[Manifest]:
    """The policy that keeps a protected claim from being deleted, also while nobody of ours runs.

    The end of its namespace passes: refusing there would only leave the namespace terminating for ever.
    """
    unprotected = (
        "!has(oldObject.metadata.annotations)"
        f' || !("{PROTECT}" in oldObject.metadata.annotations)'
        f' || oldObject.metadata.annotations["{PROTECT}"] != "true"'
    )
    rules = {"apiGroups": ["pkg.internal"], "apiVersions": ["*"], "resources": ["datalabs"], "operations": ["DELETE"]}
    metadata = {"name": PROTECTED_CLAIMS, "labels": _LABELS}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rules]},
                "validations": [
                    {
                        "expression": f"{unprotected} || has(namespaceObject.metadata.deletionTimestamp)",
                        "message": f"the lab is protected from deletion: remove its annotation {PROTECT} first",
                        "reason": "Forbidden",
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": PROTECTED_CLAIMS, "validationActions": ["Deny"]},
        },
    ]


def reaches(domains: list[str]) -> str:
    """CEL: whether an Ingress may answer for a host below one of the domains, by name, wildcard or catch-all.

    Total on every Ingress: an expression that fails would refuse it. Without a domain nothing matches.
    """
    if not domains:
        return "false"
    below = " || ".join(
        f'rule.host.lowerAscii().endsWith(".{domain}") || '
        f'(rule.host.startsWith("*.") && ".{domain}".endsWith(rule.host.lowerAscii().substring(1)))'
        for domain in domains
    )
    return (
        "has(object.spec) && ("
        f'(has(object.spec.rules) && object.spec.rules.exists(rule, !has(rule.host) || rule.host == "" || {below}))'
        " || has(object.spec.defaultBackend)"
        ' || (has(object.metadata.annotations) && "nginx.ingress.kubernetes.io/server-alias" in'
        " object.metadata.annotations))"
    )


def _webhook(name: str, client_config: Manifest, rules: list[Manifest]) -> Manifest:
    return {
        "name": name,
        "clientConfig": client_config,
        "rules": rules,
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def _configuration(kind: str, name: str, webhook: Manifest) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": _LABELS},
        "webhooks": [webhook],
    }
