"""Hint tokens: replicas with the secret accept their own tokens, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.polling.hint_tokens import HintTokens

SECRET = bytes(range(32))
RUN = "run_0123456789abcdef0123456789abcdef"


def test_any_replica_with_the_secret_verifies_a_token() -> None:
    assert RUN == HintTokens(SECRET).verify(HintTokens(SECRET).issue(RUN))


def test_a_token_needs_no_encoding_in_a_path() -> None:
    assert all(c.isalnum() or c in "_.-" for c in HintTokens(SECRET).issue(RUN))


def test_another_secret_verifies_nothing() -> None:
    assert None is HintTokens(b"another" * 5).verify(HintTokens(SECRET).issue(RUN))


def test_every_changed_character_invalidates_a_token() -> None:
    token = HintTokens(SECRET).issue(RUN)
    changed = [token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :] for i in range(len(token))]
    assert [None] * len(token) == [HintTokens(SECRET).verify(each) for each in changed]


@pytest.mark.parametrize("cut", [RUN, RUN + ".", "", ".", "." + HintTokens(SECRET).issue(RUN)[-43:]])
def test_a_truncated_token_is_invalid(cut: str) -> None:
    assert None is HintTokens(SECRET).verify(cut)


@given(st.text())
def test_no_text_causes_an_exception(token: str) -> None:
    """Including lone surrogates, which a raw path may contain."""
    assert None is HintTokens(SECRET).verify(token)
    assert None is HintTokens(SECRET).verify(token + "\udcff.")


def test_a_token_over_the_maximum_length_is_invalid() -> None:
    """Truncation could make two different tokens equal."""
    long = "r" * 156
    assert long == HintTokens(SECRET).verify(HintTokens(SECRET).issue(long))
    assert None is HintTokens(SECRET).verify(HintTokens(SECRET).issue(long) + "x")
    assert None is HintTokens(SECRET).verify(HintTokens(SECRET).issue("r" * 300))
