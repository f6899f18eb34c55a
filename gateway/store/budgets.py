"""Ledger of budgets: what runs have reserved, spent, or may have spent; and the part of a store that keeps it.

An account is a budget in one window, such as ("shop", "2026-11"). A run reserves its price on every account that covers
it, all of them or none, before anything is sent; once it has ended, the reservation is settled. A reservation belongs
to the id of its run, so each call may be repeated: by the same process, or by one that has adopted the run. What was
reserved stays so until it is settled, whatever becomes of the process.

Amounts are in micros, times named `…_at` in seconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

SettledAs: TypeAlias = Literal["none", "spent", "unknown"]
"""none: the amount is given back; spent: it was paid; unknown: it may have been paid, and is kept."""
ReservationState: TypeAlias = SettledAs | Literal["reserved"]

CHECK_AFTER = 300.0
"""Seconds after which a reservation that is not settled is taken by `take_unsettled`."""
MAX_SETTLED = 100
"""Settlements of one call."""


class Account(NamedTuple):
    """A budget in one window; `window` is the label of the window."""

    budget: str
    window: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What a run reserves on an account.

    `amount`: of all starts of the run together; `earlier`: the part of it of starts before the last one, which may have
    been executed. `limit`: the account refuses an amount above it; None counts only. `ends_at`: the end of the window.
    """

    account: Account
    amount: int
    limit: int | None
    ends_at: float
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """State of an account. `peak`: the largest sum that it ever had."""

    reserved: int = 0
    spent: int = 0
    unknown: int = 0
    peak: int = 0

    @property
    def used(self) -> int:
        """The sum that counts against the budget."""
        return self.reserved + self.spent + self.unknown


@dataclass(frozen=True, slots=True)
class ReserveResult:
    """Result of `BudgetStore.reserve`.

    `refused_by`: index of the first charge whose account refused; None if everything is reserved. `balances`: those of
    the accounts of all charges, after the call. `peaks_before`: their peaks before it.
    """

    refused_by: int | None
    balances: tuple[Balance, ...]
    peaks_before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """End of a reservation. `last_started`: False if the last start of an unknown run was certainly not executed."""

    run_id: str
    settled_as: SettledAs
    last_started: bool = True


def sums_of(state: ReservationState, amount: int, earlier: int) -> tuple[int, int, int]:
    """Return what a charge adds to the reserved, spent and unknown amounts of its account."""
    if state == "reserved":
        return amount, 0, 0
    if state == "spent":
        return 0, amount - earlier, earlier
    return 0, 0, amount if state == "unknown" else 0


@dataclass(frozen=True, slots=True)
class OpenReservation:
    """A reservation that is not settled. `expires_at`: a run that is not durable has ended by then."""

    run_id: str
    expires_at: float


class BudgetStore(Protocol):
    """The ledger of a store. Every method is one transaction, and may raise `StoreUnavailable`."""

    async def reserve(
        self, run_id: str, charges: Sequence[Charge], *, now_at: float, expires_at: float
    ) -> ReserveResult:
        """Reserve every charge, or nothing if an account has no room; the accounts of the charges are distinct.

        What the run has in the ledger already is replaced, and counts as room; after a refusal it is unchanged. An
        amount that does not grow is never refused.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle reservations; one that does not exist, or was settled in the same way, is left as it is.

        A reservation that was settled as unknown may be settled as spent or none later, and then as the other one;
        others are forgotten once they are settled. At most MAX_SETTLED of distinct runs.
        """

    async def get_balances(self, accounts: Sequence[Account]) -> list[Balance]:
        """Return the balances of these accounts; one that nothing was ever reserved on is empty."""

    async def take_unsettled(self, *, now_at: float, limit: int) -> list[OpenReservation]:
        """Return reservations that have not been settled for CHECK_AFTER seconds, longest first.

        The next call that returns the same one is CHECK_AFTER seconds later, at any process.
        """

    async def purge(self, *, ended_before_at: float) -> int:
        """Delete the accounts of windows that ended before this time, and the settled reservations there.

        Returns the number of accounts deleted.
        """


class KeepsBudgets(Protocol):
    """A store that has a ledger of budgets."""

    budgets: BudgetStore
