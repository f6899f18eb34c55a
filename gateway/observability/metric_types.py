"""Counters and histograms with cheap increments, exported through custom collectors of prometheus_client.

The children of prometheus_client take a lock and five calls for each increment, a tenth of the time of a request. Here
only the event loop counts, so an increment is one look-up and one addition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.money import MICROS

Labels: TypeAlias = tuple[str, ...]
SeriesValues: TypeAlias = Mapping[Labels, Sequence[float]]
"""Values of a family by labels: one value, or the bucket counts of a histogram followed by its sum."""


class TraceExemplar(NamedTuple):
    """The last observation of a bucket whose trace is known. `at`: its time, in seconds since 1970."""

    trace_id: str
    value: float
    at: float


ExemplarsByBucket: TypeAlias = Mapping[tuple[Labels, int], TraceExemplar]
"""Exemplars of a histogram, by labels and number of the bucket: at most one for each of its series."""


class CountedFamily:
    """Whole numbers by labels, that are counted without a call: `family.counts[labels] += 1`."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name, self.labels = name, tuple(labels)
        self.counts: defaultdict[Labels, int] = defaultdict(int)
        self._text = text

    def export(self) -> SeriesValues:
        """Return all counts."""
        return {labels: (count,) for labels, count in self.counts.items()}

    def restore(self, exported: SeriesValues) -> None:
        """Set the counts from an export."""
        self.counts.update({labels: int(values[0]) for labels, values in exported.items()})


class Counter(CountedFamily):
    """A counter with labels."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family for Prometheus."""
        family = CounterMetricFamily(self.name, self._text, labels=self.labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class CountGauge(CountedFamily):
    """A gauge of what is in progress, as cheap as a counter: `gauge.counts[labels] -= 1` at its end."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family for Prometheus."""
        family = GaugeMetricFamily(self.name, self._text, labels=self.labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class MoneyCounter(Counter):
    """A counter of micros, shown in whole units; sums of micros are exact."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family for Prometheus."""
        family = CounterMetricFamily(self.name, self._text, labels=self.labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count / MICROS)
        yield family


class Histogram:
    """A histogram with labels; `bounds` are the upper bounds of the buckets, ascending, without infinity."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name, self.labels = name, tuple(labels)
        self.exemplars: dict[tuple[Labels, int], TraceExemplar] = {}
        self._text = text
        self._bounds = tuple(bounds)
        self._children: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count one value."""
        try:
            child = self._children[labels]
        except KeyError:  # a count for each bucket, the overflow included, then the sum
            child = self._children[labels] = [0.0] * (len(self._bounds) + 2)
        child[bisect_left(self._bounds, value)] += 1
        child[-1] += value

    def set_exemplar(self, labels: Labels, value: float, trace_id: str, at: float) -> None:
        """Keep the trace of a value that was observed, in place of the one before in its bucket."""
        self.exemplars[labels, bisect_left(self._bounds, value)] = TraceExemplar(trace_id, value, at)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family for Prometheus, with cumulative buckets."""
        family = HistogramMetricFamily(self.name, self._text, labels=self.labels, unit=_unit(self.name))
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, child in list(self._children.items()):
            *counts, total = child
            exemplars = [_exemplar(self.exemplars.get((labels, bucket))) for bucket in range(len(names))]
            buckets = list(zip(names, accumulate(counts), exemplars, strict=True))
            family.add_metric(labels, buckets, total)  # type: ignore[arg-type]  # None: without an exemplar
        yield family

    def export(self) -> SeriesValues:
        """Return a count for each bucket, the overflow included, and the sum, by labels."""
        return {labels: tuple(child) for labels, child in self._children.items()}

    def restore(self, exported: SeriesValues) -> None:
        """Set the values from an export with the same bounds."""
        size = len(self._bounds) + 2
        self._children.update({labels: list(values) for labels, values in exported.items() if len(values) == size})


def _exemplar(found: TraceExemplar | None) -> Exemplar | None:
    return None if found is None else Exemplar({"trace_id": found.trace_id}, found.value, found.at)


def _unit(name: str) -> str:
    """Return the unit that OpenMetrics tells beside the name that ends in it; empty if it has none."""
    return "seconds" if name.endswith("_seconds") else ""


class ExportableGauge(Gauge):
    """A gauge whose values can be sent to another process."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family for Prometheus, with its unit."""
        for family in super().collect():
            family.unit = _unit(family.name)
            yield family

    def export(self) -> SeriesValues:
        """Return the current values."""
        [family] = self.collect()
        return {tuple(sample.labels.values()): (sample.value,) for sample in family.samples}

    def restore(self, exported: SeriesValues) -> None:
        """Set the values from an export."""
        for labels, values in exported.items():
            (self.labels(*labels) if labels else self).set(values[0])
