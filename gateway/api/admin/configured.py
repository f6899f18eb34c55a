"""Admin API for the console: configured providers, clients and workflows, with figures of the last 15 minutes.

Never with a key, or its hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.api.admin.overview import GatewayState, milliseconds
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.clock import format_rfc3339
from gateway.http.ops_authentication import team_of
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.metrics_history import CALLS, DURATIONS, HINTS_USED, IN_PROGRESS, REFUSALS, RUNS, Growth
from gateway.problems import PROBLEMS
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings import KeySettings
from gateway.settings.providers_workflows_clients import ClientLimitSettings, ClientSettings, WorkflowSettings
from gateway.settings.types.units import RateSpec

_REFUSING_STATUSES = frozenset({403, 429, 503})
"""Statuses that count as refused: not allowed, over a limit, or overloaded."""
_UNITS = {1.0: "s", 60.0: "m", 3600.0: "h"}


@dataclass(frozen=True, slots=True)
class ConfiguredHandlers:
    """Handlers for the operations port. StoreUnavailable becomes a problem in the pipeline."""

    state: GatewayState
    providers: ProviderAdminHandlers

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/api/providers", self.list_providers, "api_providers", logged=False),
            Route("GET", "/api/clients", self.list_clients, "api_clients", logged=False, shows_team=True),
            Route("GET", "/api/workflows", self.list_workflows, "api_workflows", logged=False),
        ]

    async def list_providers(self, _request: Request) -> Response:
        """Handle `GET /api/providers`: as `GET /providers`, with figures."""
        growth = self.state.history.growth()
        in_progress = self.state.history.read((IN_PROGRESS,)).get(IN_PROGRESS, {})
        documents = [
            {
                **each,
                **_provider_figures(str(each["provider"]), growth),
                "in_flight": int(in_progress.get((str(each["provider"]),), (0,))[0]),
            }
            for each in await self.providers.documents()
        ]
        return _response({"providers": documents, "window_seconds": round(growth.seconds)})

    async def list_clients(self, request: Request) -> Response:
        """Handle `GET /api/clients`: the configured clients, by name; for a viewer of a team, those of the team."""
        team = team_of(request)
        growth = self.state.history.growth()
        runs, refused = Counter[str](), Counter[str]()
        for labels, values in growth.families.get(RUNS, {}).items():
            runs[labels[0]] += int(values[0])
        for (client, code), values in growth.families.get(REFUSALS, {}).items():
            if code in PROBLEMS and PROBLEMS[code].status in _REFUSING_STATUSES:
                refused[client] += int(values[0])
        configured = sorted(self.state.settings.clients.items())
        clients = [(name, client) for name, client in configured if team is None or client.team == team]
        documents = [
            {**_client(name, client), "runs": runs[name], "refused": refused[name]} for name, client in clients
        ]
        return _response({"clients": documents, "window_seconds": round(growth.seconds)})

    async def list_workflows(self, _request: Request) -> Response:
        """Handle `GET /api/workflows`: the configured workflows, by alias."""
        growth = self.state.history.growth()
        runs = Counter[str]()
        for labels, values in growth.families.get(RUNS, {}).items():
            runs[labels[1]] += int(values[0])
        by_alias: dict[str, dict[tuple[str, ...], Sequence[float]]] = {}
        for labels, values in growth.families.get(DURATIONS, {}).items():
            by_alias.setdefault(labels[0], {})[labels] = values
        documents = [
            {
                **_workflow(alias, workflow),
                "p95_ms": milliseconds(Growth(0.0, {DURATIONS: by_alias.get(alias, {})}).duration(0.95)),
                "runs": runs[alias],
            }
            for alias, workflow in sorted(self.state.settings.workflows.items())
        ]
        return _response({"workflows": documents, "window_seconds": round(growth.seconds)})


def _provider_figures(provider: str, growth: Growth) -> dict[str, object]:
    """Return the figures of a provider. Hints are counted over all providers: with two that are polled, None."""
    starts = growth.count(CALLS, lambda labels: labels[:2] == (provider, "start"))
    accepted = growth.count(CALLS, lambda labels: labels == (provider, "start", "ok"))
    polls = growth.count(CALLS, lambda labels: labels[:2] == (provider, "poll"))
    all_polls = growth.count(CALLS, lambda labels: labels[1] == "poll")
    runs = growth.count(RUNS, lambda labels: labels[2] == provider)
    return {
        "runs": runs,
        "starts": starts,
        "errors": starts - accepted,
        "error_share": round((starts - accepted) / starts, 4) if starts else 0.0,
        "p95_ms": milliseconds(growth.duration(0.95, lambda labels: labels[1] == provider)),
        "polls_per_run": round(polls / runs, 2) if polls and runs else None,
        "hint_share": round(min(1.0, growth.count(HINTS_USED) / polls), 4) if polls and polls == all_polls else None,
    }


def _client(name: str, client: ClientSettings) -> dict[str, object]:
    return {
        "client": name,
        "team": client.team,
        "workflows": list(client.workflows),
        "limits": _limits(client.limits),
        "keys": [_key(key) for key in client.keys],
    }


def _key(key: KeySettings) -> dict[str, object]:
    return {"name": None, "expires": None if key.expires is None else format_rfc3339(key.expires)}


def _limits(limits: ClientLimitSettings) -> dict[str, object]:
    values = {
        "rate": None if limits.rate is None else _format_rate(limits.rate),
        "burst": limits.burst,
        "concurrency": limits.concurrency,
        "daily": limits.daily,
    }
    return {name: value for name, value in values.items() if value is not None}


def _format_rate(rate: RateSpec) -> str:
    return f"{rate.count:g}/{_UNITS.get(rate.per) or f'{rate.per:g}s'}"


def _workflow(alias: str, workflow: WorkflowSettings) -> dict[str, object]:
    return {
        "workflow": alias,
        "provider": workflow.provider,
        "name": workflow.name or alias,
        "fallback": list(workflow.fallback),
        "label": workflow.label,
        "version": workflow.version,
        "timeout": workflow.timeout,
    }


def _response(document: dict[str, object]) -> Response:
    return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)
