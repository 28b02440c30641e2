"""The csi-rclone driver: volumes that are somebody's object storage, configured by a Secret of their claim's name."""

from datalabd.api.meta import Manifest

STORAGE_CLASS = "csi-rclone"
KEYS = ("remote", "remotePath", "configData")


def provisions(claim: Manifest, secret: Manifest | None) -> bool:
    """Whether a claim gets a volume: any of another class does, one of ours if the Secret of its name is complete."""
    if claim["spec"].get("storageClassName") != STORAGE_CLASS:
        return True
    return secret is not None and all((secret.get("data") or {}).get(key) for key in KEYS)
