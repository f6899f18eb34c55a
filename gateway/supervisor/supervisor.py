"""`runward serve --workers`: opens the ports, runs the worker pool, and forwards signals."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence

from gateway import garbage_collection
from gateway.api.admin.live_feed import LiveFeed
from gateway.api.admin.logs import LogAdminHandlers
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.api.admin.routes import admin_routes
from gateway.app import access_factories
from gateway.app.listeners import Listener, base_url
from gateway.app.reload import ConfigSource
from gateway.app.systemd_notify import NO_SERVICE_MANAGER, Notifier
from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.settings import Settings
from gateway.store import factory
from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.admin import SupervisorAdmin, collect_metrics, gateway_state
from gateway.supervisor.attention import SupervisorAttention
from gateway.supervisor.lazy_store import LazyStore
from gateway.supervisor.ops_access import OpsAccess
from gateway.supervisor.sockets import open_listening_sockets, socket_address
from gateway.supervisor.stop_abilities import StopAbilities
from gateway.supervisor.worker_handle import WorkerLauncher
from gateway.supervisor.worker_pool import WorkerPool
from gateway.supervisor.worker_runs import WorkerRunCanceller, WorkerRunStarter


async def supervise(
    settings: Settings,
    count: int,
    command: Sequence[str],
    clock: Clock,
    log: Logger,
    *,
    source: ConfigSource | None = None,
    manager: Notifier = NO_SERVICE_MANAGER,
) -> bool:
    """Serve with `count` workers, each running `command`, until a signal. Returns True if all exited cleanly.

    SIGTERM and SIGINT start a graceful shutdown, a second one ends all workers at once, SIGHUP reloads the
    configuration. Raises OSError if a port is not available, SettingsError if the library of the store is missing, and
    WorkerPoolFailed if no worker can be kept running.
    """
    server = settings.server
    signals = _subscribe_signals()
    json_logging.log_unhandled_exceptions(asyncio.get_running_loop(), log)
    store = LazyStore(factory.create_configured_store(settings.store, clock))
    access = OpsAccess.build(settings, store, clock, log)
    with (
        open_listening_sockets(server.host, server.port) as public_sockets,
        open_listening_sockets(server.ops_host, server.ops_port) as ops_sockets,
        AcceptCounts.create(count) as accept_counts,
    ):
        launcher = WorkerLauncher(
            command, public_sockets, accept_counts, socket_address(ops_sockets[0]), settings.store.url
        )
        pool = WorkerPool(count, launcher.launch, accept_counts, Metrics(), clock, log, access.log_level)
        state = gateway_state(settings, pool)
        abilities = StopAbilities(settings)
        providers = ProviderAdminHandlers(
            store, lambda: abilities.by_provider, lambda: collect_metrics(pool), clock, log
        )
        attention = SupervisorAttention.build(settings, pool, store, clock, log)
        feed = LiveFeed(store, pool.latest_metrics, attention.monitor, clock, log)
        access.reload_hooks = [
            attention.reconfigure,
            lambda new: state.reconfigure(new.settings),
            lambda new: abilities.reconfigure(new.settings),
            lambda _: feed.end_all(),  # a key may have been removed
        ]
        routes = [
            *admin_routes(
                store,
                clock,
                log,
                providers,
                attention.monitor,
                authenticator=access.authenticator,
                state=state,
                feed=feed,
                run_starter=WorkerRunStarter(pool),
                run_canceller=WorkerRunCanceller(pool),
                callback_tester=attention.callback_tester(clock),
            ),
            *LogAdminHandlers(access.log_level, pool.send_log_level).routes(),
        ]
        admin = SupervisorAdmin(pool, routes)
        audit = access_factories.audit_recorder(store, clock, log, pool.metrics)
        ops_server = admin.build_server(
            access.authenticator,
            audit,
            header_timeout=server.header_timeout,
            idle_timeout=server.idle_timeout,
            max_header=server.max_header,
        )
        ops_listener = await Listener.from_sockets(ops_server, ops_sockets, access.context)
        state.history.start()
        attention.start([*map(socket_address, public_sockets), *ops_listener.addresses])
        tasks = [
            asyncio.create_task(_handle_signals(signals, pool, public_sockets, manager)),
            asyncio.create_task(
                _log_listening(
                    pool,
                    base_url(*socket_address(public_sockets[0]), secure=server.tls is not None),
                    ops_listener.url,
                    manager,
                )
            ),
        ]
        if source is not None:
            tasks.append(asyncio.create_task(access.follow(source, clock, log)))
        try:
            await pool.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await attention.monitor.close()
            await state.history.close()
            feed.end_all()
            access.log_level.close()
            await ops_listener.runner.cleanup()
            await audit.close()
            await store.close()
    return pool.clean_exit


def _subscribe_signals() -> asyncio.Queue[signal.Signals]:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    return signals


async def _handle_signals(
    signals: asyncio.Queue[signal.Signals],
    pool: WorkerPool,
    public_sockets: Sequence[socket.socket],
    manager: Notifier,
) -> None:
    while True:
        number = await signals.get()
        if number == signal.SIGHUP:
            pool.reload()
        elif pool.draining.is_set():
            await pool.terminate_all()
        else:
            pool.log.info("draining", signal=number.name)
            manager.stopping("draining")
            pool.drain()
            for sock in public_sockets:  # workers keep their copy; the port closes with the last one
                sock.close()


async def _log_listening(pool: WorkerPool, public_url: str, ops_url: str, manager: Notifier) -> None:
    await pool.all_ready.wait()
    garbage_collection.resume_after_start()
    pool.log.info("listening", url=public_url, ops_url=ops_url, workers=pool.count)
    manager.ready(f"{pool.count} workers serve at {public_url}")
    await manager.keep_alive(pool.clock)
