import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ABANDON, BACKUP, CLAIM_ANNOTATIONS, PROTECT, RESTORE, ROTATE, Manifest
from datalabd.status import deleting
from tests.factories import NOW, claim, environment
from webhooks.requests import CHECKS, errors

SERVER = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}


def asking(key: str, value: str) -> Manifest:
    """A claim with one database server and one cache store that asks for something."""
    made = claim(databases={"pg0": SERVER}, cacheStores={"cache": {"storage": "1Gi"}})
    return made | {"metadata": made["metadata"] | {"annotations": {key: value}}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (ROTATE, "postgres/pg0/1"),
        (ROTATE, "redis/cache/2026-01, login/lab/a.b_c"),
        (ROTATE, "client/lab/1"),
        (BACKUP, "pg0/one"),
        (RESTORE, "pg0/undo"),
        (RESTORE, "pg0/undo@2026-01-31T12:00:00Z"),
        (RESTORE, "pg1=pg0/copy@2026-01-31T12:00:00+02:00"),
        (ABANDON, ""),
        (PROTECT, "true"),
        (PROTECT, "false"),
    ],
)
def test_what_will_be_heeded(key: str, value: str) -> None:
    assert errors(asking(key, value), None) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (ROTATE, "pg0", "must be <kind>/<name>/<nonce>"),
        (ROTATE, "postgres/pg0/", "must be <kind>/<name>/<nonce>"),
        (ROTATE, "postgres/pg1/1", "postgres/pg1 is not declared; declared: pg0"),
        (ROTATE, "qdrant/x/1", "qdrant/x is not declared; declared: none"),
        (
            ROTATE,
            "mysql/pg0/1",
            "there is no kind mysql: supported values: postgres, mongodb, redis, qdrant, login, client",
        ),
        (ROTATE, "client/other/1", "client/other is not declared; declared: lab"),
        (ROTATE, "login/other/1", "login/other is not declared; declared: lab"),
        (BACKUP, "pg0", "must be <host>/<nonce>"),
        (BACKUP, "pg1/1", "spec.databases has no pg1; it has pg0"),
        (RESTORE, "pg0", "must be <host>[=<source>]/<nonce>[@<time>]"),
        (RESTORE, "pg0/1@2026-13-31T12:00:00Z", "must be <host>[=<source>]/<nonce>[@<time>]"),
        (RESTORE, "pg0/1@yesterday", "must be <host>[=<source>]/<nonce>[@<time>]"),
        (RESTORE, "pg0=pg0/1", "a server cannot start from itself"),
        (RESTORE, "pg0/1@0001-01-01T00:00:00+14:00", "must be <host>[=<source>]/<nonce>[@<time>]"),
        (RESTORE, "pg1/1", "spec.databases has no pg1"),
        (RESTORE, "pg1=pg2/1", "spec.databases has no pg2"),
        (ROTATE, "," * 5000, "must have at most 2048 bytes"),
        (
            ABANDON,
            "volumes",
            "there is no such step of a deletion: "
            "supported values: access, sessions, storage, runtime, credentials, identity",
        ),
        (ABANDON, "Storage", "there is no such step"),
        (ABANDON, "storage runtime", "there is no such step"),
        (PROTECT, "yes", 'must be "true" or "false"'),
        (PROTECT, "True", 'must be "true" or "false"'),
        (PROTECT, " true", 'must be "true" or "false"'),
        (PROTECT, "true,", 'must be "true" or "false"'),
        (PROTECT, "", 'must be "true" or "false"'),
    ],
)
def test_what_nobody_would_do(key: str, value: str, said: str) -> None:
    (error,) = errors(asking(key, value), None)
    assert error.path == f"metadata.annotations[{key}]"
    assert said in error.detail


def test_each_request_is_told_of() -> None:
    assert len(errors(asking(ROTATE, "a, postgres/pg0/1, b"), None)) == 2


def test_nothing_is_asked_for_any_more() -> None:
    assert errors(asking(ROTATE, " , "), asking(ROTATE, "postgres/pg0/1")) == []


def test_an_annotation_that_stays_is_not_asked_about() -> None:
    before = asking(ROTATE, "postgres/gone/1")
    assert errors(asking(ROTATE, "postgres/gone/1"), before) == []
    assert errors({"metadata": {"annotations": None}, "spec": None}, None) == []
    assert errors({"metadata": {"annotations": {BACKUP: "pg0/1"}}, "spec": "x"}, None) != []


def going(step: str, annotation: str, *, stalled: bool = True, deleted: bool = True) -> Manifest:
    """A claim whose deletion waits in a step."""
    made = asking(ABANDON, annotation)
    times = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    status = deleting(made, "waits for something", stalled, NOW, step=step)
    return made | {"metadata": made["metadata"] | times, "status": status}


@pytest.mark.parametrize(
    ("step", "before", "now"),
    [
        pytest.param("storage", "", "storage", id="the one named"),
        pytest.param("runtime", "storage", "storage, runtime", id="one after another"),
        pytest.param("runtime", "storage,sessions", "sessions", id="fewer"),
    ],
)
def test_the_step_at_which_a_deletion_has_stalled_may_be_skipped(step: str, before: str, now: str) -> None:
    assert errors(going(step, now), going(step, before)) == []


NOT_STALLED = "this claim has no deletion that has stalled"


@pytest.mark.parametrize(
    ("claim", "items", "said"),
    [
        pytest.param(asking(ABANDON, "access,sessions"), ["access", "sessions"], NOT_STALLED, id="not deleted"),
        pytest.param(going("sessions", "sessions", deleted=False), ["sessions"], NOT_STALLED, id="status alone"),
        pytest.param(going("sessions", "sessions", stalled=False), ["sessions"], NOT_STALLED, id="not stalled yet"),
        pytest.param(
            going("sessions", "sessions,runtime"), ["runtime"], "this one has stalled at sessions", id="another step"
        ),
    ],
)
def test_no_other_step_may_be_skipped(claim: Manifest, items: list[str], said: str) -> None:
    """Sessions would run on without a claim, and nobody would see them."""
    found = errors(claim, None)
    wanted = f"only the step at which a deletion has stalled, by condition Stalled, can be skipped; {said}"
    assert [(error.value, error.detail) for error in found] == [(item, wanted) for item in items]


@pytest.mark.parametrize("key", [ABANDON, PROTECT])
def test_a_misspelled_word_that_stays_holds_nothing_up(key: str) -> None:
    before = asking(key, "ture")
    assert errors(asking(key, "ture"), before) == []
    assert errors(asking(ROTATE, "postgres/pg0/1"), before) == []
    assert [error.value for error in errors(asking(key, "treu"), before)] == ["treu"]


ADMIN = {"namespace": "iam", "name": "admin"}


@pytest.mark.parametrize(
    ("item", "within", "said"),
    [
        ("login/lab/1", environment(), None),
        ("login/lab/1", environment(auth={"login": "storage"}), "this lab has no login of its own"),
        ("client/lab/1", environment(iam={"url": "https://id.example.org", "adminSecret": ADMIN}), None),
        ("client/lab/1", environment(), "this lab has no client in Keycloak: environment courses names none (iam.url)"),
    ],
)
def test_what_a_lab_may_lack(item: str, within: EnvironmentConfig, said: str | None) -> None:
    told = [error.detail for error in errors(asking(ROTATE, item), None, within)]
    assert [said in detail for detail in told if said] == ([True] if said else []) == [True for _ in told]


def test_what_is_checked_is_known() -> None:
    assert CHECKS.keys() < CLAIM_ANNOTATIONS
