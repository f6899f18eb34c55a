"""Repair of the ledger after crashes, and settlement during outages of the store."""

from __future__ import annotations

import pytest

from gateway.runs.budgets.budget import Budget
from gateway.runs.budgets.sweep import KEPT_FOR
from gateway.store.budgets import CHECK_AFTER, Charge, Settlement
from gateway.store.contract import StoreUnavailable
from gateway.store.history import HistoryEntry
from gateway.store.records import FinalState, Phase, StoredRun
from tests.runs.budgets.budget_harness import PRICE, BudgetHarness, hold

ALL = Budget("all", 100, "month")


def stored(harness: BudgetHarness, run_id: str, status: str = "queued", *, durable: bool = True) -> StoredRun:
    now = harness.clock.now().timestamp()
    ended = status not in {"queued", "running"}
    return StoredRun(
        run_id,
        "one",
        "studio",
        "studio",
        b"{}",
        now,
        now + 60,
        "me",
        now + 30,
        phase=Phase.DONE if ended else Phase.SENDING,
        status=status,
        finished_at=now if ended else None,
        durable=durable,
    )


async def crashed(*run_ids: str) -> BudgetHarness:
    """Return a ledger with reservations of a process that was killed, each of 10, after the time of a check."""
    harness = BudgetHarness((ALL,))
    await harness.store.open()
    for run_id in run_ids:
        await hold(harness.ledger, ALL, harness.clock, 10, run_id)
    harness.clock.advance(CHECK_AFTER + 1)
    return harness


@pytest.mark.parametrize(
    ("status", "sums"),
    [
        ("succeeded", (0, 10, 0)),
        ("failed", (0, 10, 0)),
        ("unknown", (0, 0, 10)),
        ("not_run", (0, 0, 0)),
    ],
)
async def test_a_run_that_has_ended_is_settled_by_its_status(status: str, sums: tuple[int, int, int]) -> None:
    """It died after the end was stored, before the settlement."""
    harness = await crashed("run_durable", "run_recorded")
    run = stored(harness, "run_durable", "running")
    await harness.store.create_run(run, None)
    await harness.store.finish("run_durable", FinalState("me", status, b"{}", run.created_at, 1))
    await harness.store.add_history([HistoryEntry(stored(harness, "run_recorded", status, durable=False), (), b"")])
    assert 2 == await harness.sweep.sweep()
    assert tuple(2 * amount for amount in sums) == await harness.sums()
    assert 0 == await harness.sweep.sweep()
    repaired = [each["run_id"] for each in harness.log.entries if each["event"] == "budget_repaired"]
    assert ["run_durable", "run_recorded"] == sorted(repaired)


async def test_a_durable_run_in_progress_is_left_to_its_owner() -> None:
    """Its process, or the one that adopts it, settles it."""
    harness = await crashed("run_1")
    await harness.store.create_run(stored(harness, "run_1", "running"), None)
    for _ in range(3):
        assert (0, (10, 0, 0)) == (await harness.sweep.sweep(), await harness.sums())
        harness.clock.advance(CHECK_AFTER + 1)
    await harness.store.finish("run_1", FinalState("me", "succeeded", b"{}", 1.0, 1))
    assert (1, (0, 10, 0)) == (await harness.sweep.sweep(), await harness.sums())


async def test_a_run_without_a_record_may_have_been_paid_once_its_deadline_has_passed() -> None:
    """It died after the reservation: whether the start was sent is not known, so nothing is given back."""
    harness = BudgetHarness((ALL,))
    await harness.store.open()
    await hold(harness.ledger, ALL, harness.clock, 10, "run_1")
    assert (0, (10, 0, 0)) == (await harness.sweep.sweep(), await harness.sums())
    harness.clock.advance(CHECK_AFTER + 1)
    assert (1, (0, 0, 10)) == (await harness.sweep.sweep(), await harness.sums())


async def test_a_long_plain_run_is_not_given_up() -> None:
    harness = BudgetHarness((ALL,))
    await harness.store.open()
    account, window = ALL.account(harness.clock.now())
    now = harness.clock.now().timestamp()
    charges = [Charge(account, PRICE, None, window.ends_at)]
    await harness.ledger.reserve("run_1", charges, now_at=now, expires_at=now + 3 * CHECK_AFTER)
    for _ in range(2):
        harness.clock.advance(CHECK_AFTER + 1)
        assert (0, (PRICE, 0, 0)) == (await harness.sweep.sweep(), await harness.sums())
    harness.clock.advance(CHECK_AFTER + 1)
    assert (1, (0, 0, PRICE)) == (await harness.sweep.sweep(), await harness.sums())


async def test_many_reservations_are_settled_in_groups() -> None:
    harness = BudgetHarness((Budget("all", 10_000, "month"),))
    await harness.store.open()
    for number in range(250):
        await hold(harness.ledger, harness.budgets[0], harness.clock, 1, f"run_{number}")
    harness.clock.advance(CHECK_AFTER + 61)
    assert (250, (0, 0, 250)) == (await harness.sweep.sweep(), await harness.sums())


async def test_settlements_wait_for_the_store() -> None:
    """None is lost, and each run is settled once."""
    harness = BudgetHarness((ALL,))
    await hold(harness.ledger, ALL, harness.clock, 10, "run_1")
    await hold(harness.ledger, ALL, harness.clock, 10, "run_2")
    settler = harness.keeper.settler
    harness.ledger.fails = "before"
    settler.settle(Settlement("run_1", "unknown"))
    settler.settle(Settlement("run_2", "none"))
    with pytest.raises(StoreUnavailable):
        await settler.flush()
    settler.settle(Settlement("run_1", "spent"))
    harness.ledger.fails = ""
    assert (0, 10, 0) == await harness.sums()


async def test_too_many_waiting_settlements_are_dropped_and_counted() -> None:
    """The sweep repairs them."""
    harness = BudgetHarness((ALL,))
    for number in range(10_002):
        harness.keeper.settler.settle(Settlement(f"run_{number}", "none"))
    harness.keeper.settler.settle(Settlement("run_1", "spent"))
    assert 2 == harness.harness.metric_value("runward_budget_settlements_dropped_total")
    await harness.keeper.settler.close()


async def test_the_metrics_follow_other_replicas_and_windows() -> None:
    harness = BudgetHarness((Budget("all", 100, "day"), Budget("none", 0, "day")))
    await hold(harness.ledger, harness.budgets[0], harness.clock, 75)
    await harness.sweep.refresh_metrics()
    assert 0.25 == harness.harness.metric_value("runward_budget_remaining_ratio", budget="all")
    assert 0 == harness.harness.metric_value("runward_budget_remaining_ratio", budget="none")
    harness.clock.advance(86_400)
    await harness.sweep.refresh_metrics()
    assert 1 == harness.harness.metric_value("runward_budget_remaining_ratio", budget="all")
    harness.keeper.reconfigure(())
    assert "runward_budget_remaining_ratio{" not in harness.harness.metrics.render().decode()


async def test_old_windows_are_deleted() -> None:
    harness = BudgetHarness((ALL,))
    await hold(harness.ledger, ALL, harness.clock, 10)
    at = harness.clock.now()
    harness.clock.advance(KEPT_FOR)
    await harness.sweep._purge()
    assert (10, 0, 0) == await harness.sums(at=at)
    harness.clock.advance(31 * 86_400)
    await harness.sweep._purge()
    assert (0, 0, 0) == await harness.sums(at=at)
