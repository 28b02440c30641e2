from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import APPLIED, CLAIM_NAME, CLAIM_UID, ROTATED, SINCE, STORAGE_CLAIM, Manifest, NamespacedName
from datalabd.identity import Admin, IamView, Outcome
from datalabd.observed import (
    STARTED_WITH,
    Login,
    Observed,
    Phase,
    Place,
    SessionFacts,
    StorageKeys,
    View,
    is_durable,
    observe,
    remaining,
    storage_keys,
)
from datalabd.plan.metadata import beside, opaque
from datalabd.stores import KINDS, OPERATORS, DatabaseFacts, Size, StoreFacts, Turn
from tests.factories import (
    IAM,
    LABELS,
    NOW,
    educates,
    environment,
    lab,
    namespace,
    secret,
    session_namespace,
    volume,
)

STORED = secret("lab", AWS_ACCESS_KEY_ID="access", AWS_SECRET_ACCESS_KEY="storage-secret")
LOGIN_SECRET = secret("lab-login", labels=LABELS, username="lab", password="login-password")
ENVIRONMENT = educates("WorkshopEnvironment", "lab", {"phase": "Running", "workshop": {"spec": {"title": "used"}}})
WORKSHOP = {"kind": "Workshop", "metadata": {"name": "lab"}, "spec": {"title": "written"}}
CONFIG = secret("workshop-config", "lab")
WORKSHOP_NAMESPACE = namespace("lab", ("WorkshopEnvironment", "lab-uid"))
SESSION = educates(
    "WorkshopSession",
    "lab-main",
    {"phase": "Running", "url": "https://lab-main.lab.example.org"},
    uid="main-uid",
    annotations={STARTED_WITH: "digest"},
)
NO_PLACES = {"lab-main": Place.ABSENT, "lab-main-vc": Place.ABSENT}


KNOWN = {"AWS_ACCESS_KEY_ID": "known", "AWS_SECRET_ACCESS_KEY": "secret"}


def condition(kind: str, status: str, **more: str) -> dict[str, str]:
    """A condition of a Deployment."""
    return {"type": kind, "status": status} | more


def deployment(*conditions: dict[str, str]) -> Manifest:
    """A live Deployment."""
    return {"kind": "Deployment", "metadata": {"name": "lab-main"}, "status": {"conditions": list(conditions)}}


def made(**values: str) -> Manifest:
    """Secret `N-datalab` as datalabd makes it."""
    found = opaque(lab(), beside(lab(), "lab-datalab"), {})
    return found | {"data": secret("lab-datalab", "team", None, **values)["data"]}


