"""Object storage as workspaces read it: by their own keys, in a bounded time, and never anywhere else than asked.

Whoever writes a workspace's Secret may choose where it is: `objects.place` lets the operator's origins pass alone, and
no redirect is followed. What it answers is the tenant's: it is bounded, and repeated as data only.
"""

import asyncio
import contextlib
import datetime
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import structlog
from aiohttp import hdrs
from yarl import URL

from workspaces import objects
from workspaces.objects import Listing, Place
from workspaces.problems import Problem
from workspaces.recent import Recent
from workspaces.signatures import NONE, address, presigned, signed

log = structlog.get_logger()

ANSWER_SECONDS = 2.0
"""How long an answer, and all that a count is made of, may take."""
DOCUMENT_MAX = 4 * 1024 * 1024
"""Bytes of a listing: a thousand keys of the greatest length, quoted."""
ERROR_MAX = 64 * 1024
COUNT_SECONDS = 60.0
"""How long a count counts."""
COUNTS_MAX = 10_000
CHUNK = 64 * 1024
SILENCE_SECONDS = 10.0
"""How long the storage may say nothing during a download."""
DOWNLOADS_MAX = 50
READER_DOWNLOADS_MAX = 4
CONNECTIONS_MAX = 50 + DOWNLOADS_MAX
TIMEOUT = aiohttp.ClientTimeout(total=None, connect=ANSWER_SECONDS, sock_read=SILENCE_SECONDS)


class ObjectStorage:
    """Lists, counts and reads objects; every method raises `Problem` for what goes wrong."""

    def __init__(self, ca_file: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """Needs a running event loop; raises OSError for a file without certificates."""
        trusted = ssl.create_default_context(cafile=ca_file or None)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted, limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={hdrs.ACCEPT_ENCODING: "identity"},
        )
        self._counts: Recent[Place, dict[str, Any]] = Recent(self._count, COUNT_SECONDS, COUNTS_MAX, clock)
        self._downloads: Counter[str] = Counter()

    async def close(self) -> None:
        """Stop asking."""
        await self._counts.close()
        await self._http.close()

    async def page(self, place: Place, prefix: str, count: int, token: str) -> dict[str, Any]:
        """An `ObjectPage`: what follows the token, or begins."""
        try:
            async with self._in_time(place):
                listing = await self._list(place, objects.query(prefix, count, token))
        except Problem as refusal:
            raise objects.of_token(token, refusal) from None
        return objects.page(place.bucket, prefix, listing)

    async def usage(self, place: Place) -> dict[str, Any]:
        """A `BucketUsage` that is a minute old at most."""
        return await self._counts.get(place)

    async def _count(self, place: Place) -> dict[str, Any]:
        count = size = 0
        token = ""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for _ in range(objects.COUNTED_MAX // objects.PAGE_MAX):
                    listing = await self._list(place, objects.query("", objects.PAGE_MAX, token, nested=False))
                    count, size, token = count + len(listing.objects), size + listing.size, listing.token
                    if not token:
                        return objects.usage(count, size, complete=True)
        except TimeoutError:
            if not token:  # of the first page
                raise _away(place, "no answer in time") from None
        return objects.usage(count, size, complete=False)

    async def size(self, place: Place, key: str) -> int:
        """Bytes of an object."""
        async with self._in_time(place), self._answer("HEAD", place, key) as response:
            return response.content_length or 0

    @staticmethod
    def link(place: Place, key: str) -> str | None:
        """Where a browser gets an object, for five minutes; None where it has to be passed on."""
        if place.public is None:
            return None
        query = {
            "response-content-disposition": objects.attachment(key),
            "response-content-type": "application/octet-stream",
        }
        return presigned("GET", place.public, place.path(key), query, place.keys, _now(), objects.LINK_SECONDS)

    @contextlib.asynccontextmanager
    async def opened(self, place: Place, key: str, reader: str) -> AsyncIterator["Download"]:
        """An object that may be passed on, while the context lasts; one that is too large is refused."""
        if self._downloads[reader] >= READER_DOWNLOADS_MAX:
            raise objects.busy()
        if self._downloads.total() >= DOWNLOADS_MAX:
            raise objects.away()
        self._downloads[reader] += 1
        try:
            async with self._answer("GET", place, key) as response:
                size = response.content_length
                if size is None or size > objects.DOWNLOAD_MAX:
                    response.close()  # the rest is not read
                    raise objects.odd() if size is None else objects.too_large(size)
                yield Download(place, size, response)
        finally:
            self._downloads[reader] -= 1
            self._downloads += Counter()  # keeps those alone that read

    # ---- Requests

    async def _list(self, place: Place, query: dict[str, str]) -> Listing:
        async with self._answer("GET", place, "", query) as response:
            document = await _bounded(place, response, DOCUMENT_MAX)
        try:
            return await asyncio.to_thread(Listing.read, document)
        except ValueError as error:
            log.warning("object storage is odd", endpoint=_named(place), error=str(error))
            raise objects.odd() from None

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, place: Place, key: str, query: Mapping[str, str] = NONE
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """What answers a request, unless it is an error."""
        url, headers = signed(method, place.origin, place.path(key), query, place.keys, _now())
        with _mapped(place):
            response = await self._http.request(
                method, URL(url, encoded=True), headers=headers, allow_redirects=False, timeout=TIMEOUT
            )
        async with response:
            if response.status != 200:
                document = await _bounded(place, response, ERROR_MAX)
                log.info("object storage refuses", endpoint=_named(place), status=response.status)
                raise objects.refused(response.status, document)
            yield response

    @contextlib.asynccontextmanager
    async def _in_time(self, place: Place) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except TimeoutError:
            raise _away(place, "no answer in time") from None


class Download:
    """An object as it comes."""

    def __init__(self, place: Place, size: int, response: aiohttp.ClientResponse) -> None:
        self.size = size
        """Bytes."""
        self._place = place
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, piece by piece."""
        with _mapped(self._place):
            async for chunk in self._response.content.iter_chunked(CHUNK):
                yield chunk


@contextlib.contextmanager
def _mapped(place: Place) -> Iterator[None]:
    """Make problems of what goes wrong on the way."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        log.warning("object storage is not trusted", endpoint=_named(place), error=str(error))
        raise objects.untrusted() from None
    except (aiohttp.ClientError, OSError) as error:
        raise _away(place, str(error) or type(error).__name__) from None


async def _bounded(place: Place, response: aiohttp.ClientResponse, most: int) -> bytes:
    """A body of so many bytes at most; `Problem` for a longer one."""
    found = bytearray()
    with _mapped(place):
        async for chunk in response.content.iter_chunked(CHUNK):
            found += chunk
            if len(found) > most:
                response.close()  # the rest is not read
                log.warning("object storage is odd", endpoint=_named(place), error=f"more than {most} bytes")
                raise objects.odd()
    return bytes(found)


def _away(place: Place, error: str) -> Problem:
    log.warning("object storage is away", endpoint=_named(place), error=error)
    return objects.away()


def _named(place: Place) -> str:
    return address(place.origin)


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
