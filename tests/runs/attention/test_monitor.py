"""Monitor of the attention list: all sources together, faults of single ones, and recent counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.observability.metrics import Metrics
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.runs.attention.items import MAX_ITEMS, AttentionConfig, AttentionContext, AttentionItem, AttentionKind
from gateway.runs.attention.monitor import SOURCES, AttentionMonitor, Source
from gateway.runs.attention.recent_counts import RecentCounts
from gateway.runs.attention.webhook import AttentionWebhook
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import RunPage
from gateway.store.run_filter import RunFilter
from tests.runs.attention.samples import add_ended, ended
from tests.support.virtual_clock import VirtualClock


class CountingStore(MemoryStore):
    """A store that counts lists, and may fail."""

    lists = 0
    unavailable = False

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        self.lists += 1
        if self.unavailable:
            raise StoreUnavailable("it is away")
        return await super().list_runs(run_filter)


class Harness:
    """A monitor on a memory store."""

    def __init__(self, sources: dict[str, Source] | None = None) -> None:
        self.clock, self.metrics, self.logs = VirtualClock(), Metrics(), LogCapture()
        self.store = CountingStore(self.clock)
        log = structlog.wrap_logger(None, processors=[self.logs])
        sender = WebhookSender(EgressPolicy(()), self.clock)
        webhook = AttentionWebhook(self.store.announcements, sender, self.clock, log)
        more: dict[str, Any] = {} if sources is None else {"sources": sources}
        self.monitor = AttentionMonitor(
            self.store,
            self.collect_metrics,
            AttentionConfig(),
            webhook,
            self.clock,
            log,
            record_counts=self.metrics.attention_found,
            **more,
        )

    async def collect_metrics(self) -> Metrics:
        return self.metrics

    async def items(self) -> list[AttentionItem]:
        """Collect anew."""
        self.clock.advance(3)
        return list((await self.monitor.collect()).items)


@pytest.fixture
async def harness() -> Harness:
    made = Harness()
    await made.store.open()
    made.metrics.track_store_availability(lambda: False)
    made.metrics.track_store_durability(lambda: None)
    return made


async def test_nothing_needs_attention(harness: Harness) -> None:
    assert [] == await harness.items()


async def test_critical_items_are_first_and_then_the_oldest(harness: Harness) -> None:
    await add_ended(harness.store, ended(1))
    await harness.store.set_override(ProviderOverride("studio", "open", "", 5.0))
    harness.metrics.track_circuit("studio", "w")("open")
    assert ["circuit_open", "provider_overridden", "unknown_outcomes"] == [each.kind for each in await harness.items()]


async def test_a_source_that_fails_is_an_item_and_hides_no_other(harness: Harness) -> None:
    """An empty list means that nothing needs attention, not that nothing is known."""
    harness.store.unavailable = True
    harness.metrics.config_reload_refused()
    items = await harness.items()
    assert [
        ("source_unavailable", "unfinished_runs"),
        ("source_unavailable", "unknown_outcomes"),
        ("config_refused", "configuration"),
    ] == [(item.kind, item.subject) for item in items]
    since = items[0].since_at
    assert since == (await harness.items())[0].since_at
    harness.store.unavailable = False
    assert ["config_refused"] == [item.kind for item in await harness.items()]


async def test_a_defect_in_a_source_is_logged_and_is_an_item() -> None:
    async def broken(_context: AttentionContext) -> list[AttentionItem]:
        raise KeyError("x")

    made = Harness({"broken": broken})
    assert [("source_unavailable", "broken")] == [(each.kind, each.subject) for each in await made.items()]
    assert ["internal_error"] == [each["event"] for each in made.logs.entries]


async def test_a_source_that_hangs_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(_context: AttentionContext) -> list[AttentionItem]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("gateway.runs.attention.monitor._SOURCE_TIMEOUT", 0.01)
    assert ["source_unavailable"] == [each.kind for each in await Harness({"hanging": hanging}).items()]


async def test_the_items_of_a_source_are_bounded() -> None:
    """Those that begin last are left out."""

    async def many(_context: AttentionContext) -> list[AttentionItem]:
        kind = AttentionKind.CIRCUIT_OPEN
        return [AttentionItem(kind, "warning", str(n), "", "", "", float(n)) for n in range(200, 0, -1)]

    items = await Harness({"many": many}).items()
    assert [str(n) for n in range(1, MAX_ITEMS + 1)] == [item.subject for item in items]


async def test_what_has_no_beginning_begins_when_it_is_found(harness: Harness) -> None:
    """And anew once it was away."""
    harness.metrics.config_reload_refused()
    (first,), (second,) = await harness.items(), await harness.items()
    assert first == second
    harness.metrics.config_loaded(harness.clock.now())
    assert [] == await harness.items()
    harness.metrics.config_reload_refused()
    (third,) = await harness.items()
    assert first.id == third.id
    assert (third.since_at or 0) > (first.since_at or 0)


async def test_many_requests_read_the_store_once(harness: Harness) -> None:
    await asyncio.gather(*(harness.monitor.collect() for _ in range(50)))
    assert 5 == harness.store.lists
    await harness.items()
    assert 10 == harness.store.lists


async def test_refusals_and_drops_are_items_for_their_windows(harness: Harness) -> None:
    """Refused keys for 10 minutes, dropped records for an hour: from the first, without a reading of the counters."""
    harness.metrics.reply_refused("studio", "start", "credentials")
    harness.metrics.reply_refused("studio", "poll", "credentials")
    harness.metrics.reply_refused("layer", "start", "throttled")
    harness.metrics.history_dropped(4)
    harness.metrics.content_unreadable("order")
    assert [("content_unreadable", 1), ("credentials_refused", 2), ("history_dropped", 4)] == [
        (each.kind, each.count) for each in await harness.items()
    ]
    harness.monitor.start()
    await harness.clock.run_for(660)
    assert [("content_unreadable", 1), ("history_dropped", 4)] == [
        (each.kind, each.count) for each in await harness.items()
    ]
    await harness.clock.run_for(3600)
    assert [] == await harness.items()
    await harness.monitor.close()
    assert [] == harness.logs.entries


async def test_the_items_are_counted_by_kind_every_30_seconds_without_a_request(harness: Harness) -> None:
    harness.metrics.track_circuit("p", "w")("open")
    await harness.store.set_override(ProviderOverride("q", "suspended", "", 1.0))
    harness.monitor.start()
    assert {} == harness.metrics.read(["runward_attention_items"])["runward_attention_items"]
    await harness.clock.run_for(31)
    counts = harness.metrics.read(["runward_attention_items"])["runward_attention_items"]
    assert {(kind.value,) for kind in AttentionKind} == set(counts)
    assert {("circuit_open",): (1,), ("provider_overridden",): (1,)} == {k: v for k, v in counts.items() if any(v)}
    await harness.store.remove_override("q")
    await harness.clock.run_for(30)
    assert (0,) == harness.metrics.read(["runward_attention_items"])["runward_attention_items"]["provider_overridden",]
    await harness.monitor.close()


async def test_a_defect_does_not_end_the_loop(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise KeyError("x")

    harness.monitor.start()
    with monkeypatch.context() as patched:
        patched.setattr(AttentionMonitor, "check", lambda _: broken())
        await harness.clock.run_for(65)
    assert ["internal_error"] * 2 == [each["event"] for each in harness.logs.entries]
    harness.metrics.history_dropped(1)
    await harness.clock.run_for(4000)
    assert [] == await harness.items()
    await harness.monitor.close()


def test_every_kind_has_a_source() -> None:
    """But for that of a source that cannot be read. The names are unique."""
    assert len(SOURCES) == len(set(SOURCES.values())) == 14


def test_counts_grow_within_their_window() -> None:
    counts = RecentCounts(100.0)
    assert {"a": 5} == counts.growth({"a": 5, "b": 0})
    for now, count in ((10.0, 5), (50.0, 7), (90.0, 7)):
        counts.add(now, {"a": count})
    assert {"a": 7} == counts.growth({"a": 7})
    counts.add(111.0, {"a": 7})
    assert {"a": 2, "b": 1} == counts.growth({"a": 7, "b": 1})
    counts.add(200.0, {"a": 7, "b": 1})
    assert {} == RecentCounts(1.0).growth({})
    assert {"b": 1} == counts.growth({"a": 7, "b": 1})
