"""What webhooks and controllers ask of the caches: claims, environments, and all that concerns one lab."""

import contextlib
import datetime
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from datalabd import identity, names
from datalabd.api.environment import EnvironmentConfig, OpenTo, ProtectionType, domain_of, hosts_of
from datalabd.api.meta import ACCOUNT, CLAIM_UID, RETAINED, Manifest, NamespacedName, claim_of, is_planned, shorten
from datalabd.errors import EnvironmentInvalid, NotYet, Unreadable
from datalabd.identity import IamView
from datalabd.kube import resources as kinds
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.name_index import NameIndex
from datalabd.kube.resources import Resource
from datalabd.kube.store import Index, Scope, Store, key_of
from datalabd.lab import Lab, environment_name, last_domain, last_environment, storage_secret
from datalabd.live import dig, objects, text
from datalabd.observed import Phase, View, view
from datalabd.plan import rights
from datalabd.routes.index import RouteIndex
from datalabd.stores import POSTGRES, server_sizes
from datalabd.submission import VolumeClasses
from datalabd.validation import names_of

OURS = Scope(label_selector="app.kubernetes.io/managed-by=datalabd")
SESSION_PARTS = Scope(
    label_selector="training.educates.dev/component=session,training.educates.dev/application=workshop"
)
API_SERVER = Scope(namespace="default", label_selector="kubernetes.io/service-name=kubernetes")

DATABASE_LOGIN = ("postgres-operator.crunchydata.com/role", "pguser")
"""Label of the Secrets in which PGO keeps logins."""
OPAQUE = "type=Opaque"
"""Field selector of the Secrets of a lab's own namespace that concern us: tokens, certificates and pull secrets have
types of their own. One watch for all is lighter than one for each."""

LIST_SECONDS = 2.0
"""How long a pass waits for what is being listed, at most."""
READ_SECONDS = 5.0
"""When to look again whether a namespace has been listed, should nothing be heard of it."""
ENVIRONMENTS = (kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS)
RUNTIME_KINDS = (kinds.WORKSHOPS, kinds.WORKSHOP_ENVIRONMENTS, kinds.WORKSHOP_SESSIONS)
STORE_KINDS = (kinds.POSTGRES_CLUSTERS, kinds.DOCUMENT_STORES, kinds.CACHE_STORES, kinds.VECTOR_STORES)
OPTIONAL_KINDS = (*STORE_KINDS, kinds.TLS_ROUTES, kinds.APISIX_PLUGIN_CONFIGS)
"""Kinds that a cluster may not know; what needs them says so."""
INSIDE_KINDS = (
    kinds.VOLUME_CLAIMS,
    kinds.NETWORK_POLICIES,
    kinds.CONFIG_MAPS,
    kinds.SERVICE_ACCOUNTS,
    kinds.ROLES,
    kinds.ROLE_BINDINGS,
    kinds.TLS_ROUTES,
    kinds.APISIX_PLUGIN_CONFIGS,
    *STORE_KINDS,
)
"""Kinds that the plan writes into the workshop namespace, besides Secrets."""
OWNED_KINDS = (kinds.SECRETS, *INSIDE_KINDS, *RUNTIME_KINDS)
"""Kinds the plan writes."""
VIEWED = {
    kind.kind: kind
    for kind in (
        *OWNED_KINDS,
        kinds.NAMESPACES,
        kinds.DEPLOYMENTS,
        kinds.STATEFUL_SETS,
        kinds.ENDPOINT_SLICES,
    )
}
"""Kinds that a lab is seen by."""


class Choice(NamedTuple):
    """Of a claim: names of the environment it chooses and of the last good one it chose, and the domain it had last.

    Few differ, however many claims there are.
    """

    environment: str
    last: str
    last_domain: str


def _choice(claim: Manifest) -> Choice:
    return Choice(environment_name(claim), last_environment(claim), last_domain(claim))


def _secret_names(claim: Manifest) -> set[str]:
    """Names of the Secrets that are read or made for a claim, wherever they are."""
    name = claim["metadata"]["name"]
    stated = (claim.get("spec") or {}).get("secretName")
    return {name, *names.own_secrets(name), *([stated] if isinstance(stated, str) else [])}


