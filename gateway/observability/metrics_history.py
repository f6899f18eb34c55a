"""History of the metrics in memory: samples of the last six hours, and the growth in the last quarter of an hour.

A sample every 5 s has by how much the counters of runs have grown, and the histograms of their durations: 4320 samples
of 33 numbers each, 1.5 MB. The growth by client, workflow and provider is the difference to what the counters were 15
minutes ago, of which a copy is kept each minute: it covers 15 to 16 minutes, less after a start. The number of series
is bounded by the configuration. Counts are exact, percentiles are interpolated (`percentile`). A restart empties both.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metric_types import Labels, SeriesValues
from gateway.observability.metrics import OVERHEAD_BUCKETS, RUN_BUCKETS
from gateway.observability.percentiles import percentile

INTERVAL = 5.0
"""Seconds between two samples."""
KEPT_SECONDS = 6 * 3600
OUTCOMES = ("succeeded", "failed", "unknown", "not_run")

RUNS, DURATIONS, OVERHEAD = "runward_runs", "runward_run_duration_seconds", "runward_overhead_seconds"
CALLS, REFUSALS, HINTS_USED = "runward_upstream_calls", "runward_refusals", "runward_hints_used"
IN_FLIGHT, IN_PROGRESS = "runward_requests_in_flight", "runward_runs_in_progress"

Families: TypeAlias = Mapping[str, SeriesValues]
ReadFamilies: TypeAlias = Callable[[Collection[str]], Families]
"""Returns the present values of the families with these names; unknown ones are left out."""

_SAMPLED = (RUNS, DURATIONS, OVERHEAD, IN_FLIGHT)
_GROWING = (RUNS, DURATIONS, CALLS, REFUSALS, HINTS_USED)
_COPY_INTERVAL = 60.0  # seconds
_COPIES = 16
_FRESH = 2.0  # seconds
_DURATIONS_AT = len(OUTCOMES)
_OVERHEAD_AT = _DURATIONS_AT + len(RUN_BUCKETS) + 1
_IN_FLIGHT_AT = _OVERHEAD_AT + len(OVERHEAD_BUCKETS) + 1


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one step of time. `at`: its end, in seconds since 1970.

    `in_flight`: the most requests that a sample saw. Buckets: as in the histograms, the overflow included.
    """

    at: float
    outcomes: Sequence[int]
    durations: Sequence[float]
    overhead: Sequence[float]
    in_flight: int

    def duration(self, share: float) -> float | None:
        """Return a percentile of the durations of runs in seconds; None without runs."""
        return percentile(RUN_BUCKETS, self.durations, share)

    def overhead_of(self, share: float) -> float | None:
        """Return a percentile of the overhead of the gateway in seconds; None without runs."""
        return percentile(OVERHEAD_BUCKETS, self.overhead, share)


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much counters and histograms have grown within about `seconds`, without series that have not."""

    seconds: float
    families: Families

    def count(self, name: str, matches: Callable[[Labels], bool] = lambda _: True) -> int:
        """Return the growth of a counter over all series whose labels match."""
        return int(sum(values[0] for labels, values in self.families.get(name, {}).items() if matches(labels)))

    def duration(self, share: float, matches: Callable[[Labels], bool] = lambda _: True) -> float | None:
        """Return a percentile of the durations of runs, in seconds, over the series whose labels match."""
        series = [values for labels, values in self.families.get(DURATIONS, {}).items() if matches(labels)]
        return percentile(RUN_BUCKETS, _sum_of_buckets(series, len(RUN_BUCKETS) + 1), share)


@dataclass(slots=True)
class MetricsHistory:
    """Samples of the metrics that `read` returns. To be started once they are complete."""

    read: ReadFamilies
    clock: Clock
    log: Logger
    _samples: deque[tuple[float, array[float]]] = field(
        default_factory=lambda: deque(maxlen=int(KEPT_SECONDS / INTERVAL))
    )
    _before: array[float] = field(default_factory=lambda: array("d", bytes(8 * (_IN_FLIGHT_AT + 1))))
    _copies: deque[tuple[float, Families]] = field(default_factory=lambda: deque(maxlen=_COPIES))
    _cached: dict[tuple[int, int], list[Step]] = field(default_factory=dict)
    _growth: tuple[float, Growth] | None = None
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sampling."""
        self._copies.append((self.clock.monotonic(), self.read(_GROWING)))
        self._before = _totals(self.read(_SAMPLED))
        self._task = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        """Stop. Is idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def sample(self) -> None:
        """Take a sample."""
        totals = _totals(self.read(_SAMPLED))
        grown = array("d", [max(0.0, now - before) for now, before in zip(totals, self._before, strict=True)])
        grown[_IN_FLIGHT_AT] = totals[_IN_FLIGHT_AT]
        self._before = totals
        self._samples.append((self.clock.now().timestamp(), grown))
        self._cached.clear()
        now = self.clock.monotonic()
        if not self._copies or now - self._copies[-1][0] >= _COPY_INTERVAL:
            self._copies.append((now, self.read(_GROWING)))

    def steps(self, window: int, step: int) -> list[Step]:
        """Return the steps of the last `window` seconds, oldest first: each of `step` seconds, a multiple of 5.

        They end with the newest sample. After a start there are fewer, and the first may be shorter. The list stays the
        same until the next sample.
        """
        if (window, step) not in self._cached:
            size = int(step / INTERVAL)
            samples = list(self._samples)[-int(window / INTERVAL) :]
            first = -(-len(samples) // size) * size - len(samples)  # samples that the first step lacks
            groups = [samples[max(0, end - size) : end] for end in range(size - first, len(samples) + 1, size)]
            self._cached[window, step] = [_step(group) for group in groups if group]
        return self._cached[window, step]

    def growth(self) -> Growth:
        """Return the growth of the counters in the last 15 to 16 minutes, or since the start.

        Calls within two seconds get the same, so that many tabs cost as much as one.
        """
        now = self.clock.monotonic()
        if self._growth is None or now - self._growth[0] >= _FRESH:
            self._growth = now, self._measure_growth(now)
        return self._growth[1]

    def _measure_growth(self, now: float) -> Growth:
        if not self._copies:
            return Growth(0.0, {})
        taken, before = self._copies[0]
        families = {name: dict(_grown(series, before.get(name, {}))) for name, series in self.read(_GROWING).items()}
        return Growth(now - taken, families)

    async def _run_forever(self) -> None:
        while True:
            await self.clock.sleep(INTERVAL)
            try:
                self.sample()
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))


def total_of(steps: Sequence[Step]) -> Step:
    """Return all steps as one."""
    return Step(
        steps[-1].at if steps else 0.0,
        [sum(step.outcomes[index] for step in steps) for index in range(len(OUTCOMES))],
        _sum_of_buckets([step.durations for step in steps], len(RUN_BUCKETS) + 1),
        _sum_of_buckets([step.overhead for step in steps], len(OVERHEAD_BUCKETS) + 1),
        max((step.in_flight for step in steps), default=0),
    )


def gauge(families: Families, name: str) -> float | None:
    """Return the value of a gauge without labels; None if it is not known."""
    values = families.get(name, {}).get(())
    return values[0] if values else None


def _totals(families: Families) -> array[float]:
    outcomes = dict.fromkeys(OUTCOMES, 0.0)
    for labels, values in families.get(RUNS, {}).items():
        outcomes[labels[3]] = outcomes.get(labels[3], 0.0) + values[0]
    durations = _sum_of_buckets(families.get(DURATIONS, {}).values(), len(RUN_BUCKETS) + 1)
    overhead = _sum_of_buckets(families.get(OVERHEAD, {}).values(), len(OVERHEAD_BUCKETS) + 1)
    return array(
        "d", [*(outcomes[name] for name in OUTCOMES), *durations, *overhead, gauge(families, IN_FLIGHT) or 0.0]
    )


def _sum_of_buckets(series: Iterable[Sequence[float]], size: int) -> list[float]:
    sums = [0.0] * size
    for values in series:
        for index in range(size):
            sums[index] += values[index]
    return sums


def _step(samples: Sequence[tuple[float, array[float]]]) -> Step:
    sums = [sum(values) for values in zip(*(sample for _, sample in samples), strict=True)]
    return Step(
        samples[-1][0],
        [int(count) for count in sums[:_DURATIONS_AT]],
        sums[_DURATIONS_AT:_OVERHEAD_AT],
        sums[_OVERHEAD_AT:_IN_FLIGHT_AT],
        int(max(sample[_IN_FLIGHT_AT] for _, sample in samples)),
    )


def _grown(series: SeriesValues, before: SeriesValues) -> Iterable[tuple[Labels, Sequence[float]]]:
    for labels, values in series.items():
        earlier = before.get(labels)
        grown = values if earlier is None else [max(0.0, a - b) for a, b in zip(values, earlier, strict=False)]
        if any(grown):
            yield labels, grown
