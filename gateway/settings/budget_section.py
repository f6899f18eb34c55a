"""Budgets: how much may be spent in a window, and by whom."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.settings.sections import Section
from gateway.settings.types.fields import Name
from gateway.settings.types.money import Amount

KEY_ID_PATTERN = r"^key_[A-Za-z0-9_-]{1,64}$"
TAG_PATTERN = r"^[A-Za-z0-9_.:/-]{1,64}$"
PERCENT_PATTERN = "^(?:[1-9][0-9]?|100)%$"
CONDITIONS = ("client", "team", "key", "tag", "workflow", "provider")
"""Fields of a budget that say which runs count."""


def parse_percent(value: object) -> int:
    """Read "80%" as 80; from 1 to 100. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return value
    if not isinstance(value, str) or not re.fullmatch(PERCENT_PATTERN, value, re.ASCII):
        raise ValueError("must be a share such as 80%, from 1% to 100%")
    return int(value[:-1])


Percent: TypeAlias = Annotated[
    int, BeforeValidator(parse_percent), WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN})
]
"""Whole per cent, written as 80%."""
Shares: TypeAlias = Annotated[tuple[Percent, ...], Field(max_length=10)]


class OwnBudgetSettings(Section):
    """Budget of the client, team, workflow or provider that it stands at."""

    amount: Amount
    """Largest sum in a window, in the unit of the prices; 0 permits nothing but what is free."""
    per: Literal["day", "week", "month"]
    """Window, in UTC: a day, a week from Monday (ISO 8601), or a calendar month."""
    warn_at: Shares = (80,)
    """Shares of the amount at which a log line warns, once in each window."""
    hard: bool = True
    """Refuse runs above the amount; false only counts and warns."""


class BudgetSettings(OwnBudgetSettings):
    """Budget for the runs that fulfil all its conditions; for every run if it has none."""

    client: Name | None = None
    """Runs of this client; of every client by default."""
    team: Name | None = None
    """Runs of clients of this team."""
    key: Annotated[str, Field(pattern=KEY_ID_PATTERN)] | None = None
    """Runs with the key of this id (keys made at run time)."""
    tag: Annotated[str, Field(pattern=TAG_PATTERN)] | None = None
    """Runs with this tag."""
    workflow: Name | None = None
    """Starts on this workflow, also as a fallback."""
    provider: Name | None = None
    """Starts at this provider."""
