"""Log lines: one JSON object each, without text of other libraries."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from tests.support.clock import ManualClock

Line: TypeAlias = dict[str, object]


@dataclass
class CapturedOutput:
    """Captured standard output."""

    _capture: pytest.CaptureFixture[bytes]
    _kept: bytes = b""

    @property
    def text(self) -> bytes:
        """All output."""
        self._kept += self._capture.readouterr().out
        return self._kept

    @property
    def lines(self) -> list[Line]:
        """Return the parsed log entries. Raises ValueError if a line is not JSON."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Restore the logging of the process, which pytest uses too."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture
def output(capsysbinary: pytest.CaptureFixture[bytes]) -> CapturedOutput:
    """Captured standard output."""
    return CapturedOutput(capsysbinary)


def debug_logger() -> Logger:
    """Logger of every level that writes JSON; created in the test, as each test phase has another standard output."""
    return json_logging.configure("debug", "json", ManualClock())


def test_a_line_is_an_object_with_time_level_and_event(output: CapturedOutput) -> None:
    debug_logger().warning("request", ms=1.5, client=None)
    assert [
        {"time": "2026-11-21T12:00:00Z", "level": "warning", "event": "request", "ms": 1.5, "client": None}
    ] == output.lines


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_lines_below_the_level_are_not_written(
    output: CapturedOutput, level: Literal["debug", "info", "warning", "error"]
) -> None:
    log = json_logging.configure(level, "json", ManualClock())
    names = ["debug", "info", "warning", "error"]
    for name in names:
        getattr(log, name)("x")
        logging.getLogger("library").log(getattr(logging, name.upper()), "x")
    expected = [name for name in names[names.index(level) :] for _ in range(2)]
    assert expected == [line["level"] for line in output.lines]


@pytest.mark.parametrize(
    "value",
    ['\n{"level":"error"}', "\x1b[31mred\x1b[0m", "\u2028", "\r\nSet-Cookie: a=b", "\x00", "\udcff\udc80", '"', "\\"],
)
def test_a_value_stays_within_its_line(output: CapturedOutput, value: str) -> None:
    """R73: line ends, ANSI codes, quotes, and lone surrogates from raw header bytes."""
    debug_logger().info("request", id=value, status=200)
    [line] = output.lines
    assert ("info", 200, "2026-11-21T12:00:00Z") == (line["level"], line["status"], line["time"])
    assert value.encode("utf-8", "backslashreplace").decode() == line["id"]
    assert b"\x1b" not in output.text


# A machine that is busy with other tests makes neither the lines nor the logger wrong.
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1).filter(
            lambda name: name not in {"event", "self"}
        ),
        st.text() | st.integers() | st.floats() | st.binary() | st.none() | st.just(Path("/")) | st.just(object()),
    )
)
def test_whatever_is_logged_each_call_writes_one_object(output: CapturedOutput, fields: dict[str, object]) -> None:
    """R73: logging never raises, and always writes JSON."""
    log = debug_logger()
    before = len(output.lines)
    log.info("event", **fields)
    assert before + 1 == len(output.lines)


@pytest.mark.parametrize("form", ["json", "console"])
def test_bound_fields_are_in_every_line(output: CapturedOutput, form: Literal["json", "console"]) -> None:
    """R91: in lines of the gateway at every level, and of libraries."""
    log = json_logging.configure("debug", form, ManualClock(), place=7)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event", status=200)
    logging.getLogger("library").warning("text")
    written = re.sub(rb"\x1b\[[0-9;]*m", b"", output.text).splitlines()
    assert 5 == len(written) == len([line for line in written if re.search(rb'place(=|":)7\b', line)])


def test_a_library_message_is_logged_without_its_text(output: CapturedOutput) -> None:
    """R79: messages of aiohttp and asyncio quote requests, which contain keys."""
    debug_logger()
    try:
        raise ValueError("CANARY")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("CANARY %s", "CANARY", extra={"more": "CANARY"})
    [line] = output.lines
    assert ("third_party", "error", "aiohttp.server") == (line["event"], line["level"], line["logger"])
    assert "ValueError" == line["exception"]
    assert "CANARY" not in json.dumps(line)


