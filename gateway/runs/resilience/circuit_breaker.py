"""Circuit breaker: after repeated failures of a workflow's provider, starts are rejected until a probe succeeds.

closed --(enough starts failed)--> open --(cool-down passed, one probe)--> half-open
   ^                                 ^                                        |
   |                                 +------------(the probe failed: longer)--+
   +--------------------------------------------(the probe succeeded)---------+

An operator can override all circuit breakers of a provider: the states go on as the results of starts demand.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import CircuitOpen, ProviderSuspended, RunError
from gateway.runs.resilience.sliding_window import SlidingWindow
from gateway.runs.resilience.start_override import OverrideMode, StartOverride

_OVERRIDE_RETRY_AFTER = 30.0
"""Seconds after which a client may ask again while an operator has stopped the starts: the end is not known."""
_OPENED_BY_HAND = "An operator has opened the circuit of this provider."


class CircuitState(enum.Enum):
    """State of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class StartResult(enum.Enum):
    """Result of a start, as far as it concerns the provider's health."""

    SUCCESS = "the provider answered, whatever it said"
    FAILURE = "the provider failed"
    INCONCLUSIVE = "nothing was learned: the run was cancelled, or its own time was too short"


# Members that each start is compared with: CPython 3.11 takes 70 ns to find one in its class.
_CLOSED, _HALF_OPEN = CircuitState.CLOSED, CircuitState.HALF_OPEN
_SUCCESS = StartResult.SUCCESS


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Thresholds: `min_failures`, and `failure_ratio` of the starts, within `window` seconds open the circuit.

    The circuit stays open for `cooldown` seconds, times `cooldown_growth` after each failed probe, `cooldown_max` at
    most.
    """

    min_failures: int = 3
    failure_ratio: float = 0.8
    window: float = 10.0
    cooldown: float = 10.0
    cooldown_max: float = 300.0
    cooldown_growth: float = 6.0


class CircuitBreaker:
    """Circuit breaker of one workflow at one provider.

    `start` allows one start; its result is reported by `record`, exactly once. Each change of state begins a new
    generation, and a start belongs to the generation that allowed it. The result of a start of an earlier generation is
    ignored: a start that hung while the circuit opened says nothing about the probe.
    """

    __slots__ = (
        "_config",
        "_cooldown",
        "_generation",
        "_monotonic",
        "_on_change",
        "_opened_at",
        "_override",
        "_window",
        "state",
    )

    def __init__(
        self,
        config: BreakerConfig,
        monotonic: Callable[[], float],
        on_change: Callable[[CircuitState], None] = lambda _: None,
        override: StartOverride | None = None,
    ) -> None:
        """`override`: the one of the provider, shared by its circuit breakers."""
        self.state = _CLOSED
        self._generation = 0
        self._config = config
        self._monotonic = monotonic
        self._on_change = on_change
        self._override = override or StartOverride()
        self._window = SlidingWindow(config.window, monotonic)
        self._opened_at = 0.0
        self._cooldown = config.cooldown

    def reconfigure(self, config: BreakerConfig) -> None:
        """Apply other thresholds. The state is kept, and the counts unless `window` changes."""
        if config.window != self._config.window:
            self._window = SlidingWindow(config.window, self._monotonic)
        self._config = config
        self._cooldown = min(self._cooldown, config.cooldown_max)
        if self.state is _CLOSED:
            self._cooldown = config.cooldown

    def start(self) -> int:
        """Allow one start, as the probe if the circuit was open; returns its generation, for `record`.

        Raises CircuitOpen, ProviderSuspended.
        """
        if self.state is _CLOSED and self._override.mode is None:
            return self._generation  # as `allow_start` does, two calls less
        generation = self.allow_start()
        if generation is None:
            raise self._refusal()
        return generation

    def raise_if_open(self) -> None:
        """Raise CircuitOpen or ProviderSuspended if `start` would at this moment."""
        if self.state is _CLOSED and self._override.mode is None:
            return
        if self.retry_after() > 0:
            raise self._refusal()

    def allow_start(self) -> int | None:
        """Return the generation of a start that may be sent now, or None. Half-open allows one start, the probe."""
        if self.retry_after() > 0:
            return None
        if self.state is CircuitState.OPEN and self._cooldown_left() == 0:
            self._set_state(_HALF_OPEN)
        return self._generation

    def retry_after(self) -> float:
        """Seconds until a start may be allowed; 0: now; 1 while a probe is in flight, since its end is not known."""
        mode = self._override.mode
        if mode is not None:
            return 0.0 if mode is OverrideMode.CLOSED else _OVERRIDE_RETRY_AFTER
        if self.state is _HALF_OPEN:
            return 1.0
        if self.state is _CLOSED:
            return 0.0
        return self._cooldown_left()

    def record(self, result: StartResult, generation: int) -> None:
        """Record the result of a start that was allowed as `generation`."""
        if generation != self._generation:
            return
        if result is _SUCCESS:
            if self.state is _HALF_OPEN:
                self._close()
            self._window.add(1, 0)
        elif result is StartResult.FAILURE:
            self._record_failure()
        elif self.state is _HALF_OPEN:
            self._set_state(CircuitState.OPEN)  # the next start is the probe

    def _close(self) -> None:
        self._cooldown = self._config.cooldown
        self._window.clear()
        self._set_state(_CLOSED)

    def _record_failure(self) -> None:
        if self.state is _HALF_OPEN:
            self._cooldown = min(self._cooldown * self._config.cooldown_growth, self._config.cooldown_max)
            self._open()
            return
        self._window.add(0, 1)
        successes, failures = self._window.counts()
        if failures >= self._config.min_failures and self._exceeds_failure_ratio(successes, failures):
            self._open()

    def _refusal(self) -> RunError:
        retry_after, mode = max(self.retry_after(), 1.0), self._override.mode
        if mode is OverrideMode.SUSPENDED:
            return ProviderSuspended(retry_after=retry_after)
        return CircuitOpen("" if mode is None else _OPENED_BY_HAND, retry_after=retry_after)

    def _cooldown_left(self) -> float:
        return max(0.0, self._opened_at + self._cooldown - self._monotonic())

    def _exceeds_failure_ratio(self, successes: int, failures: int) -> bool:
        return failures >= (successes + failures) * self._config.failure_ratio

    def _open(self) -> None:
        self._opened_at = self._monotonic()
        self._set_state(CircuitState.OPEN)

    def _set_state(self, state: CircuitState) -> None:
        self._generation += 1
        self.state = state
        self._on_change(state)
