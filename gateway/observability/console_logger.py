"""Logger of coloured text for terminals. Only this module uses structlog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.observability.logger_protocol import LineOutput, Logger


def create_console_logger(
    output: LineOutput, is_enabled: Callable[[str], bool], bound_fields: Mapping[str, object]
) -> Logger:
    """Return a logger whose lines have `bound_fields`; `is_enabled` tells whether lines of a level are written."""

    def filter_level(_logger: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if not is_enabled(method):
            raise structlog.DropEvent
        return fields

    logger: Logger = structlog.wrap_logger(
        _TextLogger(output),
        processors=[
            filter_level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _replace_control_characters,
            structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(10),
    ).bind(**bound_fields)
    return logger


def _replace_control_characters(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace control characters: names come from clients, and a terminal interprets escape sequences."""
    return {
        k: "".join(c if c.isprintable() else "?" for c in v) if isinstance(v, str) else v for k, v in fields.items()
    }


@dataclass(frozen=True, slots=True)
class _TextLogger:
    """Logger of rendered text for structlog, which calls the method of the level."""

    output: LineOutput

    def msg(self, text: str) -> None:
        """Write a line."""
        self.output.write(text.encode("utf-8", "backslashreplace"))

    debug = info = warning = error = critical = msg
