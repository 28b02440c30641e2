from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from datalabd.api.environment import (
    AuthType,
    EnvironmentConfig,
    Login,
    OpenTo,
    ProtectionType,
    Retention,
    domain_of,
    hosts_of,
)
from datalabd.api.environment import mistakes as all_mistakes
from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Budget, KubernetesRole, Policy
from datalabd.errors import EnvironmentInvalid
from datalabd.plan.metadata import digest
from tests.reference import vector

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"


def manifest(**data: Any) -> Manifest:
    return {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "EnvironmentConfig",
        "metadata": {"name": "lab"},
        "data": {"ingress": {"domain": "lab.example.org"}} | data,
    }


def parse(**data: Any) -> EnvironmentConfig:
    return EnvironmentConfig.parse(manifest(**data))


def mistakes(**data: Any) -> list[str]:
    with pytest.raises(EnvironmentInvalid) as caught:
        parse(**data)
    assert caught.value.reason == "EnvironmentInvalid"
    return str(caught.value).split("; ")


@pytest.mark.parametrize("name", ["datalab", "datalab-custom"])
def test_samples_parse(name: str) -> None:
    documents = yaml.safe_load_all((SAMPLES / "environment.yaml").read_text())
    (document,) = [document for document in documents if document["metadata"]["name"] == name]
    assert EnvironmentConfig.parse(document).name == name


@pytest.mark.parametrize("api_version", ["apiextensions.crossplane.io/v1beta1", "pkg.internal/v1beta1"])
def test_reference_environments_parse_as_either_kind(api_version: str) -> None:
    for document in yaml.safe_load_all(vector("environmentconfig.yaml").read_text()):
        data = EnvironmentConfig.parse(document | {"apiVersion": api_version}).data
        assert data.ingress.domain == "lab.acme.com"
        assert data.storage.force_path_style is True
        assert data.network.external_egress_cidrs == ["0.0.0.0/0", "::/0"]
        assert data.database.gateway.is_complete
        assert data.database.storage_class_name is None


def test_defaults() -> None:
    data = parse().data
    assert data.iam.realm == "default"
    assert data.iam.url is None
    assert data.auth.type is AuthType.CREDENTIALS
    assert data.auth.login is Login.GENERATED
    assert data.ingress.protection.type is ProtectionType.OFF
    assert data.ingress.secret == "wildcard-tls"
    assert data.defaults.quota.memory == "2Gi"
    assert data.defaults.quota.budget is Budget.MEDIUM
    assert data.defaults.security.policy is Policy.BASELINE
    assert data.defaults.security.kubernetes_role is KubernetesRole.EDIT
    assert data.retention is Retention.RETAIN
    assert data.allowed.policies == [Policy.RESTRICTED, Policy.BASELINE]
    assert data.allowed.namespaces is None
    assert data.storage.secret_namespace is None
    assert not data.database.gateway.is_complete
    assert [peer.cidr for peer in data.network.dns] == [None, "169.254.20.10/32"]


def test_blank_and_null_mean_absent() -> None:
    data = parse(
        ingress={"domain": "lab.example.org", "class": " ", "secret": ""},
        network={"serviceCIDR": "", "podCIDRs": None},
        defaults={"quota": {"memory": ""}},
        mongodb=None,
    ).data
    assert data.ingress.class_ is None
    assert data.ingress.secret == "wildcard-tls"
    assert data.network.service_cidr is None
    assert data.network.pod_cidrs == []
    assert data.defaults.quota.memory == "2Gi"
    assert data.mongodb.storage_class_name is None


