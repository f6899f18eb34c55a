"""Seals: whoever has the secret knows its own, and nobody else can make one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.seals import Seals

SECRET = bytes(range(32))
RUN = "run_0123456789abcdef0123456789abcdef"


def test_any_replica_with_the_secret_reads_a_seal() -> None:
    assert RUN == Seals(SECRET).read_hint(Seals(SECRET).hint(RUN))


def test_a_seal_needs_no_encoding_in_a_path() -> None:
    assert all(c.isalnum() or c in "_.-" for c in Seals(SECRET).hint(RUN))


def test_another_secret_reads_nothing() -> None:
    assert None is Seals(b"another" * 5).read_hint(Seals(SECRET).hint(RUN))


def test_every_change_of_a_character_breaks_it() -> None:
    seal = Seals(SECRET).hint(RUN)
    changed = [seal[:i] + ("A" if seal[i] != "A" else "B") + seal[i + 1 :] for i in range(len(seal))]
    assert [None] * len(seal) == [Seals(SECRET).read_hint(each) for each in changed]


@pytest.mark.parametrize("cut", [RUN, RUN + ".", "", ".", "." + Seals(SECRET).hint(RUN)[-43:]])
def test_a_part_of_one_is_none(cut: str) -> None:
    assert None is Seals(SECRET).read_hint(cut)


@given(st.text())
def test_nothing_that_comes_makes_it_fail(token: str) -> None:
    """Not even lone surrogates, which a raw path may hold."""
    assert None is Seals(SECRET).read_hint(token)
    assert None is Seals(SECRET).read_hint(token + "\udcff.")


def test_what_is_too_long_is_not_looked_at_as_a_whole() -> None:
    """Two different tokens must not be the same after they are cut."""
    long = "r" * 156
    assert long == Seals(SECRET).read_hint(Seals(SECRET).hint(long))
    assert None is Seals(SECRET).read_hint(Seals(SECRET).hint(long) + "x")
    assert None is Seals(SECRET).read_hint(Seals(SECRET).hint("r" * 300))
