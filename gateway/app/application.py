"""Application lifecycle: serve, graceful shutdown (drain), close."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TypeAlias

from gateway.api.promptlayer.realtime.hub import RealtimeHub
from gateway.app.components import Components
from gateway.app.listeners import RESPONSE_GRACE, Listener
from gateway.app.reload import Reloader
from gateway.app.system_audit import SystemAudit
from gateway.app.systemd_notify import NO_SERVICE_MANAGER, Notifier
from gateway.observability.logger_protocol import Logger

_IDLE_CHECK_INTERVAL = 0.05  # seconds
_START_GRACE = 5.0  # seconds for the start to complete after a signal, so that it can be undone in order

ShutdownSignals: TypeAlias = "asyncio.Queue[signal.Signals]"


@dataclass(frozen=True, slots=True)
class Application:
    """A running gateway: its components, its ports, and the order in which both are closed.

    `reloader` is None if the configuration cannot change.
    """

    components: Components
    public: Listener
    ops: Listener
    realtime: RealtimeHub
    reloader: Reloader | None

    async def drain(self, period: float | None = None) -> None:
        """Shut down gracefully: let runs in flight end, and lose no request.

        First readiness fails and responses carry `Connection: close`, while the port stays open for `period` seconds
        (`server.drain` by default), so that load balancers and keep-alive clients move to other replicas. Then the port
        and the WebSocket connections are closed, and runs in flight have `server.grace` seconds to end.
        """
        async with SystemAudit(self.components.audit).drain():
            await self._drain(period)

    async def _drain(self, period: float | None) -> None:
        server, clock = self.components.settings.server, self.components.clock
        self.components.in_flight_limiter.draining = True
        await clock.sleep(server.drain if period is None else period)
        await self.public.stop_accepting()
        # Not earlier: PromptLayer's SDK for JavaScript gives up if it cannot reconnect at once.
        await self.realtime.close_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(server.grace):
                # Concurrently: a queued run that starts late in the grace period could not be answered within it.
                await asyncio.gather(self._wait_until_idle(), self.components.background_tasks.drain())

    async def _wait_until_idle(self) -> None:
        while self.components.in_flight_limiter.in_flight:
            await self.components.clock.sleep(_IDLE_CHECK_INTERVAL)

    async def close(self) -> None:
        """Close every port and connection at once; pending requests are answered with the state of their run."""
        self.components.in_flight_limiter.draining = True
        await self.realtime.close_all()
        self.components.in_flight_limiter.cancel_runs()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESPONSE_GRACE):
                await self._wait_until_idle()
        if self.reloader is not None:
            await self.reloader.close()
        await self.public.close()
        self.components.live_feed.end_all()
        await self.ops.close()
        await self.components.close()


def subscribe_shutdown_signals() -> ShutdownSignals:
    """Receive SIGTERM and SIGINT in a queue."""
    loop = asyncio.get_running_loop()
    signals: ShutdownSignals = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    return signals


def ignore_signals() -> None:
    """Ignore signals from now on: the process has been shut down, and is about to exit."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


async def start_unless_signalled(
    starting: Coroutine[object, object, Application], signals: ShutdownSignals, log: Logger
) -> Application | None:
    """Return the started application, or None if a signal came first and everything has been closed again.

    Raises the errors of `starting`.
    """
    start, received = asyncio.create_task(starting), asyncio.create_task(signals.get())
    await asyncio.wait((start, received), return_when=asyncio.FIRST_COMPLETED)
    if not received.done():
        received.cancel()
        return await start
    log.info("draining", signal=received.result().name)
    await asyncio.wait((start,), timeout=_START_GRACE)
    if start.done():
        await start.result().close()
    else:
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
    return None


async def serve_until_signal(
    application: Application,
    log: Logger,
    manager: Notifier = NO_SERVICE_MANAGER,
    signals: ShutdownSignals | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal closes at once. SIGHUP reloads the configuration.

    The event "listening" is logged after the signal handlers are installed, so a supervisor may send signals from then.
    `signals`: an earlier subscription.

    `manager`: the service manager; it receives READY, RELOADING, STOPPING and the heartbeat of its watchdog.
    """
    signals = signals or subscribe_shutdown_signals()
    if application.reloader is not None:
        _reload_on_signal(application.reloader, manager)
    heartbeat = asyncio.create_task(manager.keep_alive(application.components.clock))
    log.info("listening", url=application.public.url, ops_url=application.ops.url)
    manager.ready(f"serving at {application.public.url}")
    log.info("draining", signal=(await signals.get()).name)
    manager.stopping("draining")
    await drain_and_close(application, signals.get())
    heartbeat.cancel()


def _reload_on_signal(reloader: Reloader, manager: Notifier) -> None:
    def reload() -> None:
        manager.reloading()
        reloader.request()

    reloader.on_done = manager.ready
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def drain_and_close(
    application: Application, stop_now: Coroutine[object, object, object], drain_period: float | None = None
) -> None:
    """Drain and close; close at once when `stop_now` completes first."""
    await wait_for_first(application.drain(drain_period), stop_now)
    await application.close()


async def wait_for_first(*coroutines: Coroutine[object, object, object]) -> None:
    """Wait until one of the coroutines completes, then cancel the others."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
