"""Log writer: lines reach the descriptor in order; an unread output blocks nothing."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.observability.log_writer import LogWriter

_READ_SIZE = 1_000_000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: the end that is read, the end that is written."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for descriptor in (read_end, write_end):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_lines(descriptor: int, count: int) -> list[bytes]:
    """Read this number of lines."""
    data = b""
    while data.count(b"\n") < count:
        piece = os.read(descriptor, _READ_SIZE)
        assert piece
        data += piece
    return data.splitlines()


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    """Those of several threads each whole."""
    writer = LogWriter(pipe[1])

    def write_lines(name: bytes) -> None:
        for number in range(500):
            writer.write(b"%s %d" % (name, number))

    threads = [threading.Thread(target=write_lines, args=(name,)) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    lines = read_lines(pipe[0], 1000)
    for name in (b"a", b"b"):
        assert [b"%s %d" % (name, n) for n in range(500)] == [line for line in lines if line.startswith(name)]
    writer.close()


def test_a_line_after_a_pause_is_written_at_once(pipe: tuple[int, int]) -> None:
    """No other line has to follow it, however long the writer has waited."""
    writer = LogWriter(pipe[1])
    for pause in (0.0, 0.001, 0.03, 0.1, 0.0):
        time.sleep(pause)
        writer.write(b"line")
        assert [b"line"] == read_lines(pipe[0], 1)
    writer.close()


def test_what_is_queued_is_written_at_the_close(pipe: tuple[int, int]) -> None:
    """No line is lost at a normal end, also without a pause before it."""
    writer = LogWriter(pipe[1])
    for number in range(200):
        writer.write(b"%d" % number)
    writer.close()
    assert [b"%d" % number for number in range(200)] == read_lines(pipe[0], 200)


def test_an_output_that_is_not_read_drops_and_counts_lines(pipe: tuple[int, int]) -> None:
    """Writing returns although the pipe is full; what was queued arrives once the pipe is read."""
    writer = LogWriter(pipe[1], max_queued_bytes=500_000)
    dropped: list[int] = []
    for _ in range(1000):
        writer.write(b"x" * 999)
    writer.report_dropped(dropped.append)
    accepted = 1000 - sum(dropped)
    assert 500 <= accepted < 1000  # the queue, and what the pipe itself takes
    assert accepted == len(read_lines(pipe[0], accepted))
    writer.close()


def test_a_blocked_output_does_not_block_the_close(pipe: tuple[int, int]) -> None:
    """The process ends although its last lines are not read."""
    writer = LogWriter(pipe[1])
    for _ in range(1000):
        writer.write(b"x" * 999)
    writer.close(0.05)
    assert b"x" == os.read(pipe[0], 1)
    os.close(pipe[0])


def test_a_closed_output_drops_and_counts_lines(pipe: tuple[int, int]) -> None:
    """A write error raises nothing."""
    os.close(pipe[0])
    writer = LogWriter(pipe[1])
    dropped: list[int] = []
    writer.report_dropped(dropped.append)
    for _ in range(3):
        writer.write(b"line")
    writer.close()
    assert 3 == sum(dropped)


def test_a_non_blocking_output_loses_no_line(pipe: tuple[int, int]) -> None:
    """Another process that shares the pipe may have made it non-blocking."""
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_NONBLOCK | fcntl.fcntl(pipe[1], fcntl.F_GETFL))
    writer = LogWriter(pipe[1])
    for _ in range(1000):
        writer.write(b"x" * 999)
    assert 1000 == len(read_lines(pipe[0], 1000))
    writer.close()


def test_a_line_written_while_the_writer_is_locked_blocks_nothing(pipe: tuple[int, int]) -> None:
    """The garbage collector runs finalizers at any place, and asyncio's finalizers log."""
    writer = LogWriter(pipe[1], max_queued_bytes=10)

    def report(_count: int) -> None:
        writer.write(b"inner")

    writer.report_dropped(report)
    thread = threading.Thread(target=writer.write, args=(b"x" * 20,), daemon=True)
    thread.start()
    assert [b"inner"] == read_lines(pipe[0], 1)
    thread.join()
    writer.close()
