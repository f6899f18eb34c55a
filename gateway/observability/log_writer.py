"""Log writer: a thread that writes lines to a descriptor, so that an output that is not read blocks no request.

Lines wait in a bounded list. Under load the thread writes the lines of some milliseconds together, because each time
that it runs it competes with the event loop for the interpreter.
"""

from __future__ import annotations

import atexit
import errno
import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue

_BATCH_SECONDS = 0.01
_MAX_QUEUED_BYTES = 4 * 1024 * 1024
_FLUSH_SECONDS = 2.0  # at the end of the process
_RETRY_MS = 1000  # of a descriptor that another process has made non-blocking


class LogWriter:
    """Writes lines in order, from any thread, without blocking.

    A line that exceeds the queue, or that cannot be written (a full disk, a closed pipe), is dropped and counted.
    """

    def __init__(self, descriptor: int, max_queued_bytes: int = _MAX_QUEUED_BYTES) -> None:
        """Start the thread. The lines that are left at the end of the process are written then."""
        self._descriptor = descriptor
        self._max_queued_bytes = max_queued_bytes
        self._lines: list[bytes] = []
        self._queued_bytes = 0  # those that are being written included
        # The garbage collector may run finalizers, which log, at any place: the lock and the queue are reentrant.
        self._lock = threading.RLock()
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._idle = False  # the thread waits to be woken up
        self._closing = threading.Event()
        self._closed = False
        self._dropped = 0
        self._report_dropped: Callable[[int], object] | None = None
        self._thread = threading.Thread(target=self._write_lines, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: bytes) -> None:
        """Queue a line, without its line end."""
        size = len(line) + 1
        with self._lock:
            if self._queued_bytes + size > self._max_queued_bytes or self._closed:
                self._drop(1)
                return
            self._queued_bytes += size
            self._lines.append(line)
            if self._idle:
                self._idle = False
                self._wake_ups.put(None)

    def report_dropped(self, report: Callable[[int], object]) -> None:
        """Call `report` with the number of lines dropped so far, and at each further drop; from any thread."""
        with self._lock:
            self._report_dropped = report
            if self._dropped:
                report(self._dropped)
                self._dropped = 0

    def close(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Write what is queued, for at most `seconds`. Lines that are logged later are dropped."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
        self._closing.set()
        self._wake_ups.put(None)
        self._thread.join(seconds)

    def _drop(self, count: int) -> None:
        if self._report_dropped is None:
            self._dropped += count
        else:
            self._report_dropped(count)

    def _write_lines(self) -> None:
        """Write the queued lines, at once after a pause, then every `_BATCH_SECONDS`; ends once it is closed."""
        while True:
            with self._lock:
                self._idle = not self._lines  # set first: a line that a finalizer logs from here on wakes the thread up
                lines, self._lines = self._lines, []
                if self._closed and not lines:
                    return
            if not lines:
                self._wake_ups.get()
                continue
            data = b"\n".join([*lines, b""])
            written = self._write_all(data)
            with self._lock:
                self._queued_bytes -= len(data)
                if not written:
                    self._drop(len(lines))
            self._closing.wait(_BATCH_SECONDS)

    def _write_all(self, data: bytes) -> bool:
        """Write everything; False if the rest is lost."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    return False
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(_RETRY_MS)
        return True
