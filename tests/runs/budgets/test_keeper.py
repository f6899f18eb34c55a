"""Reservation before a start, and settlement by the outcome, through the executor."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from gateway.errors import BudgetExhausted, StoreError
from gateway.runs.budgets.budget import Budget
from gateway.runs.catalog import Workflow
from providers.contract import Cause
from tests.runs.budgets.budget_harness import PRICE, BudgetHarness, hold
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, ending_of_run, fault, upstream_of

ALL = Budget("all", 100, "month")
MINE = Budget("mine", 100, "day", client="one")


async def test_the_price_is_reserved_before_anything_is_sent() -> None:
    """And spent once the run has ended."""
    harness = BudgetHarness((ALL, MINE))
    seen: list[tuple[int, int, int]] = []

    def answer() -> object:
        balances = harness.ledger._balances
        seen.extend((each.reserved, each.spent, each.unknown) for each in balances.values())
        return DONE

    record, error = await harness.harness.run(harness.studio(answer))  # type: ignore[arg-type]
    assert (None, [(PRICE, 0, 0)] * 2) == (error, seen)
    assert [(0, PRICE, 0)] * 2 == [await harness.sums(), await harness.sums("mine")]
    assert [("Runward-Cost", "0.00004"), ("Runward-Budget-Remaining", "0.00006; window=2026-11-27")] == [
        *record.cost_headers()
    ]


@pytest.mark.parametrize(
    ("step", "sums"),
    [
        (DONE, (0, PRICE, 0)),
        (fault(Cause.RUN_FAILED), (0, PRICE, 0)),
        (fault(Cause.CREDENTIALS), (0, 0, 0)),
        (fault(Cause.DISCONNECTED), (0, 0, PRICE)),
        (fault(Cause.TIMEOUT), (0, 0, PRICE)),
    ],
)
async def test_a_run_is_settled_by_its_outcome(step: object, sums: tuple[int, int, int]) -> None:
    """Not_run gives back, succeeded and failed keep, unknown keeps and is shown apart."""
    harness = BudgetHarness((ALL,))
    record, _ = await harness.harness.run(harness.studio(step))  # type: ignore[arg-type]
    assert sums == await harness.sums()
    cost = record.cost()
    assert sums[1:] == (cost.spent, cost.unknown)
    spent = [harness.harness.metric_value("runward_spend_total", certainty=each) for each in ("spent", "unknown")]
    assert [pytest.approx(amount / 1e6) for amount in sums[1:]] == spent


async def test_a_run_above_the_budget_is_refused_and_costs_nothing() -> None:
    """Not_run, nothing was sent, and the limits are given back."""
    harness = BudgetHarness((ALL,))
    workflow = harness.studio(DONE)
    for _ in range(2):
        assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(workflow))
    result = await harness.harness.run(workflow)
    assert ("budget_exhausted", "not_run", 0) == ending_of_run(result)
    assert 2 == upstream_of(workflow).starts
    assert 0 == harness.harness.slots_in_use()
    assert (0, 2 * PRICE, 0) == await harness.sums()
    error = result[1]
    assert isinstance(error, BudgetExhausted)
    end_of_month = (datetime(2026, 12, 1, tzinfo=UTC) - harness.clock.now()).total_seconds()
    assert end_of_month == error.retry_after
    assert "A budget that covers this run is exhausted." == error.detail  # it tells nothing of other clients
    assert 1 == harness.harness.metric_value("runward_budget_refusals_total", budget="all")


async def test_the_client_is_told_what_remains_of_its_own_budget() -> None:
    harness = BudgetHarness((MINE,))
    for _ in range(2):
        await harness.harness.run(harness.studio())
    _, error = await harness.harness.run(harness.studio())
    assert error is not None
    assert (
        "The budget of 0.0001 per day is exhausted: 0.00002 of it remain in 2026-11-27, and the run costs 0.00004."
        == error.detail
    )
    assert (("Runward-Cost", "0"),) == error.headers


async def test_what_costs_nothing_or_is_not_covered_asks_no_store() -> None:
    """All others pay nothing."""
    harness = BudgetHarness((Budget("two", 100, "day", client="two"), Budget("tagged", 100, "day", tag="nightly")))
    for workflow in (harness.studio(), harness.studio(price=0), harness.studio(price=None)):
        await harness.harness.run(workflow)
    assert 0 == harness.ledger.reservations
    await harness.harness.run(harness.studio(), harness.harness.new_run(tags=("nightly",)))
    assert (1, (0, PRICE, 0)) == (harness.ledger.reservations, await harness.sums("tagged"))


async def test_a_soft_budget_counts_and_refuses_nothing() -> None:
    harness = BudgetHarness((Budget("all", 50, "day", hard=False),))
    for _ in range(3):
        assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(harness.studio()))
    assert (0, 3 * PRICE, 0) == await harness.sums()
    assert 0 == harness.harness.metric_value("runward_budget_remaining_ratio", budget="all")


async def test_a_fallback_costs_its_own_price() -> None:
    """On the budgets that cover it; what was reserved for the first workflow is given back."""
    first, second = Budget("first", 100, "day", workflow="studio"), Budget("second", 100, "day", workflow="layer")
    harness = BudgetHarness((first, second, ALL))
    fallback = harness.layer(STARTED, ENDED, price=70)
    workflow = harness.studio(fault(Cause.CREDENTIALS), fallbacks=(fallback,))
    record, _ = await harness.harness.run(workflow)
    assert "succeeded" == record.status
    assert [(0, 0, 0), (0, 70, 0), (0, 70, 0)] == [await harness.sums(each) for each in ("first", "second", "all")]
    assert 70 == record.cost().amount


@pytest.mark.parametrize("price", [0, None])
async def test_a_free_fallback_gives_the_reservation_back(price: int | None) -> None:
    harness = BudgetHarness((ALL,))
    workflow = harness.studio(fault(Cause.CREDENTIALS), fallbacks=(harness.layer(STARTED, ENDED, price=price),))
    record, _ = await harness.harness.run(workflow)
    assert ("succeeded", (0, 0, 0)) == (record.status, await harness.sums())


async def test_a_fallback_above_the_budget_is_refused() -> None:
    harness = BudgetHarness((ALL,))
    fallback = harness.layer(STARTED, ENDED, price=101)
    workflow = harness.studio(fault(Cause.CREDENTIALS), fallbacks=(fallback,))
    assert ("budget_exhausted", "not_run", 1) == ending_of_run(await harness.harness.run(workflow))
    assert (0, (0, 0, 0)) == (upstream_of(fallback).starts, await harness.sums())


async def test_each_start_of_a_repeatable_run_may_be_paid() -> None:
    """The first was not answered: a second one reserves again, and the first stays unknown."""
    harness = BudgetHarness((ALL,))
    workflow = harness.studio(fault(Cause.DISCONNECTED), DONE, repeatable=True)
    record, _ = await harness.harness.run(workflow)
    assert ("succeeded", 2) == (record.status, record.attempts)
    assert (0, PRICE, PRICE) == await harness.sums()
    assert (2 * PRICE, "unknown", PRICE) == (record.cost().amount, record.cost().certainty, record.cost().unknown)


async def test_a_repeatable_run_is_not_repeated_above_the_budget() -> None:
    """Its outcome is unknown then: the first start may have been executed."""
    harness = BudgetHarness((Budget("all", 79, "day"),))
    workflow = harness.studio(fault(Cause.DISCONNECTED), DONE, repeatable=True)
    assert ("budget_exhausted", "unknown", 1) == ending_of_run(await harness.harness.run(workflow))
    assert (1, (0, 0, PRICE)) == (upstream_of(workflow).starts, await harness.sums())


async def test_a_second_start_that_was_refused_costs_nothing() -> None:
    """The first start stays unknown, the second was certainly not executed."""
    harness = BudgetHarness((ALL,))
    workflow = harness.studio(fault(Cause.DISCONNECTED), fault(Cause.CREDENTIALS), repeatable=True)
    record, _ = await harness.harness.run(workflow)
    assert ("unknown", (0, 0, PRICE)) == (record.status, await harness.sums())
    assert PRICE == record.cost().unknown


async def test_a_repeatable_run_that_falls_back_keeps_what_may_be_paid() -> None:
    names = ("first", "studio"), ("second", "layer"), ("all", None)
    harness = BudgetHarness(tuple(Budget(name, 1000, "day", workflow=workflow) for name, workflow in names))
    fallback = harness.layer(STARTED, ENDED, price=30)
    workflow = harness.studio(fault(Cause.DISCONNECTED), repeatable=True, fallbacks=(fallback,))
    record, _ = await harness.harness.run(workflow)
    assert "succeeded" == record.status
    sums = [await harness.sums(each) for each in ("first", "second", "all")]
    assert [(0, 0, 3 * PRICE), (0, 30, 0), (0, 30, 3 * PRICE)] == sums
    assert (30, 3 * PRICE) == (record.cost().spent, record.cost().unknown)


async def test_without_the_store_nothing_is_started() -> None:
    """By default it is denied: 503, not_run; what was reserved after all is given back later."""
    harness = BudgetHarness((ALL,))
    for failure in ("before", "after"):
        harness.ledger.fails = failure
        workflow = harness.studio()
        result = await harness.harness.run(workflow)
        assert ("store_unavailable", "not_run", 0) == ending_of_run(result)
        assert (True, 0) == (isinstance(result[1], StoreError), upstream_of(workflow).starts)
        harness.ledger.fails = ""
        assert (0, 0, 0) == await harness.sums()
    assert 0 == harness.harness.slots_in_use()


async def test_a_background_run_waits_for_the_store() -> None:
    harness = BudgetHarness((ALL,))
    harness.ledger.fails = "before"
    harness.clock.sleep = _recover_after(harness, 3)  # type: ignore[method-assign, assignment]
    workflow = harness.studio()
    record, error = await harness.harness.run(workflow, harness.harness.new_run(synchronous=False))
    assert (None, "succeeded", 4) == (error, record.status, harness.ledger.reservations)


def _recover_after(harness: BudgetHarness, sleeps: int) -> object:
    remaining = [sleeps]

    async def sleep(seconds: float) -> None:
        harness.clock.advance(seconds)
        remaining[0] -= 1
        if remaining[0] == 0:
            harness.ledger.fails = ""
        await asyncio.sleep(0)

    return sleep


async def test_a_background_run_above_the_budget_ends_at_once() -> None:
    """It counts in the window of its creation, so that waiting for the next one would not help it."""
    harness = BudgetHarness((ALL,))
    await hold(harness.ledger, ALL, harness.clock, 70)
    before = harness.clock.monotonic()
    record = harness.harness.new_run(synchronous=False, timeout=90 * 86_400.0)
    assert ("budget_exhausted", "not_run", 0) == ending_of_run(await harness.harness.run(harness.studio(), record))
    assert before == harness.clock.monotonic()


async def test_a_window_begins_at_midnight_and_at_the_first() -> None:
    """In UTC, with the time of the run's creation."""
    harness = BudgetHarness((MINE, ALL))
    for _ in range(2):
        await harness.harness.run(harness.studio())
    late = harness.harness.new_run(timeout=86_400.0)
    harness.clock.advance(12 * 3600)  # 2026-11-28T00:00
    assert ("budget_exhausted", "not_run", 0) == ending_of_run(await harness.harness.run(harness.studio(), late))
    harness.keeper.reconfigure((MINE,))
    assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(harness.studio()))
    assert (0, PRICE, 0) == await harness.sums("mine")
    harness.keeper.reconfigure((ALL,))
    assert ("budget_exhausted", "not_run", 0) == ending_of_run(await harness.harness.run(harness.studio()))
    harness.clock.advance(3 * 86_400)  # 2026-12-01
    assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(harness.studio()))
    assert (0, PRICE, 0) == await harness.sums("all")


