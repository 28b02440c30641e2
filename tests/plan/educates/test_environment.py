from typing import Any

import pytest

from datalabd.plan.educates.environment import workshop_environment
from datalabd.plan.metadata import ours
from tests.factories import environment, lab


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        pytest.param({}, {"class": "", "domain": "lab.example.org", "secret": "wildcard-tls"}, id="defaults"),
        pytest.param(
            {"class": "nginx", "secret": "tls"},
            {"class": "nginx", "domain": "lab.example.org", "secret": "tls"},
            id="in the operator's words",
        ),
    ],
)
def test_workshop_environment(ingress: dict[str, Any], expected: dict[str, str]) -> None:
    here = lab(environment(ingress={"domain": "lab.example.org"} | ingress))
    assert workshop_environment(here) == ours(
        here,
        {
            "apiVersion": "training.educates.dev/v1beta1",
            "kind": "WorkshopEnvironment",
            "metadata": {"name": "lab"},
            "spec": {
                "workshop": {"name": "lab"},
                "analytics": {"amplitude": {"trackingId": ""}},
                "cookies": {},
                "environment": {"objects": [], "secrets": []},
                "request": {"enabled": False},
                "session": {"ingress": expected},
                "theme": {"name": "default-website-theme"},
            },
        },
    )
