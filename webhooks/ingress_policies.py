"""Policies by which the API server itself keeps sessions protected, also while nobody of ours runs.

The webhooks decide what a session's Ingress must carry, and whose host is whose. These hold what was decided.
"""

import json
import re
from collections.abc import Iterable

from datalabd import names, routes
from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_NAMESPACE, FIELD_MANAGER, MANAGED_BY, PROTECTION, Manifest
from datalabd.kube import resources as kinds
from datalabd.plan.ingress_protection import NGINX, SESSION_INGRESS, WEAKENING, secret_names
from webhooks.registration import CLEANERS, COMPONENT, ENDS_SESSIONS, RUNS_SESSIONS, policy

SESSION_INGRESSES = "datalabd-session-ingresses"
PROTECTING_OBJECTS = "datalabd-protecting-objects"
LAB_SECRETS = "datalabd-lab-secrets"
PLATFORM_HOSTS = "datalabd-platform-hosts"
SESSION_BACKENDS = "datalabd-session-backends"
PROTECTING_KINDS = (kinds.NETWORK_POLICIES, kinds.APISIX_PLUGIN_CONFIGS, kinds.SECRETS)

ENDPOINT_CONTROLLERS = (
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslice-controller",
    "system:serviceaccount:kube-system:endpointslicemirroring-controller",
    "system:kube-controller-manager",  # all of them, where controllers have no accounts of their own
)
"""Who writes down where the pods of a Service are."""

COPIER_MARKS = ("secrets.educates.dev/copier-rule", "secrets.educates.dev/secret-name")
"""Annotations by which Educates knows a copy for its own: one that names another source it leaves as it is."""
_COPIES_SECRETS = 'authorizer.group("secrets.educates.dev").resource("secretcopiers").check("update").allowed()'
"""CEL: whether the user copies Secrets for the runtime: Educates' secrets-manager, which may not make sessions.

SecretCopiers are of the cluster, and whoever may change one has any Secret copied anywhere.
"""
_IS_LAB = (
    f'namespaceObject != null && namespaceObject.metadata.?labels[?"{MANAGED_BY}"].orValue("") == "{FIELD_MANAGER}"'
    f' && namespaceObject.metadata.?labels[?"{COMPONENT}"].orValue("") == "environment"'
)
"""CEL: whether the request is about something in the namespace of a lab."""
_RUNS_PLATFORM = (
    f'authorizer.group("pkg.internal").resource("environmentconfigs").check("{routes.ROUTE_VERB}").allowed()'
)
_NOW = "object.metadata.?annotations.orValue({})"
_OLD = "(oldObject == null ? {} : oldObject.metadata.?annotations.orValue({}))"
_OLD_LABELS = "(oldObject == null ? {} : oldObject.metadata.?labels.orValue({}))"
SNIPPETS = (
    rf"^{re.escape(NGINX)}/.*-snippet$|^nginx\.org/.*-snippets$"
    r"|^(haproxy-ingress\.github\.io|ingress\.kubernetes\.io)/config-.*|^haproxy\.org/.*-snippet$"
)
"""Annotations of an Ingress that hold configuration of anybody's choice, in the syntax of RE2."""
_CLASS = "kubernetes.io/ingress.class"
CONTROLLERS = (
    # ingress-nginx, Traefik, HAProxy Ingress, ALB and many others, also under a prefix of the platform's.
    r"^([^/]*ingress[^/]*"
    r"|([^/]+\.)?(nginx\.org|nginx\.com|f5\.com|haproxy\.org|haproxy\.com|apisix\.apache\.org|traefik\.io|containo\.us"
    r"|konghq\.com|projectcontour\.io|heptio\.com|zalando\.org|getambassador\.io|higress\.io|solo\.io|openshift\.io))/"
)
"""Annotations that controllers of Ingresses read, by what stands before the name, in the syntax of Python and RE2."""
HARMLESS = (
    r"/("
    # How long, how much and how often.
    r"(proxy-|upstream-)?(connect|read|send|write|response|next-upstream)-timeout|timeout-.*|proxy-body-size"
    r"|client-max-body-size|client-body-buffer-size|proxy-buffer.*|proxy-request-buffering|proxy-max-temp-file-size"
    r"|limit-.*|upstream-retries"
    # How the Service of the Ingress is spoken to, and which of its pods answers.
    r"|backend-protocol|upstream-scheme|proxy-http-version|enable-websocket|websocket-(routes|services)"
    r"|affinity|affinity-mode|session-cookie-.*|load-balance|service\.sticky\..*"
    # Which path it sees.
    r"|use-regex|rewrite-target|rewrite-target-regex|rewrite-target-regex-template|path-rewrite|app-root|x-forwarded-prefix"
    r"|strip-path|preserve-host"
    # What browsers are told, and which of them may come.
    r"|ssl-redirect|force-ssl-redirect|http-to-https|enable-cors|cors-.*|(allowlist|whitelist|denylist)-source-range"
    r"|router\.(entrypoints|tls)|enable-access-log"
    # What GKE's controller notes down.
    r"|backends|(https-)?(forwarding-rule|target-proxy)|(redirect-)?url-map|ssl-cert|static-ip"
    # Further hosts, which are judged as those in the spec are.
    r"|server-alias|from-to-www-redirect"
    r")$"
)
"""Those of them by which a request goes nowhere but to the Service that the Ingress names, whatever their value."""


