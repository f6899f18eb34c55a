"""Budgets, the runs that count in each, and their windows in UTC."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from gateway.store.budgets import Account

Period: TypeAlias = Literal["day", "week", "month"]


class Window(NamedTuple):
    """A day, ISO week or month in UTC. Times are in seconds since 1970; `ends_at` belongs to the next one."""

    label: str
    starts_at: float
    ends_at: float


def window_of(period: Period, at: datetime) -> Window:
    """Return the window that a time is in, such as "2026-11-27", "2026-W48" or "2026-11"."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        start, end, label = day, day + timedelta(days=1), f"{day:%Y-%m-%d}"
    elif period == "week":
        year, week, weekday = day.isocalendar()
        start = day - timedelta(days=weekday - 1)
        end, label = start + timedelta(days=7), f"{year}-W{week:02d}"
    else:
        start = day.replace(day=1)
        end, label = (start + timedelta(days=32)).replace(day=1), f"{start:%Y-%m}"
    return Window(label, start.timestamp(), end.timestamp())


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of `amount` micros for each window. A condition that is None is fulfilled by every run.

    `warn_at`: per cent of the amount. `hard`: False only counts. `least_price`: the lowest price above 0 of what it
    covers, so that less than that is as good as nothing.
    """

    name: str
    amount: int
    per: Period
    client: str | None = None
    team: str | None = None
    key: str | None = None
    tag: str | None = None
    workflow: str | None = None
    provider: str | None = None
    warn_at: Sequence[int] = (80,)
    hard: bool = True
    least_price: int = 1

    def covers(self, client: str, team: str | None, workflow: str, provider: str) -> bool:
        """Return whether the conditions are fulfilled that do not depend on the run itself."""
        return (
            self.client in {None, client}
            and self.team in {None, team}
            and self.workflow in {None, workflow}
            and self.provider in {None, provider}
        )

    def includes(self, key: str | None, tags: Collection[str]) -> bool:
        """Return whether the other conditions are fulfilled."""
        return self.key in {None, key} and (self.tag is None or self.tag in tags)

    @property
    def of_one_client(self) -> bool:
        """True if no other client's runs count, so that the client may know what remains."""
        return self.client is not None or self.key is not None

    def exhausted_at(self, used: int) -> bool:
        """Return whether less than the lowest price remains once `used` micros are."""
        return self.amount - used < self.least_price

    def account(self, at: datetime) -> tuple[Account, Window]:
        """Return the account for a run that was created at this time, and its window."""
        window = window_of(self.per, at)
        return Account(self.name, window.label), window
