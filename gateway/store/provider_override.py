"""Overrides of providers by operators, and the part of the contract of a store that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProviderOverride:
    """What an operator has set for the starts of a provider. `since_at`: when `mode` was set, in seconds since 1970."""

    provider: str
    mode: str
    note: str
    since_at: float


class ProviderOverrideStore(Protocol):
    """The part of a store that keeps overrides. Every method may raise `StoreUnavailable`."""

    async def set_override(self, override: ProviderOverride) -> None:
        """Set the override of a provider, in place of an earlier one. It is kept until it is removed."""

    async def remove_override(self, provider: str) -> None:
        """Remove the override of a provider, if it has one."""

    async def list_overrides(self) -> list[ProviderOverride]:
        """List the overrides of all providers by name.

        Raises StoreReplaced if the data were deleted: the list would be empty without having been changed.
        """
