"""`runward serve --workers`: opens the ports, keeps the crew, and passes on what it is told by signals."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.api.callbacks import CallbacksFace
from gateway.clock import Clock
from gateway.lifecycle import Listener, url
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.store import by_url
from gateway.supervisor.crew import Crew
from gateway.supervisor.face import CrewFace
from gateway.supervisor.shared_store import SharedStore
from gateway.supervisor.sockets import address, listening
from gateway.supervisor.worker import Launcher
from gateway.systemd_notify import SILENT, Notifier


async def supervise(
    settings: Settings,
    count: int,
    command: Sequence[str],
    clock: Clock,
    log: FilteringBoundLogger,
    *,
    manager: Notifier = SILENT,
) -> bool:
    """Serve with `count` workers, each a `command`, until a signal; whether all of them ended cleanly.

    The service `manager` is told when all workers serve, when they drain, and that the supervisor is not stuck.
    SIGTERM and SIGINT let them drain, a second one ends them at once, SIGHUP is passed on. Raises OSError where a port
    can not be had, SettingsError where the library for the store is missing, GaveUp where no worker can be kept alive.
    """
    at = settings.server
    logs.watch_loop(asyncio.get_running_loop(), log)
    with listening(at.host, at.port) as public, listening(at.ops_host, at.ops_port) as watched:
        store = SharedStore(by_url.store(settings.store.url, clock, settings.store.password))
        launcher = Launcher(command, public, address(watched[0]), settings.store.url)
        crew = Crew(count, launcher.launch, Metrics(), clock, log)
        face = CrewFace(crew, CallbacksFace(store, clock, log))
        ops = await Listener.inherit(face.server(header_timeout=at.header_timeout), watched)
        tasks = [
            asyncio.create_task(_obey(_signals(), crew, public, manager)),
            asyncio.create_task(_announce(crew, url(*address(public[0])), ops.url, manager)),
        ]
        try:
            await crew.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await ops.runner.cleanup()
            await store.close()
    return crew.clean


def _signals() -> asyncio.Queue[signal.Signals]:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    return signals


async def _obey(
    signals: asyncio.Queue[signal.Signals], crew: Crew, public: Sequence[socket.socket], manager: Notifier
) -> None:
    while True:
        number = await signals.get()
        if number == signal.SIGHUP:
            crew.reload()
        elif crew.draining.is_set():
            await crew.hurry()
        else:
            crew.log.info("draining", signal=number.name)
            manager.stopping("draining")
            crew.drain()
            for each in public:  # the workers have it still; once the last of them lets go, it is closed
                each.close()


async def _announce(crew: Crew, where: str, ops: str, manager: Notifier) -> None:
    await crew.complete.wait()
    crew.log.info("listening", url=where, ops_url=ops, workers=crew.count)
    manager.ready(f"{crew.count} workers serve at {where}")
    await manager.keep_alive(crew.clock)
