import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd import names


def test_session_hosts() -> None:
    assert names.session_hosts("lab", "a") == [
        "lab-a",
        "editor-lab-a",
        "lab-a-editor",
        "data-lab-a",
        "lab-a-data",
        "registry-lab-a",
    ]


def test_session_namespaces() -> None:
    assert names.session_namespaces("lab", "a") == ["lab-a", "lab-a-vc"]


def made_of(claim: str, session: str) -> list[str]:
    """Every name that Kubernetes holds to the length of a label."""
    return [
        names.workshop_namespace(claim),
        names.volume(claim, session),
        *names.session_namespaces(claim, session),
        *names.session_hosts(claim, session),
        *names.session_services(claim, session),
    ]


@pytest.mark.parametrize(("claim", "session"), [("l" * 50, "s"), ("l", "s" * 50), ("l" * 26, "s" * 25)])
def test_names_of_the_longest_session(claim: str, session: str) -> None:
    """The volume's is the longest: what has room for it has room for all."""
    assert max(map(len, made_of(claim, session))) == names.LABEL_MAX
    assert max(map(len, made_of(claim, session + "s"))) == len(names.volume(claim, session + "s"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(["POSTGRES", "my-db.1", "URL"], "POSTGRES_MY_DB_1_URL", id="everything odd becomes an underscore"),
        pytest.param(["MONGO", "é", "URI"], "MONGO___URI", id="letters beyond ASCII are odd"),
    ],
)
def test_variable(parts: list[str], expected: str) -> None:
    assert names.variable(*parts) == expected


def test_variables_of_a_database() -> None:
    assert names.database_variables("pg0", "dev") == ["POSTGRES_PG0_DEV_URL", "POSTGRES_PG0_DEV_URL_EXTERNAL"]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        pytest.param(["ann", "bob"], ["ann", "bob"], id="in their order"),
        pytest.param(["ann", "bob", "ann"], ["ann", "bob"], id="each once"),
        pytest.param(["jane.doe@x", "Ann", "a_b", "-a", "a-", "", "é", "ann\n"], [], id="what the operator refuses"),
        pytest.param(["a" * 63, "b" * 64], ["a" * 63], id="too long"),
        pytest.param(["postgres", "public", "none", "ann"], ["ann"], id="words that mean somebody else"),
        pytest.param([f"u{n}" for n in range(64)], [f"u{n}" for n in range(63)], id="one server takes so many"),
    ],
)
def test_postgres_users(users: list[str], expected: list[str]) -> None:
    assert names.postgres_users(users) == expected


@given(
    st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True), st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)
)
def test_the_labs_that_may_have_a_host(claim: str, part: str) -> None:
    for label in [claim, *names.session_hosts(claim, part), names.database_host(claim, part)]:
        assert claim in names.host_owners(label)


def test_hosts_that_no_lab_of_a_name_has() -> None:
    assert "lab" not in names.host_owners("labs") | names.host_owners("a-labs") | names.host_owners("editor-labs")
    assert names.host_owners("lab-a.apps") == set()


def test_secrets_of_the_workshop_namespace_that_others_make() -> None:
    assert names.inside_secrets("lab") == [
        "lab-datalab",
        "workshop-config",
        "lab-oauth2-client",
        names.apisix_secret("lab"),
    ]
