"""Families of metrics on one registry, by name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.observability.metric_types import Counter, CountGauge, ExportableGauge, Histogram


class MetricFamilies:
    """The families that the classes of metrics create."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, Counter | CountGauge | Histogram | ExportableGauge] = {}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        counter = Counter(f"runward_{name}", text, labels)
        self.registry.register(counter)
        self._families[counter.name] = counter
        return counter

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(f"runward_{name}_seconds", text, labels, bounds)
        self.registry.register(histogram)
        self._families[histogram.name] = histogram
        return histogram

    def _gauge(self, name: str, text: str, *labels: str) -> ExportableGauge:
        gauge = ExportableGauge(f"runward_{name}", text, labels, registry=self.registry)
        self._families[f"runward_{name}"] = gauge
        return gauge
