"""The OpenMetrics exposition: valid, with units and exemplars, without creation times; of several workers too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.observability.metrics import Metrics
from gateway.supervisor.metrics_merge import merge_exemplars
from gateway.supervisor.worker_status import WorkerStatus
from tests.alerts.prometheus_tools import run_promtool
from tests.observability.test_metrics import record_each_metric_once

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def parse_openmetrics(text: str) -> list[Metric]:
    """Parse with the official parser."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def exemplars(text: str) -> dict[tuple[str, str], tuple[dict[str, str], float]]:
    """Return labels and value of the exemplars by metric and bound."""
    return {
        (sample.name, sample.labels["le"]): (sample.exemplar.labels, sample.exemplar.value)
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_the_exposition_is_openmetrics() -> None:
    """It ends with its mark, and has the unit of each name that ends in one; no series of creation times."""
    metrics = Metrics()
    record_each_metric_once(metrics)
    text = metrics.render_openmetrics().decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert text.endswith("# EOF\n")
    assert {name: "seconds" for name in families if name.endswith("_seconds")} == {
        name: family.unit for name, family in families.items() if family.unit
    }
    assert "_created" not in text


def test_a_bucket_has_the_trace_of_its_last_run_that_had_one() -> None:
    """In OpenMetrics only."""
    metrics = Metrics()
    for seconds, trace_id in ((0.2, "a" * 32), (0.21, TRACE), (70.0, "b" * 32)):
        metrics.observe_run_duration("w", "p", seconds, 0.001)
        metrics.run_traced("w", "p", seconds, trace_id, NOW)
    metrics.observe_run_duration("w", "p", 0.22, 0.001)
    bucket = "runward_run_duration_seconds_bucket"
    assert {(bucket, "0.25"): ({"trace_id": TRACE}, 0.21), (bucket, "120.0"): ({"trace_id": "b" * 32}, 70.0)} == (
        exemplars(metrics.render_openmetrics().decode())
    )
    assert "trace_id" not in metrics.render().decode()


def test_any_number_of_traces_keeps_one_for_each_bucket() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.run_traced("w", "p", number / 100, f"{number:032x}", NOW)
    assert 16 >= len(metrics.export_exemplars())


def test_of_several_workers_the_latest_exemplar_is_shown() -> None:
    """After the way of their status."""
    workers = [Metrics(), Metrics()]
    for number, worker in enumerate(workers):
        worker.observe_run_duration("w", "p", 0.2, 0.001)
        worker.run_traced("w", "p", 0.2, str(number) * 32, NOW + timedelta(seconds=number))
    statuses = [WorkerStatus(metrics=each.export(), exemplars=each.export_exemplars()) for each in workers]
    received = [WorkerStatus.decode(status.encode()) for status in statuses]
    for ordered in (received, received[::-1]):
        merged = merge_exemplars(each.exemplars for each in ordered)
        shown = Metrics.from_export(received[0].metrics, merged).render_openmetrics().decode()
        assert [({"trace_id": "1" * 32}, 0.2)] == list(exemplars(shown).values())


async def test_promtool_accepts_the_metrics() -> None:
    metrics = Metrics()
    record_each_metric_once(metrics)
    code, written = await run_promtool("check", "metrics", stdin=metrics.render())
    assert 0 == code, written
