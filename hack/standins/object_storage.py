"""Buckets, users and rights at a real MinIO, as the provider of Storages makes them there.

It is as unkind as that: whoever lists a bucket gets all rights on it, whoever made it; of a removed bucket the objects
stay, and the bucket with them; what a grant does not say is refused as an empty policy and the former one stays.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from hack.minio import Account, MinIOError

ADMIN = "/minio/admin/v3/"
ROUNDS = 8192
_READ = ["s3:GetBucketLocation", "s3:ListBucket"]


def owner(bucket: str) -> list[dict[str, Any]]:
    """Statements of whoever lists a bucket as his own."""
    return [_allow(["s3:*"], bucket, objects=True, itself=True)]


def granted(bucket: str, permission: str) -> list[dict[str, Any]]:
    """Statements of a grant; none for a level that gives nothing."""
    match permission:
        case "ReadWrite":
            return [_allow([*_READ, "s3:GetObject", "s3:PutObject", "s3:DeleteObject"], bucket, True, True)]
        case "ReadOnly":
            return [_allow(_READ, bucket, False, True), _allow(["s3:GetObject"], bucket, True, False)]
        case "WriteOnly":
            writes = ["s3:PutObject", "s3:DeleteObject"]
            return [_allow(_READ, bucket, False, True), _allow(writes, bucket, True, False)]
    return []


def _allow(actions: list[str], bucket: str, objects: bool, itself: bool) -> dict[str, Any]:
    resources = [f"arn:aws:s3:::{bucket}"] * itself + [f"arn:aws:s3:::{bucket}/*"] * objects
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


class Backend:
    """What is asked of one server; every call is as often repeatable as one likes."""

    def __init__(self, minio: Account) -> None:
        self._minio = minio

    def make_bucket(self, name: str) -> None:
        """Have a bucket; one that is there is taken as it is."""
        self._ask("PUT", f"/{name}", allowed=(409,))

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket, if it is empty."""
        self._ask("DELETE", f"/{name}", allowed=(404, 409))

    def put_policy(self, name: str, statements: list[dict[str, Any]]) -> None:
        """Write a policy; one without statements is refused, and the former stays."""
        document = {"Version": "2012-10-17", "Statement": statements}
        self._admin("PUT", "add-canned-policy", json.dumps(document).encode(), (400,), name=name)

    def remove_policy(self, name: str) -> None:
        """Remove a policy; one in use stays."""
        self._admin("DELETE", "remove-canned-policy", allowed=(400, 404), name=name)

    def policies(self, user: str) -> list[str] | None:
        """Names of a user's policies; None where there is no such user."""
        answer = self._admin("GET", "user-info", allowed=(404,), accessKey=user)
        return None if answer.status_code == 404 else list(filter(None, answer.json().get("policyName", "").split(",")))

    def put_user(self, name: str, secret: str) -> None:
        """Have a user of this secret."""
        content = _sealed(json.dumps({"secretKey": secret, "status": "enabled"}).encode(), self._minio.root.secret)
        self._admin("PUT", "add-user", content, accessKey=name)

    def set_policies(self, user: str, names: Iterable[str]) -> None:
        """Give a user these policies and no others; those that are missing give nothing."""
        self._admin(
            "PUT",
            "set-user-or-group-policy",
            allowed=(404,),
            policyName=",".join(names),
            userOrGroup=user,
            isGroup="false",
        )

    def remove_user(self, name: str) -> None:
        """Remove a user, if there is one."""
        self._admin("DELETE", "remove-user", allowed=(404,), accessKey=name)

    def _admin(
        self, method: str, call: str, content: bytes = b"", allowed: tuple[int, ...] = (), **query: str
    ) -> httpx.Response:
        return self._ask(method, ADMIN + call, query, content, allowed)

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        content: bytes = b"",
        allowed: tuple[int, ...] = (),
    ) -> httpx.Response:
        answer = self._minio.ask(method, path, query or {}, content)
        if answer.is_success or answer.status_code in allowed:
            return answer
        raise MinIOError(f"{method} {path}: {answer.status_code}: {answer.text[:500]}")


def _sealed(content: bytes, password: str) -> bytes:
    """Content as MinIO takes secrets: by AES-256-GCM, of a key that the administrator's secret makes; one chunk."""
    salt, nonce = os.urandom(32), os.urandom(8)
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, ROUNDS).derive(password.encode())
    cipher = AESGCM(key)
    bound = cipher.encrypt(nonce + (0).to_bytes(4, "little"), b"", b"")
    last = b"\x80" + bound
    return salt + b"\x02" + nonce + cipher.encrypt(nonce + (1).to_bytes(4, "little"), content, last)
