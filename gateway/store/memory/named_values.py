"""Overrides of providers and secrets in memory."""

from __future__ import annotations

from abc import abstractmethod

from typing_extensions import override

from gateway.store.provider_override import ProviderOverride, ProviderOverrideStore


class MemoryNamedValues(ProviderOverrideStore):
    """The part of `MemoryStore` for overrides and secrets."""

    def __init__(self) -> None:
        self._overrides: dict[str, ProviderOverride] = {}
        self._secrets: dict[str, bytes] = {}

    @override
    async def set_override(self, override: ProviderOverride) -> None:
        self._require_open()
        self._overrides[override.provider] = override

    @override
    async def remove_override(self, provider: str) -> None:
        self._require_open()
        self._overrides.pop(provider, None)

    @override
    async def list_overrides(self) -> list[ProviderOverride]:
        self._require_open()
        return [self._overrides[provider] for provider in sorted(self._overrides)]

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """See `Store.get_or_create_secret`."""
        self._require_open()
        return self._secrets.setdefault(name, default)

    @abstractmethod
    def _require_open(self) -> None:
        """Raise StoreUnavailable unless the store is open."""
