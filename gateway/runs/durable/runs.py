"""The desk where orders are kept: runs that have a key, or whose client does not wait, survive this process.

Before anything is sent, the store knows that it may have been (`SENDING`); as soon as the provider's own id is known,
the store knows that too (`FOLLOWING`); and where the provider refused the start, that there was none (`QUEUED`). So
whoever finds a run after a crash can tell three cases apart: nothing was sent and it may be started; a start may have
been sent and it must not be; it can be asked about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.errors import Overloaded, RunError, StoreError
from gateway.runs.callbacks.webhook import CallbackRenderer
from gateway.runs.catalog import Workflow
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.durable.codec import encode_run
from gateway.runs.durable.completion import ResponseRenderer, RunCompletion, no_delay
from gateway.runs.durable.pending_deletes import PendingDeletes
from gateway.runs.durable.response_sent import ResponseSent
from gateway.runs.durable.store_problems import acceptance_unknown, store_unavailable
from gateway.runs.executor import RunExecutor
from gateway.runs.model import ApiName, RunRecord
from gateway.store.contract import (
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    Store,
    StoredResponse,
    StoredRun,
    StoreUnavailable,
)


@dataclass(slots=True)
class DurableRuns:
    """Keeps runs in `store` as `owner`, under leases of `lease` seconds; `backlog` bounds those in the background.

    A callback is first tried `first_delay` seconds after its run ended. `payloads` are callbacks' bodies where a client
    speaks a provider's own API.
    """

    executor: RunExecutor
    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    render_response: ResponseRenderer
    lease: float = 30.0
    background_limit: BackgroundLimit = field(default_factory=BackgroundLimit)
    closing: bool = False
    first_delay: Callable[[], float] = no_delay
    callback_renderers: Mapping[ApiName, CallbackRenderer] = field(default_factory=dict)
    completion: RunCompletion = field(init=False)
    _tasks: dict[asyncio.Task[None], RunRecord] = field(default_factory=dict)
    _stored_runs: dict[str, StoredRun] = field(default_factory=dict)
    _pending_deletes: PendingDeletes = field(init=False)

    def __post_init__(self) -> None:
        self._pending_deletes = PendingDeletes(self.store, self.clock, self.log, self.owner)
        self.completion = RunCompletion(
            self.store,
            self.clock,
            self.log,
            self.owner,
            self.render_response,
            self.first_delay,
            self.callback_renderers,
        )

    async def persist(
        self, run: RunRecord, key: IdempotencyKey | None, *, callback_url: str | None
    ) -> IdempotencyRecord | None:
        """Write a new run down, with its key. The claim that was there before, where the key was used already.

        Raises Overloaded (the client has too many), StoreError (AcceptanceUnknown for a run whose client does not wait). ValueError where the id is taken.
        """
        lease_end = self.clock.now().timestamp() + self.lease
        stored = encode_run(run, owner=self.owner, leased_until_at=lease_end, callback_url=callback_url)
        if not run.spec.synchronous:
            try:
                self.background_limit.acquire(run.spec)  # before anything is awaited: others come in the meantime
            except Overloaded:
                if key is not None and (existing := await self._find_key(key)) is not None:
                    return existing
                raise
        try:
            existing = None if self._pending_deletes.is_pending(run.id) else await self.store.create_run(stored, key)
            if self._pending_deletes.is_pending(existing.run_id if existing else run.id):
                raise acceptance_unknown(
                    run, key
                )  # the first request was refused: its run is not promised now, dropped then
            if existing is None:
                self._track(run, stored)
        except StoreUnavailable:
            if not self.owns(run.id):  # else another request for it was promised it meanwhile
                self._pending_deletes.delete_later(run.id)  # nobody knows whether it was kept
            raise (store_unavailable() if run.spec.synchronous else acceptance_unknown(run, key)) from None
        finally:
            if run.journal is None and not run.spec.synchronous:
                self.background_limit.release(run.spec)
        return existing

    def stored_run(self, run: RunRecord) -> StoredRun:
        """The run as it was just written down."""
        return self._stored_runs[run.id]

    def owns(self, run_id: str) -> bool:
        """Whether this process wrote a run down, or took it up, and it has not ended."""
        return run_id in self._stored_runs

    async def still_owns(self, stored: StoredRun) -> bool:
        """Whether a run that was another replica's, and is ours again, is still being worked on here.

        Where the other one has brought it further, our work on it ends: it knew nothing of that.
        """
        current = self._stored_runs.get(stored.id)
        if current is None or stored.phase <= current.phase:
            return current is not None
        stale = [task for task, run in self._tasks.items() if run.id == stored.id]
        for task in stale:
            task.cancel()
        await asyncio.gather(*stale, return_exceptions=True)
        return False

    async def find(self, run_id: str) -> StoredRun | None:
        """Read a run. Raises StoreError."""
        try:
            return await self.store.get_run(run_id)
        except StoreUnavailable:
            raise store_unavailable() from None

    async def _find_key(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        try:
            return await self.store.get_idempotency_record(key.client, key.text)
        except StoreUnavailable:
            return None

    async def run_and_wait(self, run: RunRecord, workflow: Workflow, request_id: str) -> StoredResponse:
        """Bring a run to its end while its client waits, and keep the answer.

        Raises RunError where nothing was run: then the key is free again.
        """
        error = await self.completion.run_to_end(run, self.executor.run(run, workflow))
        if run.status == "not_run" and error is not None:
            await self.discard(run)
            raise error
        answer = self.render_response(run, error, request_id)
        await self.completion.persist_result(run, self._stored_runs.pop(run.id), error, answer)
        return answer

    def run_in_background(
        self, run: RunRecord, workflow: Workflow, *, response_sent: ResponseSent | None = None
    ) -> None:
        """Bring a run that was kept to its end in the background, once its client was told of it."""
        start_run = partial(self.executor.run, run, workflow)
        self._spawn_task(
            run, self._run_to_end(run, response_sent.run_after(start_run) if response_sent else start_run())
        )

    def start_adopted(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Start a run that was kept and not sent, in the background."""
        self._track(run, stored)
        self.background_limit.acquire_unchecked(run.spec)
        self.run_in_background(run, workflow)

    def follow_adopted(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Go on with a run that was started before, in the background."""
        self._track(run, stored)
        self.background_limit.acquire_unchecked(run.spec)
        self._spawn_task(run, self._run_to_end(run, self.executor.follow(run, workflow)))

    def _track(self, run: RunRecord, stored: StoredRun) -> None:
        run.journal = self
        self._stored_runs[run.id] = stored

    async def abandon(self, run: RunRecord, error: RunError, stored: StoredRun, *, workflow: str) -> None:
        """End a run that nobody goes on with; it counts under this name of its `workflow`."""
        self.executor.context.metrics.run_ended(run.spec.client, workflow, run.provider, run.status)
        await self.completion.complete(run, stored, error)

    async def discard(self, run: RunRecord) -> None:
        """Drop a run of which nothing was sent: its key is free again."""
        self._stored_runs.pop(run.id, None)
        await self._pending_deletes.delete(run.id)

    async def drain(self) -> None:
        """Let starts that are on their way be answered; leave the rest to whoever adopts it."""
        self.closing = True
        for task, run in self._tasks.items():
            stored = self._stored_runs.get(run.id)  # None: it has ended, and that is being written down
            if stored is not None and stored.phase is not Phase.SENDING and run.finished_at is None:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Leave everything to whoever adopts it, but for ends that can be written down now."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(self._pending_deletes.close(), self.completion.close())

    # What the engine says of a run (`Journal`).

    async def record_dispatch(self, run: RunRecord) -> None:
        """See `Journal.sending`."""
        if self.closing and not run.spec.synchronous:
            raise asyncio.CancelledError  # it is still queued in the store, and is started by whoever adopts it
        stored = self._stored_runs[run.id]
        if stored.phase is not Phase.FOLLOWING:  # else a repeatable run is handed on: after a crash ask about the first
            stored = self._with_phase(run, Phase.SENDING, attempts=run.attempts + 1)
        try:
            owned = await self.store.advance(stored)
        except StoreUnavailable:
            raise store_unavailable() from None
        if not owned:
            raise StoreError("Another replica works on this run.", ending="unknown")

    async def record_rejection(self, run: RunRecord) -> None:
        """See `Journal.refused`. Where that can not be written the run goes on: only a crash would make it unknown."""
        stored = self._stored_runs[run.id]
        if stored.phase is not Phase.SENDING:
            return
        try:
            owned = await self.store.revert_to_queued(stored)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="queued")
            return
        if owned:
            self._stored_runs[run.id] = replace(stored, phase=Phase.QUEUED)
            if self.closing and not run.spec.synchronous:
                raise asyncio.CancelledError  # whoever adopts it starts it

    async def record_provider_run_id(self, run: RunRecord) -> None:
        """See `Journal.following`. Where that can not be written the run goes on: only a crash could lose its id."""
        try:
            await self.store.advance(self._with_phase(run, Phase.FOLLOWING, attempts=run.attempts))
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="following")
        else:
            if self.closing and not run.spec.synchronous:
                raise asyncio.CancelledError  # whoever adopts it goes on asking

    def _with_phase(self, run: RunRecord, phase: Phase, *, attempts: int) -> StoredRun:
        stored = self._stored_runs[run.id] = replace(
            self._stored_runs[run.id],
            phase=phase,
            status="running",
            provider=run.provider,
            attempts=attempts,
            provider_run_id=run.provider_run_id,
        )
        return stored

    async def _run_to_end(self, run: RunRecord, execution: Coroutine[object, object, None]) -> None:
        try:
            error = await self.completion.run_to_end(run, execution)
            await self.completion.complete(run, self._stored_runs.pop(run.id), error)
        finally:
            self._stored_runs.pop(run.id, None)
            self.background_limit.release(run.spec)

    def _spawn_task(self, run: RunRecord, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = run
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
