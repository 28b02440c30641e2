import base64
from dataclasses import replace
from typing import Any

import pytest

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ROTATED, SINCE, Manifest
from datalabd.lab import DatabaseServer
from datalabd.observed import Observed
from datalabd.plan.credentials import credentials, login
from datalabd.plan.metadata import ours
from datalabd.stores import DatabaseFacts, DatabaseLogin, StoreFacts, Turn
from tests.factories import KEYS, OWNER, environment, lab, role, running

RCLONE = """\
[datalab]
type = s3
provider = Other
endpoint = https://s3.example.org
region = here
access_key_id = access
secret_access_key = storage-secret
force_path_style = true
"""


NOTHING = Observed()
STORE = {"storage": "1Gi"}
DATABASE = {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "1Gi"}
SERVER = DatabaseServer("pg0", ("dev", "prod"), "1Gi", "1Gi", None, None)
GATEWAY = {"gateway": {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}}
OUTSIDE = environment(database=GATEWAY)
ODD = "p@ss/w:rd?#&%"
"""Every character that means something in an address."""
ENCODED = "p%40ss%2Fw%3Ard%3F%23%26%25"


def secret(name: str, annotations: dict[str, str] | None = None, **values: str) -> Manifest:
    """A Secret of ours beside the claim."""
    metadata = {"name": name, "namespace": "team", "ownerReferences": [OWNER]}
    return ours(
        lab(),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": metadata | ({"annotations": annotations} if annotations else {}),
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        },
    )


def test_credentials() -> None:
    assert credentials(lab(), KEYS, NOTHING) == secret(
        "lab-datalab",
        remote="datalab",
        remotePath="/",
        configData=RCLONE,
        AWS_ACCESS_KEY_ID="access",
        AWS_SECRET_ACCESS_KEY="storage-secret",
        AWS_REGION="here",
        AWS_ENDPOINT_URL="https://s3.example.org",
        AWS_S3_FORCE_PATH_STYLE="true",
    )


def value(made: Manifest, key: str) -> str:
    """One value of a Secret."""
    return base64.b64decode(made["data"][key]).decode()


def test_the_environment_says_what_kind_of_storage_it_is() -> None:
    storage = {"type": "s3", "provider": "Minio", "force_path_style": False}
    made = credentials(lab(environment(storage=storage)), KEYS, NOTHING)
    wanted = RCLONE.replace("Other", "Minio").replace("style = true", "style = false")
    assert (value(made, "configData"), value(made, "AWS_S3_FORCE_PATH_STYLE")) == (wanted, "false")


@pytest.mark.parametrize("odd", ["a]b", "a=b", "é", "%s", "a#b;c"])
def test_odd_keys_are_kept_as_they_are(odd: str) -> None:
    made = credentials(lab(), replace(KEYS, access_key=odd), NOTHING)
    assert f"\naccess_key_id = {odd}\n" in value(made, "configData")


def told(of: EnvironmentConfig, seen: Observed, **spec: Any) -> dict[str, str]:
    """What the Secret says of databases and stores."""
    made = credentials(lab(of, **spec), KEYS, seen)
    storage = credentials(lab(of), KEYS, NOTHING)["data"]
    return {key: value(made, key) for key in made["data"] if key not in storage}


def known(password: str = "pg-secret", uri: str = "") -> Observed:
    """A PostgreSQL server whose login is known."""
    known = role(SERVER, login=DatabaseLogin("pg.example", "5433", "boss", password, uri))
    return Observed(databases={"pg0": DatabaseFacts(roles={"postgres": known})})


def test_a_database_server_before_its_login_is_known() -> None:
    """Its operator makes the login, so that there is no address to hand out yet."""
    assert told(environment(), NOTHING, databases={"pg0": DATABASE}) == {
        "POSTGRES_PG0_HOST": "pg0-primary.lab.svc",
        "POSTGRES_PG0_PORT": "5432",
        "POSTGRES_PG0_USER": "postgres",
        "POSTGRES_PG0_PASSWORD": "",
        "POSTGRES_PG0_DATABASES": "dev,prod",
    }