def test_unknown_keys_are_ignored() -> None:
    assert parse(colour="blue").data == parse().data


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("10.42.0.0/16", "10.42.0.0/16", id="network"),
        pytest.param(" 10.42.1.2/16 ", "10.42.0.0/16", id="host bits are cleared"),
        pytest.param("10.42.1.2", "10.42.1.2/32", id="IPv4 address"),
        pytest.param("FD00:EC2::254", "fd00:ec2::254/128", id="IPv6 address"),
        pytest.param("fd00::1/8", "fd00::/8", id="IPv6 host bits"),
    ],
)
def test_networks_are_normalised(written: str, expected: str) -> None:
    assert parse(network={"podCIDRs": [written, ""]}).data.network.pod_cidrs == [expected]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("course", ["course"], id="lone string"),
        pytest.param([" a ", "", "b", "a"], ["a", "b"], id="trimmed and told once"),
    ],
)
def test_extra_audiences(written: Any, expected: list[str]) -> None:
    assert parse(iam={"extraAudiences": written}).data.iam.extra_audiences == expected


@pytest.mark.parametrize(
    ("written", "expected"), [("true", True), ("False", False), (True, True), (False, False), (" TRUE ", True)]
)
def test_force_path_style_may_be_a_string(written: Any, expected: bool) -> None:
    assert parse(storage={"force_path_style": written}).data.storage.force_path_style is expected


@pytest.mark.parametrize(("written", "delegated"), [("credentials", False), (" Delegated ", True), ("none", True)])
def test_auth_type(written: str, delegated: bool) -> None:
    assert parse(auth={"type": written}).data.auth.type.is_delegated is delegated


def test_internal_egress_is_tcp_unless_said_otherwise() -> None:
    (peer,) = parse(
        network={
            "internalEgress": [{"namespace": "minio", "ports": [{"port": 9000}, {"port": "https", "protocol": "UDP"}]}]
        }
    ).data.network.internal_egress
    assert [(port.port, port.protocol) for port in peer.ports] == [(9000, "TCP"), ("https", "UDP")]


def test_selectors_of_peers() -> None:
    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]}
    peers = [{"namespaceSelector": {}, "podSelector": selector}, {"cidr": "10.0.0.9"}]
    pods, block = parse(network={"ingressPeers": peers}).data.network.ingress_peers
    assert pods.namespace_selector is not None
    assert pods.pod_selector is not None
    assert pods.pod_selector.model_dump(by_alias=True) == selector
    assert block.cidr == "10.0.0.9/32"


KEY = "must be the key of a label, such as app or example.org/app"
VALUE = "must be empty, or letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"


def selected(**selector: Any) -> list[str]:
    """What is wrong with a selector."""
    peers = [{"podSelector": selector}]
    found = all_mistakes(manifest(network={"ingressPeers": peers}))
    return [str(error).removeprefix("data.network.ingressPeers[0].podSelector.") for error in found]


@pytest.mark.parametrize("key", ["a", "A_b.c", "kubernetes.io/metadata.name", f"{'x' * 253}/{'y' * 63}"])
@pytest.mark.parametrize("value", ["", "a", "A_b.c-9", "x" * 63])
def test_labels(key: str, value: str) -> None:
    expressions = [{"key": key, "operator": "In", "values": [value]}]
    assert selected(matchLabels={key: value}, matchExpressions=expressions) == []


@pytest.mark.parametrize("key", ["a b", "-a", "a/", "/a", "a/b/c", "A.org/b", "y" * 64, f"{'x' * 254}/a"])
def test_what_is_no_key_of_a_label(key: str) -> None:
    shown = key if len(key) <= 100 else f"{key[:99]}…"
    assert selected(matchLabels={key: "b"}) == [f'matchLabels[{shown}]: Invalid value: "{shown}": {KEY}']
    assert selected(matchExpressions=[{"key": key, "operator": "Exists"}]) == [
        f'matchExpressions[0].key: Invalid value: "{shown}": {KEY}'
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("a b", f'Invalid value: "a b": {VALUE}', id="white space"),
        pytest.param("-a", f'Invalid value: "-a": {VALUE}', id="dash first"),
        pytest.param("x" * 64, f'Too long: "{"x" * 64}": may not be more than 63 characters', id="long"),
    ],
)
def test_what_is_no_value_of_a_label(value: str, expected: str) -> None:
    assert selected(matchLabels={"a": value}) == [f"matchLabels[a]: {expected}"]
    assert selected(matchExpressions=[{"key": "a", "operator": "In", "values": ["b", value]}]) == [
        f"matchExpressions[0].values[1]: {expected}"
    ]


