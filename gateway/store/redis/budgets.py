"""Ledger of budgets of the Redis store."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from gateway.redis.lua_script import RedisArgument
from gateway.store.budgets import (
    CHECK_AFTER,
    Account,
    Balance,
    BudgetStore,
    Charge,
    OpenReservation,
    ReserveResult,
    Settlement,
)
from gateway.store.redis import scripts
from gateway.store.redis.bulk_replays import Execute


class RedisBudgets(BudgetStore):
    """Ledger in hashes and sorted sets.

    `write` passes the generation to a script as its first argument, and waits for the disk where the store does:
    deleted data must not renew a budget. A settlement that a crash of the server loses is repeated by the next check of
    its reservation, so `write_behind` does neither.
    """

    def __init__(self, write: Execute, write_behind: Execute) -> None:
        self._write = write
        self._write_behind = write_behind

    @override
    async def reserve(
        self, run_id: str, charges: Sequence[Charge], *, now_at: float, expires_at: float
    ) -> ReserveResult:
        ends_at = max(charge.ends_at for charge in charges)
        times = repr(expires_at), repr(now_at + CHECK_AFTER), repr(ends_at)
        words: list[RedisArgument] = []
        for charge in charges:
            limit = "" if charge.limit is None else charge.limit
            words += (*charge.account, charge.amount, charge.earlier, limit, repr(charge.ends_at))
        refused, *numbers = map(int, await self._write(scripts.RESERVE, run_id, *times, *words))
        rows = [numbers[place : place + 5] for place in range(0, len(numbers), 5)]
        balances, peaks = tuple(Balance(*row[:4]) for row in rows), tuple(row[4] for row in rows)
        return ReserveResult(refused - 1 if refused else None, balances, peaks)

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> None:
        words: list[RedisArgument] = []
        for settlement in settlements:
            words += (settlement.run_id, settlement.settled_as, int(settlement.last_started))
        await self._write_behind(scripts.SETTLE, *words)

    @override
    async def get_balances(self, accounts: Sequence[Account]) -> list[Balance]:
        reply = await self._write_behind(scripts.GET_BALANCES, *(word for account in accounts for word in account))
        numbers = list(map(int, reply))
        return [Balance(*numbers[place : place + 4]) for place in range(0, len(numbers), 4)]

    @override
    async def take_unsettled(self, *, now_at: float, limit: int) -> list[OpenReservation]:
        times = repr(now_at), repr(now_at + 2 * CHECK_AFTER), repr(now_at + CHECK_AFTER)
        words = await self._write_behind(scripts.TAKE_UNSETTLED, *times, limit)
        return [
            OpenReservation(run_id.decode(), float(expires_at))
            for run_id, expires_at in zip(words[::2], words[1::2], strict=True)
        ]

    @override
    async def purge(self, *, ended_before_at: float) -> int:
        deleted = 0
        while True:
            accounts, left = map(int, await self._write_behind(scripts.PURGE_BUDGETS, repr(ended_before_at)))
            deleted += accounts
            if not accounts and not left:
                return deleted
