"""Daily quota: ends at midnight UTC, independent of steps of the wall clock (R87)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.daily_quota import DailyQuota
from tests.support.clock import ManualClock

HOUR = 3600.0


def _quota(hour: int = 12, *, limit: int = 3) -> tuple[DailyQuota, ManualClock]:
    clock = ManualClock(datetime(2026, 11, 21, hour, tzinfo=UTC))
    return DailyQuota(limit, clock), clock


def _exhaust(quota: DailyQuota, clock: ManualClock) -> int:
    used = 0
    while quota.remaining(clock.monotonic()) > 0:
        quota.take(clock.monotonic())
        used += 1
    return used


def test_a_day_ends_at_midnight_utc() -> None:
    quota, clock = _quota()
    assert 3 == _exhaust(quota, clock)
    assert 12 * HOUR == quota.resets_in(clock.monotonic())
    clock.advance(12 * HOUR - 0.001)
    assert 0 == _exhaust(quota, clock)
    clock.advance(0.001)
    assert 3 == _exhaust(quota, clock)
    assert pytest.approx(24 * HOUR) == quota.resets_in(clock.monotonic())


@given(st.lists(st.floats(-HOUR, HOUR), max_size=8))
def test_steps_of_the_wall_clock_neither_give_nor_take(steps: list[float]) -> None:
    """R87: after steps of the wall clock by up to an hour, the quota and the end of the day are unchanged."""
    quota, clock = _quota()
    quota.remaining(clock.monotonic())
    quota.take(clock.monotonic())
    for step in steps:
        clock.step_wall(step)
        assert 2 == quota.remaining(clock.monotonic())
    assert 12 * HOUR == quota.resets_in(clock.monotonic())


def test_a_wall_clock_set_back_before_midnight_gives_no_second_small_day() -> None:
    """R87: the day ends on time, and the next one lasts until the midnight after the one that is still ahead."""
    quota, clock = _quota()
    _exhaust(quota, clock)
    clock.step_wall(-HOUR)
    clock.advance(12 * HOUR)
    assert 3 == _exhaust(quota, clock)
    clock.advance(HOUR)
    assert 0 == _exhaust(quota, clock)
    clock.advance(24 * HOUR)
    assert 3 == _exhaust(quota, clock)


def test_a_wall_clock_set_forward_shortens_only_the_next_day() -> None:
    quota, clock = _quota()
    _exhaust(quota, clock)
    clock.step_wall(HOUR)
    clock.advance(12 * HOUR)
    assert 3 == _exhaust(quota, clock)
    assert 23 * HOUR == quota.resets_in(clock.monotonic())


@pytest.mark.parametrize("idle", [0.0, 72 * HOUR])
def test_a_first_request_late_in_the_day_opens_a_short_day(idle: float) -> None:
    quota, clock = _quota(23)
    if idle:
        quota.remaining(clock.monotonic())
    clock.advance(idle)
    quota.remaining(clock.monotonic())
    assert HOUR == quota.resets_in(clock.monotonic())


def test_a_refund_gives_one_back_and_never_more_than_was_used() -> None:
    quota, clock = _quota()
    _exhaust(quota, clock)
    quota.refund()
    assert 1 == quota.remaining(clock.monotonic())
    for _ in range(5):
        quota.refund()
    assert 3 == quota.remaining(clock.monotonic())


@given(st.floats(0, 12 * HOUR), st.floats(0, 12 * HOUR))
def test_a_request_after_the_announced_wait_is_allowed(before: float, after: float) -> None:
    """R85 for the daily quota, independent of rounding errors."""
    quota, clock = _quota(0)
    clock.advance(before)
    _exhaust(quota, clock)
    clock.advance(after)
    assert 0 == quota.remaining(clock.monotonic()) or before + after >= 24 * HOUR - 1e-5
    clock.advance(quota.resets_in(clock.monotonic()))
    assert 3 == quota.remaining(clock.monotonic())
