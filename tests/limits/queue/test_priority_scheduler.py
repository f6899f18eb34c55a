"""Priorities: overdue polls, retried starts, starts, polls."""

from __future__ import annotations

import math

import pytest

from gateway.limits.config import RateLimit, ResourceLimitsConfig
from gateway.limits.queue.fair_queue import Waiter, WaitQueue
from gateway.limits.queue.priority_scheduler import PriorityScheduler
from gateway.limits.resource_limiter import ResourceLimiter
from tests.limits.queue.test_fair_queue import make_waiter

NOW = 1000.0


def _enqueue(
    queue: WaitQueue, client: str = "a", workflow: ResourceLimiter | None = None, *, since: float = NOW
) -> Waiter:
    one = make_waiter(client, workflow or ResourceLimiter("workflow", ResourceLimitsConfig()), arrived_at=since)
    one.queue = queue
    queue.add(one)
    return one


def _dispatch_order(scheduler: PriorityScheduler, now: float) -> list[Waiter]:
    order = []
    while (first := scheduler.next(now)) is not None:
        scheduler.rotate(first)
        first.queue.remove(first)
        order.append(first)
    return order


def test_starts_go_before_polls_and_retried_ones_before_first_ones() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(1), 9))
    poll, start, retry = _enqueue(scheduler.polls), _enqueue(scheduler.starts), _enqueue(scheduler.retries)
    assert [retry, start, poll] == _dispatch_order(scheduler, NOW)


def test_a_poll_that_has_waited_too_long_goes_first() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(1), 9, max_wait=2.0))
    retry, young, old = (
        _enqueue(scheduler.retries),
        _enqueue(scheduler.polls, since=NOW - 1.9),
        _enqueue(scheduler.polls, since=NOW - 2),
    )
    scheduler.polls.remove(young)
    scheduler.polls.add(young)
    assert [old, retry, young] == _dispatch_order(scheduler, NOW)


def test_no_request_is_admitted_while_the_rate_is_used_up() -> None:
    """R89."""
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(1), 1))
    scheduler.limiter.take(NOW)
    for queue in (scheduler.starts, scheduler.retries, scheduler.polls):
        _enqueue(queue, since=NOW - 100)
    assert scheduler.next(NOW) is None
    assert pytest.approx(NOW + 1, abs=1e-5) == scheduler.next_dispatch_at()


def test_calls_of_running_runs_pass_a_provider_without_free_slots() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(1), 9, concurrency=1))
    scheduler.limiter.take(NOW)
    start, poll, retry = _enqueue(scheduler.starts), _enqueue(scheduler.polls), _enqueue(scheduler.retries)
    assert [retry, poll] == _dispatch_order(scheduler, NOW)
    assert math.inf == scheduler.next_dispatch_at()
    assert scheduler.lacks_slot(start)
    assert not scheduler.lacks_slot(poll)


def test_the_next_dispatch_is_when_the_first_workflow_allows_it() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(1), 9))
    slow, slower, full = (
        ResourceLimiter("workflow", limits)
        for limits in (
            ResourceLimitsConfig(RateLimit(0.5), 1),
            ResourceLimitsConfig(RateLimit(0.1), 1),
            ResourceLimitsConfig(concurrency=1),
        )
    )
    for workflow in (slow, slower, full):
        workflow.take(NOW)
        _enqueue(scheduler.starts, workflow=workflow)
    assert pytest.approx(NOW + 2, abs=1e-5) == scheduler.next_dispatch_at()


def test_the_estimated_delay_counts_the_requests_ahead() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(10), 1))
    scheduler.limiter.take(NOW)
    for _ in range(5):
        _enqueue(scheduler.starts, "flood")
    _enqueue(scheduler.retries)
    newcomers = {name: make_waiter(name, arrived_at=NOW) for name in ("flood", "other", "retry")}
    for name, one in newcomers.items():
        one.queue = scheduler.retries if name == "retry" else scheduler.starts
    delays = {name: scheduler.estimate_delay(one, NOW) for name, one in newcomers.items()}
    assert pytest.approx({"flood": 0.7, "other": 0.3, "retry": 0.2}) == delays


def test_the_estimated_delay_of_a_slow_workflow_is_its_own() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(RateLimit(10), 1))
    scheduler.limiter.take(NOW)
    slow, free = (
        ResourceLimiter("workflow", ResourceLimitsConfig(RateLimit(1), 1)),
        ResourceLimiter("workflow", ResourceLimitsConfig()),
    )
    slow.take(NOW)
    for _ in range(5):
        _enqueue(scheduler.starts, workflow=slow)
    delays = []
    for workflow in (slow, free):
        one = make_waiter("a", workflow, arrived_at=NOW)
        one.queue = scheduler.starts
        delays.append(scheduler.estimate_delay(one, NOW))
    assert pytest.approx([6.0, 0.1]) == delays


def test_the_estimated_delay_is_zero_if_only_slots_are_missing() -> None:
    scheduler = PriorityScheduler(ResourceLimitsConfig(concurrency=1))
    scheduler.limiter.take(NOW)
    assert 0.0 == scheduler.estimate_delay(_enqueue(scheduler.starts), NOW)