async def test_a_clock_that_is_set_back_renews_no_window() -> None:
    harness = BudgetHarness((MINE,))
    harness.clock.step_wall(12 * 3600 + 60)
    for _ in range(2):
        await harness.harness.run(harness.studio())
    harness.clock.step_wall(-120)  # the day before: its own account
    assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(harness.studio()))
    harness.clock.step_wall(120)
    assert ("budget_exhausted", "not_run", 0) == ending_of_run(await harness.harness.run(harness.studio()))


async def test_a_reload_lowers_and_raises_a_budget() -> None:
    """What is spent stays; runs in progress are not ended."""
    harness = BudgetHarness((ALL,))
    workflow = harness.studio()
    await harness.harness.run(workflow)
    harness.keeper.reconfigure((Budget("all", 30, "month"),))
    assert "budget_exhausted" == ending_of_run(await harness.harness.run(workflow))[0]
    harness.keeper.reconfigure((Budget("all", 1000, "month"),))
    for _ in range(3):
        assert (None, "succeeded", 1) == ending_of_run(await harness.harness.run(workflow))
    assert (0, 4 * PRICE, 0) == await harness.sums()


async def test_a_budget_that_is_removed_is_still_settled() -> None:
    harness = BudgetHarness((ALL,))

    def answer() -> object:
        harness.keeper.reconfigure(())
        return DONE

    await harness.harness.run(harness.studio(answer))  # type: ignore[arg-type]
    assert (0, PRICE, 0) == await harness.sums()


