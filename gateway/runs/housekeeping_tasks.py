"""Background tasks of the process: recovery, callbacks, overrides of providers, stored keys, budgets, purge."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.auth.stored_keys.directory import KEPT_AFTER_END
from gateway.auth.stored_keys.follower import KeyFollower
from gateway.clock import Clock, format_rfc3339
from gateway.observability.logger_protocol import Logger
from gateway.runs.budgets.sweep import BudgetSweep
from gateway.runs.bulk_replays.runner import BulkReplayRunner
from gateway.runs.callbacks.dispatcher import CallbackDispatcher
from gateway.runs.durable.activity import ActivityReporter
from gateway.runs.durable.cancellation import RunCancellation
from gateway.runs.durable.recovery import REPLICA_LEFT, Recovery
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.history import HistoryRecorder
from gateway.runs.resilience.override_follower import OverrideFollower
from gateway.store.contract import Store, StoreUnavailable

_PURGE_INTERVAL = 60.0  # seconds
_KEY_RETENTION = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """Seconds for which audit records are kept, and their largest number."""

    retention: float
    most: int


@dataclass(slots=True)
class HousekeepingTasks:
    """Background tasks around an open store. Times in seconds: finished runs are kept for `retention`."""

    durable_runs: DurableRuns
    store: Store
    recovery: Recovery
    cancellation: RunCancellation
    dispatcher: CallbackDispatcher
    override_follower: OverrideFollower
    key_follower: KeyFollower
    history: HistoryRecorder
    activity: ActivityReporter
    bulk_replays: BulkReplayRunner
    budgets: BudgetSweep
    clock: Clock
    log: Logger
    retention: float
    audit_limits: AuditLimits
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Adopt the runs of earlier processes, then start the tasks.

        A failure of the store is logged only: adopted runs may be in flight, and the others are found later.
        """
        try:
            await self.recovery.adopt_expired_runs()
        except StoreUnavailable:
            self.log.warning("store_unavailable")
        loops: tuple[Coroutine[object, object, None], ...] = (
            self.recovery.run_forever(),
            self.cancellation.run_forever(),
            self.dispatcher.run_forever(),
            self.override_follower.run_forever(),
            self.key_follower.run_forever(),
            self._purge_periodically(),
            self.durable_runs.collection.run_forever(),
            self.history.run_forever(),
            self.activity.run_forever(),
            self.bulk_replays.run_forever(),
            self.budgets.run_forever(),
            self.budgets.keeper.settler.run_forever(),
        )
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    def reconfigure(self, retention: float, audit_limits: AuditLimits) -> None:
        """Apply another retention of runs, in seconds, and of audit records, from the next purge on."""
        self.retention, self.audit_limits = retention, audit_limits

    async def drain(self) -> None:
        """Wait for starts in flight (graceful shutdown). Leases are renewed and callbacks delivered until `close`."""
        await self.durable_runs.drain()

    async def close(self) -> None:
        """Stop at once, and leave the rest to the replicas that adopt it. Is idempotent."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        await self.durable_runs.close()
        await self.dispatcher.close()
        await self.history.close()
        await self.key_follower.close()
        await self.budgets.keeper.settler.close()
        with suppress(StoreUnavailable):  # other replicas need not wait until the leases expire
            await self.store.renew_leases(self.durable_runs.owner, 0.0)
            await self.store.notify(REPLICA_LEFT)
        await self.store.close()

    async def _purge_periodically(self) -> None:
        while True:
            now = self.clock.now().timestamp()
            try:
                await self.store.purge(runs_before_at=now - self.retention, keys_before_at=now - _KEY_RETENTION)
                await self.history.purge()
                await self.store.bulk_replays.purge(now)
                await self.store.client_keys.purge(now - KEPT_AFTER_END)
                audited_since = self.clock.now() - timedelta(seconds=self.audit_limits.retention)
                await self.store.audit.purge(format_rfc3339(audited_since), most=self.audit_limits.most)
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            await self.clock.sleep(_PURGE_INTERVAL)
