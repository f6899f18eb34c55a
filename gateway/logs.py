"""One JSON object a line on standard output; readable colours where that is a terminal.

What other libraries log is let through by logger, level and kind of exception only: their texts quote headers.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock

Level = Literal["debug", "info", "warning", "error"]
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NAMES = {number: name for name, number in _LEVELS.items()}


@dataclass(slots=True)
class _Sieve:
    """What is too unimportant to be written. There is one, as there is one standard output."""

    least: int = 0

    def __call__(self, _logger: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS.get(method, 50) < self.least:
            raise structlog.DropEvent
        return fields


_SIEVE = _Sieve()


def configure(
    level: Level, form: Literal["auto", "json", "console"], clock: Clock, **always: object
) -> FilteringBoundLogger:
    """Set up logging for the process and return its logger; every line has the fields of `always`."""
    pretty = form == "console" or (form == "auto" and sys.stdout.isatty())
    people: list[structlog.typing.Processor] = [
        _SIEVE,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _printable,
        structlog.dev.ConsoleRenderer(),
    ]
    if pretty:
        structlog.configure(
            processors=people,
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
            logger_factory=structlog.WriteLoggerFactory(),
        )
    else:
        structlog.configure(
            wrapper_class=type("Lines", (_Lines,), {"clock": clock}),
            logger_factory=structlog.BytesLoggerFactory(_output()),
        )
    # Bound at once: the lazy one that get_logger returns looks itself up for every line.
    logger = cast("FilteringBoundLogger", structlog.get_logger().bind(**always))
    logging.basicConfig(handlers=[_Others(logger)], force=True)
    set_level(level)
    return logger


def set_level(level: Level) -> None:
    """Write what is at least as important as this, from now on."""
    _SIEVE.least = _LEVELS[level]
    logging.getLogger().setLevel(_LEVELS[level])


def watch_loop(loop: AbstractEventLoop, logger: FilteringBoundLogger) -> None:
    """Log what nobody awaited, without its text."""

    def handle(_loop: AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        logger.error("unhandled", **describe(error if isinstance(error, BaseException) else None))

    loop.set_exception_handler(handle)


def describe(error: BaseException | None) -> dict[str, object]:
    """An exception as log fields: what kind it is and where it was raised, never what it says."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"exception": type(error).__qualname__, "places": places}


class _Others(logging.Handler):
    """The standard library's loggers, without their words."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields = describe(record.exc_info[1] if record.exc_info else None)
        level = min(max(record.levelno // 10 * 10, 10), 50)  # libraries have levels between ours
        self._logger.log(level, "library", logger=record.name, **fields)


def _printable(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names come from clients, and a terminal obeys control characters."""
    return {
        k: "".join(c if c.isprintable() else "?" for c in v) if isinstance(v, str) else v for k, v in fields.items()
    }


class _Lines(structlog.BoundLoggerBase):
    """Writes a JSON line in one step: structlog's own way to it, through a chain of processors, costs twice as much."""

    clock: Clock

    def debug(self, event: str, **fields: object) -> None:
        """What only a developer wants to know."""
        self.log(10, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """What happens all day."""
        if _SIEVE.least <= 20:
            line = {"time": self.clock.now(), "level": "info", "event": event, **self._context, **fields}
            self._logger.msg(_line(line))

    def warning(self, event: str, **fields: object) -> None:
        """What somebody should look at some time."""
        self.log(30, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """What somebody should look at now."""
        self.log(40, event, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Any of them."""
        if level >= _SIEVE.least:
            name = _NAMES.get(level, "critical")
            line = {"time": self.clock.now(), "level": name, "event": event, **self._context, **fields}
            self._logger.msg(_line(line))


def _line(line: Mapping[str, object]) -> bytes:
    try:
        written = orjson.dumps(line, option=orjson.OPT_UTC_Z)
    except TypeError:  # lone surrogates, from raw bytes in a header
        written = orjson.dumps({key: _writable(value) for key, value in line.items()}, option=orjson.OPT_UTC_Z)
    if written.isascii():
        return written
    # For some readers U+2028 ends a line, for some terminals U+009B begins a command.
    return json.dumps(orjson.loads(written), separators=(",", ":")).encode()


def _writable(value: object) -> object:
    """The value, or its text with everything escaped that UTF-8 does not have."""
    if value is None or isinstance(value, float | datetime) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


def _output() -> BinaryIO:
    return cast("BinaryIO", _Output(sys.stdout.buffer))


class _Output:
    """Where lines go. A full disk or a reader that left costs log lines, not the answer of a run that was paid for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: bytes) -> None:
        with suppress(OSError, ValueError):
            self._file.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._file.flush()
