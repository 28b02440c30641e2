"""What is said of claims that ask operators for what they cannot do, in the words of both versions."""

from typing import Any

import pytest

from datalabd.api.meta import V1BETA1, V1BETA2, FieldError, Manifest, NamespacedName, Problem
from datalabd.steps import run
from datalabd.submission import Submission
from datalabd.validation import listed
from hack import labs
from tests.factories import claim, environment
from webhooks import validate
from webhooks.review import AdmissionRequest
from webhooks.warn import LENGTH_MAX

STORE = {"storage": "1Gi"}
HERE = environment()


def database(storage: str = "1Gi", backup: str = "1Gi") -> Manifest:
    return {"names": ["a"], "storage": storage, "backupStorage": backup}


def answer(new: Manifest, old: Manifest | None = None) -> Manifest:
    operation = "CREATE" if old is None else "UPDATE"
    request = AdmissionRequest("u-1", operation, "team", "lab", new, old, dry_run=False, username="joe")
    before = None if old is None else Submission(old, HERE)
    response: Manifest = run(validate.datalab(request, Submission(new, HERE), before))["response"]
    return response


def causes(response: Manifest) -> dict[str, str]:
    """What is said of each field; nothing where all is well."""
    found = response.get("status", {}).get("details", {}).get("causes", [])
    return {cause["field"]: cause["message"] for cause in found}


def test_a_name_that_others_have_twice_over_is_refused_once() -> None:
    new = claim(sessions=[{"name": "a"}, {"name": "b"}])
    fields = [f"spec.sessions[{index}].name" for index in range(2)]
    taken = validate.Taken(
        {("namespace", "lab-a"): NamespacedName("elsewhere", "other")},
        {"lab-a", "lab-b"},
        [FieldError(field, Problem.FORBIDDEN, "x", "answered") for field in fields],
    )
    request = AdmissionRequest("u-1", "CREATE", "team", "lab", new, None, dry_run=False, username="joe")
    response = run(validate.datalab(request, Submission(new, HERE), None, taken))["response"]
    occupied = "a namespace of that name exists and is not a lab's; the lab would need it for itself"
    assert [(cause["field"], cause["message"]) for cause in response["status"]["details"]["causes"]] == [
        (fields[0], 'Invalid value: the namespace "lab-a" belongs to another lab'),
        (fields[1], f'Invalid value: "lab-b": {occupied}'),
    ]


def test_the_largest_claim_is_judged_in_small_steps() -> None:
    generous = {"sessions": 1000, "stores": 1000, "volumes": "1Pi", "memory": "1Pi"}
    within = environment(allowed={"limits": generous})
    new = labs.largest("lab")
    request = AdmissionRequest("u-1", "CREATE", "default", "lab", new, None, dry_run=False, username="joe")
    assert run(validate.datalab(request, Submission(new, within)))["response"]["allowed"]
    pauses = list(validate.datalab(request, Submission(new, within)))
    assert len(pauses) > len(new["spec"]["sessions"]) + len(new["spec"]["databases"])


def test_an_environment_is_judged_in_steps() -> None:
    """Parsed twice each, the old one and the new: for mistakes, and for what changes."""
    domain = {"ingress": {"domain": "lab.example.org"}}
    old = {"metadata": {"name": "e"}, "data": domain}
    new = {"metadata": {"name": "e"}, "data": domain | {"storage": {"secretNamespace": "storage"}}}
    request = AdmissionRequest("u-1", "UPDATE", "", "e", new, old, dry_run=False, username="joe")
    assert run(validate.environment(request, 1))["response"]["allowed"]
    assert len(list(validate.environment(request, 1))) == 4


