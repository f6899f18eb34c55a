"""Merged metrics of workers: correct sums, and counters that never decrease."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.samples import Sample

from gateway.observability.metric_types import CountGauge, ExportableGauge
from gateway.observability.metrics import Metrics
from gateway.supervisor.metrics_merge import GAUGE_MERGES, MetricsMerger
from tests.support.examples import examples
from tests.support.process import parse_metrics

WORKERS = st.integers(0, 2)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), WORKERS, st.sampled_from(["run", "healthz"])),
        st.tuples(st.just("run"), WORKERS, st.floats(0, 100)),
        st.tuples(st.just("dies"), WORKERS, st.none()),
        st.tuples(st.just("scrape"), WORKERS, st.none()),
    ),
    max_size=60,
)


def samples(shown: Metrics) -> list[Sample]:
    """Return the samples, read by the official Prometheus parser."""
    return parse_metrics(shown.render().decode())


def counters(shown: Metrics) -> dict[tuple[str, str], float]:
    """Return all samples that must not decrease."""
    gauges = GAUGE_MERGES.keys()
    return {(s.name, str(sorted(s.labels.items()))): s.value for s in samples(shown) if s.name not in gauges}


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS)
def test_the_sum_is_what_all_workers_counted(events: list[tuple[str, int, str | float | None]]) -> None:
    """R92: including ended workers; no counter, bucket or sum decreases between scrapes."""
    merger, workers = MetricsMerger(), [Metrics() for _ in range(3)]
    expected: Counter[str] = Counter()
    before: dict[tuple[str, str], float] = {}
    for what, place, detail in [*events, ("scrape", 0, None)]:
        if what == "request":
            workers[place].request_ended(str(detail), 200)
            expected[str(detail)] += 1
        elif what == "run":
            workers[place].observe_run_duration("w", "p", float(detail or 0), 0.001)
            expected["runs"] += 1
        elif what == "dies":
            merger.retire(workers[place].export())
            workers[place] = Metrics()
        else:
            shown = Metrics.from_export(merger.merge([worker.export() for worker in workers]))
            now = counters(shown)
            assert all(now[series] >= value for series, value in before.items())
            before = now
            found = {s.labels["route"]: s.value for s in samples(shown) if s.name == "runward_requests_total"}
            runs = sum(s.value for s in samples(shown) if s.name == "runward_run_duration_seconds_count")
            assert {**expected} == {route: n for route, n in [*found.items(), ("runs", runs)] if n}


def test_seconds_do_not_shrink_by_the_last_bit() -> None:
    """A float sum in another order may be smaller, which Prometheus reads as a counter reset."""
    merger, workers = MetricsMerger(), [Metrics() for _ in range(3)]
    for worker, seconds in zip(workers, (0.1, 0.7, 0.2), strict=True):
        worker.observe_run_duration("w", "p", seconds, seconds)

    def shown() -> float:
        merged = merger.merge([worker.export() for worker in workers])
        return merged["runward_overhead_seconds"][()][-1]

    before = shown()
    merger.retire(workers.pop().export())  # 0.2 + (0.1 + 0.7) is less than (0.1 + 0.7) + 0.2 in no other order
    merger.retire(workers.pop().export())
    assert shown() >= before


def test_gauges_are_those_of_live_workers() -> None:
    """Requests in flight are added; a circuit has every state that a worker reports."""
    merger, workers = MetricsMerger(), [Metrics(), Metrics()]
    for worker, count, state in zip(workers, (3, 4), ("open", "closed"), strict=True):
        worker.track_in_flight(lambda count=count: count)  # type: ignore[misc]  # a lambda's default has no type
        worker.track_circuit("p", "w")(state)

    def shown() -> tuple[float, set[str]]:
        seen = samples(Metrics.from_export(merger.merge([worker.export() for worker in workers])))
        [flying] = [s.value for s in seen if s.name == "runward_requests_in_flight"]
        return flying, {s.labels["state"] for s in seen if s.name == "runward_circuit_state" and s.value == 1}

    assert (7, {"open", "closed"}) == shown()
    merger.retire(workers.pop(0).export())
    assert (4, {"closed"}) == shown()


def test_an_override_is_shown_once_while_a_worker_has_it() -> None:
    merger, workers = MetricsMerger(), [Metrics(), Metrics()]
    for worker in workers:
        worker.provider_overridden("p", "suspended")

    def shown() -> dict[str, float]:
        seen = samples(Metrics.from_export(merger.merge([worker.export() for worker in workers])))
        return {s.labels["mode"]: s.value for s in seen if s.name == "runward_provider_override"}

    assert {"suspended": 1, "open": 0, "closed": 0} == shown()
    workers[0].provider_overridden("p", None)
    assert 1 == shown()["suspended"]
    workers[1].provider_overridden("p", None)
    assert {0} == set(shown().values())


def test_a_reload_refused_by_one_worker_is_shown() -> None:
    """R100: until every worker has applied a valid configuration."""
    merger, workers = MetricsMerger(), [Metrics(), Metrics()]
    for worker in workers:
        worker.config_loaded(datetime(2026, 11, 21, tzinfo=UTC))

    def shown() -> dict[str, float]:
        seen = samples(Metrics.from_export(merger.merge([worker.export() for worker in workers])))
        return {s.name: s.value for s in seen if s.name == "runward_config_last_reload_success" or "reloads" in s.name}

    workers[1].config_reload_refused()
    assert {"runward_config_last_reload_success": 0, "runward_config_reloads_total": 1} == shown()
    for worker in workers:
        worker.config_reloaded(datetime(2026, 11, 21, tzinfo=UTC))
    assert 1 == shown()["runward_config_last_reload_success"]


def test_every_gauge_has_a_merge_function() -> None:
    """A gauge that is not in the table would be summed, ended workers included."""
    gauges = {name for name, family in Metrics()._families.items() if isinstance(family, CountGauge | ExportableGauge)}
    assert gauges == GAUGE_MERGES.keys()


def test_two_versions_side_by_side_do_not_break_a_scrape() -> None:
    """During an upgrade under a running supervisor, a histogram may have other bounds."""
    merger = MetricsMerger()
    merger.retire({"runward_overhead_seconds": {(): (1.0, 2.0, 3.0)}, "runward_old": {("a",): (1.0,)}})
    fresh = Metrics()
    fresh.request_ended("run", 200)
    shown = Metrics.from_export(merger.merge([fresh.export()]))
    assert 1 == sum(s.value for s in samples(shown) if s.name == "runward_requests_total")
