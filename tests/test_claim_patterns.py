"""Patterns over claims."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claim_patterns import ClaimPattern, covers_all, match_all


@pytest.mark.parametrize(
    ("name", "value", "claims", "expected"),
    [
        ("sub", "app", {"sub": "app"}, True),
        ("sub", "app", {"sub": "App"}, False),
        ("sub", "app", {"sub": "app "}, False),
        ("sub", "app", {}, False),
        ("sub", "app", {"sub": None}, False),
        ("sub", "app", {"sub": {"app": 1}}, False),
        ("sub", "a?p", {"sub": "app"}, False),
        ("sub", "[a]", {"sub": "a"}, False),
        ("sub", "a*", {"sub": "a\nb"}, True),
        ("sub", "a*", {"sub": "a"}, True),
        ("sub", "a*a", {"sub": "a"}, False),
        ("sub", "ab*bc", {"sub": "abc"}, False),
        ("groups", "ops", {"groups": ["dev", "ops"]}, True),
        ("groups", "ops", {"groups": [["ops"]]}, False),
        ("groups", "ops", {"groups": []}, False),
        ("id", 74, {"id": 74}, True),
        ("id", 74, {"id": "74"}, True),
        ("id", 74, {"id": "074"}, False),
        ("id", 74, {"id": 74.0}, False),
        ("id", 1, {"id": True}, False),
        ("verified", True, {"verified": True}, True),
        ("verified", True, {"verified": 1}, False),
        ("verified", True, {"verified": "true"}, False),
        ("verified", False, {"verified": False}, True),
        ("verified", False, {}, False),
        ("/a/b", "x", {"a": {"b": "x"}}, True),
        ("/a/b", "x", {"a": [{"b": "x"}]}, False),
        ("/a/b", "x", {"/a/b": "x"}, False),
        ("/a~1b/c~0d", "x", {"a/b": {"c~d": "x"}}, True),
        ("https://acme.example/role", "x", {"https://acme.example/role": "x"}, True),
        ("a.b", "x", {"a.b": "x"}, True),
    ],
)
def test_a_claim_has_the_value(name: str, value: Any, claims: dict[str, Any], expected: Any) -> None:
    assert expected is match_all([ClaimPattern.parse(name, value)], claims)


TEXTS = st.text(alphabet="ab", max_size=8)
PATTERNS = st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=5).map("*".join)


@given(pattern=PATTERNS, text=TEXTS)
def test_a_pattern_matches_as_a_regular_expression_would(pattern: str, text: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    found = ClaimPattern(("sub",), pattern).matches({"sub": text})
    assert bool(re.fullmatch(expression, text, re.DOTALL)) is found


@given(pattern=PATTERNS, other=PATTERNS, text=TEXTS)
def test_what_a_pattern_covers_it_matches(pattern: str, other: str, text: str) -> None:
    one, two = ClaimPattern(("sub",), pattern), ClaimPattern(("sub",), other)
    if covers_all([one], [two]) and two.matches({"sub": text}):
        assert one.matches({"sub": text})


def test_a_long_claim_is_matched_in_linear_time() -> None:
    """A regular expression would take hours."""
    pattern = ClaimPattern.parse("sub", "a*a*a*a*a*b")
    assert not pattern.matches({"sub": "a" * 16_000})
