"""Metrics of money: what runs cost, and what remains of budgets."""

from __future__ import annotations

from gateway.observability.metric_families import MetricFamilies
from gateway.observability.metric_types import MoneyCounter


class MoneyMetrics(MetricFamilies):
    """Metrics of spend and budgets."""

    def __init__(self) -> None:
        super().__init__()
        self._spend = MoneyCounter(
            "runward_spend",
            "Declared prices of runs that ended, in the unit of the prices, by certainty when they ended.",
            ("client", "workflow", "provider", "certainty"),
        )
        self.registry.register(self._spend)
        self._families[self._spend.name] = self._spend
        self._budget_refusals = self._counter("budget_refusals", "Runs that a budget refused.", "budget")
        self._budget_ratios = self._gauge(
            "budget_remaining_ratio", "Share of a budget that remains in its current window, from 0 to 1.", "budget"
        )
        self._settlements_dropped = self._counter(
            "budget_settlements_dropped", "Settlements of budgets that were dropped, and are repaired later."
        )
        self._settlements_dropped.counts[()] = 0

    def run_cost(self, client: str, workflow: str, provider: str, *, spent: int, unknown: int) -> None:
        """Count what a run cost, in micros: for certain, and what may have been paid."""
        for certainty, amount in (("spent", spent), ("unknown", unknown)):
            if amount:
                self._spend.counts[client, workflow, provider, certainty] += amount

    def budget_refused(self, budget: str) -> None:
        """Count a run that a budget refused."""
        self._budget_refusals.counts[budget,] += 1

    def budget_used(self, budget: str, used: int, amount: int) -> None:
        """Set how much of a budget is used in its current window, in micros."""
        self._budget_ratios.labels(budget).set(max(0.0, 1 - used / amount) if amount else 0.0)

    def forget_budgets(self) -> None:
        """Remove the shares of all budgets, because others are configured."""
        self._budget_ratios.clear()

    def settlement_dropped(self) -> None:
        """Count a settlement of a budget that was dropped."""
        self._settlements_dropped.counts[()] += 1
