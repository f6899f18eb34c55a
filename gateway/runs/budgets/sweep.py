"""Repair of the ledger: reservations that a crash or an outage left open are settled by what the store knows.

A run that has ended is settled by its status; one in progress is left to the process that executes or adopts it. A run
that the store does not have was executed by a process that is gone, once its deadline has passed: it may have been
paid. Metrics of budgets are read again in the same rhythm, for the windows that begin and the runs of other replicas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.runs.budgets.keeper import BudgetKeeper, settled_as
from gateway.store.budgets import MAX_SETTLED, OpenReservation, Settlement
from gateway.store.contract import StoreUnavailable
from gateway.store.records import Phase, RunOverview

_INTERVAL = 15.0  # seconds
_ROUNDS = 20  # groups of reservations in one sweep
_PURGE_INTERVAL = 3600.0  # seconds
KEPT_FOR = 92 * 86_400.0
"""Seconds for which the sums of a window are kept after its end."""


class OverviewStore(Protocol):
    """The part of `Store` that tells what became of a run."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """See `Store.get_overview`. Raises StoreUnavailable."""


@dataclass(slots=True)
class BudgetSweep:
    """Task of each process; a reservation is looked at by one of them at a time."""

    keeper: BudgetKeeper
    runs: OverviewStore
    clock: Clock
    metrics: Metrics
    log: Logger
    _next_purge: float = field(default=0.0)  # monotonic

    async def run_forever(self) -> None:
        """Settle, read the balances, and delete old windows, in a loop."""
        while True:
            try:
                await self.refresh_metrics()
                await self.sweep()
                await self._purge()
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))
            await self.clock.sleep(_INTERVAL)

    async def sweep(self) -> int:
        """Settle the open reservations that are due, at most some thousands; returns how many were settled."""
        store, settled = self.keeper.store, 0
        for _ in range(_ROUNDS):
            now_at = self.clock.now().timestamp()
            taken = await store.take_unsettled(now_at=now_at, limit=MAX_SETTLED)
            found = [each for each in [await self._settlement(each, now_at) for each in taken] if each is not None]
            if found:
                await store.settle(found)
                settled += len(found)
                for settlement in found:
                    self.log.warning("budget_repaired", run_id=settlement.run_id, settled_as=settlement.settled_as)
            if len(taken) < MAX_SETTLED:
                break
        return settled

    async def refresh_metrics(self) -> None:
        """Set the metrics of all budgets to their balances in the current windows."""
        budgets, now = self.keeper.budgets, self.clock.now()
        if budgets:
            balances = await self.keeper.store.get_balances([budget.account(now)[0] for budget in budgets])
            for budget, balance in zip(budgets, balances, strict=True):
                self.metrics.budget_used(budget.name, balance.used, budget.amount)

    async def _settlement(self, reservation: OpenReservation, now_at: float) -> Settlement | None:
        run = await self.runs.get_overview(reservation.run_id)
        if run is None:
            return Settlement(reservation.run_id, "unknown") if reservation.expires_at <= now_at else None
        how = settled_as(run.status) if run.phase is Phase.DONE else None
        return None if how is None else Settlement(reservation.run_id, how)

    async def _purge(self) -> None:
        if self.clock.monotonic() >= self._next_purge:
            await self.keeper.store.purge(ended_before_at=self.clock.now().timestamp() - KEPT_FOR)
            self._next_purge = self.clock.monotonic() + _PURGE_INTERVAL
