"""Limits of a client: exact refusals, and the header fields of the draft."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RateLimited, RunError
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.config import ClientLimitsConfig, RateLimit
from tests.support.clock import ManualClock

FULL = ClientLimitsConfig(RateLimit(20), 40, 50, 10_000)


def _limiter(limits: ClientLimitsConfig) -> tuple[ClientLimiter, ManualClock]:
    clock = ManualClock(datetime(2026, 11, 21, 12, tzinfo=UTC))
    return ClientLimiter(limits, clock), clock


def _try_acquire(limiter: ClientLimiter, clock: ManualClock) -> RunError | None:
    problem = limiter.refusal(clock.monotonic())
    if problem is None:
        limiter.take(clock.monotonic())
    return problem


def _refusal(limiter: ClientLimiter, clock: ManualClock) -> RunError:
    problem = _try_acquire(limiter, clock)
    assert problem is not None
    return problem


def test_a_response_has_the_policies_and_the_remaining_quota() -> None:
    limiter, clock = _limiter(ClientLimitsConfig(RateLimit(20), 40, daily=10_000))
    _try_acquire(limiter, clock)
    assert (
        ("RateLimit-Policy", '"rate";q=40;w=2, "daily";q=10000;w=86400'),
        ("RateLimit", '"rate";r=39;t=1, "daily";r=9999;t=43200'),
    ) == limiter.header_fields(clock.monotonic())


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        (ClientLimitsConfig(RateLimit(5, 60)), {"RateLimit-Policy": '"rate";q=1;w=12', "RateLimit": '"rate";r=0;t=12'}),
        (
            ClientLimitsConfig(RateLimit(10, 11), 10),
            {"RateLimit-Policy": '"rate";q=10;w=11', "RateLimit": '"rate";r=9;t=2'},
        ),
        (ClientLimitsConfig(daily=3), {"RateLimit-Policy": '"daily";q=3;w=86400', "RateLimit": '"daily";r=2;t=43200'}),
        (ClientLimitsConfig(concurrency=2), {"RateLimit-Policy": '"concurrency";q=2;qu="concurrent-requests"'}),
        (ClientLimitsConfig(), {}),
    ],
)
def test_header_fields_list_only_configured_policies(limits: ClientLimitsConfig, fields: dict[str, str]) -> None:
    limiter, clock = _limiter(limits)
    _try_acquire(limiter, clock)
    assert fields == dict(limiter.header_fields(clock.monotonic()))


def test_ten_of_a_hundred_pass_and_the_others_get_the_exact_retry_after() -> None:
    """R85: limit 10/s burst 10, 100 at once: 10 pass; Retry-After >= t, and that wait is sufficient."""
    limiter, clock = _limiter(ClientLimitsConfig(RateLimit(10), 10))
    problems = [problem for _ in range(100) if (problem := _try_acquire(limiter, clock)) is not None]
    assert 90 == len(problems)
    problem = problems[-1]
    assert isinstance(problem, RateLimited)
    assert pytest.approx(0.1) == problem.retry_after
    assert (("RateLimit-Policy", '"rate";q=10;w=1'), ("RateLimit", '"rate";r=0;t=1')) == problem.headers
    clock.advance(problem.retry_after or 0)
    assert _try_acquire(limiter, clock) is None
    assert _try_acquire(limiter, clock) is not None


def test_a_refusal_lists_the_policies_that_refuse_and_waits_for_all_of_them() -> None:
    """R85: Retry-After is never earlier than any `t`, and after it every policy allows the request."""
    limiter, clock = _limiter(ClientLimitsConfig(RateLimit(1), 1, daily=1))
    _try_acquire(limiter, clock)
    problem = _refusal(limiter, clock)
    assert ("RateLimit", '"rate";r=0;t=1, "daily";r=0;t=43200') == problem.headers[1]
    assert 12 * 3600.0 == problem.retry_after
    clock.advance(problem.retry_after)
    assert _try_acquire(limiter, clock) is None


def test_a_policy_with_something_left_is_not_listed_in_a_refusal() -> None:
    """The `t` of the daily quota would be later than the Retry-After of the rate."""
    limiter, clock = _limiter(FULL)
    for _ in range(40):
        _try_acquire(limiter, clock)
    assert ("RateLimit", '"rate";r=0;t=1') == _refusal(limiter, clock).headers[1]


def test_a_taken_slot_refuses_for_a_second() -> None:
    limiter, clock = _limiter(ClientLimitsConfig(RateLimit(20), 40, concurrency=1))
    _try_acquire(limiter, clock)
    problem = _refusal(limiter, clock)
    assert 1.0 == problem.retry_after
    assert (
        ("RateLimit-Policy", '"rate";q=40;w=2, "concurrency";q=1;qu="concurrent-requests"'),
        ("RateLimit", '"concurrency";r=0;t=1'),
    ) == problem.headers
    limiter.release()
    assert _try_acquire(limiter, clock) is None


LIMITS = st.builds(
    ClientLimitsConfig,
    st.none() | st.builds(RateLimit, st.integers(1, 50)),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 30),
)


@given(LIMITS, st.lists(st.sampled_from(["enter", "leave", "refund", "pass", "night"]), max_size=60))
def test_a_refusal_takes_nothing_and_its_wait_is_sufficient(limits: ClientLimitsConfig, steps: list[str]) -> None:
    """R86: refused requests leave the usage unchanged; R85: the wait is sufficient if no slot is missing."""
    limiter, clock = _limiter(limits)
    for step in steps:
        if step == "enter":
            before = limiter.header_fields(clock.monotonic())
            slots = limiter.in_flight
            if _try_acquire(limiter, clock) is not None:
                assert (slots, before) == (limiter.in_flight, limiter.header_fields(clock.monotonic()))
        elif step == "pass":
            clock.advance(0.05)
        elif step == "night":
            clock.advance(12 * 3600.0)
        elif limiter.in_flight:
            limiter.release()
            if step == "refund":
                limiter.refund()
        assert 0 <= limiter.in_flight <= (limits.concurrency or 1000)
    problem = limiter.refusal(clock.monotonic())
    if problem is not None:
        for _ in range(limiter.in_flight):
            limiter.release()
        clock.advance(problem.retry_after or 0)
        assert limiter.refusal(clock.monotonic()) is None


def test_a_refund_gives_rate_and_day_back() -> None:
    limiter, clock = _limiter(FULL)
    _try_acquire(limiter, clock)
    before = limiter.header_fields(clock.monotonic())
    _try_acquire(limiter, clock)
    limiter.refund()
    assert before == limiter.header_fields(clock.monotonic())


def test_a_step_of_the_wall_clock_changes_no_bucket() -> None:
    """R87."""
    limiter, clock = _limiter(FULL)
    _try_acquire(limiter, clock)
    before = limiter.header_fields(clock.monotonic())
    for step in (3600, -7200, 3600):
        clock.step_wall(step)
        assert before == limiter.header_fields(clock.monotonic())
