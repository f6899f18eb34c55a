"""Circuit breaker: thresholds, probes, and results of starts."""

from __future__ import annotations

import pytest

from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker, CircuitState, StartResult
from gateway.runs.resilience.retry import RETRY_RULES, DispatchState
from gateway.settings.sections import BreakerSettings
from providers.contract import Cause
from tests.support.clock import ManualClock

DEFAULT_CONFIG = BreakerConfig()


def start(breaker: CircuitBreaker) -> int:
    """Request a start that must be allowed; returns its generation."""
    generation = breaker.allow_start()
    assert generation is not None
    return generation


def open_breaker(clock: ManualClock, config: BreakerConfig = DEFAULT_CONFIG) -> CircuitBreaker:
    """Return a breaker that has just opened."""
    breaker = CircuitBreaker(config, clock.monotonic)
    for _ in range(config.min_failures):
        breaker.record(StartResult.FAILURE, start(breaker))
    assert CircuitState.OPEN is breaker.state
    return breaker


def test_the_defaults_are_the_documented_ones() -> None:
    """Defaults of the settings and of the class are equal."""
    settings = BreakerSettings()
    assert (
        BreakerConfig(settings.failures, settings.ratio, settings.window, settings.cooldown, settings.cooldown_max)
        == DEFAULT_CONFIG
    )
    assert (3, 0.8, 10, 10, 300, 6) == (
        DEFAULT_CONFIG.min_failures,
        DEFAULT_CONFIG.failure_ratio,
        DEFAULT_CONFIG.window,
        DEFAULT_CONFIG.cooldown,
        DEFAULT_CONFIG.cooldown_max,
        DEFAULT_CONFIG.cooldown_growth,
    )