async def test_a_warning_is_logged_once_in_a_window() -> None:
    harness = BudgetHarness((Budget("all", 100, "day", warn_at=(40, 80, 100)),))
    for step in (DONE, fault(Cause.CREDENTIALS), DONE, DONE):
        await harness.harness.run(harness.studio(step))
        await harness.keeper.settler.flush()
    warnings = [(each["budget"], each["share"]) for each in harness.log.entries if each["event"] == "budget_warning"]
    assert [("all", 40), ("all", 80)] == warnings
    harness.clock.advance(86_400)
    await harness.harness.run(harness.studio())
    assert 3 == len([each for each in harness.log.entries if each["event"] == "budget_warning"])


async def test_a_run_that_is_cancelled_while_it_reserves_keeps_nothing() -> None:
    harness = BudgetHarness((ALL,))
    entered, leave = asyncio.Event(), asyncio.Event()
    reserve = harness.ledger.reserve

    async def slow(*arguments: object, **named: object) -> object:
        entered.set()
        await leave.wait()
        return await reserve(*arguments, **named)  # type: ignore[arg-type]

    harness.ledger.reserve = slow  # type: ignore[method-assign, assignment]
    workflow = harness.studio()
    task = asyncio.create_task(harness.harness.run(workflow))
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (0, 0, 0) == await harness.sums()
    leave.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ((0, 0, 0), 0) == (await harness.sums(), upstream_of(workflow).starts)


async def test_a_followed_run_is_settled_once_its_end_is_known() -> None:
    """Unknown after the deadline; spent when the provider reports the end. It is counted once in the metrics."""
    harness = BudgetHarness((ALL,))
    workflow: Workflow = harness.layer(STARTED, RUNNING)
    record, error = await harness.harness.run(workflow, harness.harness.new_run(timeout=3.0))
    assert ("unknown", True, (0, 0, PRICE)) == (record.status, error is not None, await harness.sums())
    followed = record.follow_on(600.0)
    upstream = upstream_of(workflow)
    upstream.script = [ENDED]
    await harness.harness.executor.follow(followed, workflow)
    assert ("succeeded", (0, PRICE, 0)) == (followed.status, await harness.sums())
    assert pytest.approx(PRICE / 1e6) == harness.harness.metric_value("runward_spend_total")
