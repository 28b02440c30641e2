"""One authenticated, measured, error-mapped way to the API server; the only importer of kr8s.

kr8s reads kubeconfigs and service accounts, and renews what expires. The calls are aiohttp's: kr8s' own run on httpx,
which takes five times the CPU, authenticate again on every 403, and close the session under all watches. Statuses are
mapped here and nowhere else.
"""

import asyncio
import contextlib
import copy
import re
import socket
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import orjson
from kr8s._api import Api

from datalabd import metrics
from datalabd.api.meta import FIELD_MANAGER, Manifest, NamespacedName
from datalabd.errors import (
    Conflict,
    Denied,
    Expired,
    Forbidden,
    Invalid,
    KubeError,
    NamespaceTerminating,
    NotFound,
    NotLeading,
    StartupError,
    Throttled,
    Unavailable,
)
from datalabd.kube.resources import Resource
from datalabd.kube.writes import Writes
from datalabd.text import ENTRY_MAX, LINE_MAX, bounded

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30, sock_connect=10, sock_read=30)
"""Seconds: the API server itself ends a request after 60, webhooks in its path after 10 to 30."""
WATCH_SECONDS = 300
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10, sock_read=90)
"""Bookmarks come about every minute: 90 silent seconds mean a dead connection."""
CAUSES_MAX = 100
"""Wrong fields of which a refusal is remembered."""
LIST_PAGE = 100
"""Objects of a page."""
LARGE_PAGE = 10
"""The same of a kind whose objects may be large: a page of them is text of 14 MB at the most, and as much decoded."""
LARGE_PAGES = 2
"""How many such pages are in memory at once, whatever the number of namespaces that are listed."""
TLS_BUFFER = 16 * 1024 + 512
"""Bytes kept for each TLS connection, of which every watch has one: a whole record of TLS. asyncio's 256 KiB were a
sixth of all memory."""
MAX_CONNECTIONS = 1024
"""A watch holds its connection; the default of 100 would make the hundred-first wait for ever."""
GOODBYE_SECONDS = 5
"""How long the API server may take to agree that a connection ends."""
MAX_WRITES = 16
"""More writes in flight only add latency: the API server is the limit."""

JSON_PATCH = "application/json-patch+json"
_ESCAPED = {sign.encode(): f"\\u{ord(sign):04x}".encode() for sign in "<>&\u2028\u2029"}
"""What Go writes of signs that JSON has as they are."""
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_DENIED = re.compile(
    r'User "([^"]+)" cannot (\w+) resource "([^"]+)" in API group "[^"]*" (?:in the namespace "([^"]+)"|at the cluster)'
)
"""How RBAC's refusal is worded (`forbiddenMessage` of k8s.io/apiserver). Quotas and webhooks say otherwise."""
METADATA_ONLY = {
    True: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "list": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
}


_FIELD_SET = b'"fieldsV1":'
_BRACES = re.compile(rb'[{}]|"(?:[^"\\]|\\.)*"', re.DOTALL)
"""Braces, and texts, which may hold braces."""


_WARNINGS: ContextVar[list[str] | None] = ContextVar("warnings", default=None)
"""Takes what the API server warns of; None where nobody reads it."""
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
"""As the API server words the header `Warning`."""


def _as_compared(patch: bytes) -> bytes:
    """A JSON Patch whose texts are spelled as the API server does: its tests compare bytes (evanphx/json-patch)."""
    for sign, escaped in _ESCAPED.items():
        patch = patch.replace(sign, escaped)
    return patch


