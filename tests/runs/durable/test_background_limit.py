"""Concurrency limit of background runs."""

from __future__ import annotations

import pytest

from gateway.errors import RunError
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.model import RunSpec


def new_spec(client: str, workflow: str) -> RunSpec:
    return RunSpec(client, workflow, timeout=1.0, synchronous=False)


def refusal(limit: BackgroundLimit, spec: RunSpec) -> str:
    """Return the refusal of one more run; "" if it is accepted."""
    try:
        limit.acquire(spec)
    except RunError as problem:
        return f"{problem.code} {problem.detail}"
    return ""


def test_clients_and_workflows_have_separate_limits() -> None:
    """A refused run takes no slot, and a released slot is free."""
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


@pytest.mark.parametrize(("kept", "held"), [(False, 0), (True, 1)])
def test_a_slot_is_released_on_exit_unless_it_is_kept(kept: bool, held: int) -> None:  # noqa: FBT001 - a value
    limit = BackgroundLimit()
    with limit.acquire(new_spec("one", "a")) as slot:
        if kept:
            slot.keep()
    assert held == limit._clients["one"]


def test_a_slot_is_released_once() -> None:
    limit = BackgroundLimit()
    slot, _ = limit.acquire(new_spec("one", "a")), limit.acquire(new_spec("one", "a"))
    slot.release()
    slot.release()
    assert 1 == limit._clients["one"]


def test_a_synchronous_run_needs_no_slot() -> None:
    limit = BackgroundLimit(max_per_client=0)
    limit.acquire(RunSpec("one", "a", timeout=1.0)).release()
    assert 0 == limit._clients["one"]
