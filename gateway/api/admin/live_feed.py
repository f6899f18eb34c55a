"""Live feed of the console: one snapshot each second for all tabs, as server-sent events. It rests without tabs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.clock import Clock, format_rfc3339
from gateway.json import strict_json
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics_history import IN_FLIGHT, OUTCOMES, RUNS, ReadFamilies, gauge
from gateway.problems import Problem
from gateway.runs.attention.monitor import AttentionMonitor
from gateway.runs.record_rendering import operator_view
from gateway.runs.run_changes import ChangesStore, RunChanges
from gateway.store.contract import StoreUnavailable

MAX_TABS = 100
MAX_RUNS = 50
"""Runs in one event."""

_TICK = 1.0  # seconds
_COMMENT_TICKS = 15
_ATTENTION_INTERVAL = 15.0  # seconds
_STORE_TIMEOUT = 3.0  # seconds
_RATE_TICKS = 5
_MAX_UNREAD = 10  # seconds that a tab may lag behind
_COMMENT = b": alive\n\n"

Tab: TypeAlias = "asyncio.Queue[bytes | None]"
"""Events for one tab; None is the end."""


@dataclass(slots=True)
class LiveFeed:
    """Events for all tabs. `read`: the metrics of this replica, all of its workers together."""

    store: ChangesStore
    read: ReadFamilies
    attention: AttentionMonitor
    clock: Clock
    log: Logger
    _tabs: set[Tab] = field(default_factory=set)
    _task: asyncio.Task[None] | None = None
    _attention_count: int | None = None

    def subscribe(self) -> Tab:
        """Return the queue of a new tab, which gets events from the next second on. Raises Problem (overloaded)."""
        if len(self._tabs) >= MAX_TABS:
            raise Problem("overloaded", f"{MAX_TABS} tabs of the console are open.", retry_after=30)
        tab: Tab = asyncio.Queue(_MAX_UNREAD)
        self._tabs.add(tab)
        if self._task is None:
            self._task = asyncio.create_task(self._run_forever())
        return tab

    def unsubscribe(self, tab: Tab) -> None:
        """Remove a tab; without any, the store and the metrics are not read."""
        self._tabs.discard(tab)
        if not self._tabs and self._task is not None:
            self._task.cancel()
            self._task = None

    def end_all(self) -> None:
        """End every stream: tabs connect again, and are authenticated again."""
        for tab in list(self._tabs):
            self._end(tab)

    def _end(self, tab: Tab) -> None:
        """End the stream of a tab, also of one that does not read."""
        while not tab.empty():
            tab.get_nowait()
        tab.put_nowait(None)
        self.unsubscribe(tab)

    async def _run_forever(self) -> None:
        attention = asyncio.create_task(self._count_attention())
        changes, totals = RunChanges(self.store), deque[tuple[float, Sequence[int]]](maxlen=_RATE_TICKS + 1)
        ticks = 0
        try:
            while True:
                try:
                    events = self._tick_event(totals) + await self._runs_event(changes)
                except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                    self.log.error("internal_error", **json_logging.describe_exception(error))
                    events = b""
                ticks += 1
                self._send(events + (b"" if ticks % _COMMENT_TICKS else _COMMENT))
                await self.clock.sleep(_TICK)
        finally:
            attention.cancel()

    def _send(self, events: bytes) -> None:
        if not events:
            return
        for tab in list(self._tabs):
            if tab.full():
                self._end(tab)
            else:
                tab.put_nowait(events)

    def _tick_event(self, totals: deque[tuple[float, Sequence[int]]]) -> bytes:
        """Return the event `tick`; `totals`: monotonic time and runs by outcome, of this second and those before."""
        families = self.read((RUNS, IN_FLIGHT))
        counts = dict.fromkeys(OUTCOMES, 0)
        for labels, values in families.get(RUNS, {}).items():
            if labels[3] in counts:
                counts[labels[3]] += int(values[0])
        totals.append((self.clock.monotonic(), list(counts.values())))
        (first_at, first), (last_at, last) = totals[0], totals[-1]
        before = totals[-2][1] if len(totals) > 1 else last
        seconds = last_at - first_at
        return _event(
            "tick",
            {
                "at": format_rfc3339(self.clock.now()),
                "runs_per_second": round(max(0, sum(last) - sum(first)) / seconds, 2) if seconds > 0 else 0.0,
                "in_flight": int(gauge(families, IN_FLIGHT) or 0),
                "outcomes": {name: max(0, now - then) for name, now, then in zip(OUTCOMES, last, before, strict=True)},
                "attention": self._attention_count,
            },
        )

    async def _runs_event(self, changes: RunChanges) -> bytes:
        """Return the event `runs`; empty if nothing has changed, or while the store cannot be read."""
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                changed = await changes.look(self.clock.now().timestamp())
        except (StoreUnavailable, TimeoutError):
            return b""
        if not changed:
            return b""
        shown = [operator_view(run) for run in changed[:MAX_RUNS]]
        return _event("runs", {"runs": shown, "more": len(changed) > MAX_RUNS})

    async def _count_attention(self) -> None:
        while True:
            try:
                self._attention_count = len((await self.attention.collect()).items)
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))
                self._attention_count = None
            await self.clock.sleep(_ATTENTION_INTERVAL)


def _event(name: str, document: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), strict_json.write(document))
