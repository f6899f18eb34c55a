"""Admin API for providers: what their circuits are, and what an operator has set for their starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.clock import Clock, format_rfc3339
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.runs.resilience.override_follower import OVERRIDES_CHANGED, OverrideStore
from gateway.store.contract import StoreUnavailable
from gateway.store.provider_override import ProviderOverride

_MAX_BODY = 4096
_BODY_TIMEOUT = 10.0  # seconds
AUTO = "auto"
"""Mode of a provider without an override: its circuit breakers decide."""

CircuitStates = Mapping[str, Mapping[str, str]]


class OverrideRequest(BaseModel):
    """The body of `POST /providers/override/{id}`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    mode: Literal["suspended", "open", "closed", "auto"]
    note: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


@dataclass(frozen=True, slots=True)
class ProviderAdminHandlers:
    """Handlers for the operations port. An override is for all replicas on the store.

    `configured`: the configured providers, and whether each can stop runs; None if that is not known.
    `collect_metrics`: the metrics of this replica, whose circuits are shown. `apply`: reads the overrides again where
    they are applied in this process; else that takes a second.
    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: OverrideStore
    configured: Callable[[], Mapping[str, bool | None]]
    collect_metrics: Callable[[], Awaitable[Metrics]]
    clock: Clock
    log: Logger
    apply: Callable[[], Awaitable[None]] | None = None

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/providers", self.list_providers, "providers"),
            Route("POST", "/providers/override/{id}", self.set_override, "providers", action="providers.override"),
        ]

    async def list_providers(self, _request: Request) -> Response:
        """Handle `GET /providers`: the configured providers, and others that have an override, by name."""
        return make_response(200, strict_json.write({"providers": await self.documents()}), JSON_CONTENT_TYPE)

    async def documents(self) -> list[dict[str, object]]:
        """Return the configured providers, and others that have an override, by name. Raises StoreUnavailable."""
        overrides = await self._overrides()
        circuits = (await self.collect_metrics()).circuit_states()
        configured = self.configured()
        names = sorted({*configured, *overrides})
        return [_document(name, overrides.get(name), circuits, can_stop=configured.get(name)) for name in names]

    async def set_override(self, request: Request) -> Response:
        """Handle `POST /providers/override/{id}`: set the mode of a provider; `auto` undoes it. Is idempotent."""
        refuse_cross_site(request, body='the body is an object with "mode"')
        wanted = parse_json_body(
            OverrideRequest, await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        )
        provider, overrides = unquote(request.path_param), await self._overrides()
        if provider not in overrides and provider not in self.configured():
            raise Problem("provider_not_found", "No provider of this name is configured.")
        before = overrides.get(provider)
        request.audit_details = {"mode": wanted.mode, "mode_before": AUTO if before is None else before.mode}
        override = self._merge(provider, wanted, before)
        if override != before:
            await self._store(provider, override)
            actor = actor_fields(request)
            self.log.warning(
                "provider_override_changed", provider=provider, mode=wanted.mode, note=wanted.note, **actor
            )
        if self.apply is not None:
            with suppress(StoreUnavailable):  # it is stored
                await self.apply()
        circuits = (await self.collect_metrics()).circuit_states()
        document = _document(provider, override, circuits, can_stop=self.configured().get(provider))
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    def _merge(
        self, provider: str, wanted: OverrideRequest, before: ProviderOverride | None
    ) -> ProviderOverride | None:
        if wanted.mode == AUTO:
            return None
        same_mode = before is not None and before.mode == wanted.mode
        since_at = before.since_at if before is not None and same_mode else self.clock.now().timestamp()
        return ProviderOverride(provider, wanted.mode, wanted.note, since_at)

    async def _store(self, provider: str, override: ProviderOverride | None) -> None:
        if override is None:
            await self.store.remove_override(provider)
        else:
            await self.store.set_override(override)
        with suppress(StoreUnavailable):  # every replica reads them each second anyway
            await self.store.notify(OVERRIDES_CHANGED)

    async def _overrides(self) -> dict[str, ProviderOverride]:
        return {override.provider: override for override in await self.store.list_overrides()}


def _document(
    provider: str, override: ProviderOverride | None, circuits: CircuitStates, *, can_stop: bool | None
) -> dict[str, object]:
    return {
        "provider": provider,
        "mode": AUTO if override is None else override.mode,
        "note": "" if override is None else override.note,
        "since": None if override is None else format_rfc3339(datetime.fromtimestamp(override.since_at, UTC)),
        "circuits": circuits.get(provider, {}),
        "can_stop_runs": can_stop,
    }
