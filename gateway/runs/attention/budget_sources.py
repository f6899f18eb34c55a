"""Source of items about budgets: those that are spent, or nearly."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.clock import format_rfc3339
from gateway.money import format_amount
from gateway.runs.attention.items import AttentionContext, AttentionItem, AttentionKind
from gateway.runs.budgets.budget import Budget, Window
from gateway.store.budgets import Balance

_ACTION = "runward budgets"


async def spent_budgets(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each budget that has no room for a run, or of which more is used than `warn_at` says last."""
    budgets, now = context.config.budgets, datetime.fromtimestamp(context.now_at, UTC)
    if not budgets:
        return []
    accounts = [budget.account(now) for budget in budgets]
    balances = await context.store.budgets.get_balances([account for account, _ in accounts])
    items = []
    for budget, (_, window), balance in zip(budgets, accounts, balances, strict=True):
        if budget.hard and budget.exhausted_at(balance.used):
            items.append(_exhausted(budget, window, balance))
        elif budget.warn_at and balance.used * 100 >= budget.amount * max(budget.warn_at):
            items.append(_low(budget, window, balance))
    return items


def _exhausted(budget: Budget, window: Window, balance: Balance) -> AttentionItem:
    return AttentionItem(
        AttentionKind.BUDGET_EXHAUSTED,
        "critical",
        budget.name,
        f"The budget {budget.name} is spent: {_used(budget, balance)}. Its runs are refused until {_end(window)}.",
        "docs/alerts.md#runwardbudgetexhausted",
        _ACTION,
    )


def _low(budget: Budget, window: Window, balance: Balance) -> AttentionItem:
    return AttentionItem(
        AttentionKind.BUDGET_LOW,
        "warning",
        budget.name,
        f"The budget {budget.name} is nearly spent: {_used(budget, balance)}. It has to last until {_end(window)}.",
        "docs/alerts.md#runwardbudgetnearlyspent",
        _ACTION,
    )


def _used(budget: Budget, balance: Balance) -> str:
    uncertain = f", {format_amount(balance.unknown)} of it uncertain" if balance.unknown else ""
    return f"{format_amount(balance.used)} of {format_amount(budget.amount)}{uncertain}"


def _end(window: Window) -> str:
    return format_rfc3339(datetime.fromtimestamp(window.ends_at, UTC))
