"""EnvironmentConfig: what the operator decides for many labs at once.

Two kinds carry the same data: ours, typed by a CustomResourceDefinition made of these models, and
Crossplane's, untyped. Both are parsed here, so that a mistake in either is found in one way.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from datalabd.api.meta import FieldError, Manifest, Model, Problem, field_error
from datalabd.api.patterns import (
    DNS_LABEL,
    DNS_NAME,
    HTTP_URL,
    LABEL_KEY,
    LABEL_VALUE,
    NAME_PATTERN,
    ORIGIN,
    PORT_NAME,
    REALM,
    WORD,
    blank_or,
    in_words,
)
from datalabd.api.quantity import LARGEST, Quantity, parse
from datalabd.api.v1beta2 import Budget, KubernetesRole, Namespace, ObjectName, Policy
from datalabd.errors import EnvironmentInvalid


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _camel(name: str) -> str:
    return to_camel(name).replace("Url", "URL").replace("Cidr", "CIDR").replace("Ips", "IPs")


class EnvironmentModel(Model):
    """As `Model`, with initialisms in capitals (`authURL`), no surrounding white space, and blank meaning absent."""

    model_config = ConfigDict(alias_generator=_camel, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_absent(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None and not _is_blank(item)}


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _without_blanks(value: object) -> object:
    return [item for item in value if not _is_blank(item)] if isinstance(value, list) else value


def _boolish(value: object) -> object:
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _listed(value: object) -> object:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        return entries
    return list(dict.fromkeys(entry.strip() for entry in entries if entry.strip()))


def _network(value: object) -> object:
    """The network in canonical notation: host bits cleared, a bare address as /32 or /128."""
    if not isinstance(value, str):
        return value
    try:
        return str(ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError("must be a network such as 10.42.0.0/16 or fd00::/8, or an address") from None


def _port(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if isinstance(value, str) and len(value) <= PORT_NAME_MAX and re.fullmatch(PORT_NAME, value):
        return value
    name = f"a name of at most {PORT_NAME_MAX} characters, which {in_words(PORT_NAME)}"
    raise ValueError(f"must be a port number between 1 and 65535, or {name}")


PORT_NAME_MAX = 15
QUALIFIED_MAX = 253 + len("/") + 63
"""Characters of the key of a label."""
DEPTH_MAX = 50
"""Objects and lists within each other, in what is handed on as it is; what reads it does not go on for ever."""
TEMPLATE_WORDS = ("{name}", "{namespace}", "{realm}", "{group}", "{host}")
"""What is filled in where a field is a template."""
_BRACED = re.compile(r"\$?\{[A-Za-z_][A-Za-z0-9_]*\}", re.ASCII)
_FILLED_IN = f"may have {', '.join(TEMPLATE_WORDS)} filled in, and no other word in braces"
_HUGE_PAGES = re.compile(r"hugepages-([1-9][0-9]{0,9}[KMG]i)")
_AMOUNT = r"^([0-9]+m|[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]{1,2})?)$"


def _template(value: str) -> str:
    # nginx writes its own variables as ${word}; they are not ours to fill in.
    if any(word[0] != "$" and word not in TEMPLATE_WORDS for word in _BRACED.findall(value)):
        raise ValueError(_FILLED_IN)
    return value


def _annotation(key: str) -> str:
    if not _is_qualified(key):
        raise ValueError("must be the name of an annotation, such as example.org/auth")
    return key


def _label_key(key: str) -> str:
    if not _is_qualified(key):
        raise ValueError(in_words(LABEL_KEY))
    return key


def _is_qualified(key: str) -> bool:
    """Whether it is a name as Kubernetes has them for labels, annotations and resources, with a domain or without."""
    return re.fullmatch(LABEL_KEY, key) is not None and len(key.partition("/")[0]) <= 253


def _resource(name: object) -> object:
    """The name of a resource, as containers may ask for it."""
    if isinstance(name, str):
        known = name in ("cpu", "memory", "ephemeral-storage") or _HUGE_PAGES.fullmatch(name)
        # Quotas count those of others as requests.<name>, which has to be a name as well.
        foreign = "/" in name and not name.startswith("requests.") and _is_qualified(f"requests.{name}")
        if known or foreign:
            return name
    raise ValueError(
        "must be cpu, memory, ephemeral-storage, hugepages-2Mi or the like, or example.org/gpu or the like"
    )


def _amount(value: object) -> object:
    """A quantity of any resource as text, however YAML read it."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(_AMOUNT, text) or len(text) > 20:
        raise ValueError("must be a quantity such as 500m, 2 or 1.5Gi")
    if _number(text) > LARGEST:
        raise ValueError("must be less than 8Ei")
    return text


def _number(amount: str) -> Decimal:
    return parse(amount[:-1]) / 1000 if amount.endswith("m") else parse(amount)


