"""Poll schedule: polls soon after the end of a run, few before it, within the allowed rate."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.polling.schedule import DurationEstimate, PollSchedule

AGES = st.floats(0, 10_000)
DURATIONS = st.lists(st.floats(0, 5_000), max_size=40)


def trained_estimate(
    durations: list[float], min_interval: float = 0.25, max_interval: float = 60.0
) -> DurationEstimate:
    """Return an estimate trained with these durations."""
    estimate = DurationEstimate(min_interval, max_interval)
    for duration in durations:
        estimate.record_duration(duration, duration)
    return estimate


def poll_ages(estimate: DurationEstimate, duration: float) -> list[float]:
    """Return the ages at which a run of that duration is polled; the last poll sees its end."""
    ages = [estimate.next_interval(0.0)]
    while ages[-1] < duration:
        ages.append(ages[-1] + estimate.next_interval(ages[-1]))
    return ages


@given(DURATIONS, AGES)
def test_no_wait_is_shorter_or_longer_than_allowed(durations: list[float], age: float) -> None:
    """For every estimate: polls share the provider's rate limit, and results must not be late."""
    pause = trained_estimate(durations).next_interval(age)
    assert 0.25 - 1e-9 <= pause <= 60.0


@given(DURATIONS, AGES)
def test_what_is_learned_stays_a_number(durations: list[float], age: float) -> None:
    """For durations of 0 and of hours, in any order."""
    estimate = trained_estimate(durations)
    assert math.isfinite(estimate.next_interval(age))
    assert estimate.variance >= 0


@pytest.mark.parametrize("duration", [0.1, 1.0, 10.0, 100.0, 1000.0])
def test_without_samples_a_result_is_seen_soon(duration: float) -> None:
    """Late by at most a quarter of its duration, with few polls."""
    ages = poll_ages(DurationEstimate(0.25, 60.0), duration)
    assert ages[-1] - duration <= max(0.25, 0.25 * duration)
    assert len(ages) <= 45


@pytest.mark.parametrize("usual", [2.0, 20.0, 200.0])
def test_a_usual_duration_is_polled_at_its_time(usual: float) -> None:
    """Runs of constant duration need few polls and have little delay."""
    estimate = trained_estimate([usual] * 20)
    ages = poll_ages(estimate, usual)
    assert ages[-1] - usual <= max(0.25, 0.05 * usual)
    blind = poll_ages(DurationEstimate(0.25, 60.0), usual)
    assert len(ages) < len(blind)


def test_learned_polling_sees_results_sooner_than_unlearned_polling() -> None:
    """Log-normal durations around 20 s: fewer polls and no later results than without samples."""
    chance = random.Random(1)
    durations = [20 * math.exp(chance.gauss(0, 0.3)) for _ in range(300)]
    learned, blind = trained_estimate(durations[:100]), DurationEstimate(0.25, 60.0)
    late, late_blind = (
        median(poll_ages(estimate, duration)[-1] - duration for duration in durations[100:])
        for estimate in (learned, blind)
    )
    often, often_blind = (
        sum(len(poll_ages(rhythm, duration)) for duration in durations[100:]) for rhythm in (learned, blind)
    )
    assert late < late_blind
    assert often < often_blind


def test_a_change_is_learned() -> None:
    """The estimate adapts to a workflow that becomes ten times slower."""
    estimate = trained_estimate([2.0] * 50)
    before = len(poll_ages(estimate, 20.0))
    for _ in range(30):
        estimate.record_duration(20.0, 20.0)
    assert len(poll_ages(estimate, 20.0)) < before


def test_two_samples_do_not_change_the_interval() -> None:
    assert DurationEstimate(0.25, 60.0).next_interval(3.0) == trained_estimate([9.0, 9.0]).next_interval(3.0)


def test_each_workflow_has_its_own_estimate() -> None:
    """It persists between runs."""
    schedule = PollSchedule(0.25, 60.0)
    one, other = schedule.estimate_for("p", "a"), schedule.estimate_for("p", "b")
    for _ in range(5):
        one.record_duration(9.0, 9.0)
    assert schedule.estimate_for("p", "a") is one
    assert one.next_interval(0.0) != other.next_interval(0.0)


def test_new_bounds_apply_to_learned_estimates() -> None:
    """R100: and to workflows without samples."""
    schedule = PollSchedule()
    estimate = schedule.estimate_for("p", "w")
    for _ in range(10):
        estimate.record_duration(100.0, 100.0)
    schedule.reconfigure(1.0, 5.0, 3.0, 7.0)
    assert (5.0, 5.0, 3.0, 7.0) == (
        estimate.next_interval(0.0),
        schedule.estimate_for("p", "other").max_interval,
        schedule.timeout,
        schedule.follow_for,
    )
    assert (10, schedule.estimate_for("p", "w")) == (estimate.samples, estimate)
    assert 1.0 == schedule.estimate_for("p", "other").next_interval(0.0)


@given(DURATIONS, AGES)
def test_polling_with_hints_stays_within_the_same_bounds(durations: list[float], age: float) -> None:
    assert 0.25 - 1e-9 <= trained_estimate(durations).next_interval_with_hints(age) <= 60.0


@pytest.mark.parametrize("usual", [2.0, 20.0])
def test_polling_with_hints_begins_when_a_run_is_late(usual: float) -> None:
    """At 1.5 times a constant duration; then rarely."""
    estimate = trained_estimate([usual] * 20)
    first = estimate.next_interval_with_hints(0.0)
    assert pytest.approx(1.5 * usual) == first
    assert pytest.approx(0.5 * first) == estimate.next_interval_with_hints(first)


def test_polling_with_hints_begins_after_nearly_all_durations() -> None:
    """After the 95th percentile, for any spread."""
    chance = random.Random(1)
    durations = [10 * chance.lognormvariate(0, 0.6) for _ in range(400)]
    first = trained_estimate(durations, max_interval=3600).next_interval_with_hints(0.0)
    assert sum(duration < first for duration in durations) >= 0.95 * len(durations)
