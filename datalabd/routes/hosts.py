"""Hosts as routes spell them, in the one form in which they are compared.

That is a name, `a.org`; an ending, `*.a.org` or `*a.org`, which stands for whatever ends so; or `EVERY`. Controllers
differ in what they take: nginx `.a.org`, APISIX a star without a dot, Traefik a dot at the end and names that are not
ASCII. What cannot be read may be any host.
"""

import itertools
import re

from datalabd import names

EVERY = names.EVERY_HOST
"""Stands for every host."""
HOST_MAX = 253
"""Characters of a host: what is longer is nobody's."""

_PORT = re.compile(r":[0-9*]*$")
_READABLE = re.compile(r"[a-z0-9_.*-]+", re.ASCII)
_DEVIATIONS = frozenset("ßς\u200c\u200d")
"""Characters that IDNA 2003 and IDNA 2008 turn into different names."""
_LABEL = re.compile(r"[a-z0-9-]+")
# What Traefik 2 reads as a template; as a pattern of Traefik 3 it fits no host at all.
_TEMPLATE = re.compile(r"\{[a-z]+(?::[^{}|]*)?\}((?:\.[a-z0-9-]+)+)")

PLAIN_TEXT = "^[A-Za-z0-9_.:*-]*$"
"""A host that CEL can read, in the syntax of RE2; of others whoever asks has to look at it here."""
CANONICAL = "^[^:]*[^:.]"
"""What is left of such a host, in lower case, without port and dots at the end: in the syntax of RE2."""


def canonical(host: object) -> tuple[str, ...]:
    """The hosts that a route means by one: one, or two for `.a.org`, which is nginx' word for both of `a.org` and
    `*.a.org`."""
    text = _ascii(_PORT.sub("", str(host or "").strip())).lower().rstrip(".")
    if not _READABLE.fullmatch(text):
        return (EVERY,)
    if text.startswith("."):
        return (text.lstrip("."), f"*{text}")
    _, star, ending = text.rpartition("*")
    return (f"*{ending}" if ending else EVERY,) if star else (text,)


def of_pattern(pattern: str) -> str:
    """The ending that covers every host of a regular expression: its literal end, if nothing before can change that.

    Escapes other than of a dot, and alternatives, might.
    """
    if template := _TEMPLATE.fullmatch(pattern):
        return f"*{template[1]}"
    pieces = pattern.removesuffix("$").split(r"\.")
    if not pattern.endswith("$") or any("\\" in piece or "|" in piece for piece in pieces):
        return EVERY
    labels = list(itertools.takewhile(_LABEL.fullmatch, reversed(pieces[1:])))
    return ".".join(["*", *reversed(labels)]) if labels else EVERY


def is_broad(host: str) -> bool:
    """Whether it stands for more than one name."""
    return host == EVERY or host.startswith("*")


def covers(host: str, other: str) -> bool:
    """Whether one host stands for all that the other one does."""
    if host == EVERY:
        return True
    return other.endswith(host[1:]) if host.startswith("*") else host == other


def reaches_below(host: str, domain: str) -> bool:
    """Whether a host stands for any name below a domain."""
    below = f".{domain}"
    return host.endswith(below) or (is_broad(host) and below.endswith(host[1:]))


def stands_for_labels(host: str, domain: str) -> bool:
    """Whether a host is a pattern that takes names of one more label than the domain, as labs have them."""
    if not is_broad(host):
        return False
    ending, below = host[1:], f".{domain}"
    return below.endswith(ending) or (ending.endswith(below) and "." not in ending.removesuffix(below))


def _ascii(host: str) -> str:
    """The host in the form in which DNS has it; empty for what may be any."""
    if host.isascii():
        return host
    try:
        return "" if len(host) > HOST_MAX or _DEVIATIONS & set(host) else host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
