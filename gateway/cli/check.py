"""`runward check`: validates a configuration, and with --connect tests what it names. Opens no port, starts no run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console

from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.app.tracing import check_tracing
from gateway.cli import check_report
from gateway.cli.connection_checks import CheckResult, any_failed, run_checks
from gateway.cli.serve import startup_errors
from gateway.clock import SystemClock
from gateway.observability.metrics import Metrics
from gateway.settings import Settings, load
from gateway.store import factory

_EXIT_CHECK_FAILED = 1


def check(path: Path | None, *, connect: bool = False, as_json: bool = False) -> None:
    """Print the contents of a configuration and its warnings, and with `connect` the results of connection checks.

    Raises CliError (exit code 2) if a gateway would refuse the configuration; exits with 1 if a connection check fails.
    """
    clock = SystemClock()
    with startup_errors():
        settings = load(path)
        results = asyncio.run(_build_and_check(settings, clock, connect=connect))
    now = clock.now()
    if as_json:
        typer.echo(_render_json(settings, results, now))
    else:
        _print_report(settings, results, path, now)
    if any_failed(results):
        raise typer.Exit(_EXIT_CHECK_FAILED)


async def _build_and_check(settings: Settings, clock: SystemClock, *, connect: bool) -> list[CheckResult]:
    snapshot = _build(settings, clock)
    return await run_checks(settings, snapshot, clock) if connect else []


def _build(settings: Settings, clock: SystemClock) -> ConfigSnapshot:
    """Build what a gateway builds before it opens a port: an adapter may be missing, or may not support a label."""
    factory.create_configured_store(settings.store, clock)
    check_tracing(settings)
    return build_snapshot(settings, clock, Metrics())


def _render_json(settings: Settings, results: Sequence[CheckResult], now: datetime) -> str:
    document = {
        "ok": not any_failed(results),
        "warnings": list(_warnings(settings, now)),
        "checks": [dataclasses.asdict(result) for result in results],
    }
    return json.dumps(document, indent=2)


def _print_report(settings: Settings, results: Sequence[CheckResult], path: Path | None, now: datetime) -> None:
    console = check_report.create_console()
    for table in (
        check_report.providers_table(settings),
        check_report.workflows_table(settings),
        check_report.clients_table(settings, now),
    ):
        console.print(table)
    for warning in _warnings(settings, now):
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if results:
        console.print(check_report.connections_table(results))
    if not any_failed(results):
        _print_summary(console, settings, path)


def _warnings(settings: Settings, now: datetime) -> Iterator[str]:
    yield from settings.warnings()
    yield from _ambiguous_names(settings)
    keys = {
        **{f"clients.{name}.keys": client.keys for name, client in settings.clients.items()},
        "server.ops_keys": settings.server.ops_keys,
    }
    for location, configured in keys.items():
        for index, key in enumerate(configured):
            if key.expires is not None and key.expires <= now:
                yield f"{location}[{index}]: has expired"


def _ambiguous_names(settings: Settings) -> Iterator[str]:
    """Warnings about names by which an app on a provider's own API cannot choose a workflow."""
    for api, label in (("promptlayer", "PromptLayer"), ("prompt_studio", "Prompt Studio")):
        named: dict[str, list[tuple[str, bool, bool]]] = {}
        for alias, workflow in settings.workflows.items():
            configured = getattr(workflow.aliases, api)
            own = configured is not None or settings.providers[workflow.provider].adapter == api
            pinned = workflow.label is not None or workflow.version is not None
            for name in (workflow.name,) if configured is None else configured:
                named.setdefault(name, []).append((alias, own, pinned))
        for name, found in named.items():
            candidates = [each for each in found if each[1]] or found
            aliases = [alias for alias, _, pinned in candidates if not pinned] or [alias for alias, *_ in candidates]
            if len(aliases) > 1 and name not in settings.workflows:
                yield f"workflows: {', '.join(aliases)} share the name {name} in {label}'s API; only their aliases work"


def _print_summary(console: Console, settings: Settings, path: Path | None) -> None:
    config_name = path or "the configuration of RUNWARD_CONFIG"
    counts = ", ".join(f"{kind}: {len(getattr(settings, kind))}" for kind in ("providers", "workflows", "clients"))
    console.print(f"stored content: {check_report.describe_encryption(settings)}", markup=False, soft_wrap=True)
    console.print(f"tracing: {check_report.describe_tracing(settings)}", markup=False, soft_wrap=True)
    console.print(f"valid: {config_name} ({counts})", style="green", markup=False, soft_wrap=True)
