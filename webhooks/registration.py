"""How the API server learns of the webhooks: which requests it asks about, where, and whom it trusts to answer."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from datalabd import names, routes
from datalabd.api.meta import (
    ABANDON,
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    FIELD_MANAGER,
    MANAGED_BY,
    PROTECT,
    UNPROTECTED,
    Manifest,
)
from datalabd.kube import resources as kinds
from datalabd.kube.cache import STORE_KINDS
from datalabd.observed import STORE_SECRETS
from datalabd.plan import rights
from datalabd.plan.ingress_protection import SESSION_INGRESS

TIMEOUT_SECONDS = 10
WARNING_SECONDS = 2
"""How long a deletion waits for words about it."""
_LABELS = {MANAGED_BY: FIELD_MANAGER, "app.kubernetes.io/name": FIELD_MANAGER}
CLAIMS = "datalabd"
INGRESSES = "datalabd-ingresses"
PROTECTED_CLAIMS = "datalabd-protected-claims"
ABANDONED_STEPS = "datalabd-abandoned-steps"
PROTECTED_DATA = "datalabd-protected-data"
PROTECTED_RIGHTS = "datalabd-protected-rights"
COMPONENT = "training.educates.dev/component"
PROTECTED_KINDS = (kinds.WORKSHOP_ENVIRONMENTS, kinds.NAMESPACES, kinds.VOLUME_CLAIMS, kinds.SECRETS, *STORE_KINDS)
RUNTIME_ACCOUNT = "^system:serviceaccount:[^:]+:session-manager$"
"""Educates' operator, wherever it is installed; anybody may call an account so, so its rights are asked for as well."""
RUNS_SESSIONS = 'authorizer.group("training.educates.dev").resource("workshopsessions").check("create").allowed()'
"""CEL: whether the user runs the platform: Educates itself, whose account may have any name, and its administrators.

No role in a namespace grants this, as these objects are of the cluster.
"""
ENDS_SESSIONS = 'authorizer.group("training.educates.dev").resource("workshopsessions").check("delete").allowed()'
"""CEL: whether the user may end sessions that nobody else would end."""
CLEANERS = (
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",  # both of them, where controllers have no accounts of their own
)
"""Who deletes what depends on something that was allowed to go."""


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


_CHANGES = {
    "name": "changes-what-is-guarded",
    "expression": "oldObject == null || object.?spec != oldObject.?spec"
    " || object.metadata.?labels != oldObject.metadata.?labels"
    " || object.metadata.?annotations != oldObject.metadata.?annotations",
}
"""Whoever put a finalizer on a route can take it off, whatever became of its hosts and whether we run or not."""


def claim_webhooks(endpoint: Endpoint) -> list[Manifest]:
    """The registrations for claims of both versions, and for environments.

    Errors speak of the version that was written. What a deletion destroys is only told, so our absence keeps no claim
    from being deleted.
    """
    environments = {"apiGroups": ["pkg.internal"], "apiVersions": ["v1beta1"], "resources": ["environmentconfigs"]}
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
            _webhook(
                "validate.environmentconfigs.pkg.internal",
                endpoint.client_config("/validate/environmentconfigs"),
                [environments | {"operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Cluster"}],
            ),
            _webhook(
                "warn.datalabs.pkg.internal",
                endpoint.client_config("/warn/datalabs"),
                [rules | {"operations": ["DELETE"], "scope": "Namespaced"}],
            )
            | {"failurePolicy": "Ignore", "timeoutSeconds": WARNING_SECONDS},
        ),
    ]