def _unit(resource: str) -> Decimal | None:
    """What a resource is handed out in, and not shared between containers; None for one that can be promised twice."""
    if pages := _HUGE_PAGES.fullmatch(resource):
        return parse(pages[1])
    return Decimal(1) if "/" in resource and "kubernetes.io/" not in resource else None


def _like(model: type[Model]) -> AfterValidator:
    """Checks an object by a model and keeps it as it was written: others read more of it than we know."""

    def check(value: Manifest) -> Manifest:
        model.model_validate(value)
        _passable(value)
        return value

    return AfterValidator(check)


class _SchemaOf:
    """Has the schema of a model stand for a field; made when one is asked for: only who installs the CRDs does."""

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> Manifest:
        return self._model.model_json_schema()


def _passable(value: Manifest) -> None:
    """Refuses what somebody on the way of a manifest would stumble over. Not recursive: it may be very deep."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        if any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in level):
            raise ValueError("must not hold integers of more than 64 bits")
        within = [item for item in level if isinstance(item, dict | list)]
        if not within:
            return
        level = [inner for item in within for inner in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(f"must not be nested deeper than {DEPTH_MAX} levels")


def _rule(rule: str, message: str, field: str = "", reason: str = "FieldValueInvalid") -> Manifest:
    """One of the `x-kubernetes-validations` of a schema."""
    return {"rule": rule, "message": message, "reason": reason} | ({"fieldPath": field} if field else {})


Cidr = Annotated[str, StringConstraints(max_length=64), BeforeValidator(_network)]
Cidrs = Annotated[list[Cidr], BeforeValidator(_without_blanks), Field(max_length=200)]
ClassName = Annotated[
    ObjectName | None, WithJsonSchema({"type": "string", "maxLength": 253, "pattern": blank_or(DNS_NAME)})
]
"""Name of a class; blank means the cluster's default."""
Bool = Annotated[bool, BeforeValidator(_boolish), Field(strict=True)]
OptionalUrl = Annotated[
    Annotated[str, StringConstraints(max_length=2048, pattern=HTTP_URL)] | None,
    WithJsonSchema({"type": "string", "maxLength": 2048, "pattern": blank_or(HTTP_URL)}),
]
_NO_OTHER_WORDS = [
    _rule(
        f"self.findAll('[$]?\\\\{{[A-Za-z_][A-Za-z0-9_]*\\\\}}').all(word,"
        f" word.startsWith('$') || word in [{', '.join(repr(word) for word in TEMPLATE_WORDS)}])",
        _FILLED_IN,
    )
]
UrlTemplate = Annotated[
    Annotated[str, StringConstraints(max_length=2048, pattern=HTTP_URL), AfterValidator(_template)] | None,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 2048,
            "pattern": blank_or(HTTP_URL),
            "x-kubernetes-validations": _NO_OTHER_WORDS,
        }
    ),
]
Text = Annotated[str, StringConstraints(max_length=2048)]
Template = Annotated[
    str,
    StringConstraints(max_length=2048),
    AfterValidator(_template),
    Field(json_schema_extra={"x-kubernetes-validations": _NO_OTHER_WORDS}),
]
BlankOrWord = Annotated[
    str,
    StringConstraints(max_length=2048, pattern=WORD),
    WithJsonSchema({"type": "string", "maxLength": 2048, "pattern": blank_or(WORD)}),
]
BlankOrName = Annotated[ObjectName, WithJsonSchema({"type": "string", "maxLength": 253, "pattern": blank_or(DNS_NAME)})]
BlankOrNamespace = Annotated[
    Namespace, WithJsonSchema({"type": "string", "maxLength": 63, "pattern": blank_or(DNS_LABEL)})
]
AnnotationName = Annotated[str, AfterValidator(_annotation)]
Amount = Annotated[
    str,
    BeforeValidator(_amount),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _AMOUNT}),
]
Names = Annotated[list[ObjectName], BeforeValidator(_without_blanks), Field(max_length=100)]
NamespaceGlob = Annotated[str, StringConstraints(max_length=63, pattern=r"^[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?$")]
HostGlob = Annotated[str, StringConstraints(max_length=253, pattern=r"^[a-z0-9*]([a-z0-9.*-]*[a-z0-9*])?$")]
Origin = Annotated[str, StringConstraints(max_length=300, pattern=ORIGIN)]
ReservedName = Annotated[str, StringConstraints(max_length=63, pattern=NAME_PATTERN)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Port = Annotated[
    int | str,
    BeforeValidator(_port),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": PORT_NAME, "maxLength": PORT_NAME_MAX}),
]
LabelKey = Annotated[
    str,
    AfterValidator(_label_key),
    WithJsonSchema({"type": "string", "maxLength": QUALIFIED_MAX, "pattern": LABEL_KEY}),
]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=50)]
ResourceName = Annotated[str, BeforeValidator(_resource)]


class AuthType(StrEnum):
    """Who asks session users to log in."""

    CREDENTIALS = "credentials"
    DELEGATED = "delegated"
    NONE = "none"

    @property
    def is_delegated(self) -> bool:
        """Whether the session itself asks for nothing."""
        return self is not AuthType.CREDENTIALS


