"""`runward serve`: runs a gateway, in one process or with workers (prefork)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.app.application import (
    ignore_signals,
    serve_until_signal,
    start_unless_signalled,
    subscribe_shutdown_signals,
)
from gateway.app.bootstrap import start_gateway
from gateway.app.systemd_notify import service_notifier
from gateway.cli.errors import CliError
from gateway.clock import SystemClock
from gateway.observability import json_logging
from gateway.settings import ConfigFiles, SettingsError
from gateway.store import factory
from gateway.store.contract import StoreUnavailable


def serve(config: Path | None) -> None:
    """Serve until SIGTERM. Raises CliError if the configuration is invalid or a port cannot be opened."""
    source = ConfigFiles(config)
    with startup_errors():
        settings = source.load()

    async def main() -> None:
        signals = subscribe_shutdown_signals()
        clock = SystemClock()
        log = json_logging.configure(settings.logs.level, settings.logs.format, clock)
        with startup_errors():
            gateway = await start_unless_signalled(start_gateway(settings, clock, log, source), signals, log)
        if gateway is not None:
            await serve_until_signal(gateway, log, service_notifier(), signals)

    asyncio_runner()(main())
    ignore_signals()


def serve_with_workers(config: Path | None, count: int) -> None:
    """Serve with `count` worker processes until SIGTERM.

    Raises CliError if the configuration is invalid, its store cannot be shared, a port cannot be opened, or workers
    keep failing.
    """
    from gateway.supervisor.supervisor import supervise
    from gateway.supervisor.worker_pool import WorkerPoolFailed

    source = ConfigFiles(config)
    with startup_errors():
        settings = source.load()
    if not factory.is_redis_url(settings.store.url):
        scheme = settings.store.url.partition(":")[0]
        raise CliError(
            f"--workers {count} needs a store that processes share: set store.url to redis://... or rediss://... "
            f"(with {scheme}:// each worker would have its own limits), or serve with --workers 1"
        )
    command = [sys.executable, "-P", "-m", "gateway", "worker", *(["--config", str(config)] if config else [])]

    async def main() -> None:
        clock = SystemClock()
        log = json_logging.configure(settings.logs.level, settings.logs.format, clock)
        try:
            with startup_errors():
                clean = await supervise(settings, count, command, clock, log, source=source, manager=service_notifier())
        except WorkerPoolFailed as error:
            raise CliError(str(error), error.exit_code) from None
        if not clean:
            raise CliError("a worker did not exit cleanly", exit_code=1)

    asyncio_runner()(main())
    ignore_signals()


@contextmanager
def startup_errors() -> Iterator[None]:
    """Convert startup errors into CliError."""
    try:
        yield
    except SettingsError as error:
        raise CliError(str(error)) from None
    except StoreUnavailable as error:
        raise CliError(f"store: {error}") from None
    except OSError as error:
        raise CliError(f"cannot listen: {error.strerror or error}") from None


def asyncio_runner() -> Callable[[Coroutine[object, object, None]], None]:
    """Runner of the main coroutine: uvloop if installed, else asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
