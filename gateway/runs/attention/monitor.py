"""Monitor of attention items: collects them from all sources, and announces the new ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.runs.attention import budget_sources, key_sources, replica_sources, run_sources
from gateway.runs.attention.items import (
    MAX_ITEMS,
    AttentionConfig,
    AttentionContext,
    AttentionItem,
    AttentionKind,
    AttentionStore,
)
from gateway.runs.attention.recent_counts import RecentCounts
from gateway.runs.attention.webhook import AttentionWebhook
from gateway.store.contract import StoreUnavailable

Source: TypeAlias = Callable[[AttentionContext], Awaitable[list[AttentionItem]]]
"""Returns items, in any order. Raises StoreUnavailable."""

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "unknown_outcomes": run_sources.unknown_outcomes,
        "unfinished_runs": run_sources.unfinished_runs,
        "callbacks": run_sources.callbacks_given_up,
        "overrides": replica_sources.overridden_providers,
        "circuits": replica_sources.open_circuits,
        "credentials": replica_sources.refused_credentials,
        "issuers": replica_sources.stale_issuers,
        "budgets": budget_sources.spent_budgets,
        "keys": replica_sources.expiring_keys,
        "stored_keys": key_sources.expiring_stored_keys,
        "store": replica_sources.store_state,
        "configuration": replica_sources.refused_configuration,
        "history": replica_sources.dropped_history,
        "content": replica_sources.unreadable_content,
    }
)
"""All sources of items, by name."""

INTERVAL = 30.0
"""Seconds between two collections for the metrics and the webhook, and between two readings of the counters."""

_FRESH = 2.0  # seconds for which a list answers further requests
_SOURCE_TIMEOUT = 10.0  # seconds
_REFUSALS_WINDOW = 600.0  # seconds
_LOSSES_WINDOW = 3600.0  # seconds
_DROPS, _UNREADABLE = "drops", "unreadable"


@dataclass(frozen=True, slots=True)
class AttentionList:
    """The items, critical ones first, then those that began first. `checked_at`: seconds since 1970."""

    items: Sequence[AttentionItem]
    checked_at: float


@dataclass(slots=True)
class AttentionMonitor:
    """Collects items. `collect_metrics`: the metrics of this replica, those of all its workers together.

    `record_counts` is given the number of items of every kind after each collection.
    """

    store: AttentionStore
    collect_metrics: Callable[[], Awaitable[Metrics]]
    config: AttentionConfig
    webhook: AttentionWebhook
    clock: Clock
    log: Logger
    sources: Mapping[str, Source] = field(default_factory=lambda: SOURCES)
    record_counts: Callable[[Mapping[str, int]], None] = lambda _: None
    _refusals: RecentCounts = field(default_factory=lambda: RecentCounts(_REFUSALS_WINDOW))
    _losses: RecentCounts = field(default_factory=lambda: RecentCounts(_LOSSES_WINDOW))
    _last: tuple[float, AttentionList] | None = None
    _found: dict[str, dict[str, float]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _task: asyncio.Task[None] | None = None

    def reconfigure(self, config: AttentionConfig) -> None:
        """Apply another configuration from the next collection on."""
        self.config = config

    def start(self) -> None:
        """Start reading the counters and collecting items, and announcing new ones if there is a webhook."""
        self._task = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        """Stop. Is idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def collect(self) -> AttentionList:
        """Return the items of all sources; one that cannot be read is an item itself.

        Requests within two seconds get the same list, so that many of them read the store once.
        """
        async with self._lock:
            now = self.clock.monotonic()
            if self._last is None or now - self._last[0] >= _FRESH:
                self._last = now, await self._collect()
            return self._last[1]

    async def check(self) -> None:
        """Read the counters and collect the items; with a webhook, announce the new ones."""
        metrics, now = await self.collect_metrics(), self.clock.monotonic()
        self._refusals.add(now, metrics.refused_credentials())
        self._losses.add(now, _losses(metrics))
        found = await self.collect()
        if self.config.webhook is not None:
            await self.webhook.announce(found.items, self.config.webhook, self.config.signing_keys)

    async def _run_forever(self) -> None:
        while True:
            await self.clock.sleep(INTERVAL)
            try:
                await self.check()
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))

    async def _collect(self) -> AttentionList:
        metrics, now_at = await self.collect_metrics(), self.clock.now().timestamp()
        losses = self._losses.growth(_losses(metrics))
        context = AttentionContext(
            self.store,
            metrics,
            self.config,
            now_at,
            self._refusals.growth(metrics.refused_credentials()),
            losses.get(_DROPS, 0),
            losses.get(_UNREADABLE, 0),
        )
        found = await asyncio.gather(*(self._read(name, source, context) for name, source in self.sources.items()))
        items = sorted(
            (item for items in found for item in items),
            key=lambda item: (item.severity != "critical", item.since_at or now_at, item.kind, item.subject),
        )
        counts = Counter(item.kind for item in items)
        self.record_counts({kind.value: counts[kind] for kind in AttentionKind})
        return AttentionList(items, now_at)

    async def _read(self, name: str, source: Source, context: AttentionContext) -> list[AttentionItem]:
        """Return the items of a source, with the time at which each was seen first if nothing else is known."""
        try:
            async with asyncio.timeout(_SOURCE_TIMEOUT):
                items = await source(context)
        except (StoreUnavailable, TimeoutError):
            return self._dated(f"{name} unavailable", [_unavailable(name)], context.now_at)
        except Exception as error:  # noqa: BLE001 - a defect in one source must not hide the items of the others
            self.log.error("internal_error", **json_logging.describe_exception(error))
            return self._dated(f"{name} unavailable", [_unavailable(name)], context.now_at)
        self._found.pop(f"{name} unavailable", None)
        dated = self._dated(name, items, context.now_at)
        return sorted(dated, key=lambda item: (item.since_at or 0.0, item.subject))[:MAX_ITEMS]

    def _dated(self, name: str, items: Sequence[AttentionItem], now_at: float) -> list[AttentionItem]:
        before = self._found.get(name, {})
        found = self._found[name] = {item.id: before.get(item.id, now_at) for item in items}
        return [item if item.since_at is not None else replace(item, since_at=found[item.id]) for item in items]


def _losses(metrics: Metrics) -> dict[str, float]:
    return {_DROPS: metrics.dropped_records(), _UNREADABLE: metrics.unreadable_reads()}


def _unavailable(name: str) -> AttentionItem:
    return AttentionItem(
        AttentionKind.SOURCE_UNAVAILABLE,
        "critical",
        name,
        f"It is not known whether anything else needs attention: {name} cannot be read.",
        "docs/alerts.md#runwardstoreunavailable",
        "runward check --connect",
    )
