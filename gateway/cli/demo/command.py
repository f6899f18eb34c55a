"""`runward demo`: a gateway and both providers, emulated, in one process on the loopback interface."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from gateway import sandbox
from gateway.app.application import serve_until_signal
from gateway.app.bootstrap import start_gateway
from gateway.cli.demo.banner import DemoEndpoints, print_banner
from gateway.cli.demo.settings import HOST, DemoKeys, demo_settings
from gateway.cli.demo.traffic import DemoTraffic
from gateway.cli.errors import CliError
from gateway.cli.serve import asyncio_runner, startup_errors
from gateway.clock import SystemClock
from gateway.observability import json_logging


def demo(port: int, ops_port: int, *, traffic: bool = False) -> None:
    """Run until SIGTERM or Ctrl-C. A port that is in use is replaced by a free one; 0: any free port.

    `traffic`: request runs all the time.
    """
    if port == ops_port != 0:
        raise CliError("--port and --ops-port must differ")
    asyncio_runner()(_run_demo(port, ops_port, traffic=traffic))


async def _run_demo(port: int, ops_port: int, *, traffic: bool) -> None:
    with startup_errors(), TemporaryDirectory(prefix="runward-demo-") as folder:
        await _serve(port, ops_port, Path(folder) / "runward.db", traffic=traffic)


async def _serve(port: int, ops_port: int, store: Path, *, traffic: bool) -> None:
    clock = SystemClock()
    keys = DemoKeys.make(clock)
    taken_ports = [requested_port for requested_port in (port, ops_port) if not _is_port_free(requested_port)]
    with startup_errors():
        providers = await sandbox.serve(sandbox.create_application(clock, keys=keys.sandbox), HOST, 0)
        try:
            settings = demo_settings(
                providers.url,
                keys,
                store,
                port=0 if port in taken_ports else port,
                ops_port=0 if ops_port in taken_ports else ops_port,
            )
            log = json_logging.configure(settings.logs.level, settings.logs.format, clock)
            application = await start_gateway(settings, clock, log)
        except BaseException:
            await providers.close()
            raise
    endpoints = DemoEndpoints(
        application.public.url, application.ops.url, providers.url, keys.client, tuple(taken_ports), traffic=traffic
    )
    print_banner(endpoints, Console())
    requests = DemoTraffic(endpoints.url, keys.client, clock).running() if traffic else nullcontext()
    async with requests:
        await serve_until_signal(application, log)
    await providers.close()


def _is_port_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
