"""Reads of stored runs for look-ups, lists and waits. A payload is read last, once for all concurrent readers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from gateway.clock import Clock
from gateway.runs import rendering
from gateway.runs.durable import codec
from gateway.store.contract import ContentUnreadable, Store
from gateway.store.records import Phase, RunOverview, StoredRun

T = TypeVar("T")

_PERIOD = 1.0  # seconds between two look-ups of a run that others wait for


@dataclass(slots=True)
class RunReader:
    """Reader of one store for all requests of a process. Every method may raise StoreUnavailable."""

    store: Store
    clock: Clock
    _shared: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)  # reads in progress

    async def find(self, run_id: str) -> RunOverview | None:
        """Return a run without its payloads, or None."""
        return await self.store.get_overview(run_id)

    async def find_whole(self, run: RunOverview) -> StoredRun | None:
        """Return a run with its payloads, in this state or a later one; None if it was deleted.

        Concurrent callers that have seen the same state share one read.
        """
        return await self._share(("run", *_state(run)), lambda: self.store.get_run(run.id))

    async def next_overview(self, run: RunOverview, seconds: float) -> RunOverview | None:
        """Return a run after its next change or a second, or `run` itself after less than a second; None if deleted."""
        if seconds >= _PERIOD:
            return await self.find_later(run.id)
        look_up = self._look_up(run.id, _PERIOD)
        timer = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait((look_up, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return look_up.result() if look_up.done() else run

    async def find_later(self, run_id: str, *, period: float = _PERIOD) -> RunOverview | None:
        """Return a run after its next change or `period` seconds. All that wait for it share one look-up a period."""
        return await asyncio.shield(self._look_up(run_id, period))

    async def find_document(self, run: RunOverview) -> bytes | None:
        """Return the document of a run that has ended; None if it was deleted. Reads are shared as in `find_whole`."""
        return await self._share(("document", *_state(run)), lambda: self.store.get_document(run.id))

    async def view(self, run: RunOverview) -> bytes | None:
        """Render the run for `GET /runs/{id}`; None if it was deleted meanwhile."""
        if not run.durable:
            document = None
            if codec.content_state(run) == "kept":
                with suppress(ContentUnreadable):  # the record itself is in clear
                    document = await self.find_document(run)
            return rendering.recorded_run_view(run) if document is None else rendering.finished_run_view(run, document)
        if run.phase is Phase.DONE:
            document = await self.find_document(run)
            return None if document is None else rendering.finished_run_view(run, document)
        labels = codec.public_details(codec.decode_details(run))
        if "metadata" not in labels:
            whole = await self.find_whole(run)
            if whole is None:
                return None
            labels = codec.stored_labels(whole)
        return rendering.unfinished_run_view(run, labels)

    async def list_item(self, run: RunOverview) -> bytes:
        """Render the run for `GET /runs`, without its output.

        The payloads of a run that an earlier version wrote are read for its details.
        """
        if not codec.has_details(run):
            whole = await self.store.get_run(run.id)
            run = run if whole is None else replace(whole.overview, details=codec.details_of_old_run(whole))
        return rendering.run_list_item(run)

    def _look_up(self, run_id: str, period: float) -> asyncio.Task[RunOverview | None]:
        return self._shared_task(("next", run_id, period), lambda: self._look_up_later(run_id, period))

    async def _look_up_later(self, run_id: str, period: float) -> RunOverview | None:
        try:
            await self.store.wait_for_change([run_id], period)
        finally:
            # From here on others wait for the next change: what they have seen may be newer than what is read now.
            self._shared.pop(("next", run_id, period), None)
        return await self.store.get_overview(run_id)

    async def _share(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        return await asyncio.shield(self._shared_task(key, read))

    def _shared_task(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        task: asyncio.Task[T] | None = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.ensure_future(_await(read))
            task.add_done_callback(lambda done: self._task_done(key, done))
        return task

    def _task_done(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if self._shared.get(key) is task:
            del self._shared[key]
        if not task.cancelled():
            task.exception()  # all its readers may have left


def _state(run: RunOverview) -> tuple[Hashable, ...]:
    """Return what tells apart the states of a run that have different payloads: a read begun before may be older."""
    return run.id, run.phase, run.status, run.finished_at


async def _await(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
