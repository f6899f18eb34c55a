"""Budget harness: a real executor and ledger on virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.testing import LogCapture

from gateway.runs.budgets.budget import Budget
from gateway.runs.budgets.keeper import BudgetKeeper
from gateway.runs.budgets.settlement import Settler
from gateway.runs.budgets.sweep import BudgetSweep
from gateway.runs.catalog import Workflow
from gateway.runs.prices import PriceTable
from gateway.store.budgets import BudgetStore, Charge, ReserveResult
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.budgets import MemoryBudgets
from gateway.store.memory.store import MemoryStore
from tests.runs.executor_harness import DONE, ExecutorHarness, ScriptStep
from tests.support.clock import ManualClock

PRICE = 40


class FailingLedger(MemoryBudgets):
    """A ledger that is unavailable before or after the write while `fails` says so; counts its calls."""

    fails = ""
    reservations = 0

    async def reserve(self, run_id: str, charges: Any, *, now_at: float, expires_at: float) -> ReserveResult:
        """See `BudgetStore.reserve`."""
        self.reservations += 1
        if self.fails == "before":
            raise StoreUnavailable
        result = await super().reserve(run_id, charges, now_at=now_at, expires_at=expires_at)
        if self.fails == "after":
            raise StoreUnavailable
        return result

    async def settle(self, settlements: Any) -> None:
        """See `BudgetStore.settle`."""
        if self.fails:
            raise StoreUnavailable
        await super().settle(settlements)


@dataclass
class BudgetHarness:
    """Executor with these budgets."""

    budgets: tuple[Budget, ...]
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime(2026, 11, 27, 12, tzinfo=UTC)))

    def __post_init__(self) -> None:
        self.harness = ExecutorHarness(clock=self.clock)
        self.store = MemoryStore(self.clock)
        self.ledger = FailingLedger(lambda: None)
        self.store.budgets = self.ledger
        self.log = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        metrics = self.harness.metrics
        settler = Settler(self.ledger, self.clock, log, metrics.settlement_dropped)
        self.keeper = self.harness.context.budgets = BudgetKeeper(self.ledger, settler, self.clock, metrics, log)
        self.keeper.reconfigure(self.budgets)
        self.sweep = BudgetSweep(self.keeper, self.store, self.clock, metrics, log)

    def studio(self, *script: ScriptStep, price: int | None = PRICE, **fields: Any) -> Workflow:
        """Return a workflow with a price."""
        prices = None if price is None else PriceTable(price)
        return self.harness.studio(*(script or (DONE,)), prices=prices, **fields)

    def layer(self, *script: ScriptStep, price: int | None = PRICE, **fields: Any) -> Workflow:
        """Return another workflow with a price."""
        prices = None if price is None else PriceTable(price)
        return self.harness.layer(*script, prices=prices, **fields)

    async def sums(self, name: str = "all", at: datetime | None = None) -> tuple[int, int, int]:
        """Return what is reserved, spent and unknown of a budget, after all settlements."""
        await self.keeper.settler.flush()
        budget = next(each for each in self.budgets if each.name == name)
        [balance] = await self.ledger.get_balances([budget.account(at or self.clock.now())[0]])
        return balance.reserved, balance.spent, balance.unknown


async def hold(ledger: BudgetStore, budget: Budget, clock: ManualClock, amount: int, run_id: str = "run_held") -> None:
    """Reserve an amount for another run."""
    account, window = budget.account(clock.now())
    charges = [Charge(account, amount, None, window.ends_at)]
    await ledger.reserve(run_id, charges, now_at=clock.now().timestamp(), expires_at=clock.now().timestamp() + 60)
