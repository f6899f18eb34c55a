"""Leak detection: samples of a process, the slope of its memory, and resources that remain after the load."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.process import GatewayProcess, metric_sum

_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCKS = 12
MAX_GROWTH = 1.0  # MB in 10 minutes
WARM_UP = 0.5  # share of the samples; the allocator keeps memory of early peaks


@dataclass(frozen=True, slots=True)
class ResourceSample:
    """Resources of a process at one time (monotonic seconds; memory in MB, processor time in seconds)."""

    at: float
    rss: float
    cpu: float
    descriptors: int
    threads: int
    in_flight: int

    def not_above(self, later: ResourceSample) -> bool:
        """Return True if no counted resource remains."""
        return (
            later.descriptors <= self.descriptors
            and later.threads <= self.threads
            and later.in_flight <= self.in_flight
        )


class ProcessProbe:
    """Samples a process from outside."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    async def sample(self, gateway: GatewayProcess) -> ResourceSample:
        """Take one sample."""
        in_flight = metric_sum(await gateway.metrics(), "runward_requests_in_flight")
        threads = int((self._proc / "status").read_text().partition("Threads:")[2].split()[0])
        rss = gateway.rss_bytes() / 1e6
        return ResourceSample(time.monotonic(), rss, self.cpu_seconds(), gateway.open_fds(), threads, int(in_flight))


def slope(moments: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope by least squares, with its uncertainty (two standard errors).

    Neighbours in time are alike, so the error is that of a dozen blocks' means, not of each sample.
    """
    size = max(1, len(values) // _BLOCKS)
    starts = range(0, len(values) - size + 1, size)
    xs = [statistics.mean(moments[at : at + size]) for at in starts]
    ys = [statistics.mean(values[at : at + size]) for at in starts]
    fitted = statistics.linear_regression(xs, ys)
    residuals = [y - fitted.slope * x - fitted.intercept for x, y in zip(xs, ys, strict=True)]
    spread = sum((x - statistics.mean(xs)) ** 2 for x in xs)
    error = (sum(r * r for r in residuals) / (len(xs) - 2) / spread) ** 0.5
    return fitted.slope, 2 * error


def report(samples: Sequence[ResourceSample], quiet: Sequence[ResourceSample]) -> int:
    """Print the results; returns 1 if a resource grew or remains, else 0. `quiet`: samples without load."""
    warm = samples[int(len(samples) * WARM_UP) :]
    moments = [sample.at for sample in warm]
    cpu = (warm[-1].cpu - warm[0].cpu) / (moments[-1] - moments[0])
    print(f"{len(warm)} samples after the warm-up; the gateway used {cpu:.0%} of a core")
    for name in ("rss", "descriptors", "threads", "in_flight"):
        values = [getattr(sample, name) for sample in warm]
        grows, error = (600 * figure for figure in slope(moments, values))
        print(f"  {name:12} {min(values):8.1f} to {max(values):8.1f}   {grows:+8.2f} in 10 minutes, +- {error:.2f}")
    before, after = quiet
    print(f"  before the load: {_format_sample(before)}\n  after it:        {_format_sample(after)}")
    grows, error = (600 * figure for figure in slope(moments, [sample.rss for sample in warm]))
    verdicts = []
    if grows - error > MAX_GROWTH:
        verdicts.append(f"memory grows by more than {MAX_GROWTH} MB in 10 minutes")
    if not before.not_above(after):
        verdicts.append("something was kept when the load had gone")
    print("; ".join(verdicts) or "nothing grew, nothing was kept")
    return 1 if verdicts else 0


def _format_sample(sample: ResourceSample) -> str:
    return (
        f"{sample.rss:.1f} MB, {sample.descriptors} descriptors, {sample.threads} threads, "
        f"{sample.in_flight} runs in flight"
    )
