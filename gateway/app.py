"""The composition root: what is served, in which order, on which ports, and how it comes up."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import house, logs
from gateway.access.strangers import Strangers
from gateway.api.callbacks import CallbacksFace
from gateway.api.docs import DocsFace
from gateway.api.hints import HintsFace
from gateway.api.middleware import Doors, Porter, observe
from gateway.api.ops import OpsFace
from gateway.api.passthrough import PassthroughFace
from gateway.api.prompt_studio.face import StudioFace
from gateway.api.promptlayer import routes as promptlayer
from gateway.api.promptlayer.realtime import Realtime
from gateway.api.promptlayer.runs import RunsFace as PromptLayerRuns
from gateway.api.promptlayer.tickets import Tickets
from gateway.api.promptlayer.workflows import WorkflowsFace
from gateway.api.run import RunFace
from gateway.api.runs import RunsFace
from gateway.api.server import Middleware, Route, Server
from gateway.clock import Clock
from gateway.house import House
from gateway.lifecycle import Gateway, Listener, Ports
from gateway.reload import Reload, Source
from gateway.runs.hints import Hints
from gateway.runs.numbers import Numbers
from gateway.runs.office import BackOffice
from gateway.settings import ServerSettings, Settings

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
    rooms = house.build(settings, clock, log)
    server, plan = settings.server, rooms.plan
    doors = Doors(server.max_in_flight)
    rooms.metrics.in_flight(lambda: doors.in_flight)
    porter = Porter(plan.keys, plan.clients, Strangers(clock), server.trusted_proxies, clock, log)
    # All of a new configuration is put to use in one step.
    swaps = [*rooms.swaps(), lambda new: porter.reconfigure(new.keys, new.clients)]
    reload = Reload(source, plan, swaps, clock, rooms.metrics, log) if source is not None else None

    await rooms.open()
    docs = DocsFace.load()
    secret = await rooms.secret()
    realtime = _realtime(rooms, porter, secret)
    more = [*realtime.routes(), *docs.public_routes(keyed=not server.open_docs)]
    public = _public(rooms, doors, porter, Numbers(secret), more)
    watched = _watched(rooms, doors, docs)
    opened, ops = await _listen(public, watched, rooms.office, open_ports or own_ports(server))
    if rooms.store.weakness is not None:
        log.warning("store_not_durable", why=rooms.store.weakness)
    rooms.ports.extend([*opened.addresses, *ops.addresses])
    await rooms.limits.open()
    await rooms.office.begin()
    _settle_memory()
    if reload is not None:
        reload.begin()
    return Gateway(
        public=opened,
        ops=ops,
        doors=doors,
        realtime=realtime,
        back_office=rooms.office,
        limits=rooms.limits,
        catalog=rooms.catalog,
        reload=reload,
        metrics=rooms.metrics,
        linger=server.drain,
        grace=server.grace,
        clock=clock,
    )


def _realtime(rooms: House, porter: Porter, secret: bytes) -> Realtime:
    """The WebSocket of PromptLayer's SDKs; whoever a reload removes is known no more."""
    return Realtime(
        rooms.store,
        Numbers(secret),
        Tickets(secret),
        lambda client: client in porter.clients,
        clock=rooms.clock,
        log=rooms.log,
        most=rooms.settings.server.max_in_flight,
    )


def _public(rooms: House, doors: Doors, porter: Porter, numbers: Numbers, more: list[Route]) -> Server:
    """What clients reach."""
    server, clock, desk, catalog = rooms.settings.server, rooms.clock, rooms.desk, rooms.catalog
    bounds = (clock, server.max_body, server.body_timeout)
    own = RunFace(rooms.engine, desk, catalog, rooms.check_callback, *bounds)
    layer = PromptLayerRuns(desk, catalog, numbers, rooms.check_callback, *bounds)
    runs = RunsFace(rooms.store, clock, draining=lambda: doors.draining)
    # Outermost first. What comes later has what came earlier to rely on.
    middlewares: list[Middleware] = [
        doors.farewell,  # while draining, every answer is the last on its connection
        observe(rooms.metrics, rooms.log, clock),  # every request gets its id, its document, its line, its count
        doors.guard,  # the surplus is refused before any work is done for it
        porter.authenticate,  # from here on there is a client
    ]
    routes = [
        *_run_routes(own, runs),
        *promptlayer.routes(layer, WorkflowsFace(catalog)),
        *StudioFace(desk, catalog, *bounds).routes(),
        *_hint_routes(rooms.hints),
        *_health_routes(_ops(rooms, doors)),
        *more,
    ]
    otherwise = PassthroughFace(rooms.passthrough, doors, porter, *bounds).otherwise()
    return Server(routes, middlewares, header_timeout=server.header_timeout, otherwise=otherwise)


def _watched(rooms: House, doors: Doors, docs: DocsFace) -> Server:
    """What operators reach."""
    ops = _ops(rooms, doors)
    routes = [
        Route("GET", "/metrics", ops.render_metrics, "metrics", logged=False),
        *_health_routes(ops),
        *CallbacksFace(rooms.store, rooms.clock, rooms.log).routes(),
        *docs.ops_routes(),
    ]
    observed = observe(rooms.metrics, rooms.log, rooms.clock)
    return Server(routes, [observed], header_timeout=rooms.settings.server.header_timeout)


def _ops(rooms: House, doors: Doors) -> OpsFace:
    return OpsFace(rooms.metrics, ready=lambda: not doors.draining, store_fails=lambda: rooms.store.failing)


def _run_routes(run: RunFace, runs: RunsFace) -> list[Route]:
    return [
        Route("POST", "/run", run.start, "run", keyed=True),
        Route("GET", "/runs", runs.show_all, "runs", keyed=True),
        Route("GET", "/runs/{id}", runs.show, "runs", keyed=True),
    ]


def _hint_routes(hints: Hints | None) -> list[Route]:
    return [] if hints is None else [Route("POST", "/hints/{id}", HintsFace(hints).take, "hints", logged=False)]


def _health_routes(ops: OpsFace) -> list[Route]:
    return [
        Route("GET", "/healthz", ops.healthz, "healthz", logged=False),
        Route("GET", "/readyz", ops.readyz, "readyz", logged=False),
    ]


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


def _settle_memory() -> None:
    """Keep the collector away from what was built to stay, and let it look less often at what comes and goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
