"""A lab that is older than a rule goes on; what is younger is not made."""

from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed, Phase
from datalabd.plan import Plan, plan
from datalabd.rules import judge
from datalabd.status import status
from datalabd.stores import DatabaseFacts, Size, StoreFacts
from tests.factories import NOW, claim, environment, fresh, running

STORE = {"storage": "2Gi"}
BAD = {"http": {"url": "http://100.100.100.200/latest"}}
STRICT = environment(
    allowed={"limits": {"volume": "1Gi", "volumes": "3Gi", "sessions": 1, "stores": 1, "memory": "2Gi"}},
    storageClasses={"allowed": ["standard"]},
    reservedNames=["lab"],
)
LAX = environment()
SPEC: dict[str, Any] = {
    "sessions": [{"name": "main"}, {"name": "second"}],
    "quota": {"storage": "2Gi"},
    "databases": {"pg": {"names": ["a"], "storage": "2Gi", "backupStorage": "2Gi"}},
    "documentStores": {"docs": STORE},
    "cacheStores": {"cache": STORE},
    "vectorStores": {"vectors": STORE},
    "persistence": {"storageClassName": "fast"},
    "files": [BAD],
}
CLASSES = '{"databases":{"pg":{"storageClassName":"fast"}}}'


def older(**spec: Any) -> tuple[Lab, Observed]:
    """A lab that breaks every rule, all of which exists, in an environment that became strict."""
    made = claim(**SPEC | spec)
    made["metadata"]["annotations"] = {"datalabs.pkg.internal/conversion": CLASSES}
    before = resolve(made, LAX)
    seen = running(before)
    homes = {f"lab-{session}-persistent": Size("2Gi", None) for session in before.sessions}
    vectors = {key: replace(facts, data=Size("2Gi", None)) for key, facts in seen.vector_stores.items()}
    caches = {key: replace(facts, data=Size("2Gi", None)) for key, facts in seen.cache_stores.items()}
    documents = {key: replace(facts, volumes=({"spec": {}},)) for key, facts in seen.document_stores.items()}
    seen = replace(seen, homes=homes, vector_stores=vectors, cache_stores=caches, document_stores=documents)
    return resolve(made, STRICT), seen


def held(made: Plan) -> dict[str, str]:
    """What stages wait for, by name."""
    return {stage.name: stage.waits for stage in made.stages if stage.waits is not None}


def synced(lab: Lab, seen: Observed) -> Manifest:
    found = status(claim(), lab, seen, plan(lab, seen, fresh()), [], None, NOW)
    (condition,) = (condition for condition in found["conditions"] if condition["type"] == "Synced")
    return condition  # type: ignore[no-any-return]


def test_a_lab_that_breaks_every_rule_goes_on_and_is_reported() -> None:
    lab, seen = older()
    judged = judge(lab, seen)
    assert judged.held == {}
    assert [error.path for error in judged.broken] == [
        "spec.quota.storage",
        "spec.databases[pg].storage",
        "spec.databases[pg].backupStorage",
        "spec.documentStores[docs].storage",
        "spec.cacheStores[cache].storage",
        "spec.vectorStores[vectors].storage",
        "spec",
        "spec.sessions",
        "spec",
        "spec.quota.memory",
        "metadata.name",
        "spec.files[0].http.url",
        "spec.persistence.storageClassName",
        "spec.databases[pg].storageClassName",
    ]
    made = plan(lab, seen, fresh())
    assert held(made) == {}
    assert [stage.name for stage in made.stages] == [
        stage.name for stage in plan(replace(lab, environment=LAX), seen, fresh()).stages
    ]
    condition = synced(lab, seen)
    assert (condition["status"], condition["reason"]) == ("True", "RulesBroken")
    assert condition["message"].startswith("goes on, although it breaks rules: spec.quota.storage: Forbidden: ")


def test_what_is_not_there_yet_is_not_made() -> None:
    lab, seen = older()
    seen = replace(
        seen,
        homes={"lab-main-persistent": Size("2Gi", None)},
        databases={"pg": DatabaseFacts()},
        document_stores={"docs": StoreFacts()},
        cache_stores={"cache": StoreFacts()},
        vector_stores={"vectors": StoreFacts()},
        workshop_spec={"workshop": {"files": []}},
    )
    judged = judge(lab, seen)
    within = "in environment courses"
    too_large = f"it would exceed allowed.limits.volume {within}"
    source = (
        'spec.files[0].http.url: Invalid value: "http://100.100.100.200/latest": must not point at a loopback, '
        "link-local, metadata or blocked address"
    )
    assert judged.held == {
        "second": too_large,
        "database pg": too_large,
        "document store docs": too_large,
        "cache store cache": too_large,
        "vector store vectors": too_large,
        "files": source,
    }
    made = plan(lab, seen, fresh())
    waits = held(made)
    assert waits["runtime"] == source
    for stage in ("database pg", "document store docs", "cache store cache", "vector store vectors", "session second"):
        assert waits[stage] == too_large
    assert "session main" not in waits
    (workshop_namespace,) = (stage for stage in made.stages if stage.name == "workshop namespace")
    volumes = {obj["metadata"]["name"] for obj in workshop_namespace.objects if obj["kind"] == "PersistentVolumeClaim"}
    assert volumes == {"lab-datalab", "lab-main-persistent"}
    condition = synced(lab, seen)
    assert (condition["status"], condition["reason"]) == ("False", "ClaimInvalid")
    assert condition["message"].startswith(f"cache store cache is not made: {too_large}; database pg is not made")


@pytest.mark.parametrize(
    ("changes", "is_held"),
    [
        pytest.param({}, False, id="in the Workshop"),
        pytest.param({"workshop_spec": None}, False, id="in the environment's copy of a Workshop that is gone"),
        pytest.param({"workshop_spec": None, "workshop_in_use": None}, True, id="nowhere"),
        pytest.param({"workshop_spec": {"workshop": "?"}}, True, id="in none that can be read"),
    ],
)
def test_files_that_are_applied_go_on(changes: dict[str, Any], is_held: bool) -> None:
    lab, seen = older()
    assert ("files" in judge(lab, replace(seen, **changes)).held) is is_held


def test_a_home_of_a_class_that_is_not_allowed_any_more_is_not_made() -> None:
    lab, seen = older(files=[])
    lab = replace(lab, environment=environment(storageClasses={"allowed": ["standard"]}))
    one = replace(seen, homes={"lab-main-persistent": Size("2Gi", None)})
    refusal = 'spec.persistence.storageClassName: Unsupported value: "fast": supported values: standard'
    assert judge(lab, one).held == {"second": refusal}
    assert refusal in [str(error) for error in judge(lab, one).broken]


def test_a_name_is_held_by_what_has_it() -> None:
    lab, seen = older(files=[])
    nothing = replace(seen, workshop_spec=None, phase=Phase.ABSENT)
    assert "metadata.name" in judge(lab, nothing).held[""]
    assert held(plan(lab, nothing, fresh()))["runtime"]


def test_a_lab_that_breaks_no_rule() -> None:
    lab = resolve(claim(sessions=[{"name": "main"}]), LAX)
    assert synced(lab, running(lab))["reason"] == "ReconcileSuccess"