def session_ingresses(username: str) -> list[Manifest]:
    """The policy on Ingresses in the workshop namespaces of labs: only the runtime makes them, none without a sign of
    its protection, and nobody but `username`, which is us, changes what protects it."""
    marks = " && ".join(f'{{}}[?"{key}"].orValue("") == "{value}"' for key, value in SESSION_INGRESS.items())
    stamp = f'"{PROTECTION}"'
    kept = f'!({stamp} in variables.old) || (variables.old[{stamp}].split(",") + [{stamp}, "{_CLASS}"])'
    variables = {
        "old": _OLD,
        "now": _NOW,
        "oldLabels": _OLD_LABELS,
        "labels": "object.metadata.?labels.orValue({})",
        "isLab": _IS_LAB,
        "isSession": marks.format(*["variables.labels"] * len(SESSION_INGRESS)),
        "wasSession": marks.format(*["variables.oldLabels"] * len(SESSION_INGRESS)),
    }
    same_labels = " && ".join(
        f'variables.labels[?"{key}"].orValue("") == variables.oldLabels[?"{key}"].orValue("")'
        for key in SESSION_INGRESS
    )
    return policy(
        SESSION_INGRESSES,
        {
            "matchConstraints": {"resourceRules": [routes.INGRESS.rule]},
            "matchConditions": [_by_others(username)],
            "variables": [{"name": name, "expression": text} for name, text in variables.items()],
            "validations": [
                _validation(
                    f"!variables.isLab || {RUNS_SESSIONS} ||"
                    " (oldObject != null && object.spec == oldObject.spec && variables.labels == variables.oldLabels)",
                    "only the runtime makes and changes Ingresses in a lab's namespace; declare what the lab is to have"
                    " in its Datalab",
                ),
                _validation(
                    f"!variables.isLab || !variables.isSession || variables.wasSession || {stamp} in variables.now",
                    "nobody was there to protect this session's Ingress: try again when datalabd runs",
                ),
                _validation(
                    f'{kept}.all(key, variables.now[?key].orValue("") == variables.old[?key].orValue(""))',
                    "these annotations protect a session; the lab's environment decides on them, in ingress.protection",
                ),
                _validation(
                    f"!({stamp} in variables.old) || ({same_labels} && "
                    'object.spec.?ingressClassName.orValue("") == oldObject.spec.?ingressClassName.orValue(""))',
                    "its labels and its class make this Ingress a protected one, and stay as they are",
                ),
                _validation(
                    f'variables.old[?{stamp}].orValue("") == "" || variables.now.all(key,'
                    f" !key.matches({json.dumps(WEAKENING)})"
                    ' || variables.now[key] == variables.old[?key].orValue(""))',
                    "such annotations would undo the protection of a session, or lead past it",
                ),
            ],
        },
    )


def protecting_objects(username: str) -> list[Manifest]:
    """The policy by which only `username`, which is us, changes or deletes what keeps strangers out of a lab.

    Network policies, the configuration of APISIX and the Secrets it reads: without one of these APISIX lets everybody
    in. The kinds need not be known to the cluster. Whoever runs the platform may, as may the end of a namespace.
    """
    rules = [
        {
            "apiGroups": [kind.group],
            "apiVersions": ["*"],
            "resources": [kind.plural],
            "operations": ["UPDATE", "DELETE"],
            "scope": "Namespaced",
        }
        for kind in PROTECTING_KINDS
    ]
    lab = f'oldObject.metadata.labels[?"{CLAIM_NAME}"].orValue("")'
    named = json.dumps(secret_names(""))
    ours = (
        f'oldObject.metadata.?labels[?"{MANAGED_BY}"].orValue("") == "{FIELD_MANAGER}"'
        f' && "{APPLIED}" in oldObject.metadata.?annotations.orValue({{}})'
        ' && (request.resource.resource != "secrets"'
        f" || (request.namespace == {lab}"
        f" && {named}.exists(ending, oldObject.metadata.name == {lab} + ending)))"
    )
    message = "it keeps strangers out of a lab, and only datalabd changes it: change the Datalab or its environment"
    lab_key = f'oldObject.metadata.labels[?"{CLAIM_NAMESPACE}"].orValue("") + "/" + {lab}'
    return policy(
        PROTECTING_OBJECTS,
        {
            "matchConstraints": {
                "resourceRules": rules,
                "objectSelector": {"matchLabels": {MANAGED_BY: FIELD_MANAGER}},
            },
            "matchConditions": [_by_others(username, *CLEANERS), {"name": "is-ours", "expression": ours}],
            "validations": [
                _validation(
                    f"{RUNS_SESSIONS} || (namespaceObject != null && has(namespaceObject.metadata.deletionTimestamp))",
                    message,
                )
                | {"messageExpression": f'"{message} (" + {lab_key} + ")"'}
            ],
        },
    )


