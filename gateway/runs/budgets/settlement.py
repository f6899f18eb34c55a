"""Settlement of reservations behind the response, in groups.

While the store is unavailable settlements wait, each run once. What is lost with the process, or dropped because too
many wait, is repaired by `sweep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.store.budgets import MAX_SETTLED, BudgetStore, Settlement
from gateway.store.contract import StoreUnavailable

_INTERVAL = 0.1  # seconds between two groups
_RETRY_INTERVAL = 1.0  # seconds until an unavailable store is asked again
_MAX_PENDING = 10_000
_CLOSE_TIMEOUT = 2.0  # seconds


@dataclass(slots=True)
class Settler:
    """Settles the reservations of this process. `count_dropped` is called for each settlement that is dropped."""

    store: BudgetStore
    clock: Clock
    log: Logger
    count_dropped: Callable[[], None]
    _pending: dict[str, Settlement] = field(default_factory=dict)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, settlement: Settlement) -> None:
        """Settle a reservation soon, in place of what was wanted for this run before."""
        if len(self._pending) >= _MAX_PENDING and settlement.run_id not in self._pending:
            self.count_dropped()
            return
        self._pending[settlement.run_id] = settlement
        self._wanted.set()

    async def run_forever(self) -> None:
        """Settle in groups."""
        while True:
            await self._wanted.wait()
            await self.clock.sleep(_INTERVAL)
            try:
                await self.flush()
            except StoreUnavailable:
                self.log.warning("not_written", run_id=None, phase="budgets")
                await self.clock.sleep(_RETRY_INTERVAL)
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))
                await self.clock.sleep(_RETRY_INTERVAL)

    async def flush(self) -> None:
        """Settle everything that waits. Raises StoreUnavailable; the rest then waits on."""
        while self._pending:
            group = dict(islice(self._pending.items(), MAX_SETTLED))
            for run_id in group:
                del self._pending[run_id]
            try:
                await self.store.settle(list(group.values()))
            except BaseException:
                self._pending = group | self._pending  # what came meanwhile is newer
                raise
        self._wanted.clear()

    async def close(self) -> None:
        """Settle what can be settled now."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.flush()
        except (StoreUnavailable, TimeoutError):
            self.log.warning("not_written", run_id=None, phase="budgets")
