"""Level of the log at run time: the configured one, or one that an operator has set, for some time or until undone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.json_logging import LOG_LEVELS, LogLevel
from gateway.observability.logger_protocol import Logger

_NO_END = "-"


@dataclass(frozen=True, slots=True)
class LevelOverride:
    """A level that an operator has set. `ends_at`: None if it stays until it is undone, or the process ends."""

    level: LogLevel
    ends_at: datetime | None = None


@dataclass(slots=True)
class LevelControl:
    """Level of the log of this process. `configured`: that of the configuration in use."""

    configured: LogLevel
    clock: Clock
    log: Logger
    override: LevelOverride | None = None
    _timer: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def level(self) -> LogLevel:
        """The level that is in effect."""
        return self.configured if self.override is None else self.override.level

    def reconfigure(self, level: LogLevel) -> None:
        """Set the configured level; an override stays in effect."""
        before, self.configured = self.level, level
        self._apply(before, "configuration")

    def set_override(self, level: LogLevel | None, seconds: float | None = None) -> None:
        """Set the level for `seconds`, or without an end; None undoes that. Needs a running event loop."""
        before = self.level
        self.close()
        if level is None:
            self.override = None
        else:
            ends_at = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
            self.override = LevelOverride(level, ends_at)
            if seconds is not None:
                self._timer = asyncio.create_task(self._expire(seconds))
        self._apply(before, "operator")

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _expire(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        before, self.override, self._timer = self.level, None, None
        self._apply(before, "expired")

    def _apply(self, before: LogLevel, why: str) -> None:
        """Set the level, and log a change whichever of both levels it is below."""
        if self.level != before:
            json_logging.set_level(min(before, self.level, key=LOG_LEVELS.index))
            self.log.warning("log_level_changed", old_level=before, new_level=self.level, why=why)
        json_logging.set_level(self.level)

    def encode_override(self) -> str:
        """Return the override for a worker process: its level, or "-", and the seconds that remain, or "-"."""
        if self.override is None:
            return f"{_NO_END} {_NO_END}"
        if self.override.ends_at is None:
            return f"{self.override.level} {_NO_END}"
        remaining = (self.override.ends_at - self.clock.now()).total_seconds()
        return f"{self.override.level} {max(remaining, 0.0):.3f}"

    def apply_encoded(self, text: str) -> None:
        """Set the override that another process has encoded; any other text is ignored."""
        level, _, seconds = text.partition(" ")
        found = next((each for each in LOG_LEVELS if each == level), None)
        if found is not None or level == _NO_END:
            self.set_override(found, None if seconds == _NO_END else float(seconds))
