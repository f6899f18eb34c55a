"""`runward serve --workers` without the check for a shared store.

Usage: `python -m tests.supervisor.run_supervisor CONFIG COUNT`. The processes are under test, so a memory store in each
worker is sufficient.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.cli.serve import asyncio_runner
from gateway.clock import SystemClock
from gateway.observability import json_logging
from gateway.settings import ConfigFiles
from gateway.supervisor.supervisor import supervise


def main(config: str, count: str) -> None:
    """Serve; the exit code is 0 if all processes ended cleanly."""
    source = ConfigFiles(Path(config))
    settings = source.load()
    command = [sys.executable, "-P", "-m", "gateway", "worker", "--config", config]

    async def work() -> None:
        clock = SystemClock()
        log = json_logging.configure(settings.logs.level, settings.logs.format, clock)
        if not await supervise(settings, int(count), command, clock, log, source=source):
            sys.exit(1)

    asyncio_runner()(work())


if __name__ == "__main__":
    main(*sys.argv[1:])