VIEW = View(
    storage_secret=STORED,
    login_secret=LOGIN_SECRET,
    credentials=made(AWS_REGION="here"),
    credentials_copy=secret("lab-datalab", "lab", AWS_REGION="here"),
    workshop_config=CONFIG,
    workshop=WORKSHOP,
    environment=ENVIRONMENT,
    namespaces={"lab": WORKSHOP_NAMESPACE, "lab-main": session_namespace("lab", "main")},
    sessions={"main": SESSION},
    deployments={"main": deployment(condition("Available", "True"))},
    endpoint_slices=(
        {"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}], "ports": [{"name": "https", "port": 6443}]},
        {"endpoints": [{"addresses": ["fd00::1"]}], "ports": [{"name": "https", "port": 6443}]},
    ),
    volumes=(volume("lab-datalab"), volume("lab-main-persistent")),
    now=NOW,
)


def test_everything_is_there() -> None:
    within = environment(storage={"endpoint": "https://s3.example.org", "region": "here"})
    assert observe(lab(within), VIEW) == Observed(
        storage=StorageKeys("access", "storage-secret", "https://s3.example.org", "here"),
        storage_problem="",
        credentials={"AWS_REGION": "aGVyZQ=="},
        credentials_copied=True,
        login=Login("lab", "login-password"),
        login_exists=True,
        place=Place.OURS,
        phase=Phase.RUNNING,
        message="",
        environment_uid="lab-uid",
        environment_version="7",
        workshop_spec={"title": "written"},
        workshop_config=CONFIG,
        workshop_in_use={"title": "used"},
        homes={"lab-datalab": Size("1Gi", "standard"), "lab-main-persistent": Size("1Gi", "standard")},
        holds_durable=True,
        runtime_served=True,
        sessions={
            "main": SessionFacts(
                phase=Phase.RUNNING,
                message="",
                url="https://lab-main.lab.example.org",
                uid="main-uid",
                age_seconds=600.0,
                started_with="digest",
                available=True,
                has_deployment=True,
                waiting_reason="",
                places={"lab-main": Place.OURS, "lab-main-vc": Place.ABSENT},
            )
        },
        api_server=(("10.0.0.1", 6443), ("10.0.0.2", 6443), ("fd00::1", 6443)),
        now=NOW,
    )


def test_nothing_is_there() -> None:
    assert observe(lab(), View(runtime_served=False)) == Observed(
        storage_problem=("Secret team/lab does not exist; create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        runtime_served=False,
        sessions={"main": SessionFacts(places=NO_PLACES)},
    )


@pytest.mark.parametrize("value", ["storage-secret", "login-password"])
def test_secrets_do_not_show(value: str) -> None:
    assert value not in repr(observe(lab(), VIEW))


PORTS: list[Manifest] = [{"name": "https", "port": 6443}]
ENDPOINTS: Manifest = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": PORTS}


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        pytest.param((ENDPOINTS | {"addressType": "FQDN"},), (), id="names instead of addresses"),
        pytest.param(({"endpoints": [{"addresses": ["api.example.org"]}], "ports": PORTS},), (), id="a name"),
        pytest.param(({"endpoints": [{"addresses": ["fe80::1%eth0"]}], "ports": PORTS},), (), id="of one link"),
        pytest.param(({"endpoints": [{"addresses": ["10.0.0.0/8"]}], "ports": PORTS},), (), id="a network"),
        pytest.param((ENDPOINTS | {"ports": [{"name": "", "protocol": "TCP"}]},), (), id="a port without a number"),
        pytest.param((ENDPOINTS | {"ports": None},), (), id="no ports"),
        pytest.param(
            (ENDPOINTS | {"ports": [{"name": ""}, *PORTS]},), (("10.0.0.1", 6443),), id="one port with a number"
        ),
        pytest.param((), (), id="none"),
        pytest.param(({"endpoints": None, "ports": None},), (), id="empty"),
        pytest.param(({"endpoints": [{"addresses": None}], "ports": [{"port": 443}]},), (), id="without address"),
        pytest.param(({"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": None},), (), id="without port"),
    ],
)
def test_api_server(slices: tuple[Manifest, ...], expected: tuple[tuple[str, int], ...]) -> None:
    assert observe(lab(), replace(VIEW, endpoint_slices=slices)).api_server == expected


# --- storage ----------------------------------------------------------------------------------------------------------

NEEDED: dict[str, Any] = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(NEEDED, StorageKeys("a", "s", "of-environment", "of-environment"), id="as AWS calls them"),
        pytest.param(
            NEEDED | {"AWS_ENDPOINT_URL": "e", "AWS_REGION": "r"},
            StorageKeys("a", "s", "e", "r"),
            id="with their place",
        ),
        pytest.param(
            NEEDED | {"AWS_ENDPOINT_URL": "", "AWS_REGION": ""},
            StorageKeys("a", "s", "of-environment", "of-environment"),
            id="an empty place is none",
        ),
        pytest.param(
            {"accessKey": "a", "secretKey": "s"}, StorageKeys("a", "s", "of-environment", "of-environment"), id="MinIO"
        ),
        pytest.param(
            {"username": "a", "password": "s"},
            StorageKeys("a", "s", "of-environment", "of-environment"),
            id="user name and password",
        ),
        pytest.param(
            {"CONSOLE_ACCESS_KEY": "a", "CONSOLE_SECRET_KEY": "s"},
            StorageKeys("a", "s", "of-environment", "of-environment"),
            id="of a console",
        ),
        pytest.param(
            {"attribute.access": "a", "attribute.secret": "s"},
            StorageKeys("a", "s", "of-environment", "of-environment"),
            id="attributes",
        ),
        pytest.param(
            NEEDED | {"username": "x", "password": "y"},
            StorageKeys("a", "s", "of-environment", "of-environment"),
            id="the first of several",
        ),
    ],
)
def test_storage_keys(values: dict[str, Any], expected: StorageKeys) -> None:
    here = lab(environment(storage={"endpoint": "of-environment", "region": "of-environment"}))
    assert storage_keys(here, secret("lab", **values)) == (expected, "")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(
            None,
            "Secret team/lab does not exist; create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            id="no Secret",
        ),
        pytest.param(secret("lab"), "Secret team/lab has no value for AWS_ACCESS_KEY_ID", id="empty Secret"),
        pytest.param(
            {"metadata": {}}, "Secret team/lab has no value for AWS_ACCESS_KEY_ID", id="Secret without any data"
        ),
        pytest.param(
            secret("lab", AWS_ACCESS_KEY_ID="a"),
            "Secret team/lab has no value for AWS_SECRET_ACCESS_KEY",
            id="no secret key",
        ),
        pytest.param(
            secret("lab", **NEEDED | {"AWS_ACCESS_KEY_ID": ""}, username="x"),
            "Secret team/lab has no value for AWS_ACCESS_KEY_ID",
            id="the first of several is empty",
        ),
        pytest.param(
            secret("lab", **NEEDED | {"AWS_SECRET_ACCESS_KEY": "s\nprovider = evil"}),
            "Secret team/lab has a line break or control character in one of its values",
            id="line break in a key",
        ),
        pytest.param(
            secret("lab", **NEEDED, AWS_ENDPOINT_URL="https://x\r"),
            "Secret team/lab has a line break or control character in one of its values",
            id="line break in the endpoint",
        ),
        pytest.param(
            secret("lab", **NEEDED, AWS_REGION="\x00"),
            "Secret team/lab has a line break or control character in one of its values",
            id="control character",
        ),
        pytest.param(
            {"metadata": {}, "data": {"AWS_ACCESS_KEY_ID": "no base64!"}},
            "Secret team/lab has no value for AWS_ACCESS_KEY_ID",
            id="no base64",
        ),
    ],
)
def test_no_storage_keys(stored: Manifest | None, expected: str) -> None:
    assert storage_keys(lab(), stored) == (None, expected)