def lab_secrets(username: str) -> list[Manifest]:
    """The policy by which only `username`, which is us, makes, changes or deletes a lab's Secret `N-datalab`; and only
    the runtime the copy of it in the lab's namespace.

    It lies beside the claim, where Secrets are the tenant's to write, and Educates copies whatever is called so: by
    the `configData` of the copy the node mounts object storage, past what `storage.endpoints` allows. So nobody else
    makes a Secret of such a name, also where ours is away, and nobody gives one an owner, with whom it would go, or has
    Educates take the copy for another's. Finalizers and annotations of others are theirs. Whoever runs the platform
    may, as may the end of the namespace.
    """
    rules = {
        "apiGroups": [""],
        "apiVersions": ["*"],
        "resources": ["secrets"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "scope": "Namespaced",
    }
    ending = names.credentials("")
    ours = (
        f'{{0}}.metadata.?labels[?"{MANAGED_BY}"].orValue("") == "{FIELD_MANAGER}"'
        f' && {{0}}.metadata.?labels[?"{CLAIM_NAMESPACE}"].orValue("") == request.namespace'
    )
    found = " || ".join(f"({it} != null && {ours.replace('{0}', it)})" for it in ("object", "oldObject"))
    # The request of a whole collection to be deleted has no name.
    name = '(object == null ? oldObject : object).metadata.?name.orValue("")'
    copy = f'{name} == request.namespace + "{ending}"'
    same = " && ".join(
        f"object.{field} == oldObject.{field}"
        for field in (
            "?data",
            "?immutable",
            "metadata.?labels",
            "metadata.?ownerReferences",
            *(f'metadata.?annotations[?"{key}"]' for key in (APPLIED, *COPIER_MARKS)),
        )
    )
    message = (
        "the node mounts storage by it, and only datalabd writes it: change the Datalab or its storage Secret, "
        f"or choose a name that does not end in {ending}"
    )
    return policy(
        LAB_SECRETS,
        {
            "matchConstraints": {"resourceRules": [rules]},
            "matchConditions": [
                _by_others(username, *CLEANERS),
                {
                    "name": "is-of-a-lab",
                    "expression": f'{name}.endsWith("{ending}") && (oldObject == null || {copy} || {found})',
                },
                # Asked here, as the API server evaluates no expression with more than two such questions.
                {"name": "by-no-copier", "expression": f"!{_COPIES_SECRETS}"},
            ],
            "variables": [{"name": "isLab", "expression": _IS_LAB}],
            "validations": [
                _validation(
                    f"(oldObject != null && object != null && {same})"
                    f" || (oldObject != null && !variables.isLab && !({found}))"
                    f" || {RUNS_SESSIONS} || {ENDS_SESSIONS}"
                    " || (namespaceObject != null && has(namespaceObject.metadata.deletionTimestamp))",
                    message,
                )
            ],
        },
    )


def session_backends() -> list[Manifest]:
    """The policy by which Services and Ingresses in the namespaces of sessions lead to pods of that namespace alone.

    The ingress controller may reach every session's gateway, and whoever can write Ingresses tells it where to go. By
    a Service that is another name, by addresses of one's own, or by annotations with an address in them, that would be
    another lab's gateway, which the annotations of its own Ingress protect and no other's do. Controllers have hundreds
    of annotations and get new ones, so those that lead nowhere are listed, not those that do.
    """
    rules = [
        {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "resources": resources,
            "operations": ["CREATE", "UPDATE"],
            "scope": "Namespaced",
        }
        for group, resources in (
            ("", ["services", "endpoints"]),
            ("discovery.k8s.io", ["endpointslices"]),
            ("networking.k8s.io", ["ingresses"]),
        )
    ]
    is_service = 'request.resource.resource == "services"'
    has_addresses = 'request.resource.resource in ["endpoints", "endpointslices"]'
    leading = (
        f"variables.now.filter(key, key.matches({json.dumps(CONTROLLERS)}) && !key.matches({json.dumps(HARMLESS)})"
        ' && variables.now[key] != variables.old[?key].orValue(""))'
    )
    message = "in a session's namespace annotations lead a controller nowhere else than to pods of that namespace"
    return policy(
        SESSION_BACKENDS,
        {
            "matchConstraints": {
                "resourceRules": rules,
                "namespaceSelector": {"matchLabels": {COMPONENT: "session"}},
            },
            "matchConditions": [_by_others(*ENDPOINT_CONTROLLERS)],
            "variables": [
                {"name": "old", "expression": _OLD},
                {"name": "now", "expression": _NOW},
                {"name": "leading", "expression": leading},
            ],
            "validations": [
                _validation(
                    f"!({is_service}) || {RUNS_SESSIONS} || ("
                    'dyn(object).spec.?type.orValue("") != "ExternalName"'
                    " && dyn(object).spec.?externalIPs.orValue([]).size() == 0)"
                    " || (oldObject != null && dyn(object).spec == dyn(oldObject).spec)",
                    "in a session's namespace a Service leads to pods of that namespace: give it a selector, not an"
                    " external name or address",
                ),
                _validation(
                    f"!({has_addresses}) || {RUNS_SESSIONS}",
                    "in a session's namespace the control plane alone writes addresses: give the Service a selector",
                ),
                _validation(
                    f"{has_addresses} || variables.leading.size() == 0 || {RUNS_SESSIONS}",
                    message,
                )
                | {"messageExpression": f'"{message}; leave out " + variables.leading.join(", ")'},
            ],
        },
    )


def platform_hosts(domains: Iterable[str], hosts: Iterable[str]) -> list[Manifest]:
    """The policy by which the hosts where people sign in are for those who run the platform; likewise snippets, which
    can do anything, on whatever reaches below a lab's domain.

    Written by the process alone, never from a file: it depends on all environments. An update that leaves the route as
    it is passes.
    """
    exact = routes.Words(exact=tuple(sorted(set(hosts))))
    below = routes.Words(domains=tuple(sorted(set(domains))), exact=exact.exact)
    reaches = "false"
    for kind in routes.KINDS.values():
        reaches = f'request.resource.resource == "{kind.plural}" ? ({kind.reaches(exact)}) : ({reaches})'
    naming = json.dumps([routes.SERVER_ALIAS, routes.WWW_REDIRECT])
    unchanged = (
        "oldObject != null && dyn(object).?spec == dyn(oldObject).?spec"
        f' && {naming}.all(key, object.metadata.?annotations[?key].orValue("") == variables.old[?key].orValue(""))'
    )
    return policy(
        PLATFORM_HOSTS,
        {
            "matchConstraints": {"resourceRules": routes.rules()},
            "matchConditions": [{"name": "has-hosts", "expression": "true" if exact.exact else "false"}],
            "variables": [
                {"name": "old", "expression": _OLD},
                {"name": "snippets", "expression": _snippets()},
            ],
            "validations": [
                _validation(
                    f"{unchanged} || !({_untyped(reaches)}) || {_RUNS_PLATFORM}",
                    "it answers for a host where people sign in, or for all hosts: that takes the right to"
                    f" {routes.ROUTE_VERB} environmentconfigs.pkg.internal",
                ),
                _validation(
                    'request.resource.resource != "ingresses" || variables.snippets.size() == 0'
                    f" || !({_untyped(routes.INGRESS.reaches(below))}) || {_RUNS_PLATFORM} || {RUNS_SESSIONS}",
                    "snippets of an Ingress that reaches below a lab's domain could open every lab: that takes the"
                    f" right to {routes.ROUTE_VERB} environmentconfigs.pkg.internal",
                ),
            ],
        },
    )


def _snippets() -> str:
    return f'{_NOW}.filter(key, key.matches({json.dumps(SNIPPETS)}) && {_NOW}[key] != variables.old[?key].orValue(""))'


def _untyped(expression: str) -> str:
    """Not checked against the schemas of kinds: each of the others would lack some field."""
    return expression.replace("object.?spec", "dyn(object).?spec")


def _by_others(*usernames: str) -> Manifest:
    return {"name": "by-others", "expression": f"!(request.userInfo.username in {json.dumps(list(usernames))})"}


def _validation(expression: str, message: str) -> Manifest:
    return {"expression": expression, "message": message, "reason": "Forbidden"}
