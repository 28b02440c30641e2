"""The edit that adds members, stores and buckets, and decides on requests, all at once or not at all. Pure.

Single edits stand with what they are about: `members`, `buckets`, `grants`, `stores`, `sessions`.
"""

import datetime

from datalabd.api.meta import Manifest
from datalabd.api.workspace_bodies import WorkspaceEdit
from workspaces import buckets, grants, members, stores
from workspaces.patches import Draft
from workspaces.problems import datalab_not_installed, not_found
from workspaces.sharing import Sharing
from workspaces.stores import Offer


def apply(
    edit: WorkspaceEdit,
    storage: Manifest,
    datalab: Manifest | None,
    sharing: Sharing,
    offer: Offer,
    now: datetime.datetime,
) -> Draft:
    """Both objects as the edit wants them; Problem if any part of it cannot be."""
    draft = Draft(storage, datalab)
    if edit.add_memberships or edit.add_stores:
        if not offer.datalab:
            raise datalab_not_installed()
        if datalab is None:
            raise not_found()
        members.add(draft, edit.add_memberships, now)
        stores.add(draft, edit.add_stores, offer.types)
    buckets.add(draft, edit.add_buckets, sharing)
    grants.apply(draft, edit.patch_bucket_access_requests, sharing, now)
    return draft
