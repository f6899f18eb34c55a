"""`runward demo`: the gateway and both providers, emulated, in one process on the loopback interface."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from gateway import logs, sandbox
from gateway.app import start
from gateway.cli.demo_page import Place, print_page
from gateway.cli.demo_settings import HOST, DemoKeys, demo_settings
from gateway.cli.failure import Failure
from gateway.cli.serve import event_loop, starting
from gateway.clock import SystemClock
from gateway.lifecycle import until_stopped


def demo(port: int, ops_port: int) -> None:
    """Run until SIGTERM or Ctrl-C. A port that is taken is replaced by a free one; 0 is any free one."""
    if port == ops_port != 0:
        raise Failure("--port and --ops-port must differ")
    event_loop()(_work(port, ops_port))


async def _work(port: int, ops_port: int) -> None:
    with starting(), TemporaryDirectory(prefix="runward-demo-") as folder:
        await _serve(port, ops_port, Path(folder) / "runward.db")


async def _serve(port: int, ops_port: int, store: Path) -> None:
    clock = SystemClock()
    keys = DemoKeys.make(clock)
    taken = [wanted for wanted in (port, ops_port) if not _is_free(wanted)]
    with starting():
        providers = await sandbox.serve(sandbox.application(clock, keys=keys.sandbox), HOST, 0)
        try:
            settings = demo_settings(
                providers.url,
                keys,
                store,
                port=0 if port in taken else port,
                ops_port=0 if ops_port in taken else ops_port,
            )
            log = logs.configure(settings.logs.level, settings.logs.format, clock)
            gateway = await start(settings, clock, log)
        except BaseException:
            await providers.close()
            raise
    place = Place(gateway.public.url, gateway.ops.url, providers.url, keys.client, tuple(taken))
    print_page(place, Console())
    await until_stopped(gateway, log)
    await providers.close()


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
