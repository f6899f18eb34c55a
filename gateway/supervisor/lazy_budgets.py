"""Ledger of budgets of the supervisor's store, which is opened at the first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from gateway.store.budgets import (
    Account,
    Balance,
    BudgetStore,
    Charge,
    OpenReservation,
    ReserveResult,
    Settlement,
)


@dataclass(frozen=True, slots=True)
class LazyBudgets(BudgetStore):
    """The ledger `inner`; `ensure_open` opens its store, and may raise StoreUnavailable."""

    inner: BudgetStore
    ensure_open: Callable[[], Awaitable[None]]

    @override
    async def reserve(
        self, run_id: str, charges: Sequence[Charge], *, now_at: float, expires_at: float
    ) -> ReserveResult:
        await self.ensure_open()
        return await self.inner.reserve(run_id, charges, now_at=now_at, expires_at=expires_at)

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self.ensure_open()
        await self.inner.settle(settlements)

    @override
    async def get_balances(self, accounts: Sequence[Account]) -> list[Balance]:
        await self.ensure_open()
        return await self.inner.get_balances(accounts)

    @override
    async def take_unsettled(self, *, now_at: float, limit: int) -> list[OpenReservation]:
        await self.ensure_open()
        return await self.inner.take_unsettled(now_at=now_at, limit=limit)

    @override
    async def purge(self, *, ended_before_at: float) -> int:
        await self.ensure_open()
        return await self.inner.purge(ended_before_at=ended_before_at)
