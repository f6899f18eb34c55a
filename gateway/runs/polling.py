"""When to ask about a run again: often around the time at which runs of its workflow usually end, seldom elsewhere.

The durations of a workflow's runs are taken as log-normal, which long-running work resembles. Their centre and spread
are learned from what was seen; questions are asked at fixed steps of that spread. Where the provider calls when a run
has ended, and has done so the last time, questions begin only once it is late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Steps of the spread at which to ask, denser where more runs end.
_STEPS = (-1.0, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.9, 1.5)
_GROWTH = 1.25  # beyond the last step, and while nothing is known
_CLOSE = 0.04  # two questions closer than this share of the run's age tell nothing new
_KNOWN = 3  # runs after which their durations say something
_MEMORY = 0.1  # the weight of the newest run, once there were ten
_SPREAD = (0.05, 1.5)
_LATE = (math.log(1.5), 2.0)  # half as long again as usual, and two spreads: one run of forty takes longer
_LATE_GROWTH = 1.5


@dataclass(slots=True)
class Rhythm:
    """One workflow's: the mean and variance of the logarithm of its runs' durations in seconds.

    `hints_come`: when the latest run ended whose provider had promised to call, it did.
    """

    first: float
    longest: float
    runs: int = 0
    hints_come: bool = False
    mean: float = 0.0
    variance: float = 0.0

    def pause(self, age: float) -> float:
        """Seconds to wait, `age` seconds after the run's start."""
        return min(self.longest, self._next(age) - age)

    def pause_trusting(self, age: float) -> float:
        """The same, where the provider will call: it is asked in case it does not."""
        if self.runs < _KNOWN:
            return self.pause(age)
        late = math.exp(self.mean + max(_LATE[0], _LATE[1] * self._spread()))
        wait = late - age if late - age > self.first else age * (_LATE_GROWTH - 1)
        return min(self.longest, max(self.first, wait))

    def learn(self, earliest: float, latest: float) -> None:
        """A run was seen to have ended between these two ages."""
        seen = math.log(max((earliest + latest) / 2, 0.001))
        self.runs += 1
        weight = max(_MEMORY, 1 / self.runs)
        off = seen - self.mean
        self.mean += weight * off
        self.variance = (1 - weight) * (self.variance + weight * off * off)

    def _next(self, age: float) -> float:
        """The age at which to ask next."""
        soonest = age + max(self.first, age * _CLOSE)
        if self.runs >= _KNOWN:
            spread = self._spread()
            for step in _STEPS:
                moment = math.exp(self.mean + step * spread)
                if moment >= soonest:
                    return moment
        return max(soonest, age * _GROWTH)

    def _spread(self) -> float:
        low, high = _SPREAD
        return min(max(math.sqrt(self.variance), low), high)


@dataclass(slots=True)
class Schedule:
    """Every workflow's rhythm; no wait is shorter than `first` or longer than `longest` seconds.

    A single question is given up, to be asked again, after `timeout` seconds.
    """

    first: float = 0.25
    longest: float = 60.0
    timeout: float = 10.0
    _rhythms: dict[tuple[str, str], Rhythm] = field(default_factory=dict)

    def of(self, provider: str, workflow: str) -> Rhythm:
        """The rhythm of a workflow at a provider; the configuration bounds how many there are."""
        key = (provider, workflow)
        rhythm = self._rhythms.get(key)
        if rhythm is None:
            rhythm = self._rhythms[key] = Rhythm(self.first, self.longest)
        return rhythm

    def reconfigure(self, first: float, longest: float, timeout: float) -> None:
        """Change the bounds; what was learned stays."""
        self.first, self.longest, self.timeout = first, longest, timeout
        for rhythm in self._rhythms.values():
            rhythm.first, rhythm.longest = first, longest