def keep_tls_buffers_small() -> None:
    """Have all TLS connections of this process buffer little."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER


@contextlib.contextmanager
def warnings_told() -> Iterator[list[str]]:
    """What the API server warns of in answers to requests that are made within, each once."""
    found: list[str] = []
    token = _WARNINGS.set(found)
    try:
        yield found
    finally:
        _WARNINGS.reset(token)


class _Fence:
    """Of one write: whether its bytes may leave, and whether some were kept from leaving."""

    def __init__(self, may_write: Callable[[], bool]) -> None:
        self._may_write = may_write
        self.was_closed = False

    def check(self) -> None:
        """Raise an `OSError` unless bytes may leave now."""
        if not self._may_write():
            self.was_closed = True
            raise ConnectionAbortedError("the lease is not held")


_FENCE: ContextVar[_Fence | None] = ContextVar("fence", default=None)
"""Of the request being made; None where it may always leave."""


class _Socket(socket.socket):
    """Checks the fence of a request whenever bytes of it are handed to the kernel.

    What takes time comes before that, and not between: a free connection, a new one with its handshake, other tasks,
    encryption, a peer that reads slowly. asyncio hands bytes over in the context of the request, the rest of a large
    one included.
    """

    def send(self, *args: Any) -> int:
        """As `socket.send`."""
        if (fence := _FENCE.get()) is not None:
            fence.check()
        return super().send(*args)

    def sendmsg(self, *args: Any) -> int:
        """As `socket.sendmsg`, which asyncio uses since Python 3.12 for the rest of a large request."""
        if (fence := _FENCE.get()) is not None:
            fence.check()
        return super().sendmsg(*args)


class Connector(aiohttp.TCPConnector):
    """A pool of connections that is closed when the last of them is.

    aiohttp forgets a connection whose answer was not read to its end, such as a watch, while TLS ends it in turns.
    """

    def __init__(self, made: type[socket.socket] = socket.socket, **options: Any) -> None:
        self._made = made
        self._sockets: WeakSet[socket.socket] = WeakSet()
        super().__init__(socket_factory=self._socket, **options)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = self._made(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close every connection."""
        await super().close(abort_ssl=abort_ssl)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                while any(held.fileno() >= 0 for held in self._sockets):  # noqa: ASYNC110  # sockets tell nobody
                    await asyncio.sleep(0.01)