def ingress_webhooks(endpoint: Endpoint, domains: Iterable[str]) -> list[Manifest]:
    """The registrations for routes: protect the Ingresses of sessions, keep all others off the labs' hosts.

    Written by the process alone, never from a file: what is guarded depends on the domains of all environments. Kinds
    that the cluster does not know do no harm in there.
    """
    protect = _webhook(
        "protect.ingresses.pkg.internal", endpoint.client_config("/mutate/ingresses"), routes.rules([routes.INGRESS])
    ) | {
        "objectSelector": {"matchLabels": SESSION_INGRESS},
        "namespaceSelector": {"matchLabels": {COMPONENT: "environment"}},
        "matchConditions": [_CHANGES],
        # Others may mutate after us: the annotations have to be there in the end.
        "reinvocationPolicy": "IfNeeded",
    }
    words = routes.Words(tuple(sorted(set(domains))))
    guards = [
        _webhook(f"guard.{kind.plural}.pkg.internal", endpoint.client_config("/validate/routes"), [kind.rule])
        | {
            "matchConditions": [
                _CHANGES,
                # Without a domain there is nothing to guard.
                {"name": "reaches-a-lab-domain", "expression": kind.reaches(words) if words.domains else "false"},
            ]
        }
        for kind in routes.KINDS.values()
    ]
    return [
        _configuration("MutatingWebhookConfiguration", INGRESSES, protect),
        _configuration("ValidatingWebhookConfiguration", INGRESSES, *guards),
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
    validation = {
        "expression": f"{unprotected} || has(namespaceObject.metadata.deletionTimestamp)",
        "message": f"the lab is protected from deletion: remove its annotation {PROTECT} first",
        "reason": "Forbidden",
    }
    return policy(PROTECTED_CLAIMS, {"matchConstraints": {"resourceRules": [rules]}, "validations": [validation]})


def abandonment() -> list[Manifest]:
    """The policy by which only who may end sessions can have a deletion leave sessions or the runtime behind."""
    annotation = f'metadata.?annotations[?"{ABANDON}"].orValue("").split(",")'
    had = f"oldObject != null && oldObject.{annotation}.exists(had, had.trim() == step.trim())"
    asked = f'object.{annotation}.exists(step, step.trim() in ["sessions", "runtime"] && !({had}))'
    rules = {
        "apiGroups": ["pkg.internal"],
        "apiVersions": ["*"],
        "resources": ["datalabs"],
        "operations": ["CREATE", "UPDATE"],
    }
    validation = {
        "expression": ENDS_SESSIONS,
        "message": "what is left of a session or runtime is ended by those who may delete workshopsessions; "
        "have one of them skip this step",
        "reason": "Forbidden",
    }
    return policy(
        ABANDONED_STEPS,
        {
            "matchConstraints": {"resourceRules": [rules]},
            "matchConditions": [{"name": "abandons-sessions", "expression": asked}],
            "validations": [validation],
        },
    )


def rights_protection() -> list[Manifest]:
    """The policy by which a lab's users cannot take our rights in its namespaces away.

    Educates' role `admin` may delete RoleBindings in a session's namespace: without ours a member would keep the
    network policies that the session began with. Whoever rules the cluster passes, and Educates and the cleaners do.
    """
    rules = {
        "apiGroups": [rights.RBAC],
        "apiVersions": ["*"],
        "resources": ["rolebindings"],
        "operations": ["UPDATE", "DELETE"],
    }
    validation = {
        "expression": f'authorizer.group("{rights.RBAC}").resource("clusterrolebindings").check("delete").allowed()'
        " || has(namespaceObject.metadata.deletionTimestamp)",
        "message": "datalabd keeps the network policies of this lab by it: it goes with its namespace",
        "reason": "Forbidden",
    }
    ours = f"oldObject.roleRef.name in {json.dumps([rights.LAB, rights.SESSION])}"
    return policy(
        PROTECTED_RIGHTS,
        {
            "matchConstraints": {"resourceRules": [rules]},
            "matchConditions": [{"name": "binds-datalabd", "expression": ours}],
            "validations": [validation],
        },
    )


def data_protection(username: str) -> list[Manifest]:
    """The policy by which only `username`, which is us, deletes what holds data: also while nobody of ours runs.

    That is the WorkshopEnvironment, the namespace that goes with it, and the durable objects in there. Nobody gives one
    of them an owner either, with whom it would go, and the garbage collector takes none away but the namespace, as
    nothing else has an owner of ours. It guards against mistakes: whoever may delete such an object can annotate it,
    and `datalabd purge` does; the marks by which it is known are kept from everybody else. Finalizers of others come
    and go: they only delay. The kinds need not be known to the cluster.
    """
    rules = [
        {
            "apiGroups": [kind.group],
            "apiVersions": ["*"],
            # Some built-in kinds take new metadata by their status as well.
            "resources": [kind.plural, f"{kind.plural}/*"],
            "operations": ["UPDATE", "DELETE"],
        }
        for kind in PROTECTED_KINDS
    ]
    lab = f'oldObject.metadata.labels["{CLAIM_NAMESPACE}"] + "/" + oldObject.metadata.labels["{CLAIM_NAME}"]'
    way_out = f"or annotate it {UNPROTECTED}=true first"
    unprotected = f'{{}}.metadata.?annotations[?"{UNPROTECTED}"].orValue("") == "true"'
    deletion = {
        "expression": f'request.operation != "DELETE" || {unprotected.format("oldObject")}'
        " || (namespaceObject != null && has(namespaceObject.metadata.deletionTimestamp))",
        "message": f"it holds data of a lab: delete the claim and use datalabd purge, {way_out}",
        "messageExpression": f'"it holds data of lab " + {lab} + ": delete the claim and use datalabd purge " + {lab}'
        f' + ", {way_out}"',
        "reason": "Forbidden",
    }
    owner = {
        "expression": 'request.operation != "UPDATE" || variables.sameOwners'
        f" || (variables.mayDelete && {unprotected.format('oldObject')})",
        "message": f"it holds data of a lab, and would go with such an owner: leave its owners as they are, {way_out}",
        "messageExpression": f'"it holds data of lab " + {lab}'
        f' + ", and would go with such an owner: leave its owners as they are, {way_out}"',
        "reason": "Forbidden",
    }
    marks = {
        "expression": f'request.operation != "UPDATE" || variables.mayDelete || {_SAME_MARKS}'
        f" && ({unprotected.format('oldObject')} || !({unprotected.format('object')}))",
        "message": "by these labels and annotations it is known to hold data of a lab: who changes them has to have the"
        " right to delete it",
        "reason": "Forbidden",
    }
    return policy(
        PROTECTED_DATA,
        {
            "matchConstraints": {
                "resourceRules": rules,
                "objectSelector": {"matchLabels": {MANAGED_BY: FIELD_MANAGER}},
            },
            "matchConditions": [
                {
                    "name": "by-others",
                    "expression": f"!(request.userInfo.username == {json.dumps(username)}"
                    f" || (request.userInfo.username in {json.dumps(list(CLEANERS))}"
                    ' && (request.operation == "UPDATE" || request.resource.resource == "namespaces"))'
                    f" || (request.userInfo.username.matches({json.dumps(RUNTIME_ACCOUNT)}) && {RUNS_SESSIONS}))",
                },
                {"name": "holds-data", "expression": _HOLDS_DATA},
            ],
            "variables": [
                {"name": "mayDelete", "expression": _MAY_DELETE},
                {"name": "sameOwners", "expression": _SAME_OWNERS},
            ],
            "validations": [deletion, owner, marks],
        },
    )


_MAY_DELETE = (
    # A request about what is in no namespace has none.
    "authorizer.group(request.resource.group).resource(request.resource.resource)"
    '.namespace(request.?namespace.orValue("")).name(request.name).check("delete").allowed()'
)
_SAME_OWNERS = (
    # Whom it depends on no more does not take it along; but by its owner a namespace is known to hold data.
    "object == null || object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences"
    ' || (request.resource.resource != "namespaces" && object.metadata.?ownerReferences.orValue([])'
    ".all(owner, oldObject.metadata.?ownerReferences.orValue([]).exists(old, old == owner)))"
)
_SAME_MARKS = (
    f"{json.dumps([MANAGED_BY, CLAIM_NAME, CLAIM_NAMESPACE, CLAIM_UID])}.all(key,"
    ' object.metadata.?labels[?key].orValue("") == oldObject.metadata.?labels[?key].orValue(""))'
    f' && (request.resource.resource == "namespaces" || "{APPLIED}" in object.metadata.?annotations.orValue({{}}))'
)
_HOLDS_DATA = (
    # Educates makes the namespace and hands our labels on to it, as it does to those of sessions: those hold no data.
    'request.resource.resource == "namespaces"'
    ' ? oldObject.metadata.?ownerReferences.orValue([]).exists(owner, owner.kind == "WorkshopEnvironment")'
    f' : "{APPLIED}" in oldObject.metadata.?annotations.orValue({{}})'
    ' && (request.resource.resource != "persistentvolumeclaims"'
    f' || oldObject.metadata.name != oldObject.metadata.namespace + "{names.credentials("")}")'
    ' && (request.resource.resource != "secrets"'
    f' || (oldObject.metadata.namespace == oldObject.metadata.labels[?"{CLAIM_NAME}"].orValue("")'
    f" && {json.dumps(STORE_SECRETS)}.exists(ending, oldObject.metadata.name.endsWith(ending))))"
)
"""CEL: what `observed.is_durable` says of a planned object, and the environment with its namespace."""


def policy(name: str, spec: Manifest) -> list[Manifest]:
    """A policy that fails closed, and the binding that puts it in force everywhere."""
    metadata = {"name": name, "labels": _LABELS}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {"failurePolicy": "Fail"} | spec,
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


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


def _configuration(kind: str, name: str, *webhooks: Manifest) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": _LABELS},
        "webhooks": list(webhooks),
    }


