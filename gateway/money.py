"""Amounts of money: exact decimal text, and whole millionths ("micros") of the operator's unit. No float is used."""

from __future__ import annotations

import re
from decimal import Decimal

MICROS = 1_000_000
"""Micros of one unit."""
MAX_AMOUNT = 10**9 * MICROS
"""Largest amount that is read, in micros: a Lua number and a JavaScript number hold it, and its sums, exactly."""
AMOUNT_PATTERN = r"^[0-9]{1,10}(?:\.[0-9]{1,6})?$"
"""Text of an amount, apart from its bound."""

_MESSAGE = "must be an amount such as 0.04, of at most 1000000000 and with at most 6 decimals"


def parse_amount(value: object) -> int:
    """Read "0.04", or a number of YAML or JSON, as micros. Raises ValueError.

    A float is read as the shortest decimal that stands for it: as it was written, as amounts have 16 digits at most.
    """
    if isinstance(value, float | int) and not isinstance(value, bool):
        value = _number_as_text(value)
    if not isinstance(value, str) or not re.fullmatch(AMOUNT_PATTERN, value, re.ASCII):
        raise ValueError(_MESSAGE)
    whole, _, decimals = value.partition(".")
    micros = int(whole) * MICROS + int(decimals.ljust(6, "0"))
    if micros > MAX_AMOUNT:
        raise ValueError(_MESSAGE)
    return micros


def format_amount(micros: int) -> str:
    """Write micros as "0.04": no exponent, no trailing zeros, and a minus sign if it is negative."""
    whole, decimals = divmod(abs(micros), MICROS)
    sign = "-" if micros < 0 else ""
    return f"{sign}{whole}.{decimals:06d}".rstrip("0").rstrip(".")


def _number_as_text(number: float) -> str:
    """Return a number without an exponent; an empty text if it is out of all bounds."""
    return f"{Decimal(repr(number)):f}" if 0 <= number <= MAX_AMOUNT else ""
