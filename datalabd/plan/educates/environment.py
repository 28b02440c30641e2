"""The WorkshopEnvironment: the workshop namespace, and a copy of the Workshop that sessions are made from."""

from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.plan.educates.workshop import EDUCATES
from datalabd.plan.metadata import ours


def workshop_environment(lab: Lab) -> Manifest:
    """WorkshopEnvironment `N`. Educates ignores `session.ingress`; it stands there as existing labs have it."""
    ingress = lab.environment.data.ingress
    return ours(
        lab,
        {
            "apiVersion": EDUCATES,
            "kind": "WorkshopEnvironment",
            "metadata": {"name": lab.name},
            "spec": {
                "workshop": {"name": lab.name},
                "analytics": {"amplitude": {"trackingId": ""}},
                "cookies": {},
                "environment": {"objects": [], "secrets": []},
                "request": {"enabled": False},
                "session": {
                    "ingress": {"class": ingress.class_ or "", "domain": ingress.domain, "secret": ingress.secret}
                },
                "theme": {"name": "default-website-theme"},
            },
        },
    )