def test_a_database_server_whose_login_is_known() -> None:
    seen = known(uri="postgresql://boss:pg-secret@pg.example:5433/dev?application_name=a%20b#x")
    assert told(environment(), seen, databases={"pg0": DATABASE}) == {
        "POSTGRES_PG0_HOST": "pg.example",
        "POSTGRES_PG0_PORT": "5433",
        "POSTGRES_PG0_USER": "boss",
        "POSTGRES_PG0_PASSWORD": "pg-secret",
        "POSTGRES_PG0_DATABASES": "dev,prod",
        "POSTGRES_PG0_DEV_URL": "postgresql://boss:pg-secret@pg.example:5433/dev?application_name=a%20b#x",
        "POSTGRES_PG0_PROD_URL": "postgresql://boss:pg-secret@pg.example:5433/prod?application_name=a%20b#x",
    }


def test_a_database_server_with_a_gateway_before_its_login_is_known() -> None:
    found = told(OUTSIDE, NOTHING, databases={"pg0": DATABASE})
    assert {key: item for key, item in found.items() if "EXTERNAL" in key} == {
        "POSTGRES_PG0_HOST_EXTERNAL": "pg0-lab.lab.example.org"
    }


QUERY = "sslmode=require&sslnegotiation=direct"


@pytest.mark.parametrize(
    ("password", "uri", "inside", "outside"),
    [
        pytest.param(
            "secret",
            "postgresql://boss:secret@pg:5432/dev",
            "postgresql://boss:secret@pg:5432/x",
            f"postgresql://boss:secret@pg0-lab.lab.example.org:443/x?{QUERY}",
            id="of the operator",
        ),
        pytest.param(
            ODD,
            f"postgresql://boss:{ENCODED}@pg:5432/dev",
            f"postgresql://boss:{ENCODED}@pg:5432/x",
            f"postgresql://boss:{ENCODED}@pg0-lab.lab.example.org:443/x?{QUERY}",
            id="of the operator, with an odd password",
        ),
        pytest.param(
            ODD,
            "",
            f"postgresql://boss:{ENCODED}@pg.example:5433/x",
            f"postgresql://boss:{ENCODED}@pg0-lab.lab.example.org:443/x?{QUERY}",
            id="none of the operator, and an odd password",
        ),
        pytest.param(
            "secret",
            "postgresql://boss:secret@pg/dev?sslmode=verify-full&target=a@b/c",
            "postgresql://boss:secret@pg/x?sslmode=verify-full&target=a@b/c",
            "postgresql://boss:secret@pg0-lab.lab.example.org:443/x"
            "?sslmode=verify-full&target=a@b/c&sslnegotiation=direct",
            id="what the operator asks for stays",
        ),
    ],
)
def test_addresses_of_a_database(password: str, uri: str, inside: str, outside: str) -> None:
    found = told(OUTSIDE, known(password, uri), databases={"pg0": DATABASE | {"names": ["x"]}})
    assert (found["POSTGRES_PG0_X_URL"], found["POSTGRES_PG0_X_URL_EXTERNAL"]) == (inside, outside)


def test_the_login_of_the_role_that_the_lab_has() -> None:
    known = {name: role(SERVER, name) for name in ("datalab-a", "datalab-b")}
    seen = Observed(databases={"pg0": DatabaseFacts(roles=known, active="datalab-b")})
    found = told(environment(database={"superuser": False}), seen, databases={"pg0": DATABASE})
    assert (found["POSTGRES_PG0_USER"], found["POSTGRES_PG0_PASSWORD"]) == ("datalab-b", "datalab-b-secret")


def test_stores_before_their_passwords_are_known() -> None:
    spec = {"documentStores": {"prod": STORE}, "cacheStores": {"prod": STORE}, "vectorStores": {"prod": STORE}}
    assert told(environment(), NOTHING, **spec) == {
        "MONGO_PROD_HOST": "mongodb-prod-svc.lab.svc",
        "MONGO_PROD_PORT": "27017",
        "MONGO_PROD_DATABASE": "prod",
        "MONGO_PROD_AUTH_SOURCE": "admin",
        "MONGO_PROD_USER": "prod-app",
        "REDIS_PROD_HOST": "prod.lab.svc",
        "REDIS_PROD_PORT": "6379",
        "REDIS_PROD_USER": "default",
        "REDIS_PROD_DATABASE": "0",
        "QDRANT_PROD_HOST": "qdrant-prod.lab.svc",
        "QDRANT_PROD_PORT": "6333",
        "QDRANT_PROD_GRPC_PORT": "6334",
        "QDRANT_PROD_URL": "http://qdrant-prod.lab.svc:6333",
    }