@pytest.mark.parametrize("port", [1, 65535, "https", "a", "9a", "9-a", "1-2-b3-4", "x" * 15])
def test_ports(port: int | str) -> None:
    assert parse(network={"dns": [{"podSelector": {}, "ports": [{"port": port}]}]}).data.network.dns[0].ports


@pytest.mark.parametrize("port", [0, 65536, True, "80", "8-0", "a--b", "-a", "a-", "A", "a_b", "x" * 16, ["a"]])
def test_what_is_no_port(port: Any) -> None:
    (said,) = mistakes(network={"dns": [{"podSelector": {}, "ports": [{"port": port}]}]})
    assert said.startswith("data.network.dns[0].ports[0].port: Invalid value:")
    assert said.endswith(f"must be a port number between 1 and 65535, or {PORT_NAME}")


def test_protection_addresses_default_to_oauth2_proxy_below_the_domain() -> None:
    ingress = parse(ingress={"domain": "lab.example.org", "protection": {"type": "nginx"}}).data.ingress
    assert ingress.auth_url == "https://auth.lab.example.org/oauth2/auth"
    assert ingress.signin_url.startswith("https://auth.lab.example.org/oauth2/start?rd=")


def test_protection_addresses_as_given() -> None:
    protection = {"type": "nginx", "authURL": "https://a.example.org/x", "signinURL": "https://a.example.org/{name}"}
    ingress = parse(ingress={"domain": "lab.example.org", "protection": protection}).data.ingress
    assert (ingress.auth_url, ingress.signin_url) == ("https://a.example.org/x", "https://a.example.org/{name}")


def test_packages_are_verbatim() -> None:
    packages = [{"name": "x", "files": [{"image": {"url": " u "}}]}]
    assert parse(packages=packages).data.packages == packages


