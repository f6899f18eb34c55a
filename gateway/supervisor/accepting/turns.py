"""Accept counts in memory that all workers share, and the rule that keeps them close to each other.

Each worker writes only its own count, so no lock is needed: an outdated count of another makes a worker wait too long,
never accept too much. The counts decide which worker accepts a connection, not whether it is accepted.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_LEAD = 4
"""Connections that a worker may have accepted more than any other that accepts.

A burst that finds one worker this far ahead may leave another this far ahead: of 50 connections one gets 29 at most.
"""
_ABSENT = -1
_ITEM_BYTES = 8


@dataclass(frozen=True, slots=True)
class AcceptCounts:
    """The number of accepted connections of each worker, or `_ABSENT`. `descriptor`: of the shared memory."""

    descriptor: int
    values: memoryview

    @classmethod
    @contextmanager
    def create(cls, workers: int) -> Iterator[AcceptCounts]:
        """Create the memory; no worker accepts yet. Raises OSError."""
        descriptor = _create_memory(workers * _ITEM_BYTES)
        try:
            counts = cls.attach(descriptor)
            for worker in range(workers):
                counts.remove(worker)
            yield counts
        finally:
            os.close(descriptor)

    @classmethod
    def attach(cls, descriptor: int) -> AcceptCounts:
        """Map the memory of a descriptor that `create` has made. Raises OSError or ValueError."""
        return cls(descriptor, memoryview(mmap.mmap(descriptor, 0)).cast("q"))

    def remove(self, worker: int) -> None:
        """State that the worker does not accept; called by the worker itself, or after its end."""
        self.values[worker] = _ABSENT


@dataclass(slots=True)
class AcceptTurns:
    """Decides whether one worker may accept. `_ignored`: workers that do not use their turns, and their counts."""

    counts: AcceptCounts
    worker: int
    _ignored: dict[int, int] = field(default_factory=dict)

    def join(self) -> None:
        """Take part from now on, with neither lead nor arrears."""
        self._set_own(max(0, self._highest()))

    def leave(self) -> None:
        """Take no further part."""
        self.counts.remove(self.worker)

    def slower_workers(self) -> Mapping[int, int]:
        """Return the workers that are to accept before this one, and their counts; empty if this one may accept."""
        values = self.counts.values
        limit = values[self.worker] - MAX_LEAD
        return {
            worker: count
            for worker, count in enumerate(values)
            if _ABSENT < count <= limit and self._ignored.get(worker) != count
        }

    def ignore(self, workers: Mapping[int, int]) -> None:
        """Do not wait for these workers until their counts change."""
        self._ignored = {**self._ignored, **workers}

    def count_accepted(self) -> None:
        """Count one connection. Arrears are bounded: a worker that was stopped must not take all that follow."""
        self._set_own(max(self.counts.values[self.worker] + 1, self._highest() - MAX_LEAD))

    def _highest(self) -> int:
        return max(self.counts.values)

    def _set_own(self, count: int) -> None:
        self.counts.values[self.worker] = count


def _create_memory(size: int) -> int:
    """Return the descriptor of a file without a name, zeroed."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("runward-accept-counts")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
