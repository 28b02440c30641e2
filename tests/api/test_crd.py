from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import Manifest

DATALABS, ENVIRONMENTS = custom_resource_definitions()
VERSIONS = {version["name"]: version for version in DATALABS["spec"]["versions"]}


def spec(version: str) -> Manifest:
    found: Manifest = VERSIONS[version]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def nodes(schema: Any) -> Iterator[Manifest]:
    """Every schema within a schema, itself included."""
    yield schema
    children = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for child in children:
        if child is not None:
            yield from nodes(child)


SCHEMAS = [
    pytest.param(version["schema"]["openAPIV3Schema"], id=f"{crd['metadata']['name']} {version['name']}")
    for crd in (DATALABS, ENVIRONMENTS)
    for version in crd["spec"]["versions"]
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schemas_are_structural(schema: Manifest) -> None:
    for node in nodes(schema):
        assert not node.keys() & {
            "$ref",
            "$defs",
            "anyOf",
            "allOf",
            "oneOf",
            "title",
            "patternProperties",
            "propertyNames",
        }
        loose = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"}
        assert "type" in node or node.keys() & loose, node


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_field_is_described(schema: Manifest) -> None:
    for node in nodes(schema):
        for name, field in node.get("properties", {}).items():
            assert "description" in field or name in {"apiVersion", "kind", "metadata"}, name


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_list_of_the_user_is_bounded(schema: Manifest) -> None:
    for node in nodes({"properties": {k: v for k, v in schema["properties"].items() if k != "status"}}):
        assert node.get("type") != "array" or "maxItems" in node, node.get("description")


def test_one_version_is_stored_and_both_are_served() -> None:
    assert {name: (version["served"], version["storage"]) for name, version in VERSIONS.items()} == {
        "v1beta1": (True, False),
        "v1beta2": (True, True),
    }


def test_status_is_a_subresource_of_claims_only() -> None:
    assert all(version["subresources"] == {"status": {}} for version in VERSIONS.values())
    assert all("subresources" not in version for version in ENVIRONMENTS["spec"]["versions"])


def test_names() -> None:
    assert DATALABS["spec"]["names"]["shortNames"] == ["dl"]
    assert DATALABS["spec"]["names"]["categories"] == ["datalab"]
    assert ENVIRONMENTS["spec"]["names"]["shortNames"] == ["dlenv"]
    assert ENVIRONMENTS["spec"]["scope"] == "Cluster"


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_columns(version: str) -> None:
    columns = [column["name"] for column in VERSIONS[version]["additionalPrinterColumns"]]
    assert columns == ["Synced", "Ready", "Sessions", "Reason", "Age"]


def test_conversion_is_asked_of_our_service_unless_told_otherwise() -> None:
    assert DATALABS["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["path"] == "/convert"


def test_conversion_as_told() -> None:
    client = {"url": "https://127.0.0.1:9443/convert", "caBundle": "Zm9v"}
    assert custom_resource_definitions(client)[0]["spec"]["conversion"]["webhook"]["clientConfig"] == client


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(["vcluster"], False, id="boolean"),
        pytest.param(["users"], [], id="list"),
        pytest.param(["databases"], {}, id="map"),
        pytest.param(["data"], {}, id="an object's defaults are those of its fields"),
        pytest.param(["data", "properties", "enabled"], True, id="field of an object"),
        pytest.param(["sessions", "items", "properties", "state"], "started", id="field of a list item"),
    ],
)
def test_defaults(path: list[str], expected: Any) -> None:
    node: Any = spec("v1beta2")
    for part in path:
        node = node[part]
    assert node["default"] == expected


@pytest.mark.parametrize("field", ["secretName", "quota", "security"])
def test_what_the_environment_decides_has_no_default(field: str) -> None:
    assert "default" not in spec("v1beta2")[field]


def test_sessions_are_keyed_by_name_in_v1beta2() -> None:
    assert spec("v1beta2")["sessions"]["x-kubernetes-list-map-keys"] == ["name"]


def test_sessions_are_anything_in_v1beta1() -> None:
    assert spec("v1beta1")["sessions"]["items"] == {"x-kubernetes-preserve-unknown-fields": True}


def test_only_v1beta1_knows_classes_of_databases() -> None:
    differing = {version: set(spec(version)["databases"]["additionalProperties"]["properties"]) for version in VERSIONS}
    assert differing["v1beta1"] - differing["v1beta2"] == {"storageClassName", "backupStorageClassName"}


def test_a_file_has_one_source() -> None:
    (rule,) = spec("v1beta2")["files"]["items"]["x-kubernetes-validations"]
    assert rule["message"] == "must have exactly one of image, git and http"


def test_quantities_are_bounded_text() -> None:
    memory = spec("v1beta2")["quota"]["properties"]["memory"]
    assert (memory["type"], memory["maxLength"]) == ("string", 20)


def test_effective_values_are_free() -> None:
    status = VERSIONS["v1beta2"]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert status["effective"]["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in status["effective"]
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_environment_keys_have_their_wire_names() -> None:
    data = ENVIRONMENTS["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["data"]["properties"]
    assert {"externalEgressCIDRs", "blacklistIPs", "podCIDRs", "serviceCIDR", "apiServerCIDRs", "internalEgress"} < set(
        data["network"]["properties"]
    )
    assert "force_path_style" in data["storage"]["properties"]
    assert "class" in data["ingress"]["properties"]
    assert {"authURL", "signinURL", "responseHeaders"} < set(data["ingress"]["properties"]["protection"]["properties"])