SHRINKS = "Forbidden: may not be less than before, 2Gi: volumes cannot shrink"
GROWS = (
    "Forbidden: may not be more than before, 1Gi: its operator does not resize volumes; "
    "add a larger store under another name"
)


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({"quota": {"storage": "1Gi"}}, {"quota": {"storage": "2Gi"}}, {}, id="home grows"),
        pytest.param(
            {"quota": {"storage": "2Gi"}}, {"quota": {"storage": "1Gi"}}, {"spec.quota.storage": SHRINKS}, id="home"
        ),
        pytest.param(
            {"databases": {"pg0": database()}}, {"databases": {"pg0": database("2Gi", "2Gi")}}, {}, id="server grows"
        ),
        pytest.param(
            {"databases": {"pg0": database("2Gi", "2Gi")}},
            {"databases": {"pg0": database()}},
            {"spec.databases[pg0].storage": SHRINKS, "spec.databases[pg0].backupStorage": SHRINKS},
            id="server shrinks",
        ),
        pytest.param(
            {"cacheStores": {"x": STORE}}, {"cacheStores": {"x": {"storage": "2Gi"}}}, {}, id="cache store grows"
        ),
        pytest.param(
            {"cacheStores": {"x": {"storage": "2Gi"}}},
            {"cacheStores": {"x": STORE}},
            {"spec.cacheStores[x].storage": SHRINKS},
            id="cache store shrinks",
        ),
        *(
            pytest.param(
                {field: {"x": {"storage": old}}},
                {field: {"x": {"storage": new}, "y": STORE}},
                {f"spec.{field}[x].storage": said} if said else {},
                id=f"{field} from {old} to {new}",
            )
            for field, grows in (("documentStores", GROWS), ("vectorStores", ""))
            for old, new, said in (("1Gi", "2Gi", grows), ("2Gi", "1Gi", SHRINKS), ("1Gi", "1024Mi", ""))
        ),
        pytest.param(
            {"documentStores": {"x": STORE}},
            {"documentStores": {"x": STORE, "y": {"storage": "2Gi"}}},
            {},
            id="a larger store of another name",
        ),
    ],
)
def test_what_volumes_cannot_follow(
    version: str, old: dict[str, Any], new: dict[str, Any], expected: dict[str, str]
) -> None:
    before, after = (claim(sessions=[{"name": "a"}], **spec) | {"apiVersion": version} for spec in (old, new))
    assert causes(answer(after, before)) == expected


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        *(
            pytest.param({field: {"x": item}}, {field: {"y": item}}, {f"spec.{field}[y]": "x"}, id=f"rename, {field}")
            for field, item in (
                ("databases", database()),
                ("documentStores", STORE),
                ("cacheStores", STORE),
                ("vectorStores", STORE),
            )
        ),
        pytest.param(
            {"cacheStores": {"a": STORE, "b": STORE, "c": STORE}},
            {"cacheStores": {"c": STORE, "d": STORE, "e": STORE}},
            {"spec.cacheStores[d]": "a, b", "spec.cacheStores[e]": "a, b"},
            id="several at once, and one stays",
        ),
        pytest.param(
            {"cacheStores": {"x": STORE}}, {"cacheStores": {}, "vectorStores": {"x": STORE}}, {}, id="of another kind"
        ),
        pytest.param({"cacheStores": {"x": STORE}}, {"cacheStores": {"x": STORE, "y": STORE}}, {}, id="one more"),
        pytest.param({"cacheStores": {"x": STORE, "y": STORE}}, {"cacheStores": {"y": STORE}}, {}, id="one less"),
        pytest.param({"cacheStores": {"x": STORE}}, {}, {}, id="none any more"),
        pytest.param({}, {"cacheStores": {"x": STORE}}, {}, id="the first"),
        pytest.param(
            {"databases": {"pg0": database()}},
            {"databases": {"pg0": database() | {"names": ["b"]}}},
            {},
            id="databases of a server, which are kept",
        ),
    ],
)
def test_nothing_is_renamed(version: str, old: dict[str, Any], new: dict[str, Any], refused: dict[str, str]) -> None:
    before, after = (claim(**spec) | {"apiVersion": version} for spec in (old, new))
    assert causes(answer(after, before)) == {
        field: f"Forbidden: may not come in the edit that takes {gone} away: nothing is renamed, and no data moves; "
        "add it first, copy what is needed, then remove, or remove in an edit before"
        for field, gone in refused.items()
    }


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        pytest.param(
            {"cacheStores": {"mongodb-x": STORE}, "documentStores": {"x": STORE}},
            "spec.cacheStores[mongodb-x]",
            'the StatefulSet "mongodb-x" is already made of spec.documentStores[x]',
            id="Redis beside MongoDB",
        ),
        pytest.param(
            {"cacheStores": {"mongodb-x-arb": STORE}, "documentStores": {"x": STORE}},
            "spec.cacheStores[mongodb-x-arb]",
            'the StatefulSet "mongodb-x-arb" is already made of spec.documentStores[x]',
            id="Redis beside MongoDB's arbiters",
        ),
        pytest.param(
            {"cacheStores": {"pg0-repo-host": STORE}, "databases": {"pg0": database()}},
            "spec.cacheStores[pg0-repo-host]",
            'the StatefulSet "pg0-repo-host" is already made of spec.databases[pg0]',
            id="Redis beside a server's backups",
        ),
        pytest.param(
            {"cacheStores": {"qdrant-x": STORE}, "vectorStores": {"x": STORE}},
            "spec.vectorStores[x]",
            'the Service "qdrant-x" is already made of spec.cacheStores[qdrant-x]',
            id="Redis beside Qdrant",
        ),
        pytest.param(
            {"documentStores": {"x-y": STORE, "x": STORE}, "databases": {"a": database(), "a-b": database()}},
            None,
            "",
            id="names that only look alike",
        ),
    ],
)
def test_what_operators_would_call_the_same(spec: dict[str, Any], field: str | None, said: str) -> None:
    assert causes(answer(claim(**spec))) == ({field: f"Invalid value: {said}"} if field else {})


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        pytest.param(["ann", "postgres", "a-1"], [], id="all fit"),
        pytest.param(
            ["ann", "jane.doe@x", "bob_b"],
            ["spec.users: no PostgreSQL role for jane.doe@x, bob_b: PGO does not take such names"],
            id="names that do not",
        ),
        pytest.param(
            ["public"], ["spec.users: no PostgreSQL role for public: PGO does not take such names"], id="no role's name"
        ),
        pytest.param(
            [f"u{number}" for number in range(66)],
            ["spec.users: no PostgreSQL role for u63, u64, u65: a server has 63 at most"],
            id="too many",
        ),
        pytest.param(
            [f"{number}@{'x' * 60}" for number in range(3)],
            [f"spec.users: no PostgreSQL role for 0@{'x' * 36}… and 2 more: PGO does not take such names"],
            id="long names",
        ),
    ],
)
def test_users_without_a_role(users: list[str], expected: list[str]) -> None:
    response = answer(claim(users=users, databases={"pg0": database()}))
    assert response["allowed"]
    assert response["warnings"][1:] == expected
    assert all(len(warning) <= LENGTH_MAX for warning in response["warnings"])


