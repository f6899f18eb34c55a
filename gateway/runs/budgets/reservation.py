"""What a run has reserved on its budgets, as the process that executes it knows."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.money import format_amount
from gateway.store.budgets import Charge


@dataclass(slots=True)
class RunReservation:
    """Charges of a run that the ledger has, or may have.

    `paid_before`: `RunRecord.maybe_paid` when it was made: a larger one means that the last start may have been
    executed. `remaining`: micros and window of the tightest budget that its client may know.
    """

    charges: tuple[Charge, ...]
    paid_before: int
    remaining: tuple[int, str] | None = None

    def earlier_charges(self, maybe_paid: int) -> tuple[Charge, ...]:
        """Return the charges of the starts so far that may have been executed."""
        started = maybe_paid > self.paid_before
        return tuple(
            Charge(each.account, amount, None, each.ends_at, amount)
            for each in self.charges
            if (amount := each.amount if started else each.earlier)
        )

    @property
    def header(self) -> tuple[tuple[str, str], ...]:
        """Header field that tells what remains."""
        if self.remaining is None:
            return ()
        amount, window = self.remaining
        return (("Runward-Budget-Remaining", f"{format_amount(amount)}; window={window}"),)
