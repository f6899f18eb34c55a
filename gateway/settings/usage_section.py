"""Section `usage`: how long sums of runs and amounts are kept, and the unit of the amounts."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from gateway.settings.sections import Section
from gateway.settings.types.units import Duration

Currency: TypeAlias = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9 _-]{0,19}$")]


class UsageSettings(Section):
    """Usage: runs and what they cost, by day."""

    retention: Annotated[Duration, Field(alias="for")] = 400 * 86400.0
    """Time for which the usage of a day is kept; 13 months by default."""
    currency: Currency = "XXX"
    """Unit of prices in exports: a code of ISO 4217 such as EUR, or a name such as credits. XXX: no currency."""
