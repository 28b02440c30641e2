"""Which claims make a name that is unique in the cluster: kept as claims and runtimes change, never computed anew."""

from collections.abc import Iterable

from datalabd.api.meta import Manifest, NamespacedName, claim_of
from datalabd.kube.store import Store, key_of
from datalabd.submission import Names
from datalabd.validation import CLUSTER_NAME, names_of, unique_names


class NameIndex:
    """Names of all claims, and of the labs whose runtime was kept although their claim is gone."""

    def __init__(self, claims: Store, environments: Store) -> None:
        self._claims, self._environments = claims, environments
        self._names: dict[NamespacedName, Names] = {}
        self._makers: dict[CLUSTER_NAME, set[NamespacedName]] = {}
        self._runtimes: dict[str, NamespacedName] = {}
        """The claim that each runtime was made for, by the runtime's name, which is that of its lab."""
        claims.subscribe(self._claim_changed)
        environments.subscribe(self._runtime_changed)

    def makers(self, name: CLUSTER_NAME) -> set[NamespacedName]:
        """Everybody who makes a name."""
        return set(self._makers.get(name, ()))

    def holders(self, wanted: Iterable[CLUSTER_NAME], but: NamespacedName) -> dict[CLUSTER_NAME, NamespacedName]:
        """Who makes these names, other than one claim; the first of several."""
        return {name: min(others) for name in wanted if (others := self.makers(name) - {but})}

    def is_kept(self, key: NamespacedName) -> bool:
        """Whether a lab's runtime was kept although its claim is gone: its names are not free."""
        return self._runtimes.get(key.name) == key and self._claims.get(*key) is None

    def _claim_changed(self, claim: Manifest) -> None:
        self._follow(key_of(claim))

    def _runtime_changed(self, runtime: Manifest) -> None:
        name = runtime["metadata"]["name"]
        live = self._environments.get("", name)
        before, now = self._runtimes.pop(name, None), claim_of(live) if live is not None else None
        if now is not None:
            self._runtimes[name] = now
        for key in (before, now):
            if key is not None:
                self._follow(key)

    def _follow(self, key: NamespacedName) -> None:
        claim = self._claims.get(*key)
        names = names_of(claim) if claim is not None else Names(key.name) if self.is_kept(key) else None
        before = self._names.pop(key, None)
        if names is not None:
            self._names[key] = names
        if names == before:
            return
        for name in unique_names(before) if before is not None else ():
            self._makers[name].discard(key)
            if not self._makers[name]:
                del self._makers[name]
        for name in unique_names(names) if names is not None else ():
            self._makers.setdefault(name, set()).add(key)
