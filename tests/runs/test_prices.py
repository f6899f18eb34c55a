"""Prices of starts, and the cost of a run by its outcome."""

from __future__ import annotations

import pytest

from gateway.runs.prices import NO_COST, Cost, PriceTable, cost_of

PRICES = PriceTable(40_000, labels={"prod": 50_000}, versions={3: 60_000, "3.1": 70_000})


@pytest.mark.parametrize(
    ("label", "version", "price"),
    [
        (None, None, 40_000),
        ("prod", None, 50_000),
        ("dev", None, 40_000),
        (None, 3, 60_000),
        (None, "3.1", 70_000),
        (None, 4, 40_000),
        ("prod", 3, 60_000),
        ("prod", 4, 50_000),
    ],
)
def test_the_price_is_that_of_the_release(label: str | None, version: int | str | None, price: int) -> None:
    """That of the version, else of the label, else the default."""
    assert price == PRICES.price_of(label, version)
    assert PRICES.highest == 70_000


@pytest.mark.parametrize(
    ("status", "price", "maybe_paid", "cost"),
    [
        ("succeeded", 40_000, 40_000, Cost(40_000, "spent")),
        ("failed", 40_000, 40_000, Cost(40_000, "spent")),
        ("not_run", 40_000, 0, NO_COST),
        ("unknown", 40_000, 40_000, Cost(40_000, "unknown", 40_000)),
        ("succeeded", 0, 0, Cost(0, "spent")),
        ("succeeded", None, 0, NO_COST),
        ("unknown", None, 40_000, Cost(40_000, "unknown", 40_000)),
        ("succeeded", 40_000, 120_000, Cost(120_000, "unknown", 80_000)),
        ("unknown", 10_000, 40_000, Cost(40_000, "unknown", 40_000)),
    ],
)
def test_a_cost_claims_no_more_than_is_known(status: str, price: int | None, maybe_paid: int, cost: Cost) -> None:
    """Starts of a repeatable run before the last one may have been paid; a run that was not started cost nothing."""
    assert cost == cost_of(status, price, maybe_paid)
    assert cost.spent == cost.amount - cost.unknown
