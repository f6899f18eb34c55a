"""The composition root: what is served, in which order, on which ports, and how it comes up."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.api.admin.callbacks import CallbackAdminHandlers
from gateway.api.admin.health import OpsHandlers
from gateway.api.docs.page import DocsHandlers
from gateway.api.passthrough import PassthroughHandler
from gateway.api.poll_hints import PollHintHandler
from gateway.api.prompt_studio.handlers import PromptStudioHandlers
from gateway.api.promptlayer import routes as promptlayer
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.realtime import RealtimeHub
from gateway.api.promptlayer.runs import PromptLayerRunHandlers as PromptLayerRuns
from gateway.api.promptlayer.tokens import ChannelTokens
from gateway.api.promptlayer.workflows import PromptLayerWorkflowHandlers
from gateway.api.run import RunHandler
from gateway.api.runs import RunLookupHandlers
from gateway.app import components
from gateway.app.application import Application, Listener, OpenListeners
from gateway.app.components import Components
from gateway.app.reload import ConfigSource, Reloader
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.clock import Clock
from gateway.http.middleware import Authenticator, InFlightLimiter, access_log
from gateway.http.server import Middleware, Route, Server, with_double_slash
from gateway.observability import logs
from gateway.runs.background import BackgroundTasks
from gateway.runs.polling.hints import PollHints
from gateway.settings import ServerSettings, Settings

_EXECUTOR_THREADS = 32


async def start_gateway(
    settings: Settings,
    clock: Clock,
    log: FilteringBoundLogger,
    source: ConfigSource | None = None,
    open_listeners: OpenListeners | None = None,
) -> Application:
    """Build everything and listen: where the settings say, or where `open_ports` does.

    Where the settings have a `source`, they are reloaded when it changes.

    Raises SettingsError where an adapter is missing, OSError where a port is taken, StoreUnavailable.
    """
    loop = asyncio.get_running_loop()
    logs.log_unhandled_exceptions(loop, log)
    # For names that are looked up, and metrics that are rendered: one that hangs must not hold up the others.
    loop.set_default_executor(ThreadPoolExecutor(_EXECUTOR_THREADS, thread_name_prefix="runward"))
    built = components.build_components(settings, clock, log)
    server, snapshot = settings.server, built.snapshot
    in_flight_limiter = InFlightLimiter(server.max_in_flight)
    built.metrics.track_in_flight(lambda: in_flight_limiter.in_flight)
    authenticator = Authenticator(
        snapshot.keys, snapshot.clients, FailedAuthLimiter(clock), server.trusted_proxies, clock, log
    )
    # All of a new configuration is put to use in one step.
    reload_hooks = [*built.reload_hooks(), lambda new: authenticator.reconfigure(new.keys, new.clients)]
    reloader = Reloader(source, snapshot, reload_hooks, clock, built.metrics, log) if source is not None else None

    await built.open()
    docs = DocsHandlers.load()
    token_secret = await built.token_secret()
    realtime = _realtime(built, authenticator, token_secret)
    extra_routes = [*realtime.routes(), *docs.public_routes(requires_key=not server.open_docs)]
    public_server = _public_server(built, in_flight_limiter, authenticator, ExecutionIds(token_secret), extra_routes)
    ops_server = _ops_server(built, in_flight_limiter, docs)
    public_listener, ops_listener = await _open_listeners(
        public_server, ops_server, built.background_tasks, open_listeners or listeners_from_settings(server)
    )
    if built.store.durability_warning is not None:
        log.warning("store_not_durable", why=built.store.durability_warning)
    built.own_addresses.extend([*public_listener.addresses, *ops_listener.addresses])
    await built.limiter.open()
    await built.background_tasks.start()
    _tune_garbage_collector()
    if reloader is not None:
        reloader.start()
    return Application(
        public=public_listener,
        ops=ops_listener,
        in_flight_limiter=in_flight_limiter,
        realtime=realtime,
        background_tasks=built.background_tasks,
        limiter=built.limiter,
        catalog=built.catalog,
        reloader=reloader,
        metrics=built.metrics,
        drain_period=server.drain,
        grace_period=server.grace,
        clock=clock,
    )


def _realtime(components: Components, authenticator: Authenticator, token_secret: bytes) -> RealtimeHub:
    """The WebSocket of PromptLayer's SDKs; whoever a reload removes is known no more."""
    return RealtimeHub(
        components.store,
        ExecutionIds(token_secret),
        ChannelTokens(token_secret),
        lambda client: client in authenticator.clients,
        clock=components.clock,
        log=components.log,
        max_connections=components.settings.server.max_in_flight,
    )


