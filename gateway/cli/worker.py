"""`runward worker`: worker process of `runward serve --workers`."""

from __future__ import annotations

from pathlib import Path

from gateway.app.application import ignore_signals
from gateway.cli.errors import CliError
from gateway.cli.serve import asyncio_runner, startup_errors
from gateway.clock import SystemClock
from gateway.observability import json_logging
from gateway.settings import ConfigFiles
from gateway.supervisor import worker_main
from gateway.supervisor.worker_spec import WorkerSpec


def worker(spec_json: str, config: Path | None) -> None:
    """Serve as the worker that `spec_json` describes. Raises CliError as `serve` does."""
    try:
        spec = WorkerSpec.parse(spec_json)
    except ValueError:
        raise CliError("only `runward serve --workers` starts workers") from None
    source = ConfigFiles(config)
    with startup_errors():
        settings = spec.apply_to(source.load())

    async def main() -> None:
        clock = SystemClock()
        log = json_logging.configure(settings.logs.level, settings.logs.format, clock, worker=spec.worker)
        with startup_errors():
            await worker_main.run_worker(spec, settings, clock, log, source)

    asyncio_runner()(main())
    ignore_signals()
