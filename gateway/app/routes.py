"""Routes and middlewares of both ports."""

from __future__ import annotations

from gateway.api.admin.health import HealthHandlers
from gateway.api.admin.logs import LogAdminHandlers
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.api.admin.routes import admin_routes
from gateway.api.cancel_run import CancelRunHandler
from gateway.api.completion_webhook import PollHintHandler
from gateway.api.docs.page import DocsHandlers
from gateway.api.operator_cancellations import OperatorCancellations
from gateway.api.operator_runs import OperatorRuns
from gateway.api.passthrough import PassthroughHandler
from gateway.api.prompt_studio.handlers import PromptStudioHandlers
from gateway.api.promptlayer import routes as promptlayer
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.realtime.hub import RealtimeHub
from gateway.api.promptlayer.realtime.tokens import ChannelTokens
from gateway.api.promptlayer.runs import PromptLayerRunHandlers
from gateway.api.promptlayer.workflows import PromptLayerWorkflowHandlers
from gateway.api.replay_run import ReplayRunHandler
from gateway.api.run_lookup import RunLookupHandlers, accepts_event_stream
from gateway.api.start_run import RunHandler
from gateway.api.usage import UsageHandler
from gateway.app.components import Components
from gateway.http.audit_trail import AuditTrail, require_actions
from gateway.http.ops_authentication import keep_private
from gateway.http.pipeline import RequestPipeline, prefix_locations
from gateway.http.request import Middleware, Route
from gateway.http.router import with_double_slash
from gateway.http.server import Server
from gateway.observability.metrics import Metrics
from gateway.runs.callbacks.trial_delivery import CallbackTester
from providers.declarations import can_cancel


def realtime_hub(components: Components, token_secret: bytes) -> RealtimeHub:
    """WebSocket hub for PromptLayer's SDKs; clients that a reload removes are disconnected."""
    return RealtimeHub(
        components.run_reader,
        ExecutionIds(token_secret),
        ChannelTokens(token_secret),
        lambda client: client in components.authenticator.clients,
        clock=components.clock,
        log=components.log,
        max_connections=components.settings.server.max_in_flight,
        trusted_proxies=components.settings.server.trusted_proxies,
        result_collected=components.durable_runs.collection.result_collected,
    )


def public_server(
    components: Components, docs: DocsHandlers, realtime: RealtimeHub, execution_ids: ExecutionIds
) -> Server:
    """Server of the public port."""
    settings = components.settings.server
    limits = (components.clock, settings.max_body, settings.body_timeout)
    passthrough = PassthroughHandler(
        components.passthrough,
        components.in_flight_limiter,
        components.authenticator,
        *limits,
        tracer=components.execution_context.tracer,
    )
    routes = [
        *_run_routes(components),
        *_promptlayer_routes(components, execution_ids, passthrough),
        *PromptStudioHandlers(components.durable_runs, components.catalog, *limits).routes(),
        *_poll_hint_routes(components),
        *_health_routes(_ops_handlers(components)),
        *realtime.routes(),
        *docs.public_routes(requires_key=not settings.open_docs),
    ]
    return Server(
        routes,
        _public_middlewares(components),
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        max_header=settings.max_header,
        fallback=passthrough.fallback_route(),
        byte_budget=components.execution_context.byte_budget,
    )


def _public_middlewares(components: Components) -> list[Middleware]:
    """Middlewares, outermost first; each relies on those before it."""
    trusted_proxies = components.settings.server.trusted_proxies
    return [
        *([prefix_locations(trusted_proxies)] if trusted_proxies else []),
        RequestPipeline(
            components.metrics,
            components.log,
            components.clock,
            components.authenticator.authenticate,
            components.in_flight_limiter,
            components.access_sampling,
            components.execution_context.tracer,
        ),
    ]


def ops_server(components: Components, docs: DocsHandlers) -> Server:
    """Server of the operations port. Raises ValueError if a route that changes something would not be recorded."""
    pipeline = RequestPipeline(components.metrics, components.log, components.clock)
    settings, routes = components.settings.server, ops_routes(components, docs)
    require_actions(routes)
    return Server(
        routes,
        [keep_private, pipeline, AuditTrail(components.ops_authenticator, components.audit)],
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        max_header=settings.max_header,
    )