class _Api(Api):
    """kr8s' credentials, a session of aiohttp's that has them, and a renewal that leaves watches in flight alone."""

    user_agent = FIELD_MANAGER
    http: aiohttp.ClientSession | None = None
    proxy: str | None = None
    host = ""
    """Of the API server, with its port."""
    base = ""
    """What comes before each path."""

    @property
    def is_encrypted(self) -> bool:
        """Whether the API server is reached by TLS."""
        return str(self.auth.server).startswith("https:")

    async def _create_session(self) -> None:
        before = self.http
        headers = {"User-Agent": self.user_agent, "Accept": "application/json"}
        if self.auth.token:
            headers["Authorization"] = f"Bearer {self.auth.token}"
        try:
            # Where nothing is encrypted nothing is verified; loading the usual authorities for it takes 25 ms.
            trust = self.is_encrypted and await self.auth.ssl_context()  # type: ignore[no-untyped-call]
        finally:
            self._remove_copies()
        self.http = aiohttp.ClientSession(
            connector=Connector(_Socket, ssl=trust, limit=MAX_CONNECTIONS, keepalive_timeout=60),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        server = urlsplit(str(self.auth.server))
        self.host, self.base = server.netloc, str(self.auth.server).rstrip("/")
        self.proxy = self._proxy(server)
        if before is not None:
            await before.close()

    def _proxy(self, server: SplitResult) -> str | None:
        """The kubeconfig's proxy, else the environment's; aiohttp would look for that in a thread, for each request."""
        proxy: str | None = self.auth.proxy
        if proxy is None and not proxy_bypass(server.hostname or ""):
            proxies = getproxies()
            proxy = proxies.get(server.scheme) or proxies.get("all")
        if not proxy:
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _remove_copies(self) -> None:
        """Remove the files to which kr8s copies what stands in a kubeconfig itself, a private key among it.

        They are there for TLS to be set up, and would stay for ever.
        """
        auth = self.auth
        for found, key, file in (
            (auth._user, "client-key-data", auth.client_key_file),
            (auth._user, "client-certificate-data", auth.client_cert_file),
            (auth._cluster, "certificate-authority-data", auth.server_ca_file),
        ):
            if key in found and file is not None:
                Path(file).unlink(missing_ok=True)

    async def renew(self) -> None:
        """Read the credentials again: a fresh token goes into the living session, a certificate needs a new one."""
        before = self.auth.token
        await self.auth.reauthenticate()
        if self.http is not None and self.auth.token and self.auth.token != before:
            self.http.headers["Authorization"] = f"Bearer {self.auth.token}"
            self._remove_copies()
        else:
            await self._create_session()

    async def aclose(self) -> None:
        """Close every connection."""
        if self.http is not None:
            await self.http.close()


class Client:
    """Requests to one API server. Raises `KubeError` and nothing else for whatever goes wrong on the way."""

    def __init__(self, api: _Api) -> None:
        self._api = api
        self._renewing = asyncio.Lock()
        self._generation = 0
        self._writes = asyncio.Semaphore(MAX_WRITES)
        self._large_pages = asyncio.Semaphore(LARGE_PAGES)
        self._written = Writes()
        self._may_write: Callable[[], bool] | None = None

    @classmethod
    async def connect(
        cls, kubeconfig: str | None = None, context: str | None = None, user_agent: str = FIELD_MANAGER
    ) -> Self:
        """A client for the given kubeconfig (default: KUBECONFIG, ~/.kube/config, then the pod's service account).

        Raises `StartupError` where no credentials are found. Makes no request.
        """
        try:
            if kubeconfig is not None:
                await asyncio.to_thread(Path(kubeconfig).stat)
            api = _Api(bypass_factory=True, kubeconfig=kubeconfig, context=context)
            api.user_agent = user_agent
            await api.auth
            await api._create_session()
        except (ValueError, OSError) as error:
            raise StartupError(f"no way to an API server: {error}; set KUBECONFIG or pass --kubeconfig") from error
        return cls(api)

    def fenced(self, may_write: Callable[[], bool]) -> Self:
        """The same client, whose writes leave only while `may_write` says so, and else raise `NotLeading`."""
        fenced = copy.copy(self)
        fenced._may_write = may_write
        return fenced

    async def close(self) -> None:
        """Close every connection; watches in flight end with `Unavailable`."""
        await self._api.aclose()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._api.auth.server)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        """The decoded answer to one request; `path` begins with `/api` or `/apis`."""
        data = None if body is None else orjson.dumps(body)
        if data is not None and content_type == JSON_PATCH:
            data = _as_compared(data)
        headers = {"Accept": accept} | ({} if data is None else {"Content-Type": content_type})
        before = _FENCE.set(None if method == "GET" or self._may_write is None else _Fence(self._may_write))
        try:
            return await self._answered(method, path, params or {}, headers, data)
        finally:
            _FENCE.reset(before)

    async def _answered(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], data: bytes | None
    ) -> Manifest:
        for attempt in (1, 2):
            generation = self._generation
            async with self._call(method, path, params, headers, data) as response:
                content = await response.read()
                if response.status == 401 and attempt == 1:
                    await self._renew(generation)
                    continue
                if response.status >= 400:
                    raise _error(response.status, content, response.headers)
                _note_warnings(response.headers.getall("Warning", ()))
                try:
                    answer: Manifest = _decoded(content)
                except ValueError as error:
                    raise Unavailable(0, "BrokenAnswer", f"{method} {path}: {error}") from error
                return answer
        raise AssertionError("unreachable: the second attempt returns or raises")

    @contextlib.asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None = None,
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        api = self._api
        assert api.http is not None  # made with the client
        url = f"{api.base}{quote(path)}" + (f"?{urlencode(params)}" if params else "")
        try:
            async with api.http.request(
                method, url, headers=headers, data=data, timeout=timeout, proxy=api.proxy, allow_redirects=False
            ) as response:
                metrics.CLIENT_REQUESTS.labels(code=str(response.status), method=method, host=api.host).inc()
                yield response
        except (aiohttp.ClientError, OSError) as error:
            if (fence := _FENCE.get()) is not None and fence.was_closed:
                raise NotLeading(f"{method} {path} was kept back: the lease is not held") from error
            metrics.CLIENT_REQUESTS.labels(code="<error>", method=method, host=api.host).inc()
            raise Unavailable(0, "Unreachable", f"{method} {path}: {type(error).__name__}: {error}") from error

    async def _renew(self, generation: int) -> None:
        """Renew credentials once, however many requests found them expired at the same moment."""
        async with self._renewing:
            if generation == self._generation:
                await self._api.renew()
                self._generation += 1

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """The live object; `NotFound` where there is none."""
        with _about(resource, namespace, name):
            return await self.request("GET", path(resource, namespace, name))

    async def username(self) -> str:
        """Who we are to the API server."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        return str(answer["status"]["userInfo"]["username"])

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        keep: Callable[[Manifest], Manifest] | None = None,
        **params: str,
    ) -> tuple[list[Manifest], str]:
        """All objects, of each what `keep` makes of it, and the resourceVersion to watch from.

        Items carry `apiVersion` and `kind`. They come page by page, and what is not kept goes with its page: all at
        once may take many times the memory.
        """
        accept = METADATA_ONLY["list"] if resource.metadata_only else "application/json"
        query = {"limit": str(LARGE_PAGE if resource.may_be_large else LIST_PAGE)} | params
        of = {"apiVersion": resource.api_version, "kind": resource.kind}
        items: list[Manifest] = []
        version, token = "", None
        while token != "":
            async with self._large_pages if resource.may_be_large else contextlib.nullcontext():
                page = await self.request("GET", path(resource, namespace), params=query, accept=accept)
                found = (of | item for item in page.get("items") or ())
                items += found if keep is None else map(keep, found)
                version = page["metadata"]["resourceVersion"]
                token = query["continue"] = page["metadata"].get("continue") or ""
                del page, found  # not two of them while the next one is awaited
        return items, version

    async def watch(
        self,
        resource: Resource,
        namespace: str,
        since: str,
        *,
        opened: Callable[[], object] = lambda: None,
        **params: str,
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Changes after `since` as (type, object), bookmarks included; ends quietly when the API server ends it.

        Calls `opened` once it would hear of changes, of which there need be none for long. Raises `Expired` when
        `since` is too old, whether the API server says so by status or by event.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "resourceVersion": since,
        } | params
        accept = METADATA_ONLY[True] if resource.metadata_only else "application/json"
        generation = self._generation
        where = path(resource, namespace)
        async with self._call("GET", where, query, {"Accept": accept}, timeout=WATCH_TIMEOUT) as response:
            if response.status >= 400:
                content = await response.read()
                if response.status == 401:
                    await self._renew(generation)
                raise _error(response.status, content, response.headers)
            opened()
            async for line in _lines(response):
                try:
                    event = _decoded(line)
                except ValueError as error:
                    raise Unavailable(0, "BrokenStream", f"watch of {resource}: {error}") from error
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _mapped(int(status.get("code") or 500), status, None)
                if resource.metadata_only:
                    event["object"] |= {"apiVersion": resource.api_version, "kind": resource.kind}
                yield event["type"], event["object"]

    async def create(self, resource: Resource, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """The created object; `Conflict` where one of that name exists."""
        params = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        namespace = manifest["metadata"].get("namespace", "")
        async with self._writing(resource, namespace, manifest["metadata"].get("name", "")):
            return await self.request("POST", path(resource, namespace), params=params, body=manifest)

    async def apply(self, resource: Resource, manifest: Manifest, *, subresource: str = "") -> Manifest:
        """The object after a server-side apply by our field manager, taking over fields others had set.

        Put the live `metadata.uid` into the manifest, or an apply re-creates what was just deleted.
        """
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        async with self._writing(resource, namespace, name):
            return await self.request(
                "PATCH",
                path(resource, namespace, name, subresource),
                params={"fieldManager": FIELD_MANAGER, "force": "true"},
                body=manifest,
                content_type=APPLY_PATCH,
            )

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """The object after a PUT; `Conflict` unless `metadata.resourceVersion` is the live one."""
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        async with self._writing(resource, namespace, name):
            return await self.request(
                "PUT", path(resource, namespace, name), params={"fieldManager": FIELD_MANAGER}, body=manifest
            )

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        content_type: str = MERGE_PATCH,
        *,
        subresource: str = "",
    ) -> Manifest:
        """The object after a JSON or merge patch."""
        async with self._writing(resource, namespace, name):
            return await self.request(
                "PATCH",
                path(resource, namespace, name, subresource),
                params={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type=content_type,
            )

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        """Ask for the deletion of exactly the object with that uid; False where it was gone or replaced already."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            async with self._writing(resource, namespace, name):
                await self.request("DELETE", path(resource, namespace, name), body=options)
        except (NotFound, Conflict):
            return False
        return True

    @contextlib.asynccontextmanager
    async def _writing(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[None]:
        """One of the writes in flight at once; counted where the API server takes it."""
        async with self._writes:
            with _about(resource, namespace, name):
                yield
        self._written.count(resource, namespace, name)


@contextlib.contextmanager
def _about(resource: Resource, namespace: str, name: str) -> Iterator[None]:
    """Have errors name the object they are about: the API server's often have neither kind nor namespace."""
    try:
        yield
    except KubeError as error:
        error.about = f"{resource.kind} {NamespacedName(namespace, name)}"
        raise


def _note_warnings(headers: Iterable[str]) -> None:
    if (found := _WARNINGS.get()) is None:
        return
    for header in headers:
        for text in _WARNING.findall(header):
            said = bounded(text.replace('\\"', '"'), LINE_MAX)
            if said not in found:
                found.append(said)


def path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or a subresource."""
    base = "/apis" if resource.group else "/api"
    place = f"namespaces/{namespace}" if resource.namespaced and namespace else ""
    return "/".join(filter(None, [base, resource.api_version, place, resource.plural, name, subresource]))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of a stream, however long, split at \\n only: objects may contain others."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        *complete, last = rest.split(b"\n")
        rest = bytearray(last)
        for line in complete:
            if line:
                yield bytes(line)


def _decoded(content: bytes) -> Any:
    """What a text says, but for field sets that are nested too deep to read; ValueError for what is no JSON.

    Those are the one part of an object in which everybody who may write it may nest things as he likes, and nobody
    here reads them: they must not keep all other objects of their kind from being read.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return orjson.loads(b"".join(_without_field_sets(content)))


def _without_field_sets(content: bytes) -> Iterator[bytes]:
    begin = 0
    while (found := content.find(_FIELD_SET, begin)) != -1:
        yield content[begin:found]
        yield _FIELD_SET + b"null"
        depth, begin = 0, len(content)
        for token in _BRACES.finditer(content, found + len(_FIELD_SET)):
            depth += {b"{": 1, b"}": -1}.get(token[0], 0)
            if depth == 0:
                begin = token.end()
                break
    yield content[begin:]


def _error(code: int, content: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        status = orjson.loads(content)
    except ValueError:
        status = {"message": content[:ENTRY_MAX].decode(errors="replace")}
    if not isinstance(status, dict):
        status = {"message": bounded(status, ENTRY_MAX)}
    after = headers.get("Retry-After", "")
    return _mapped(code, status, float(after) if after.isdigit() else None)


def _mapped(code: int, status: Manifest, retry_after: float | None) -> KubeError:
    reason = bounded(status.get("reason"), ENTRY_MAX)
    message = bounded(status.get("message"), LINE_MAX) or f"HTTP {code}"
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    known = [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    error = _mapped_status(code, reason, message, [cause.get("reason") for cause in known], retry_after)
    error.causes = tuple((bounded(cause.get("field")), bounded(cause.get("message"))) for cause in known[:CAUSES_MAX])
    return error


def _mapped_status(code: int, reason: str, message: str, reasons: list[object], retry_after: float | None) -> KubeError:
    if "NamespaceTerminating" in reasons:
        return NamespaceTerminating(code, "NamespaceTerminating", message, retry_after)
    if code == 403 and (denied := _DENIED.search(message)):
        account, verb, resource, namespace = denied.groups()
        return Denied(message, account, f"{verb} {resource}", namespace or "")
    kind: type[KubeError] = {
        400: Invalid,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        410: Expired,
        422: Invalid,
        429: Throttled,
    }.get(code, Unavailable if code >= 500 else KubeError)
    if code == 500 and "not declared in schema" in message:
        kind = Invalid  # an apply with a field the schema lacks: no retry will mend it
    return kind(code, reason, message, retry_after)
