"""When a run is asked about: soon after it ended, seldom in vain, and in no case more often than allowed."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.polling import Rhythm, Schedule

AGES = st.floats(0, 10_000)
DURATIONS = st.lists(st.floats(0, 5_000), max_size=40)


def taught(durations: list[float], first: float = 0.25, longest: float = 60.0) -> Rhythm:
    """A rhythm that has seen runs of these durations."""
    rhythm = Rhythm(first, longest)
    for duration in durations:
        rhythm.learn(duration, duration)
    return rhythm


def asked(rhythm: Rhythm, duration: float) -> list[float]:
    """The ages at which a run of that duration is asked about; the last one is the one that sees its end."""
    ages = [rhythm.pause(0.0)]
    while ages[-1] < duration:
        ages.append(ages[-1] + rhythm.pause(ages[-1]))
    return ages


@given(DURATIONS, AGES)
def test_no_wait_is_shorter_or_longer_than_allowed(durations: list[float], age: float) -> None:
    """Whatever was learned: the provider's rate is shared with starts, and a result must not lie there for ever."""
    pause = taught(durations).pause(age)
    assert 0.25 - 1e-9 <= pause <= 60.0


@given(DURATIONS, AGES)
def test_what_is_learned_stays_a_number(durations: list[float], age: float) -> None:
    """Durations of 0 and of hours, in any order."""
    rhythm = taught(durations)
    assert math.isfinite(rhythm.pause(age))
    assert rhythm.variance >= 0


@pytest.mark.parametrize("duration", [0.1, 1.0, 10.0, 100.0, 1000.0])
def test_before_anything_is_known_a_result_is_seen_soon(duration: float) -> None:
    """A quarter of its duration late at most, and with few questions."""
    ages = asked(Rhythm(0.25, 60.0), duration)
    assert ages[-1] - duration <= max(0.25, 0.25 * duration)
    assert len(ages) <= 45


@pytest.mark.parametrize("usual", [2.0, 20.0, 200.0])
def test_what_is_usual_is_asked_about_at_its_time(usual: float) -> None:
    """Runs that always take as long are seen after a few questions, hardly late."""
    rhythm = taught([usual] * 20)
    ages = asked(rhythm, usual)
    assert ages[-1] - usual <= max(0.25, 0.05 * usual)
    blind = asked(Rhythm(0.25, 60.0), usual)
    assert len(ages) < len(blind)


def test_runs_of_every_kind_are_seen_sooner_than_by_blind_asking() -> None:
    """Log-normal durations around 20 s: learned questions are fewer and no later than unlearned ones."""
    chance = random.Random(1)
    durations = [20 * math.exp(chance.gauss(0, 0.3)) for _ in range(300)]
    learned, blind = taught(durations[:100]), Rhythm(0.25, 60.0)
    late, late_blind = (
        median(asked(rhythm, duration)[-1] - duration for duration in durations[100:]) for rhythm in (learned, blind)
    )
    often, often_blind = (
        sum(len(asked(rhythm, duration)) for duration in durations[100:]) for rhythm in (learned, blind)
    )
    assert late < late_blind
    assert often < often_blind


def test_a_change_is_learned() -> None:
    """A workflow that became ten times slower is not asked about as before for long."""
    rhythm = taught([2.0] * 50)
    before = len(asked(rhythm, 20.0))
    for _ in range(30):
        rhythm.learn(20.0, 20.0)
    assert len(asked(rhythm, 20.0)) < before


def test_nothing_is_concluded_from_two_runs() -> None:
    assert Rhythm(0.25, 60.0).pause(3.0) == taught([9.0, 9.0]).pause(3.0)


def test_each_workflow_has_a_rhythm_of_its_own() -> None:
    """And keeps it: what one run teaches, the next one knows."""
    schedule = Schedule(0.25, 60.0)
    one, other = schedule.of("p", "a"), schedule.of("p", "b")
    for _ in range(5):
        one.learn(9.0, 9.0)
    assert schedule.of("p", "a") is one
    assert one.pause(0.0) != other.pause(0.0)


def test_other_bounds_hold_for_what_was_learned() -> None:
    """R100: and for workflows that were not seen yet."""
    schedule = Schedule()
    rhythm = schedule.of("p", "w")
    for _ in range(10):
        rhythm.learn(100.0, 100.0)
    schedule.reconfigure(1.0, 5.0, 3.0)
    assert (5.0, 5.0, 3.0) == (rhythm.pause(0.0), schedule.of("p", "other").longest, schedule.timeout)
    assert (10, schedule.of("p", "w")) == (rhythm.runs, rhythm)
    assert 1.0 == schedule.of("p", "other").pause(0.0)


@given(DURATIONS, AGES)
def test_who_relies_on_hints_asks_within_the_same_bounds(durations: list[float], age: float) -> None:
    assert 0.25 - 1e-9 <= taught(durations).pause_trusting(age) <= 60.0


@pytest.mark.parametrize("usual", [2.0, 20.0])
def test_who_relies_on_hints_begins_to_ask_when_a_run_is_late(usual: float) -> None:
    """Half as long again as usual, where runs always take as long; then seldom."""
    rhythm = taught([usual] * 20)
    first = rhythm.pause_trusting(0.0)
    assert pytest.approx(1.5 * usual) == first
    assert pytest.approx(0.5 * first) == rhythm.pause_trusting(first)


def test_who_relies_on_hints_leaves_runs_of_all_kinds_alone_for_longer() -> None:
    """Nineteen of twenty durations end before the first question, however they spread."""
    chance = random.Random(1)
    durations = [10 * chance.lognormvariate(0, 0.6) for _ in range(400)]
    first = taught(durations, longest=3600).pause_trusting(0.0)
    assert sum(duration < first for duration in durations) >= 0.95 * len(durations)