def _alone(secret: NamespacedName) -> tuple[Resource, Scope]:
    """The scope that is one Secret."""
    return kinds.SECRETS, Scope(secret.namespace, field_selector=f"metadata.name={secret.name}")


class Cache:
    """Queries over the stores. Makes no request but by reflectors."""

    def __init__(self, informers: Informers, account: str = ACCOUNT) -> None:
        self.informers = informers
        self.account = account
        """Who we are to the API server."""
        self.names = NameIndex(informers.store(kinds.DATALABS), informers.store(kinds.WORKSHOP_ENVIRONMENTS))
        self._environments: dict[tuple[str, str], EnvironmentConfig | EnvironmentInvalid] = {}
        """Parsed environments, or what is wrong with them, by uid and resourceVersion."""
        self._followed: dict[NamespacedName, frozenset[tuple[Resource, Scope]]] = {}
        """What is watched by namespace, by the claim it is watched for."""
        self._followers: dict[tuple[Resource, Scope], set[NamespacedName]] = {}
        """The same the other way round."""
        claims = informers.store(kinds.DATALABS)
        self._by_name = Index(claims, lambda claim: [claim["metadata"]["name"]])
        self._by_choice = Index(claims, lambda claim: [_choice(claim)])
        self._by_secret = Index(claims, _secret_names)
        self._domains: dict[str, str] = {}
        self._last_api_server: tuple[Manifest, ...] = ()
        self.routes = RouteIndex()
        """Routes of the whole cluster, by their hosts."""
        for kind in kinds.ROUTES:
            informers.store(kind).subscribe(functools.partial(self._route_changed, informers.store(kind)))
        for kind in (kinds.WORKSHOPS, kinds.WORKSHOP_ENVIRONMENTS):
            informers.store(kind).subscribe(self._share_workshop)

    def start(self) -> None:
        """Begin to watch everything that is watched in the whole cluster. Secrets are followed by namespace."""
        watch = self.informers.watch
        watch(kinds.CRDS)
        # A restored etcd may not know a claim any more: nothing is made for it on the word of an earlier watch.
        watch(kinds.DATALABS, optional=True, anew=True)
        watch(kinds.ENVIRONMENT_CONFIGS, optional=True)
        watch(kinds.CROSSPLANE_ENVIRONMENTS, optional=True)
        for kind in RUNTIME_KINDS:
            watch(kind, optional=True)
        watch(kinds.NAMESPACES)
        watch(kinds.VOLUMES)
        for kind in INSIDE_KINDS:
            watch(kind, OURS, optional=kind in OPTIONAL_KINDS)
        watch(kinds.DEPLOYMENTS, SESSION_PARTS)
        watch(kinds.INGRESSES, SESSION_PARTS)
        watch(kinds.ENDPOINT_SLICES, API_SERVER)
        for kind in kinds.ROUTES:
            watch(kind, optional=kind.group != kinds.INGRESSES.group)

    def require_known(self, *needed: Resource) -> None:
        """Raise `NotYet` while one of these kinds, of the whole cluster, is not listed: what is not known looks free.

        A kind that the cluster does not have is known.
        """
        for kind in needed:
            if self.informers.served(kind) and not self.informers.synced(kind):
                raise NotYet(f"the {kind.kind}s of the cluster are not listed", READ_SECONDS)

    def _route_changed(self, store: Store, route: Manifest) -> None:
        live = store.get(*key_of(route))
        if live is None:
            self.routes.remove(route)
        else:
            self.routes.put(live)

    def _share_workshop(self, changed: Manifest) -> None:
        """Hold a Workshop's spec once where the environment's copy equals it: it is most of what is known of a lab."""
        name = changed["metadata"]["name"]
        workshop = self.informers.store(kinds.WORKSHOPS).get("", name)
        copy = dig(self.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", name), "status", "educates", "workshop")
        if workshop is not None and "spec" in workshop and copy.get("spec") == workshop["spec"]:
            copy["spec"] = workshop["spec"]

    def claim(self, key: NamespacedName) -> Manifest | None:
        """One claim, as v1beta2."""
        return self.informers.store(kinds.DATALABS).get(*key)

    def claims(self) -> Iterator[Manifest]:
        """All claims."""
        return iter(self.informers.store(kinds.DATALABS))

    def claims_named(self, name: str) -> list[Manifest]:
        """Claims of that name, in whatever namespace; more than one only while they compete for it."""
        return [claim for key in self._by_name.get(name) if (claim := self.claim(key)) is not None]

    def deriving(self, name: str) -> list[NamespacedName]:
        """Claims that may derive this name, of a namespace or of what is like one unique in the cluster."""
        ends = [at for at, letter in enumerate(name) if letter == "-"]
        return [key for end in (*ends, len(name)) for key in self._by_name.get(name[:end])]

    def choosing(self, environment: str) -> list[NamespacedName]:
        """Claims that choose an environment, or are held by it."""
        return sorted(
            key
            for choice in self._by_choice
            if environment in (choice.environment, choice.last)
            for key in self._by_choice.get(choice)
        )

    def reading(self, secret: Manifest) -> set[NamespacedName]:
        """Claims for which a Secret may be read."""
        key = key_of(secret)
        is_login = (secret["metadata"].get("labels") or {}).get(DATABASE_LOGIN[0]) == DATABASE_LOGIN[1]
        inside = is_login or key.name in names.inside_secrets(key.namespace)
        return {
            *self._by_secret.get(key.name),
            *(self._by_name.get(key.namespace) if inside else ()),
            *self._followers.get(_alone(key), ()),
        }

    def followers(self, resource: Resource, scope: Scope) -> list[NamespacedName]:
        """Claims for which this is watched: all, if it is watched in the whole cluster."""
        if not scope.namespace:
            return [key_of(claim) for claim in self.claims()]
        return sorted(self._followers.get((resource, scope), ()))

    def environment(self, name: str) -> EnvironmentConfig:
        """The environment of that name, ours before Crossplane's; raises `EnvironmentInvalid`."""
        for kind in ENVIRONMENTS:
            manifest = self.informers.store(kind).get("", name)
            if manifest is not None:
                return self._parsed(manifest)
        if (error := self.informers.unreadable(kinds.CROSSPLANE_ENVIRONMENTS)) is not None:
            message = f"{kinds.CROSSPLANE_ENVIRONMENTS}, where EnvironmentConfig {shorten(name)} may be, cannot be read"
            raise EnvironmentInvalid(name, "KindUnreadable", f"{message}: {error}")
        message = f"EnvironmentConfig {shorten(name)} does not exist; the platform's operator creates it"
        raise EnvironmentInvalid(name, "EnvironmentNotFound", message)

    def chosen_environment(self, claim: Manifest) -> EnvironmentConfig:
        """The environment a claim chooses; raises `EnvironmentInvalid`."""
        return self.environment(environment_name(claim))

    def environment_of(self, claim: Manifest) -> EnvironmentConfig:
        """The environment that holds for a claim; raises `EnvironmentInvalid` where nobody can say which.

        The one it chooses, or the last good one that it chose while that is absent or invalid.
        """
        try:
            return self.chosen_environment(claim)
        except EnvironmentInvalid:
            last = last_environment(claim)
            if not last:
                raise
            try:
                return self.environment(last)
            except EnvironmentInvalid:
                pass
            raise

    def lost_environment(self, claim: Manifest) -> EnvironmentInvalid | None:
        """What is wrong with the environment that a claim chooses; None: nothing is."""
        try:
            self.chosen_environment(claim)
        except EnvironmentInvalid as problem:
            return problem
        return None

    def labs_named(self, name: str) -> list[tuple[Manifest, str | None]]:
        """The claims of that name, each with the domain of its hosts, as far as that is known.

        That of the environment it has, be it as invalid as it may.
        """
        return [(claim, self._domain_of(_choice(claim))) for claim in self.claims_named(name)]

    def labs_below(self, domain: str) -> int:
        """How many labs have their hosts below a domain."""
        return sum(self._by_choice.count(choice) for choice in self._by_choice if self._domain_of(choice) == domain)

    def _domain_of(self, choice: Choice) -> str | None:
        known = self.domains()
        if choice.last_domain:
            try:
                self.environment(choice.environment)
            except EnvironmentInvalid:
                return known.get(choice.last, choice.last_domain)
        return known.get(choice.environment)

    def domains(self) -> dict[str, str]:
        """The domain of each environment by its name; also of one that cannot be used: its labs' hosts stay theirs.

        For the same reason one that was deleted is remembered while claims choose it, or are held by it.
        """
        chosen = {choice.environment for choice in self._by_choice}
        held = {choice.last: choice.last_domain for choice in self._by_choice if choice.last_domain}
        self._domains = (
            held
            | {name: domain for name, domain in self._domains.items() if name in chosen}
            | {
                manifest["metadata"]["name"]: domain
                for kind in (kinds.CROSSPLANE_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS)
                for manifest in self.informers.store(kind)
                if (domain := domain_of(manifest))
            }
        )
        return dict(self._domains)

    def openings(self) -> dict[str, list[OpenTo]]:
        """By domain of the labs, to whom its environments open names there; one that is invalid opens none."""
        found: dict[str, list[OpenTo]] = {domain: [] for domain in self.domains().values()}
        for kind in (kinds.CROSSPLANE_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS):
            for manifest in self.informers.store(kind):
                with contextlib.suppress(EnvironmentInvalid):
                    ingress = self._parsed(manifest).data.ingress
                    found.setdefault(ingress.domain, []).append(ingress.open_to)
        return found

    def platform_hosts(self) -> set[str]:
        """The hosts of all environments where people sign in, and those of the platform below the labs' domains."""
        return {
            host
            for kind in (kinds.CROSSPLANE_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS)
            for manifest in self.informers.store(kind)
            for host in hosts_of(manifest)
        }

    def _api_server(self) -> tuple[Manifest, ...]:
        """The endpoints of the API server, or those known last while it has none: it is restarting, not gone."""
        slices = tuple(piece for piece in self.informers.store(kinds.ENDPOINT_SLICES) if piece.get("endpoints"))
        self._last_api_server = slices or self._last_api_server
        return self._last_api_server

    def _parsed(self, manifest: Manifest) -> EnvironmentConfig:
        metadata = manifest["metadata"]
        key = (metadata["uid"], metadata["resourceVersion"])
        if key not in self._environments:
            try:
                parsed: EnvironmentConfig | EnvironmentInvalid = EnvironmentConfig.parse(manifest)
            except EnvironmentInvalid as error:
                parsed = error
            self._environments = {k: e for k, e in self._environments.items() if k[0] != key[0]} | {key: parsed}
        known = self._environments[key]
        if isinstance(known, EnvironmentInvalid):
            raise EnvironmentInvalid(known.name, known.reason, str(known))
        return known

    def owned(self, key: NamespacedName, uid: str) -> tuple[Manifest, ...]:
        """Everything the plan of a claim made, where a plan makes such things: labels can be put on by anybody."""
        places = ("", key.namespace, names.workshop_namespace(key.name))
        return tuple(
            obj
            for kind in OWNED_KINDS
            for obj in self.informers.store(kind).owned_by(uid)
            # Network policies alone stand in the namespaces of sessions too; session users cannot write these.
            if is_planned(obj) and (kind == kinds.NETWORK_POLICIES or obj["metadata"].get("namespace", "") in places)
        )

    def _left_behind(self, lab: Lab) -> tuple[Manifest, ...]:
        """What an earlier claim of this name and namespace left in the workshop namespace."""
        return tuple(
            obj
            for kind in (kinds.SECRETS, *INSIDE_KINDS)
            for obj in self.informers.store(kind).within(names.workshop_namespace(lab.name))
            if RETAINED in (obj["metadata"].get("labels") or {})
            and is_planned(obj)
            and claim_of(obj) == lab.key
            and obj["metadata"]["labels"].get(CLAIM_UID) != lab.uid
        )

    def volume_classes(self, claim: Manifest) -> VolumeClasses:
        """Storage classes of the volumes that a lab has, as far as their kinds are listed."""
        sessions, hosts = names_of(claim)[1:]
        name, inside = claim["metadata"]["name"], names.workshop_namespace(claim["metadata"]["name"])
        homes = servers = None
        if self.informers.synced(kinds.VOLUME_CLAIMS, OURS):
            volumes = {
                session: self.get("PersistentVolumeClaim", inside, names.volume(name, session)) for session in sessions
            }
            homes = {
                session: text(volume, "spec", "storageClassName") or None
                for session, volume in volumes.items()
                if volume
            }
        if self.informers.synced(kinds.POSTGRES_CLUSTERS, OURS):
            sizes = {host: server_sizes(self.get(POSTGRES, inside, host)) for host in hosts}
            servers = {
                host: (data.storage_class, backup.storage_class)
                for host, (data, backup) in sizes.items()
                if data is not None and backup is not None
            }
        return VolumeClasses(homes, servers)

    def follow(self, key: NamespacedName) -> None:
        """Watch what is watched by namespace for this claim: Secrets beside it and where its storage credentials are,
        and what its lab's own namespace holds. What no claim needs any more is forgotten."""
        claim = self.claim(key)
        wanted = frozenset(self._scopes(claim) if claim is not None else ())
        before = self._followed.pop(key, frozenset())
        if wanted:
            self._followed[key] = wanted
        if wanted != before:
            for resource, scope in wanted - before:
                self._followers.setdefault((resource, scope), set()).add(key)
                self.informers.watch(resource, scope)
            for resource, scope in before - wanted:
                self._followers[resource, scope].discard(key)
                if not self._followers[resource, scope]:
                    del self._followers[resource, scope]
                    self.informers.unwatch(resource, scope)

    async def listed(self, key: NamespacedName) -> None:
        """Wait a moment for what is being listed for a claim: a pass that comes back later costs more."""
        for resource, scope in self._followed.get(key, ()):
            if not self.informers.synced(resource, scope):
                await self.informers.listed(resource, scope, LIST_SECONDS)

    def _scopes(self, claim: Manifest) -> Iterator[tuple[Resource, Scope]]:
        yield kinds.SECRETS, Scope(namespace=claim["metadata"]["namespace"])
        with contextlib.suppress(EnvironmentInvalid):  # nothing is read for a claim without a usable environment
            yield kinds.SECRETS, Scope(namespace=storage_secret(claim, self.environment_of(claim)).namespace)
        yield from self._iam_scopes(claim).values()
        yield from self._inside_scopes(claim)

    def iam_secrets(self, claim: Manifest) -> list[NamespacedName]:
        """The Secrets that say how Keycloak is reached for a claim; none without an environment that can be used."""
        try:
            return identity.secrets(self.environment_of(claim).data.iam)
        except EnvironmentInvalid:
            return []

    def _iam_scopes(self, claim: Manifest) -> dict[NamespacedName, tuple[Resource, Scope]]:
        """One Secret each: what else is in their namespace is none of our business."""
        return {where: _alone(where) for where in self.iam_secrets(claim)}

    def iam_view(self, claim: Manifest) -> IamView:
        """Those Secrets as far as they are known."""
        secrets = self.informers.store(kinds.SECRETS)
        scopes = self._iam_scopes(claim)
        refusals = (self.informers.denied(*scope) for scope in scopes.values())
        return IamView(
            secrets={where: found for where in scopes if (found := secrets.get(*where)) is not None},
            read=all(self.informers.synced(*scope) for scope in scopes.values()),
            refused=next((rights.missing(claim, denied) for denied in refusals if denied is not None), ""),
        )

    def _inside_scopes(self, claim: Manifest) -> Iterator[tuple[Resource, Scope]]:
        """What is watched in a lab's own namespace; nothing in one that is not the lab's.

        Nor before the environment runs, when the rights to read there are being made, or once the namespace is going,
        when they may be gone.
        """
        name = claim["metadata"]["name"]
        environment = self.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", name)
        namespace = self.informers.store(kinds.NAMESPACES).get("", names.workshop_namespace(name))
        if environment is None or namespace is None:
            return
        if text(environment, "status", "educates", "phase") != Phase.RUNNING or namespace["metadata"].get(
            "deletionTimestamp"
        ):
            return
        owners = objects(namespace, "metadata", "ownerReferences")
        if all(owner.get("uid") != environment["metadata"]["uid"] for owner in owners):
            return
        inside = names.workshop_namespace(name)
        yield kinds.SECRETS, Scope(inside, field_selector=OPAQUE)
        spec = claim.get("spec") or {}
        if spec.get("cacheStores") or spec.get("vectorStores"):
            yield kinds.STATEFUL_SETS, Scope(inside)

    def require_synced(self, claim: Manifest, *namespaces: str) -> None:
        """Raise `NotYet` while Secrets of these namespaces, or what is watched in the lab's, have not been listed.

        Raises `Denied` where they may not be, even if they were before: what is known of them grows old.
        """
        scopes = [(kinds.SECRETS, Scope(namespace)) for namespace in namespaces]
        for resource, scope in (*scopes, *self._inside_scopes(claim)):
            if (denied := self.informers.denied(resource, scope)) is not None:
                raise denied
            if not self.informers.synced(resource, scope):
                raise NotYet(f"the {resource.kind}s of namespace {scope.namespace} are being read", READ_SECONDS)

    def require_readable(self, lab: Lab) -> None:
        """Raise `Unreadable` while a kind that this lab needs cannot be read, though others may: each knows its own."""
        for kind in (*RUNTIME_KINDS, *_needed(lab)):
            if (error := self.informers.unreadable(kind)) is not None:
                raise Unreadable(str(kind), error)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object of the kinds that a lab is seen by."""
        return self.informers.store(VIEWED[kind]).get(namespace, name)

    def within(self, kind: str, namespace: str) -> list[Manifest]:
        """All objects of such a kind in a namespace."""
        return self.informers.store(VIEWED[kind]).within(namespace)

    def made_for(self, kind: str, uid: str) -> list[Manifest]:
        """All objects of such a kind that carry the uid of this claim."""
        return self.informers.store(VIEWED[kind]).owned_by(uid)

    def view(self, lab: Lab) -> View:
        """The live objects that concern a lab; raises as `require_synced` does."""
        self.require_readable(lab)
        claim = self.claim(lab.key)
        if claim is not None:
            self.require_synced(claim, lab.namespace, lab.storage_secret.namespace)
        return replace(
            view(lab, self, datetime.datetime.now(datetime.UTC)),
            endpoint_slices=self._api_server(),
            iam=self.iam_view(claim) if claim is not None else IamView(),
            owned=self.owned(lab.key, lab.uid) + self._left_behind(lab),
            served=frozenset(kind.kind for kind in OPTIONAL_KINDS if self.informers.synced(kind, OURS)),
            runtime_served=all(self.informers.synced(kind, EVERYWHERE) for kind in RUNTIME_KINDS),
            account=self.account,
            hosts_taken=self.routes.taken(lab.name, lab.sessions, lab.environment.data.ingress.domain),
        )


def _needed(lab: Lab) -> Iterator[Resource]:
    """Kinds that a cluster may lack, and this lab cannot do without."""
    if lab.databases:
        yield kinds.POSTGRES_CLUSTERS
        if lab.environment.data.database.gateway.is_complete:
            yield kinds.TLS_ROUTES
    if lab.document_stores:
        yield kinds.DOCUMENT_STORES
    if lab.cache_stores:
        yield kinds.CACHE_STORES
    if lab.vector_stores:
        yield kinds.VECTOR_STORES
    if lab.environment.data.ingress.protection.type is ProtectionType.APISIX:
        yield kinds.APISIX_PLUGIN_CONFIGS
