"""Waits for conditions on other processes, threads or tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_TIMEOUT = 30.0
"""Seconds for what must happen; a machine that is busy with other tests is not a failure."""


async def wait_until(condition: Callable[[], object], seconds: float = WAIT_TIMEOUT) -> None:
    """Return once `condition` holds. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
