"""The API server of a local cluster, over connections that stay open: kinds by the names that kubectl knows them by.

To start kubectl takes a tenth of a second of a core; to look once more over an open connection takes a hundredth of
that. So whatever looks again and again looks through this, and kubectl is for what people are shown of it.
"""

import json
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from datalabd.api.meta import Manifest
from datalabd.kube.client import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, path
from datalabd.kube.resources import Resource

FIELD_MANAGER = "kubectl"  # edits made here stand for people's
TIMEOUT_SECONDS = 60.0  # the API server itself ends a request then
BUSY_SECONDS = (0.2, 0.5, 1.0, 1.0)  # pauses of a request that the API server is too busy for
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Api:
    """Requests as one user. What the API server refuses raises `httpx.HTTPStatusError`, with what it said as a note."""

    def __init__(self, url: str, certificate: Path, token: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=certificate),
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )
        self._resources: dict[str, Resource] = {}

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> Manifest:
        """The decoded answer to one request; `path` begins with `/api` or `/apis`."""
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        for pause in (*BUSY_SECONDS, None):
            answer = self._http.request(method, path, content=content, headers=headers, params=params)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or pause is None:
                break
            time.sleep(pause)  # as kubectl does: a CRD that has just changed is not served for a moment
        try:
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            error.add_note(answer.text)
            raise
        decoded: Manifest = answer.json()
        return decoded

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest | None:
        """A live object, None if there is none."""
        try:
            return self.request("GET", self._path(kind, name, namespace))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return None

    def list(self, kinds: str, namespace: str = "", selector: str = "") -> list[Manifest]:
        """Live objects of these kinds, separated by commas; of all namespaces if none is given."""
        params = {"labelSelector": selector} if selector else {}
        found: list[Manifest] = []
        for resource in map(self.resource, kinds.split(",")):
            answer = self.request("GET", path(resource, namespace), **params)
            found += ({"apiVersion": resource.api_version, "kind": resource.kind} | item for item in answer["items"])
        return found

    def create(self, manifest: Manifest) -> Manifest:
        """The created object."""
        where = path(self._resource_of(manifest), _namespace(manifest))
        return self.request("POST", where, manifest, fieldManager=FIELD_MANAGER)

    def apply(self, manifest: Manifest) -> Manifest:
        """The object after a server-side apply, taking over fields that others had set."""
        where = path(self._resource_of(manifest), _namespace(manifest), manifest["metadata"]["name"])
        return self.request("PATCH", where, manifest, APPLY_PATCH, fieldManager=FIELD_MANAGER, force="true")

    def patch(self, kind: str, name: str, body: Any, namespace: str = "", subresource: str = "") -> Manifest:
        """The object after a JSON patch if the body is a list, else after a merge patch."""
        where = "/".join(filter(None, [self._path(kind, name, namespace), subresource]))
        content_type = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        return self.request("PATCH", where, body, content_type, fieldManager=FIELD_MANAGER)

    def annotate(self, kind: str, name: str, annotations: dict[str, str | None], namespace: str = "") -> Manifest:
        """The object with other annotations; those of value None are taken away."""
        return self.patch(kind, name, {"metadata": {"annotations": annotations}}, namespace)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Ask for an object's deletion, without waiting for its end."""
        self.request("DELETE", self._path(kind, name, namespace), propagationPolicy="Background")

    def create_namespace(self, name: str) -> None:
        """A new namespace."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def resource(self, kind: str) -> Resource:
        """The resource of that plural, singular or short name, which may be followed by `.group` or `.version.group`.

        Capitals do not matter. Raises KeyError if none is served under it.
        """
        kind = kind.lower()
        if kind not in self._resources:
            self._resources = self._discover()
        return self._resources[kind]

    def _discover(self) -> dict[str, Resource]:
        """Every name of every resource; where two share a name the API server's order decides, as with kubectl."""
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            answer = self._http.get(root, headers={"Accept": DISCOVERY}).raise_for_status().json()
            for group in answer["items"]:
                group_name = group["metadata"].get("name", "")
                for version in group["versions"]:
                    api_version = "/".join(filter(None, [group_name, version["version"]]))
                    for served in version.get("resources", ()):
                        kind = served["responseKind"]["kind"]
                        namespaced = served["scope"] == "Namespaced"
                        resource = Resource(api_version, served["resource"], kind, namespaced=namespaced)
                        for name in {served["resource"], served["singularResource"], *served.get("shortNames", ())}:
                            found.setdefault(name, resource)
                            found.setdefault(f"{name}.{group_name}", resource)
                            found.setdefault(f"{name}.{version['version']}.{group_name}", resource)
                        found.setdefault(_key(api_version, kind), resource)
        return found

    def _resource_of(self, manifest: Manifest) -> Resource:
        return self.resource(_key(manifest["apiVersion"], manifest["kind"]))

    def _path(self, kind: str, name: str, namespace: str) -> str:
        return path(self.resource(kind), namespace or "default", name)


def _key(api_version: str, kind: str) -> str:
    """What no name of a resource looks like."""
    return f"{api_version} {kind}".lower()


def _namespace(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace") or "default")
