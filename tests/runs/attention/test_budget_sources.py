"""Items about budgets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.runs.attention.budget_sources import spent_budgets
from gateway.runs.attention.items import AttentionConfig
from gateway.runs.budgets.budget import Budget
from gateway.store.budgets import Charge, Settlement
from gateway.store.memory.store import MemoryStore
from tests.runs.attention.samples import context
from tests.store.samples import NOW
from tests.support.clock import ManualClock

BUDGET = Budget("shop", 100, "month", warn_at=(50, 80), least_price=15)


@pytest.mark.parametrize(
    ("used", "kind", "severity"),
    [
        (79, None, None),
        (80, "budget_low", "warning"),
        (85, "budget_low", "warning"),
        (86, "budget_exhausted", "critical"),
        (100, "budget_exhausted", "critical"),
    ],
)
async def test_a_budget_is_an_item_from_its_last_warning_on(used: int, kind: str | None, severity: str | None) -> None:
    """Exhausted once less than the lowest price remains. What is reserved or uncertain counts."""
    store = MemoryStore(ManualClock())
    await store.open()
    account, window = BUDGET.account(datetime.fromtimestamp(NOW, UTC))
    for run_id, amount in (("run_1", 30), ("run_2", used - 30)):
        charges = [Charge(account, amount, None, window.ends_at)]
        await store.budgets.reserve(run_id, charges, now_at=NOW, expires_at=NOW)
    await store.budgets.settle([Settlement("run_1", "unknown")])
    found = await spent_budgets(context(store, NOW, config=AttentionConfig(budgets=(BUDGET,))))
    assert ([] if kind is None else [(kind, severity, "shop")]) == [(i.kind, i.severity, i.subject) for i in found]
    assert all("0.00003 of it uncertain" in item.summary for item in found)


async def test_a_soft_budget_is_never_exhausted() -> None:
    """And without a warning it is no item at all."""
    store = MemoryStore(ManualClock())
    await store.open()
    budgets = (Budget("soft", 0, "day", hard=False), Budget("silent", 0, "day", hard=False, warn_at=()))
    found = await spent_budgets(context(store, NOW, config=AttentionConfig(budgets=budgets)))
    assert [("budget_low", "soft")] == [(item.kind, item.subject) for item in found]
    assert [] == await spent_budgets(context(store, NOW))