PORT_NAME = (
    "a name of at most 15 characters, which must be lower-case letters, digits and single '-' between them, with at "
    "least one letter"
)
NETWORK = "must be a network such as 10.42.0.0/16 or fd00::/8, or an address"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"ingress": {"domain": ""}}, ["data.ingress.domain: Required value:"], id="no domain"),
        pytest.param(
            {"ingress": {"domain": "Lab.example.org"}},
            [
                "data.ingress.domain: Invalid value: \"Lab.example.org\": must be lower-case letters, digits, '-' and"
                " '.', each part beginning and ending with a letter or digit"
            ],
            id="domain in capitals",
        ),
        pytest.param(
            {"auth": {"type": "credential"}},
            ['data.auth.type: Unsupported value: "credential": supported values: credentials, delegated, none'],
            id="a slip in auth.type is not delegation",
        ),
        pytest.param(
            {"network": {"podCIDRs": ["10.0.0.0/8", "10.0.0.0/99"], "serviceCIDR": "here"}},
            [
                f'data.network.podCIDRs[1]: Invalid value: "10.0.0.0/99": {NETWORK}',
                f'data.network.serviceCIDR: Invalid value: "here": {NETWORK}',
            ],
            id="every bad network is told",
        ),
        pytest.param(
            {"network": {"podCIDRs": [5]}},
            ['data.network.podCIDRs[0]: Invalid value: "5": must be a valid string'],
            id="network that is no text",
        ),
        pytest.param(
            {"network": {"podCIDRs": "10.0.0.0/8"}},
            ['data.network.podCIDRs: Invalid value: "10.0.0.0/8": must be a valid list'],
            id="networks that are no list",
        ),
        pytest.param(
            {"network": {"internalEgress": [{"ports": [{"port": 0}]}]}},
            [
                "data.network.internalEgress[0].namespace: Required value:",
                'data.network.internalEgress[0].ports[0].port: Invalid value: "0": must be a port number between 1 and'
                f" 65535, or {PORT_NAME}",
            ],
            id="peer without namespace",
        ),
        pytest.param(
            {"network": {"internalEgress": [{"namespace": "a", "ports": [{"port": "x", "endPort": 9}]}]}},
            [
                "data.network.internalEgress[0].ports[0]: Invalid value: endPort needs a numeric port that is"
                " not greater"
            ],
            id="range of a named port",
        ),
        pytest.param(
            {
                "network": {
                    "internalEgress": [
                        {"namespace": "a", "podSelector": {"matchExpressions": [{"key": "k", "operator": "In"}]}}
                    ]
                }
            },
            [
                "data.network.internalEgress[0].podSelector.matchExpressions[0]: Invalid value: values must be given"
                " for In and NotIn, and only for them"
            ],
            id="a broken expression does not select everything",
        ),
        pytest.param(
            {"network": {"dns": [{}]}},
            ["data.network.dns[0]: Invalid value: must have either cidr or namespaceSelector and podSelector"],
            id="peer of no kind",
        ),
        pytest.param(
            {"iam": {"url": "https://id.example.org"}},
            ["data.iam: Invalid value: adminSecret is required where url is set"],
            id="Keycloak without credentials",
        ),
        pytest.param(
            {"ingress": {"domain": "x.org", "protection": {"type": "traefik"}}},
            ["data.ingress.protection: Invalid value: middleware must be set where type is traefik"],
            id="traefik without middleware",
        ),
        pytest.param(
            {"storage": {"force_path_style": "maybe"}},
            ['data.storage.force_path_style: Invalid value: "maybe": must be a valid boolean'],
            id="neither true nor false",
        ),
        pytest.param(
            {"iam": {"extraAudiences": [1]}},
            ['data.iam.extraAudiences[0]: Invalid value: "1": must be a valid string'],
            id="audience that is no text",
        ),
        pytest.param(
            {"defaults": {"quota": {"storage": "0"}}},
            ['data.defaults.quota.storage: Invalid value: "0": must be greater than zero'],
            id="no storage at all",
        ),
        pytest.param(
            {"auth": "none"}, ['data.auth: Invalid value: "none": must be an object'], id="text for an object"
        ),
    ],
)
def test_mistakes_are_told_all_at_once(data: dict[str, Any], expected: list[str]) -> None:
    assert mistakes(**data) == expected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"metadata": {"name": "x"}}, id="no data"),
        pytest.param({"data": {"ingress": {"domain": "x.org"}}}, id="no metadata"),
        pytest.param({"metadata": [], "data": None}, id="nothing as it should be"),
    ],
)
def test_what_is_no_environment_is_invalid(broken: Manifest) -> None:
    with pytest.raises(EnvironmentInvalid):
        EnvironmentConfig.parse(broken)


def test_parsing_leaves_the_manifest_alone() -> None:
    written = manifest(network={"podCIDRs": ["10.0.0.1/8"]})
    before = deepcopy(written)
    EnvironmentConfig.parse(written)
    assert written == before


# --- what others read more of than we do ------------------------------------------------------------------------------


RESOURCE = "must be cpu, memory, ephemeral-storage, hugepages-2Mi or the like, or example.org/gpu or the like"


