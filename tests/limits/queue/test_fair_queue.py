"""Fair queue: round robin over clients, order of arrival within one."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.config import ResourceLimitsConfig
from gateway.limits.counters import TakeResult
from gateway.limits.queue.fair_queue import FairQueue, FifoQueue, Waiter
from gateway.limits.resource_limiter import ResourceLimiter

WORKFLOW = ResourceLimiter("workflow", ResourceLimitsConfig())
OTHER_WORKFLOW = ResourceLimiter("workflow", ResourceLimitsConfig())
NAMES = st.sampled_from(["a", "b", "c"])
ANY_CLASS = st.sampled_from(["a", "b", "c", "A", "B", "C"])


def make_waiter(
    client: str, workflow: ResourceLimiter = WORKFLOW, *, arrived_at: float = 0.0, deadline: float = 1.0
) -> Waiter:
    """Return a waiting request; a name in capitals makes it a background request."""
    max_wait = math.inf if client.isupper() else None
    return Waiter(
        client=client.lower(),
        workflow=workflow,
        arrived_at=arrived_at,
        deadline=deadline,
        try_take=lambda _: TakeResult.TAKEN,
        undo=lambda: None,
        still_wanted=lambda: True,
        max_wait=max_wait,
    )


def _queue_of(clients: str, *, capacity: int = 1000) -> FairQueue:
    queue = FairQueue(capacity)
    for since, client in enumerate(clients):
        queue.add(make_waiter(client, arrived_at=since))
    return queue


def _serve_next(queue: FairQueue, *, closed: ResourceLimiter | None = None) -> Waiter | None:
    """Serve the next request."""
    first = queue.next(lambda workflow: workflow is not closed)
    if first is not None:
        queue.rotate(first)
        queue.remove(first)
    return first


def _serve_all(queue: FairQueue) -> str:
    served = ""
    while (first := _serve_next(queue)) is not None:
        served += first.client.upper() if first.in_background else first.client
    return served


def test_round_robin_over_clients_is_independent_of_their_number_of_requests() -> None:
    """R88."""
    assert "abcabaaaa" == _serve_all(_queue_of("aaaaaabbc"))


def test_a_new_client_waits_for_one_round_only() -> None:
    queue = _queue_of("aaaabbbb")
    assert _serve_next(queue) is not None
    queue.add(make_waiter("c", arrived_at=9))
    assert "bacbabab"[:4] == _serve_all(queue)[:4]


@given(st.lists(NAMES, max_size=30))
def test_a_request_is_overtaken_once_at_most_by_each_other_client(clients: list[str]) -> None:
    queue = FairQueue(1000)
    for since, client in enumerate(clients):
        queue.add(make_waiter(client, arrived_at=since))
    served: Counter[str] = Counter()
    ages: dict[str, float] = {}
    while (first := _serve_next(queue)) is not None:
        assert first.arrived_at > ages.get(first.client, -1)
        ages[first.client] = first.arrived_at
        served[first.client] += 1
        waiting = {client for client in clients if served[client] < Counter(clients)[client]}
        assert all(served[first.client] <= served[client] + 1 for client in waiting)
    assert Counter(clients) == served


def test_a_request_blocked_by_its_workflow_blocks_no_other_request() -> None:
    queue = FairQueue(1000)
    for since, workflow in enumerate([OTHER_WORKFLOW, OTHER_WORKFLOW, WORKFLOW]):
        queue.add(make_waiter("a", workflow, arrived_at=since))
    queue.add(make_waiter("b", OTHER_WORKFLOW, arrived_at=3))
    first = _serve_next(queue, closed=OTHER_WORKFLOW)
    assert first is not None
    assert ("a", 2) == (first.client, first.arrived_at)
    assert queue.next(lambda workflow: workflow is not OTHER_WORKFLOW) is None
    assert [OTHER_WORKFLOW, OTHER_WORKFLOW] == list(queue.workflows())
    assert 3 == len(queue)


def test_a_flood_fills_half_of_the_queue_and_leaves_the_rest_to_others() -> None:
    queue = FairQueue(100)
    joined: Counter[str] = Counter()
    for client in "abc":
        while not queue.is_full_for(make_waiter(client)):
            queue.add(make_waiter(client))
            joined[client] += 1
    assert {"a": 50, "b": 25, "c": 13} == joined
    assert not queue.is_full_for(make_waiter("d"))


def test_background_requests_take_no_place_from_interactive_ones() -> None:
    queue = _queue_of("A" * 50, capacity=100)
    assert queue.is_full_for(make_waiter("A"))
    assert not queue.is_full_for(make_waiter("B"))
    assert not queue.is_full_for(make_waiter("a"))


def test_background_and_interactive_requests_of_a_client_are_served_alternately() -> None:
    """1 000 background runs delay an interactive request of their client by one run, and progress beside a flood."""
    assert "AaAaAAA" == _serve_all(_queue_of("AAAAAaa"))
    assert "aAaAaaa" == _serve_all(_queue_of("aaaaaAA"))


def test_background_requests_of_one_client_do_not_delay_another_client() -> None:
    assert "AbabAbabAA" == _serve_all(_queue_of("AAAAaabbbb"))


@given(st.lists(ANY_CLASS, max_size=25), st.integers(0, 8), ANY_CLASS)
def test_the_number_ahead_is_the_number_served_before_the_new_request(
    clients: list[str], served: int, name: str
) -> None:
    queue = FairQueue(1000)
    for since, client in enumerate(clients):
        queue.add(make_waiter(client, arrived_at=since))
    for _ in range(served):
        _serve_next(queue)
    newcomer = make_waiter(name, arrived_at=99)
    ahead = queue.count_ahead(newcomer, lambda workflow: workflow is WORKFLOW)
    assert 0 == queue.count_ahead(newcomer, lambda workflow: workflow is OTHER_WORKFLOW)
    queue.add(newcomer)
    before = 0
    while (first := _serve_next(queue)) is not newcomer:
        assert first is not None
        before += 1
    assert before == ahead


@given(
    st.lists(st.tuples(ANY_CLASS, st.sampled_from([WORKFLOW, OTHER_WORKFLOW])), max_size=20),
    st.randoms(use_true_random=False),
)
def test_a_request_removed_from_any_position_leaves_no_state(
    joining: list[tuple[str, ResourceLimiter]], chance: random.Random
) -> None:
    queue = FairQueue(1000)
    waiters = [make_waiter(client, workflow) for client, workflow in joining]
    for one in waiters:
        queue.add(one)
    chance.shuffle(waiters)
    for count, one in enumerate(waiters, 1):
        queue.remove(one)
        assert len(waiters) - count == len(queue)
    assert not queue
    assert [] == list(queue.workflows())
    assert queue.next(lambda _: True) is None


def test_a_fifo_queue_keeps_the_order_of_arrival() -> None:
    queue, one, two, three = FifoQueue(), make_waiter("a"), make_waiter("a"), make_waiter("b")
    for each in (one, two, three):
        queue.add(each)
    assert one is queue.first()
    queue.remove(two)
    queue.remove(one)
    assert three is queue.first()
    queue.remove(three)
    assert queue.first() is None


def test_five_requests_are_served_before_the_third_one_of_a_client() -> None:
    """A waits with 1 request, B with 2, C with 5: the rounds are A B C, B C, B (the new one)."""
    queue = _queue_of("abbccccc")
    assert 5 == queue.count_ahead(make_waiter("b"), lambda _: True)
    queue.add(make_waiter("b", arrived_at=9.0))
    assert "abcbcbccc" == _serve_all(queue)
