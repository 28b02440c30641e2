"""What makes an ingress controller ask who comes: annotations of session Ingresses, by the environment's protection."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from datalabd import names
from datalabd.api.environment import TEMPLATE_WORDS, EnvironmentConfig, EnvironmentData, ProtectionType
from datalabd.api.meta import PROTECTION, Manifest
from datalabd.live import objects, text

NGINX = "nginx.ingress.kubernetes.io"
APISIX = "k8s.apisix.apache.org"
SESSION_INGRESS = {
    "training.educates.dev/component": "session",
    "training.educates.dev/application": "workshop",
}
"""Labels of the Ingress by which people reach a session."""
REGISTRY_INGRESS = SESSION_INGRESS | {"training.educates.dev/application": "registry"}
"""Labels of that by which container tools reach its registry, with a login of its own that no browser is asked for."""
WEAKENING = (
    rf"^{re.escape(NGINX)}/("
    # Configuration of anybody's choice.
    r".*-snippet"
    # Another answer to the question who may come, or one for many.
    r"|auth-url|auth-signin|auth-method|auth-response-headers|auth-proxy-set-headers|auth-cache-.*"
    r"|enable-global-auth|satisfy"
    # Past the question, or away from the session.
    r"|ssl-passthrough|canary.*|server-alias|mirror-.*|permanent-redirect|temporal-redirect"
    r"|from-to-www-redirect)$"
    rf"|^{re.escape(APISIX)}/(plugin-config-name|auth-.*|http-redirect|svc-namespace)$"
    r"|^traefik\.ingress\.kubernetes\.io/router\.(middlewares|entrypoints)$"
)
"""Annotations of a session's Ingress by which it could be opened, in the syntax of Python and of RE2."""

CREDENTIAL_HEADERS = re.compile(r"authorization|token|cookie", re.IGNORECASE)
"""Headers of an approval that hold a credential of the visitor, which may open other labs too."""

_WORD = re.compile(rf"(?<!\$)({'|'.join(map(re.escape, TEMPLATE_WORDS))})")


def annotations(environment: EnvironmentConfig, name: str, namespace: str, host: str) -> dict[str, str]:
    """The annotations the session Ingresses of lab `name` (claim in `namespace`) must carry; `host` is the main one.

    One of them names the others: by it the API server keeps them while nobody of ours runs.
    """
    ingress = environment.data.ingress
    protection = ingress.protection
    values = words(environment.data, name, namespace) | {"{host}": host}
    wanted: dict[str, str] = {}
    match protection.type:
        case ProtectionType.NGINX:
            wanted = {
                f"{NGINX}/auth-url": address(ingress.auth_url, values),
                f"{NGINX}/auth-signin": address(ingress.signin_url, values),
                f"{NGINX}/auth-response-headers": ",".join(handed_on(protection.response_headers)),
            }
        case ProtectionType.APISIX:
            wanted = {f"{APISIX}/plugin-config-name": names.apisix_plugins(name)}
        case ProtectionType.TRAEFIK:
            wanted = {"traefik.ingress.kubernetes.io/router.middlewares": _filled(protection.middleware or "", values)}
        case ProtectionType.ANNOTATIONS:
            wanted = {key: _filled(value, values) for key, value in protection.annotations.items()}
    return wanted | {PROTECTION: ",".join(sorted(wanted))}


def handed_on(headers: Iterable[str]) -> list[str]:
    """Those headers of the approval that a session receives: none that holds a credential of the visitor's."""
    return [header for header in headers if not CREDENTIAL_HEADERS.search(header)]


def missing(wanted: dict[str, str], ingress: Manifest) -> dict[str, str | None]:
    """How the annotations of an Ingress must change: those it lacks or has otherwise, and None for what undoes them."""
    have = ingress["metadata"].get("annotations") or {}
    undone = dict.fromkeys(weakening(have | wanted))
    return {key: value for key, value in wanted.items() if have.get(key) != value} | undone


def weakening(annotations: Mapping[str, str]) -> list[str]:
    """Those of the annotations of a session's Ingress that could undo its protection and are no part of it.

    None where no annotation protects it: what others annotate then may be what does.
    """
    named = set(annotations.get(PROTECTION, "").split(",")) - {""}
    return [key for key in annotations if named and key not in named and re.search(WEAKENING, key)]


def other_class(environment: EnvironmentConfig, ingress: Manifest) -> str:
    """The class of controllers an Ingress is for, where those do not read what protects it; empty if they do."""
    data = environment.data.ingress
    annotation = (ingress["metadata"].get("annotations") or {}).get("kubernetes.io/ingress.class")
    found = text(ingress, "spec", "ingressClassName") or annotation or ""
    annotates = data.protection.type not in (ProtectionType.OFF, ProtectionType.EXTERNAL)
    return found if annotates and data.class_ and found != data.class_ else ""


def main_host(ingress: Manifest) -> str:
    """The first host of an Ingress, empty if it has none."""
    return next((text(rule, "host") for rule in objects(ingress, "spec", "rules")), "")


def words(data: EnvironmentData, name: str, namespace: str) -> dict[str, str]:
    """What is filled into the templates of an environment for lab `name`, but for the host of one Ingress."""
    host = f"{name}.{data.ingress.domain}"
    return {"{name}": name, "{namespace}": namespace, "{realm}": data.iam.realm, "{group}": name, "{host}": host}


def _filled(template: str, values: Mapping[str, str]) -> str:
    # Not str.format: nginx' own variables, ${host} among them, and a stray brace have to survive.
    return _WORD.sub(lambda word: values[word[0]], template)


def address(template: str, values: Mapping[str, str]) -> str:
    """The template of an address, filled in so that no value can be more than a part of it."""
    return _filled(template, {word: quote(value, safe="") for word, value in values.items()})


def secret_names(lab_name: str) -> list[str]:
    """The Secrets of the workshop namespace that open a lab's login: of its Keycloak client, and what APISIX reads."""
    return [names.identity_secret_copy(lab_name), names.apisix_secret(lab_name)]
