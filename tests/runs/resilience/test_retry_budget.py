"""Retry budget: a fifth of the starts and at least three per window, for any traffic pattern."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gateway.runs.resilience.retry_budget import RetryBudget
from tests.support.clock import ManualClock
from tests.support.examples import examples

WINDOW = 10.0  # seconds, to a tenth: what is counted as recent is between 9 and 10 seconds old
EPSILON = 1e-6


def granted_retries(budget: RetryBudget, attempts: int) -> int:
    """Return the number of granted retries."""
    return sum(budget.try_spend() for _ in range(attempts))


@pytest.mark.parametrize(("runs", "granted"), [(0, 3), (1, 3), (15, 3), (16, 3), (19, 3), (20, 4), (100, 20)])
def test_a_fifth_of_the_runs_may_be_repeated_and_three_in_any_case(runs: int, granted: int) -> None:
    """R22: 20 % is not rounded up: 19 runs allow three retries."""
    budget = RetryBudget(ManualClock().monotonic)
    for _ in range(runs):
        budget.record_run()
    assert granted == granted_retries(budget, runs + 10)


def test_what_was_spent_comes_back_with_time() -> None:
    """After a long pause the minimum is available, not earlier credit."""
    clock = ManualClock()
    budget = RetryBudget(clock.monotonic)
    for _ in range(100):
        budget.record_run()
    assert 20 == granted_retries(budget, 50)
    clock.advance(WINDOW + 0.1)
    assert 3 == granted_retries(budget, 50)


def test_an_outage_of_a_minute_is_not_amplified() -> None:
    """R22: 60 s of failures at 100 per second, each requesting a retry: at most 20 % and three per window."""
    clock = ManualClock()
    budget = RetryBudget(clock.monotonic)
    granted = 0
    for _ in range(6000):
        budget.record_run()
        granted += budget.try_spend()
        clock.advance(0.01)
    assert 0.19 * 6000 <= granted <= 0.2 * 6000 + 3


class RetryBudgetModel(RuleBasedStateMachine):
    """Runs and retries in any order, against a reference model."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.budget = RetryBudget(self.clock.monotonic)
        self.runs: list[float] = []
        self.retries: list[float] = []

    @rule(count=st.integers(1, 60))
    def record_runs(self, count: int) -> None:
        """Record runs, each once."""
        for _ in range(count):
            self.budget.record_run()
            self.runs.append(self.clock.monotonic())

    @rule(tries=st.integers(1, 30))
    def request_retries(self, tries: int) -> None:
        """Granted retries are within the budget, and refused ones would exceed it."""
        for _ in range(tries):
            granted = self.budget.try_spend()
            if granted:
                self.retries.append(self.clock.monotonic())
                surely_spent = self._count_since(self.retries, WINDOW * 0.9 - EPSILON)
                assert surely_spent <= max(3, 0.2 * self._count_since(self.runs, WINDOW + EPSILON))
            else:
                perhaps_spent = self._count_since(self.retries, WINDOW + EPSILON)
                assert perhaps_spent + 1 > max(3, 0.2 * self._count_since(self.runs, WINDOW * 0.9 - EPSILON))

    @precondition(lambda self: self.runs or self.retries)
    @rule(seconds=st.one_of(st.floats(0, 3), st.floats(0, 30)))
    def advance_time(self, seconds: float) -> None:
        """Advance by a little, or by several windows."""
        self.clock.advance(seconds)

    def _count_since(self, moments: list[float], seconds: float) -> int:
        return sum(moment > self.clock.monotonic() - seconds for moment in moments)


def test_no_traffic_pattern_gets_more_than_the_retry_ratio() -> None:
    """R22: granted retries of the last window are at most a fifth of its runs, or three."""
    run_state_machine_as_test(RetryBudgetModel, settings=settings(max_examples=examples(60), stateful_step_count=40))
