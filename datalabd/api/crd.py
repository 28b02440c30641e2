"""CustomResourceDefinitions, made of the models: structural schemas as the API server wants them."""

from typing import Any

from datalabd.api import environment, v1beta1, v1beta2
from datalabd.api.meta import GROUP, Manifest, Model

CONVERSION: Manifest = {"service": {"namespace": "datalabd", "name": "datalabd", "path": "/convert", "port": 443}}
"""Where the API server has claims converted, unless told otherwise."""

_DROPPED = frozenset({"title", "$defs", "discriminator", "propertyNames", "patternProperties", "additionalProperties"})


def custom_resource_definitions(conversion: Manifest | None = None) -> list[Manifest]:
    """The definitions of Datalab and EnvironmentConfig, ready to apply.

    `conversion` is the `clientConfig` (service or url, and caBundle) of the conversion webhook; default `CONVERSION`.
    """
    return [_datalabs(conversion or CONVERSION), _environments()]


def schema(model: type[Model]) -> Manifest:
    """The structural OpenAPI schema of a model: nothing referenced, nothing nullable, no titles."""
    generated = model.model_json_schema(by_alias=True)
    return _structural(generated, generated.get("$defs", {}))


def _structural(node: Manifest, definitions: Manifest) -> Manifest:
    """`node` with references put in place, optional values without their null, and maps said the structural way."""
    if "$ref" in node:
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return _structural(definitions[node["$ref"].rpartition("/")[2]] | siblings, definitions)
    if "anyOf" in node:
        (only,) = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        siblings = {key: value for key, value in node.items() if key != "anyOf"}
        return _structural(only | siblings, definitions)
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in out:
        out["properties"] = {name: _structural(field, definitions) for name, field in out["properties"].items()}
    if "items" in out:
        out["items"] = _structural(out["items"], definitions)
    values = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    for value in values:
        if isinstance(value, dict) and value:
            out["additionalProperties"] = _structural(value, definitions)
    if out.get("default", ...) is None:
        del out["default"]
    elif "default" in out:
        # The defaults of an object are those of its fields, which the API server fills in after.
        out["default"] = {} if "properties" in out else _without_null(out["default"])
    return out


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def _datalabs(conversion: Manifest) -> Manifest:
    definition = _definition("Datalab", "datalabs", "dl", scope="Namespaced")
    definition["spec"]["names"]["categories"] = ["datalab"]
    definition["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": conversion},
    }
    columns = [
        _column("Synced", '.status.conditions[?(@.type=="Synced")].status'),
        _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        _column("Sessions", ".status.started", description="Sessions that can be used / sessions declared."),
        _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    claim = "A Datalab asks for a lab: sessions, storage, databases and stores for a group of users."
    definition["spec"]["versions"] = [
        _version("v1beta1", _object(claim, v1beta1.DatalabSpec, v1beta2.DatalabStatus), columns, stored=False),
        _version("v1beta2", _object(claim, v1beta2.DatalabSpec, v1beta2.DatalabStatus), columns, stored=True),
    ]
    return definition


def _environments() -> Manifest:
    definition = _definition("EnvironmentConfig", "environmentconfigs", "dlenv", scope="Cluster")
    columns = [
        _column("Domain", ".data.ingress.domain"),
        _column("Realm", ".data.iam.realm"),
        _column("Protection", ".data.ingress.protection.type"),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    top = {
        "description": "An EnvironmentConfig holds what the operator decides for the labs that use it.",
        "type": "object",
        "required": ["data"],
        "properties": {"data": schema(environment.EnvironmentData)},
    }
    definition["spec"]["versions"] = [_version("v1beta1", top, columns, stored=True)]
    return definition


def _definition(kind: str, plural: str, short: str, *, scope: str) -> Manifest:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
            },
        },
    }


def _version(name: str, top: Manifest, columns: list[Manifest], *, stored: bool) -> Manifest:
    top["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    } | top["properties"]
    version = {
        "name": name,
        "served": True,
        "storage": stored,
        "schema": {"openAPIV3Schema": top},
        "additionalPrinterColumns": columns,
    }
    return version | {"subresources": {"status": {}}} if "status" in top["properties"] else version


def _object(description: str, spec: type[Model], status: type[Model]) -> Manifest:
    return {
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": schema(spec),
            # For kstatus: a claim that nobody has looked at yet is not current.
            "status": schema(status) | {"default": {"observedGeneration": -1}},
        },
    }


def _column(name: str, path: str, kind: str = "string", description: str | None = None) -> Manifest:
    column = {"name": name, "type": kind, "jsonPath": path}
    return column if description is None else column | {"description": description}
