"""Runs by number: the same everywhere, nobody else's, and exact in every client's language."""

from __future__ import annotations

import re

import pytest

from gateway.runs.numbers import Numbers
from tests.manual_clock import ManualClock

NUMBERS = Numbers(b"a secret of the store")


def test_a_number_stands_for_the_same_run_in_every_process_that_has_the_secret() -> None:
    assert NUMBERS.run_id("one", 501) == Numbers(b"a secret of the store").run_id("one", 501)
    assert NUMBERS.of_channel("one", "a71d") == Numbers(b"a secret of the store").of_channel("one", "a71d")


def test_the_id_is_like_every_runs() -> None:
    assert re.fullmatch(r"run_[0-9a-f]{32}", NUMBERS.run_id("one", 501))


@pytest.mark.parametrize(
    "other",
    [
        NUMBERS.run_id("two", 501),
        NUMBERS.run_id("one", 502),
        NUMBERS.run_id("one5", 1),
        Numbers(b"another secret").run_id("one", 501),
    ],
)
def test_another_client_number_or_secret_is_another_run(other: str) -> None:
    assert NUMBERS.run_id("one", 501) != other


def test_a_channel_belongs_to_its_client() -> None:
    own = NUMBERS.of_channel("one", "a71d")
    assert own not in {NUMBERS.of_channel("two", "a71d"), NUMBERS.of_channel("one", "a71e")}
    assert NUMBERS.of_channel("on", "ea71d") != own, "where one part ends and the next begins counts"


def test_numbers_are_above_zero_and_exact_in_javascript() -> None:
    clock = ManualClock()
    drawn = [Numbers.draw(clock) for _ in range(2000)]
    derived = [NUMBERS.of_channel("one", str(n)) for n in range(2000)]
    for numbers in (drawn, derived):
        assert len(set(numbers)) == 2000
        assert all(1 <= number < 2**53 for number in numbers)
        assert max(numbers) > 2**51, "the whole width is used"


def test_a_channel_may_be_any_text() -> None:
    """A client's JSON may hold half of a surrogate pair."""
    assert NUMBERS.of_channel("one", "\ud800") >= 1


def test_the_secret_is_not_shown() -> None:
    assert "secret of" not in repr(NUMBERS)