@pytest.mark.parametrize(
    ("number", "level"),
    [(1, "debug"), (10, "debug"), (15, "debug"), (25, "info"), (30, "warning"), (50, "critical"), (99, "critical")],
)
def test_a_library_may_have_levels_of_its_own(output: CapturedOutput, number: int, level: str) -> None:
    """An unknown level must not raise in the library."""
    debug_logger()
    logger = logging.getLogger("library")
    logger.handle(logger.makeRecord("library", number, "", 0, "text", (), None))
    assert level == output.lines[-1]["level"]


def test_an_exception_is_described_by_type_and_location_only() -> None:
    """R79: its text may quote a header."""
    try:
        raise KeyError("CANARY")
    except KeyError as error:
        described = json_logging.describe_exception(error)
    assert "KeyError" == described["exception"]
    assert "test_an_exception_is_described" in str(described["places"])
    assert "CANARY" not in str(described)


def test_a_deep_exception_is_described_by_its_last_locations() -> None:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError
        dive(depth - 1)

    with pytest.raises(ValueError, match=r"^$") as caught:
        dive(50)
    places = json_logging.describe_exception(caught.value)["places"]
    assert isinstance(places, list)
    assert 8 == len(places)


def test_no_exception_has_no_description() -> None:
    assert {} == json_logging.describe_exception(None)


async def test_an_unhandled_exception_is_logged_without_its_text(output: CapturedOutput) -> None:
    """By default asyncio prints the exception and the arguments of the task."""
    loop = asyncio.get_running_loop()
    json_logging.log_unhandled_exceptions(loop, debug_logger())

    def fail() -> None:
        raise ValueError("CANARY")

    loop.call_soon(fail)
    await asyncio.sleep(0)
    loop.call_exception_handler({"message": "CANARY"})
    assert [("unhandled", "ValueError"), ("unhandled", None)] == [
        (line["event"], line.get("exception")) for line in output.lines if line["event"] != "third_party"
    ]
    assert "CANARY" not in str(output.lines)


class FullDisk(io.BytesIO):
    """File that raises on every write."""

    def write(self, _data: object) -> int:
        """Raise OSError."""
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        """Raise OSError."""
        raise OSError(errno.ENOSPC, "No space left on device")


@dataclass
class FakeStdout:
    """Stub of `sys.stdout`."""

    buffer: io.BytesIO
    isatty: Callable[[], bool] = lambda: False


def test_a_log_that_cannot_be_written_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The access log line follows a paid run, whose response must not be lost."""
    closed = io.BytesIO()
    closed.close()
    for broken in (FullDisk(), closed):
        monkeypatch.setattr(sys, "stdout", FakeStdout(broken))
        log = json_logging.configure("info", "json", ManualClock())
        log.info("request")
        logging.getLogger("library").warning("text")


def test_the_console_format_shows_the_same_events(output: CapturedOutput) -> None:
    """The format "console" omits texts of libraries too."""
    log = json_logging.configure("info", "console", ManualClock())
    log.info("listening", url="http://127.0.0.1:1")
    logging.getLogger("library").warning("CANARY")
    assert b"listening" in output.text
    assert b"third_party" in output.text
    assert b"CANARY" not in output.text


def test_json_is_what_a_pipe_gets(output: CapturedOutput) -> None:
    """`auto`: colours on a terminal, JSON otherwise."""
    json_logging.configure("info", "auto", ManualClock()).info("x")
    assert ["x"] == [line["event"] for line in output.lines]


def test_control_sequences_reach_no_terminal(output: CapturedOutput) -> None:
    """R73: escape sequences in a workflow name from a client are replaced."""
    json_logging.configure("info", "console", ManualClock()).info("request", workflow="\x1b[2Jgone\u202e")
    assert b"?[2Jgone?" in output.text


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_level_can_be_changed(output: CapturedOutput, form: Literal["json", "console"]) -> None:
    """R100: for existing loggers and for libraries."""
    log = json_logging.configure("warning", form, ManualClock())
    for level in ("debug", "error", "info"):
        json_logging.set_level(level)
        for name in ("debug", "info", "error"):
            getattr(log, name)(f"when_{level}")
            logging.getLogger("library").log(getattr(logging, name.upper()), "x")
    written = output.text.decode()
    assert [3, 1, 2] == [written.count(f"when_{level}") for level in ("debug", "error", "info")]
    assert 12 == len(written.splitlines())
