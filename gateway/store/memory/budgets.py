"""Ledger of budgets of the memory store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from gateway.store.budgets import (
    CHECK_AFTER,
    Account,
    Balance,
    BudgetStore,
    Charge,
    OpenReservation,
    ReservationState,
    ReserveResult,
    Settlement,
    sums_of,
)

_EMPTY = Balance()


@dataclass(slots=True)
class _Reservation:
    """What a run has in the ledger: by account, the whole amount and the part of earlier starts."""

    state: ReservationState
    lines: Mapping[Account, tuple[int, int]]
    expires_at: float
    check_at: float
    ends_at: float


class MemoryBudgets(BudgetStore):
    """Accounts and reservations. `require_open` raises StoreUnavailable if the store is closed."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._balances: dict[Account, Balance] = {}
        self._ends: dict[Account, float] = {}
        self._reservations: dict[str, _Reservation] = {}

    @override
    async def reserve(
        self, run_id: str, charges: Sequence[Charge], *, now_at: float, expires_at: float
    ) -> ReserveResult:
        self._require_open()
        earlier = self._reservations.get(run_id)
        lines = {} if earlier is None else earlier.lines
        before = [self._balances.get(charge.account, _EMPTY) for charge in charges]
        peaks = tuple(balance.peak for balance in before)
        for index, (charge, balance) in enumerate(zip(charges, before, strict=True)):
            growth = charge.amount - lines.get(charge.account, (0, 0))[0]
            if growth > 0 and charge.limit is not None and balance.used + growth > charge.limit:
                return ReserveResult(index, tuple(before), peaks)
        if earlier is not None:
            for account, line in lines.items():
                self._take(account, sums_of(earlier.state, *line))
        for charge in charges:
            self._balances.setdefault(charge.account, _EMPTY)
            self._ends[charge.account] = charge.ends_at
            self._add(charge.account, (charge.amount, 0, 0))
        self._reservations[run_id] = _Reservation(
            state="reserved",
            lines={charge.account: (charge.amount, charge.earlier) for charge in charges},
            expires_at=expires_at,
            check_at=now_at + CHECK_AFTER,
            ends_at=max(charge.ends_at for charge in charges),
        )
        return ReserveResult(None, tuple(self._balances[charge.account] for charge in charges), peaks)

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> None:
        self._require_open()
        for settlement in settlements:
            self._settle(settlement)

    def _settle(self, settlement: Settlement) -> None:
        reservation, how = self._reservations.get(settlement.run_id), settlement.settled_as
        if reservation is None or reservation.state == how or (how == "unknown" and reservation.state != "reserved"):
            return
        lines = {}
        for account, (amount, earlier) in reservation.lines.items():
            self._take(account, sums_of(reservation.state, amount, earlier))
            kept = earlier if how == "unknown" and not settlement.last_started else amount
            lines[account] = kept, earlier
            self._add(account, sums_of(how, kept, earlier))
        if reservation.state == "reserved" and how != "unknown":
            del self._reservations[settlement.run_id]
        else:
            self._reservations[settlement.run_id] = replace(reservation, state=how, lines=lines)

    @override
    async def get_balances(self, accounts: Sequence[Account]) -> list[Balance]:
        self._require_open()
        return [self._balances.get(account, _EMPTY) for account in accounts]

    @override
    async def take_unsettled(self, *, now_at: float, limit: int) -> list[OpenReservation]:
        self._require_open()
        latest = now_at + 2 * CHECK_AFTER  # a later time was set by a clock that was set back since
        due = sorted(
            (each.check_at, run_id)
            for run_id, each in self._reservations.items()
            if each.state == "reserved" and not now_at < each.check_at <= latest
        )[:limit]
        for _, run_id in due:
            self._reservations[run_id].check_at = now_at + CHECK_AFTER
        return [OpenReservation(run_id, self._reservations[run_id].expires_at) for _, run_id in due]

    @override
    async def purge(self, *, ended_before_at: float) -> int:
        self._require_open()
        old = {account for account, ends_at in self._ends.items() if ends_at < ended_before_at}
        for account in old:
            del self._balances[account], self._ends[account]
        for run_id, each in list(self._reservations.items()):
            if each.state != "reserved" and each.ends_at < ended_before_at:
                del self._reservations[run_id]
        return len(old)

    def _add(self, account: Account, sums: tuple[int, int, int]) -> None:
        """Add to a balance; that of a deleted account is not created again."""
        balance = self._balances.get(account)
        if balance is not None:
            changed = balance.reserved + sums[0], balance.spent + sums[1], balance.unknown + sums[2]
            self._balances[account] = Balance(*changed, max(balance.peak, sum(changed)))

    def _take(self, account: Account, sums: tuple[int, int, int]) -> None:
        self._add(account, (-sums[0], -sums[1], -sums[2]))
