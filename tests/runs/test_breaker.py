"""The circuit breaker: when it opens, whom it lets try, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.runs.breaker import Breaker, State, Tolerance
from gateway.runs.retry import RULES, Sent
from gateway.settings.sections import BreakerSettings
from providers.contract import Cause
from tests.manual_clock import ManualClock

USUAL = Tolerance()


def start(breaker: Breaker) -> int:
    """A start that must be allowed; its era."""
    era = breaker.allow()
    assert era is not None
    return era


def opened(clock: ManualClock, tolerance: Tolerance = USUAL) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(tolerance, clock.monotonic)
    for _ in range(tolerance.failures):
        breaker.failed(start(breaker))
    assert State.OPEN is breaker.state
    return breaker


def test_the_defaults_are_the_documented_ones() -> None:
    """The settings' defaults and the room's own are the same numbers."""
    s = BreakerSettings()
    assert Tolerance(s.failures, s.ratio, s.window, s.cooldown, s.cooldown_max) == USUAL
    assert (3, 0.8, 10, 10, 300, 6) == (
        USUAL.failures,
        USUAL.ratio,
        USUAL.window,
        USUAL.cooldown,
        USUAL.cooldown_max,
        USUAL.growth,
    )


def test_it_opens_with_the_third_failure_and_says_for_how_long() -> None:
    """R23: until the cool-down has passed nothing goes through, and the time that is left is told exactly."""
    clock = ManualClock()
    breaker = Breaker(USUAL, clock.monotonic)
    for _ in range(2):
        breaker.failed(start(breaker))
        assert (State.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    breaker.failed(start(breaker))
    assert (State.OPEN, 10.0) == (breaker.state, breaker.retry_after())
    clock.advance(9.75)
    assert (None, 0.25) == (breaker.allow(), breaker.retry_after())


def test_failures_among_many_successes_do_not_open_it() -> None:
    """A provider that fails now and then is not left alone: four fifths of the starts must have failed."""
    breaker = Breaker(USUAL, ManualClock().monotonic)
    for _ in range(10):
        breaker.succeeded(start(breaker))
    for _ in range(39):
        breaker.failed(start(breaker))
        assert State.CLOSED is breaker.state
    breaker.failed(start(breaker))
    assert State.OPEN is breaker.state


def test_failures_far_apart_do_not_open_it() -> None:
    """What is older than the window is forgotten."""
    clock = ManualClock()
    breaker = Breaker(USUAL, clock.monotonic)
    for _ in range(20):
        breaker.failed(start(breaker))
        clock.advance(5.1)
    assert State.CLOSED is breaker.state


def test_one_of_a_hundred_may_try_after_the_cool_down() -> None:
    """R23: exactly one probe, whatever the parallelism; meanwhile nobody knows when the next may come: 1 s."""
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    allowed = [era for era in (breaker.allow() for _ in range(100)) if era is not None]
    assert (1, State.HALF_OPEN, 1.0) == (len(allowed), breaker.state, breaker.retry_after())


def test_a_good_probe_closes_it_and_forgets_what_was() -> None:
    """R23: the next outage begins at the first cool-down, after as many failures as the first did."""
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    breaker.failed(start(breaker))
    clock.advance(60)
    breaker.succeeded(start(breaker))
    assert (State.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    for _ in range(4):  # one success and four failures are four fifths
        assert State.CLOSED is breaker.state
        breaker.failed(start(breaker))
    assert (State.OPEN, 10.0) == (breaker.state, breaker.retry_after())


def test_failures_of_before_a_good_probe_are_forgotten() -> None:
    """Where the cool-down is shorter than the window, one more failure does not open it again."""
    clock = ManualClock()
    breaker = opened(clock, Tolerance(cooldown=1))
    clock.advance(1)
    breaker.succeeded(start(breaker))
    breaker.failed(start(breaker))
    assert State.CLOSED is breaker.state


def test_each_failed_probe_opens_it_for_longer_up_to_a_bound() -> None:
    """R23: 10 s, a minute, then five."""
    clock = ManualClock()
    breaker = opened(clock)
    waits = []
    for _ in range(4):
        waits.append(breaker.retry_after())
        clock.advance(waits[-1])
        breaker.failed(start(breaker))
    assert [10, 60, 300, 300] == waits


def test_a_probe_that_taught_nothing_leaves_its_place_to_the_next() -> None:
    """A client that leaves while it probes costs no cool-down, and does not block the circuit for ever."""
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    breaker.gave_up(start(breaker))
    assert (State.OPEN, 0.0) == (breaker.state, breaker.retry_after())
    start(breaker)
    assert None is breaker.allow()


@pytest.mark.parametrize("word", [Breaker.gave_up, Breaker.failed, Breaker.succeeded])
def test_what_is_heard_late_is_not_the_probes_answer(word: Callable[[Breaker, int], None]) -> None:
    """A start that hung since before the circuit opened neither ends the probe nor lets a second one out."""
    clock = ManualClock()
    breaker = Breaker(USUAL, clock.monotonic)
    straggler = start(breaker)
    for _ in range(3):
        breaker.failed(start(breaker))
    clock.advance(10)
    probe = start(breaker)
    word(breaker, straggler)
    assert (State.HALF_OPEN, None) == (breaker.state, breaker.allow())
    breaker.succeeded(probe)
    assert State.CLOSED is breaker.state


def test_what_is_heard_late_does_not_open_it_again() -> None:
    """A hundred starts that time out together, of before the provider came back, say nothing about it now."""
    clock = ManualClock()
    breaker = Breaker(USUAL, clock.monotonic)
    stragglers = [start(breaker) for _ in range(100)]
    for _ in range(3):
        breaker.failed(start(breaker))
    clock.advance(10)
    breaker.succeeded(start(breaker))
    for era in stragglers:
        breaker.failed(era)
    assert State.CLOSED is breaker.state


def test_what_a_provider_turned_away_never_opens_it() -> None:
    """R23: of the causes that mean a 4xx none trips; what trips is that the provider did not do its part."""
    tripping = {cause for cause, each in RULES.items() if each.trips}
    refusals = {Cause.THROTTLED, Cause.REJECTED, Cause.CREDENTIALS, Cause.NOT_FOUND}
    assert set() == tripping & refusals
    rejected = {cause for cause, each in RULES.items() if each.sent is Sent.REJECTED}
    assert {Cause.UNAVAILABLE} == tripping & rejected
    assert set(Cause) - tripping == {*refusals, Cause.RUN_FAILED, Cause.EXHAUSTED}


# When it is judged otherwise.


def test_another_tolerance_holds_from_the_next_word_on() -> None:
    """R100: what was counted counts."""
    clock = ManualClock()
    breaker = Breaker(Tolerance(failures=5), clock.monotonic)
    for _ in range(3):
        breaker.failed(start(breaker))
    breaker.reconfigure(Tolerance(failures=4, cooldown=20))
    assert State.CLOSED is breaker.state
    breaker.failed(start(breaker))
    assert (State.OPEN, 20) == (breaker.state, breaker.retry_after())


def test_an_open_circuit_stays_open() -> None:
    """R100: a change of the numbers says nothing about the provider."""
    clock = ManualClock()
    breaker = opened(clock)
    breaker.reconfigure(Tolerance(window=60, cooldown=100))
    assert (State.OPEN, 10) == (breaker.state, breaker.retry_after())
    breaker.reconfigure(Tolerance(cooldown=2, cooldown_max=4))
    assert 4 == breaker.retry_after()
    clock.advance(4)
    breaker.succeeded(start(breaker))
    for _ in range(4):
        breaker.failed(start(breaker))
    assert 2 == breaker.retry_after()


def test_another_window_counts_anew() -> None:
    clock = ManualClock()
    breaker = Breaker(USUAL, clock.monotonic)
    for _ in range(2):
        breaker.failed(start(breaker))
    breaker.reconfigure(Tolerance(window=60))
    breaker.failed(start(breaker))
    clock.advance(30)
    seen = []
    for _ in range(2):
        breaker.failed(start(breaker))
        seen.append(breaker.state)
    assert [State.CLOSED, State.OPEN] == seen
