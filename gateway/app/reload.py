"""Hot reload: replaces the configuration of a running gateway atomically, or rejects the new one as a whole.

A new snapshot is built beside the one in use and applied between two steps of the event loop. Connections stay open; a
run keeps the workflow that it started with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pydantic import BaseModel

from gateway.app.file_watcher import watch_config_files
from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.app.system_audit import SystemAudit
from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.settings import Settings, SettingsError, WatchedPaths

ReloadHook: TypeAlias = Callable[[ConfigSnapshot], None]
"""Applies a part of a snapshot. Must not fail: everything that can fail happens in `build_snapshot`."""

_DEBOUNCE_SECONDS = 0.25  # quiet period after a change
_MAX_DEBOUNCE_ROUNDS = 10
_REST_SECONDS = 1.0  # after a reload that a change caused; bounds the rate for files that change constantly

_RELOADABLE = {
    *(
        "providers",
        "workflows",
        "clients",
        "teams",
        "budgets",
        "issuers",
        "console",
        "callbacks",
        "attention",
        "audit",
        "history",
        "content",
        "retries",
        "breaker",
        "polling",
        "usage",
    ),
    *("logs.level", "logs.sample", "logs.slow", "store.retention", "server.tls", "server.ops_tls", "server.ops_keys"),
}
"""Settings that reload hooks apply; all others need a restart."""


class ConfigSource(Protocol):
    """Source of the configuration. Its methods may read the disk; they are called in a thread, one at a time."""

    def load(self) -> Settings:
        """Load and check the configuration. Raises SettingsError."""

    def changed(self) -> bool:
        """Return True if the configuration may differ from the one loaded last."""

    def watched(self) -> WatchedPaths:
        """Folders and names of its files."""


@dataclass(slots=True)
class Reloader:
    """Replaces the snapshot in use by the next one, after a change of its files or on `request`."""

    source: ConfigSource
    snapshot: ConfigSnapshot
    hooks: Sequence[ReloadHook]
    clock: Clock
    metrics: Metrics
    log: Logger
    audit: SystemAudit | None = None
    on_done: Callable[[], object] = lambda: None
    _startup_settings: Settings = field(init=False)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _forced: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._startup_settings = self.snapshot.settings

    def start(self) -> None:
        """Start watching the files."""
        self._tasks = [asyncio.create_task(self._watch_files()), asyncio.create_task(self._reload_loop())]

    def request(self) -> None:
        """Schedule a reload even if nothing has changed. Idempotent until it runs."""
        self._forced = True
        self._wakeup.set()

    def request_if_changed(self) -> None:
        """Schedule a reload that is skipped if nothing has changed."""
        self._wakeup.set()

    async def close(self) -> None:
        """Stop watching; the snapshot in use stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reload_once(self) -> None:
        """Load and apply the configuration, or log the reasons for rejecting it."""
        settings: Settings | None = None
        try:
            settings = await asyncio.to_thread(self.source.load)
            snapshot = await asyncio.to_thread(build_snapshot, settings, self.clock, self.metrics, self.snapshot)
        except SettingsError as error:
            self._refuse(settings, errors=len(error.errors))
            self.log.error("reload_refused", places=[f"{place}: {message}" for place, message in error.errors])
            return
        except Exception as unexpected:  # noqa: BLE001 - an unexpected defect must not stop the running gateway
            self._refuse(settings, errors=1)
            self.log.error("reload_refused", **json_logging.describe_exception(unexpected))
            return
        if self.audit is None:
            self._apply(snapshot)
        else:
            async with self.audit.reload(self.snapshot.settings, snapshot.settings):
                self._apply(snapshot)

    def _refuse(self, settings: Settings | None, *, errors: int) -> None:
        self.metrics.config_reload_refused()
        if self.audit is not None:
            self.audit.reload_refused(self.snapshot.settings, settings, errors)

    def _apply(self, snapshot: ConfigSnapshot) -> None:
        previous, self.snapshot = self.snapshot, snapshot
        for name, replacement in snapshot.replacements.items():
            snapshot.upstreams[name].reconfigure(replacement)
        for hook in self.hooks:
            hook(snapshot)
        for upstream in set(previous.upstreams.values()) - set(snapshot.upstreams.values()):
            upstream.stop_pooling()
        self._log_applied(snapshot)

    def _log_applied(self, snapshot: ConfigSnapshot) -> None:
        self.metrics.config_reloaded(self.clock.now())
        self.log.info(
            "reloaded",
            providers=len(snapshot.providers),
            workflows=len(snapshot.workflows),
            clients=len(snapshot.clients),
        )
        needs_restart = list(restart_only_settings(self._startup_settings, snapshot.settings))
        if needs_restart:
            self.log.warning("needs_restart", settings=needs_restart)

    async def _watch_files(self) -> None:
        async for _ in watch_config_files(self.source.watched, self.clock, self.log):
            self.request_if_changed()

    async def _reload_loop(self) -> None:
        while True:
            await self._wakeup.wait()
            await self._debounce()
            forced, self._forced = self._forced, False
            if forced or await asyncio.to_thread(self.source.changed):
                await self.reload_once()
                self.on_done()
                if not forced:
                    await self.clock.sleep(_REST_SECONDS)

    async def _debounce(self) -> None:
        """Wait for the end of a burst of changes, at most `_MAX_DEBOUNCE_ROUNDS` quiet periods."""
        for _ in range(_MAX_DEBOUNCE_ROUNDS):
            self._wakeup.clear()
            await self.clock.sleep(_DEBOUNCE_SECONDS)
            if not self._wakeup.is_set():
                return


def restart_only_settings(startup: Settings, current: Settings) -> Iterator[str]:
    """Settings, as the file names them, that differ from those at startup and take effect only after a restart."""
    for section in sorted(set(Settings.model_fields) - _RELOADABLE):
        before, after = getattr(startup, section), getattr(current, section)
        if not isinstance(before, BaseModel):
            yield from (section,) if before != after else ()
            continue
        for name, setting in type(before).model_fields.items():
            if f"{section}.{name}" not in _RELOADABLE and getattr(before, name) != getattr(after, name):
                yield f"{section}.{setting.alias or name}"
    tls: dict[str, Callable[[Settings], object]] = {
        "server.tls": lambda s: s.server.tls,
        "server.ops_tls": lambda s: s.server.resolved_ops_tls,
    }
    # Certificates are replaced while a port is open; switching TLS on or off needs a new port.
    yield from (name for name, of in tls.items() if (of(startup) is None) != (of(current) is None))
