from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from datalabd.api.conversion import to_v1beta2
from datalabd.api.v1beta2 import Budget, Datalab, DatalabSpec, Policy, Role, State
from tests.reference import vector

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"


def test_reference_claims_parse() -> None:
    parsed = [Datalab.parse(yaml.safe_load(path.read_text())) for path in sorted(vector("claims").iterdir())]
    assert [lab.metadata.name for lab in parsed] == ["s-joe", "s-jeff", "s-jane", "s-john"]


@pytest.mark.parametrize(
    ("number", "name"), [("001", "s-joe"), ("002", "s-jeff"), ("003", "s-jane"), ("004", "s-john")]
)
def test_samples_mean_what_the_reference_claims_mean(number: str, name: str) -> None:
    sample = Datalab.parse(to_v1beta2(yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())))
    reference = Datalab.parse(yaml.safe_load(vector(f"claims/{number}-lab.yaml").read_text()))
    # The storage class is named after what the sample environment has.
    assert sample.spec.model_dump(exclude={"persistence"}) == reference.spec.model_dump(exclude={"persistence"})


def test_fields_of_a_claim() -> None:
    spec = Datalab.parse(yaml.safe_load((SAMPLES / "s-jeff.yaml").read_text())).spec
    assert spec.users == ["jeff", "jim", "jane"]
    assert spec.user_overrides["jim"].role is Role.ADMIN
    assert spec.quota.budget is Budget.X_LARGE
    assert spec.security.external_egress is False
    assert spec.databases["pg0"].backup_storage == "3Gi"


def test_defaults() -> None:
    spec = DatalabSpec()
    assert (spec.users, spec.sessions, spec.files, spec.databases) == ([], [], [], {})
    assert (spec.data.enabled, spec.data.read_only_mount, spec.registry.enabled, spec.vcluster) == (
        True,
        False,
        False,
        False,
    )
    assert (spec.quota.memory, spec.security.policy, spec.secret_name) == (None, None, None)


def test_a_session_is_started_unless_said_otherwise() -> None:
    assert DatalabSpec.model_validate({"sessions": [{"name": "a"}]}).sessions[0].state is State.STARTED


def test_a_claim_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DatalabSpec().vcluster = True  # type: ignore[misc]


def test_unknown_fields_are_ignored() -> None:
    assert DatalabSpec.model_validate({"colour": "blue"}) == DatalabSpec()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"vcluster": "true"}, id="text for a boolean"),
        pytest.param({"quota": {"memory": 1024}}, id="number for a quantity"),
        pytest.param({"users": None}, id="null users"),
        pytest.param({"userOverrides": {"a": {"grantedAt": "2025-01-10"}}}, id="date without a time"),
        pytest.param({"databases": {"pg": {"names": [], "storage": "1Gi", "backupStorage": "1Gi"}}}, id="no database"),
    ],
)
def test_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatalabSpec.model_validate(spec)


def test_policies_are_ordered_strictest_first() -> None:
    assert list(Policy) == ["restricted", "baseline", "privileged"]
