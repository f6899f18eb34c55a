"""Prices of starts, of a workflow or of a provider's workflows."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from gateway.money import parse_amount
from gateway.settings.sections import Section
from gateway.settings.types.fields import ProviderWorkflowName, Version
from gateway.settings.types.money import AMOUNT_SCHEMA, Amount

_MAX_RELEASES = 100


class PriceSettings(Section):
    """Prices of a start, where they differ between releases."""

    default: Amount
    """Price of a start of any other release."""
    labels: dict[ProviderWorkflowName, Amount] = Field(default={}, max_length=_MAX_RELEASES)
    """Prices by release label."""
    versions: dict[Version, Amount] = Field(default={}, max_length=_MAX_RELEASES)
    """Prices by version; the price of a version takes precedence over that of a label."""


def read_price(value: object) -> object:
    """Return the prices for a single amount; leave a mapping as it is. Raises ValueError."""
    if isinstance(value, (dict, PriceSettings)):
        return value
    return PriceSettings.model_construct(default=parse_amount(value), labels={}, versions={})


class _AmountOrMapping:
    """Schema of a price: the amount alone is accepted too."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*AMOUNT_SCHEMA["anyOf"], handler(core_schema)]}


Price: TypeAlias = Annotated[PriceSettings, BeforeValidator(read_price), _AmountOrMapping]
"""An amount, or a mapping: {default, labels, versions}."""
