"""When to ask about a run again: often around the time at which runs of its workflow usually end, seldom elsewhere.

The durations of a workflow's runs are taken as log-normal, which long-running work resembles. Their centre and spread
are learned from what was seen; questions are asked at fixed steps of that spread. Where the provider calls when a run
has ended, and has done so the last time, questions begin only once it is late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Steps of the spread at which to ask, denser where more runs end.
_SIGMA_STEPS = (-1.0, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.9, 1.5)
_INTERVAL_GROWTH = 1.25  # beyond the last step, and while nothing is known
_MIN_INTERVAL_RATIO = 0.04  # two questions closer than this share of the run's age tell nothing new
_MIN_SAMPLES = 3  # runs after which their durations say something
_MIN_WEIGHT = 0.1  # the weight of the newest run, once there were ten
_SIGMA_BOUNDS = (0.05, 1.5)
_LATE_THRESHOLDS = (math.log(1.5), 2.0)  # half as long again as usual, and two spreads: one run of forty takes longer
_LATE_INTERVAL_GROWTH = 1.5


@dataclass(slots=True)
class DurationEstimate:
    """One workflow's: the mean and variance of the logarithm of its runs' durations in seconds.

    `hints_come`: when the latest run ended whose provider had promised to call, it did.
    """

    min_interval: float
    max_interval: float
    samples: int = 0
    hints_reliable: bool = False
    mean: float = 0.0
    variance: float = 0.0

    def next_interval(self, age: float) -> float:
        """Seconds to wait, `age` seconds after the run's start."""
        return min(self.max_interval, self._next_poll_age(age) - age)

    def next_interval_with_hints(self, age: float) -> float:
        """The same, where the provider will call: it is asked in case it does not."""
        if self.samples < _MIN_SAMPLES:
            return self.next_interval(age)
        late_age = math.exp(self.mean + max(_LATE_THRESHOLDS[0], _LATE_THRESHOLDS[1] * self._sigma()))
        wait = late_age - age if late_age - age > self.min_interval else age * (_LATE_INTERVAL_GROWTH - 1)
        return min(self.max_interval, max(self.min_interval, wait))

    def record_duration(self, earliest: float, latest: float) -> None:
        """A run was seen to have ended between these two ages."""
        log_duration = math.log(max((earliest + latest) / 2, 0.001))
        self.samples += 1
        weight = max(_MIN_WEIGHT, 1 / self.samples)
        deviation = log_duration - self.mean
        self.mean += weight * deviation
        self.variance = (1 - weight) * (self.variance + weight * deviation * deviation)

    def _next_poll_age(self, age: float) -> float:
        """The age at which to ask next."""
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
    """Every workflow's rhythm; no wait is shorter than `first` or longer than `longest` seconds.

    A single question is given up, to be asked again, after `timeout` seconds.
    """

    min_interval: float = 0.25
    max_interval: float = 60.0
    timeout: float = 10.0
    _estimates: dict[tuple[str, str], DurationEstimate] = field(default_factory=dict)

    def estimate_for(self, provider: str, workflow: str) -> DurationEstimate:
        """The rhythm of a workflow at a provider; the configuration bounds how many there are."""
        key = (provider, workflow)
        estimate = self._estimates.get(key)
        if estimate is None:
            estimate = self._estimates[key] = DurationEstimate(self.min_interval, self.max_interval)
        return estimate

    def reconfigure(self, min_interval: float, max_interval: float, timeout: float) -> None:
        """Change the bounds; what was learned stays."""
        self.min_interval, self.max_interval, self.timeout = min_interval, max_interval, timeout
        for estimate in self._estimates.values():
            estimate.min_interval, estimate.max_interval = min_interval, max_interval
