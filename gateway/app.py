"""The composition root: every object is built here, once, and handed what it needs."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import configured, logs
from gateway.access.strangers import Strangers
from gateway.api.callbacks import CallbacksFace
from gateway.api.docs import DocsFace
from gateway.api.hints import HintsFace
from gateway.api.middleware import Doors, Porter, observe
from gateway.api.ops import OpsFace
from gateway.api.passthrough import PassthroughFace
from gateway.api.prompt_studio.face import StudioFace
from gateway.api.promptlayer import results
from gateway.api.promptlayer import routes as promptlayer
from gateway.api.promptlayer.runs import RunsFace as PromptLayerRuns
from gateway.api.promptlayer.workflows import WorkflowsFace
from gateway.api.run import RunFace
from gateway.api.runs import RunsFace
from gateway.api.server import Middleware, Route, Server
from gateway.clock import Clock
from gateway.lifecycle import Gateway, Listener, Ports
from gateway.metrics import Metrics
from gateway.plan import draw
from gateway.problems import Problem
from gateway.reload import Reload, Source, Swap
from gateway.runs.callbacks import Callbacks
from gateway.runs.catalog import Catalog
from gateway.runs.desk import Desk
from gateway.runs.engine import Engine
from gateway.runs.guards import Guards
from gateway.runs.hints import Hints
from gateway.runs.leg import Means
from gateway.runs.numbers import Numbers
from gateway.runs.office import BackOffice
from gateway.runs.passthrough import Passthrough
from gateway.runs.polling import Schedule
from gateway.runs.recovery import Recovery
from gateway.settings import ServerSettings, Settings
from gateway.store import by_url
from gateway.store.contract import Store
from gateway.upstream.egress import Egress

_THREADS = 32


async def start(
    settings: Settings,
    clock: Clock,
    log: FilteringBoundLogger,
    source: Source | None = None,
    open_ports: Ports | None = None,
) -> Gateway:
    """Build everything and listen: where the settings say, or where `open_ports` does.

    Where the settings have a `source`, they are reloaded when it changes.

    Raises SettingsError where an adapter is missing, OSError where a port is taken, StoreUnavailable.
    """
    loop = asyncio.get_running_loop()
    logs.watch_loop(loop, log)
    # For names that are looked up, and metrics that are rendered: one that hangs must not hold up the others.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="runward"))
    metrics = Metrics()
    plan = draw(settings, clock, metrics)
    metrics.configured(clock.now())
    limits = configured.limiter(
        settings,
        clients=plan.client_limits,
        workflows=plan.workflow_limits,
        providers=plan.provider_limits,
        clock=clock,
        metrics=metrics,
        log=log,
    )
    schedule = Schedule(*configured.polling(settings))
    guards = Guards(plan.tolerance, clock.monotonic, metrics)
    server = settings.server
    store = by_url.store(settings.store.url, clock, settings.store.password)
    hints = Hints(server.public_url, store, clock=clock, metrics=metrics, log=log) if server.public_url else None
    means = Means(limits, plan.policy, schedule, guards, clock, metrics, hints)
    engine = Engine(means)

    doors = Doors(server.max_in_flight)
    metrics.in_flight(lambda: doors.in_flight)
    catalog = Catalog(plan.workflows, plan.providers)
    ports: list[tuple[str, int]] = []
    egress = Egress(settings.callbacks.allow, own=lambda: ports)
    courier = configured.courier(egress, clock)
    callbacks = Callbacks(store, courier, plan.signing_keys, settings.callbacks.schedule, clock, metrics, log)
    owner = "rep_" + clock.token(8).hex()
    desk = Desk(
        engine,
        store,
        clock,
        log,
        owner,
        most_queued=server.max_queued,
        first_delay=callbacks.first_delay,
        payloads={"promptlayer": results.payload},
    )
    recovery = Recovery(desk, store, catalog, clock, log)
    office = BackOffice(desk, store, recovery, callbacks, clock, log, settings.store.retention)

    async def check_callback(url: str) -> None:
        if not callbacks.keys:
            raise Problem("callback_url_refused", "No secret is configured to sign callbacks with.")
        await egress.resolve(egress.check(url))

    run = RunFace(engine, desk, catalog, check_callback, clock, server.max_body, server.body_timeout)
    studio = StudioFace(desk, catalog, clock, server.max_body, server.body_timeout)
    runs = RunsFace(store, clock, draining=lambda: doors.draining)
    ops = OpsFace(metrics, ready=lambda: not doors.draining, store_fails=lambda: store.failing)
    docs = DocsFace.load()
    observed = observe(metrics, log, clock)

    # Outermost first. What comes later has what came earlier to rely on.
    porter = Porter(plan.keys, plan.clients, Strangers(clock), server.trusted_proxies, clock, log)
    middlewares: list[Middleware] = [
        doors.farewell,  # while draining, every answer is the last on its connection
        observed,  # every request gets its id, its document, its line, its count
        doors.guard,  # the surplus is refused before any work is done for it
        porter.authenticate,  # from here on there is a client
    ]
    replays = _callback_routes(CallbacksFace(store, clock, log))
    watched = Server(
        [*_ops_routes(ops), *replays, *docs.ops_routes()], [observed], header_timeout=server.header_timeout
    )
    passed = Passthrough(plan.passages, plan.providers, limits=limits, clock=clock, metrics=metrics)
    passthrough = PassthroughFace(passed, doors, porter, clock, server.max_body, server.body_timeout)
    # What knows a part of the configuration, and how it learns another one. All of it happens in one step.
    swaps: list[Swap] = [
        lambda new: catalog.reconfigure(new.workflows, new.providers),
        lambda new: porter.reconfigure(new.keys, new.clients),
        lambda new: limits.reconfigure(
            clients=new.client_limits, workflows=new.workflow_limits, providers=new.provider_limits
        ),
        lambda new: means.reconfigure(new.policy, new.tolerance),
        lambda new: schedule.reconfigure(*configured.polling(new.settings)),
        lambda new: egress.reconfigure(new.allowance),
        lambda new: callbacks.reconfigure(new.signing_keys, new.settings.callbacks.schedule),
        lambda new: office.reconfigure(new.settings.store.retention),
        lambda new: passed.reconfigure(new.passages, new.providers),
        lambda new: logs.set_level(new.settings.logs.level),
    ]
    reload = Reload(source, plan, swaps, clock, metrics, log) if source is not None else None
    await _open(store, hints, metrics)
    numbers = Numbers(await store.secret("faces", clock.token(32)))
    own = PromptLayerRuns(desk, catalog, numbers, check_callback, clock, server.max_body, server.body_timeout)
    routes = [
        *_public_routes(run, runs, ops),
        *_hint_routes(hints),
        *promptlayer.routes(own, WorkflowsFace(catalog)),
        *studio.routes(),
        *docs.public_routes(keyed=not server.open_docs),
    ]
    public = Server(routes, middlewares, header_timeout=server.header_timeout, otherwise=passthrough.otherwise())
    opened, ops_opened = await _listen(public, watched, office, open_ports or own_ports(server))
    if store.weakness is not None:
        log.warning("store_not_durable", why=store.weakness)
    ports += [*opened.addresses, *ops_opened.addresses]
    await limits.open()
    await office.begin()
    _settle_memory()
    if reload is not None:
        reload.begin()
    return Gateway(
        public=opened,
        ops=ops_opened,
        doors=doors,
        back_office=office,
        limits=limits,
        catalog=catalog,
        reload=reload,
        metrics=metrics,
        linger=server.drain,
        grace=server.grace,
        clock=clock,
    )


async def _open(store: Store, hints: Hints | None, metrics: Metrics) -> None:
    """Open what outlives the process. Raises StoreUnavailable."""
    await store.open()
    metrics.store_weakness(lambda: store.weakness)
    if hints is not None:
        await hints.open()


def own_ports(at: ServerSettings) -> Ports:
    """Open both ports in this process."""

    async def open_ports(public: web.Server, watched: web.Server) -> tuple[Listener, Listener]:
        opened = await Listener.open(public, at.host, at.port)
        try:
            return opened, await Listener.open(watched, at.ops_host, at.ops_port)
        except OSError:
            await opened.runner.cleanup()
            raise

    return open_ports


async def _listen(public: Server, watched: Server, office: BackOffice, open_ports: Ports) -> tuple[Listener, Listener]:
    """Before the ports are open no kept run is taken up: a start must not be on its way when we give up."""
    try:
        return await open_ports(public, watched)
    except OSError:
        await office.close()
        raise


def _public_routes(run: RunFace, runs: RunsFace, ops: OpsFace) -> list[Route]:
    return [
        Route("POST", "/run", run.start, "run", keyed=True),
        Route("GET", "/runs", runs.show_all, "runs", keyed=True),
        Route("GET", "/runs/{id}", runs.show, "runs", keyed=True),
        Route("GET", "/healthz", ops.healthz, "healthz", logged=False),
        Route("GET", "/readyz", ops.readyz, "readyz", logged=False),
    ]


def _hint_routes(hints: Hints | None) -> list[Route]:
    return [] if hints is None else [Route("POST", "/hints/{id}", HintsFace(hints).take, "hints", logged=False)]


def _ops_routes(ops: OpsFace) -> list[Route]:
    return [
        Route("GET", "/metrics", ops.render_metrics, "metrics", logged=False),
        Route("GET", "/healthz", ops.healthz, "healthz", logged=False),
        Route("GET", "/readyz", ops.readyz, "readyz", logged=False),
    ]


def _callback_routes(callbacks: CallbacksFace) -> list[Route]:
    return [
        Route("GET", "/callbacks", callbacks.show, "callbacks"),
        Route("POST", "/callbacks/replay/{id}", callbacks.replay, "callbacks"),
    ]


def _settle_memory() -> None:
    """Keep the collector away from what was built to stay, and let it look less often at what comes and goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
