"""Admin API for budgets: what is reserved, spent and unknown of each in its current window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.api.admin.overview import GatewayState
from gateway.clock import Clock, format_rfc3339
from gateway.http.ops_authentication import team_of
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.money import format_amount
from gateway.runs.budgets.budget import Budget, Window
from gateway.runs.budgets.configured import configured_budgets
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings.budget_section import CONDITIONS
from gateway.store.budgets import Balance, KeepsBudgets


@dataclass(frozen=True, slots=True)
class BudgetHandlers:
    """Handlers for the operations port. StoreUnavailable becomes a problem in the pipeline."""

    store: KeepsBudgets
    state: GatewayState
    clock: Clock

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/budgets", self.list_budgets, "api_budgets", logged=False, shows_team=True)]

    async def list_budgets(self, request: Request) -> Response:
        """Handle `GET /api/budgets`: the configured budgets, by name; for a viewer of a team, those of the team."""
        now, team = self.clock.now(), team_of(request)
        budgets = [each for each in configured_budgets(self.state.settings) if self._may_show(each, team)]
        accounts = [budget.account(now) for budget in budgets]
        balances = await self.store.budgets.get_balances([account for account, _ in accounts]) if accounts else []
        documents = [
            _document(budget, window, balance)
            for budget, (_, window), balance in zip(budgets, accounts, balances, strict=True)
        ]
        document = {"budgets": documents, "read_at": format_rfc3339(now)}
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    def _may_show(self, budget: Budget, team: str | None) -> bool:
        """Return whether only runs of the team count, so that a viewer of it may see the budget."""
        if team is None or budget.team == team:
            return True
        client = None if budget.client is None else self.state.settings.clients.get(budget.client)
        return client is not None and client.team == team


def _document(budget: Budget, window: Window, balance: Balance) -> dict[str, object]:
    conditions = {name: value for name in CONDITIONS if (value := getattr(budget, name)) is not None}
    return {
        "budget": budget.name,
        "per": budget.per,
        "conditions": conditions,
        "window": window.label,
        "starts_at": _format_time(window.starts_at),
        "ends_at": _format_time(window.ends_at),
        "amount": format_amount(budget.amount),
        "spent": format_amount(balance.spent),
        "unknown": format_amount(balance.unknown),
        "reserved": format_amount(balance.reserved),
        "remaining": format_amount(max(0, budget.amount - balance.used)),
        "exceeded_by": format_amount(max(0, balance.used - budget.amount)),
        "exhausted": budget.exhausted_at(balance.used),
        "warn_at": [f"{share}%" for share in budget.warn_at],
        "hard": budget.hard,
    }


def _format_time(at: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(at, UTC))
