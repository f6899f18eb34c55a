"""Durable runs: a run with an Idempotency-Key, or without a waiting client, survives this process.

The store has such a run before its client is answered, `StoreJournal` its progress, `RunCompletion` its end.
`Recovery` adopts the runs of other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from gateway.byte_budget import Hold, current_hold
from gateway.clock import Clock
from gateway.errors import Overloaded, RunCancelled, RunError
from gateway.observability.logger_protocol import Logger
from gateway.runs import run_tracing
from gateway.runs.callbacks.webhook_message import CallbackRenderer
from gateway.runs.catalog import Workflow
from gateway.runs.durable.acceptance import acceptance_unknown, read_error
from gateway.runs.durable.background_limit import BackgroundLimit, BackgroundSlot
from gateway.runs.durable.codec import encode_run
from gateway.runs.durable.completion import ResponseRenderer, RunCompletion, always, no_delay
from gateway.runs.durable.creation import RunCreator
from gateway.runs.durable.journal import DurableRun, StoreJournal
from gateway.runs.durable.pending_deletes import PendingDeletes
from gateway.runs.durable.start_response_gate import StartGate
from gateway.runs.durable.uncollected_results import CollectionWatch
from gateway.runs.durable.unconfirmed_runs import UnconfirmedRuns
from gateway.runs.executor import RunExecutor
from gateway.runs.model import ApiName, RunRecord, RunStatus
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import IdempotencyKey, IdempotencyRecord, Phase, StoredResponse, StoredRun

Execute: TypeAlias = Callable[[], Awaitable[None]]
FOLLOWED_DETAIL = "Runward polls it until it has ended: GET /runs/{run_id}."


@dataclass(slots=True)
class DurableRuns:
    """Durable runs of this process, which is `owner` in `store`, under leases of `lease` seconds.

    `first_delay`: seconds from the end of a run to the first attempt of its callback. `callback_renderers`: renderers
    of callback bodies, for APIs other than Runward's own. `keep_timelines` returns whether events are stored.
    """

    executor: RunExecutor
    store: Store
    clock: Clock
    log: Logger
    owner: str
    render_response: ResponseRenderer
    lease: float = 30.0
    background_limit: BackgroundLimit = field(default_factory=BackgroundLimit)
    closing: bool = False
    first_delay: Callable[[], float] = no_delay
    callback_renderers: Mapping[ApiName, CallbackRenderer] = field(default_factory=dict)
    keep_timelines: Callable[[], bool] = always
    completion: RunCompletion = field(init=False)
    collection: CollectionWatch = field(init=False)
    _active: dict[str, DurableRun] = field(default_factory=dict)  # by id: stored here or adopted, and not ended
    _background: set[DurableRun] = field(default_factory=set)  # runs whose task is not done
    _pending_deletes: PendingDeletes = field(init=False)
    _creator: RunCreator = field(init=False)
    _unconfirmed: UnconfirmedRuns = field(init=False)

    def __post_init__(self) -> None:
        self._pending_deletes = PendingDeletes(self.store, self.clock, self.log, self.owner)
        self._creator = RunCreator(self.store, self._pending_deletes, self.owns)
        self._unconfirmed = UnconfirmedRuns(self.store, self.clock, self.owner, self.follow_adopted)
        self.collection = CollectionWatch(
            self.store, self.clock, self.log, self.executor.context.metrics.result_not_collected
        )
        self.completion = RunCompletion(
            self.store,
            self.clock,
            self.log,
            self.owner,
            self.render_response,
            self.first_delay,
            self.callback_renderers,
            self.collection.run_ended,
            self.keep_timelines,
        )

    async def persist(
        self, record: RunRecord, key: IdempotencyKey | None, *, callback_url: str | None
    ) -> DurableRun | IdempotencyRecord:
        """Store a new run with its key; returns the record of the key if that was used before.

        Raises Overloaded, StoreError (AcceptanceUnknown for a run whose client does not wait), RunIdTaken.
        """
        try:
            slot = self.background_limit.acquire(record.spec)  # before the first await
        except Overloaded:
            if key is not None and (existing := await self._creator.find_key(key)) is not None:
                return existing
            raise
        try:  # not `with slot`, which takes three calls more
            lease_end = self.clock.now().timestamp() + self.lease
            stored = encode_run(record, owner=self.owner, leased_until_at=lease_end, callback_url=callback_url)
            existing = await self._creator.create(record, stored, key)
        except BaseException:
            slot.release()
            raise
        if existing is not None:
            slot.release()
            return existing
        return self._track(record, stored, slot, maybe_keyed=key is not None)

    def owns(self, run_id: str) -> bool:
        """Return whether this process stored or adopted the run, and it has not ended."""
        return run_id in self._active

    async def still_owns(self, stored: StoredRun) -> bool:
        """Return whether this process already works on a run that it has just adopted.

        If another replica has brought the run further meanwhile, the work on it here is cancelled.
        """
        current = self._active.get(stored.id)
        if current is None or stored.phase <= current.stored.phase:
            return current is not None
        stale = [run.task for run in self._background if run.record.id == stored.id and run.task is not None]
        for task in stale:
            task.cancel()
        await asyncio.gather(*stale, return_exceptions=True)
        return False

    async def find(self, run_id: str) -> StoredRun | None:
        """Read a run. Raises StoreError."""
        try:
            return await self.store.get_run(run_id)
        except StoreUnavailable as error:
            raise read_error(error, run_id) from None

    async def run_and_wait(self, run: DurableRun, workflow: Workflow, request_id: str) -> StoredResponse:
        """Execute a run while its client waits, and store its response.

        Raises RunError if nothing was run; then the key is free again.
        """
        record = run.record
        execute = partial(self.executor.run, record, workflow, self._journal(run))
        error = await self.completion.run_to_end(run, execute)
        if record.status == "not_run" and error is not None and not isinstance(error, RunCancelled):
            await self.discard(record.id)
            raise error
        if error is not None and run.cancelled:  # the store has its end
            self._forget(run)
            raise error
        if error is not None and self._may_follow(record):
            if self.closing:  # the next process adopts it
                await self._journal(run).record_deadline()
                return self.render_response(record, error, request_id)
            if (slot := self._slot_to_follow(record)) is not None:
                run.slot = slot
                return await self._follow_after_response(run, workflow, error, request_id)
        response = self.render_response(record, error, request_id)
        self._forget(run)
        await self.completion.persist_result(record, run.stored, error, response)
        return response

    async def _follow_after_response(
        self, run: DurableRun, workflow: Workflow, error: RunError, request_id: str
    ) -> StoredResponse:
        """Poll a run on after its client's deadline; returns the response for now."""
        record = run.record
        run.record = record.follow_on(self._follow_for)
        journal = self._journal(run)
        await journal.record_deadline()
        self._spawn_task(run, partial(self.executor.follow, run.record, workflow, journal))
        error.detail = f"{error.detail} {FOLLOWED_DETAIL}".lstrip()
        return self.render_response(record, error, request_id)

    async def follow_unstored(self, record: RunRecord, workflow: Workflow, error: RunError) -> bool:
        """Store a run that was not durable and whose client's deadline has passed, and poll it on.

        Returns False, and does nothing, if the provider has not acknowledged its start, or the store is unavailable:
        then its end stays unknown, unless the store turns out to have the run.
        """
        if self.closing:
            return await self.leave_unstored(record)
        slot = self._slot_to_follow(record) if self._may_follow(record) else None
        if slot is None:
            return False
        with slot:
            followed = record.follow_on(self._follow_for)
            stored = await self._create_followed(followed, self.lease)
            if stored is None:
                if not self.closing:
                    self._unconfirmed.look_up_later(followed, workflow)
                return False
            slot.keep()
            run = self._track(followed, stored, slot)
        self._spawn_task(run, partial(self.executor.follow, followed, workflow, self._journal(run)))
        error.detail = f"{error.detail} {FOLLOWED_DETAIL}".lstrip()
        return True

    async def leave_unstored(self, record: RunRecord) -> bool:
        """Store a run that is not durable and that the shutdown interrupts, for another process to poll.

        Returns False, and does nothing, as `follow_unstored`.
        """
        if not self._may_follow(record):
            return False
        return await self._create_followed(record.follow_on(self._follow_for), lease=0) is not None

    async def _create_followed(self, record: RunRecord, lease: float) -> StoredRun | None:
        """Store a run that the provider has acknowledged; None if the store is unavailable."""
        lease_end = self.clock.now().timestamp() + lease
        stored = replace(
            encode_run(record, owner=self.owner, leased_until_at=lease_end, callback_url=None),
            phase=Phase.FOLLOWING,
            status="unknown",
            attempts=record.attempts,
            provider_run_id=record.provider_run_id,
        )
        try:
            await self.store.create_run(stored, None, record.spec.tags)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=record.id, phase="following")
            return None
        self.log.info("deadline_passed", run_id=record.id, client=record.spec.client)
        return stored

    @property
    def _follow_for(self) -> float:
        return self.executor.context.poll_schedule.follow_for

    def _may_follow(self, record: RunRecord) -> bool:
        """Return whether the provider may still be executing a run, and can be asked about it."""
        return record.status == "unknown" and record.provider_run_id is not None and self._follow_for > 0

    def _slot_to_follow(self, record: RunRecord) -> BackgroundSlot | None:
        """Return a background slot for a synchronous run, or None if the client has no more."""
        try:
            return self.background_limit.acquire(replace(record.spec, synchronous=False))
        except Overloaded:
            self.log.warning("not_followed", run_id=record.id, client=record.spec.client)
            return None

    def run_in_background(self, run: DurableRun, workflow: Workflow, *, gate: StartGate | None = None) -> None:
        """Execute a run in a task of its own. `gate` is told of the start, and of the end if that comes first.

        A run that ends as `not_run` while the gate is open is deleted, because the response says so.
        """
        run.gate = gate
        self._spawn_task(run, partial(self.executor.run, run.record, workflow, self._journal(run)))

    def gate_of(self, run_id: str) -> StartGate | None:
        """Return the gate of a run in progress here."""
        run = self._active.get(run_id)
        return None if run is None else run.gate

    def start_adopted(self, record: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Start an adopted run of which nothing was sent, in the background."""
        self.run_in_background(self._track_adopted(record, workflow, stored), workflow)

    def follow_adopted(self, record: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Follow an adopted run that was started, in the background."""
        run = self._track_adopted(record, workflow, stored)
        self._spawn_task(run, partial(self.executor.follow, record, workflow, self._journal(run)))

    async def abandon(self, record: RunRecord, error: RunError, stored: StoredRun, *, workflow: str) -> None:
        """Store the end of a run that is not continued; `workflow` is its label in the metrics."""
        context = self.executor.context
        context.metrics.run_ended(record.spec.client, workflow, record.provider, record.status)
        context.metrics.run_error(record.provider, error.code)
        cost = record.cost()
        context.metrics.run_cost(record.spec.client, workflow, record.provider, spent=cost.spent, unknown=cost.unknown)
        self.settle_budgets(record.id, record.status)
        if context.tracer is not None:
            run_tracing.trace_abandoned(context.tracer, record, workflow, error)
        await self.completion.complete(record, stored, error)

    def settle_budgets(self, run_id: str, status: RunStatus) -> None:
        """Settle what another process may have reserved for a run that has ended."""
        if self.executor.context.budgets is not None:
            self.executor.context.budgets.settle_of_other(run_id, status)

    async def discard(self, run_id: str) -> None:
        """Delete a run of which nothing was sent; its key is free again."""
        self._active.pop(run_id, None)
        await self._pending_deletes.delete(run_id)

    async def drain(self) -> None:
        """Wait for the responses to starts in flight; the other runs are left to the replicas that adopt them."""
        self.closing = True
        self._unconfirmed.close()
        tasks = [run.task for run in self._background if run.task is not None]
        for run in self._background:
            active = self._active.get(run.record.id) is run  # else it has ended, and its end is being stored
            if active and run.stored.phase is not Phase.SENDING and run.record.finished_at is None:
                _cancel(run)
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Cancel every run, and store what can be stored now; the rest is left to the replicas that adopt it."""
        self.closing = True
        self._unconfirmed.close()
        tasks = [run.task for run in self._background if run.task is not None]
        for run in self._background:
            _cancel(run)
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(self._pending_deletes.close(), self.completion.close())

    @property
    def active(self) -> Mapping[str, DurableRun]:
        """The runs of this process that have not ended, by id."""
        return self._active

    def _journal(self, run: DurableRun) -> StoreJournal:
        return StoreJournal(run, self.store, self.clock, self.log, lambda: self.closing, self.keep_timelines)

    def _track(
        self, record: RunRecord, stored: StoredRun, slot: BackgroundSlot, *, maybe_keyed: bool = True
    ) -> DurableRun:
        record.durable = True
        run = self._active[record.id] = DurableRun(record, stored, slot, maybe_keyed=maybe_keyed)
        return run

    def _track_adopted(self, record: RunRecord, workflow: Workflow, stored: StoredRun) -> DurableRun:
        record.timeline.add(self.clock.monotonic(), "adopted", self.owner)
        tracer = self.executor.context.tracer
        if tracer is not None:
            run_tracing.start_run(tracer, record, workflow.alias, linked=True, phase=stored.phase)
        return self._track(record, stored, self.background_limit.acquire_unchecked(record.spec))

    def _forget(self, run: DurableRun) -> None:
        if self._active.get(run.record.id) is run:  # else it was adopted again meanwhile
            del self._active[run.record.id]

    def _spawn_task(self, run: DurableRun, execute: Execute) -> None:
        run.task = asyncio.create_task(self._run_and_complete(run, execute))
        self._background.add(run)
        run.task.add_done_callback(lambda _: self._task_done(run))

    async def _run_and_complete(self, run: DurableRun, execute: Execute) -> None:
        with Hold(self.executor.context.byte_budget) as hold:
            current_hold.set(hold)
            error = await self.completion.run_to_end(run, execute)
            try:
                if run.gate is not None and await self._ends_refused(run, run.gate, error):
                    return
            finally:
                self._forget(run)
            if not run.cancelled:  # else the store has its end
                await self.completion.complete(run.record, run.stored, error, maybe_keyed=run.maybe_keyed)

    async def _ends_refused(self, run: DurableRun, gate: StartGate, error: RunError | None) -> bool:
        """Decide the gate of a run that has ended, if it is open. Returns True if the run was refused and deleted.

        The run is deleted before its client gets the refusal: else a process that adopts it would start it.
        """
        if gate.claim():
            ending = run.record.ending
            if ending != "not_run" or error is None:
                gate.decide(error if ending == "unknown" else None)
            else:
                refusal: RunError = acceptance_unknown(run.record, None)
                try:
                    if await self._pending_deletes.delete(run.record.id):
                        refusal = error
                finally:
                    gate.decide(refusal)
                return True
        with contextlib.suppress(asyncio.CancelledError):  # the process ends: the end is stored all the same
            await gate.wait_until_sent()
        return False

    def _task_done(self, run: DurableRun) -> None:
        if run.gate is not None:
            run.gate.accept()
        self._background.discard(run)
        self._forget(run)
        run.slot.release()


def _cancel(run: DurableRun) -> None:
    if run.task is not None:
        run.task.cancel()
