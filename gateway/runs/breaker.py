"""The circuit breaker: a workflow whose provider fails is left alone for a while, then tried by one run.

closed --(enough starts failed)--> open --(cool-down passed, one probe)--> half-open
   ^                                 ^                                        |
   |                                 +------------(the probe failed: longer)--+
   +--------------------------------------------(the probe succeeded)---------+
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from gateway.runs.window import Window


class State(enum.Enum):
    """What a breaker does with a start."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When a breaker opens: `failures` at least, and that `ratio` of the starts, within `window` seconds.

    It stays open for `cooldown` seconds, `growth` times longer after each failed probe, `cooldown_max` at most.
    """

    failures: int = 3
    ratio: float = 0.8
    window: float = 10.0
    cooldown: float = 10.0
    cooldown_max: float = 300.0
    growth: float = 6.0


class Breaker:
    """One provider's for one workflow. `allow` before a start, then exactly one of the three words about it.

    Each change of state begins an era, and a start belongs to the one that allowed it. A word from an era that is over
    counts for nothing: a start that hung while the circuit opened says nothing about the probe that went out since.
    """

    __slots__ = ("_changed", "_cooldown", "_era", "_monotonic", "_opened", "_tolerance", "_window", "state")

    def __init__(
        self, tolerance: Tolerance, monotonic: Callable[[], float], changed: Callable[[State], None] = lambda _: None
    ) -> None:
        self.state = State.CLOSED
        self._era = 0
        self._tolerance = tolerance
        self._monotonic = monotonic
        self._changed = changed
        self._window = Window(tolerance.window, monotonic)
        self._opened = 0.0
        self._cooldown = tolerance.cooldown

    def reconfigure(self, tolerance: Tolerance) -> None:
        """Judge by this from now on. The state stays; the counts too, unless the window is another."""
        if tolerance.window != self._tolerance.window:
            self._window = Window(tolerance.window, self._monotonic)
        self._tolerance = tolerance
        self._cooldown = min(self._cooldown, tolerance.cooldown_max)
        if self.state is State.CLOSED:
            self._cooldown = tolerance.cooldown

    def allow(self) -> int | None:
        """The era of a start that may be made now, None where none may; half-open allows one, whatever the parallelism.

        The era goes with the word about the start.
        """
        if self.state is State.CLOSED:
            return self._era
        if self.state is State.HALF_OPEN or self.retry_after() > 0:
            return None
        self._become(State.HALF_OPEN)
        return self._era

    def retry_after(self) -> float:
        """Seconds until a start may be allowed: 0 where it may be now; after a probe's own time nobody knows: 1."""
        if self.state is State.HALF_OPEN:
            return 1.0
        if self.state is State.CLOSED:
            return 0.0
        return max(0.0, self._opened + self._cooldown - self._monotonic())

    def succeeded(self, era: int) -> None:
        """The provider answered, whatever it said."""
        if era != self._era:
            return
        if self.state is State.HALF_OPEN:
            self._cooldown = self._tolerance.cooldown
            self._window.clear()
            self._become(State.CLOSED)
        self._window.add(1, 0)

    def failed(self, era: int) -> None:
        """The provider did not do its part."""
        if era != self._era:
            return
        if self.state is State.HALF_OPEN:
            self._cooldown = min(self._cooldown * self._tolerance.growth, self._tolerance.cooldown_max)
            self._open()
            return
        self._window.add(0, 1)
        good, bad = self._window.counts()
        if bad >= self._tolerance.failures and self._too_many(good, bad):
            self._open()

    def gave_up(self, era: int) -> None:
        """Nothing was learned (the run was cancelled, its own time was too short): the next one probes."""
        if era == self._era and self.state is State.HALF_OPEN:
            self._become(State.OPEN)

    def _too_many(self, good: int, bad: int) -> bool:
        return bad >= (good + bad) * self._tolerance.ratio

    def _open(self) -> None:
        self._opened = self._monotonic()
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self._era += 1
        self.state = state
        self._changed(state)
