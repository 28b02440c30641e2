"""What the local control plane lacks, played against its real API server: Educates, a kubelet, operators of stores.

    async with (
        secrets_manager(client, kubeconfig) as copying,
        Educates(client, copying, domain="lab.example.org"),
        Kubelet(client),
        RedisOperator(client),
    ):
        ...

`python -m hack.standins` runs all for a person. They act on real objects and keep nothing in memory that a restart
would lose. Where the real thing is unkind (acts once, fails for good, gets stuck), so are they.
"""

from hack.standins.crds import (
    crds,
    install,
    install_crds,
    install_storage_crd,
    install_store_crds,
    storage_crd,
    store_crds,
)
from hack.standins.educates import Educates, Timing
from hack.standins.gateway import GatewayController
from hack.standins.kubelet import TROUBLE, Kubelet
from hack.standins.mongodb import MongoDBOperator
from hack.standins.postgres import PostgresOperator
from hack.standins.qdrant import QdrantOperator
from hack.standins.redis import RedisOperator
from hack.standins.secret_copier import secrets_manager
from hack.standins.storage import StorageProvider

STORES = (
    GatewayController,
    MongoDBOperator,
    PostgresOperator,
    QdrantOperator,
    RedisOperator,
)
"""Whatever plays databases, stores and the way to them; each is made from a client."""

__all__ = [
    "STORES",
    "TROUBLE",
    "Educates",
    "GatewayController",
    "Kubelet",
    "MongoDBOperator",
    "PostgresOperator",
    "QdrantOperator",
    "RedisOperator",
    "StorageProvider",
    "Timing",
    "crds",
    "install",
    "install_crds",
    "install_storage_crd",
    "install_store_crds",
    "secrets_manager",
    "storage_crd",
    "store_crds",
]