SHARED = environment(storage={"secretNamespace": "vault"})
NOT_GRANTED = (
    "Secret vault/lab does not exist, or is not granted to this lab; create it with AWS_ACCESS_KEY_ID and "
    'AWS_SECRET_ACCESS_KEY, annotated datalabs.pkg.internal/claim="team/lab"'
)


@pytest.mark.parametrize(
    ("annotations", "granted"),
    [
        pytest.param({STORAGE_CLAIM: "team/lab"}, True, id="granted"),
        pytest.param({STORAGE_CLAIM: "others/lab"}, False, id="granted to another"),
        pytest.param({STORAGE_CLAIM: "lab"}, False, id="without namespace"),
        pytest.param({}, False, id="not granted"),
        pytest.param(None, False, id="without annotations"),
    ],
)
def test_a_secret_elsewhere_must_be_granted(annotations: dict[str, str] | None, granted: bool) -> None:
    stored = secret("lab", "vault", **NEEDED)
    stored["metadata"]["annotations"] = annotations
    keys, problem = storage_keys(lab(SHARED), stored)
    assert (keys is not None, problem) == (granted, "" if granted else NOT_GRANTED)


def test_nobody_learns_whether_a_secret_of_others_exists() -> None:
    assert storage_keys(lab(SHARED), None) == (None, NOT_GRANTED)


@pytest.mark.parametrize("of", [pytest.param("other", id="another lab's"), pytest.param("lab", id="its own")])
@pytest.mark.parametrize("within", [environment(), SHARED], ids=["own namespace", "shared"])
def test_what_was_made_for_a_lab_is_no_storage_secret(of: str, within: EnvironmentConfig) -> None:
    """A login has a user name and a password, and credentials have another lab's keys."""
    place = within.data.storage.secret_namespace or "team"
    stored = secret(f"{of}-login", place, LABELS | {CLAIM_NAME: of}, username="other", password="secret")
    stored["metadata"]["annotations"] = {STORAGE_CLAIM: "team/lab"}
    assert storage_keys(lab(within, secretName=f"{of}-login"), stored) == (
        None,
        f"Secret {place}/{of}-login was made by datalabd for a lab; name one of your own in spec.secretName",
    )


def test_a_secret_beside_the_claim_needs_no_grant() -> None:
    here = lab(environment(storage={"secretNamespace": "team"}))
    assert storage_keys(here, secret("lab", **NEEDED))[0] is not None


METADATA = {"AWS_ENDPOINT_URL": "http://169.254.169.254/latest"}
REFUSED = (
    "Secret team/lab names an endpoint, http://169.254.169.254:80, which environment courses does not list; its "
    "operator may add it to storage.endpoints, or leave AWS_ENDPOINT_URL out of the Secret"
)


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        pytest.param({}, METADATA, REFUSED, id="metadata service"),
        pytest.param({"endpoint": "https://s3.example.org"}, METADATA, REFUSED, id="another than the environment's"),
        pytest.param({"endpoints": ["http://169.254.169.254"]}, METADATA, "", id="listed, whatever it is"),
        pytest.param({"endpoint": "http://169.254.169.254:80"}, METADATA, "", id="the environment's own"),
        pytest.param({"endpoint": "s3"}, {}, "", id="none but the environment's"),
        pytest.param({}, {}, "", id="none"),
        pytest.param({"secretNamespace": "team"}, METADATA, "", id="a Secret of the environment's namespace"),
    ],
)
def test_an_endpoint_that_the_environment_does_not_list(
    settings: dict[str, Any], values: dict[str, str], expected: str
) -> None:
    found = observe(lab(environment(storage=settings)), View(storage_secret=secret("lab", **NEEDED | values)))
    assert (found.storage is None, found.storage_problem, found.endpoint_refused) == (
        bool(expected),
        expected,
        bool(expected),
    )


