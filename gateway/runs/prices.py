"""Prices of starts as the configuration declares them, and what a run cost or may have cost. Amounts are in micros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.money import format_amount

Certainty: TypeAlias = Literal["none", "spent", "unknown"]
"""none: nothing was paid; spent: the provider executed the run; unknown: a part of the amount may have been paid."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Price of a start of a workflow: that of its version, else of its label, else the default."""

    default: int
    labels: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int | str, int] = field(default_factory=dict)

    def price_of(self, label: str | None, version: int | str | None) -> int:
        """Return the price of a start of this release."""
        if version is not None and version in self.versions:
            return self.versions[version]
        return self.default if label is None else self.labels.get(label, self.default)

    @property
    def highest(self) -> int:
        """The highest price of a start."""
        return max(self.default, *self.labels.values(), *self.versions.values())


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost: `amount`, of which the part `unknown` may not have been paid."""

    amount: int = 0
    certainty: Certainty = "none"
    unknown: int = 0

    @property
    def spent(self) -> int:
        """The part that was paid for certain."""
        return self.amount - self.unknown

    def document(self) -> dict[str, str]:
        """Return the members of a document; amounts are decimal texts, exact."""
        members = {"amount": format_amount(self.amount), "certainty": self.certainty}
        return members if self.certainty != "unknown" else {**members, "unknown": format_amount(self.unknown)}


NO_COST = Cost()
"""Nothing was paid, or no price is declared."""


def cost_of(status: str, price: int | None, maybe_paid: int) -> Cost:
    """Return the cost of a run that has ended.

    `price`: that of its last start; None if none is declared. `maybe_paid`: the sum of the prices of all starts that
    may have been executed; more than one was sent of a repeatable run only.
    """
    if status == "not_run" or (price is None and not maybe_paid):
        return NO_COST
    if status == "unknown":
        return Cost(maybe_paid, "unknown", maybe_paid)
    unknown = max(0, maybe_paid - (price or 0))
    return Cost((price or 0) + unknown, "unknown" if unknown else "spent", unknown)
