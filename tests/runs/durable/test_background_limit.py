"""How many runs are kept in the background."""

from __future__ import annotations

from gateway.errors import RunError
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.model import RunSpec


def new_spec(client: str, workflow: str) -> RunSpec:
    return RunSpec(client, workflow, timeout=1.0)


def refusal(limit: BackgroundLimit, spec: RunSpec) -> str:
    """What one more is told; "" where there is room."""
    try:
        limit.acquire(spec)
    except RunError as problem:
        return f"{problem.code} {problem.detail}"
    return ""


def test_clients_and_workflows_have_separate_limits() -> None:
    """Whoever is refused takes no place; whoever leaves makes room."""
    limit = BackgroundLimit(max_per_client=2, max_per_workflow=3)
    first = new_spec("one", "a")
    specs = [first, first, first, new_spec("two", "a"), new_spec("two", "a"), new_spec("two", "b")]
    assert [
        "",
        "",
        "overloaded Too many runs of this client wait in the background.",
        "",
        "overloaded Too many runs of this workflow wait in the background.",
        "",
    ] == [refusal(limit, spec) for spec in specs]
    limit.release(first)
    assert "" == refusal(limit, new_spec("three", "a"))


def test_adopted_runs_are_not_refused_and_are_counted() -> None:
    limit = BackgroundLimit(max_per_client=1, max_per_workflow=9)
    for _ in range(3):
        limit.acquire_unchecked(new_spec("one", "a"))
    assert "" != refusal(limit, new_spec("one", "b"))


def test_counters_of_unused_names_are_removed() -> None:
    """R90: clients may choose them."""
    limit = BackgroundLimit()
    for number in range(1000):
        spec = new_spec("one", f"layer/{number}")
        limit.acquire(spec)
        limit.release(spec)
    assert (0, 0) == (len(limit._clients), len(limit._workflows))
