"""Circuit breaker against a reference model, under any order of events including late results."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker, CircuitState, StartResult
from tests.support.clock import ManualClock
from tests.support.examples import examples

DEFAULT_CONFIG = BreakerConfig()


class CircuitBreakerModel(RuleBasedStateMachine):
    """Starts that are requested and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.changes: list[CircuitState] = []
        self.breaker = CircuitBreaker(DEFAULT_CONFIG, self.clock.monotonic, self.changes.append)
        self.probe: int | None = None  # the number of the one that is out
        self.blocked_until = 0.0
        self.cooldown = DEFAULT_CONFIG.cooldown
        self.number = 0
        self.in_flight: list[tuple[int, int]] = []  # starts in progress: number and generation
        self.closed_generation: set[int] = set()  # starts allowed in the current generation
        self.successes: list[float] = []
        self.failures: list[float] = []

    @rule(count=st.integers(1, 3))
    def request_starts(self, count: int) -> None:
        """Request further starts."""
        for _ in range(count):
            asked = self._request_start()
            if asked is not None:
                self.in_flight.append(asked)

    @rule()
    def fail_enough_starts(self) -> None:
        """Fail enough starts in sequence to open a closed circuit."""
        for _ in range(DEFAULT_CONFIG.min_failures):
            asked = self._request_start()
            if asked is not None:
                self._end_with_failure(*asked)

    def _request_start(self) -> tuple[int, int] | None:
        """Closed: always allowed. Open: not before its time. Half-open: never."""
        before = self.breaker.state
        generation = self.breaker.allow_start()
        self.number += 1
        if before is CircuitState.CLOSED:
            assert generation is not None
            self.closed_generation.add(self.number)
        elif before is CircuitState.HALF_OPEN:
            assert generation is None, "a second probe was let out"
        else:
            assert (generation is not None) == (self.clock.monotonic() >= self.blocked_until)
        if generation is None:
            return None
        if before is not CircuitState.CLOSED:
            self.probe = self.number
        return self.number, generation

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 1000), how=st.sampled_from(["succeeded", "failed", "given up"]))
    def end_start(self, which: int, how: str) -> None:
        """End any start in progress, also one of an earlier generation."""
        number, generation = self.in_flight.pop(which % len(self.in_flight))
        if how == "failed":
            self._end_with_failure(number, generation)
        elif how == "succeeded":
            self._end_with_success(number, generation)
        else:
            self.breaker.record(StartResult.INCONCLUSIVE, generation)
            self.probe = None if number == self.probe else self.probe

    @rule(seconds=st.one_of(st.none(), st.floats(0, 4), st.floats(0, 400)))
    def advance_time(self, seconds: float | None) -> None:
        """Advance by a little, by a lot, or by exactly the Retry-After."""
        self.clock.advance(self.breaker.retry_after() if seconds is None else seconds)

    @invariant()
    def state_matches_model(self) -> None:
        """Half-open means that a probe is in progress; the remaining cool-down is exact."""
        assert (self.probe is not None) == (self.breaker.state is CircuitState.HALF_OPEN)
        assert self.changes[-1:] in ([], [self.breaker.state])
        if self.breaker.state is CircuitState.OPEN:
            assert max(0.0, self.blocked_until - self.clock.monotonic()) == self.breaker.retry_after()

    def _end_with_success(self, number: int, generation: int) -> None:
        """A successful probe closes the circuit; results of earlier generations have no effect."""
        self.breaker.record(StartResult.SUCCESS, generation)
        if number == self.probe:
            self._mark_closed()
            self.successes = [self.clock.monotonic()]
        elif number in self.closed_generation:
            self.successes.append(self.clock.monotonic())

    def _end_with_failure(self, number: int, generation: int) -> None:
        """A failed probe opens it for longer; enough failures of the current generation open it."""
        self.breaker.record(StartResult.FAILURE, generation)
        if number == self.probe:
            self.cooldown = min(self.cooldown * 6, 300)
            self._mark_open()
        elif number in self.closed_generation:
            self.failures.append(self.clock.monotonic())
            self._check_opening()

    def _check_opening(self) -> None:
        """Assert after a failure that the circuit opened if and only if required."""
        is_open = self.breaker.state is CircuitState.OPEN
        min_window, max_window = DEFAULT_CONFIG.window * 0.9 - 1e-6, DEFAULT_CONFIG.window + 1e-6
        if self._recent(self.failures, max_window) < 3 or self._failure_ratio(min_window, max_window) < 0.8:
            assert not is_open
        if self._recent(self.failures, min_window) >= 3 and self._failure_ratio(max_window, min_window) >= 0.8:
            assert is_open
        if is_open:
            self._mark_open()

    def _failure_ratio(self, success_window: float, failure_window: float) -> float:
        failures = self._recent(self.failures, failure_window)
        return failures / (failures + self._recent(self.successes, success_window))

    def _recent(self, moments: list[float], seconds: float) -> int:
        return sum(moment > self.clock.monotonic() - seconds for moment in moments)

    def _mark_open(self) -> None:
        self.probe = None
        self.closed_generation.clear()
        self.blocked_until = self.clock.monotonic() + self.cooldown

    def _mark_closed(self) -> None:
        self.probe = None
        self.cooldown = DEFAULT_CONFIG.cooldown
        self.successes, self.failures = [], []
        self.closed_generation.clear()


def test_no_sequence_of_events_breaks_the_rules_of_the_breaker() -> None:
    """R23: one probe at a time, none before its time, longer cool-downs after failures, closed by a success."""
    run_state_machine_as_test(
        CircuitBreakerModel, settings=settings(max_examples=examples(150), stateful_step_count=60)
    )
