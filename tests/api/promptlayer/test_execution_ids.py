"""Execution ids: equal on every replica, bound to a client, and exact integers in every SDK's language."""

from __future__ import annotations

import re

import pytest

from gateway.api.promptlayer.execution_ids import ExecutionIds
from tests.support.clock import ManualClock

EXECUTION_IDS = ExecutionIds(b"a secret of the store")


def test_an_execution_id_maps_to_the_same_run_in_every_process_with_the_secret() -> None:
    assert EXECUTION_IDS.run_id("one", 501) == ExecutionIds(b"a secret of the store").run_id("one", 501)
    assert EXECUTION_IDS.for_channel("one", "a71d") == ExecutionIds(b"a secret of the store").for_channel("one", "a71d")


def test_the_run_id_has_the_usual_form() -> None:
    assert re.fullmatch(r"run_[0-9a-f]{32}", EXECUTION_IDS.run_id("one", 501))


@pytest.mark.parametrize(
    "other",
    [
        EXECUTION_IDS.run_id("two", 501),
        EXECUTION_IDS.run_id("one", 502),
        EXECUTION_IDS.run_id("one5", 1),
        ExecutionIds(b"another secret").run_id("one", 501),
    ],
)
def test_another_client_number_or_secret_is_another_run(other: str) -> None:
    assert EXECUTION_IDS.run_id("one", 501) != other


def test_a_channel_belongs_to_its_client() -> None:
    own = EXECUTION_IDS.for_channel("one", "a71d")
    assert own not in {EXECUTION_IDS.for_channel("two", "a71d"), EXECUTION_IDS.for_channel("one", "a71e")}
    assert EXECUTION_IDS.for_channel("on", "ea71d") != own, "where one part ends and the next begins counts"


def test_execution_ids_are_positive_and_exact_in_javascript() -> None:
    clock = ManualClock()
    drawn = [ExecutionIds.generate(clock) for _ in range(2000)]
    derived = [EXECUTION_IDS.for_channel("one", str(n)) for n in range(2000)]
    for numbers in (drawn, derived):
        assert len(set(numbers)) == 2000
        assert all(1 <= number < 2**53 for number in numbers)
        assert max(numbers) > 2**51, "the whole width is used"


def test_a_channel_may_be_any_text() -> None:
    """JSON texts may contain an unpaired surrogate."""
    assert EXECUTION_IDS.for_channel("one", "\ud800") >= 1


def test_the_secret_is_not_shown() -> None:
    assert "secret of" not in repr(EXECUTION_IDS)