def test_resources_are_verbatim() -> None:
    resources = {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1000m"}, "claims": [{"name": "gpu"}]}
    assert parse(components={"data": {"resources": resources}}).data.components.data.resources == resources


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param({"requests": {"cpu": "500m"}, "limits": {"cpu": 0.5}}, [], id="the same in other words"),
        pytest.param({"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}, [], id="limits of something else"),
        pytest.param({"limits": {"memory": "1e3", "example.org/gpu": 1}}, [], id="limits alone"),
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"requests": {"cpu": "1500m", "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1G"}},
            [
                ": Invalid value: no request may be more than its limit: cpu of 1500m is more than its limit, 1, "
                "memory of 1Gi is more than its limit, 1G"
            ],
            id="more than the limit",
        ),
        pytest.param(
            {"requests": {"cpu": "1x"}},
            ['.requests.cpu: Invalid value: "1x": must be a quantity such as 500m, 2 or 1.5Gi'],
            id="no quantity",
        ),
        pytest.param(
            {"requests": {"cpu": True}},
            ['.requests.cpu: Invalid value: "true": must be a quantity such as 500m, 2 or 1.5Gi'],
            id="true",
        ),
        pytest.param(
            {"limits": {"memory": "-1Gi"}},
            ['.limits.memory: Invalid value: "-1Gi": must be a quantity such as 500m, 2 or 1.5Gi'],
            id="less than nothing",
        ),
        pytest.param(
            {"limits": {f"example.org/{number}": 1 for number in range(7)}},
            [".limits: Too many: must have at most 6 items"],
            id="too many",
        ),
        pytest.param({"requests": ["cpu"]}, [".requests: Invalid value: must be an object"], id="list"),
        pytest.param(
            {"limits": {"cpu": 1, "hugepages-2Mi": "4Mi", "x.kubernetes.io/y": "500m"}}, [], id="every kind of name"
        ),
        pytest.param(
            {"requests": {"example.org/gpu": 1}, "limits": {"example.org/gpu": "1000m"}}, [], id="as many as its limit"
        ),
        pytest.param(
            {"limits": {"memory": "1e99"}}, ['.limits.memory: Invalid value: "1e99": must be less than 8Ei'], id="1e99"
        ),
        *(
            pytest.param(
                {"requests": {name: 1}}, [f'.requests.{name}: Invalid value: "{name}": {RESOURCE}'], id=f"name {name}"
            )
            for name in ("gpu", "CPU", " cpu ", "hugepages-2", "a b/c", "requests.a.org/b", f"{'x' * 45}.{'y' * 45}/ü")
        ),
        pytest.param(
            {"requests": {5: 1}}, [f'.requests[5]: Invalid value: "5": {RESOURCE}'], id="name that is no text"
        ),
        pytest.param(
            {"limits": {"example.org/gpu": "1500m"}},
            [": Invalid value: example.org/gpu of 1500m is not a multiple of 1"],
            id="half a device",
        ),
        pytest.param(
            {"requests": {"example.org/gpu": 1}},
            [": Invalid value: example.org/gpu must have a limit that is equal to its request"],
            id="device without a limit",
        ),
        pytest.param(
            {"requests": {"example.org/gpu": 1}, "limits": {"example.org/gpu": 2}},
            [": Invalid value: example.org/gpu must have a limit that is equal to its request"],
            id="fewer devices than the limit",
        ),
        pytest.param(
            {"limits": {"cpu": 1, "hugepages-2Mi": "3Mi"}},
            [": Invalid value: hugepages-2Mi of 3Mi is not a multiple of 2097152"],
            id="part of a page",
        ),
        pytest.param(
            {"limits": {"hugepages-1Gi": "1Gi"}},
            [": Invalid value: hugepages-1Gi needs cpu or memory beside it"],
            id="pages alone",
        ),
    ],
)
def test_resources(resources: Manifest, expected: list[str]) -> None:
    found = all_mistakes(manifest(components={"redis": {"resources": resources}}))
    assert [str(error) for error in found] == [f"data.components.redis.resources{said}" for said in expected]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        pytest.param({"files": []}, [".name: Required value:"], id="no name"),
        pytest.param({"name": " ", "files": []}, [".name: Required value:"], id="blank name"),
        pytest.param({"name": "a"}, [".files: Required value:"], id="no files"),
        pytest.param(
            {"name": 5, "files": "all"},
            [
                '.name: Invalid value: "5": must be a valid string',
                '.files: Invalid value: "all": must be a valid list',
            ],
            id="of other types",
        ),
    ],
)
def test_packages_the_runtime_would_refuse(package: Manifest, expected: list[str]) -> None:
    assert mistakes(packages=[{"name": "b", "files": []}, package]) == [f"data.packages[1]{said}" for said in expected]


