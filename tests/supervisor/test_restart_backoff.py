"""Restart backoff of workers."""

from __future__ import annotations

from gateway.supervisor.worker_pool import RestartBackoff


def test_the_delays_double_up_to_half_a_minute() -> None:
    """A crash loop has at most one start every 30 s."""
    backoff = RestartBackoff()
    delays = [backoff.next_delay(0.5) for _ in range(2000)]
    assert [0.1, 0.2, 0.4, 0.8, 1.6] == delays[:5]
    assert {30.0} == set(delays[10:])


def test_a_long_uptime_resets_the_delay() -> None:
    """A worker that ran long enough is restarted at once."""
    backoff = RestartBackoff()
    for _ in range(4):
        backoff.next_delay(0.0)
    assert (0.1, False) == (backoff.next_delay(10.0), backoff.exhausted)


def test_five_consecutive_failures_exhaust_the_restarts() -> None:
    backoff = RestartBackoff()
    exhausted = []
    for _ in range(5):
        backoff.next_delay(9.9)
        exhausted.append(backoff.exhausted)
    assert [False, False, False, False, True] == exhausted
