"""Logging: one JSON object a line on standard output, or coloured text on a terminal.

Records of other libraries are reduced to logger, level and class of the exception, because their texts quote headers.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal

import orjson

from gateway.clock import Clock
from gateway.observability.log_writer import LogWriter
from gateway.observability.logger_protocol import LineOutput, Logger

LogLevel = Literal["debug", "info", "warning", "error"]
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")
"""All levels, from the lowest."""
_LEVEL_NAMES = {number: name for name, number in _LEVELS.items()}


@dataclass(slots=True)
class _LevelFilter:
    """Level filter of the process."""

    threshold: int = 0

    def is_enabled(self, level: str) -> bool:
        """Return True if lines of this level are written."""
        return _LEVELS.get(level, 50) >= self.threshold


_LEVEL_FILTER = _LevelFilter()


def configure(
    level: LogLevel, output_format: Literal["auto", "json", "console"], clock: Clock, **bound_fields: object
) -> Logger:
    """Configure logging of the process and return its logger; every line has `bound_fields`."""
    output = _standard_output()
    logger: Logger
    if output_format == "console" or (output_format == "auto" and sys.stdout.isatty()):
        from gateway.observability.console_logger import create_console_logger

        logger = create_console_logger(output, _LEVEL_FILTER.is_enabled, bound_fields)
    else:
        logger = _JsonLogger(output, clock, bound_fields)
    logging.basicConfig(handlers=[_StdlibHandler(logger)], force=True)
    set_level(level)
    return logger


def set_level(level: LogLevel) -> None:
    """Set the minimum level."""
    _LEVEL_FILTER.threshold = _LEVELS[level]
    logging.getLogger().setLevel(_LEVELS[level])


def log_unhandled_exceptions(loop: AbstractEventLoop, logger: Logger) -> None:
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

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields = describe_exception(record.exc_info[1] if record.exc_info else None)
        level = min(max(record.levelno // 10 * 10, 10), 50)  # rounds custom levels down
        self._logger.log(level, "third_party", logger=record.name, **fields)


@dataclass(frozen=True, slots=True)
class _JsonLogger:
    """Writes a JSON line for each event; every line has `bound_fields`."""

    output: LineOutput
    clock: Clock
    bound_fields: Mapping[str, object]

    def debug(self, event: str, **fields: object) -> None:
        """Write a line for developers."""
        self.log(10, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Write a line about normal operation."""
        log_fields(self, event, fields)

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
            entry = {"time": self.clock.now(), "level": name, "event": event, **self.bound_fields, **fields}
            self.output.write(_encode_line(entry))


def log_fields(to: Logger, event: str, fields: Mapping[str, object]) -> None:
    """Write a line as `to.info(event, **fields)`, which would copy the mapping twice: for lines of requests."""
    if not isinstance(to, _JsonLogger):
        to.info(event, **fields)
    elif _LEVEL_FILTER.threshold <= 20:
        entry = {"time": to.clock.now(), "level": "info", "event": event, **to.bound_fields, **fields}
        to.output.write(_encode_line(entry))


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