_DEFAULTS: Manifest = {
    "namespaceSelector": {},
    "objectSelector": {},
    "scope": "*",
    "matchPolicy": "Equivalent",
    "reinvocationPolicy": "Never",
}
"""What the API server adds where we say nothing."""


def agrees(live: Manifest, desired: Manifest) -> bool:
    """Whether a webhook configuration, policy or binding is what it should be, but for what others may add.

    That is labels and annotations, and namespaces that are taken out of a webhook: providers keep their own out of all
    of them, as AKS' admissions enforcer does. Anything else that is there besides narrows what we are asked about.
    """
    labels, wanted = live["metadata"].get("labels") or {}, desired["metadata"].get("labels") or {}
    return (
        wanted.items() <= labels.items()
        and _equal(_without_additions(live.get("webhooks"), desired), desired.get("webhooks"))
        and _equal(live.get("spec"), desired.get("spec"))
    )


def merged(live: Manifest, desired: Manifest) -> Manifest:
    """The live object made what it should be, for a PUT; what others may add is kept."""
    labels = (live["metadata"].get("labels") or {}) | desired["metadata"].get("labels", {})
    out = live | desired | {"metadata": live["metadata"] | {"labels": labels}}
    if "webhooks" in desired:
        additions = {webhook.get("name"): _additions(webhook) for webhook in live.get("webhooks") or ()}
        out["webhooks"] = [_with_additions(webhook, additions) for webhook in desired["webhooks"]]
    return out


