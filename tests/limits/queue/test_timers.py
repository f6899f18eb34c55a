"""Time-outs of waiting requests; settled requests are not kept."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.queue.fair_queue import Waiter
from gateway.limits.queue.timers import WaitTimeouts
from tests.limits.queue.test_fair_queue import make_waiter


def _waiter_expiring_at(at: float) -> Waiter:
    one = make_waiter("a")
    one.expires_at = at
    return one


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40), st.integers(0, 20))
def test_timeouts_are_due_in_order(entries: list[tuple[int, bool]], now: int) -> None:
    timeouts, waiters = WaitTimeouts(), [(_waiter_expiring_at(at), settled) for at, settled in entries]
    for one, _ in waiters:
        timeouts.add(one)
    for one, settled in waiters:
        if settled:
            timeouts.settle(one)
    due = []
    for one in timeouts.due(now):
        timeouts.settle(one)
        due.append(one.expires_at)
    assert sorted(at for at, settled in entries if not settled and at <= now) == due
    left = [at for at, settled in entries if not settled and at > now]
    assert (len(left), min(left, default=math.inf)) == (timeouts.size, timeouts.next_at())


def test_settled_requests_are_dropped_before_they_expire() -> None:
    """Polls have far deadlines and short waits: memory must not grow with their deadlines."""
    timeouts = WaitTimeouts()
    for _ in range(10_000):
        one = _waiter_expiring_at(1e9)
        timeouts.add(one)
        timeouts.settle(one)
    assert len(timeouts._heap) < 200
