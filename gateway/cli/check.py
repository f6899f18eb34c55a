"""`runward check`: builds what a gateway is made of, opens no port, calls nobody, and says what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rich.console import Console

from gateway.app.snapshot import build_snapshot
from gateway.cli import check_report
from gateway.cli.serve import startup_errors
from gateway.clock import SystemClock
from gateway.observability.metrics import Metrics
from gateway.settings import Settings, load
from gateway.store import factory


def check(path: Path | None) -> None:
    """Print what is in a configuration; Failure where a gateway would refuse it."""
    clock = SystemClock()
    with startup_errors():
        settings = load(path)
        asyncio.run(_build(settings, clock))
    console = check_report.create_console()
    now = clock.now()
    for table in (
        check_report.providers_table(settings),
        check_report.workflows_table(settings),
        check_report.clients_table(settings, now),
    ):
        console.print(table)
    for warning in _warnings(settings, now):
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    _print_summary(console, settings, path)


async def _build(settings: Settings, clock: SystemClock) -> None:
    """Build what `app.start` builds, up to the ports: an adapter may be missing, or not know a label."""
    build_snapshot(settings, clock, Metrics())
    factory.create_store(settings.store.url, clock, settings.store.password, settings.store.tls_files)


def _warnings(settings: Settings, now: datetime) -> Iterator[str]:
    yield from settings.warnings()
    for name, client in settings.clients.items():
        for index, key in enumerate(client.keys):
            if key.expires is not None and key.expires <= now:
                yield f"clients.{name}.keys[{index}]: has expired"


def _print_summary(console: Console, settings: Settings, path: Path | None) -> None:
    config_name = path or "the configuration that RUNWARD_CONFIG names"
    counts = ", ".join(f"{kind}: {len(getattr(settings, kind))}" for kind in ("providers", "workflows", "clients"))
    console.print(f"sound: {config_name} ({counts})", style="green", markup=False, soft_wrap=True)
