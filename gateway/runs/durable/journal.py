"""Write-ahead journal of a durable run: its phase is in the store before the start is sent.

The store has `SENDING` before a start is sent, `FOLLOWING` with the provider's id of the run as soon as that is known,
and `QUEUED` again once the provider has rejected the start. A process that adopts the run after a crash can thus tell
whether nothing was sent and the run may be started, whether a start may have been sent and must not be repeated, or
whether the provider can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from gateway.clock import Clock
from gateway.errors import RunCancelled, RunError, StoreError
from gateway.observability.logger_protocol import Logger
from gateway.runs.durable.background_limit import BackgroundSlot
from gateway.runs.durable.cancel_request import CancelRequest
from gateway.runs.durable.codec import cancelled_error, is_cancelled
from gateway.runs.durable.start_response_gate import StartGate
from gateway.runs.interruption import Interruption
from gateway.runs.model import RunRecord
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import Phase, RunOverview, StoredRun


@dataclass(slots=True, eq=False)
class DurableRun:
    """A run of this process that the store has: its live record, its row as this process wrote it last, its task.

    `task` is None while the client waits for the response: then the run is part of the request. `gate`: delays the
    response to the start of a background run, if its API does. `maybe_keyed`: False if the run is known to have no
    idempotency key. `cancelled`: the store has ended the run as cancelled. `cancel_request`: its client or an
    operator asked for that after a start was sent; it ends as cancelled if the provider refuses that start.
    `on_acknowledged`: called with the run once the provider's id of the run is known.
    """

    record: RunRecord
    stored: StoredRun
    slot: BackgroundSlot
    task: asyncio.Task[None] | None = None
    gate: StartGate | None = None
    maybe_keyed: bool = True
    cancelled: bool = False
    cancel_request: CancelRequest | None = None
    on_acknowledged: Callable[[RunOverview], None] | None = None
    interruption: Interruption = field(default_factory=Interruption)

    def note_request(self, request: CancelRequest, clock: Clock) -> None:
        """Note that the cancellation was asked for after a start was sent; that an operator did is noted once more."""
        noted = self.cancel_request
        if noted is None or (request.by_operator and not noted.by_operator):
            self.cancel_request = request
            self.record.timeline.add(clock.monotonic(), "cancel_requested", *request.event_values)

    def stop_cancelled(self, error: RunCancelled) -> None:
        """Stop the work on a run that the store has ended as cancelled, with this error."""
        self.note_cancelled()
        self.interruption.interrupt(error)

    def note_cancelled(self) -> None:
        """Note that the store and the metrics have the end of the run."""
        if self.record.span is not None:
            self.record.span.error_type = RunCancelled.code
        self.cancelled = self.record.counted = True


@dataclass(slots=True)
class StoreJournal:
    """`Journal` of a durable run. While the replica shuts down, a background run is left to another replica."""

    run: DurableRun
    store: Store
    clock: Clock
    log: Logger
    is_closing: Callable[[], bool]
    keep_timelines: Callable[[], bool]

    async def record_dispatch(self) -> None:
        """Store SENDING.

        Raises RunCancelled if the run was cancelled, StoreError: `unknown` if another replica works on the
        run, else `not_run`.
        """
        run = self.run
        before = run.stored
        if run.cancel_request is not None and not run.record.maybe_started:
            raise run.cancel_request.error()  # the refusal of the start before was not stored
        self._cancel_if_closing()  # the store has it as queued: the replica that adopts it starts it
        if run.stored.phase is not Phase.FOLLOWING:  # else a repeatable run falls back: a crash resumes the first start
            self._set_phase(Phase.SENDING, attempts=run.record.attempts + 1)
        try:
            owned = await self._advance()
        except StoreUnavailable:
            run.stored = before  # nothing is sent
            raise StoreError(retry_after=1) from None
        if not owned:
            run.stored = before
            raise await self._refusal()

    async def record_rejection(self) -> None:
        """Store QUEUED. A failed write is logged; a crash would then end the run as `unknown`.

        Raises RunCancelled if that was asked for meanwhile.
        """
        run = self.run
        if run.stored.phase is not Phase.SENDING:
            return
        try:
            owned = await self._write(self.store.revert_to_queued(run.stored))
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.record.id, phase="queued")
            return
        if owned:
            run.stored = replace(run.stored, phase=Phase.QUEUED)
            if run.record.span is not None:
                run.record.span.add_phase("queued")
            if run.cancel_request is not None:
                raise run.cancel_request.error()
            self._cancel_if_closing()  # the replica that adopts it starts it

    async def record_provider_run_id(self) -> None:
        """Store FOLLOWING. A failed write is logged; a crash would then lose the id."""
        self._set_phase(Phase.FOLLOWING, attempts=self.run.record.attempts)
        if self.run.gate is not None:
            self.run.gate.accept()
        if self.run.on_acknowledged is not None:
            self.run.on_acknowledged(self.run.stored.overview)
        try:
            await self._advance()
        except StoreUnavailable:
            self.log.warning("not_written", run_id=self.run.record.id, phase="following")
        else:
            self._cancel_if_closing()  # the replica that adopts it polls

    async def record_deadline(self) -> None:
        """Store FOLLOWING with the status `unknown`. A failed write is logged; clients then read `running`."""
        run = self.run
        self._set_phase(Phase.FOLLOWING, attempts=run.record.attempts, status="unknown")
        try:
            await self._advance()
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.record.id, phase="following")
        ids = run.record.span.log_fields if run.record.span is not None else {}
        self.log.info("deadline_passed", run_id=run.record.id, client=run.record.spec.client, **ids)

    async def _advance(self) -> bool:
        """Store the state of the run and its new events; after a failure, the events are stored with the next state."""
        record = self.run.record
        events = record.take_events() if record.timeline.count and self.keep_timelines() else b""
        try:
            return await self._write(self.store.advance(self.run.stored, events))
        except StoreUnavailable:
            record.timeline.put_back(events)
            raise

    async def _refusal(self) -> RunError:
        """Return the reason why the store does not let this process start the run."""
        with contextlib.suppress(StoreUnavailable):
            found = await self.run.record.await_external(self.store.get_overview(self.run.record.id), self.clock)
            if found is not None and is_cancelled(found):
                self.run.note_cancelled()
                return cancelled_error(found)
        return StoreError("Another replica works on this run.", ending="unknown")

    def _write(self, write: Awaitable[bool]) -> Awaitable[bool]:
        """Return the result of a write, once awaited; the time counts as `external_wait` of the run."""
        return self.run.record.await_external(write, self.clock, "store")

    def _cancel_if_closing(self) -> None:
        if not self.run.record.spec.synchronous and self.is_closing():
            raise asyncio.CancelledError

    def _set_phase(self, phase: Phase, *, attempts: int, status: str = "running") -> None:
        run = self.run
        run.stored = run.stored.with_progress(
            phase,
            status=status,
            provider=run.record.provider,
            attempts=attempts,
            provider_run_id=run.record.provider_run_id,
        )
        if run.record.span is not None:
            run.record.span.add_phase("deadline_passed" if status == "unknown" else phase.name.lower())