def test_users_without_a_server_need_no_role() -> None:
    assert len(answer(claim(users=["jane.doe@x"]))["warnings"]) == 1


def test_what_an_update_does_is_told_before_what_is_unwise() -> None:
    old, new = claim(sessions=[{"name": "a"}]), claim(users=["Ann"])
    assert answer(new, old)["warnings"] == [
        "spec.sessions: the files of session a are kept, for when declared again",
        "spec.users[0]: Keycloak knows user names in lower case only; ann is looked for",
    ]


def test_an_annotation_that_nothing_reads_is_warned_of_and_never_refused() -> None:
    def asking(**spec: Any) -> Manifest:
        made = claim(**spec)
        return made | {"metadata": made["metadata"] | {"annotations": {"datalabs.pkg.internal/rotat": "client/lab/1"}}}

    told = "annotation datalabs.pkg.internal/rotat has no effect; did you mean datalabs.pkg.internal/rotate?"
    assert answer(asking())["warnings"][1:] == [told]
    assert answer(asking(users=["ann"]), claim())["warnings"] == [told]
    request = AdmissionRequest("u-1", "UPDATE", "team", "lab", asking(), claim(), dry_run=False, username="joe")
    answered = validate.annotations(request, Submission(asking(), HERE), Submission(claim(), HERE))
    assert answered["response"] == {"uid": "u-1", "allowed": True, "warnings": [told]}


@pytest.mark.parametrize(
    ("items", "room", "expected"),
    [
        pytest.param(["a"], 10, "a", id="one"),
        pytest.param(["a", "b", "c"], 7, "a, b, c", id="all fit"),
        pytest.param(["aaaa", "bbbb", "cccc"], 15, "aaaa and 2 more", id="one fits"),
        pytest.param(["aaaa", "bbbb", "cccc", "dddd"], 21, "aaaa, bbbb and 2 more", id="two fit"),
        pytest.param(["x" * 99], 10, "x" * 9 + "…", id="one too long"),
        pytest.param(["x" * 99, "b"], 14, "xx… and 1 more", id="the first too long"),
        pytest.param(["x" * 99, "b"], 5, "… and 1 more", id="no room at all"),
    ],
)
def test_listed(items: list[str], room: int, expected: str) -> None:
    assert listed(items, room) == expected
