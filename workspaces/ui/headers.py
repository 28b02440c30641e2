"""Headers of pages: what a browser may do with them. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from workspaces.proxies import Origin

HSTS_SECONDS = 365 * 24 * 3600


def of_page(origin: Origin, issuer: str, assets: str) -> dict[str, str]:
    """Headers of every page; `issuer` is the URL of whoever logs people in, `assets` where scripts and styles are.

    Sources of another host are allowed where `assets` is an absolute URL, and nothing else of another host.
    """
    own = " ".join(filter(None, ("'self'", origin_of(assets))))
    forms = " ".join(filter(None, ("'self'", origin_of(issuer))))
    policy = (
        f"default-src 'none'; script-src {own}; style-src {own}; img-src {own}; connect-src 'self'; "
        f"form-action {forms}; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types morph"
    )
    found = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if origin.scheme == "https":
        found["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
    return found


def origin_of(url: str) -> str:
    """The origin of an absolute URL; empty for a path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def may_be_packed(method: str, headers: Mapping[str, str]) -> bool:
    """Whether the answer to a request is a page that may be sent packed.

    How long a page is when packed tells what is in it, to whoever has it asked for often enough with words of his own
    (BREACH). So none is packed that another site had asked for, or that a form led to: those alone show credentials.
    """
    is_ours = headers.get("Sec-Fetch-Site", "") in ("same-origin", "none")
    return method == "GET" and is_ours and accepts_gzip(headers)


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client says that it unpacks gzip."""
    for entry in headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, weight = entry.replace(" ", "").partition(";")
        if coding in ("gzip", "*"):
            return weight not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