def test_stores_whose_passwords_are_known() -> None:
    spec = {"documentStores": {"my-a": STORE}, "cacheStores": {"b": STORE}, "vectorStores": {"c": STORE}}
    seen = Observed(
        document_stores={"my-a": StoreFacts(auth={"password": ODD})},
        cache_stores={"b": StoreFacts(auth={"password": ODD, "next": "following"})},
        vector_stores={"c": StoreFacts(auth={"apiKey": "write", "readApiKey": "read"})},
    )
    found = told(environment(), seen, **spec)
    assert {key: item for key, item in found.items() if key.endswith(("PASSWORD", "URI", "URL", "KEY"))} == {
        "MONGO_MY_A_PASSWORD": ODD,
        "MONGO_MY_A_URI": f"mongodb://my-a-app:{ENCODED}@mongodb-my-a-svc.lab.svc:27017/my-a?authSource=admin",
        "REDIS_B_PASSWORD": ODD,
        "REDIS_B_URL": f"redis://default:{ENCODED}@b.lab.svc:6379/0",
        "QDRANT_C_URL": "http://qdrant-c.lab.svc:6333",
        "QDRANT_C_API_KEY": "write",
        "QDRANT_C_READ_API_KEY": "read",
    }


EVERY_STORE = {
    "databases": {"pg0": DATABASE},
    "documentStores": {"a": STORE},
    "cacheStores": {"b": STORE},
    "vectorStores": {"c": STORE},
}


@pytest.mark.parametrize("within", [environment(), OUTSIDE], ids=["inside", "outside"])
def test_while_a_login_is_away_the_secret_says_what_it_said(within: EnvironmentConfig) -> None:
    here = lab(within, **EVERY_STORE)
    made = credentials(here, KEYS, running(here))
    assert credentials(here, KEYS, Observed(credentials=made["data"])) == made


def test_while_a_login_is_away_what_is_declared_no_more_goes() -> None:
    here = lab(OUTSIDE, **EVERY_STORE)
    made = credentials(here, KEYS, running(here))["data"]
    fewer = told(environment(), Observed(credentials=made), databases={"pg0": DATABASE | {"names": ["dev"]}})
    assert sorted(fewer) == sorted(
        [
            *(name for name in names.database_server_variables("pg0") if not name.endswith("EXTERNAL")),
            "POSTGRES_PG0_DEV_URL",
        ]
    )


def test_what_somebody_garbled_in_the_secret_is_not_said_again() -> None:
    seen = Observed(credentials={"REDIS_B_PASSWORD": "no base64", "REDIS_B_URL": ""})
    assert told(environment(), seen, cacheStores={"b": STORE})["REDIS_B_URL"] == ""
    assert "REDIS_B_PASSWORD" not in told(environment(), seen, cacheStores={"b": STORE})


def test_variables_are_those_that_admission_keeps_apart() -> None:
    spec = {"documentStores": {"a": STORE}, "cacheStores": {"b": STORE}, "vectorStores": {"c": STORE}}
    seen = running(lab(OUTSIDE, databases={"pg0": DATABASE}, **spec))
    assert sorted(told(OUTSIDE, seen, databases={"pg0": DATABASE}, **spec)) == sorted(
        [
            *names.document_store_variables("a"),
            *names.cache_store_variables("b"),
            *names.vector_store_variables("c"),
            *names.database_server_variables("pg0"),
            *names.database_variables("pg0", "dev"),
            *names.database_variables("pg0", "prod"),
        ]
    )


def test_login() -> None:
    assert login(lab(), "chosen", Turn()) == secret("lab-login", username="lab", password="chosen")


def test_a_login_that_replaces_another() -> None:
    """It says which request it answers, so that the same one is not answered twice."""
    made = login(lab(), "chosen", Turn(rotated="2", since="2026-03-01T12:00:00Z"))
    said = {ROTATED: "2", SINCE: "2026-03-01T12:00:00Z"}
    assert made == secret("lab-login", said, username="lab", password="chosen")
