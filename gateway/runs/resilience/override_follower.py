"""Override follower: applies to this process what operators have set for providers, at any replica, in the store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.resilience.registry import CircuitRegistry
from gateway.runs.resilience.start_override import OverrideMode
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.provider_override import ProviderOverrideStore

OVERRIDES_CHANGED = "overrides:changed"
"""Name of the notification that an override was set or removed."""

_POLL_INTERVAL = 1.0  # seconds, also if the notification is lost
_MODES = {mode.value: mode for mode in OverrideMode}


class OverrideStore(ProviderOverrideStore, Protocol):
    """The part of `Store` that changes overrides. Every method may raise StoreUnavailable."""

    async def notify(self, name: str) -> None:
        """See `Store.notify`."""


@dataclass(frozen=True, slots=True)
class OverrideFollower:
    """Reads the overrides when they change, and every second. While the store is unavailable, the last ones apply."""

    store: Store
    circuits: CircuitRegistry
    clock: Clock
    log: Logger
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Read the overrides, and apply them. One of a mode that this version does not know is left out.

        Raises StoreUnavailable; the overrides before stay in force.
        """
        async with self._lock:  # else a slow answer could replace a later one
            overrides = await self.store.list_overrides()
            modes = {each.provider: _MODES[each.mode] for each in overrides if each.mode in _MODES}
            self.circuits.apply_overrides(modes)

    async def run_forever(self) -> None:
        """Follow the overrides."""
        while True:
            try:
                await self.store.wait_for_change([OVERRIDES_CHANGED], _POLL_INTERVAL)
                await self.refresh()
            except StoreUnavailable:  # others log it
                await self.clock.sleep(_POLL_INTERVAL)
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop: overrides would have no effect
                self.log.error("internal_error", **json_logging.describe_exception(error))
                await self.clock.sleep(_POLL_INTERVAL)
