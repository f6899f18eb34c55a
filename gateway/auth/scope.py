"""Scopes: patterns over aliases and over the providers' own names, as expressions that are compiled once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase, translate
from functools import lru_cache

_MATCHES_NOTHING = "(?!)"  # a regular expression that never matches
_WILDCARDS = re.compile(r"[*?\[\]]")


class Scope:
    """Compiled patterns, as `Client` describes them. Equal patterns give the same object (`compile_scope`).

    `alias_pattern` matches the aliases in the scope.
    """

    __slots__ = ("_direct_patterns", "alias_pattern")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        aliases = [translate(pattern) for pattern in patterns if "/" not in pattern]
        direct = [pattern.partition("/") for pattern in patterns if "/" in pattern]
        self.alias_pattern = re.compile("|".join(aliases) or _MATCHES_NOTHING)
        self._direct_patterns = tuple((provider, name) for provider, _, name in direct)

    def includes(self, alias: str) -> bool:
        """Return True if a pattern matches the alias."""
        # One compiled expression for all patterns takes 0.2 us, so no cache is needed that unknown names could fill.
        return self.alias_pattern.match(alias) is not None

    def includes_direct(self, provider: str, name: str) -> bool:
        """Return True if a pattern matches a workflow by the provider's own name."""
        return any(fnmatchcase(provider, p) and fnmatchcase(name, n) for p, n in self._direct_patterns)


@lru_cache(maxsize=1024)
def compile_scope(patterns: tuple[str, ...]) -> Scope:
    """Return the scope of these patterns."""
    return Scope(patterns)


def is_within(pattern: str, patterns: Iterable[str]) -> bool:
    """Return True if everything that `pattern` matches is matched by one of `patterns`.

    Within are one of the patterns itself, a name that one matches, and a pattern that begins as one that ends with its
    only wildcard, `*`: `support-eu-*` is within `support-*`. Other patterns are not, although some of them would be.
    """
    return any(_is_within(pattern, each) for each in patterns)


def _is_within(pattern: str, outer: str) -> bool:
    if pattern == outer:
        return True
    provider, direct, name = pattern.partition("/")
    outer_provider, outer_direct, outer_name = outer.partition("/")
    if direct != outer_direct:
        return False
    if not direct:
        return _is_narrower(pattern, outer)
    return _is_narrower(provider, outer_provider) and _is_narrower(name, outer_name)


def _is_narrower(pattern: str, outer: str) -> bool:
    if pattern == outer:
        return True
    if not _WILDCARDS.search(pattern):
        return fnmatchcase(pattern, outer)
    prefix = outer.removesuffix("*")
    return prefix != outer and not _WILDCARDS.search(prefix) and pattern.startswith(prefix)
