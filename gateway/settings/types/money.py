"""Amounts of money as written in the configuration, in micros (millionths of the operator's unit)."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from gateway.money import AMOUNT_PATTERN, MAX_AMOUNT, MICROS, parse_amount

AMOUNT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_AMOUNT // MICROS},
        {"type": "string", "pattern": AMOUNT_PATTERN},
    ]
}
"""JSON schema of an amount."""

Amount: TypeAlias = Annotated[int, BeforeValidator(parse_amount), WithJsonSchema(AMOUNT_SCHEMA)]
"""Micros, 0 allowed."""
