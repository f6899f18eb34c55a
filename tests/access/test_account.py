"""A client's own limits: they refuse at once, exactly, and tell it in the fields of the draft."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.account import Account
from gateway.access.limits import ClientLimits, Rate
from gateway.problems import Problem
from tests.manual_clock import ManualClock

FULL = ClientLimits(Rate(20), 40, 50, 10_000)


def _account(limits: ClientLimits) -> tuple[Account, ManualClock]:
    clock = ManualClock(datetime(2026, 11, 21, 12, tzinfo=UTC))
    return Account(limits, clock), clock


def _enter(account: Account, clock: ManualClock) -> Problem | None:
    problem = account.refusal(clock.monotonic())
    if problem is None:
        account.take(clock.monotonic())
    return problem


def _refused(account: Account, clock: ManualClock) -> Problem:
    problem = _enter(account, clock)
    assert problem is not None
    return problem


def test_an_answer_carries_the_policies_and_what_is_left() -> None:
    account, clock = _account(ClientLimits(Rate(20), 40, daily=10_000))
    _enter(account, clock)
    assert (
        ("RateLimit-Policy", '"rate";q=40;w=2, "daily";q=10000;w=86400'),
        ("RateLimit", '"rate";r=39;t=1, "daily";r=9999;t=43200'),
    ) == account.fields(clock.monotonic())


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        (ClientLimits(Rate(5, 60)), {"RateLimit-Policy": '"rate";q=1;w=12', "RateLimit": '"rate";r=0;t=12'}),
        (ClientLimits(Rate(10, 11), 10), {"RateLimit-Policy": '"rate";q=10;w=11', "RateLimit": '"rate";r=9;t=2'}),
        (ClientLimits(daily=3), {"RateLimit-Policy": '"daily";q=3;w=86400', "RateLimit": '"daily";r=2;t=43200'}),
        (ClientLimits(concurrency=2), {"RateLimit-Policy": '"concurrency";q=2;qu="concurrent-requests"'}),
        (ClientLimits(), {}),
    ],
)
def test_only_the_policies_that_there_are_are_told(limits: ClientLimits, fields: dict[str, str]) -> None:
    account, clock = _account(limits)
    _enter(account, clock)
    assert fields == dict(account.fields(clock.monotonic()))


def test_ten_of_a_hundred_pass_and_the_others_are_told_when_to_come_back() -> None:
    """R85: limit 10/s burst 10, 100 at once: 10 pass; Retry-After >= t; waiting exactly that long succeeds."""
    account, clock = _account(ClientLimits(Rate(10), 10))
    problems = [problem for _ in range(100) if (problem := _enter(account, clock)) is not None]
    assert 90 == len(problems)
    problem = problems[-1]
    assert (429, "rate_limited") == (problem.status, problem.code)
    assert pytest.approx(0.1) == problem.retry_after
    assert (("RateLimit-Policy", '"rate";q=10;w=1'), ("RateLimit", '"rate";r=0;t=1')) == problem.headers
    clock.advance(problem.retry_after or 0)
    assert _enter(account, clock) is None
    assert _enter(account, clock) is not None


def test_a_refusal_lists_the_policies_that_refuse_and_waits_for_all_of_them() -> None:
    """R85: Retry-After is never earlier than any `t`, and after it every policy lets the request in."""
    account, clock = _account(ClientLimits(Rate(1), 1, daily=1))
    _enter(account, clock)
    problem = _refused(account, clock)
    assert ("RateLimit", '"rate";r=0;t=1, "daily";r=0;t=43200') == problem.headers[1]
    assert 12 * 3600.0 == problem.retry_after
    clock.advance(problem.retry_after)
    assert _enter(account, clock) is None


def test_a_policy_with_something_left_is_not_listed_in_a_refusal() -> None:
    """The day's `t` would be later than the Retry-After of the rate."""
    account, clock = _account(FULL)
    for _ in range(40):
        _enter(account, clock)
    assert ("RateLimit", '"rate";r=0;t=1') == _refused(account, clock).headers[1]


def test_a_taken_slot_refuses_for_a_second() -> None:
    account, clock = _account(ClientLimits(Rate(20), 40, concurrency=1))
    _enter(account, clock)
    problem = _refused(account, clock)
    assert 1.0 == problem.retry_after
    assert (
        ("RateLimit-Policy", '"rate";q=40;w=2, "concurrency";q=1;qu="concurrent-requests"'),
        ("RateLimit", '"concurrency";r=0;t=1'),
    ) == problem.headers
    account.free()
    assert _enter(account, clock) is None


LIMITS = st.builds(
    ClientLimits,
    st.none() | st.builds(Rate, st.integers(1, 50)),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 30),
)


@given(LIMITS, st.lists(st.sampled_from(["enter", "leave", "refund", "pass", "night"]), max_size=60))
def test_a_refusal_takes_nothing_and_tells_the_truth(limits: ClientLimits, steps: list[str]) -> None:
    """R86: what refused requests left behind is what was there; R85: the wait is enough where no slot is short."""
    account, clock = _account(limits)
    for step in steps:
        if step == "enter":
            before = account.fields(clock.monotonic())
            slots = account.in_flight
            if _enter(account, clock) is not None:
                assert (slots, before) == (account.in_flight, account.fields(clock.monotonic()))
        elif step == "pass":
            clock.advance(0.05)
        elif step == "night":
            clock.advance(12 * 3600.0)
        elif account.in_flight:
            account.free()
            if step == "refund":
                account.refund()
        assert 0 <= account.in_flight <= (limits.concurrency or 1000)
    problem = account.refusal(clock.monotonic())
    if problem is not None:
        for _ in range(account.in_flight):
            account.free()
        clock.advance(problem.retry_after or 0)
        assert account.refusal(clock.monotonic()) is None


def test_a_refund_gives_rate_and_day_back() -> None:
    account, clock = _account(FULL)
    _enter(account, clock)
    before = account.fields(clock.monotonic())
    _enter(account, clock)
    account.refund()
    assert before == account.fields(clock.monotonic())


def test_a_step_of_the_wall_clock_changes_no_bucket() -> None:
    """R87."""
    account, clock = _account(FULL)
    _enter(account, clock)
    before = account.fields(clock.monotonic())
    for step in (3600, -7200, 3600):
        clock.step_wall(step)
        assert before == account.fields(clock.monotonic())
