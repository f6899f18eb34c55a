"""Poll schedule: polls are dense around the usual duration of a workflow's runs, and sparse elsewhere.

Durations are modelled as log-normal. Mean and standard deviation are learned from finished runs, and polls are
scheduled at fixed steps of the standard deviation; before that, with exponential backoff. If the provider calls back at
the end of a run, and did so for the last run, polls begin only once the run is late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Steps of the standard deviation at which to poll, denser where more runs end.
_SIGMA_STEPS = (-1.0, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.9, 1.5)
_INTERVAL_GROWTH = 1.25  # beyond the last step, and without samples
_MIN_INTERVAL_RATIO = 0.04  # minimum interval as a share of the run's age
_MIN_SAMPLES = 3  # finished runs that an estimate needs
_MIN_WEIGHT = 0.1  # weight of the newest run, after ten runs
_SIGMA_BOUNDS = (0.05, 1.5)
_LATE_THRESHOLDS = (math.log(1.5), 2.0)  # 1.5 times the median, and two standard deviations: one run in 40 takes longer
_LATE_INTERVAL_GROWTH = 1.5


@dataclass(slots=True)
class DurationEstimate:
    """Estimate for one workflow: mean and variance of the logarithm of its runs' durations in seconds.

    `hints_reliable`: the provider called back at the end of the last run for which it was asked to.
    """

    min_interval: float
    max_interval: float
    samples: int = 0
    hints_reliable: bool = False
    mean: float = 0.0
    variance: float = 0.0

    def next_interval(self, age: float) -> float:
        """Return the seconds until the next poll, `age` seconds after the start of the run."""
        return min(self.max_interval, self._next_poll_age(age) - age)

    def next_interval_with_hints(self, age: float) -> float:
        """Return the same if the provider will call back: polls are for the case that it does not."""
        if self.samples < _MIN_SAMPLES:
            return self.next_interval(age)
        late_age = math.exp(self.mean + max(_LATE_THRESHOLDS[0], _LATE_THRESHOLDS[1] * self._sigma()))
        wait = late_age - age if late_age - age > self.min_interval else age * (_LATE_INTERVAL_GROWTH - 1)
        return min(self.max_interval, max(self.min_interval, wait))

    def record_duration(self, earliest: float, latest: float) -> None:
        """Record a run that ended between these two ages, in seconds."""
        log_duration = math.log(max((earliest + latest) / 2, 0.001))
        self.samples += 1
        weight = max(_MIN_WEIGHT, 1 / self.samples)
        deviation = log_duration - self.mean
        self.mean += weight * deviation
        self.variance = (1 - weight) * (self.variance + weight * deviation * deviation)

    def _next_poll_age(self, age: float) -> float:
        """Return the age of the run at the next poll."""
        soonest = age + max(self.min_interval, age * _MIN_INTERVAL_RATIO)
        if self.samples >= _MIN_SAMPLES:
            sigma = self._sigma()
            for step in _SIGMA_STEPS:
                poll_age = math.exp(self.mean + step * sigma)
                if poll_age >= soonest:
                    return poll_age
        return max(soonest, age * _INTERVAL_GROWTH)

    def _sigma(self) -> float:
        low, high = _SIGMA_BOUNDS
        return min(max(math.sqrt(self.variance), low), high)


@dataclass(slots=True)
class PollSchedule:
    """Estimates of all workflows. Intervals are from `min_interval` to `max_interval` seconds.

    `timeout`: seconds after which a poll without a reply is abandoned and repeated. `follow_for`: seconds after its
    deadline for which a started run is polled on.
    """

    min_interval: float = 0.25
    max_interval: float = 60.0
    timeout: float = 10.0
    follow_for: float = 3600.0
    _estimates: dict[tuple[str, str], DurationEstimate] = field(default_factory=dict)

    def estimate_for(self, provider: str, workflow: str) -> DurationEstimate:
        """Return the estimate of a workflow at a provider; the configuration bounds their number."""
        key = (provider, workflow)
        estimate = self._estimates.get(key)
        if estimate is None:
            estimate = self._estimates[key] = DurationEstimate(self.min_interval, self.max_interval)
        return estimate

    def reconfigure(self, min_interval: float, max_interval: float, timeout: float, follow_for: float) -> None:
        """Apply other bounds; the estimates are kept."""
        self.min_interval, self.max_interval = min_interval, max_interval
        self.timeout, self.follow_for = timeout, follow_for
        for estimate in self._estimates.values():
            estimate.min_interval, estimate.max_interval = min_interval, max_interval