class Login(StrEnum):
    """What the login of a session is made of."""

    GENERATED = "generated"
    STORAGE = "storage"


class ProtectionType(StrEnum):
    """What stands before a session's addresses."""

    NGINX = "nginx"
    APISIX = "apisix"
    TRAEFIK = "traefik"
    ANNOTATIONS = "annotations"
    EXTERNAL = "external"
    OFF = "off"


class Retention(StrEnum):
    """What becomes of volumes, databases and stores that are no longer declared."""

    RETAIN = "Retain"
    DELETE = "Delete"


def _with_rules(*rules: Manifest) -> ConfigDict:
    """Configuration of a model whose schema has rules.

    They also have to hold for an object that stands in a schema as a default: the API server looks at that before it
    fills in the defaults of its fields.
    """
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": list(rules)})


class ObjectReference(EnvironmentModel):
    """One namespaced object."""

    namespace: Namespace = Field(description="Namespace of the object.")
    name: ObjectName = Field(description="Name of the object.")


class Iam(EnvironmentModel):
    """Keycloak."""

    model_config = _with_rules(
        _rule(
            "!has(self.url) || self.url == '' || has(self.adminSecret)",
            "where url is set",
            ".adminSecret",
            "FieldValueRequired",
        )
    )

    realm: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=REALM)] = Field(
        "default", description="Realm that holds clients and groups of the labs."
    )
    url: OptionalUrl = Field(None, description="Address of Keycloak; without it no realm is managed.")
    ca_secret: ObjectReference | None = Field(None, description="Secret whose ca.crt signs Keycloak's certificate.")
    admin_secret: ObjectReference | None = Field(
        None, description="Secret with client_id and client_secret of the client that manages the realm."
    )
    extra_audiences: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=255)]],
        BeforeValidator(_listed),
        Field(max_length=50),
        WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
    ] = Field([], description="Further audiences of the labs' tokens: a list, or one as a string.")
    localhost_redirects: Bool = Field(False, description="Whether logins may redirect to http://localhost.")

    @model_validator(mode="after")
    def _managed_with_credentials(self) -> Self:
        if self.url is not None and self.admin_secret is None:
            raise ValueError("adminSecret is required where url is set")
        return self


_TEMPLATES = "{name}, {namespace}, {realm}, {group} and {host} are filled in."


