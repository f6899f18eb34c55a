"""Rate limit of failed authentication attempts: exact waits, bounded memory (R76)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.failed_attempts import FailedAuthLimiter
from tests.support.clock import ManualClock

BURST = 20
INTERVAL = 3.0  # seconds
MAX_ADDRESSES = 10_000


def exhausted_limiter(clock: ManualClock, address: str = "192.0.2.1") -> FailedAuthLimiter:
    """Return a limiter with the burst of `address` used up."""
    limiter = FailedAuthLimiter(clock)
    assert [0.0] * BURST == [limiter.record(address) for _ in range(BURST)]
    return limiter


def test_the_wait_is_exact() -> None:
    """R76: the limit applies until the end of the wait."""
    clock = ManualClock()
    limiter = exhausted_limiter(clock)
    wait = limiter.record("192.0.2.1")
    assert pytest.approx(INTERVAL) == wait
    clock.advance(wait - 0.01)
    assert pytest.approx(0.01) == limiter.record("192.0.2.1")
    clock.advance(0.01)
    assert 0 == limiter.record("192.0.2.1")


def test_refused_attempts_do_not_extend_the_wait() -> None:
    """R76: 10 000 keys from one address: the last wait is no longer than the first."""
    clock = ManualClock()
    limiter = exhausted_limiter(clock)
    assert {INTERVAL} == {round(limiter.record("192.0.2.1"), 6) for _ in range(10_000)}


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_window_holds_more_than_its_share(pauses: list[float]) -> None:
    """R76: any window has at most 20 attempts plus one per 3 seconds."""
    clock = ManualClock()
    limiter = FailedAuthLimiter(clock)
    passed: list[float] = []
    for pause in [0.0] * BURST + pauses:
        clock.advance(pause)
        if not limiter.record("192.0.2.1"):
            passed.append(clock.monotonic())
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= BURST + (passed[last] - passed[first]) / INTERVAL + 0.001


def test_other_addresses_are_not_limited() -> None:
    clock = ManualClock()
    limiter = exhausted_limiter(clock)
    assert 0 == limiter.record("192.0.2.2")
    assert 0 == limiter.record("::1")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ("2001:db8::1", "2001:0DB8:0:0:1:2:3:4"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1%eth0", "fe80::2"),
        ("", ""),
        ("a" * 64, "a" * 5000),
    ],
)
def test_addresses_of_one_sender_are_one(first: str, second: str) -> None:
    """One IPv6 customer controls 2^64 addresses; an IPv4 address has two notations."""
    clock = ManualClock()
    assert exhausted_limiter(clock, first).record(second) > 0


@pytest.mark.parametrize(("first", "second"), [("2001:db8::1", "2001:db8:0:1::1"), ("192.0.2.1", "192.0.3.1")])
def test_neighbouring_networks_are_counted_separately(first: str, second: str) -> None:
    clock = ManualClock()
    assert 0 == exhausted_limiter(clock, first).record(second)


def test_the_memory_is_bounded() -> None:
    """R76: of many addresses the latest 10 000 are kept; the least recently used one is dropped first."""
    clock = ManualClock()
    limiter = exhausted_limiter(clock)
    for number in range(MAX_ADDRESSES - 1):
        limiter.record(f"10.0.{number >> 8}.{number & 255}")
    assert limiter.record("192.0.2.1") > 0  # and is the most recently used one
    for number in range(2 * MAX_ADDRESSES):
        limiter.record(f"2001:db8:{number:x}::1")
        if number == MAX_ADDRESSES - 2:
            assert limiter.record("192.0.2.1") > 0
    assert MAX_ADDRESSES == len(limiter._limiters)
    assert 0 == limiter.record("192.0.2.1")
    assert max(map(len, limiter._limiters)) <= 64
