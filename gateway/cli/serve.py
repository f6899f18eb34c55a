"""`runward serve`: the gateway as it runs in production."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import logs
from gateway.app import start
from gateway.cli.failure import Failure
from gateway.clock import SystemClock
from gateway.lifecycle import until_stopped
from gateway.settings import ConfigFiles, SettingsError, load
from gateway.store.contract import StoreUnavailable
from gateway.supervisor.crew import GaveUp
from gateway.supervisor.supervise import supervise
from gateway.systemd_notify import notifier

_SHARED = ("redis", "rediss")
"""The stores in which processes find each other's runs and limits."""


def serve(config: Path | None) -> None:
    """Serve until SIGTERM; Failure where the configuration is wrong or a port is taken."""
    source = ConfigFiles(config)
    with starting():
        settings = source.load()

    async def work() -> None:
        clock = SystemClock()
        log = logs.configure(settings.logs.level, settings.logs.format, clock)
        with starting():
            gateway = await start(settings, clock, log, source)
        await until_stopped(gateway, log, notifier())

    event_loop()(work())


def serve_with_workers(config: Path | None, count: int) -> None:
    """Serve with `count` processes until SIGTERM.

    Failure where the configuration is wrong, its store is one process's own, a port is taken, or workers keep dying.
    """
    with starting():
        settings = load(config)
    scheme = settings.store.url.partition(":")[0]
    if scheme not in _SHARED:
        raise Failure(
            f"--workers {count} needs a store that processes share: set store.url to redis://... or rediss://... "
            f"(with {scheme}:// each worker would count limits for itself), or serve with --workers 1"
        )
    command = [sys.executable, "-P", "-m", "gateway", "worker", *(["--config", str(config)] if config else [])]

    async def work() -> None:
        clock = SystemClock()
        log = logs.configure(settings.logs.level, settings.logs.format, clock)
        with starting():
            if not await supervise(settings, count, command, clock, log, manager=notifier()):
                raise Failure("not every worker ended in its own time", exit_code=1)

    event_loop()(work())


@contextmanager
def starting() -> Iterator[None]:
    """Turn what can go wrong at a start into Failure."""
    try:
        yield
    except SettingsError as error:
        raise Failure(str(error)) from None
    except StoreUnavailable as error:
        raise Failure(f"store: {error}") from None
    except GaveUp as error:
        raise Failure(str(error), error.exit_code) from None
    except OSError as error:
        raise Failure(f"can not listen: {error.strerror or error}") from None


def event_loop() -> Callable[[Coroutine[object, object, None]], None]:
    """Find what runs a coroutine to its end: uvloop where it is installed, else asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