class Protection(EnvironmentModel):
    """What keeps strangers from a session's addresses."""

    model_config = _with_rules(
        _rule(
            "!has(self.type) || self.type != 'traefik' || has(self.middleware)",
            "where type is traefik",
            ".middleware",
            "FieldValueRequired",
        ),
        _rule(
            "!has(self.type) || self.type != 'annotations' || size(self.annotations) > 0",
            "where type is annotations",
            ".annotations",
            "FieldValueRequired",
        ),
        _rule(
            "has(self.opaURL) == has(self.opaPolicy)",
            "opaURL and opaPolicy must be set together",
        ),
    )

    type: Annotated[ProtectionType, BeforeValidator(_lower)] = Field(
        ProtectionType.OFF,
        description="nginx, apisix, traefik and annotations add annotations to the session's Ingresses; external "
        "says that something unknown to us protects them; off leaves them alone.",
    )
    auth_url: UrlTemplate = Field(
        None,
        description=f"nginx: what approves each request; https://auth.<domain>/oauth2/auth if left out. {_TEMPLATES}",
    )
    signin_url: UrlTemplate = Field(
        None, description=f"nginx: the login page; /oauth2/start of the same host if left out. {_TEMPLATES}"
    )
    response_headers: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_-]+$")]],
        Field(max_length=50),
    ] = Field(
        ["X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username"],
        description="nginx: headers of the approval that the session receives. One that holds a credential (its name "
        "contains authorization, token or cookie) is never handed on.",
    )
    discovery_url: UrlTemplate = Field(
        None, description=f"apisix: OpenID discovery document; derived from iam.url if left out. {_TEMPLATES}"
    )
    opa_url: UrlTemplate = Field(None, description=f"apisix: Open Policy Agent to ask. {_TEMPLATES}")
    opa_policy: Template | None = Field(None, description=f"apisix: policy to ask for. {_TEMPLATES}")
    middleware: Template | None = Field(
        None, description=f"traefik: middleware, as namespace-name@kubernetescrd. {_TEMPLATES}"
    )
    annotations: Annotated[dict[AnnotationName, Template], Field(max_length=50)] = Field(
        {}, description=f"annotations: what each Ingress is to carry. {_TEMPLATES}"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: dict[ProtectionType, tuple[str, ...]] = {
            ProtectionType.TRAEFIK: ("middleware",),
            ProtectionType.ANNOTATIONS: ("annotations",),
        }
        missing = [_camel(name) for name in needed.get(self.type, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be set where type is {self.type}")
        return self


class OpenTo(EnvironmentModel):
    """Who may have names below the labs' domain, besides labs and those who run the platform."""

    namespaces: Annotated[list[NamespaceGlob], BeforeValidator(_without_blanks), Field(max_length=100)] = Field(
        [], description="Namespaces whose routes may have any name there that no lab derives; * is any text."
    )
    hosts: Annotated[list[HostGlob], BeforeValidator(_without_blanks), Field(max_length=100)] = Field(
        [],
        description="Names there that routes of any namespace may have, where no lab derives them, such as "
        "*.apps.lab.example.org; * is any text.",
    )

    def lists(self, namespace: str, host: str) -> bool:
        """Whether a route of this namespace may have this host, a name or a wildcard."""
        return any(fnmatchcase(namespace, glob) for glob in self.namespaces) or any(
            fnmatchcase(host, glob) for glob in self.hosts
        )


class Ingress(EnvironmentModel):
    """Addresses of the labs; class, domain and secret have to equal those of the runtime's installation."""

    class_: ClassName = Field(None, alias="class", description="Ingress class of the installation.")
    domain: Annotated[str, StringConstraints(min_length=1, max_length=189, pattern=DNS_NAME)] = Field(
        description="Domain below which all hosts of the labs lie."
    )
    secret: ObjectName = Field("wildcard-tls", description="TLS Secret of the wildcard certificate.")
    protection: Protection = Field(
        Protection.model_construct(), description="What keeps strangers from a session's addresses."
    )
    open_to: OpenTo = Field(
        OpenTo.model_construct(),
        description="Who may have names below the domain, besides labs and those who run the platform.",
    )

    @property
    def auth_url(self) -> str:
        """Address that approves each request: the protection's, else oauth2-proxy's usual one below the domain."""
        return self.protection.auth_url or f"https://auth.{self.domain}/oauth2/auth"

    @property
    def signin_url(self) -> str:
        """Login page, which returns to the page asked for: the protection's, else oauth2-proxy's usual one."""
        return (
            self.protection.signin_url
            or f"https://auth.{self.domain}/oauth2/start?rd=https://$host$escaped_request_uri"
        )


class Storage(EnvironmentModel):
    """Object storage."""

    secret_namespace: Annotated[
        Namespace | None, WithJsonSchema({"type": "string", "maxLength": 63, "pattern": blank_or(DNS_LABEL)})
    ] = Field(None, description="Namespace of the storage Secrets; the claim's own if left out.")
    endpoint: BlankOrWord = Field("", description="S3 endpoint, where the Secret names none.")
    endpoints: Annotated[list[Origin], BeforeValidator(_without_blanks), Field(max_length=100)] = Field(
        [],
        description="Further endpoints that a Secret in the claim's own namespace may name, by scheme, host and port, "
        "as https://s3.example.org:9000; endpoint is one of them. A Secret of secretNamespace may name any.",
    )
    region: BlankOrWord = Field("", description="Region, where the Secret names none.")
    type: BlankOrWord = Field("s3", description="Kind of rclone remote.")
    provider: BlankOrWord = Field("Other", description="Provider of the rclone remote.")
    force_path_style: Annotated[
        bool,
        BeforeValidator(_boolish),
        Field(strict=True),
        WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
    ] = Field(
        True,
        alias="force_path_style",
        description="Whether buckets are addressed by path: true or false, also as a string.",
    )


class StorageClasses(EnvironmentModel):
    """Storage classes of home directories, databases and stores."""

    allowed: Names = Field(
        [],
        description="What a claim may choose from, the default of home directories first; anything if empty. Databases "
        "may have the environment's own class for them as well.",
    )


class Auth(EnvironmentModel):
    """How session users log in."""

    type: Annotated[AuthType, BeforeValidator(_lower)] = Field(
        AuthType.CREDENTIALS,
        description="credentials: the session asks for its login; delegated and none: ingress.protection keeps "
        "strangers out.",
    )
    login: Annotated[Login, BeforeValidator(_lower)] = Field(
        Login.GENERATED, description="generated: a random login per lab; storage: the object-storage keys."
    )


class QuotaDefaults(EnvironmentModel):
    """Quota of claims that say nothing."""

    memory: Quantity = Field("2Gi", description="Memory of a session's container.")
    storage: Quantity = Field("1Gi", description="Size of a session's home directory.")
    budget: Budget = Field(Budget.MEDIUM, description="Size class of what a session's own namespace may use.")


class SecurityDefaults(EnvironmentModel):
    """Security of claims that say nothing."""

    policy: Policy = Field(Policy.BASELINE, description="Pod security standard of session namespaces.")
    kubernetes_access: Bool = Field(True, description="Whether sessions hold a token for the Kubernetes API.")
    kubernetes_role: KubernetesRole = Field(KubernetesRole.EDIT, description="What that token may do.")
    external_egress: Bool = Field(True, description="Whether labs reach addresses outside the cluster.")


class Defaults(EnvironmentModel):
    """What applies where a claim says nothing."""

    quota: QuotaDefaults = Field(QuotaDefaults.model_construct(), description="Quota of claims that say nothing.")
    security: SecurityDefaults = Field(
        SecurityDefaults.model_construct(), description="Security of claims that say nothing."
    )


class Expression(EnvironmentModel):
    """One requirement of a label selector."""

    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How key and values relate.")
    values: Annotated[list[LabelValue], Field(max_length=50)] = Field(
        default_factory=list, description="Label values, for In and NotIn."
    )

    @model_validator(mode="after")
    def _values_where_needed(self) -> Self:
        if bool(self.values) is not (self.operator in ("In", "NotIn")):
            raise ValueError("values must be given for In and NotIn, and only for them")
        return self


class Selector(EnvironmentModel):
    """Chooses objects by label; an empty one chooses all."""

    match_labels: Labels = Field(default_factory=dict, description="Labels that are all present.")
    match_expressions: Annotated[list[Expression], Field(max_length=20)] = Field(
        default_factory=list, description="Requirements that all hold."
    )


class PeerPort(EnvironmentModel):
    """One port or range of ports."""

    port: Port = Field(description="Number or name.")
    protocol: Literal["TCP", "UDP", "SCTP"] = Field("TCP", description="Protocol.")
    end_port: PortNumber | None = Field(None, description="Last port of the range that begins with port.")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.end_port is not None and (isinstance(self.port, str) or self.end_port < self.port):
            raise ValueError("endPort needs a numeric port that is not greater")
        return self


class InternalPeer(EnvironmentModel):
    """Pods of another namespace that labs may reach."""

    namespace: Namespace = Field(description="Namespace of the pods.")
    pod_selector: Selector = Field(default_factory=Selector, description="The pods; all of them if left out.")
    ports: Annotated[list[PeerPort], Field(max_length=50)] = Field(
        default_factory=list, description="Ports of the pods; all if left out."
    )


class Source(EnvironmentModel):
    """Pods chosen by labels of their namespace and their own, or a network."""

    namespace_selector: Selector | None = Field(
        None, description="The namespaces; all if empty, the lab's own if left out."
    )
    pod_selector: Selector | None = Field(None, description="The pods; all if left out.")
    cidr: Cidr | None = Field(None, description="A network instead of pods.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        pods = self.namespace_selector is not None or self.pod_selector is not None
        if pods is (self.cidr is not None):
            raise ValueError("must have either cidr or namespaceSelector and podSelector")
        return self


class Peer(Source):
    """The same, with ports."""

    ports: Annotated[list[PeerPort], Field(max_length=50)] = Field(
        default_factory=list, description="Ports; all if left out."
    )


Peers = Annotated[list[Peer], Field(max_length=50)]
# Constructed, not parsed: none of these models needs a validator of its own.
_DNS_PORTS = [PeerPort.model_construct(port=53, protocol="UDP"), PeerPort.model_construct(port=53, protocol="TCP")]
_DNS = [
    Peer.model_construct(
        namespace_selector=Selector.model_construct(match_labels={"kubernetes.io/metadata.name": "kube-system"}),
        ports=_DNS_PORTS,
    ),
    Peer.model_construct(cidr="169.254.20.10/32", ports=_DNS_PORTS),
]
_NO_LAB = Selector.model_construct(
    match_expressions=[Expression.model_construct(key="training.educates.dev/component", operator="DoesNotExist")]
)


class PeerTarget(StrEnum):
    """What of a lab a peer reaches."""

    SESSION = "session"
    SESSION_NAMESPACE = "sessionNamespace"
    STORES = "stores"
    DATABASES = "databases"


class NetworkPeer(EnvironmentModel):
    """Something that reaches a part of each lab."""

    from_: Source = Field(alias="from", description="Where the connections come from.")
    to: PeerTarget = Field(
        description="What they reach: session pods, all pods in sessions' own namespaces, document, cache and vector "
        "stores, or PostgreSQL servers."
    )
    ports: Annotated[list[PeerPort], Field(max_length=50)] = Field(
        default_factory=list,
        description="Ports; if left out those that clients use, and every port in the sessions' own namespaces.",
    )


class Network(EnvironmentModel):
    """What labs may reach, and what may reach them."""

    external_egress_cidrs: Cidrs = Field([], description="Networks outside that labs may reach; none if empty.")
    blacklist_ips: Cidrs = Field([], description="Networks that labs never reach.")
    pod_cidrs: Cidrs = Field([], description="Networks of the cluster's pods.")
    service_cidr: Cidr | None = Field(None, description="Network of the cluster's Services.")
    internal_egress: Annotated[list[InternalPeer], Field(max_length=50)] = Field(
        [], description="Pods of other namespaces that labs may reach."
    )
    exclude_policies: Names = Field([], description="Names of network policies to leave out.")
    dns: Peers = Field(_DNS, description="Where labs resolve names.")
    api_server_cidrs: Cidrs = Field(
        [], description="Networks of the API server; its endpoints in the cluster if empty."
    )
    ingress_peers: Annotated[list[Source], Field(max_length=50)] = Field(
        [Source.model_construct(namespace_selector=_NO_LAB)],
        description="Where the ingress controller's requests to sessions and registries come from; if left out any "
        "namespace that is no lab's.",
    )
    peers: Annotated[list[NetworkPeer], Field(max_length=50)] = Field(
        [], description="What else may reach labs, such as monitoring, or an SQL gateway outside its own namespace."
    )


class Gateway(EnvironmentModel):
    """Gateway listener that makes databases reachable from outside; used only where all three are set."""

    model_config = _with_rules(
        _rule(
            "!has(self.parentName) ||"
            " [self.parentName, self.parentNamespace, self.sectionName].filter(name, name != '').size() in [0, 3]",
            "parentName, parentNamespace and sectionName must be set together, or left out together",
        )
    )
    parent_name: BlankOrName = Field("", description="Name of the Gateway.")
    parent_namespace: BlankOrNamespace = Field("", description="Namespace of the Gateway.")
    section_name: BlankOrName = Field("", description="Listener that passes TLS through.")

    @property
    def is_complete(self) -> bool:
        """Whether databases are to be exposed."""
        return all((self.parent_name, self.parent_namespace, self.section_name))


class DatabaseSettings(EnvironmentModel):
    """PostgreSQL."""

    gateway: Gateway = Field(
        Gateway.model_construct(), description="How databases are reached from outside, if at all."
    )
    storage_class_name: ClassName = Field(None, description="Class of data volumes; the cluster's default if blank.")
    backup_storage_class_name: ClassName = Field(
        None, description="Class of backup volumes; the cluster's default if blank."
    )
    superuser: Bool = Field(
        True, description="Whether the lab gets the superuser's login; else one that owns the lab's databases."
    )


class StoreSettings(EnvironmentModel):
    """One kind of store."""

    storage_class_name: ClassName = Field(None, description="Class of the volumes; the cluster's default if blank.")


class Limits(EnvironmentModel):
    """How much one claim may ask for in all."""

    volume: Quantity = Field("1Ti", description="Size of its largest volume.")
    volumes: Quantity = Field(
        "10Ti", description="Size of all its volumes: homes, databases and their backups, stores, registries."
    )
    sessions: Annotated[int, Field(ge=0, le=1000)] = Field(20, description="Number of its sessions, stopped ones too.")
    stores: Annotated[int, Field(ge=0, le=1000)] = Field(
        30, description="Number of its database servers and document, cache and vector stores."
    )
    memory: Quantity = Field("256Gi", description="Memory of all its sessions: quota.memory for each.")


class Allowed(EnvironmentModel):
    """What claims may ask for."""

    namespaces: Annotated[list[Namespace], Field(max_length=1000)] | None = Field(
        None, description="Namespaces whose claims may use this environment; all if left out."
    )
    policies: Annotated[list[Policy], Field(max_length=3)] = Field(
        [Policy.RESTRICTED, Policy.BASELINE], description="Pod security standards a claim may ask for."
    )
    kubernetes_roles: Annotated[list[KubernetesRole], Field(max_length=3)] = Field(
        list(KubernetesRole), description="Kubernetes roles a claim may ask for."
    )
    budgets: Annotated[list[Budget], Field(max_length=6)] = Field(
        list(Budget), description="Size classes a claim may ask for."
    )
    vcluster: Bool = Field(True, description="Whether a claim may ask for virtual clusters.")
    user_ingress: Bool = Field(
        False,
        description="Whether the ingress controller reaches the pods in sessions' own namespaces, so that users can "
        "publish what they run there.",
    )
    limits: Limits = Field(
        Limits.model_construct(), description="How much one claim may ask for in all; what exists is left alone."
    )


class Resources(EnvironmentModel):
    """Requests and limits of a container."""

    model_config = _with_rules(
        _rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) ||"
            " !quantity(string(self.requests[name])).isGreaterThan(quantity(string(self.limits[name]))))",
            "no request may be more than its limit",
            ".requests",
        )
    )
    requests: Annotated[dict[ResourceName, Amount], Field(max_length=6)] | None = Field(
        None, description="What it is sure to have, by resource: cpu, memory."
    )
    limits: Annotated[dict[ResourceName, Amount], Field(max_length=6)] | None = Field(
        None, description="What it never exceeds, by resource."
    )

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Self:
        limits = self.limits or {}
        over = [
            f"{name} of {amount} is more than its limit, {limits[name]}"
            for name, amount in (self.requests or {}).items()
            if name in limits and _number(amount) > _number(limits[name])
        ]
        if over:
            raise ValueError(f"no request may be more than its limit: {', '.join(over)}")
        return self

    @model_validator(mode="after")
    def _whole_units(self) -> Self:
        requests, limits = self.requests or {}, self.limits or {}
        for name, amount in [*requests.items(), *limits.items()]:
            unit = _unit(name)
            if unit is None:
                continue
            if _number(amount) % unit:
                raise ValueError(f"{name} of {amount} is not a multiple of {unit.normalize():f}")
            if name in requests and (name not in limits or _number(requests[name]) != _number(limits[name])):
                raise ValueError(f"{name} must have a limit that is equal to its request")
            if _HUGE_PAGES.fullmatch(name) and not {"cpu", "memory"} & {*requests, *limits}:
                raise ValueError(f"{name} needs cpu or memory beside it")
        return self


class Component(EnvironmentModel):
    """How one component runs."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")] | None = Field(
        None, description="Container image."
    )
    resources: Annotated[dict[str, Any], _like(Resources), _SchemaOf(Resources)] | None = Field(
        None, description="Requests and limits of its container, as in a pod."
    )
    replicas: Annotated[int, Field(ge=1, le=9)] | None = Field(None, description="Number of pods.")


class Components(EnvironmentModel):
    """How the components of a lab run, where that differs from our defaults."""

    data: Component = Field(default_factory=Component, description="Browser of the object storage.")
    mongodb: Component = Field(default_factory=Component, description="Document stores.")
    redis: Component = Field(
        default_factory=Component,
        description="Cache stores. Their operator makes one pod of each: giving `replicas` is refused.",
    )
    qdrant: Component = Field(
        default_factory=Component,
        description=(
            "Vector stores. Their operator takes no `resources`: giving them is refused. Those that exist keep their "
            "image when its tag changes: the tag stands in the selector of their pods."
        ),
    )


class PackageFields(EnvironmentModel):
    """What the runtime cannot do without in a package."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Name of the package.")
    files: Annotated[
        list[Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]],
        Field(max_length=50),
    ] = Field(description="Where its files come from, each as the runtime wants it.")


