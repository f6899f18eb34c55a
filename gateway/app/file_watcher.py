"""Says when a configuration's files may have changed: at the system's word, and every few seconds in any case.

The folders are watched, not the files: editors replace a file by another, Kubernetes the link `..data` beside it. The
looks in between are for what the system does not tell: links that lead elsewhere, network drives, no more watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger
from watchfiles import awatch

from gateway.clock import Clock

_RESCAN_INTERVAL = 2.0  # seconds
_COALESCE_MS = 50  # changes that come so close together are told as one


async def watch_config_files(
    folders: Callable[[], frozenset[Path]], clock: Clock, log: FilteringBoundLogger
) -> AsyncIterator[None]:
    """Yield at each moment at which to look, for ever. `folders` is asked again each time, and may read the disk."""
    while True:
        watched = await asyncio.to_thread(folders)
        try:
            async for _ in _watch_folders(watched):
                yield
                if await asyncio.to_thread(folders) != watched:
                    break
        except (OSError, RuntimeError):  # no inotify here, or its watches are used up; or a folder has just gone
            log.debug("not_watched")
            await clock.sleep(_RESCAN_INTERVAL)
            yield


def _watch_folders(folders: frozenset[Path]) -> AsyncIterator[object]:
    return awatch(
        *folders,
        watch_filter=None,
        step=_COALESCE_MS,
        rust_timeout=int(_RESCAN_INTERVAL * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
