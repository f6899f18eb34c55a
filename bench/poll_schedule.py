"""Benchmark of poll schedules on simulated runs: delay of a result and number of polls, adaptive and fixed.

python -m bench.poll_schedule        No clock, no network: durations are drawn, questions are counted.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

from gateway.runs.polling.schedule import DurationEstimate

RUNS = 2_000
WARM = 20
MEDIANS = (0.3, 1.0, 3.0, 10.0, 60.0, 300.0)
SPREADS = (0.15, 0.3, 0.6, 1.0)


def simulate_polls(duration: float, pause: Callable[[float], float]) -> tuple[int, float, float]:
    """Poll until the run ends; returns polls, last age at which it ran, and age at which its end was seen."""
    age, before, polls = 0.0, 0.0, 0
    while True:
        before, age = age, age + pause(age)
        polls += 1
        if age >= duration:
            return polls, before, age


def simulate(median: float, spread: float, schedule: DurationEstimate | float) -> tuple[float, float, float]:
    """Median and 95th percentile of polls per run, and share of runs seen within 5 % or 250 ms."""
    rng = random.Random(f"{median}/{spread}")
    polls, good = [], 0
    for number in range(WARM + RUNS):
        duration = median * rng.lognormvariate(0, spread)
        pause = schedule.next_interval if isinstance(schedule, DurationEstimate) else lambda _age: schedule
        count, before, seen = simulate_polls(duration, pause)
        if isinstance(schedule, DurationEstimate):
            schedule.record_duration(before, seen)
        if number >= WARM:
            polls.append(count)
            good += seen - duration <= max(0.25, 0.05 * duration)
    return statistics.mean(polls), statistics.quantiles(polls, n=20)[-1], good / RUNS


def main() -> None:
    """Print a table: for each kind of workflow and schedule, polls (mean, p95) and the share seen in time."""
    print("median  spread |  every 1 s          |  every 5 s          |  adaptive")
    for median in MEDIANS:
        for spread in SPREADS:
            cells = []
            for schedule in (1.0, 5.0, DurationEstimate(0.25, 60.0)):
                mean, p95, good = simulate(median, spread, schedule)
                cells.append(f"{mean:6.1f} {p95:5.0f} {good:6.0%}")
            print(f"{median:6g}  {spread:6g} |  " + "  |  ".join(cells))


if __name__ == "__main__":
    main()
