"""A run as the store keeps it: what is written is what is brought back, and its deadline stays where it was."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from gateway.runs.orders import brought_back, order_of, same_order, stored_run
from gateway.runs.record import Order, RunRecord
from gateway.store.contract import Phase
from tests.manual_clock import ManualClock

FULL = Order(
    client="one",
    workflow="layer/own name",
    timeout=12.5,
    input={"é": [1, 2**70, None, {"deep": 1.5}]},
    metadata={"team": "a"},
    label="prod",
    version=7,
    return_all_outputs=True,
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    waits=False,
    face="promptlayer",
    number=2**52,
    all_outputs=True,
)


def brought(order: Order, *, later: float = 0.0, **stored: object) -> tuple[RunRecord, RunRecord, ManualClock]:
    """A run, and what was brought back of it so many seconds later, by a process with another monotonic clock."""
    clock, other = ManualClock(), ManualClock()
    run = RunRecord.open(order, "layer", clock)
    kept = stored_run(run, owner="me", leased_until_at=5.0, callback_url=None)
    other.advance(5000.0)
    other.step_wall(later - 5000.0)
    return run, brought_back(replace(kept, **stored), other), other  # type: ignore[arg-type]  # names of its fields


@pytest.mark.parametrize("order", [FULL, Order(client="two", workflow="w", timeout=1.0)], ids=["full", "bare"])
def test_every_field_of_an_order_is_brought_back(order: Order) -> None:
    """R47: what is started after a crash is what was ordered."""
    _, back, _ = brought(order)
    assert order == back.order


def test_the_full_order_sets_every_field() -> None:
    """Else the test above proves less than it says; who waits for the answer can not be kept."""
    bare = Order(client="two", workflow="w", timeout=1.0)
    same = {f.name for f in fields(Order) if getattr(FULL, f.name) == getattr(bare, f.name)}
    assert {"wanted"} == same
    assert FULL.wanted()


def test_a_run_is_brought_back_as_it_was_kept() -> None:
    """Its id, provider, attempts and provider's own id; it may have been started once it was about to be."""
    run, back, _ = brought(FULL, phase=Phase.FOLLOWING, attempts=2, provider_run_id="787", provider="other")
    assert (run.id, "other", 2, "787", True) == (
        back.id, back.provider, back.attempts, back.provider_run_id, back.maybe_started
    )  # fmt: skip
    assert "queued" == back.status
    assert abs(run.created_at - back.created_at) < timedelta(milliseconds=1)


@pytest.mark.parametrize(("phase", "maybe"), [(Phase.QUEUED, False), (Phase.SENDING, True), (Phase.FOLLOWING, True)])
def test_whether_it_may_have_been_started_is_what_its_phase_says(phase: Phase, maybe: bool) -> None:  # noqa: FBT001 - a value
    """R44: QUEUED alone may be started."""
    assert maybe == brought(FULL, phase=phase)[1].maybe_started


@pytest.mark.parametrize("later", [0.0, 5.0, 60.0])
def test_the_deadline_stays_where_it_was(later: float) -> None:
    """Time passes while nobody works on a run: its deadline is not given anew, and its duration goes on."""
    run, back, clock = brought(FULL, later=later)
    assert run.order.timeout - later == pytest.approx(back.deadline - clock.monotonic())
    assert later == pytest.approx(clock.monotonic() - back.began)


def test_a_wall_clock_that_was_set_back_makes_no_duration_negative() -> None:
    """An administrator may do so."""
    _, back, clock = brought(FULL, later=-100.0)
    back.close("succeeded", clock)
    assert 0.0 == back.duration


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"timeout": 1.0}, True),
        ({"traceparent": ""}, True),
        ({"wanted": lambda: False}, True),
        ({"input": {}}, False),
        ({"metadata": {}}, False),
        ({"label": None}, False),
        ({"all_outputs": False}, False),
        ({"workflow": "other"}, False),
        ({"client": "two"}, False),
    ],
)
def test_what_makes_two_orders_the_same(changed: dict[str, object], *, same: bool) -> None:
    """Not when, in which trace or for whom; everything else that was asked."""
    run = RunRecord.open(FULL, "layer", ManualClock())
    stored = stored_run(run, owner="me", leased_until_at=5.0, callback_url=None)
    assert same == same_order(replace(FULL, **changed), order_of(stored))  # type: ignore[arg-type]  # names of its fields
