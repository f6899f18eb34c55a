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

from gateway.runs.resilience.sliding_window import SlidingWindow


class CircuitState(enum.Enum):
    """What a breaker does with a start."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens: `failures` at least, and that `ratio` of the starts, within `window` seconds.

    It stays open for `cooldown` seconds, `growth` times longer after each failed probe, `cooldown_max` at most.
    """

    min_failures: int = 3
    failure_ratio: float = 0.8
    window: float = 10.0
    cooldown: float = 10.0
    cooldown_max: float = 300.0
    cooldown_growth: float = 6.0


class CircuitBreaker:
    """One provider's for one workflow. `allow` before a start, then exactly one of the three words about it.

    Each change of state begins an era, and a start belongs to the one that allowed it. A word from an era that is over
    counts for nothing: a start that hung while the circuit opened says nothing about the probe that went out since.
    """

    __slots__ = ("_config", "_cooldown", "_generation", "_monotonic", "_on_change", "_opened_at", "_window", "state")

    def __init__(
        self,
        config: BreakerConfig,
        monotonic: Callable[[], float],
        on_change: Callable[[CircuitState], None] = lambda _: None,
    ) -> None:
        self.state = CircuitState.CLOSED
        self._generation = 0
        self._config = config
        self._monotonic = monotonic
        self._on_change = on_change
        self._window = SlidingWindow(config.window, monotonic)
        self._opened_at = 0.0
        self._cooldown = config.cooldown

    def reconfigure(self, config: BreakerConfig) -> None:
        """Judge by this from now on. The state stays; the counts too, unless the window is another."""
        if config.window != self._config.window:
            self._window = SlidingWindow(config.window, self._monotonic)
        self._config = config
        self._cooldown = min(self._cooldown, config.cooldown_max)
        if self.state is CircuitState.CLOSED:
            self._cooldown = config.cooldown

    def allow_start(self) -> int | None:
        """The era of a start that may be made now, None where none may; half-open allows one, whatever the parallelism.

        The era goes with the word about the start.
        """
        if self.state is CircuitState.CLOSED:
            return self._generation
        if self.state is CircuitState.HALF_OPEN or self.retry_after() > 0:
            return None
        self._set_state(CircuitState.HALF_OPEN)
        return self._generation

    def retry_after(self) -> float:
        """Seconds until a start may be allowed: 0 where it may be now; after a probe's own time nobody knows: 1."""
        if self.state is CircuitState.HALF_OPEN:
            return 1.0
        if self.state is CircuitState.CLOSED:
            return 0.0
        return max(0.0, self._opened_at + self._cooldown - self._monotonic())

    def record_success(self, generation: int) -> None:
        """The provider answered, whatever it said."""
        if generation != self._generation:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._cooldown = self._config.cooldown
            self._window.clear()
            self._set_state(CircuitState.CLOSED)
        self._window.add(1, 0)

    def record_failure(self, generation: int) -> None:
        """The provider did not do its part."""
        if generation != self._generation:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._cooldown = min(self._cooldown * self._config.cooldown_growth, self._config.cooldown_max)
            self._open()
            return
        self._window.add(0, 1)
        successes, failures = self._window.counts()
        if failures >= self._config.min_failures and self._exceeds_failure_ratio(successes, failures):
            self._open()

    def record_inconclusive(self, generation: int) -> None:
        """Nothing was learned (the run was cancelled, its own time was too short): the next one probes."""
        if generation == self._generation and self.state is CircuitState.HALF_OPEN:
            self._set_state(CircuitState.OPEN)

    def _exceeds_failure_ratio(self, successes: int, failures: int) -> bool:
        return failures >= (successes + failures) * self._config.failure_ratio

    def _open(self) -> None:
        self._opened_at = self._monotonic()
        self._set_state(CircuitState.OPEN)

    def _set_state(self, state: CircuitState) -> None:
        self._generation += 1
        self.state = state
        self._on_change(state)
