"""Who gives up when; those who had their turn are not kept."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.expiries import Expiries
from gateway.access.line import Waiter
from tests.access.test_line import waiter


def _ending(at: float) -> Waiter:
    one = waiter("a")
    one.ends = at
    return one


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40), st.integers(0, 20))
def test_due_are_those_whose_end_has_come_in_order(entries: list[tuple[int, bool]], now: int) -> None:
    expiries, waiters = Expiries(), [(_ending(at), settled) for at, settled in entries]
    for one, _ in waiters:
        expiries.add(one)
    for one, settled in waiters:
        if settled:
            expiries.settle(one)
    due = []
    for one in expiries.due(now):
        expiries.settle(one)
        due.append(one.ends)
    assert sorted(at for at, settled in entries if not settled and at <= now) == due
    left = [at for at, settled in entries if not settled and at > now]
    assert (len(left), min(left, default=math.inf)) == (expiries.size, expiries.next_at())


def test_the_settled_are_forgotten_long_before_their_end() -> None:
    """Polls have far deadlines and short waits: their number must not grow with the time that they would have had."""
    expiries = Expiries()
    for _ in range(10_000):
        one = _ending(1e9)
        expiries.add(one)
        expiries.settle(one)
    assert len(expiries._heap) < 200