def nested(levels: int, innermost: Any) -> Manifest:
    """A package of so many objects and lists within each other."""
    for _ in range(levels - 3):
        innermost = [innermost]
    return {"name": "a", "files": [{"x": innermost}]}


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        pytest.param(nested(50, 2**63 - 1), [], id="as deep, and as much, as can be"),
        pytest.param(nested(51, 0), ["must not be nested deeper than 50 levels"], id="too deep"),
        pytest.param(nested(100_000, 0), ["must not be nested deeper than 50 levels"], id="very deep"),
        pytest.param(nested(50, 2**63), ["must not hold integers of more than 64 bits"], id="too much"),
        pytest.param(nested(5, -(2**63) - 1), ["must not hold integers of more than 64 bits"], id="too little"),
    ],
)
def test_packages_that_cannot_be_handed_on(package: Manifest, expected: list[str]) -> None:
    found = all_mistakes(manifest(packages=[package]))
    assert [str(error) for error in found] == [f"data.packages[0]: Invalid value: {said}" for said in expected]
    if not found:
        assert digest(parse(packages=[package]).data.packages)


def test_what_else_stands_in_resources_cannot_be_without_end() -> None:
    resources = {"claims": nested(51, 0)["files"]}
    (error,) = all_mistakes(manifest(components={"data": {"resources": resources | {"x": nested(100, 0)}}}))
    assert str(error) == "data.components.data.resources: Invalid value: must not be nested deeper than 50 levels"


# --- protection -------------------------------------------------------------------------------------------------------

FILLED_IN = "may have {name}, {namespace}, {realm}, {group}, {host} filled in, and no other word in braces"


def protected(**protection: Any) -> list[str]:
    ingress = {"domain": "lab.example.org", "protection": protection}
    found = all_mistakes(manifest(ingress=ingress, iam={"url": "https://id.example.org", "adminSecret": SECRET}))
    return [str(error).removeprefix("data.ingress.protection") for error in found]


SECRET = {"namespace": "iam", "name": "admin"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("https://a.org/{name}/{namespace}/{realm}/{group}?rd={host}", id="every word"),
        pytest.param("https://a.org/?rd=https://$host$escaped_request_uri", id="variables of nginx"),
        pytest.param("https://a.org/${request_uri}", id="variables of nginx in braces"),
        pytest.param("https://a.org/[0-9]{2}{}{-}", id="other braces"),
    ],
)
def test_templates(text: str) -> None:
    assert protected(type="nginx", authURL=text, signinURL=text) == []
    assert protected(type="annotations", annotations={"a": text}) == []


@pytest.mark.parametrize("word", ["{user}", "{Name}", "{name_space}", "x{names}y"])
def test_words_that_nobody_fills_in(word: str) -> None:
    url = f"https://a.org/{word}"
    assert protected(type="nginx", signinURL=url) == [f'.signinURL: Invalid value: "{url}": {FILLED_IN}']
    assert protected(type="annotations", annotations={"a": word}) == [
        f'.annotations.a: Invalid value: "{word}": {FILLED_IN}'
    ]
    assert protected(type="traefik", middleware=word) == [f'.middleware: Invalid value: "{word}": {FILLED_IN}']


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        pytest.param({"type": "apisix"}, [], id="apisix with Keycloak's address"),
        pytest.param(
            {"type": "apisix", "opaURL": "https://opa"}, [".opaPolicy: Required value: where opaURL is set"], id="OPA"
        ),
        pytest.param({"type": "apisix", "opaPolicy": "p"}, [".opaURL: Required value: where opaPolicy is set"], id="p"),
        pytest.param({"type": "apisix", "opaURL": "https://opa", "opaPolicy": "p"}, [], id="OPA and its policy"),
        pytest.param(
            {"type": "annotations"}, [": Invalid value: annotations must be set where type is annotations"], id="none"
        ),
        pytest.param(
            {"type": "nginx", "responseHeaders": ["X-User", "X-A, X-B"]},
            ['.responseHeaders[1]: Invalid value: "X-A, X-B": must match ^[A-Za-z0-9_-]+$'],
            id="no header",
        ),
    ],
)
def test_fields_of_a_protection(protection: dict[str, Any], expected: list[str]) -> None:
    assert protected(**protection) == expected


@pytest.mark.parametrize("key", ["a", "a.b/c", "nginx.ingress.kubernetes.io/auth-url", "x/" + "y" * 63])
def test_names_of_annotations(key: str) -> None:
    assert protected(type="annotations", annotations={key: "b"}) == []


