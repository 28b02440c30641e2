import base64
import json
from typing import Any

import pytest

from datalabd import routes
from datalabd.api.meta import Manifest
from webhooks.registration import Endpoint, claim_webhooks, ingress_webhooks

INSIDE = Endpoint(b"pem", service=("datalabd", "datalabd"))
OUTSIDE = Endpoint(b"pem", url="https://127.0.0.1:9443")
CA = base64.b64encode(b"pem").decode()


def webhooks(configurations: list[Manifest]) -> list[Manifest]:
    return [webhook for configuration in configurations for webhook in configuration["webhooks"]]


ALL = webhooks(claim_webhooks(INSIDE)) + webhooks(ingress_webhooks(INSIDE, ["lab.example.org"]))
(WARNS,) = [webhook for webhook in ALL if webhook["name"] == "warn.datalabs.pkg.internal"]
DECIDE = [webhook for webhook in ALL if webhook is not WARNS]


def test_a_service_is_called_by_name() -> None:
    assert INSIDE.client_config("/convert") == {
        "caBundle": CA,
        "service": {"namespace": "datalabd", "name": "datalabd", "path": "/convert", "port": 443},
    }


def test_a_workstation_is_called_by_url() -> None:
    assert OUTSIDE.client_config("/convert") == {"caBundle": CA, "url": "https://127.0.0.1:9443/convert"}


def test_without_an_authority_somebody_else_names_it() -> None:
    assert Endpoint(b"", url="https://a").client_config("/b") == {"url": "https://a/b"}


@pytest.mark.parametrize("webhook", DECIDE, ids=[webhook["name"] for webhook in DECIDE])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failurePolicy", "Fail"),
        ("sideEffects", "None"),
        ("matchPolicy", "Equivalent"),
        ("admissionReviewVersions", ["v1"]),
        ("timeoutSeconds", 10),
    ],
)
def test_every_webhook_fails_closed_and_has_no_effects(webhook: Manifest, field: str, value: Any) -> None:
    assert webhook[field] == value


def test_words_about_a_deletion_do_not_hold_it_up() -> None:
    assert (WARNS["failurePolicy"], WARNS["sideEffects"], WARNS["timeoutSeconds"]) == ("Ignore", "None", 2)
    assert [rule["operations"] for rule in WARNS["rules"]] == [["DELETE"]]


def test_only_the_deletion_of_environments_is_judged() -> None:
    judged = {
        resource
        for webhook in DECIDE
        for rule in webhook["rules"]
        if set(rule["operations"]) - {"CREATE", "UPDATE"}
        for resource in rule["resources"]
    }
    assert judged == {"environmentconfigs"}


def test_status_is_nobodys_business() -> None:
    assert {resource for webhook in ALL for rule in webhook["rules"] for resource in rule["resources"]} == {
        "datalabs",
        "environmentconfigs",
        *(kind.plural for kind in routes.KINDS.values()),
    }


def test_claims_are_looked_at_in_the_version_they_are_written_in() -> None:
    rules = [rule for webhook in ALL for rule in webhook["rules"] if rule["resources"] == ["datalabs"]]
    assert [rule["apiVersions"] for rule in rules] == [["v1beta1", "v1beta2"]] * 3


def test_the_order_and_number_of_domains_do_not_matter() -> None:
    assert ingress_webhooks(INSIDE, ["b", "a", "b"]) == ingress_webhooks(INSIDE, ["a", "b"])


def test_without_a_domain_nothing_is_guarded() -> None:
    guards = webhooks(ingress_webhooks(INSIDE, []))[1:]
    assert len(guards) == len(routes.KINDS)
    assert {guard["matchConditions"][1]["expression"] for guard in guards} == {"false"}


def test_an_update_that_changes_nothing_guarded_is_not_asked_about() -> None:
    for webhook in webhooks(ingress_webhooks(INSIDE, ["a"])):
        assert webhook["matchConditions"][0]["name"] == "changes-what-is-guarded"


def test_a_guard_has_room_for_its_condition() -> None:
    """The API server takes conditions of any length, but no object of more than 1.5 MB."""
    domains = [f"labs-{number}.department-{number}.example.org" for number in range(500)]
    made = ingress_webhooks(INSIDE, domains)
    assert len(json.dumps(made)) < 1_000_000
