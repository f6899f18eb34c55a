"""Scopes within scopes: what is within never matches what the outer patterns do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.scope import Scope, is_within


@pytest.mark.parametrize(
    ("pattern", "patterns", "within"),
    [
        ("triage", ("*",), True),
        ("*", ("*",), True),
        ("*", ("a*", "b*"), False),
        ("triage", ("support-*",), False),
        ("support-eu", ("triage", "support-*"), True),
        ("support-eu-*", ("support-*",), True),
        ("support-*", ("support-eu-*",), False),
        ("s*", ("support-*",), False),
        ("a?", ("a?",), True),
        ("a*", ("a?",), False),
        ("[xy]z", ("*y*",), False),
        ("[a]b", ("a*",), False),
        ("ab[xy]", ("a*",), True),
        ("promptlayer/x", ("*",), False),
        ("triage", ("promptlayer/*",), False),
        ("promptlayer/team/*", ("promptlayer/*",), True),
        ("promptlayer/*", ("prompt_studio/*",), False),
        ("promptlayer/x", ("prompt*/x",), True),
    ],
)
def test_within(pattern: str, patterns: tuple[str, ...], *, within: bool) -> None:
    assert within is is_within(pattern, patterns)


_TEXTS = st.text("ab*?[]!-/", min_size=1, max_size=5)


@given(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=2), st.text("ab-", max_size=4), st.text("ab-/", max_size=4))
def test_what_is_within_matches_nothing_else(pattern: str, patterns: list[str], provider: str, name: str) -> None:
    inner, outer = Scope((pattern,)), Scope(tuple(patterns))
    if is_within(pattern, patterns):
        assert not inner.includes(provider) or outer.includes(provider)
        assert not inner.includes_direct(provider, name) or outer.includes_direct(provider, name)
