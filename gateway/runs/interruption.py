"""Interruption: ends the work of a task on a run from outside, with an error of the run in place of CancelledError."""

from __future__ import annotations

import asyncio
from types import TracebackType

from gateway.errors import RunError


class Interruption:
    """Context manager around the work, in one task at a time. `interrupt` ends the work with its error.

    Another cancellation of the task, such as that of a shutdown, stays a CancelledError. Interruptions may be nested.
    """

    __slots__ = ("_cancelling", "_error", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._error: RunError | None = None

    def interrupt(self, error: RunError) -> None:
        """End the work with `error` at its current await, or as soon as it begins. Only the first error counts."""
        if self._error is None:
            self._error = error
            if self._task is not None:
                self._task.cancel()

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        cancelled_otherwise = task.uncancel() > self._cancelling
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not cancelled_otherwise:
            raise self._error from None
