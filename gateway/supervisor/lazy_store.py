"""Store connection of the supervisor for the operations port, opened at the first request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.store.audit import AuditStore
from gateway.store.budgets import BudgetStore
from gateway.store.bulk_replay import BulkReplayStore
from gateway.store.client_key import ClientKeyStore
from gateway.store.contract import Store
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import IdempotencyRecord, RunOverview, RunPage
from gateway.store.run_filter import RunFilter
from gateway.store.usage import UsageStore
from gateway.supervisor.lazy_audit import LazyAudit
from gateway.supervisor.lazy_budgets import LazyBudgets
from gateway.supervisor.lazy_bulk_replays import LazyBulkReplays
from gateway.supervisor.lazy_client_keys import LazyClientKeys
from gateway.supervisor.lazy_usage import LazyUsage


@dataclass(slots=True)
class LazyStore:
    """The part of `store` that the operations port uses. After a failure, the next request opens the store again."""

    store: Store
    _is_open: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    bulk_replays: BulkReplayStore = field(init=False)
    audit: AuditStore = field(init=False)
    client_keys: ClientKeyStore = field(init=False)
    usage: UsageStore = field(init=False)
    budgets: BudgetStore = field(init=False)

    def __post_init__(self) -> None:
        self.audit = LazyAudit(self.store.audit, self._ensure_open)
        self.bulk_replays = LazyBulkReplays(self.store.bulk_replays, self._ensure_open)
        self.client_keys = LazyClientKeys(self.store.client_keys, self._ensure_open)
        self.usage = LazyUsage(self.store.usage, self._ensure_open)
        self.budgets = LazyBudgets(self.store.budgets, self._ensure_open)

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """Open the store if necessary, and call `Store.list_by_callback_state`."""
        await self._ensure_open()
        return await self.store.list_by_callback_state(state, limit=limit, after=after)

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """Open the store if necessary, and call `Store.redeliver_callback`; any worker may deliver it."""
        await self._ensure_open()
        return await self.store.redeliver_callback(run_id, now_at=now_at)

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """Open the store if necessary, and call `Store.list_runs`."""
        await self._ensure_open()
        return await self.store.list_runs(run_filter)

    async def judge(self, run_id: str, judgement: bytes) -> bool:
        """Open the store if necessary, and call `Store.judge`."""
        await self._ensure_open()
        return await self.store.judge(run_id, judgement)

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """Open the store if necessary, and call `Store.get_overview`."""
        await self._ensure_open()
        return await self.store.get_overview(run_id)

    async def get_timeline(self, run_id: str) -> bytes | None:
        """Open the store if necessary, and call `Store.get_timeline`."""
        await self._ensure_open()
        return await self.store.get_timeline(run_id)

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """Open the store if necessary, and call `Store.get_idempotency_record`."""
        await self._ensure_open()
        return await self.store.get_idempotency_record(client, text)

    async def take_unannounced(
        self, ids: Sequence[str], *, limit: int, now_at: float, taken_until_at: float, kept_until_at: float
    ) -> list[str]:
        """Open the store if necessary, and call `AnnouncementStore.take_unannounced`."""
        await self._ensure_open()
        return await self.store.announcements.take_unannounced(
            ids, limit=limit, now_at=now_at, taken_until_at=taken_until_at, kept_until_at=kept_until_at
        )

    async def mark_announced(self, ids: Sequence[str], *, kept_until_at: float) -> None:
        """Open the store if necessary, and call `AnnouncementStore.mark_announced`."""
        await self._ensure_open()
        await self.store.announcements.mark_announced(ids, kept_until_at=kept_until_at)

    async def set_override(self, override: ProviderOverride) -> None:
        """Open the store if necessary, and call `Store.set_override`."""
        await self._ensure_open()
        await self.store.set_override(override)

    async def remove_override(self, provider: str) -> None:
        """Open the store if necessary, and call `Store.remove_override`."""
        await self._ensure_open()
        await self.store.remove_override(provider)

    async def list_overrides(self) -> list[ProviderOverride]:
        """Open the store if necessary, and call `Store.list_overrides`."""
        await self._ensure_open()
        return await self.store.list_overrides()

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """Open the store if necessary, and call `Store.get_or_create_secret`."""
        await self._ensure_open()
        return await self.store.get_or_create_secret(name, default)

    async def notify(self, name: str) -> None:
        """Open the store if necessary, and call `Store.notify`."""
        await self._ensure_open()
        await self.store.notify(name)

    async def close(self) -> None:
        """Close the store, if it was opened."""
        async with self._lock:
            if self._is_open:
                self._is_open = False
                await self.store.close()

    async def _ensure_open(self) -> None:
        async with self._lock:
            if not self._is_open:
                await self.store.open()
                self._is_open = True
