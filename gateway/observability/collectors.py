"""Counters and histograms that cost next to nothing to count, shown to Prometheus when it asks.

prometheus_client's own children take a lock and five calls for each increment, which was a tenth of a request's time.
The event loop is the only one that counts here, so an increment is one look-up and one addition; the client library
still does the rest, through its custom collectors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

Labels: TypeAlias = tuple[str, ...]
SeriesValues: TypeAlias = Mapping[Labels, Sequence[float]]
"""What a family holds for each combination of labels: a value, or a histogram's counts and then its sum."""


class Counter:
    """A counter for each combination of labels: `tally.counts[labels] += 1`."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name, self.labels = name, tuple(labels)
        self.counts: defaultdict[Labels, int] = defaultdict(int)
        self._text = text

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        family = CounterMetricFamily(self.name, self._text, labels=self.labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family

    def export(self) -> SeriesValues:
        """What was counted."""
        return {labels: (count,) for labels, count in self.counts.items()}

    def restore(self, exported: SeriesValues) -> None:
        """Take over what others counted."""
        self.counts.update({labels: int(values[0]) for labels, values in exported.items()})


class Histogram:
    """A histogram for each combination of labels; `bounds` are the upper ones, ascending, without infinity."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name, self.labels = name, tuple(labels)
        self._text = text
        self._bounds = tuple(bounds)
        self._children: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count one value."""
        child = self._children.get(labels)
        if child is None:  # a count for each bound and for what lies beyond, then the sum
            child = self._children[labels] = [0.0] * (len(self._bounds) + 2)
        child[bisect_left(self._bounds, value)] += 1
        child[-1] += value

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads: cumulative buckets."""
        family = HistogramMetricFamily(self.name, self._text, labels=self.labels)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, child in list(self._children.items()):
            *counts, total = child
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
        yield family

    def export(self) -> SeriesValues:
        """For each combination: a count for each bound and for what lies beyond, then the sum."""
        return {labels: tuple(child) for labels, child in self._children.items()}

    def restore(self, exported: SeriesValues) -> None:
        """Take over what others observed, with the same bounds."""
        size = len(self._bounds) + 2
        self._children.update({labels: list(values) for labels, values in exported.items() if len(values) == size})


class ExportableGauge(Gauge):
    """A gauge that can be handed to another process."""

    def export(self) -> SeriesValues:
        """Its values now."""
        [family] = self.collect()
        return {tuple(sample.labels.values()): (sample.value,) for sample in family.samples}

    def restore(self, exported: SeriesValues) -> None:
        """Take over what others measured."""
        for labels, values in exported.items():
            (self.labels(*labels) if labels else self).set(values[0])
