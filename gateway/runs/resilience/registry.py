"""Registry of circuit breakers, one for each workflow; retry budgets and overrides, one for each provider."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.observability.metrics import Metrics
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker, CircuitState
from gateway.runs.resilience.retry_budget import RetryBudget
from gateway.runs.resilience.start_override import OverrideMode, StartOverride

MAX_UNCONFIGURED = 1000
"""Circuit breakers of workflows that are not configured; the least recently used one is dropped."""
UNCONFIGURED_IDLE_SECONDS = 600.0
"""Seconds without a run after which the circuit breaker of such a workflow is dropped."""


@dataclass(frozen=True, slots=True)
class WorkflowGuard:
    """Circuit breaker of one workflow, and the retry budget that all workflows of its provider share."""

    breaker: CircuitBreaker
    retry_budget: RetryBudget

    def permit_retry(self) -> bool:
        """Return whether a start may be retried; if so, take it from the retry budget."""
        return self.breaker.retry_after() == 0 and self.retry_budget.try_spend()


class _SharedState:
    """State of several circuits in one metric: open if one is open, else half open if one is, else closed."""

    __slots__ = ("_on_change", "_states")

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._states: dict[CircuitBreaker, CircuitState] = {}

    def update(self, breaker: CircuitBreaker, state: CircuitState) -> None:
        """Set the state of one circuit; CLOSED also forgets it."""
        self._states.pop(breaker, None)
        if state is not CircuitState.CLOSED:
            self._states[breaker] = state
        states = self._states.values()
        worst = next((s for s in (CircuitState.OPEN, CircuitState.HALF_OPEN) if s in states), CircuitState.CLOSED)
        self._on_change(worst.value)


@dataclass(slots=True)
class _UnconfiguredGuard:
    guard: WorkflowGuard
    shared_state: _SharedState
    used_at: float


@dataclass(slots=True)
class CircuitRegistry:
    """Guards by provider and workflow, created on first use.

    The configuration bounds the number of its workflows. The others, `provider/name`, are kept in a bounded table; a
    provider's share one series of the metric.
    """

    breaker_config: BreakerConfig
    monotonic: Callable[[], float]
    metrics: Metrics
    _guards: dict[tuple[str, str], WorkflowGuard] = field(default_factory=dict)
    _unconfigured: OrderedDict[str, _UnconfiguredGuard] = field(default_factory=OrderedDict)
    _shared_states: dict[str, _SharedState] = field(default_factory=dict)
    _retry_budgets: dict[str, RetryBudget] = field(default_factory=dict)
    _overrides: dict[str, StartOverride] = field(default_factory=dict)

    def reconfigure(self, breaker_config: BreakerConfig) -> None:
        """Apply other thresholds; the state of each circuit is kept."""
        self.breaker_config = breaker_config
        for guard in (*self._guards.values(), *(entry.guard for entry in self._unconfigured.values())):
            guard.breaker.reconfigure(breaker_config)

    def apply_overrides(self, modes: Mapping[str, OverrideMode]) -> None:
        """Apply the overrides by provider; a provider without one has none from now on."""
        for provider in {*self._overrides, *modes}:
            override, mode = self._override_of(provider), modes.get(provider)
            if override.mode is not mode:
                override.mode = mode
                self.metrics.provider_overridden(provider, None if mode is None else mode.value)

    def get(self, provider: str, workflow: str) -> WorkflowGuard:
        """Return the guard of a workflow at a provider: an alias, or `provider/name` of one that is not configured."""
        if "/" in workflow:
            return self._get_unconfigured(provider, workflow)
        guard = self._guards.get((provider, workflow))
        if guard is None:
            on_change = self.metrics.track_circuit(provider, workflow)
            breaker = self._create_breaker(provider, lambda state: on_change(state.value))
            guard = self._guards[provider, workflow] = self._create_guard(provider, breaker)
        return guard

    def _get_unconfigured(self, provider: str, workflow: str) -> WorkflowGuard:
        now = self.monotonic()
        entry = self._unconfigured.get(workflow)
        if entry is None:
            entry = self._unconfigured[workflow] = self._create_unconfigured(provider, workflow, now)
        self._unconfigured.move_to_end(workflow)
        entry.used_at = now
        self._drop_unused(now)
        return entry.guard

    def _create_unconfigured(self, provider: str, workflow: str, now: float) -> _UnconfiguredGuard:
        shared = self._shared_states.get(provider)
        if shared is None:
            shared = _SharedState(self.metrics.track_circuit(provider, f"{provider}/*"))
            self._shared_states[provider] = shared

        def on_change(state: CircuitState) -> None:
            entry = self._unconfigured.get(workflow)
            if entry is not None and entry.guard.breaker is breaker:  # else it was dropped
                shared.update(breaker, state)

        breaker = self._create_breaker(provider, on_change)
        return _UnconfiguredGuard(self._create_guard(provider, breaker), shared, now)

    def _drop_unused(self, now: float) -> None:
        while True:
            workflow, oldest = next(iter(self._unconfigured.items()))
            unused = now - oldest.used_at > UNCONFIGURED_IDLE_SECONDS
            if not unused and len(self._unconfigured) <= MAX_UNCONFIGURED:
                return
            del self._unconfigured[workflow]
            oldest.shared_state.update(oldest.guard.breaker, CircuitState.CLOSED)

    def _override_of(self, provider: str) -> StartOverride:
        return self._overrides.setdefault(provider, StartOverride())

    def _create_breaker(self, provider: str, on_change: Callable[[CircuitState], None]) -> CircuitBreaker:
        return CircuitBreaker(self.breaker_config, self.monotonic, on_change, self._override_of(provider))

    def _create_guard(self, provider: str, breaker: CircuitBreaker) -> WorkflowGuard:
        return WorkflowGuard(breaker, self._retry_budgets.setdefault(provider, RetryBudget(self.monotonic)))
