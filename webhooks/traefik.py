"""Which hosts a rule of Traefik's own routes answers for: `Host(`a.org`) && !PathPrefix(`/b`)`.

A rule is an expression over matchers. What a matcher says of a host is True, False, or None where it depends on
something else of the request, or on a pattern. Only a rule that says False keeps off a host.
"""

import itertools
import re
from collections.abc import Callable, Iterator

RULE_MAX = 4096
"""Characters of a rule that is looked into; of a longer one nobody can say what it does."""
DEPTH_MAX = 20
"""Parentheses and negations within one another."""
_ARGUMENT = r"`[^`]*`"
_NARROWED = rf"( && !?[A-Za-z]+\({_ARGUMENT}(, ?{_ARGUMENT})*\))*"
_NAMED = rf"(Host|HostSNI)\(`[A-Za-z0-9.-]+`(, ?`[A-Za-z0-9.-]+`)*\){_NARROWED}"
PLAIN = rf"^({_NAMED}( \|\| {_NAMED})*|\({_NAMED}( \|\| {_NAMED})*\){_NARROWED})$"
"""A rule that can answer for no hosts but those it names between backticks, in the syntax of Python and of RE2."""

EVERY = ""
"""Stands for all hosts that no rule names."""

Says = Callable[[str], bool | None]
"""What a part of a rule says of a host, of a wildcard `*.a.org`, or of `EVERY`."""

_TOKEN = re.compile(r"""\s*(?:(&&|\|\||[!(),])|([A-Za-z]+)|`([^`]*)`|"([^"\\]*)")\s*""")
_HOST = frozenset({"host", "hostheader", "hostsni"})
_PATTERN = frozenset({"hostregexp", "hostsniregexp"})
_LABEL = re.compile(r"[a-z0-9-]+")
# What Traefik 2 reads as a template; as a pattern of Traefik 3 it fits no host at all.
_TEMPLATE = re.compile(r"\{[a-z]+(?::[^{}|]*)?\}((?:\.[a-z0-9-]+)+)")


class _Unreadable(ValueError):
    """Not a rule, or not one that we understand."""


def hosts(rule: str) -> Iterator[str]:
    """The hosts a rule may answer for, in lower case; wildcards for patterns, the empty host for all others.

    A rule that cannot be read may answer for any.
    """
    try:
        parsed = _Rule(rule)
    except _Unreadable:
        yield EVERY
        return
    for host in (*parsed.named, EVERY):
        if parsed.says(host) is not False:
            yield host


class _Rule:
    """A rule, parsed by descent: `||` binds least, then `&&`, then `!`."""

    def __init__(self, rule: str) -> None:
        if len(rule) > RULE_MAX:
            raise _Unreadable("too long")
        self.named: dict[str, None] = {}
        self._tokens = list(_tokens(rule))
        self._depth = 0
        self.says = self._either()
        if self._tokens:
            raise _Unreadable(self._tokens[0][1])

    def _either(self) -> Says:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return lambda host: _or([part(host) for part in parts])

    def _both(self) -> Says:
        parts = [self._negated()]
        while self._take("&&"):
            parts.append(self._negated())
        return lambda host: _not(_or([_not(part(host)) for part in parts]))

    def _negated(self) -> Says:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _Unreadable("too deep")
        try:
            if self._take("!"):
                inner = self._negated()
                return lambda host: _not(inner(host))
            if self._take("("):
                grouped = self._either()
                self._expect(")")
                return grouped
            return self._matcher()
        finally:
            self._depth -= 1

    def _matcher(self) -> Says:
        name = self._next("name").lower()
        self._expect("(")
        arguments = [self._next("text").strip().lower()]
        while self._take(","):
            arguments.append(self._next("text").strip().lower())
        self._expect(")")
        if name in _HOST:
            reached = [EVERY if argument == "*" else argument for argument in arguments]
        elif name in _PATTERN:
            reached = [_wildcard(argument) for argument in arguments]
        else:
            return lambda _: None
        self.named |= dict.fromkeys(host for host in reached if host != EVERY)
        return lambda host: _or([_meets(host, one) for one in reached])

    def _take(self, symbol: str) -> bool:
        if self._tokens and self._tokens[0] == ("symbol", symbol):
            del self._tokens[0]
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise _Unreadable(f"no {symbol}")

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise _Unreadable(f"no {kind}")
        return self._tokens.pop(0)[1]


def _tokens(rule: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(rule):
        match = _TOKEN.match(rule, at)
        if match is None:
            raise _Unreadable(rule[at:])
        for kind, text in zip(("symbol", "name", "text", "text"), match.groups(), strict=True):
            if text is not None:
                yield kind, text
        at = match.end()


def _wildcard(pattern: str) -> str:
    """The wildcard that covers every host of a pattern: its literal end, if it has one that nothing before can change.

    Escapes other than of a dot, and alternatives, might.
    """
    if template := _TEMPLATE.fullmatch(pattern):
        return f"*{template[1]}"
    pieces = pattern.removesuffix("$").split(r"\.")
    if not pattern.endswith("$") or any("\\" in piece or "|" in piece for piece in pieces):
        return EVERY
    labels = list(itertools.takewhile(_LABEL.fullmatch, reversed(pieces[1:])))
    return ".".join(["*", *reversed(labels)]) if labels else EVERY


def _meets(host: str, reached: str) -> bool | None:
    """What a matcher of `reached` says of a host."""
    if reached == EVERY:
        return None
    if host == reached and not host.startswith("*"):
        return True
    ends = [text[1:] for text in (host, reached) if text.startswith("*")]
    meet = any(host.endswith(end) and reached.endswith(end) for end in ends)
    return None if meet else False


def _or(said: list[bool | None]) -> bool | None:
    return True if True in said else None if None in said else False


def _not(said: bool | None) -> bool | None:
    return None if said is None else not said
