"""Scripts, styles and symbols, read once: below an address that names their content, so that browsers keep them."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from workspaces.ui.headers import accepts_gzip

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class _File:
    content: bytes
    packed: bytes
    kind: str


class Assets:
    """All files of `static`."""

    def __init__(self, url: str, directory: Path = STATIC) -> None:
        """`url` is where browsers find them: a path of ours, or the absolute URL of whoever passes them on."""
        self._files = {
            path.relative_to(directory).as_posix(): _read(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.suffix in TYPES
        }
        digest = hashlib.sha256()
        for name, file in self._files.items():
            digest.update(b"%s\0%d\0%s" % (name.encode(), len(file.content), file.content))
        self.digest = digest.hexdigest()[:16]
        """Of all of them: they are of one version, and import each other by their names."""
        self.url = url.rstrip("/")
        self.path = urlsplit(self.url).path
        """Path below which we serve them ourselves."""

    def address(self, name: str, prefix: str, *, here: bool = False) -> str:
        """Where browsers find a file; `here`: at our own origin in any case, as they want it of a sprite."""
        base = self.url if urlsplit(self.url).netloc and not here else f"{prefix}{self.path}"
        return f"{base}/{self.digest}/{name}"

    def is_below(self, path: str) -> bool:
        """Whether a path is one of theirs."""
        return path.startswith(f"{self.path}/")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A file; packed for whoever unpacks."""
        file = self._files.get(request.match_info["name"])
        if file is None or request.match_info["digest"] != self.digest:
            raise web.HTTPNotFound
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: YEAR,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            hdrs.CONTENT_TYPE: file.kind,
            # Browsers fetch modules of another origin by CORS; nothing in these files is anybody's.
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if accepts_gzip(request.headers):
            return web.Response(body=file.packed, headers=headers | {hdrs.CONTENT_ENCODING: "gzip"})
        return web.Response(body=file.content, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, gzip.compress(content, mtime=0), TYPES[path.suffix])