def test_a_login_of_storage_keys_does_not_hang_on_their_endpoint() -> None:
    here = lab(environment(auth={"login": "storage"}))
    found = observe(here, View(storage_secret=secret("lab", **NEEDED | METADATA)))
    assert found.login == Login("a", "s")


# --- identity ---------------------------------------------------------------------------------------------------------

WITH_KEYCLOAK = lab(environment(iam=IAM))
MANAGER = secret("admin", "iam", client_id="manager", client_secret="manager-secret")
CLIENT = secret("lab-oauth-client", labels=LABELS, clientID="lab", clientSecret="client-secret")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, {}, id="nothing is there"),
        pytest.param(
            {"client_secret": CLIENT}, {"client_secret": "client-secret", "client_secret_exists": True}, id="secret"
        ),
        pytest.param(
            {"client_secret": secret("lab-oauth-client", labels=LABELS, clientSecret="")},
            {"client_secret_exists": True},
            id="a secret without use",
        ),
        pytest.param(
            {"client_secret": secret("lab-oauth-client", labels=LABELS, clientSecret="x" * 256)},
            {"client_secret_exists": True},
            id="a secret that Keycloak would not take",
        ),
        pytest.param(
            {"client_secret": secret("lab-oauth-client", labels=LABELS, clientSecret="line\nbreak")},
            {"client_secret_exists": True},
            id="a secret that is a text",
        ),
        pytest.param(
            {"client_secret": secret("lab-oauth-client", clientSecret="x")},
            {"client_secret_exists": True},
            id="somebody else's secret",
        ),
        pytest.param(
            {"client_secret_copy": secret("lab-oauth2-client", "lab", labels=LABELS)},
            {"client_secret_copied": True},
            id="copy",
        ),
        pytest.param({"client_secret_copy": secret("lab-oauth2-client", "lab")}, {}, id="somebody else's copy"),
        pytest.param(
            {"iam": IamView({NamespacedName("iam", "admin"): MANAGER})},
            {"admin": Admin("manager", "manager-secret", None), "admin_problem": ""},
            id="who manages the realm",
        ),
        pytest.param({"identity": Outcome("digest")}, {"identity": Outcome("digest")}, id="what became of it"),
    ],
)
def test_identity(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    seen = observe(WITH_KEYCLOAK, View(**changes))
    nothing = observe(WITH_KEYCLOAK, View())
    assert replace(seen, client_turn=Turn()) == replace(nothing, **expected)


def test_keycloak_that_nobody_says_how_to_reach() -> None:
    seen = observe(WITH_KEYCLOAK, View())
    assert seen.admin_problem == "Secret iam/admin does not exist; create it with client_id and client_secret"


def test_the_turn_of_the_client_secret() -> None:
    turned = secret("lab-oauth-client", labels=LABELS)
    turned["metadata"]["annotations"] = {ROTATED: "2", SINCE: "x"}
    assert observe(WITH_KEYCLOAK, View(client_secret=turned)).client_turn == Turn("2", "", "x")


# --- login ------------------------------------------------------------------------------------------------------------

STORAGE_LOGIN = environment(auth={"login": "storage"})
DELEGATED = environment(auth={"type": "delegated"})


def login_secret(**values: str) -> Manifest:
    """A login Secret of ours."""
    return secret("lab-login", labels=LABELS, **values)


@pytest.mark.parametrize(
    ("within", "changes", "expected"),
    [
        pytest.param(environment(), {}, Login("lab", "login-password"), id="of this lab"),
        pytest.param(environment(), {"login_secret": None}, None, id="not yet"),
        pytest.param(
            environment(),
            {"login_secret": secret("lab-login", username="lab", password="known")},
            None,
            id="a Secret that somebody else made",
        ),
        pytest.param(
            environment(),
            {"login_secret": secret("lab-login", labels=LABELS | {CLAIM_UID: "x"}, username="lab", password="known")},
            None,
            id="of an earlier lab",
        ),
        pytest.param(
            environment(),
            {"login_secret": {"metadata": {"labels": None}, "data": LOGIN_SECRET["data"]}},
            None,
            id="a Secret without labels",
        ),
        pytest.param(environment(), {"login_secret": login_secret(username="lab")}, None, id="without password"),
        pytest.param(environment(), {"login_secret": login_secret(password="p")}, None, id="without user name"),
        pytest.param(
            environment(), {"login_secret": login_secret(username="", password="p")}, None, id="empty user name"
        ),
        pytest.param(
            environment(),
            {"login_secret": login_secret(username="*", password="p")},
            None,
            id="the name that lets everybody in",
        ),
        pytest.param(STORAGE_LOGIN, {}, Login("access", "storage-secret"), id="keys of the storage"),
        pytest.param(STORAGE_LOGIN, {"storage_secret": None}, None, id="without keys of the storage"),
        pytest.param(
            STORAGE_LOGIN,
            {"storage_secret": secret("lab", AWS_ACCESS_KEY_ID="*", AWS_SECRET_ACCESS_KEY="s")},
            None,
            id="a key that lets everybody in",
        ),
        pytest.param(DELEGATED, {}, None, id="nobody asks"),
    ],
)
def test_login(within: EnvironmentConfig, changes: dict[str, Any], expected: Login | None) -> None:
    assert observe(lab(within), replace(VIEW, **changes)).login == expected


def test_a_login_without_use_exists_all_the_same() -> None:
    assert observe(lab(), replace(VIEW, login_secret=login_secret(username="*"))).login_exists


# --- environment and namespaces ---------------------------------------------------------------------------------------

GOING: dict[str, Any] = {"deletionTimestamp": "2026-03-01T11:59:00Z"}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(None, Phase.ABSENT, id="none"),
        pytest.param(educates("WorkshopEnvironment", "lab"), Phase.PENDING, id="nothing said yet"),
        pytest.param({"metadata": ENVIRONMENT["metadata"]}, Phase.PENDING, id="no status yet"),
        pytest.param(educates("WorkshopEnvironment", "lab", {"phase": "Pending"}), Phase.PENDING, id="pending"),
        pytest.param(educates("WorkshopEnvironment", "lab", {"phase": "Retrying"}), Phase.PENDING, id="retrying"),
        pytest.param(educates("WorkshopEnvironment", "lab", {"phase": "Unknown"}), Phase.PENDING, id="unknown"),
        pytest.param(educates("WorkshopEnvironment", "lab", {"phase": "Running"}), Phase.RUNNING, id="running"),
        pytest.param(educates("WorkshopEnvironment", "lab", {"phase": "Failed"}), Phase.FAILED, id="failed"),
        pytest.param(
            educates("WorkshopEnvironment", "lab", {"phase": "Running"}, **GOING), Phase.DELETING, id="being deleted"
        ),
    ],
)
def test_phase(obj: Manifest | None, expected: Phase) -> None:
    assert observe(lab(), replace(VIEW, environment=obj)).phase is expected


