"""docs/metrics.md lists the existing metrics and causes."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metric_types import Counter, CountGauge, Histogram
from gateway.observability.metrics import Metrics
from providers.contract import Cause

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_every_metric_is_in_its_table() -> None:
    """docs/metrics.md and the registry have the same names, types and labels."""
    rows = re.findall(
        r"^\| `(runward_\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", _page("metrics.md"), re.MULTILINE
    )
    documented = {
        name.removesuffix("_total"): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    actual: dict[str, tuple[str, set[str]]] = {}
    for metric in Metrics().registry._collector_to_names:
        if isinstance(metric, CountGauge):
            actual[metric.name] = ("gauge", set(metric.labels))
        elif isinstance(metric, Gauge):  # the library tells these nowhere else
            actual[metric._name] = ("gauge", set(metric._labelnames))
        elif isinstance(metric, Counter | Histogram):
            actual[metric.name] = ("counter" if isinstance(metric, Counter) else "histogram", set(metric.labels))
    assert actual == documented


def test_every_cause_is_on_the_metrics_page() -> None:
    """All values of the label `cause`."""
    listed = re.search(r"\*\*Causes\*\*: (.*?)\n\n", _page("metrics.md"), re.DOTALL)
    assert listed is not None
    assert {cause.value for cause in Cause} == set(re.findall(r"`(\w+)`", listed[1]))


def test_the_exposition_is_readable() -> None:
    """The official Prometheus parser reads it, and every name has the prefix of Runward."""
    families = list(text_string_to_metric_families(Metrics().render().decode()))
    assert [] == [family.name for family in families if not family.name.startswith("runward_")]


def _page(name: str) -> str:
    return (DOCS / name).read_text()
