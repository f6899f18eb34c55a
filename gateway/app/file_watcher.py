"""File watcher for hot reload: reports when files of the configuration may have changed.

Folders are watched instead of files: editors replace a file by another, and Kubernetes replaces the link `..data`
beside it. Only changes of the configuration's own file names are reported, as a log may be written to the same folder.
A rescan every few seconds covers what the system does not report: links to other folders, network file systems, an
exhausted number of inotify watches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.settings import WatchedPaths

_RESCAN_INTERVAL = 2.0  # seconds
_COALESCE_MS = 50  # milliseconds; changes within this time are reported together
_KUBERNETES_DATA_LINK = "..data"

# At INFO it logs every change of a watched folder; a log that is written there would log itself endlessly.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

Awatch: TypeAlias = Callable[..., AsyncIterator[object]]
"""`awatch` of watchfiles."""


async def watch_config_files(
    find_watched: Callable[[], WatchedPaths], clock: Clock, log: Logger
) -> AsyncIterator[None]:
    """Yield whenever the files should be compared with their last state; never ends.

    `find_watched` is called again after each change, in a thread, as it may read the disk.
    """
    awatch = await asyncio.to_thread(_import_awatch)
    while True:
        watched = await asyncio.to_thread(find_watched)
        try:
            async for _ in _watch_folders(awatch, watched, clock):
                yield
                if await asyncio.to_thread(find_watched) != watched:
                    break
        except (OSError, RuntimeError):  # no inotify, no watches left, or a folder was removed meanwhile
            log.debug("not_watched")
            await clock.sleep(_RESCAN_INTERVAL)
            yield


def _import_awatch() -> Awatch:
    """Import watchfiles and anyio: after the start, which they would make longer."""
    from watchfiles import awatch

    return awatch


def _watch_folders(awatch: Awatch, watched: WatchedPaths, clock: Clock) -> AsyncIterator[object]:
    return awatch(
        *watched.folders,
        watch_filter=_ChangeFilter(watched.names, clock),
        step=_COALESCE_MS,
        rust_timeout=int(_RESCAN_INTERVAL * 1000),
        yield_on_timeout=True,
        recursive=False,
    )


class _ChangeFilter:
    """Passes changes of the named files, and one other change per rescan interval.

    The latter replaces the timeout of `awatch`, which never occurs in a folder with constant changes.
    """

    def __init__(self, names: frozenset[str], clock: Clock) -> None:
        self._names = names | {_KUBERNETES_DATA_LINK}
        self._clock = clock
        self._passed_at = clock.monotonic()

    def __call__(self, _change: object, path: str) -> bool:
        now = self._clock.monotonic()
        if Path(path).name not in self._names and now - self._passed_at < _RESCAN_INTERVAL:
            return False
        self._passed_at = now
        return True
