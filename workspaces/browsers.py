"""What a browser says of a request: whose page sent it, and what for."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from workspaces.proxies import Origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing (RFC 9110, section 9.2.1)."""
PATH_MAX = 2048
_AFTER_PATH = re.compile(r"[?#]")


def is_forged(method: str, headers: Mapping[str, str], origin: Origin) -> bool:
    """Whether another site may have made a browser send it, with the cookies that it has of us.

    Browsers send `Origin` with every request of a method that is not safe. With the forms of a page that sends no
    referrer, as ours do, it is `null`, as it is with those of a sandboxed page: `Sec-Fetch-Site`, which no page can
    set, tells them apart.
    """
    if method in SAFE_METHODS:
        return False
    site, source = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    return source != str(origin) if site is None else site != "same-origin" or source not in (str(origin), "null")


def is_cross_site(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser says that another site's page had it sent.

    That is all we can go by where somebody before us keeps the login: he may not say where browsers see him. Programs
    send no `Origin`; a browser that has no `Sec-Fetch-Site` does, and names none of the hosts that were asked.
    """
    if method in SAFE_METHODS:
        return False
    site, source = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None or source is None:
        return site in ("cross-site", "same-site")
    hosts = [headers.get("Host", ""), *headers.get("X-Forwarded-Host", "").split(",")]
    return urlsplit(source).netloc not in {host.strip() for host in hosts} - {""}


def is_unasked(headers: Mapping[str, str]) -> bool:
    """Whether nobody is waiting for it: a browser fetches in advance, or for a page of another site."""
    if "prefetch" in headers.get("Sec-Purpose", headers.get("Purpose", "")).lower():
        return True
    is_cross_site = headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site")
    return is_cross_site and headers.get("Sec-Fetch-Mode", "") != "navigate"


def is_navigation(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a person is about to look at the answer."""
    is_page = "text/html" in headers.get("Accept", "").lower()
    return method == "GET" and is_page and headers.get("Sec-Fetch-Dest", "document") == "document"


def local_path(text: str, default: str) -> str:
    """A path of ours, with what follows it; the default for anything that leads elsewhere.

    Browsers take `.` and `..` out of a path, so that what is between slashes must not be empty or one of these.
    """
    path = _AFTER_PATH.split(text, maxsplit=1)[0].lower().replace("%2e", ".")
    is_path = path == "/" or (path.startswith("/") and not {"", ".", ".."} & set(path.removesuffix("/").split("/")[1:]))
    is_plain = "\\" not in text and all("!" <= character <= "~" for character in text)
    return text if is_path and is_plain and len(text) <= PATH_MAX else default