@pytest.mark.parametrize("key", ["", "a b", "/a", "a/", "a/b/c", "A.b/c", "-a/b", "a..b/c", "y" * 64, f"{'x' * 254}/a"])
def test_what_is_no_annotation(key: str) -> None:
    (said,) = protected(type="annotations", annotations={key: "b"})
    assert said.endswith("must be the name of an annotation, such as example.org/auth")


# --- contradictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            {"allowed": {"policies": ["restricted"], "kubernetesRoles": ["view"], "budgets": []}},
            [
                'data.defaults.security.policy: Unsupported value: "baseline": the environment allows restricted',
                'data.defaults.security.kubernetesRole: Unsupported value: "edit": the environment allows view',
                'data.defaults.quota.budget: Unsupported value: "medium": the environment allows none',
            ],
            id="defaults that are not allowed",
        ),
        pytest.param(
            {"database": {"gateway": {"parentName": "a"}}},
            [
                "data.database.gateway.parentNamespace: Required value: the others are set",
                "data.database.gateway.sectionName: Required value: the others are set",
            ],
            id="half a gateway",
        ),
        pytest.param(
            {"database": {"gateway": {"parentName": "a", "parentNamespace": "b", "sectionName": "c"}}},
            [],
            id="a gateway",
        ),
        pytest.param(
            {"ingress": {"domain": "a.org", "protection": {"type": "apisix"}}},
            ["data.ingress.protection.discoveryURL: Required value: where type is apisix and iam.url is not set"],
            id="apisix without Keycloak",
        ),
        pytest.param(
            {"ingress": {"domain": "a.org", "protection": {"type": "apisix", "discoveryURL": "https://id"}}},
            [],
            id="apisix with a discovery document",
        ),
        pytest.param(
            {"components": {"qdrant": {"image": "registry:5000/qdrant"}}},
            ['data.components.qdrant.image: Invalid value: "registry:5000/qdrant": must end in a tag'],
            id="Qdrant's operator wants the tag apart",
        ),
        pytest.param({"components": {"qdrant": {"image": "registry:5000/qdrant:v1"}}}, [], id="image with a tag"),
        pytest.param(
            {"components": {"redis": {"replicas": 3}}},
            ["data.components.redis.replicas: Forbidden: its operator makes one pod of each"],
            id="pods that its operator does not make",
        ),
        pytest.param(
            {"components": {"qdrant": {"resources": {"limits": {"memory": "1Gi"}}}}},
            [
                "data.components.qdrant.resources: Forbidden: its operator takes no resources in the form that its "
                "definition asks for; limit the namespace instead"
            ],
            id="resources that its operator does not take",
        ),
    ],
)
def test_contradictions(data: dict[str, Any], expected: list[str]) -> None:
    assert [str(error) for error in all_mistakes(manifest(**data))] == expected
    # What contradicts itself can be used all the same, as far as it goes.
    parse(**data)


def test_what_cannot_be_used_is_told_first() -> None:
    broken = manifest(allowed={"budgets": ["small"]}, storage={"region": "a b"})
    assert [error.path for error in all_mistakes(broken)] == ["data.storage.region"]


