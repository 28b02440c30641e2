"""Which hosts a rule of Traefik's own routes answers for: `Host(`a.org`) && !PathPrefix(`/b`)`.

A rule is an expression over matchers. What a matcher says of a host is yes, no, or neither where it depends on
something else of the request, or on a pattern. Only a rule that says no keeps off a host.

Rules are of anybody's choice and read while others wait: each part is asked once, of all hosts together.
"""

import functools
import operator
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from datalabd.routes.hosts import EVERY, canonical, of_pattern

RULE_MAX = 4096
"""Characters of a rule that is looked into; of a longer one nobody can say what it does."""
HOSTS_MAX = 50
"""Hosts that one rule may name, as each is compared with every pattern beside it."""
DEPTH_MAX = 20
"""Parentheses and negations within one another."""
_ARGUMENT = r"`[^`]*`"
_NARROWED = rf"( && !?[A-Za-z]+\({_ARGUMENT}(, ?{_ARGUMENT})*\))*"
_NAME = r"`[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?`"
_NAMED = rf"(Host|HostSNI)\({_NAME}(, ?{_NAME})*\){_NARROWED}"
PLAIN = rf"^({_NAMED}( \|\| {_NAMED})*|\({_NAMED}( \|\| {_NAMED})*\){_NARROWED})$"
"""A rule that can answer for no hosts but those it names between backticks, in the syntax of Python and of RE2."""


class Said(NamedTuple):
    """What a part of a rule says of all hosts, wildcards `*.a.org` and `EVERY`: one bit for each in either number."""

    yes: int
    no: int


Says = Callable[[dict[str, Said]], Said]
"""A part of a rule, given what each host that the rule names says of all of them."""

_TOKEN = re.compile(r"""\s*(?:(&&|\|\||[!(),])|([A-Za-z]+)|`([^`]*)`|"([^"\\]*)")\s*""")
_HOST = frozenset({"host", "hostheader", "hostsni"})
_PATTERN = frozenset({"hostregexp", "hostsniregexp"})


class TooManyHosts(Exception):
    """A rule names more than `HOSTS_MAX`."""


class _Unreadable(ValueError):
    """Not a rule, or not one that we understand."""


def hosts(rule: str) -> Iterator[str]:
    """The hosts a rule may answer for, in lower case; wildcards for patterns, the empty host for all others.

    A rule that cannot be read may answer for any; `TooManyHosts` for one that names more than are looked into.
    """
    try:
        parsed = _Rule(rule)
    except _Unreadable:
        yield EVERY
        return
    named = [*parsed.named, EVERY]
    said = parsed.says(_each(named))
    yield from (host for bit, host in enumerate(named) if not said.no >> bit & 1)


class _Rule:
    """A rule, parsed by descent: `||` binds least, then `&&`, then `!`."""

    def __init__(self, rule: str) -> None:
        if len(rule) > RULE_MAX:
            raise _Unreadable("too long")
        self.named: dict[str, None] = {}
        self._tokens = deque(_tokens(rule))
        self._depth = 0
        self.says = self._either()
        if self._tokens:
            raise _Unreadable(self._tokens[0][1])

    def _either(self) -> Says:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return lambda each: _or([part(each) for part in parts])

    def _both(self) -> Says:
        parts = [self._negated()]
        while self._take("&&"):
            parts.append(self._negated())
        return lambda each: _not(_or([_not(part(each)) for part in parts]))

    def _negated(self) -> Says:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _Unreadable("too deep")
        try:
            if self._take("!"):
                inner = self._negated()
                return lambda each: _not(inner(each))
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
        arguments = [self._next("text").strip()]
        while self._take(","):
            arguments.append(self._next("text").strip())
        self._expect(")")
        if name in _HOST:
            reached = [host for argument in arguments for host in canonical(argument)]
        elif name in _PATTERN:
            reached = [of_pattern(argument.lower()) for argument in arguments]
        else:
            return lambda _: _NEITHER
        self.named |= dict.fromkeys(host for host in reached if host != EVERY)
        if len(self.named) > HOSTS_MAX:
            raise TooManyHosts
        return lambda each: _or([each[one] for one in reached])

    def _take(self, symbol: str) -> bool:
        if self._tokens and self._tokens[0] == ("symbol", symbol):
            self._tokens.popleft()
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise _Unreadable(f"no {symbol}")

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise _Unreadable(f"no {kind}")
        return self._tokens.popleft()[1]


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


_NEITHER = Said(0, 0)


def _each(named: list[str]) -> dict[str, Said]:
    """What a matcher of each host alone says of all of them, by its bit."""
    bits = {host: 1 << index for index, host in enumerate(named)}
    meets = dict(bits)
    for wildcard in (host for host in named if host.startswith("*")):
        for host in named:
            if host.endswith(wildcard[1:]):
                meets[host] |= bits[wildcard]
                meets[wildcard] |= bits[host]
    every = (1 << len(named)) - 1
    said = {host: Said(0 if host.startswith("*") else bit, every & ~meets[host]) for host, bit in bits.items()}
    return said | {EVERY: _NEITHER}


def _or(said: list[Said]) -> Said:
    yes, no = zip(*said, strict=True)
    return Said(functools.reduce(operator.or_, yes), functools.reduce(operator.and_, no))


def _not(said: Said) -> Said:
    return Said(said.no, said.yes)
