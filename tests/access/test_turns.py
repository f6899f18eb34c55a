"""Whose turn it is: overdue polls, retried starts, starts, polls."""

from __future__ import annotations

import math

import pytest

from gateway.access.gate import Gate
from gateway.access.limits import Rate, SharedLimits
from gateway.access.line import Place, Waiter
from gateway.access.turns import Turns
from tests.access.test_line import waiter

NOW = 1000.0


def _stand(place: Place, client: str = "a", workflow: Gate | None = None, *, since: float = NOW) -> Waiter:
    one = waiter(client, workflow or Gate("workflow", SharedLimits()), since=since)
    one.place = place
    place.join(one)
    return one


def _order(turns: Turns, now: float) -> list[Waiter]:
    order = []
    while (first := turns.next(now)) is not None:
        turns.turn(first)
        first.place.leave(first)
        order.append(first)
    return order


def test_starts_go_before_polls_and_retried_ones_before_first_ones() -> None:
    turns = Turns(SharedLimits(Rate(1), 9))
    poll, start, again = _stand(turns.polls), _stand(turns.starts), _stand(turns.again)
    assert [again, start, poll] == _order(turns, NOW)


def test_a_poll_that_has_waited_too_long_goes_first() -> None:
    turns = Turns(SharedLimits(Rate(1), 9, max_wait=2.0))
    again, young, old = _stand(turns.again), _stand(turns.polls, since=NOW - 1.9), _stand(turns.polls, since=NOW - 2)
    turns.polls.leave(young)
    turns.polls.join(young)
    assert [old, again, young] == _order(turns, NOW)


def test_nobody_goes_while_the_rate_is_used_up_overdue_or_not() -> None:
    """R89."""
    turns = Turns(SharedLimits(Rate(1), 1))
    turns.gate.take(NOW)
    for place in (turns.starts, turns.again, turns.polls):
        _stand(place, since=NOW - 100)
    assert turns.next(NOW) is None
    assert pytest.approx(NOW + 1, abs=1e-5) == turns.opens_at()


def test_calls_of_running_runs_pass_a_provider_without_free_slots() -> None:
    turns = Turns(SharedLimits(Rate(1), 9, concurrency=1))
    turns.gate.take(NOW)
    start, poll, again = _stand(turns.starts), _stand(turns.polls), _stand(turns.again)
    assert [again, poll] == _order(turns, NOW)
    assert math.inf == turns.opens_at()
    assert turns.slots_short(start)
    assert not turns.slots_short(poll)


def test_it_opens_when_the_first_of_the_workflows_does() -> None:
    turns = Turns(SharedLimits(Rate(1), 9))
    slow, slower, full = (
        Gate("workflow", limits)
        for limits in (SharedLimits(Rate(0.5), 1), SharedLimits(Rate(0.1), 1), SharedLimits(concurrency=1))
    )
    for workflow in (slow, slower, full):
        workflow.take(NOW)
        _stand(turns.starts, workflow=workflow)
    assert pytest.approx(NOW + 2, abs=1e-5) == turns.opens_at()


def test_the_delay_counts_those_who_go_before() -> None:
    turns = Turns(SharedLimits(Rate(10), 1))
    turns.gate.take(NOW)
    for _ in range(5):
        _stand(turns.starts, "flood")
    _stand(turns.again)
    newcomers = {name: waiter(name, since=NOW) for name in ("flood", "other", "retry")}
    for name, one in newcomers.items():
        one.place = turns.again if name == "retry" else turns.starts
    delays = {name: turns.delay(one, NOW) for name, one in newcomers.items()}
    assert pytest.approx({"flood": 0.7, "other": 0.3, "retry": 0.2}) == delays


def test_the_delay_of_a_slow_workflow_is_its_own() -> None:
    turns = Turns(SharedLimits(Rate(10), 1))
    turns.gate.take(NOW)
    slow, free = Gate("workflow", SharedLimits(Rate(1), 1)), Gate("workflow", SharedLimits())
    slow.take(NOW)
    for _ in range(5):
        _stand(turns.starts, workflow=slow)
    delays = []
    for workflow in (slow, free):
        one = waiter("a", workflow, since=NOW)
        one.place = turns.starts
        delays.append(turns.delay(one, NOW))
    assert pytest.approx([6.0, 0.1]) == delays


def test_where_only_slots_are_short_nobody_knows_the_delay() -> None:
    turns = Turns(SharedLimits(concurrency=1))
    turns.gate.take(NOW)
    assert 0.0 == turns.delay(_stand(turns.starts), NOW)
