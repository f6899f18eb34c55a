"""Amounts: decimal text and micros, exact in both directions."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import MAX_AMOUNT, MICROS, format_amount, parse_amount


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("0", 0),
        ("0.04", 40_000),
        ("3", 3_000_000),
        ("0.000001", 1),
        ("007.50", 7_500_000),
        ("1000000000", MAX_AMOUNT),
        (0.04, 40_000),
        (1e-06, 1),
        (1e9, MAX_AMOUNT),
        (999_999_999.999999, MAX_AMOUNT - 1),
        (3, 3_000_000),
        (0, 0),
    ],
)
def test_an_amount_is_read_exactly(value: object, micros: int) -> None:
    assert parse_amount(value) == micros


@pytest.mark.parametrize(
    "value",
    [
        "", ".5", "5.", "-1", "+1", "1e3", "0x1", "1_000", "1,5", " 1", "1 ", "1\n", "٣", "nan", "inf", "0.0000001",
        "1000000000.000001", "1000000001", "9" * 10_000, 1e-07, 0.1 + 0.2, 1e300, -0.5, math.nan, math.inf, -math.inf,
        10**9 + 1, 10**400, -1, True, False, None, [], {}, b"1", Decimal(1),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_a_clear_reason(value: object) -> None:
    with pytest.raises(ValueError, match="must be an amount such as"):
        parse_amount(value)


@given(st.integers(0, MAX_AMOUNT))
def test_what_is_written_is_read_as_the_same(micros: int) -> None:
    text = format_amount(micros)
    assert parse_amount(text) == micros
    assert Decimal(text) * MICROS == micros
    assert "e" not in text.lower()


@given(st.integers(0, MAX_AMOUNT))
def test_a_number_of_yaml_is_read_as_it_was_written(micros: int) -> None:
    assert parse_amount(float(format_amount(micros))) == micros


@given(st.integers(-(2**200), 2**200))
def test_any_sum_is_written_exactly(micros: int) -> None:
    whole, _, decimals = format_amount(micros).partition(".")
    assert int(whole + decimals.ljust(6, "0")) == micros
