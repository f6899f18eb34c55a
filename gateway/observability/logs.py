"""Logging: one JSON object a line on standard output, or coloured text on a terminal.

Records of other libraries are reduced to logger, level and class of the exception, because their texts quote headers.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal, Protocol, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.observability.log_writer import LogWriter

LogLevel = Literal["debug", "info", "warning", "error"]
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LEVEL_NAMES = {number: name for name, number in _LEVELS.items()}


@dataclass(slots=True)
class _LevelFilter:
    """Level filter of the process."""

    threshold: int = 0

    def __call__(self, _logger: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS.get(method, 50) < self.threshold:
            raise structlog.DropEvent
        return fields


_LEVEL_FILTER = _LevelFilter()


def configure(
    level: LogLevel, output_format: Literal["auto", "json", "console"], clock: Clock, **bound_fields: object
) -> FilteringBoundLogger:
    """Configure logging of the process and return its logger; every line has `bound_fields`."""
    use_console = output_format == "console" or (output_format == "auto" and sys.stdout.isatty())
    output = _standard_output()
    console_processors: list[structlog.typing.Processor] = [
        _LEVEL_FILTER,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _replace_control_characters,
        structlog.dev.ConsoleRenderer(),
    ]
    if use_console:
        structlog.configure(
            processors=console_processors,
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
            logger_factory=lambda *_: _TextLogger(output),
        )
    else:
        structlog.configure(
            wrapper_class=type("JsonLogger", (_JsonLogger,), {"clock": clock}),
            logger_factory=lambda *_: output,
        )
    # Bound at once, because the lazy proxy of get_logger repeats its look-up for every line.
    logger = cast("FilteringBoundLogger", structlog.get_logger().bind(**bound_fields))
    logging.basicConfig(handlers=[_StdlibHandler(logger)], force=True)
    set_level(level)
    return logger


def set_level(level: LogLevel) -> None:
    """Set the minimum level."""
    _LEVEL_FILTER.threshold = _LEVELS[level]
    logging.getLogger().setLevel(_LEVELS[level])


def log_unhandled_exceptions(loop: AbstractEventLoop, logger: FilteringBoundLogger) -> None:
    """Log exceptions that no task retrieved, without their text."""

    def handle(_loop: AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        logger.error("unhandled", **describe_exception(error if isinstance(error, BaseException) else None))

    loop.set_exception_handler(handle)


def describe_exception(error: BaseException | None) -> dict[str, object]:
    """Return the class and traceback of an exception as log fields, without its text."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    locations = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"exception": type(error).__qualname__, "places": locations}


class _StdlibHandler(logging.Handler):
    """Handler for the loggers of the standard library; drops the message."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields = describe_exception(record.exc_info[1] if record.exc_info else None)
        level = min(max(record.levelno // 10 * 10, 10), 50)  # rounds custom levels down
        self._logger.log(level, "third_party", logger=record.name, **fields)


def _replace_control_characters(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace control characters: names come from clients, and a terminal interprets escape sequences."""
    return {
        k: "".join(c if c.isprintable() else "?" for c in v) if isinstance(v, str) else v for k, v in fields.items()
    }


class _JsonLogger(structlog.BoundLoggerBase):
    """Writes a JSON line in one step; the processor chain of structlog takes twice as long."""

    clock: Clock

    def debug(self, event: str, **fields: object) -> None:
        """Write a line for developers."""
        self.log(10, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Write a line about normal operation."""
        if _LEVEL_FILTER.threshold <= 20:
            entry = {"time": self.clock.now(), "level": "info", "event": event, **self._context, **fields}
            self._logger.write(_encode_line(entry))

    def warning(self, event: str, **fields: object) -> None:
        """Write a line that needs attention at some time."""
        self.log(30, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Write a line that needs attention now."""
        self.log(40, event, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Write a line of any level."""
        if level >= _LEVEL_FILTER.threshold:
            name = _LEVEL_NAMES.get(level, "critical")
            entry = {"time": self.clock.now(), "level": name, "event": event, **self._context, **fields}
            self._logger.write(_encode_line(entry))


def _encode_line(entry: Mapping[str, object]) -> bytes:
    try:
        encoded = orjson.dumps(entry, option=orjson.OPT_UTC_Z)
    except TypeError:  # lone surrogates from raw header bytes
        encoded = orjson.dumps({key: _encodable(value) for key, value in entry.items()}, option=orjson.OPT_UTC_Z)
    if encoded.isascii():
        return encoded
    # Some readers end a line at U+2028, and some terminals interpret U+009B.
    return json.dumps(orjson.loads(encoded), separators=(",", ":")).encode()


def _encodable(value: object) -> object:
    """Return the value, or its text with lone surrogates escaped."""
    if value is None or isinstance(value, float | datetime) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


class LineOutput(Protocol):
    """Where lines are written to."""

    def write(self, line: bytes) -> None:
        """Write a line, without its line end. Never raises."""


_writer: LogWriter | None = None


def count_dropped_lines(report: Callable[[int], object]) -> None:
    """Call `report` with the number of lines that could not be written; from any thread."""
    if _writer is not None:
        _writer.report_dropped(report)


def _standard_output() -> LineOutput:
    """Return the writer of the process; where standard output is no file of the system, the object itself."""
    global _writer  # noqa: PLW0603 - standard output is one of a process
    try:
        descriptor = sys.stdout.buffer.fileno()
    except (OSError, ValueError, AttributeError):
        return _DirectOutput(sys.stdout.buffer)
    if _writer is None:
        _writer = LogWriter(descriptor)
    return _writer


@dataclass(frozen=True, slots=True)
class _DirectOutput:
    """Output that ignores errors: a failed write must not fail a request."""

    file: BinaryIO

    def write(self, line: bytes) -> None:
        with suppress(OSError, ValueError):
            self.file.write(line + b"\n")
            self.file.flush()


@dataclass(frozen=True, slots=True)
class _TextLogger:
    """Logger of rendered text for structlog, which calls the method of the level."""

    output: LineOutput

    def msg(self, text: str) -> None:
        """Write a line."""
        self.output.write(text.encode("utf-8", "backslashreplace"))

    debug = info = warning = error = critical = msg
