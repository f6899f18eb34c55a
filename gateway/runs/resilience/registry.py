"""Registry of circuit breakers, one for each workflow, and retry budgets, one for each provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.observability.metrics import Metrics
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker
from gateway.runs.resilience.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True)
class WorkflowGuard:
    """Circuit breaker of one workflow, and the retry budget that all workflows of its provider share."""

    breaker: CircuitBreaker
    retry_budget: RetryBudget

    def permit_retry(self) -> bool:
        """Return whether a start may be retried; if so, take it from the retry budget."""
        return self.breaker.retry_after() == 0 and self.retry_budget.try_spend()


@dataclass(slots=True)
class CircuitRegistry:
    """Guards by provider and workflow, created on first use; the configuration bounds their number."""

    breaker_config: BreakerConfig
    monotonic: Callable[[], float]
    metrics: Metrics
    _guards: dict[tuple[str, str], WorkflowGuard] = field(default_factory=dict)
    _retry_budgets: dict[str, RetryBudget] = field(default_factory=dict)

    def reconfigure(self, breaker_config: BreakerConfig) -> None:
        """Apply other thresholds; the state of each circuit is kept."""
        self.breaker_config = breaker_config
        for guard in self._guards.values():
            guard.breaker.reconfigure(breaker_config)

    def get(self, provider: str, workflow: str) -> WorkflowGuard:
        """Return the guard of a workflow at a provider."""
        guard = self._guards.get((provider, workflow))
        if guard is None:
            retry_budget = self._retry_budgets.setdefault(provider, RetryBudget(self.monotonic))
            on_change = self.metrics.track_circuit(provider, workflow)
            breaker = CircuitBreaker(self.breaker_config, self.monotonic, lambda state: on_change(state.value))
            guard = self._guards[provider, workflow] = WorkflowGuard(breaker, retry_budget)
        return guard