def test_message_of_the_environment() -> None:
    failed = educates("WorkshopEnvironment", "lab", {"phase": "Failed", "message": "no such object"})
    assert observe(lab(), replace(VIEW, environment=failed)).message == "no such object"


@pytest.mark.parametrize(
    ("environment", "found", "expected"),
    [
        pytest.param(ENVIRONMENT, None, Place.ABSENT, id="absent"),
        pytest.param(ENVIRONMENT, WORKSHOP_NAMESPACE, Place.OURS, id="of our environment"),
        pytest.param(
            ENVIRONMENT,
            namespace("lab", ("WorkshopEnvironment", "lab-uid"), **GOING),
            Place.TERMINATING,
            id="being deleted",
        ),
        pytest.param(
            ENVIRONMENT,
            namespace("lab", ("WorkshopEnvironment", "x")),
            Place.TERMINATING,
            id="of an earlier environment",
        ),
        pytest.param(None, WORKSHOP_NAMESPACE, Place.TERMINATING, id="of an environment that is gone"),
        pytest.param(ENVIRONMENT, namespace("lab"), Place.FOREIGN, id="nobody's"),
        pytest.param(ENVIRONMENT, {"metadata": {"name": "lab"}}, Place.FOREIGN, id="nobody's, bare"),
        pytest.param(ENVIRONMENT, namespace("lab", ("Something", "x")), Place.FOREIGN, id="somebody else's"),
        pytest.param(
            ENVIRONMENT,
            namespace("lab", labels={"training.educates.dev/environment.name": "lab"}),
            Place.FOREIGN,
            id="a label makes it nobody's",
        ),
    ],
)
def test_place_of_the_environment(environment: Manifest | None, found: Manifest | None, expected: Place) -> None:
    namespaces = {"lab": found} if found else {}
    assert observe(lab(), replace(VIEW, environment=environment, namespaces=namespaces)).place is expected


