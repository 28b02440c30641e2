"""What is followed for a claim whose environment names a Keycloak, and what is known of that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.identity import IamView
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.store import Scope
from tests.factories import IAM, claim, secret
from tests.kube.scripted import Reply, Routed, listing, serve, status
from tests.kube.test_informers import pauses, until

__all__ = ["pauses"]

ADMIN, CA = Scope("iam", field_selector="metadata.name=admin"), Scope("pki", field_selector="metadata.name=ca")
KEY = NamespacedName("team", "lab")
DENIED = (
    'secrets is forbidden: User "system:serviceaccount:datalabd:datalabd" cannot list resource "secrets" in API group '
    '"" in the namespace "iam"'
)


@asynccontextmanager
async def cache(tmp_path: Path, iam: Manifest, *secrets: Reply) -> AsyncIterator[Cache]:
    """A cache that knows one claim and its environment; lists of Secrets are answered as told, in any order."""
    async with serve(Routed(secrets=secrets), tmp_path) as client:
        made = Cache(Informers(client))
        lab = claim()
        lab["metadata"] |= {"resourceVersion": "1", "annotations": {"datalabs.pkg.internal/environment": "courses"}}
        metadata = {"name": "courses", "uid": "uid", "resourceVersion": "1"}
        environment = {"metadata": metadata, "data": {"ingress": {"domain": "lab.example.org"}, "iam": iam}}
        made.informers.store(kinds.DATALABS).replace(EVERYWHERE, [lab])
        made.informers.store(kinds.ENVIRONMENT_CONFIGS).replace(EVERYWHERE, [environment])
        try:
            yield made
        finally:
            await made.informers.stop()


def live(cache: Cache) -> Manifest:
    """The claim."""
    found = cache.claim(KEY)
    assert found is not None
    return found


async def test_of_the_secrets_of_keycloak_each_is_followed_alone(tmp_path: Path) -> None:
    async with cache(tmp_path, IAM | {"caSecret": {"namespace": "pki", "name": "ca"}}) as made:
        made.follow(KEY)
        assert set(made.informers.scopes(kinds.SECRETS)) == {Scope("team"), ADMIN, CA}
        assert made.iam_secrets(live(made)) == [NamespacedName("iam", "admin"), NamespacedName("pki", "ca")]


async def test_without_keycloak_none_is_followed(tmp_path: Path) -> None:
    async with cache(tmp_path, {"realm": "labs", "adminSecret": {"namespace": "iam", "name": "admin"}}) as made:
        made.follow(KEY)
        assert made.informers.scopes(kinds.SECRETS) == [Scope("team")]
        assert made.iam_view(live(made)) == IamView()


async def test_a_secret_is_not_missed_before_it_was_looked_for(tmp_path: Path) -> None:
    async with cache(tmp_path, IAM, listing("1"), listing("1")) as made:
        made.follow(KEY)
        assert made.iam_view(live(made)) == IamView(read=False)
        await until(lambda: made.iam_view(live(made)) == IamView())
        store = made.informers.store(kinds.SECRETS)
        admin = secret("admin", "iam", client_id="manager")
        store.update(ADMIN, "ADDED", admin | {"metadata": admin["metadata"] | {"resourceVersion": "2"}})
        assert list(made.iam_view(live(made)).secrets) == [NamespacedName("iam", "admin")]


@pytest.mark.usefixtures("pauses")
async def test_who_may_not_read_a_secret_is_told(tmp_path: Path) -> None:
    refusal = status(403, "Forbidden", DENIED)
    async with cache(tmp_path, IAM, *[refusal] * 1000) as made:
        made.follow(KEY)
        await until(lambda: made.iam_view(live(made)).refused != "")
        view = made.iam_view(live(made))
        assert view.refused.startswith("datalabd may not list secrets in namespace iam; where it should, say: kubectl")
        assert not view.read


async def test_an_environment_that_is_gone_names_no_secrets(tmp_path: Path) -> None:
    async with cache(tmp_path, IAM) as made:
        made.informers.store(kinds.ENVIRONMENT_CONFIGS).replace(EVERYWHERE, [])
        assert made.iam_secrets(live(made)) == []
