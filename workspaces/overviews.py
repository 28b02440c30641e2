"""What lists tell of each workspace, kept until something changes that it is made of. Pure."""

from collections.abc import Iterable, Sequence

from datalabd.api.meta import Manifest
from datalabd.api.storage import Storage
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from workspaces import credentials, reads
from workspaces.reads import Overview, Pieces
from workspaces.settings import Settings
from workspaces.sharing import Sharing


class Overviews:
    """Overviews of all workspaces that somebody listed."""

    def __init__(self, sharing: Sharing, settings: Settings) -> None:
        self._sharing = sharing
        self._settings = settings
        self._kept: dict[str, Overview] = {}

    def of(self, pieces: Pieces) -> Overview:
        """That of the workspace which is made of these."""
        name = pieces.storage["metadata"]["name"]
        if (found := self._kept.get(name)) is None:
            found = self._kept[name] = reads.overview(pieces, self._sharing, self._settings)
        return found

    def changed(
        self, kind: Resource, before: Manifest | None, after: Manifest | None, storages: Sequence[Storage]
    ) -> None:
        """Forget what an object was part of that changes, comes or goes; a Storage has been taken up already."""
        name = (after or before or {})["metadata"]["name"]
        concerned: Iterable[str] = ()
        if kind == kinds.DATALABS:
            concerned = (name,)
        elif kind == kinds.STORAGES:
            concerned = self._sharing.partners(storages)
        elif kind == kinds.SECRETS:
            concerned = credentials.holders(name, self._sharing, self._settings)
        for workspace in concerned:
            self._kept.pop(workspace, None)
