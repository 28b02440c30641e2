"""What makes an ingress controller ask who comes: annotations of session Ingresses, by the environment's protection."""

from datalabd.api.environment import EnvironmentConfig, ProtectionType
from datalabd.api.meta import Manifest

NGINX = "nginx.ingress.kubernetes.io"


def annotations(environment: EnvironmentConfig, name: str, namespace: str, host: str) -> dict[str, str]:
    """The annotations the session Ingresses of lab `name` (claim in `namespace`) must carry; `host` is the main one."""
    protection = environment.data.ingress.protection
    wanted: dict[str, str] = {}
    match protection.type:
        case ProtectionType.NGINX:
            wanted = {
                f"{NGINX}/auth-url": environment.data.ingress.auth_url,
                f"{NGINX}/auth-signin": environment.data.ingress.signin_url,
                f"{NGINX}/auth-response-headers": ",".join(protection.response_headers),
            }
        case ProtectionType.TRAEFIK:
            wanted = {"traefik.ingress.kubernetes.io/router.middlewares": protection.middleware or ""}
        case ProtectionType.ANNOTATIONS:
            wanted = dict(protection.annotations)
    values = {
        "{name}": name,
        "{namespace}": namespace,
        "{realm}": environment.data.iam.realm,
        "{group}": name,
        "{host}": host,
    }
    return {key: _filled(value, values) for key, value in wanted.items()}


def missing(wanted: dict[str, str], ingress: Manifest) -> dict[str, str]:
    """Those of the wanted annotations that an Ingress lacks or has otherwise."""
    have = ingress["metadata"].get("annotations") or {}
    return {key: value for key, value in wanted.items() if have.get(key) != value}


def main_host(ingress: Manifest) -> str:
    """The first host of an Ingress, empty if it has none."""
    rules = (ingress.get("spec") or {}).get("rules") or [{}]
    return str(rules[0].get("host") or "")


def _filled(template: str, values: dict[str, str]) -> str:
    # Not str.format: nginx' own variables and a stray brace have to survive.
    for variable, value in values.items():
        template = template.replace(variable, value)
    return template
