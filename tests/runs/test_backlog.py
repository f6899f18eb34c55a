"""How many runs are kept in the background."""

from __future__ import annotations

from gateway.problems import Problem
from gateway.runs.backlog import Backlog
from gateway.runs.record import Order


def order(client: str, workflow: str) -> Order:
    return Order(client, workflow, timeout=1.0)


def refusal(backlog: Backlog, wanted: Order) -> str:
    """What one more is told; "" where there is room."""
    try:
        backlog.enter(wanted)
    except Problem as problem:
        return f"{problem.code} {problem.detail}"
    return ""


def test_clients_and_workflows_have_bounds_of_their_own() -> None:
    """Whoever is refused takes no place; whoever leaves makes room."""
    backlog = Backlog(of_client=2, of_workflow=3)
    first = order("one", "a")
    asked = [first, first, first, order("two", "a"), order("two", "a"), order("two", "b")]
    assert [
        "",
        "",
        "overloaded Too many runs of this client wait in the background.",
        "",
        "overloaded Too many runs of this workflow wait in the background.",
        "",
    ] == [refusal(backlog, wanted) for wanted in asked]
    backlog.leave(first)
    assert "" == refusal(backlog, order("three", "a"))


def test_what_is_taken_up_again_is_not_refused_and_counts() -> None:
    backlog = Backlog(of_client=1, of_workflow=9)
    for _ in range(3):
        backlog.take_up(order("one", "a"))
    assert "" != refusal(backlog, order("one", "b"))


def test_names_that_are_gone_are_forgotten() -> None:
    """R90: clients may choose them."""
    backlog = Backlog()
    for number in range(1000):
        wanted = order("one", f"layer/{number}")
        backlog.enter(wanted)
        backlog.leave(wanted)
    assert (0, 0) == (len(backlog._clients), len(backlog._workflows))