def _additions(webhook: Manifest) -> list[Manifest]:
    """Terms that take namespaces out of a webhook, without those that would take out every one."""
    terms = (webhook.get("namespaceSelector") or {}).get("matchExpressions") or []
    return [
        term
        for term in terms
        if term.get("operator") == "NotIn"
        or (term.get("operator") == "DoesNotExist" and term.get("key") != "kubernetes.io/metadata.name")
    ]


def _with_additions(webhook: Manifest, additions: dict[str | None, list[Manifest]]) -> Manifest:
    selector = webhook.get("namespaceSelector") or {}
    own = selector.get("matchExpressions") or []
    more = [term for term in additions.get(webhook["name"], []) if term not in own]
    return webhook | {"namespaceSelector": selector | {"matchExpressions": [*own, *more]}} if more else webhook


def _without_additions(webhooks: list[Manifest] | None, desired: Manifest) -> list[Manifest] | None:
    """Live webhooks without what others may add to them."""
    if webhooks is None:
        return None
    wanted = {webhook["name"]: webhook.get("namespaceSelector") or {} for webhook in desired.get("webhooks") or ()}
    out = []
    for webhook in webhooks:
        selector = webhook.get("namespaceSelector") or {}
        own = wanted.get(webhook.get("name"), {}).get("matchExpressions") or []
        added = _additions(webhook)
        left = [term for term in selector.get("matchExpressions") or [] if term in own or term not in added]
        out.append(webhook | {"namespaceSelector": selector | {"matchExpressions": left}})
    return out


def _equal(live: Any, desired: Any) -> bool:
    """Whether two values are one to the API server: what is empty, or has its default, may as well be absent."""
    if isinstance(live, dict) and isinstance(desired, dict):
        return all(
            _equal(live.get(key, _DEFAULTS.get(key)), desired.get(key, _DEFAULTS.get(key)))
            for key in live.keys() | desired.keys()
        )
    if isinstance(live, list) and isinstance(desired, list):
        return len(live) == len(desired) and all(map(_equal, live, desired))
    return live == desired or (not live and not desired and not isinstance(live, bool) and live != 0)