Package = Annotated[dict[str, Any], _like(PackageFields), _SchemaOf(PackageFields)]


class EnvironmentData(EnvironmentModel):
    """Everything the operator decides."""

    model_config = _with_rules(
        *(
            _rule(f"{value} in self.allowed.{among}", f"must be among allowed.{among}", value.removeprefix("self"))
            for value, among in (
                ("self.defaults.security.policy", "policies"),
                ("self.defaults.security.kubernetesRole", "kubernetesRoles"),
                ("self.defaults.quota.budget", "budgets"),
            )
        ),
        _rule(
            "self.ingress.protection.type != 'apisix' || has(self.ingress.protection.discoveryURL) ||"
            " has(self.iam.url)",
            "where type is apisix and iam.url is not set",
            ".ingress.protection.discoveryURL",
            "FieldValueRequired",
        ),
    )

    iam: Iam = Field(Iam.model_construct(), description="Keycloak.")
    ingress: Ingress = Field(description="Addresses of the labs.")
    storage: Storage = Field(Storage.model_construct(), description="Object storage.")
    storage_classes: StorageClasses = Field(StorageClasses.model_construct(), description="Storage classes of volumes.")
    packages: Annotated[list[Package], Field(max_length=50)] = Field(
        [],
        description=f"Packages for the sessions, handed to the runtime as they are; at most {DEPTH_MAX} levels deep.",
    )
    auth: Auth = Field(Auth.model_construct(), description="How session users log in.")
    defaults: Defaults = Field(Defaults.model_construct(), description="What applies where a claim says nothing.")
    network: Network = Field(Network.model_construct(), description="What labs may reach, and what may reach them.")
    database: DatabaseSettings = Field(DatabaseSettings.model_construct(), description="PostgreSQL.")
    mongodb: StoreSettings = Field(StoreSettings.model_construct(), description="Document stores.")
    redis: StoreSettings = Field(StoreSettings.model_construct(), description="Cache stores.")
    qdrant: StoreSettings = Field(StoreSettings.model_construct(), description="Vector stores.")
    retention: Retention = Field(
        Retention.RETAIN, description="What becomes of volumes, databases and stores that are no longer declared."
    )
    allowed: Allowed = Field(Allowed.model_construct(), description="What claims may ask for.")
    reserved_names: Annotated[list[ReservedName], BeforeValidator(_without_blanks), Field(max_length=500)] = Field(
        [],
        description="Names that no lab may have for its namespaces, hosts and Keycloak client, beside those that are "
        "always reserved; a * at the end stands for any ending.",
    )
    components: Components = Field(default_factory=Components, description="How the components of a lab run.")

    @property
    def is_protected(self) -> bool:
        """Whether somebody asks who comes: the session itself, or something in front of it."""
        return not self.auth.type.is_delegated or self.ingress.protection.type is not ProtectionType.OFF

    @property
    def hosts(self) -> set[str]:
        """The platform's own hosts: where people sign in, and whatever else of it lies at or below the labs' domain."""
        domain = self.ingress.domain
        signing_in = {_host(url) for url in (self.ingress.auth_url, self.ingress.signin_url)}
        others = {_host(url) for url in (self.iam.url, self.storage.endpoint, self.ingress.protection.discovery_url)}
        return {host for host in signing_in if host} | {domain} | {h for h in others if h.endswith(f".{domain}")}


