"""Override of a provider by an operator, as stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderOverride:
    """What an operator has set for the starts of a provider. `since_at`: when `mode` was set, in seconds since 1970."""

    provider: str
    mode: str
    note: str
    since_at: float
