"""What stands between a run and a failing provider: a breaker for each workflow, a retry budget for each provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.breaker import Breaker, Tolerance
from gateway.runs.budget import Budget


@dataclass(frozen=True, slots=True)
class Guard:
    """One workflow's. The budget is shared by all workflows of its provider."""

    breaker: Breaker
    budget: Budget

    def permit_retry(self) -> bool:
        """Whether a start may be repeated; takes it from the budget."""
        return self.breaker.retry_after() == 0 and self.budget.spend()


@dataclass(slots=True)
class Guards:
    """Every workflow's guard, made when it is first needed; the configuration bounds how many there are."""

    tolerance: Tolerance
    monotonic: Callable[[], float]
    metrics: Metrics
    _guards: dict[tuple[str, str], Guard] = field(default_factory=dict)
    _budgets: dict[str, Budget] = field(default_factory=dict)

    def reconfigure(self, tolerance: Tolerance) -> None:
        """Judge by this from now on; circuits stay open or closed."""
        self.tolerance = tolerance
        for guard in self._guards.values():
            guard.breaker.reconfigure(tolerance)

    def of(self, provider: str, workflow: str) -> Guard:
        """The guard of a workflow at a provider."""
        guard = self._guards.get((provider, workflow))
        if guard is None:
            budget = self._budgets.setdefault(provider, Budget(self.monotonic))
            changed = self.metrics.circuit(provider, workflow)
            breaker = Breaker(self.tolerance, self.monotonic, lambda state: changed(state.value))
            guard = self._guards[provider, workflow] = Guard(breaker, budget)
        return guard


def circuit_open(breaker: Breaker) -> Problem:
    """What a client reads when the breaker does not let it pass."""
    return Problem("circuit_open", retry_after=max(breaker.retry_after(), 1.0), extra={"outcome": "not_run"})
