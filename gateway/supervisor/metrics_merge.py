"""Merges the metrics of all workers. A counter never decreases when a worker ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from gateway.observability.metric_types import ExemplarsByBucket, Labels, SeriesValues, TraceExemplar

MetricFamilies: TypeAlias = Mapping[str, SeriesValues]
_Sums: TypeAlias = dict[str, dict[Labels, tuple[float, ...]]]

GAUGE_MERGES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "runward_runs_in_progress": float.__add__,
        "runward_requests_in_flight": float.__add__,
        "runward_bytes_in_flight": float.__add__,
        "runward_circuit_state": max,  # 1 for each state that the circuit has in any worker
        "runward_provider_override": max,  # it takes a moment until every worker has it
        "runward_keys": max,  # every worker has a copy of all keys
        "runward_keys_expiring": max,
        "runward_attention_items": max,
        "runward_issuer_keys_timestamp_seconds": min,
        "runward_store_available": min,
        "runward_store_durable": min,
        "runward_limits_shared": min,
        "runward_config_last_reload_success": min,
        "runward_config_last_reload_success_timestamp_seconds": min,
        "runward_build_info": max,
        "runward_budget_remaining_ratio": min,
    }
)
"""Merge functions of the gauges of running workers. Counters and histograms are sums, ended workers included."""


SUPERVISOR_GAUGES = frozenset({"runward_attention_items"})
"""Gauges that the supervisor sets itself."""


class MetricsMerger:
    """Sums over running and ended workers."""

    def __init__(self) -> None:
        self._retired: _Sums = {}
        self._last_exposed: _Sums = {}

    def retire(self, final: MetricFamilies) -> None:
        """Add the last values of a worker that has ended."""
        _add_counters(self._retired, final)

    def merge(self, live: Iterable[MetricFamilies]) -> MetricFamilies:
        """Return the sums, given the values of the running workers."""
        sums = {name: dict(numbers) for name, numbers in self._retired.items()}
        gauges: _Sums = {}
        for families in live:
            _add_counters(sums, families)
            _merge_gauges(gauges, families)
        # Once a worker has ended, floats are added in another order, and a sum may be less by the last bit. For
        # Prometheus that would be a counter reset.
        for name, series in sums.items():
            exposed = self._last_exposed.setdefault(name, {})
            for labels, values in series.items():
                exposed[labels] = _combine_values(max, exposed.get(labels, values), values)
        return {**{name: dict(numbers) for name, numbers in self._last_exposed.items()}, **gauges}

    def latest(self, live: Iterable[MetricFamilies], names: Collection[str]) -> MetricFamilies:
        """Return the sums of some families. Unlike those of `merge`, one may be less than before by the last bit."""
        sums = {name: dict(self._retired[name]) for name in names if name in self._retired}
        gauges: _Sums = {}
        for families in live:
            wanted = {name: families[name] for name in names if name in families}
            _add_counters(sums, wanted)
            _merge_gauges(gauges, wanted)
        return {**sums, **gauges}


def merge_exemplars(live: Iterable[ExemplarsByBucket]) -> ExemplarsByBucket:
    """Return the latest exemplar of each bucket. Those of workers that have ended are gone."""
    merged: dict[tuple[Labels, int], TraceExemplar] = {}
    for exemplars in live:
        for bucket, found in exemplars.items():
            known = merged.get(bucket)
            merged[bucket] = found if known is None or known.at < found.at else known
    return merged


def _add_counters(sums: _Sums, families: MetricFamilies) -> None:
    for name, series in families.items():
        if name not in GAUGE_MERGES:
            _fold_series(float.__add__, sums.setdefault(name, {}), series)


def _merge_gauges(gauges: _Sums, families: MetricFamilies) -> None:
    for name in GAUGE_MERGES.keys() & families.keys():
        _fold_series(GAUGE_MERGES[name], gauges.setdefault(name, {}), families[name])


def _fold_series(
    combine: Callable[[float, float], float], target: dict[Labels, tuple[float, ...]], series: SeriesValues
) -> None:
    for labels, values in series.items():
        known = target.get(labels)
        target[labels] = tuple(map(float, values)) if known is None else _combine_values(combine, known, values)


def _combine_values(
    combine: Callable[[float, float], float], left: Iterable[float], right: Iterable[float]
) -> tuple[float, ...]:
    # The lengths differ only while workers of two versions run at the same time.
    return tuple(combine(float(a), float(b)) for a, b in zip(left, right, strict=False))
