"""What stands between a run and a failing provider: a breaker for each workflow, a retry budget for each provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import CircuitOpen
from gateway.observability.metrics import Metrics
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker
from gateway.runs.resilience.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True)
class WorkflowGuard:
    """One workflow's. The budget is shared by all workflows of its provider."""

    breaker: CircuitBreaker
    retry_budget: RetryBudget

    def permit_retry(self) -> bool:
        """Whether a start may be repeated; takes it from the budget."""
        return self.breaker.retry_after() == 0 and self.retry_budget.try_spend()


@dataclass(slots=True)
class CircuitRegistry:
    """Every workflow's guard, made when it is first needed; the configuration bounds how many there are."""

    breaker_config: BreakerConfig
    monotonic: Callable[[], float]
    metrics: Metrics
    _guards: dict[tuple[str, str], WorkflowGuard] = field(default_factory=dict)
    _retry_budgets: dict[str, RetryBudget] = field(default_factory=dict)

    def reconfigure(self, breaker_config: BreakerConfig) -> None:
        """Judge by this from now on; circuits stay open or closed."""
        self.breaker_config = breaker_config
        for guard in self._guards.values():
            guard.breaker.reconfigure(breaker_config)

    def get(self, provider: str, workflow: str) -> WorkflowGuard:
        """The guard of a workflow at a provider."""
        guard = self._guards.get((provider, workflow))
        if guard is None:
            retry_budget = self._retry_budgets.setdefault(provider, RetryBudget(self.monotonic))
            on_change = self.metrics.track_circuit(provider, workflow)
            breaker = CircuitBreaker(self.breaker_config, self.monotonic, lambda state: on_change(state.value))
            guard = self._guards[provider, workflow] = WorkflowGuard(breaker, retry_budget)
        return guard


def circuit_open_error(breaker: CircuitBreaker) -> CircuitOpen:
    """What a client reads when the breaker does not let it pass."""
    return CircuitOpen(retry_after=max(breaker.retry_after(), 1.0))