def _host(url: str | None) -> str:
    """The host of an address in lower case; empty if it has none, or one that differs from lab to lab."""
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return ""
    return host if re.fullmatch(DNS_NAME, host) else ""


class _Named(Model):
    name: str


class EnvironmentConfig(Model):
    """One environment; of either kind."""

    metadata: _Named
    data: EnvironmentData

    @property
    def name(self) -> str:
        """Name of the environment."""
        return self.metadata.name

    @classmethod
    def parse(cls, manifest: Manifest) -> Self:
        """The environment of a manifest of either kind; `EnvironmentInvalid` naming every field that is wrong."""
        try:
            return cls.model_validate(manifest)
        except ValidationError as error:
            metadata = manifest.get("metadata")
            name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
            raise EnvironmentInvalid(name, "EnvironmentInvalid", "; ".join(map(str, _field_errors(error)))) from error


def mistakes(manifest: Manifest) -> list[FieldError]:
    """Everything that is wrong with an environment, of either kind.

    First what `EnvironmentConfig.parse` refuses; an environment that passes it can be used, but may contradict itself.
    """
    try:
        return list(_contradictions(EnvironmentConfig.model_validate(manifest).data))
    except ValidationError as error:
        return _field_errors(error)


def _field_errors(error: ValidationError) -> list[FieldError]:
    return [field_error(details) for details in error.errors(include_url=False)]


