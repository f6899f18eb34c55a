"""Key follower: keeps the key directory of this process equal to the store, and the store's times of last use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.auth.client import Client
from gateway.auth.stored_keys.directory import KeyDirectory
from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.store.contract import Store, StoreUnavailable

KEYS_CHANGED = "client_keys:changed"
"""Name of the notification that a stored key was created or changed."""

_POLL_INTERVAL = 1.0  # seconds, also if the notification is lost
_PAGE = 500  # keys: some milliseconds of the event loop
_USES_INTERVAL = 10.0  # seconds
_COUNT_INTERVAL = 15.0  # seconds
_USES_PER_WRITE = 500
_KEYS_PER_STEP = 2000  # counted before other tasks run


@dataclass(slots=True)
class KeyFollower:
    """Reads changed keys when they change, and every second; writes last uses in groups; counts keys by state.

    While the store is unavailable, the directory is not confirmed, and refuses keys in time. `clients`: those of the
    current configuration.
    """

    store: Store
    directory: KeyDirectory
    clients: Callable[[], Mapping[str, Client]]
    clock: Clock
    metrics: Metrics
    log: Logger
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Read all changes, page by page. Raises StoreUnavailable; what was read before stays in the copy."""
        async with self._lock:
            began = self.clock.monotonic()
            while True:
                keys, newest = await self.store.client_keys.read_changes(self.directory.revision, limit=_PAGE)
                if newest < self.directory.revision:  # the server has lost the latest changes in a failover
                    self.directory.clear()
                    continue
                self.directory.apply(keys)
                if len(keys) < _PAGE:
                    break
            self.directory.confirm(began)

    async def run_forever(self) -> None:
        """Follow the changes, and write and count in between."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._follow, 0.0, _POLL_INTERVAL))
            group.create_task(self._repeat(self.write_uses, _USES_INTERVAL, 0.0))
            group.create_task(self._repeat(self.count, _COUNT_INTERVAL, 0.0))

    async def write_uses(self) -> None:
        """Write when keys were last used. Raises StoreUnavailable; what was not written is written later."""
        uses = self.directory.take_uses()
        while uses:
            batch = {key_id: uses[key_id] for key_id in list(uses)[:_USES_PER_WRITE]}
            try:
                await self.store.client_keys.note_uses(list(batch.items()))
            except BaseException:
                self.directory.return_uses(uses)
                raise
            for key_id in batch:
                del uses[key_id]

    async def count(self) -> None:
        """Set the number of keys by state and of those that expire soon, and forget those that ended long ago."""
        ids, counts, expiring = self.directory.ids(), Counter[str](), 0
        for first in range(0, len(ids), _KEYS_PER_STEP):
            now, clients = self.clock.now().timestamp(), self.clients()
            for key_id in ids[first : first + _KEYS_PER_STEP]:
                state = self.directory.state(key_id, now, clients)
                if state is not None:
                    counts[state] += 1
                    expiring += self.directory.expires_soon(key_id, now)
                    self.directory.forget_ended(key_id, now)
            await self.clock.sleep(0)
        self.metrics.set_stored_keys(counts, expiring)

    async def close(self) -> None:
        """Write the last uses."""
        with suppress(StoreUnavailable):
            await self.write_uses()

    async def _follow(self) -> None:
        await self.store.wait_for_change([KEYS_CHANGED], _POLL_INTERVAL)
        await self.refresh()

    async def _repeat(self, step: Callable[[], Awaitable[None]], interval: float, after_failure: float) -> None:
        while True:
            try:
                await step()
            except StoreUnavailable:  # others log it
                await self.clock.sleep(after_failure)
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop: keys would be refused in time
                self.log.error("internal_error", **json_logging.describe_exception(error))
                await self.clock.sleep(after_failure)
            if interval:
                await self.clock.sleep(interval)
