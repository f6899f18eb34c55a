"""Sliding window: counts of recent events, exact to a tenth of the window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.resilience.sliding_window import SlidingWindow
from tests.support.clock import ManualClock

SECONDS = 10.0
STEP = SECONDS / 10


def test_both_kinds_are_counted_separately() -> None:
    window = SlidingWindow(SECONDS, ManualClock().monotonic)
    assert (0, 0) == window.counts()
    window.add(2, 0)
    window.add(1, 5)
    assert (3, 5) == window.counts()


@pytest.mark.parametrize(("seconds", "counted"), [(0, 1), (8.9, 1), (10.1, 0), (25, 0), (1e6, 0)])
def test_events_older_than_the_window_are_forgotten(seconds: float, counted: int) -> None:
    """Also after a pause longer than the window."""
    clock = ManualClock()
    window = SlidingWindow(SECONDS, clock.monotonic)
    window.add(1, 0)
    clock.advance(seconds)
    assert (counted, 0) == window.counts()


def test_buckets_are_cleared_after_a_long_pause() -> None:
    """A reused bucket does not contain earlier counts."""
    clock = ManualClock()
    window = SlidingWindow(SECONDS, clock.monotonic)
    window.add(7, 7)
    clock.advance(SECONDS)
    window.add(1, 2)
    assert (1, 2) == window.counts()


def test_clear_forgets_everything_at_once() -> None:
    window = SlidingWindow(SECONDS, ManualClock().monotonic)
    window.add(3, 4)
    window.clear()
    assert (0, 0) == window.counts()


@given(st.lists(st.tuples(st.floats(0, 15), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_the_window_covers_nine_tenths_to_all_of_its_length(events: list[tuple[float, int, int]]) -> None:
    """Events younger than nine tenths are counted, events older than the window are not."""
    clock = ManualClock()
    window = SlidingWindow(SECONDS, clock.monotonic)
    seen: list[tuple[float, int, int]] = []
    for pause, first, second in events:
        clock.advance(pause)
        window.add(first, second)
        seen.append((clock.monotonic(), first, second))
        now = clock.monotonic()
        certain = [event for event in seen if event[0] > now - SECONDS + STEP + 1e-6]
        possible = [event for event in seen if event[0] > now - SECONDS - 1e-6]
        counts = window.counts()
        for kind, count in enumerate(counts, start=1):
            assert sum(event[kind] for event in certain) <= count <= sum(event[kind] for event in possible)
