"""Changes the configuration of a running gateway: all of it that can be changed, or nothing.

Everything new is built first, beside what is in use. Only if that worked it is swapped in, between two steps of the
event loop. Connections stay open; a run keeps the workflow that it began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from pydantic import BaseModel
from structlog.typing import FilteringBoundLogger

from gateway.app.file_watcher import watch_config_files
from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.clock import Clock
from gateway.observability import logs
from gateway.observability.metrics import Metrics
from gateway.settings import Settings, SettingsError

ReloadHook: TypeAlias = Callable[[ConfigSnapshot], None]
"""Puts a part of a plan to use. It can not fail: whatever can was done when the plan was drawn."""

_DEBOUNCE_SECONDS = 0.25  # seconds without a change
_MAX_DEBOUNCE_ROUNDS = 10  # times that

_RELOADABLE = {
    *("providers", "workflows", "clients", "callbacks", "retries", "breaker", "polling"),
    *("logs.level", "store.retention"),
}
"""The settings that a plan's swaps put to use; all others need a restart."""


class ConfigSource(Protocol):
    """Where the configuration comes from. The methods may read the disk, and are called in a thread, one at a time."""

    def load(self) -> Settings:
        """Load and check it. Raises SettingsError."""

    def changed(self) -> bool:
        """Whether it may be another one than when it was loaded last."""

    def folders(self) -> frozenset[Path]:
        """Where the files are."""


@dataclass(slots=True)
class Reloader:
    """Swaps the `plan` in use for the next one, on a change of its files or on `ask`."""

    source: ConfigSource
    snapshot: ConfigSnapshot
    hooks: Sequence[ReloadHook]
    clock: Clock
    metrics: Metrics
    log: FilteringBoundLogger
    _startup_settings: Settings = field(init=False)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _forced: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._startup_settings = self.snapshot.settings

    def start(self) -> None:
        """Watch the files from now on."""
        self._tasks = [asyncio.create_task(self._watch_files()), asyncio.create_task(self._reload_loop())]

    def request(self) -> None:
        """Reload soon, whether anything has changed or not. To ask twice is to ask once."""
        self._forced = True
        self._wakeup.set()

    def request_if_changed(self) -> None:
        """Reload soon, if anything has changed."""
        self._wakeup.set()

    async def close(self) -> None:
        """Stay with what there is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reload_once(self) -> None:
        """Load the configuration and put it to use, or say why not."""
        try:
            snapshot = await asyncio.to_thread(self._build_snapshot)
        except SettingsError as error:
            self._reject(places=[f"{place}: {message}" for place, message in error.errors])
            return
        except Exception as unexpected:  # noqa: BLE001 - whatever it is, what runs has to go on
            self._reject(**logs.describe_exception(unexpected))
            return
        previous, self.snapshot = self.snapshot, snapshot
        for name, replacement in snapshot.replacements.items():
            snapshot.upstreams[name].reconfigure(replacement)
        for hook in self.hooks:
            hook(snapshot)
        for upstream in set(previous.upstreams.values()) - set(snapshot.upstreams.values()):
            upstream.stop_pooling()
        self._log_applied(snapshot)

    def _build_snapshot(self) -> ConfigSnapshot:
        return build_snapshot(self.source.load(), self.clock, self.metrics, self.snapshot)

    def _reject(self, **fields: object) -> None:
        self.metrics.config_reload_refused()
        self.log.error("reload_refused", **fields)

    def _log_applied(self, snapshot: ConfigSnapshot) -> None:
        self.metrics.config_reloaded(self.clock.now())
        counts = {kind: len(getattr(snapshot, kind)) for kind in ("providers", "workflows", "clients")}
        self.log.info("reloaded", **counts)
        needs_restart = list(restart_only_settings(self._startup_settings, snapshot.settings))
        if needs_restart:
            self.log.warning("needs_restart", settings=needs_restart)

    async def _watch_files(self) -> None:
        async for _ in watch_config_files(self.source.folders, self.clock, self.log):
            self.request_if_changed()

    async def _reload_loop(self) -> None:
        while True:
            await self._wakeup.wait()
            await self._debounce()
            forced, self._forced = self._forced, False
            if forced or await asyncio.to_thread(self.source.changed):
                await self.reload_once()

    async def _debounce(self) -> None:
        """Let a burst of changes come to its end; where it has none, be content with what there is."""
        for _ in range(_MAX_DEBOUNCE_ROUNDS):
            self._wakeup.clear()
            await self.clock.sleep(_DEBOUNCE_SECONDS)
            if not self._wakeup.is_set():
                return


def restart_only_settings(startup: Settings, current: Settings) -> Iterator[str]:
    """The settings that are wanted otherwise than the gateway was started with, and that it can not change now."""
    for section in sorted(set(Settings.model_fields) - _RELOADABLE):
        before, after = getattr(startup, section), getattr(current, section)
        if not isinstance(before, BaseModel):
            yield from (section,) if before != after else ()
            continue
        for name in type(before).model_fields:
            if f"{section}.{name}" not in _RELOADABLE and getattr(before, name) != getattr(after, name):
                yield f"{section}.{name}"