def ops_routes(components: Components, docs: DocsHandlers) -> list[Route]:
    """Routes of the operations port; each is an operation of `api.admin.openapi`."""
    handlers = _ops_handlers(components)
    return [
        Route("GET", "/metrics", handlers.render_metrics, "metrics", logged=False),
        *_health_routes(handlers),
        *admin_routes(
            components.store,
            components.clock,
            components.log,
            _provider_admin(components),
            components.attention,
            authenticator=components.ops_authenticator,
            state=components.gateway_state,
            feed=components.live_feed,
            apply_keys=components.background_tasks.key_follower.refresh,
            run_starter=operator_runs(components),
            run_canceller=OperatorCancellations(components.cancellation),
            callback_tester=CallbackTester(
                components.egress_policy,
                components.webhook_sender,
                lambda: components.callback_dispatcher.signing_keys,
                components.clock,
            ),
        ),
        *LogAdminHandlers(components.log_level).routes(),
        *docs.ops_routes(),
    ]


def operator_runs(components: Components) -> OperatorRuns:
    """Return what starts runs on behalf of clients in this process."""
    return OperatorRuns(
        _run_handler(components),
        components.authenticator.find_client,
        lambda: components.in_flight_limiter.draining,
    )


def _run_handler(components: Components) -> RunHandler:
    settings = components.settings.server
    return RunHandler(
        components.executor,
        components.history,
        components.durable_runs,
        components.catalog,
        components.check_callback_url,
        components.clock,
        settings.max_body,
        settings.body_timeout,
    )


def _provider_admin(components: Components) -> ProviderAdminHandlers:
    async def collect_metrics() -> Metrics:
        return components.metrics

    return ProviderAdminHandlers(
        components.store,
        lambda: {provider.name: can_cancel(provider.adapter) for provider in components.catalog.providers},
        collect_metrics,
        components.clock,
        components.log,
        components.override_follower.refresh,
    )


def _ops_handlers(components: Components) -> HealthHandlers:
    return HealthHandlers(
        components.metrics,
        is_ready=lambda: not components.in_flight_limiter.draining,
        is_store_failing=lambda: components.store.failing,
    )


def _run_routes(components: Components) -> list[Route]:
    settings, clock = components.settings.server, components.clock
    run = _run_handler(components)
    lookup = RunLookupHandlers(
        components.store,
        components.run_reader,
        clock,
        is_draining=lambda: components.in_flight_limiter.draining,
        result_collected=components.durable_runs.collection.result_collected,
    )
    cancel = CancelRunHandler(components.cancellation, components.run_reader)
    replay = ReplayRunHandler(
        components.run_replayer,
        components.run_reader,
        components.check_callback_url,
        settings.max_body,
        settings.body_timeout,
    )
    state = components.gateway_state
    usage = UsageHandler(components.store.usage, clock, lambda: state.settings.usage.currency)
    return with_double_slash(
        [
            Route("POST", "/run", run.start, "run", requires_key=True, starts_run=True),
            Route("GET", "/runs", lookup.list_runs, "runs", requires_key=True),
            Route("GET", "/runs/{id}", lookup.get_run, "runs", requires_key=True, streams=accepts_event_stream),
            Route("GET", "/runs/{path}/timeline", lookup.get_timeline, "runs", requires_key=True),
            Route("POST", "/runs/{path}/cancel", cancel.cancel, "runs", requires_key=True),
            Route("POST", "/runs/{path}/replay", replay.replay, "runs", requires_key=True, starts_run=True),
            Route("GET", "/usage", usage.show, "usage", requires_key=True),
        ]
    )


def _promptlayer_routes(
    components: Components, execution_ids: ExecutionIds, passthrough: PassthroughHandler
) -> list[Route]:
    settings = components.settings.server
    runs = PromptLayerRunHandlers(
        components.durable_runs,
        components.run_reader,
        components.catalog,
        execution_ids,
        components.check_callback_url,
        components.clock,
        settings.max_body,
        settings.body_timeout,
    )
    return promptlayer.routes(runs, PromptLayerWorkflowHandlers(components.catalog, passthrough.handle_authenticated))


def _poll_hint_routes(components: Components) -> list[Route]:
    if components.poll_hints is None:
        return []
    handler = PollHintHandler(components.poll_hints)
    return [Route("POST", "/hints/{id}", handler.receive, "hints", logged=False)]


def _health_routes(handlers: HealthHandlers) -> list[Route]:
    return [
        Route("GET", "/healthz", handlers.healthz, "healthz", logged=False),
        Route("GET", "/readyz", handlers.readyz, "readyz", logged=False),
    ]
