"""What goes on behind the desk for as long as the process lives: recovery, callbacks, forgetting; and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.runs.callbacks import Callbacks
from gateway.runs.desk import Desk
from gateway.runs.recovery import LEFT, Recovery
from gateway.store.contract import Store, StoreUnavailable

_PURGE_EVERY = 600.0
_KEYS_KEPT = 86_400.0


@dataclass(slots=True)
class BackOffice:
    """Takes up what was left in an open store, and keeps at it. Finished runs stay for `retention` seconds."""

    desk: Desk
    store: Store
    recovery: Recovery
    callbacks: Callbacks
    clock: Clock
    log: FilteringBoundLogger
    retention: float
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self) -> None:
        """Take up what was left, now that this process is there to stay.

        Where the store fails on the way, the rest is found later: what was taken up may be on its way to a provider.
        """
        try:
            await self.recovery.look_once()
        except StoreUnavailable:
            self.log.warning("store_unavailable")
        work: tuple[Coroutine[object, object, None], ...] = (
            self.recovery.keep_watch(),
            self.callbacks.keep_delivering(),
            self._keep_forgetting(),
        )
        self._tasks = [asyncio.create_task(one) for one in work]

    def reconfigure(self, retention: float) -> None:
        """Keep finished runs for so long, from the next time on that some are forgotten."""
        self.retention = retention

    async def settle(self) -> None:
        """Let starts that are on their way be answered. Leases are renewed and callbacks delivered until `close`."""
        await self.desk.settle()

    async def close(self) -> None:
        """Stop at once, and leave the rest to whoever adopts it. Twice is once."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        await self.desk.close()
        await self.callbacks.close()
        with suppress(StoreUnavailable):  # nobody works on them any more: others need not wait for the leases to end
            await self.store.renew(self.desk.owner, 0.0)
            await self.store.tell(LEFT)
        await self.store.close()

    async def _keep_forgetting(self) -> None:
        while True:
            now = self.clock.now().timestamp()
            try:
                await self.store.purge(runs_before_at=now - self.retention, keys_before_at=now - _KEYS_KEPT)
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            await self.clock.sleep(_PURGE_EVERY)
