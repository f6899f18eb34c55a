"""Consistency of budgets: their conditions name what is configured, and all that they cover has a price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from gateway.settings.budget_section import BudgetSettings
from gateway.settings.errors import Location, did_you_mean
from gateway.settings.price_section import PriceSettings
from gateway.settings.providers_workflows_clients import (
    ClientSettings,
    ProviderSettings,
    TeamSettings,
    WorkflowSettings,
)

Clients: TypeAlias = Mapping[str, ClientSettings]
Teams: TypeAlias = Mapping[str, TeamSettings]
Workflows: TypeAlias = Mapping[str, WorkflowSettings]
Providers: TypeAlias = Mapping[str, ProviderSettings]

_MAX_LISTED = 10


def all_budgets(
    budgets: Mapping[str, BudgetSettings], clients: Clients, teams: Teams, workflows: Workflows, providers: Providers
) -> Iterator[tuple[str, Location, BudgetSettings]]:
    """Yield every budget with its name and location; that of a client `shop` is named `client:shop`."""
    for name, budget in budgets.items():
        yield name, ("budgets", name), budget
    sections: Mapping[str, Mapping[str, ClientSettings | TeamSettings | WorkflowSettings | ProviderSettings]] = {
        "client": clients,
        "team": teams,
        "workflow": workflows,
        "provider": providers,
    }
    for kind, section in sections.items():
        for name, owner in section.items():
            if owner.budget is not None:
                own = BudgetSettings.model_construct(None, **{**owner.budget.model_dump(), kind: name})
                yield f"{kind}:{name}", (f"{kind}s", name, "budget"), own


def unknown_conditions(
    budgets: Mapping[str, BudgetSettings], clients: Clients, teams: Teams, workflows: Workflows, providers: Providers
) -> Iterator[tuple[Location, str]]:
    """Find budgets for a client, team, workflow or provider that is not configured."""
    sections: Mapping[str, Mapping[str, object]] = {
        "client": clients,
        "team": teams,
        "workflow": workflows,
        "provider": providers,
    }
    for name, budget in budgets.items():
        for condition, section in sections.items():
            wanted = getattr(budget, condition)
            if wanted is not None and wanted not in section:
                yield ("budgets", name, condition), f"no such {condition}" + did_you_mean(wanted, section)


def unpriced_coverage(
    budgets: Iterable[tuple[str, Location, BudgetSettings]],
    clients: Clients,
    workflows: Workflows,
    providers: Providers,
) -> Iterator[tuple[Location, str]]:
    """Find budgets that cover a workflow without a price: its runs would be counted as free."""
    unpriced = {
        alias
        for alias, workflow in workflows.items()
        if workflow.price is None and (workflow.provider not in providers or providers[workflow.provider].price is None)
    }
    unpriced_providers = {name for name, provider in providers.items() if provider.price is None}
    for _, location, budget in budgets:
        reached, direct = _reach(budget, clients, workflows, providers)
        names = sorted(reached & unpriced) + [f"{name}/*" for name in sorted(direct & unpriced_providers)]
        if names:
            more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
            listed = ", ".join(names[:_MAX_LISTED]) + more
            yield location, f"covers workflows without a price (price: 0 says that one is free): {listed}"


def covered_by(
    budget: BudgetSettings, clients: Clients, workflows: Workflows, providers: Providers
) -> Iterator[PriceSettings]:
    """Yield the prices of everything that a budget covers."""
    reached, direct = _reach(budget, clients, workflows, providers)
    for alias in reached:
        if (price := workflows[alias].price or providers[workflows[alias].provider].price) is not None:
            yield price
    for name in direct:
        if (price := providers[name].price) is not None:
            yield price


def _reach(
    budget: BudgetSettings, clients: Clients, workflows: Workflows, providers: Providers
) -> tuple[set[str], set[str]]:
    """Return the workflows that a budget covers, and the providers of which it covers workflows by their own names."""
    chosen = [
        client
        for name, client in clients.items()
        if budget.client in {None, name} and budget.team in {None, client.team}
    ]
    direct = {
        provider
        for provider in providers
        if any(fnmatchcase(provider, own) for client in chosen for own in _direct_patterns(client))
    }
    if budget.client is None and budget.team is None:
        reached = set(workflows)
    else:
        patterns = [pattern for client in chosen for pattern in client.workflows if "/" not in pattern]
        runnable = [alias for alias in workflows if any(fnmatchcase(alias, pattern) for pattern in patterns)]
        reached = _with_fallbacks(runnable, workflows)
    if budget.workflow is not None:
        reached, direct = reached & {budget.workflow}, set()
    if budget.provider is not None:
        reached = {alias for alias in reached if workflows[alias].provider == budget.provider}
        direct &= {budget.provider}
    return reached, direct


def _direct_patterns(client: ClientSettings) -> Iterator[str]:
    """Yield the patterns over providers whose own names a client may use."""
    return (pattern.partition("/")[0] for pattern in client.workflows if "/" in pattern)


def _with_fallbacks(aliases: Iterable[str], workflows: Workflows) -> set[str]:
    reached: set[str] = set()
    waiting = list(aliases)
    while waiting:
        alias = waiting.pop()
        if alias in workflows and alias not in reached:
            reached.add(alias)
            waiting += workflows[alias].fallback
    return reached
