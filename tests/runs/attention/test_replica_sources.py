"""Sources of items about a replica, its providers and its keys."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.observability.metrics import Metrics
from gateway.runs.attention import replica_sources
from gateway.runs.attention.items import AttentionConfig
from gateway.store.memory.store import MemoryStore
from gateway.store.provider_override import ProviderOverride
from tests.runs.attention.samples import context
from tests.store.samples import NOW
from tests.support.clock import ManualClock

DAY = 86400.0


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(ManualClock())


async def test_circuits_are_folded_by_provider(memory: MemoryStore) -> None:
    """Open and half open ones; also from the metrics that workers sent."""
    metrics = Metrics()
    for number in range(5):
        metrics.track_circuit("studio", f"w{number}")("open" if number else "half_open")
    metrics.track_circuit("layer", "w")
    for each in (metrics, Metrics.from_export(metrics.export())):
        (item,) = await replica_sources.open_circuits(context(memory, NOW, metrics=each))
        assert ("circuit_open", "critical", "studio", 5) == (item.kind, item.severity, item.subject, item.count)
        assert item.summary.endswith("w0, w1, w2, ….")


async def test_overrides_are_items_with_their_notes(memory: MemoryStore) -> None:
    await memory.open()
    await memory.set_override(ProviderOverride("studio", "suspended", "ticket 4711", NOW))
    await memory.set_override(ProviderOverride("a b", "open", "", NOW + 1))
    other, studio = await replica_sources.overridden_providers(context(memory, NOW))
    assert ("studio", NOW, "runward providers auto studio") == (studio.subject, studio.since_at, studio.action)
    assert "An operator has set studio to suspended: ticket 4711" == studio.summary
    assert ("An operator has set a b to open.", "runward providers auto 'a b'") == (other.summary, other.action)


async def test_refused_credentials_are_items_by_provider(memory: MemoryStore) -> None:
    (item,) = await replica_sources.refused_credentials(context(memory, NOW, recent_refusals={"studio": 7}))
    assert ("critical", "studio", 7) == (item.severity, item.subject, item.count)
    assert "providers.studio.api_key" in item.action


@pytest.mark.parametrize(
    ("days", "severity"),
    [(15, None), (13, "warning"), (0.1, "warning"), (0, "critical"), (-13, "critical"), (-15, None)],
)
async def test_the_last_key_of_an_owner_is_an_item_two_weeks_before_and_after_its_end(
    memory: MemoryStore, days: float, severity: str | None
) -> None:
    config = AttentionConfig(key_expiries={"clients.checkout": NOW + days * DAY})
    items = await replica_sources.expiring_keys(context(memory, NOW, config=config))
    assert [severity] * bool(severity) == [item.severity for item in items]
    assert {"clients.checkout"} >= {item.subject for item in items}
    since = {NOW + days * DAY - (14 * DAY if days > 0 else 0)}
    assert since >= {item.since_at for item in items}


@pytest.mark.parametrize(
    ("ago", "failures", "severity"),
    [(3599, 1, None), (3601, 0, "warning"), (3601, 9, "warning"), (None, 1, "critical"), (None, 0, None)],
)
async def test_an_issuer_without_fresh_keys_is_an_item(
    memory: MemoryStore, ago: float | None, failures: int, severity: str | None
) -> None:
    """Not before the first fetch has ended."""
    metrics = Metrics()
    metrics.issuer_keys_fetched("kubernetes", 0.0 if ago is None else NOW - ago)
    for _ in range(failures):
        metrics.issuer_fetch_ended("kubernetes", "failed")
    items = await replica_sources.stale_issuers(context(memory, NOW, metrics=metrics))
    assert [(severity, "issuers.kubernetes")] * bool(severity) == [(item.severity, item.subject) for item in items]


async def test_the_store_is_an_item_while_it_fails_or_is_not_durable(memory: MemoryStore) -> None:
    metrics = Metrics()
    metrics.track_store_availability(lambda: True)
    metrics.track_store_durability(lambda: "it is kept in memory only")
    items = await replica_sources.store_state(context(memory, NOW, metrics=metrics))
    assert ["store_unavailable", "store_not_durable"] == [item.kind for item in items]
    metrics.track_store_availability(lambda: False)
    metrics.track_store_durability(lambda: None)
    assert [] == await replica_sources.store_state(context(memory, NOW, metrics=metrics))


async def test_a_refused_configuration_is_an_item(memory: MemoryStore) -> None:
    metrics = Metrics()
    assert [] == await replica_sources.refused_configuration(context(memory, NOW, metrics=metrics))
    metrics.config_reload_refused()
    (item,) = await replica_sources.refused_configuration(context(memory, NOW, metrics=metrics))
    assert ("config_refused", "runward check") == (item.kind, item.action)
    metrics.config_reloaded(SystemClock().now())
    assert [] == await replica_sources.refused_configuration(context(memory, NOW, metrics=metrics))


async def test_dropped_records_are_an_item(memory: MemoryStore) -> None:
    assert [] == await replica_sources.dropped_history(context(memory, NOW))
    assert [] == await replica_sources.unreadable_content(context(memory, NOW))
    (item,) = await replica_sources.dropped_history(context(memory, NOW, recent_drops=3))
    assert ("history_dropped", 3) == (item.kind, item.count)


async def test_what_no_worker_reports_is_not_known(memory: MemoryStore) -> None:
    """A gauge without a value is not 0."""
    metrics = Metrics.from_export({})
    for source in (
        replica_sources.store_state,
        replica_sources.refused_configuration,
        replica_sources.open_circuits,
        replica_sources.refused_credentials,
        replica_sources.stale_issuers,
    ):
        assert [] == await source(context(memory, NOW, metrics=metrics))
    assert ({}, 0) == (metrics.refused_credentials(), metrics.dropped_records())