def test_it_opens_with_the_third_failure_and_says_for_how_long() -> None:
    """R23: no start during the cool-down, and the exact remaining time."""
    clock = ManualClock()
    breaker = CircuitBreaker(DEFAULT_CONFIG, clock.monotonic)
    for _ in range(2):
        breaker.record(StartResult.FAILURE, start(breaker))
        assert (CircuitState.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    breaker.record(StartResult.FAILURE, start(breaker))
    assert (CircuitState.OPEN, 10.0) == (breaker.state, breaker.retry_after())
    clock.advance(9.75)
    assert (None, 0.25) == (breaker.allow_start(), breaker.retry_after())


def test_failures_among_many_successes_do_not_open_it() -> None:
    """Four fifths of the starts must have failed."""
    breaker = CircuitBreaker(DEFAULT_CONFIG, ManualClock().monotonic)
    for _ in range(10):
        breaker.record(StartResult.SUCCESS, start(breaker))
    for _ in range(39):
        breaker.record(StartResult.FAILURE, start(breaker))
        assert CircuitState.CLOSED is breaker.state
    breaker.record(StartResult.FAILURE, start(breaker))
    assert CircuitState.OPEN is breaker.state


def test_failures_far_apart_do_not_open_it() -> None:
    """Results older than the window do not count."""
    clock = ManualClock()
    breaker = CircuitBreaker(DEFAULT_CONFIG, clock.monotonic)
    for _ in range(20):
        breaker.record(StartResult.FAILURE, start(breaker))
        clock.advance(5.1)
    assert CircuitState.CLOSED is breaker.state


def test_one_of_a_hundred_starts_is_allowed_as_probe_after_the_cool_down() -> None:
    """R23: exactly one probe at any parallelism; Retry-After is 1 s meanwhile."""
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(10)
    allowed = [generation for generation in (breaker.allow_start() for _ in range(100)) if generation is not None]
    assert (1, CircuitState.HALF_OPEN, 1.0) == (len(allowed), breaker.state, breaker.retry_after())


def test_a_successful_probe_closes_the_circuit_and_clears_the_window() -> None:
    """R23: the next outage has the initial threshold and cool-down."""
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(10)
    breaker.record(StartResult.FAILURE, start(breaker))
    clock.advance(60)
    breaker.record(StartResult.SUCCESS, start(breaker))
    assert (CircuitState.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    for _ in range(4):  # one success and four failures are four fifths
        assert CircuitState.CLOSED is breaker.state
        breaker.record(StartResult.FAILURE, start(breaker))
    assert (CircuitState.OPEN, 10.0) == (breaker.state, breaker.retry_after())


def test_failures_before_a_successful_probe_are_forgotten() -> None:
    """If the cool-down is shorter than the window, one more failure does not open the circuit."""
    clock = ManualClock()
    breaker = open_breaker(clock, BreakerConfig(cooldown=1))
    clock.advance(1)
    breaker.record(StartResult.SUCCESS, start(breaker))
    breaker.record(StartResult.FAILURE, start(breaker))
    assert CircuitState.CLOSED is breaker.state


def test_each_failed_probe_opens_it_for_longer_up_to_a_bound() -> None:
    """R23: 10 s, one minute, five minutes."""
    clock = ManualClock()
    breaker = open_breaker(clock)
    waits = []
    for _ in range(4):
        waits.append(breaker.retry_after())
        clock.advance(waits[-1])
        breaker.record(StartResult.FAILURE, start(breaker))
    assert [10, 60, 300, 300] == waits


def test_an_inconclusive_probe_allows_the_next_probe() -> None:
    """A client that disconnects during the probe neither adds a cool-down nor blocks the circuit."""
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(10)
    breaker.record(StartResult.INCONCLUSIVE, start(breaker))
    assert (CircuitState.OPEN, 0.0) == (breaker.state, breaker.retry_after())
    start(breaker)
    assert None is breaker.allow_start()


@pytest.mark.parametrize("result", StartResult)
def test_a_result_of_an_earlier_generation_is_not_the_result_of_the_probe(result: StartResult) -> None:
    """A start from before the circuit opened neither ends the probe nor allows a second one."""
    clock = ManualClock()
    breaker = CircuitBreaker(DEFAULT_CONFIG, clock.monotonic)
    late_start = start(breaker)
    for _ in range(3):
        breaker.record(StartResult.FAILURE, start(breaker))
    clock.advance(10)
    probe = start(breaker)
    breaker.record(result, late_start)
    assert (CircuitState.HALF_OPEN, None) == (breaker.state, breaker.allow_start())
    breaker.record(StartResult.SUCCESS, probe)
    assert CircuitState.CLOSED is breaker.state


def test_failures_of_an_earlier_generation_do_not_open_the_circuit_again() -> None:
    """Timeouts of starts from before the recovery do not count."""
    clock = ManualClock()
    breaker = CircuitBreaker(DEFAULT_CONFIG, clock.monotonic)
    late_starts = [start(breaker) for _ in range(100)]
    for _ in range(3):
        breaker.record(StartResult.FAILURE, start(breaker))
    clock.advance(10)
    breaker.record(StartResult.SUCCESS, start(breaker))
    for generation in late_starts:
        breaker.record(StartResult.FAILURE, generation)
    assert CircuitState.CLOSED is breaker.state


def test_rejections_by_the_provider_never_open_the_circuit() -> None:
    """R23: no cause for a 4xx opens it; only failures of the provider do."""
    tripping = {cause for cause, each in RETRY_RULES.items() if each.trips_breaker}
    refusals = {Cause.THROTTLED, Cause.REJECTED, Cause.CREDENTIALS, Cause.NOT_FOUND}
    assert set() == tripping & refusals
    rejected = {cause for cause, each in RETRY_RULES.items() if each.dispatched is DispatchState.REJECTED}
    assert {Cause.UNAVAILABLE} == tripping & rejected
    assert set(Cause) - tripping == {*refusals, Cause.RUN_FAILED, Cause.EXHAUSTED}


# When it is judged otherwise.


def test_a_new_configuration_applies_from_the_next_result_on() -> None:
    """R100: the counts are kept."""
    clock = ManualClock()
    breaker = CircuitBreaker(BreakerConfig(min_failures=5), clock.monotonic)
    for _ in range(3):
        breaker.record(StartResult.FAILURE, start(breaker))
    breaker.reconfigure(BreakerConfig(min_failures=4, cooldown=20))
    assert CircuitState.CLOSED is breaker.state
    breaker.record(StartResult.FAILURE, start(breaker))
    assert (CircuitState.OPEN, 20) == (breaker.state, breaker.retry_after())


def test_an_open_circuit_stays_open() -> None:
    """R100: a changed configuration does not close it."""
    clock = ManualClock()
    breaker = open_breaker(clock)
    breaker.reconfigure(BreakerConfig(window=60, cooldown=100))
    assert (CircuitState.OPEN, 10) == (breaker.state, breaker.retry_after())
    breaker.reconfigure(BreakerConfig(cooldown=2, cooldown_max=4))
    assert 4 == breaker.retry_after()
    clock.advance(4)
    breaker.record(StartResult.SUCCESS, start(breaker))
    for _ in range(4):
        breaker.record(StartResult.FAILURE, start(breaker))
    assert 2 == breaker.retry_after()


def test_another_window_counts_anew() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(DEFAULT_CONFIG, clock.monotonic)
    for _ in range(2):
        breaker.record(StartResult.FAILURE, start(breaker))
    breaker.reconfigure(BreakerConfig(window=60))
    breaker.record(StartResult.FAILURE, start(breaker))
    clock.advance(30)
    seen = []
    for _ in range(2):
        breaker.record(StartResult.FAILURE, start(breaker))
        seen.append(breaker.state)
    assert [CircuitState.CLOSED, CircuitState.OPEN] == seen
