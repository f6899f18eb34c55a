"""Operations of `gateway.api.admin.budgets`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.money import AMOUNT_PATTERN

_AMOUNT = f"^-?{AMOUNT_PATTERN.removeprefix('^')}"


class BudgetShown(BaseModel):
    """A budget in its current window. Amounts are decimal numbers as texts, in the unit of the prices."""

    budget: Annotated[
        str, Field(description="Name of the budget; that of a client's own budget is `client:NAME`, and so on.")
    ]
    per: Literal["day", "week", "month"]
    conditions: Annotated[
        dict[str, str],
        Field(description="What its runs have in common: client, team, key, tag, workflow, provider; may be empty."),
    ]
    window: Annotated[str, Field(description="Name of the window: `2026-11-27`, `2026-W48` or `2026-11`, in UTC.")]
    starts_at: datetime
    ends_at: datetime
    amount: Annotated[str, Field(pattern=_AMOUNT)]
    spent: Annotated[str, Field(pattern=_AMOUNT, description="Of runs that succeeded or failed.")]
    unknown: Annotated[str, Field(pattern=_AMOUNT, description="Of runs whose outcome is unknown: it may be paid.")]
    reserved: Annotated[str, Field(pattern=_AMOUNT, description="Of runs in progress.")]
    remaining: Annotated[str, Field(pattern=_AMOUNT)]
    exceeded_by: Annotated[
        str, Field(pattern=_AMOUNT, description="Above the amount, as it was lowered or is not a hard limit.")
    ]
    exhausted: Annotated[bool, Field(description="Less remains than any start costs that it covers.")]
    warn_at: list[str]
    hard: bool


class BudgetsList(BaseModel):
    """All configured budgets, by name."""

    budgets: list[BudgetShown]
    read_at: datetime


GROUP = OperationGroup(
    "Budgets",
    "How much may be spent, and how much is.",
    (
        Operation(
            "GET",
            "/api/budgets",
            "listBudgets",
            "List the budgets with what is spent in their current windows",
            {200: Answer("The budgets.", BudgetsList)},
            description="A run counts in the window in which it was created.",
            codes=("store_unavailable",),
        ),
    ),
)