def _public_server(
    components: Components,
    in_flight_limiter: InFlightLimiter,
    authenticator: Authenticator,
    execution_ids: ExecutionIds,
    extra_routes: list[Route],
) -> Server:
    """What clients reach."""
    server, clock, durable_runs, catalog = (
        components.settings.server,
        components.clock,
        components.durable_runs,
        components.catalog,
    )
    body_limits = (clock, server.max_body, server.body_timeout)
    run_handler = RunHandler(components.executor, durable_runs, catalog, components.check_callback_url, *body_limits)
    promptlayer_handlers = PromptLayerRuns(
        durable_runs, catalog, execution_ids, components.check_callback_url, *body_limits
    )
    runs_handlers = RunLookupHandlers(components.store, clock, is_draining=lambda: in_flight_limiter.draining)
    # Outermost first. What comes later has what came earlier to rely on.
    middlewares: list[Middleware] = [
        in_flight_limiter.close_when_draining,  # while draining, every answer is the last on its connection
        access_log(
            components.metrics, components.log, clock
        ),  # every request gets its id, its document, its line, its count
        in_flight_limiter.limit_in_flight,  # the surplus is refused before any work is done for it
        authenticator.authenticate,  # from here on there is a client
    ]
    routes = [
        *_run_routes(run_handler, runs_handlers),
        *promptlayer.routes(promptlayer_handlers, PromptLayerWorkflowHandlers(catalog)),
        *PromptStudioHandlers(durable_runs, catalog, *body_limits).routes(),
        *_poll_hint_routes(components.poll_hints),
        *_health_routes(_ops_handlers(components, in_flight_limiter)),
        *extra_routes,
    ]
    fallback = PassthroughHandler(
        components.passthrough, in_flight_limiter, authenticator, *body_limits
    ).fallback_route()
    return Server(routes, middlewares, header_timeout=server.header_timeout, fallback=fallback)


def _ops_server(components: Components, in_flight_limiter: InFlightLimiter, docs: DocsHandlers) -> Server:
    """What operators reach."""
    ops_handlers = _ops_handlers(components, in_flight_limiter)
    routes = [
        Route("GET", "/metrics", ops_handlers.render_metrics, "metrics", logged=False),
        *_health_routes(ops_handlers),
        *CallbackAdminHandlers(components.store, components.clock, components.log).routes(),
        *docs.ops_routes(),
    ]
    logging_middleware = access_log(components.metrics, components.log, components.clock)
    return Server(routes, [logging_middleware], header_timeout=components.settings.server.header_timeout)


def _ops_handlers(components: Components, in_flight_limiter: InFlightLimiter) -> OpsHandlers:
    return OpsHandlers(
        components.metrics,
        is_ready=lambda: not in_flight_limiter.draining,
        is_store_failing=lambda: components.store.failing,
    )


def _run_routes(run_handler: RunHandler, runs_handlers: RunLookupHandlers) -> list[Route]:
    return with_double_slash(
        [
            Route("POST", "/run", run_handler.start, "run", requires_key=True),
            Route("GET", "/runs", runs_handlers.list_runs, "runs", requires_key=True),
            Route("GET", "/runs/{id}", runs_handlers.get_run, "runs", requires_key=True),
        ]
    )


def _poll_hint_routes(poll_hints: PollHints | None) -> list[Route]:
    return (
        []
        if poll_hints is None
        else [Route("POST", "/hints/{id}", PollHintHandler(poll_hints).receive, "hints", logged=False)]
    )


def _health_routes(ops_handlers: OpsHandlers) -> list[Route]:
    return [
        Route("GET", "/healthz", ops_handlers.healthz, "healthz", logged=False),
        Route("GET", "/readyz", ops_handlers.readyz, "readyz", logged=False),
    ]


def listeners_from_settings(settings: ServerSettings) -> OpenListeners:
    """Open both ports in this process."""

    async def open_listeners(public: web.Server, watched: web.Server) -> tuple[Listener, Listener]:
        opened = await Listener.open(public, settings.host, settings.port)
        try:
            return opened, await Listener.open(watched, settings.ops_host, settings.ops_port)
        except OSError:
            await opened.runner.cleanup()
            raise

    return open_listeners


async def _open_listeners(
    public_server: Server, ops_server: Server, background_tasks: BackgroundTasks, open_listeners: OpenListeners
) -> tuple[Listener, Listener]:
    """Before the ports are open no kept run is taken up: a start must not be on its way when we give up."""
    try:
        return await open_listeners(public_server, ops_server)
    except OSError:
        await background_tasks.close()
        raise


def _tune_garbage_collector() -> None:
    """Keep the collector away from what was built to stay, and let it look less often at what comes and goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