@pytest.mark.parametrize(
    ("auth", "protection", "expected"),
    [
        ("credentials", "off", True),
        ("delegated", "off", False),
        ("none", "apisix", True),
        ("delegated", "external", True),
    ],
)
def test_somebody_asks_who_comes(auth: str, protection: str, expected: bool) -> None:
    ingress = {"domain": "a.org", "protection": {"type": protection}}
    assert parse(auth={"type": auth}, ingress=ingress).data.is_protected is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            {"ingress": {"domain": " lab.example.org "}, "auth": {"type": "?"}}, "lab.example.org", id="known"
        ),
        pytest.param({"ingress": {"domain": "*"}}, None, id="no domain"),
        pytest.param({"ingress": {"domain": 5}}, None, id="a number"),
        pytest.param({"ingress": "lab.example.org"}, None, id="no ingress"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_the_domain_of_an_environment_whatever_else_is_wrong(data: Any, expected: str | None) -> None:
    assert domain_of({"data": data}) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({}, {"lab.org", "auth.lab.org"}, id="the usual ones"),
        pytest.param(
            {"ingress": {"protection": {"authURL": "https://A.org:8443/x", "signinURL": "http://b.org"}}},
            {"lab.org", "a.org", "b.org"},
            id="where people sign in",
        ),
        pytest.param(
            {"ingress": {"protection": {"authURL": "https://{name}.auth.org/x"}}},
            {"lab.org", "auth.lab.org"},
            id="another for each lab",
        ),
        pytest.param(
            {"iam": {"url": "https://id.lab.org", "adminSecret": {"namespace": "a", "name": "b"}}},
            {"lab.org", "auth.lab.org", "id.lab.org"},
            id="Keycloak below the domain",
        ),
        pytest.param({"storage": {"endpoint": "https://s3.example.org"}}, {"lab.org", "auth.lab.org"}, id="elsewhere"),
        pytest.param({"storage": {"endpoint": "https://[s3"}}, {"lab.org", "auth.lab.org"}, id="no address"),
        pytest.param({"quota": 5, "retention": "maybe"}, {"lab.org", "auth.lab.org"}, id="one that cannot be used"),
    ],
)
def test_hosts_of_the_platform(data: dict[str, Any], expected: set[str]) -> None:
    ingress = {"domain": "lab.org"} | data.pop("ingress", {})
    assert hosts_of({"metadata": {"name": "a"}, "data": {"ingress": ingress} | data}) == expected


def test_without_a_domain_nothing_is_known_of_the_platform() -> None:
    assert hosts_of({"metadata": {"name": "a"}, "data": {}}) == set()


OPEN_TO = [
    pytest.param({"namespaces": ["team-*", "shop"]}, [], id="namespaces"),
    pytest.param({"hosts": ["shop.a.org", "*.apps.a.org", "*.a.org", "*a.org", "*"]}, [], id="hosts"),
    pytest.param({"namespaces": None, "hosts": ["", " "]}, [], id="blanks"),
    pytest.param({"hosts": ["shop.b.org"]}, ["data.ingress.openTo.hosts[0]"], id="host elsewhere"),
    pytest.param({"hosts": ["x.a.org", "a.org"]}, ["data.ingress.openTo.hosts[1]"], id="the domain itself"),
    pytest.param({"hosts": ["*.b.org"]}, ["data.ingress.openTo.hosts[0]"], id="glob elsewhere"),
    pytest.param({"hosts": ["org"]}, ["data.ingress.openTo.hosts[0]"], id="part of the domain"),
    pytest.param({"hosts": ["Shop.a.org"]}, ["data.ingress.openTo.hosts[0]"], id="capitals"),
    pytest.param({"hosts": ["s[ab].a.org"]}, ["data.ingress.openTo.hosts[0]"], id="other patterns"),
    pytest.param({"namespaces": ["a.b"]}, ["data.ingress.openTo.namespaces[0]"], id="no namespace"),
    pytest.param({"namespaces": ["a"] * 101}, ["data.ingress.openTo.namespaces"], id="too many"),
]


@pytest.mark.parametrize(("open_to", "expected"), OPEN_TO)
def test_names_open_to_others(open_to: dict[str, Any], expected: list[str]) -> None:
    found = all_mistakes(manifest(ingress={"domain": "a.org", "openTo": open_to}))
    assert [mistake.path for mistake in found] == expected


@pytest.mark.parametrize(
    ("namespace", "host", "expected"),
    [
        ("team-a", "x.a.org", True),
        ("team", "x.a.org", False),
        ("shop", "x.a.org", True),
        ("other", "w.apps.a.org", True),
        ("other", "v.w.apps.a.org", True),
        ("other", "*.apps.a.org", True),
        ("other", "apps.a.org", False),
        ("other", "", False),
    ],
)
def test_what_is_open_to_whom(namespace: str, host: str, expected: bool) -> None:
    assert OpenTo(namespaces=["team-*", "shop"], hosts=["*.apps.a.org"]).lists(namespace, host) is expected
