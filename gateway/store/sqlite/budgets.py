"""Ledger of budgets of the SQLite store.

The charges of a reservation are a JSON list of [budget, window, amount, earlier].
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from operator import neg
from typing import cast

from typing_extensions import override

from gateway.json import strict_json
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
from gateway.store.sqlite.bulk_replays import Transaction

_GET_BALANCE = "SELECT reserved, spent, unknown, peak FROM budget_accounts WHERE budget = ? AND window = ?"

_OPEN_ACCOUNT = """
INSERT INTO budget_accounts (budget, window, ends_at, reserved, spent, unknown, peak) VALUES (?, ?, ?, 0, 0, 0, 0)
ON CONFLICT (budget, window) DO NOTHING"""

_ADD = """
UPDATE budget_accounts SET reserved = reserved + ?1, spent = spent + ?2, unknown = unknown + ?3,
peak = max(peak, reserved + spent + unknown + ?1 + ?2 + ?3) WHERE budget = ?4 AND window = ?5"""

_GET_RESERVATION = "SELECT state, charges FROM budget_reservations WHERE run_id = ?"

_PUT_RESERVATION = """
INSERT INTO budget_reservations (run_id, state, charges, expires_at, check_at, ends_at)
VALUES (?, 'reserved', ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET state = 'reserved', charges = excluded.charges, expires_at = excluded.expires_at,
check_at = excluded.check_at, ends_at = excluded.ends_at"""

_KEEP_SETTLED = "UPDATE budget_reservations SET state = ?, charges = ? WHERE run_id = ?"

_DELETE_RESERVATION = "DELETE FROM budget_reservations WHERE run_id = ?"

_FIND_UNSETTLED = """
SELECT run_id, expires_at FROM budget_reservations WHERE state = 'reserved' AND (check_at <= ? OR check_at > ?)
ORDER BY check_at, run_id LIMIT ?"""

_POSTPONE = "UPDATE budget_reservations SET check_at = ? WHERE run_id = ?"

_PURGE_RESERVATIONS = "DELETE FROM budget_reservations WHERE state != 'reserved' AND ends_at < ?"

_PURGE_ACCOUNTS = "DELETE FROM budget_accounts WHERE ends_at < ?"


class SqliteBudgets(BudgetStore):
    """Ledger in the tables `budget_accounts` and `budget_reservations`."""

    def __init__(self, write: Transaction, read: Transaction) -> None:
        self._write = write
        self._read = read

    @override
    async def reserve(
        self, run_id: str, charges: Sequence[Charge], *, now_at: float, expires_at: float
    ) -> ReserveResult:
        return await self._write(
            partial(_reserve, run_id=run_id, charges=charges, expires_at=expires_at, check_at=now_at + CHECK_AFTER)
        )

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._write(partial(_settle_all, settlements=settlements))

    @override
    async def get_balances(self, accounts: Sequence[Account]) -> list[Balance]:
        return await self._read(lambda db: [_balance(db, account) for account in accounts])

    @override
    async def take_unsettled(self, *, now_at: float, limit: int) -> list[OpenReservation]:
        return await self._write(partial(_take_unsettled, now_at=now_at, limit=limit))

    @override
    async def purge(self, *, ended_before_at: float) -> int:
        return await self._write(partial(_purge, ended_before_at=ended_before_at))


def _reserve(
    db: sqlite3.Connection, *, run_id: str, charges: Sequence[Charge], expires_at: float, check_at: float
) -> ReserveResult:
    state, held = _reservation(db, run_id) or ("reserved", {})
    before = tuple(_balance(db, charge.account) for charge in charges)
    peaks = tuple(balance.peak for balance in before)
    for index, (charge, balance) in enumerate(zip(charges, before, strict=True)):
        growth = charge.amount - held.get(charge.account, (0, 0))[0]
        if growth > 0 and charge.limit is not None and balance.used + growth > charge.limit:
            return ReserveResult(index, before, peaks)
    for account, amounts in held.items():
        _add(db, account, *map(neg, sums_of(state, *amounts)))
    for charge in charges:
        db.execute(_OPEN_ACCOUNT, (*charge.account, charge.ends_at))
        _add(db, charge.account, charge.amount, 0, 0)
    ends_at = max(charge.ends_at for charge in charges)
    kept = _encode({charge.account: (charge.amount, charge.earlier) for charge in charges})
    db.execute(_PUT_RESERVATION, (run_id, kept, expires_at, check_at, ends_at))
    return ReserveResult(None, tuple(_balance(db, charge.account) for charge in charges), peaks)


def _settle_all(db: sqlite3.Connection, settlements: Sequence[Settlement]) -> None:
    for settlement in settlements:
        _settle(db, settlement)


def _settle(db: sqlite3.Connection, settlement: Settlement) -> None:
    found, how = _reservation(db, settlement.run_id), settlement.settled_as
    if found is None:
        return
    state, held = found
    if state == how or (how == "unknown" and state != "reserved"):
        return
    charges = {}
    for account, (amount, earlier) in held.items():
        _add(db, account, *map(neg, sums_of(state, amount, earlier)))
        kept = earlier if how == "unknown" and not settlement.last_started else amount
        charges[account] = kept, earlier
        _add(db, account, *sums_of(how, kept, earlier))
    if state == "reserved" and how != "unknown":
        db.execute(_DELETE_RESERVATION, (settlement.run_id,))
    else:
        db.execute(_KEEP_SETTLED, (how, _encode(charges), settlement.run_id))


def _take_unsettled(db: sqlite3.Connection, *, now_at: float, limit: int) -> list[OpenReservation]:
    latest = now_at + 2 * CHECK_AFTER  # a later time was set by a clock that was set back since
    rows = db.execute(_FIND_UNSETTLED, (now_at, latest, limit)).fetchall()
    db.executemany(_POSTPONE, [(now_at + CHECK_AFTER, run_id) for run_id, _ in rows])
    return [OpenReservation(run_id, expires_at) for run_id, expires_at in rows]


def _purge(db: sqlite3.Connection, *, ended_before_at: float) -> int:
    db.execute(_PURGE_RESERVATIONS, (ended_before_at,))
    return db.execute(_PURGE_ACCOUNTS, (ended_before_at,)).rowcount


def _balance(db: sqlite3.Connection, account: Account) -> Balance:
    row = db.execute(_GET_BALANCE, account).fetchone()
    return Balance() if row is None else Balance(*row)


def _add(db: sqlite3.Connection, account: Account, reserved: int, spent: int, unknown: int) -> None:
    """Change a balance; that of a deleted account is not created again."""
    db.execute(_ADD, (reserved, spent, unknown, *account))


def _reservation(db: sqlite3.Connection, run_id: str) -> tuple[ReservationState, dict[Account, tuple[int, int]]] | None:
    """Return the state of a reservation, and by account its amount and that of earlier starts."""
    row = db.execute(_GET_RESERVATION, (run_id,)).fetchone()
    if row is None:
        return None
    charges = cast("list[tuple[str, str, int, int]]", strict_json.read_stored(row[1]))
    return row[0], {Account(budget, window): (amount, earlier) for budget, window, amount, earlier in charges}


def _encode(charges: Mapping[Account, tuple[int, int]]) -> bytes:
    return strict_json.write([[*account, *amounts] for account, amounts in charges.items()])
