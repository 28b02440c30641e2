"""Every kind the process reads or writes: API version, plural, scope. Paths and RBAC are made from this table."""

from typing import NamedTuple

from datalabd.api.meta import Manifest


class Resource(NamedTuple):
    """A kind as the API server's paths spell it."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True
    metadata_only: bool = False
    """Watched as PartialObjectMetadata: large or confidential objects of which only labels and owners matter."""
    hosts_only: bool = False
    """Routes of anybody, of which there may be thousands: kept is only for which hosts they answer."""
    status_only: bool = False
    """Watched for how they are, and kept without their spec."""
    may_be_large: bool = False
    """Anybody who may write in a namespace that we watch fills them with up to a megabyte each."""

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def crd(self) -> str:
        """Name of the CustomResourceDefinition that would define this kind."""
        return f"{self.plural}.{self.group}"

    def __str__(self) -> str:
        name = self.crd if self.group else self.plural
        return f"hosts of {name}" if self.hosts_only else name


EDUCATES = "training.educates.dev/v1beta1"

DATALABS = Resource("pkg.internal/v1beta2", "datalabs", "Datalab")
STORAGES = Resource("pkg.internal/v1beta1", "storages", "Storage")
ENVIRONMENT_CONFIGS = Resource("pkg.internal/v1beta1", "environmentconfigs", "EnvironmentConfig", namespaced=False)
CROSSPLANE_ENVIRONMENTS = Resource(
    "apiextensions.crossplane.io/v1beta1", "environmentconfigs", "EnvironmentConfig", namespaced=False
)
WORKSHOPS = Resource(EDUCATES, "workshops", "Workshop", namespaced=False)
WORKSHOP_ENVIRONMENTS = Resource(EDUCATES, "workshopenvironments", "WorkshopEnvironment", namespaced=False)
WORKSHOP_SESSIONS = Resource(EDUCATES, "workshopsessions", "WorkshopSession", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
SECRETS = Resource("v1", "secrets", "Secret", may_be_large=True)
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap", may_be_large=True)
VOLUME_CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
RESOURCE_QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
VOLUMES = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
INGRESSES = Resource("networking.k8s.io/v1", "ingresses", "Ingress")
PODS = Resource("v1", "pods", "Pod")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment", status_only=True)
STATEFUL_SETS = Resource("apps/v1", "statefulsets", "StatefulSet")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
ROLES = Resource("rbac.authorization.k8s.io/v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
POSTGRES_CLUSTERS = Resource("postgres-operator.crunchydata.com/v1", "postgresclusters", "PostgresCluster")
TLS_ROUTES = Resource("gateway.networking.k8s.io/v1", "tlsroutes", "TLSRoute")
DOCUMENT_STORES = Resource("mongodbcommunity.mongodb.com/v1", "mongodbcommunity", "MongoDBCommunity")
CACHE_STORES = Resource("redis.redis.opstreelabs.in/v1beta2", "redis", "Redis")
VECTOR_STORES = Resource("qdrant.io/v1alpha1", "qdrantclusters", "QdrantCluster")
APISIX_PLUGIN_CONFIGS = Resource("apisix.apache.org/v2", "apisixpluginconfigs", "ApisixPluginConfig")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
EVENTS = Resource("events.k8s.io/v1", "events", "Event")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
CRDS = Resource(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    metadata_only=True,
)
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
ADMISSION_POLICY_BINDINGS = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)

ROUTES = tuple(
    Resource(api_version, plural, kind, hosts_only=True)
    for api_version, plural, kind in (
        ("networking.k8s.io/v1", "ingresses", "Ingress"),
        ("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
        ("gateway.networking.k8s.io/v1", "grpcroutes", "GRPCRoute"),
        ("gateway.networking.k8s.io/v1", "tlsroutes", "TLSRoute"),
        ("apisix.apache.org/v2", "apisixroutes", "ApisixRoute"),
        ("traefik.io/v1alpha1", "ingressroutes", "IngressRoute"),
        ("traefik.io/v1alpha1", "ingressroutetcps", "IngressRouteTCP"),
        ("traefik.containo.us/v1alpha1", "ingressroutes", "IngressRoute"),
        ("traefik.containo.us/v1alpha1", "ingressroutetcps", "IngressRouteTCP"),
        ("projectcontour.io/v1", "httpproxies", "HTTPProxy"),
    )
)
"""Routes of all kinds that are known here, as far as they answer for hosts."""

RESOURCES = [value for value in list(globals().values()) if isinstance(value, Resource)]
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}


def resource_of(manifest: Manifest) -> Resource:
    """The resource a manifest is an object of; KeyError for a kind that is not in the table above."""
    return _BY_KIND[manifest["apiVersion"], manifest["kind"]]
