"""Which annotations a session's user may give an Ingress; the integration tests try them on an API server."""

import re

import pytest

from webhooks.ingress_policies import CONTROLLERS, HARMLESS

NGINX = "nginx.ingress.kubernetes.io"


def leads(key: str) -> bool:
    """Whether the annotation could lead a controller elsewhere."""
    return bool(re.search(CONTROLLERS, key)) and not re.search(HARMLESS, key)


@pytest.mark.parametrize(
    "key",
    [
        *(
            f"{NGINX}/{name}"
            for name in (
                *("mirror-target", "mirror-host", "auth-url", "auth-signin", "default-backend", "server-snippet"),
                *("configuration-snippet", "stream-snippet", "auth-secret", "auth-tls-secret", "proxy-ssl-secret"),
                *("auth-proxy-set-headers", "fastcgi-params-configmap", "canary", "ssl-passthrough", "satisfy"),
                *("upstream-vhost", "not-known-yet", "a-proxy-body-size", "proxy-body-size-b"),
            )
        ),
        "ingress.kubernetes.io/auth-url",
        "ingress.example.org/auth-url",
        "haproxy-ingress.github.io/auth-url",
        "haproxy-ingress.github.io/config-backend",
        "haproxy.org/backend-config-snippet",
        "haproxy.org/route-acl",
        "nginx.org/location-snippets",
        "nginx.org/policies",
        "nginx.com/jwt-login-url",
        "appprotect.f5.com/app-protect-policy",
        "traefik.ingress.kubernetes.io/router.middlewares",
        "traefik.ingress.kubernetes.io/service.serverstransport",
        "k8s.apisix.apache.org/auth-uri",
        "k8s.apisix.apache.org/svc-namespace",
        "k8s.apisix.apache.org/plugin-config-name",
        "konghq.com/plugins",
        "configuration.konghq.com/override",
        "getambassador.io/config",
        "zalando.org/skipper-filter",
        "alb.ingress.kubernetes.io/actions.other",
    ],
)
def test_annotations_that_lead_elsewhere(key: str) -> None:
    assert leads(key)


@pytest.mark.parametrize(
    "key",
    [
        f"{NGINX}/proxy-body-size",
        f"{NGINX}/proxy-read-timeout",
        f"{NGINX}/rewrite-target",
        f"{NGINX}/force-ssl-redirect",
        f"{NGINX}/backend-protocol",
        f"{NGINX}/session-cookie-name",
        f"{NGINX}/enable-cors",
        f"{NGINX}/server-alias",
        f"{NGINX}/whitelist-source-range",
        "haproxy.org/timeout-server",
        "nginx.org/websocket-services",
        "projectcontour.io/websocket-routes",
        "traefik.ingress.kubernetes.io/service.sticky.cookie",
        "k8s.apisix.apache.org/upstream-read-timeout",
        "k8s.apisix.apache.org/enable-websocket",
        "ingress.kubernetes.io/https-forwarding-rule",
        "kubernetes.io/ingress.class",
        "cert-manager.io/cluster-issuer",
        "kubectl.kubernetes.io/last-applied-configuration",
        "example.org/auth-url",
        "auth-url",
    ],
)
def test_annotations_that_lead_nowhere(key: str) -> None:
    assert not leads(key)
