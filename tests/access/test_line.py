"""The order of those who wait: fair between clients, first come first served within one."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.gate import Gate
from gateway.access.limits import SharedLimits
from gateway.access.line import FairLine, Queue, Waiter

OPEN = Gate("workflow", SharedLimits())
OTHER = Gate("workflow", SharedLimits())
NAMES = st.sampled_from(["a", "b", "c"])
PATIENT_OR_NOT = st.sampled_from(["a", "b", "c", "A", "B", "C"])


def waiter(client: str, workflow: Gate = OPEN, *, since: float = 0.0, deadline: float = 1.0) -> Waiter:
    """Somebody who waits; one with a name in capitals is patient."""
    patience = math.inf if client.isupper() else None
    return Waiter(client.lower(), workflow, since, deadline, lambda _: None, lambda: None, lambda: True, patience)


def _line(clients: str, *, places: int = 1000) -> FairLine:
    line = FairLine(places)
    for since, client in enumerate(clients):
        line.join(waiter(client, since=since))
    return line


def _go(line: FairLine, *, closed: Gate | None = None) -> Waiter | None:
    """The next one has its turn."""
    first = line.next(lambda workflow: workflow is not closed)
    if first is not None:
        line.turn(first)
        line.leave(first)
    return first


def _serve(line: FairLine) -> str:
    served = ""
    while (first := _go(line)) is not None:
        served += first.client.upper() if first.patient else first.client
    return served


def test_clients_take_turns_however_many_one_has_sent() -> None:
    """R88."""
    assert "abcabaaaa" == _serve(_line("aaaaaabbc"))


def test_a_newcomer_waits_for_one_round_only() -> None:
    line = _line("aaaabbbb")
    assert _go(line) is not None
    line.join(waiter("c", since=9))
    assert "bacbabab"[:4] == _serve(line)[:4]


@given(st.lists(NAMES, max_size=30))
def test_nobody_is_overtaken_by_the_same_client_nor_twice_by_another(clients: list[str]) -> None:
    line = FairLine(1000)
    for since, client in enumerate(clients):
        line.join(waiter(client, since=since))
    served: Counter[str] = Counter()
    ages: dict[str, float] = {}
    while (first := _go(line)) is not None:
        assert first.since > ages.get(first.client, -1)
        ages[first.client] = first.since
        served[first.client] += 1
        waiting = {client for client in clients if served[client] < Counter(clients)[client]}
        assert all(served[first.client] <= served[client] + 1 for client in waiting)
    assert Counter(clients) == served


def test_who_is_blocked_by_its_workflow_blocks_nobody_else() -> None:
    line = FairLine(1000)
    for since, workflow in enumerate([OTHER, OTHER, OPEN]):
        line.join(waiter("a", workflow, since=since))
    line.join(waiter("b", OTHER, since=3))
    first = _go(line, closed=OTHER)
    assert first is not None
    assert ("a", 2) == (first.client, first.since)
    assert line.next(lambda workflow: workflow is not OTHER) is None
    assert [OTHER, OTHER] == list(line.workflows())
    assert 3 == len(line)


def test_a_flood_fills_half_the_line_and_leaves_room_for_others() -> None:
    line = FairLine(100)
    joined: Counter[str] = Counter()
    for client in "abc":
        while not line.full(waiter(client)):
            line.join(waiter(client))
            joined[client] += 1
    assert {"a": 50, "b": 25, "c": 13} == joined
    assert not line.full(waiter("d"))


def test_the_patient_take_no_place_from_those_in_a_hurry() -> None:
    line = _line("A" * 50, places=100)
    assert line.full(waiter("A"))
    assert not line.full(waiter("B"))
    assert not line.full(waiter("a"))


def test_within_a_client_the_patient_and_those_in_a_hurry_take_turns() -> None:
    """A thousand runs in the background hold their client's next request up by one turn, and go on beside a flood."""
    assert "AaAaAAA" == _serve(_line("AAAAAaa"))
    assert "aAaAaaa" == _serve(_line("aaaaaAA"))


def test_the_patient_of_one_client_take_nothing_from_another() -> None:
    assert "AbabAbabAA" == _serve(_line("AAAAaabbbb"))


@given(st.lists(PATIENT_OR_NOT, max_size=25), st.integers(0, 8), PATIENT_OR_NOT)
def test_as_many_are_ahead_of_a_newcomer_as_are_served_before_it(clients: list[str], served: int, name: str) -> None:
    line = FairLine(1000)
    for since, client in enumerate(clients):
        line.join(waiter(client, since=since))
    for _ in range(served):
        _go(line)
    newcomer = waiter(name, since=99)
    ahead = line.ahead(newcomer, lambda workflow: workflow is OPEN)
    assert 0 == line.ahead(newcomer, lambda workflow: workflow is OTHER)
    line.join(newcomer)
    before = 0
    while (first := _go(line)) is not newcomer:
        assert first is not None
        before += 1
    assert before == ahead


@given(
    st.lists(st.tuples(PATIENT_OR_NOT, st.sampled_from([OPEN, OTHER])), max_size=20), st.randoms(use_true_random=False)
)
def test_who_leaves_from_anywhere_leaves_no_trace(joining: list[tuple[str, Gate]], chance: random.Random) -> None:
    line = FairLine(1000)
    waiters = [waiter(client, workflow) for client, workflow in joining]
    for one in waiters:
        line.join(one)
    chance.shuffle(waiters)
    for count, one in enumerate(waiters, 1):
        line.leave(one)
        assert len(waiters) - count == len(line)
    assert not line
    assert [] == list(line.workflows())
    assert line.next(lambda _: True) is None


def test_a_queue_is_first_come_first_served() -> None:
    queue, one, two, three = Queue(), waiter("a"), waiter("a"), waiter("b")
    for each in (one, two, three):
        queue.join(each)
    assert one is queue.first()
    queue.leave(two)
    queue.leave(one)
    assert three is queue.first()
    queue.leave(three)
    assert queue.first() is None
