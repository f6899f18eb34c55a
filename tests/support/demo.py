"""`runward demo` as a process."""

from __future__ import annotations

import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.process import GatewayProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def demo(*words: str) -> AsyncIterator[GatewayProcess]:
    """Start a demo on free or given ports, and wait for its banner."""
    command = [sys.executable, "-m", "gateway", "demo", *(words or ("--port", "0", "--ops-port", "0"))]
    with tempfile.TemporaryDirectory() as directory:
        running = GatewayProcess(command, Path(directory), {})
        try:
            await running.wait_until_listening()
            await wait_until(lambda: "Ctrl-C" in running.stdout)
            yield running
        finally:
            await running.kill()
