"""Budgets of a configuration."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.runs.budgets.budget import Budget
from gateway.settings import Settings
from gateway.settings.budget_coverage import covered_by
from gateway.settings.price_section import PriceSettings


def configured_budgets(settings: Settings) -> tuple[Budget, ...]:
    """Return the budgets of a configuration, by name."""
    return tuple(
        Budget(
            name,
            each.amount,
            each.per,
            each.client,
            each.team,
            each.key,
            each.tag,
            each.workflow,
            each.provider,
            each.warn_at,
            each.hard,
            _least_price(covered_by(each, settings.clients, settings.workflows, settings.providers)),
        )
        for name, each in sorted(settings.resolved_budgets().items())
    )


def _least_price(covered: Iterable[PriceSettings]) -> int:
    prices = {price for each in covered for price in (each.default, *each.labels.values(), *each.versions.values())}
    return min(prices - {0}, default=1)
