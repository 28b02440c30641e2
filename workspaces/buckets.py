"""Buckets of a workspace: what is told of them, and how they come, change and go. Pure."""

import datetime
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import orjson

from datalabd.api.meta import Manifest
from datalabd.api.storage import BUCKET_CLAIM, GRANT_EXPIRY, GRANT_REASONS, Bucket, entries, is_rule, key, read
from datalabd.api.workspace import stamp
from datalabd.api.workspace_bodies import BucketPatch, NewBucket, NewLifecycleRule
from datalabd.live import objects, text
from datalabd.text import moment, timestamp
from workspaces.patches import Draft, annotate, listed, require_room, set_entry
from workspaces.problems import problem, wrong
from workspaces.sharing import Sharing


def row(bucket: Bucket) -> dict[str, Any]:
    """A bucket as `Bucket` of the answer."""
    rules = []
    for rule in bucket.rules:
        told: dict[str, Any] = {"target": rule.target, "mode": str(rule.mode)}
        rules.append(told | ({"min_age": rule.min_age} if rule.at is None else {"at": stamp(rule.at)}))
    return {"name": bucket.name, "discoverable": bucket.discoverable, "lifecycle_rules": rules}


def is_named_after(bucket: str, workspace: str) -> bool:
    """Whether a bucket is called what a workspace's own are."""
    return bucket == workspace or bucket.startswith(f"{workspace}-")


def taken_by_another(bucket: str, workspace: str, sharing: Sharing) -> bool:
    """Whether another workspace has a bucket of this name, or would have one."""
    return bool(set(sharing.owners(bucket)) - {workspace}) or (bucket != workspace and sharing.get(bucket) is not None)


def add(draft: Draft, buckets: Sequence[NewBucket], sharing: Sharing) -> None:
    """Add buckets, and give those that are there the rules that are said of them."""
    items = listed(draft.storage, "buckets")
    places = {name: at for at in reversed(range(len(items))) if (name := _name(items[at]))}
    for index, new in enumerate(buckets):
        at = places.get(new.name, len(items))
        draft.words[("spec", "buckets", at)] = ("add_buckets", index)
        draft.words[("spec", "buckets", at, "bucketName")] = ("add_buckets", index, "name")
        draft.words[("spec", "buckets", at, "lifecycleRules")] = ("add_buckets", index, "lifecycle_rules")
        if at == len(items):
            _check(index, new.name, draft.name, sharing)
            require_room(items, "buckets")
            items.append({"bucketName": new.name})
            places[new.name] = at
            annotate(draft.storage, BUCKET_CLAIM, "")
        known = items[at]
        known.setdefault("discoverable", new.discoverable)
        _set_rules(known, new.lifecycle_rules)


def added(draft: Draft) -> frozenset[str]:
    """Names of buckets that the workspace gets."""
    return _names(draft.storage) - _names(draft.read_storage)


def _names(storage: Manifest) -> frozenset[str]:
    return frozenset(filter(None, map(_name, objects(storage, "spec", "buckets"))))


# ---- Names that are about to be taken

CLAIM_HOLDS = datetime.timedelta(minutes=1)
"""After that, whoever claimed a name is taken to have died before he made the bucket."""


@dataclass(frozen=True)
class Standing:
    """How another Storage stands to names that somebody wants."""

    has: frozenset[str]
    """Those of its buckets."""
    is_about_to: bool
    """Whether it is about to have one."""
    was_about_to: bool
    """Whether it was, so long ago that it will not any more once that is written down."""


def standing(storage: Manifest, names: Set[str], now: datetime.datetime) -> Standing:
    """How a Storage stands to these names."""
    since = [moment(said) for name, said in entries(storage, BUCKET_CLAIM).items() if name in names]
    holds = any(at is not None and now - at <= CLAIM_HOLDS for at in since)
    return Standing(_names(storage) & names, holds, bool(since) and not holds)


def claim(names: Set[str], now: datetime.datetime) -> str:
    """The annotation of whoever is about to have buckets of these names."""
    return orjson.dumps(dict.fromkeys(sorted(names), timestamp(now))).decode()


def _check(index: int, name: str, workspace: str, sharing: Sharing) -> None:
    if not is_named_after(name, workspace):
        place = ("body", "add_buckets", index, "name")
        raise wrong(place, f"must be {workspace} or begin with {workspace}-", name)
    if taken_by_another(name, workspace, sharing):
        raise problem(409, "bucket_exists", bucket=name)


def change(draft: Draft, name: str, edit: BucketPatch) -> None:
    """Change what is said of a bucket."""
    items = listed(draft.storage, "buckets")
    known = _known(items, name)
    at = items.index(known)
    draft.words[("spec", "buckets", at, "lifecycleRules")] = ("lifecycle_rules",)
    draft.words[("spec", "buckets", at, "discoverable")] = ("discoverable",)
    if edit.discoverable is not None:
        known["discoverable"] = edit.discoverable
    _set_rules(known, edit.lifecycle_rules)


def remove(draft: Draft, name: str, *, revoke: bool) -> None:
    """Take a bucket out, with what was decided on it; grants in force have to be revoked with it.

    The one that is called as the workspace stays: credentials are of it.
    """
    items = listed(draft.storage, "buckets")
    known = _known(items, name)
    if name == draft.name:
        raise problem(409, "own_bucket_cannot_be_removed", bucket=name)
    grants = [grant for grant in read(draft.storage).grants if grant.bucket == name]
    held = sorted(grant.grantee for grant in grants if grant.in_force)
    if held and not revoke:
        raise problem(409, "bucket_in_use", bucket=name, grantees=held)
    items.remove(known)
    if grants:
        kept = [grant for grant in listed(draft.storage, "bucketAccessGrants") if text(grant, "bucketName") != name]
        draft.storage["spec"]["bucketAccessGrants"] = kept
        for grant in grants:
            set_entry(draft.storage, GRANT_EXPIRY, key(name, grant.grantee), "")
            set_entry(draft.storage, GRANT_REASONS, key(name, grant.grantee), "")


def _find(items: list[Any], name: str) -> Manifest | None:
    """The entry of a bucket."""
    return next((item for item in items if _name(item) == name), None)


def _name(item: Any) -> str:
    """Name of the bucket that an entry is of; empty where it is of none."""
    return text(item, "bucketName") or text(item, "bucket") if isinstance(item, dict) else ""


def _known(items: list[Any], name: str) -> Manifest:
    if (found := _find(items, name)) is None:
        raise problem(404, "bucket_not_found", bucket=name)
    return found


def _set_rules(entry: Manifest, rules: list[NewLifecycleRule] | None) -> None:
    """Set all rules that answers tell of; None leaves those that there are. What nobody could read here stays."""
    if rules is None:
        return
    live = entry.get("lifecycleRules")
    targets = {rule.target for rule in rules}
    items = live if isinstance(live, list) else []
    odd = [item for item in items if not is_rule(item) and text(item, "target") not in targets]
    if found := [*map(_rule, rules), *odd]:
        entry["lifecycleRules"] = found
    elif live:
        entry["lifecycleRules"] = []


def _rule(rule: NewLifecycleRule) -> Manifest:
    when = {"minAge": rule.min_age} if rule.at is None else {"at": rule.at.isoformat()}
    return {"target": rule.target, "mode": str(rule.mode)} | when
