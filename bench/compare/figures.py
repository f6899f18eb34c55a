"""What is compared, and the arithmetic: medians over rounds, differences to the direct call, ratios to a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DIRECT = "direct"
_KEPT_UP = 0.8  # share of the rate; a busy machine delays the last answers of a round
Rounds = Mapping[str, Sequence[float]]  # samples of one figure by participant; the n-th of each are of the same round


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. `baseline` is the participant that the ratios refer to."""

    key: str
    title: str
    decimals: int = 1
    baseline: str = "relay"


FIGURES = (
    Figure("added_p50_alone", "added p50 at concurrency 1, ms", 2),
    Figure("added_p99_alone", "added p99 at concurrency 1, ms", 2),
    Figure("most", "requests/s at 64 connections", 0),
    Figure("p99_most", "p99 at 64 connections, ms"),
    Figure("cpu_us", "processor time a request, µs", 0),
    Figure("sustained", "requests/s at 128 connections, upstream 20 ms", 0),
    Figure("added_p50_open", "added p50 at 200 requests/s, ms (ratio to nginx)", 2, "nginx"),
    Figure("added_p99_open", "added p99 at 200 requests/s, ms (ratio to nginx)", 2, "nginx"),
    Figure("idle", "resident idle, MB"),
    Figure("loaded", "resident at 16 connections with bodies of 150 kB, most, MB"),
    Figure("after", "resident 5 s after it, MB"),
    Figure("cold_start", "cold start to the first answer, s", 2),
    Figure("start_cpu", "processor time of the cold start, s", 2),
    Figure("installed", "installed size, MB"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Value of one participant, and its ratio to the baseline; None: not measured, or no ratio has a meaning."""

    value: float | None
    ratio: float | None = None


def added(rounds: Rounds) -> dict[str, list[float]]:
    """Subtract from each sample what the direct call took in the same round."""
    direct = rounds.get(DIRECT, ())
    return {
        name: [one - base for one, base in zip(samples, direct, strict=False)]
        for name, samples in rounds.items()
        if name != DIRECT
    }


def not_sustained(rates: Rounds, due: float) -> dict[str, str]:
    """Return a remark for each participant that answered an open loop at less than its rate, in the median round."""
    medians = {name: statistics.median(samples) for name, samples in rates.items() if samples}
    return {name: f"not sustained ({rate:.0f}/s)" for name, rate in medians.items() if rate < _KEPT_UP * due}


def cells(rounds: Rounds, baseline: str) -> dict[str, Cell]:
    """Return medians, and ratios to the baseline.

    A ratio is the median of the rounds' ratios, so that a change of the machine's load between rounds meets both of its
    sides. Differences can be negative in a round: then it is the ratio of the medians, and none if one is not positive.
    """
    base = rounds.get(baseline, ())
    return {
        name: Cell(statistics.median(samples) if samples else None, _ratio(samples, base))
        for name, samples in rounds.items()
    }


def _ratio(samples: Sequence[float], base: Sequence[float]) -> float | None:
    if not samples or not base:
        return None
    if min(*samples, *base, 1) > 0 and len(samples) == len(base):
        return statistics.median(one / other for one, other in zip(samples, base, strict=True))
    one, other = statistics.median(samples), statistics.median(base)
    return one / other if one > 0 and other > 0 else None