def _contradictions(data: EnvironmentData) -> Iterator[FieldError]:
    security, allowed = data.defaults.security, data.allowed
    limits: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("security.policy", security.policy, allowed.policies),
        ("security.kubernetesRole", security.kubernetes_role, allowed.kubernetes_roles),
        ("quota.budget", data.defaults.quota.budget, allowed.budgets),
    )
    for field, default, among in limits:
        if default not in among:
            detail = f"the environment allows {', '.join(among) or 'none'}"
            yield FieldError(f"data.defaults.{field}", Problem.UNSUPPORTED, str(default), detail)
    gateway = data.database.gateway
    if not gateway.is_complete:
        named = [gateway.parent_name, gateway.parent_namespace, gateway.section_name]
        for field, value in zip(("parentName", "parentNamespace", "sectionName"), named, strict=True):
            if any(named) and not value:
                yield FieldError(f"data.database.gateway.{field}", Problem.REQUIRED, None, "the others are set")
    for index, glob in enumerate(data.ingress.open_to.hosts):
        below, (_, star, ending) = f".{data.ingress.domain}", glob.rpartition("*")
        if not (ending.endswith(below) or (star and below.endswith(ending))):
            detail = f"lies not below the domain, {data.ingress.domain}"
            yield FieldError(f"data.ingress.openTo.hosts[{index}]", Problem.INVALID, glob, detail)
    protection, path = data.ingress.protection, "data.ingress.protection"
    if protection.type is ProtectionType.APISIX and not protection.discovery_url and not data.iam.url:
        detail = "where type is apisix and iam.url is not set"
        yield FieldError(f"{path}.discoveryURL", Problem.REQUIRED, None, detail)
    if bool(protection.opa_url) is not bool(protection.opa_policy):
        missing, given = ("opaPolicy", "opaURL") if protection.opa_url else ("opaURL", "opaPolicy")
        yield FieldError(f"{path}.{missing}", Problem.REQUIRED, None, f"where {given} is set")
    image = data.components.qdrant.image
    if image is not None and ":" not in image.rpartition("/")[2]:
        yield FieldError("data.components.qdrant.image", Problem.INVALID, image, "must end in a tag")
    if data.components.redis.replicas is not None:
        yield FieldError(
            "data.components.redis.replicas", Problem.FORBIDDEN, None, "its operator makes one pod of each"
        )
    if data.components.qdrant.resources is not None:
        detail = "its operator takes no resources in the form that its definition asks for; limit the namespace instead"
        yield FieldError("data.components.qdrant.resources", Problem.FORBIDDEN, None, detail)


def hosts_of(manifest: Manifest) -> set[str]:
    """The platform's own hosts by an environment of either kind; the usual ones of its domain if it cannot be used."""
    try:
        return EnvironmentConfig.parse(manifest).data.hosts
    except EnvironmentInvalid:
        domain = domain_of(manifest)
        return {domain, f"auth.{domain}"} if domain else set()


def domain_of(manifest: Manifest) -> str | None:
    """The domain of the labs of an environment, of either kind, whatever else is wrong with it."""
    data = manifest.get("data")
    ingress = data.get("ingress") if isinstance(data, dict) else None
    domain = ingress.get("domain") if isinstance(ingress, dict) else None
    return domain.strip() if isinstance(domain, str) and re.fullmatch(DNS_NAME, domain.strip()) else None
