"""Interface of the loggers of events."""

from __future__ import annotations

from typing import Protocol


class Logger(Protocol):
    """Writes a line for each event: its name and its fields. Loggers of structlog satisfy it too.

    Code outside of this package depends on it alone: a logger that writes JSON does not need structlog, whose import
    takes longer than the whole configuration.
    """

    def debug(self, event: str, **fields: object) -> object:
        """Write a line for developers."""

    def info(self, event: str, **fields: object) -> object:
        """Write a line about normal operation."""

    def warning(self, event: str, **fields: object) -> object:
        """Write a line that needs attention at some time."""

    def error(self, event: str, **fields: object) -> object:
        """Write a line that needs attention now."""

    def log(self, level: int, event: str, **fields: object) -> object:
        """Write a line of any level, as the standard library numbers them."""


class LineOutput(Protocol):
    """Where lines are written to."""

    def write(self, line: bytes) -> None:
        """Write a line, without its line end. Never raises."""
