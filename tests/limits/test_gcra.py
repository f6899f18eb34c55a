"""GCRA: never more than the burst and the rate, and exact waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.config import RateLimit
from gateway.limits.gcra import RateLimiter

RATES = st.builds(RateLimit, st.floats(0.1, 1000), st.floats(0.1, 86_400))
GAPS = st.lists(st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 0.01)), max_size=80)
START = 1000.0


def _try_take(limiter: RateLimiter, now: float) -> bool:
    if limiter.blocked(now):
        return False
    limiter.take(now)
    return True


@given(RATES, st.integers(1, 50), GAPS)
def test_no_window_holds_more_than_burst_and_rate(rate: RateLimit, burst: int, gaps: list[float]) -> None:
    limiter, now, taken = RateLimiter(rate, burst), START, []
    for gap in gaps:
        now += gap * rate.per / rate.count
        if _try_take(limiter, now):
            taken.append(now)
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            # A small part of a request: the epsilon of one microsecond, and rounding errors.
            assert last - first + 1 <= burst + (end - start + 2e-6) * rate.count / rate.per + 1e-6


@given(RATES, st.integers(1, 50))
def test_the_whole_burst_passes_at_once(rate: RateLimit, burst: int) -> None:
    limiter = RateLimiter(rate, burst)
    assert [True] * burst == [_try_take(limiter, START) for _ in range(burst)]


@given(RATES, st.integers(1, 10), GAPS, st.floats(0, 1e7))
def test_the_announced_wait_is_exact(rate: RateLimit, burst: int, gaps: list[float], start: float) -> None:
    """R85."""
    limiter, now = RateLimiter(rate, burst), start
    for gap in gaps:
        now += gap * rate.per / rate.count
        _try_take(limiter, now)
    wait = limiter.wait_time(now)
    assert limiter.blocked(now) == (wait > 1e-6)
    assert not limiter.blocked(now + wait)
    assert wait < 1e-4 or limiter.blocked(now + wait - 5e-5)


def test_the_wait_time_includes_the_requests_ahead() -> None:
    limiter = RateLimiter(RateLimit(10), 2)
    assert [0.0, 0.0, 0.1, 0.2] == pytest.approx([limiter.wait_time(START, count) for count in (1, 2, 3, 4)])
    limiter.take(START)
    limiter.take(START)
    assert [0.1, 0.2] == pytest.approx([limiter.wait_time(START, count) for count in (1, 2)])


@given(RATES, st.integers(1, 50), st.integers(0, 60))
def test_the_remaining_requests_are_the_requests_allowed(rate: RateLimit, burst: int, used: int) -> None:
    limiter = RateLimiter(rate, burst)
    for _ in range(used):
        _try_take(limiter, START)
    left, _ = limiter.remaining(START)
    assert max(0, burst - used) == left
    assert left == sum(_try_take(limiter, START) for _ in range(left + 1))


@given(RATES, st.integers(1, 50), st.integers(1, 60))
def test_one_more_request_is_allowed_after_the_announced_seconds(rate: RateLimit, burst: int, used: int) -> None:
    limiter = RateLimiter(rate, burst)
    for _ in range(used):
        _try_take(limiter, START)
    left, more_in = limiter.remaining(START)
    assert more_in >= 1
    assert limiter.remaining(START + more_in)[0] > left


def test_a_refund_undoes_a_take() -> None:
    limiter = RateLimiter(RateLimit(1), 1)
    limiter.take(START)
    limiter.refund()
    assert (1, 1) == limiter.remaining(START)
    assert _try_take(limiter, START)


def test_a_rate_allows_a_request_from_available_at_on() -> None:
    limiter = RateLimiter(RateLimit(1), 1)
    limiter.take(START)
    assert not limiter.blocked(limiter.available_at())
    assert START + 1 == pytest.approx(limiter.available_at(), abs=2e-6)


def test_without_a_rate_every_request_is_allowed() -> None:
    limiter = RateLimiter(None)
    assert all(_try_take(limiter, START) for _ in range(1000))
    assert 0.0 == limiter.wait_time(START, 1000)
    assert not limiter.limited


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(RateLimit(20), 20), (RateLimit(2.5), 3), (RateLimit(5, 60), 1), (RateLimit(600, 60), 10), (RateLimit(0.1), 1)],
)
def test_the_default_burst_is_the_requests_of_one_second(rate: RateLimit, burst: int) -> None:
    assert burst == RateLimiter(rate).burst


@pytest.mark.parametrize(("count", "per"), [(0, 1), (-1, 1), (1, 0), (float("inf"), 1), (1, float("nan"))])
def test_an_invalid_rate_is_refused(count: float, per: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        RateLimit(count, per)
