"""Reservation of the price of a start on every budget that covers it: the last step before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.errors import BudgetExhausted, StoreError
from gateway.money import format_amount
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.runs.budgets.budget import Budget, Window
from gateway.runs.budgets.reservation import RunReservation
from gateway.runs.budgets.settlement import Settler
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord, RunSpec, RunStatus
from gateway.store.budgets import BudgetStore, Charge, ReserveResult, SettledAs, Settlement
from gateway.store.contract import StoreUnavailable

_GRACE = 60.0  # seconds after its deadline until a run that is not durable has certainly ended
_SETTLED_AS: dict[str, SettledAs] = {
    "succeeded": "spent",
    "failed": "spent",
    "unknown": "unknown",
    "not_run": "none",
}


def settled_as(status: RunStatus | str) -> SettledAs | None:
    """Return how the reservation of a run with this status is settled; None if it has not ended."""
    return _SETTLED_AS.get(status)


@dataclass(slots=True)
class BudgetKeeper:
    """Reserves prices, and hands reservations of runs that have ended to `settler`.

    A run counts in the windows of the time at which it was created, so that a process that adopts it finds the same.
    """

    store: BudgetStore
    settler: Settler
    clock: Clock
    metrics: Metrics
    log: Logger
    budgets: Sequence[Budget] = ()
    _covering: dict[tuple[str, str | None, str, str], tuple[Budget, ...]] = field(default_factory=dict)

    def reconfigure(self, budgets: Sequence[Budget]) -> None:
        """Apply other budgets from the next reservation on; the sums of a budget that keeps its name stay."""
        self.budgets = budgets
        self._covering = {}
        self.metrics.forget_budgets()

    async def reserve(self, record: RunRecord, workflow: Workflow) -> None:
        """Reserve the price of the next start of a run, in addition to what earlier ones may have cost.

        Reserves nothing if the start is free or no budget covers it. Raises BudgetExhausted, StoreError.
        """
        budgets = self._matching(record.spec, workflow) if record.price else ()
        before = record.reservation
        if not budgets and before is None:
            return
        charges, windows = self._charges(record, budgets)
        record.reservation = RunReservation(charges, record.maybe_paid)  # even if the answer of the store is lost
        if not charges:
            await self._give_back(record)
            return
        result = await self._reserve_in_store(record, charges)
        if result.refused_by is not None:
            record.reservation = before
            raise self._refusal(record, budgets, windows, result)
        self._report(budgets, result)
        record.reservation.remaining = _tightest(budgets, windows, result)

    def must_extend(self, record: RunRecord) -> bool:
        """Return whether a start may have been executed since the last reservation: another one costs its price too."""
        return record.reservation is not None and record.maybe_paid > record.reservation.paid_before

    def settle(self, record: RunRecord) -> None:
        """Settle the reservation of a run that has ended, soon."""
        how = settled_as(record.status)
        if how is not None:
            self.settler.settle(Settlement(record.id, how, last_started=self.must_extend(record)))

    def settle_of_other(self, run_id: str, status: RunStatus) -> None:
        """Settle the reservation that another process may have made for a run that has ended, soon."""
        how = settled_as(status)
        if self.budgets and how is not None:
            self.settler.settle(Settlement(run_id, how))

    def _matching(self, spec: RunSpec, workflow: Workflow) -> Sequence[Budget]:
        if not self.budgets:
            return ()
        place = spec.client, spec.team, workflow.alias, workflow.provider.name
        covering = self._covering.get(place)
        if covering is None:
            covering = self._covering[place] = tuple(budget for budget in self.budgets if budget.covers(*place))
        return [budget for budget in covering if budget.includes(spec.key_id, spec.tags)]

    def _charges(self, record: RunRecord, budgets: Sequence[Budget]) -> tuple[tuple[Charge, ...], list[Window]]:
        """Return a charge for each budget, followed by those of earlier starts in others; and the budgets' windows."""
        before, price = record.reservation, record.price or 0
        earlier = {} if before is None else {c.account: c for c in before.earlier_charges(record.maybe_paid)}
        charges, windows = [], []
        for budget in budgets:
            account, window = budget.account(record.created_at)
            held = earlier.pop(account, None)
            paid = 0 if held is None else held.amount
            limit = budget.amount if budget.hard else None
            charges.append(Charge(account, paid + price, limit, window.ends_at, paid))
            windows.append(window)
        return (*charges, *earlier.values()), windows

    async def _reserve_in_store(self, record: RunRecord, charges: Sequence[Charge]) -> ReserveResult:
        """Reserve; if the caller is cancelled, what is reserved afterwards is given back. Raises StoreError."""
        now_at, monotonic = self.clock.now().timestamp(), self.clock.monotonic()
        expires_at = now_at + max(0.0, record.deadline - monotonic) + _GRACE
        call = asyncio.ensure_future(self.store.reserve(record.id, charges, now_at=now_at, expires_at=expires_at))
        try:
            return await record.await_external(asyncio.shield(call), self.clock, "store")
        except StoreUnavailable:
            raise StoreError(retry_after=1) from None
        except asyncio.CancelledError:
            call.add_done_callback(lambda done: self._give_back_late(record, done))
            raise

    def _give_back_late(self, record: RunRecord, call: asyncio.Future[ReserveResult]) -> None:
        """Settle a run that ended while it reserved; one that has not ended is adopted by another process."""
        if not call.cancelled() and call.exception() is None and record.finished_at is not None:
            self.settle(record)

    async def _give_back(self, record: RunRecord) -> None:
        """Give back what a run has reserved, because what it does now costs nothing. Raises StoreError."""
        settlement = self.store.settle([Settlement(record.id, "none")])
        try:
            await record.await_external(settlement, self.clock, "store")
        except StoreUnavailable:
            raise StoreError(retry_after=1) from None
        record.reservation = None

    def _refusal(
        self, record: RunRecord, budgets: Sequence[Budget], windows: Sequence[Window], result: ReserveResult
    ) -> BudgetExhausted:
        refused_by = result.refused_by or 0
        budget, window = budgets[refused_by], windows[refused_by]
        self.metrics.budget_refused(budget.name)
        self._report(budgets, result)
        detail = "A budget that covers this run is exhausted."
        if budget.of_one_client:
            remaining = max(0, budget.amount - result.balances[refused_by].used)
            detail = (
                f"The budget of {format_amount(budget.amount)} per {budget.per} is exhausted: "
                f"{format_amount(remaining)} of it remain in {window.label}, and the run costs "
                f"{format_amount(record.price or 0)}."
            )
        now = self.clock.now().timestamp()
        return BudgetExhausted(detail, retry_after=max(1.0, window.ends_at - now))

    def _report(self, budgets: Sequence[Budget], result: ReserveResult) -> None:
        """Set the metrics of the budgets, and log each warning that is due: once in a window over all replicas."""
        for budget, balance, peak_before in zip(budgets, result.balances, result.peaks_before, strict=False):
            self.metrics.budget_used(budget.name, balance.used, budget.amount)
            for share in budget.warn_at:
                if peak_before * 100 < budget.amount * share <= balance.peak * 100:
                    self.log.warning("budget_warning", budget=budget.name, share=share)


def _tightest(budgets: Sequence[Budget], windows: Sequence[Window], result: ReserveResult) -> tuple[int, str] | None:
    """Return the smallest remaining amount of the budgets that the client may know, and its window."""
    known = (
        (max(0, budget.amount - balance.used), window.label)
        for budget, window, balance in zip(budgets, windows, result.balances, strict=False)
        if budget.of_one_client
    )
    return min(known, default=None)