STORE: Manifest = {"kind": "Redis", "metadata": {"name": "a", "namespace": "lab"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"volumes": ()}, False, id="nothing"),
        pytest.param({"volumes": (volume("lab-datalab"),)}, False, id="the data mount shows what is elsewhere"),
        pytest.param({"volumes": (volume("lab-old-persistent"),)}, True, id="a home directory, of whatever session"),
        pytest.param({"volumes": (), "durable": (STORE,)}, True, id="a store, of whatever claim"),
    ],
)
def test_holds_durable(changes: dict[str, Any], expected: bool) -> None:
    assert observe(lab(), replace(VIEW, **changes)).holds_durable is expected


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(volume("lab-main-persistent"), True, id="home directory"),
        pytest.param(volume("lab-datalab"), False, id="data mount"),
        *(pytest.param(STORE | {"kind": kind}, True, id=kind) for kind in KINDS),
        pytest.param(secret("a-mongodb-auth", "lab"), True, id="password of a document store"),
        pytest.param(secret("a-redis-auth", "lab"), True, id="password of a cache store"),
        pytest.param(secret("a-redis-acl", "lab"), True, id="access list of a cache store"),
        pytest.param(secret("a-qdrant-auth", "lab"), True, id="keys of a vector store"),
        pytest.param(secret("a-redis-auth"), False, id="a Secret beside the claim"),
        pytest.param(secret("lab-datalab", "lab"), False, id="credentials, which can be made anew"),
        pytest.param(LOGIN_SECRET, False, id="login"),
        pytest.param(STORE | {"kind": "TLSRoute"}, False, id="route"),
    ],
)
def test_is_durable(obj: Manifest, expected: bool) -> None:
    assert is_durable("lab", obj) is expected


# --- credentials, databases and stores --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, True, id="equal"),
        pytest.param({"credentials_copy": None}, False, id="no copy"),
        pytest.param({"credentials_copy": secret("lab-datalab", "lab", AWS_REGION="there")}, False, id="an older one"),
        pytest.param({"credentials": None}, False, id="a copy of nothing"),
        pytest.param(
            {"credentials": made(), "credentials_copy": {"metadata": {}, "data": None}},
            True,
            id="both empty",
        ),
    ],
)
def test_credentials_copied(changes: dict[str, Any], expected: bool) -> None:
    assert observe(lab(), replace(VIEW, **changes)).credentials_copied is expected


UNPLANNED = {"metadata": made()["metadata"] | {"annotations": {}}}
OF_ANOTHER = {"metadata": made()["metadata"] | {"labels": made()["metadata"]["labels"] | {CLAIM_UID: "other"}}}


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(None, id="none"),
        pytest.param(secret("lab-datalab", "team", None, **KNOWN), id="of somebody else"),
        pytest.param(made(**KNOWN) | UNPLANNED, id="with our labels alone"),
        pytest.param(made(**KNOWN) | OF_ANOTHER, id="of an earlier claim"),
        pytest.param(
            made(**KNOWN) | {"metadata": {"labels": {CLAIM_UID: lab().uid}, "annotations": {APPLIED: "0"}}},
            id="with our uid alone",
        ),
    ],
)
def test_no_credentials(live: Manifest | None) -> None:
    seen = observe(lab(), replace(VIEW, credentials=live, credentials_copy=live, storage_secret=None))
    assert (seen.credentials, seen.credentials_copied, seen.storage_known) == (None, False, None)


@pytest.mark.parametrize(
    ("storage", "endpoint", "named", "expected"),
    [
        pytest.param({}, None, None, True, id="no endpoint"),
        pytest.param({"endpoints": ["https://a.example.org"]}, "https://a.example.org/x", None, True, id="listed"),
        pytest.param({}, "http://169.254.169.254", None, False, id="not listed"),
        pytest.param(
            {"secretNamespace": "shared"}, "http://169.254.169.254", None, False, id="not listed, and nobody vouches"
        ),
        pytest.param({}, "http://169.254.169.254", "http://169.254.169.254", True, id="older than the list"),
        pytest.param({}, "http://169.254.169.254", "http://169.254.169.253", False, id="changed since"),
    ],
)
def test_the_keys_known_before_are_judged_anew(
    storage: dict[str, Any], endpoint: str | None, named: str | None, *, expected: bool
) -> None:
    def keys(endpoint: str | None) -> dict[str, str]:
        return KNOWN | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})

    held = made(configData="[datalab]\nendpoint = http://169.254.169.254\n", **keys(endpoint))
    stored = secret("storage", "team", None, **keys(named)) if named else None
    seen = observe(lab(environment(storage=storage)), replace(VIEW, credentials=held, storage_secret=stored))
    assert seen.storage is None
    known = StorageKeys("known", "secret", endpoint or "", "")
    assert seen.storage_known == (known if expected else None)


def test_credentials_without_keys_are_of_no_use() -> None:
    seen = observe(lab(), replace(VIEW, storage_secret=None))
    assert (seen.credentials, seen.storage_known) == ({"AWS_REGION": "aGVyZQ=="}, None)


def test_databases_and_stores_of_the_claim() -> None:
    """What they are like is told by `stores`."""
    store = {"storage": "1Gi"}
    here = lab(
        databases={"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}},
        documentStores={"a": store},
        cacheStores={"b": store},
        vectorStores={"c": store},
    )
    seen = observe(here, replace(VIEW, served=frozenset(OPERATORS)))
    assert (seen.served, seen.databases, seen.document_stores, seen.cache_stores, seen.vector_stores) == (
        frozenset(OPERATORS),
        {"pg0": DatabaseFacts("it is not created yet")},
        {"a": StoreFacts("it is not created yet")},
        {"b": StoreFacts("it is not created yet")},
        {"c": StoreFacts("it is not created yet")},
    )


@pytest.mark.parametrize(
    ("durable", "expected"),
    [
        pytest.param((), False, id="nothing"),
        pytest.param((STORE,), False, id="a store of another kind"),
        pytest.param((STORE | {"kind": "MongoDBCommunity"},), True, id="a document store, declared or not"),
    ],
)
def test_keeps_document_stores(durable: tuple[Manifest, ...], expected: bool) -> None:
    assert observe(lab(), replace(VIEW, durable=durable)).keeps_document_stores is expected


def test_how_far_the_rotation_of_the_login_is() -> None:
    rotated = login_secret(username="lab", password="p")
    rotated["metadata"]["annotations"] = {ROTATED: "2", SINCE: "2026-02-02T00:00:00Z"}
    assert observe(lab(), replace(VIEW, login_secret=rotated)).login_turn == Turn("2", "", "2026-02-02T00:00:00Z")


# --- sessions ---------------------------------------------------------------------------------------------------------


def session(**changes: Any) -> SessionFacts:
    """What is seen of session `main`."""
    return observe(lab(), replace(VIEW, **changes)).sessions["main"]


def test_a_session_that_is_no_longer_declared_is_seen() -> None:
    assert set(observe(lab(sessions=[{"name": "other"}]), VIEW).sessions) == {"main", "other"}


def test_a_failed_session() -> None:
    failed = educates("WorkshopSession", "lab-main", {"phase": "Failed", "message": "no quota"}, uid="main-uid")
    assert session(sessions={"main": failed}, deployments={}, namespaces={}) == SessionFacts(
        phase=Phase.FAILED, message="no quota", uid="main-uid", age_seconds=600.0, places=NO_PLACES
    )


def test_a_clock_that_is_behind_makes_nobody_younger_than_new() -> None:
    young = educates("WorkshopSession", "lab-main", creationTimestamp="2026-03-01T12:00:05Z")
    assert session(sessions={"main": young}).age_seconds == 0.0


@pytest.mark.parametrize(
    ("phase", "available", "expected"),
    [
        pytest.param(Phase.RUNNING, True, True, id="running and serving"),
        pytest.param(Phase.RUNNING, False, False, id="not serving yet"),
        pytest.param(Phase.DELETING, True, False, id="serving on its way out"),
    ],
)
def test_ready(phase: Phase, available: bool, expected: bool) -> None:
    assert SessionFacts(phase=phase, available=available).ready is expected


@pytest.mark.parametrize(
    ("deployments", "expected"),
    [
        pytest.param({}, (False, False, ""), id="no Deployment"),
        pytest.param({"main": {"metadata": {}}}, (True, False, ""), id="nothing said yet"),
        pytest.param(
            {"main": deployment(condition("Progressing", "True"), condition("Available", "True"))},
            (True, True, ""),
            id="available",
        ),
        pytest.param({"main": deployment(condition("Available", "False"))}, (True, False, ""), id="unavailable"),
        pytest.param({"main": deployment(condition("Available", "Unknown"))}, (True, False, ""), id="unknown"),
        pytest.param(
            {"main": deployment(condition("Progressing", "False", message="deadline exceeded"))},
            (True, False, "deadline exceeded"),
            id="stuck",
        ),
        pytest.param(
            {"main": deployment(condition("ReplicaFailure", "True", reason="FailedCreate"))},
            (True, False, "FailedCreate"),
            id="refused, in a word",
        ),
        pytest.param(
            {"main": deployment(condition("ReplicaFailure", "True"))}, (True, False, ""), id="refused, without a word"
        ),
        pytest.param(
            {"main": deployment(condition("ReplicaFailure", "False", message="x"))}, (True, False, ""), id="not refused"
        ),
    ],
)
def test_deployment(deployments: dict[str, Manifest], expected: tuple[bool, bool, str]) -> None:
    facts = session(deployments=deployments)
    assert (facts.has_deployment, facts.available, facts.waiting_reason) == expected


MARKED: dict[str, Any] = {"training.educates.dev/environment.name": "lab"}


@pytest.mark.parametrize(
    ("sessions", "found", "expected"),
    [
        pytest.param({"main": SESSION}, session_namespace("lab", "main"), Place.OURS, id="its own"),
        pytest.param(
            {"main": SESSION},
            namespace("lab-main", labels=MARKED),
            Place.OURS,
            id="marked, as that of a virtual cluster",
        ),
        pytest.param({}, namespace("lab-main", labels=MARKED), Place.TERMINATING, id="marked, left behind"),
        pytest.param({}, session_namespace("lab", "main"), Place.TERMINATING, id="of an earlier session"),
        pytest.param(
            {"main": SESSION},
            namespace("lab-main", ("WorkshopSession", "earlier-uid"), labels=MARKED),
            Place.TERMINATING,
            id="of an earlier session of this name",
        ),
        pytest.param({"main": SESSION}, namespace("lab-main"), Place.FOREIGN, id="somebody else's"),
        pytest.param({}, namespace("lab-main"), Place.FOREIGN, id="somebody else's, before the session"),
        pytest.param(
            {"main": SESSION}, namespace("lab-main", labels=MARKED, **GOING), Place.TERMINATING, id="being deleted"
        ),
    ],
)
def test_place_of_a_session(sessions: dict[str, Manifest], found: Manifest, expected: Place) -> None:
    assert session(sessions=sessions, namespaces={"lab-main": found}).places["lab-main"] is expected


# --- what keeps a namespace -------------------------------------------------------------------------------------------

CONTENT = "Some resources are remaining: pods. has 1 resource instances"
FINALIZERS = "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances"


def going(going: bool = True, **conditions: tuple[str, str]) -> Manifest:
    """A namespace with these conditions, as status and message."""
    told = [{"type": kind, "status": state, "message": message} for kind, (state, message) in conditions.items()]
    times = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
    return {"metadata": {"name": "lab-main"} | times, "status": {"conditions": told}}


HELD = going(NamespaceContentRemaining=("True", CONTENT), NamespaceFinalizersRemaining=("True", FINALIZERS))
HELD_BY = "namespace lab-main is held by example.org/hold in 1 resource instances; pods. has 1 resource instances"


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        pytest.param(HELD, HELD_BY, id="a finalizer"),
        pytest.param(
            going(NamespaceDeletionContentFailure=("True", "pods: webhook denied it")),
            "namespace lab-main is held by pods: webhook denied it",
            id="who refuses the deletion",
        ),
        pytest.param(going(NamespaceContentRemaining=("True", CONTENT)), "", id="what goes by itself"),
        pytest.param(going(NamespaceFinalizersRemaining=("False", "All content is gone")), "", id="nothing"),
        pytest.param(going(False, NamespaceFinalizersRemaining=("True", FINALIZERS)), "", id="not being deleted"),
        pytest.param({"metadata": {"deletionTimestamp": "x"}}, "", id="nothing known"),
        pytest.param(None, "", id="no namespace"),
    ],
)
def test_what_keeps_a_namespace_from_going(namespace: Manifest | None, expected: str) -> None:
    assert remaining(namespace) == expected


@pytest.mark.parametrize("sessions", [{}, {"main": SESSION}], ids=["without its object", "with its object"])
def test_what_keeps_a_session_from_stopping(sessions: dict[str, Manifest]) -> None:
    found = observe(lab(), View(namespaces={"lab-main": HELD}, sessions=sessions, now=NOW)).sessions["main"]
    assert found.held_by == HELD_BY
