"""Completion of durable runs: stores the end of a run together with its response and its callback (outbox)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.byte_budget import current_hold
from gateway.clock import Clock
from gateway.errors import InternalError, RunCancelled, RunError, RunSummary
from gateway.json import strict_json
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs import rendering
from gateway.runs.callbacks.webhook_message import CallbackRenderer, render_callback
from gateway.runs.durable.codec import encode_end_details
from gateway.runs.durable.journal import DurableRun
from gateway.runs.model import ApiName, RunRecord
from gateway.runs.usage import usage_of
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import FinalState, StoredResponse, StoredRun

_STORE_RETRY = 1.0  # seconds between attempts to store an end

ResponseRenderer: TypeAlias = Callable[[RunRecord, RunError | None, str], StoredResponse]
"""Renders the final response to the `POST /run` of a run, from its record, its error and the request id.

Without an error its body is the document of the run.
"""


def no_delay() -> float:
    """Return 0."""
    return 0.0


def ignore_end(_record: RunRecord, _stored: StoredRun) -> None:
    """Do nothing."""


def always() -> bool:
    """Return True."""
    return True


@dataclass(slots=True)
class RunCompletion:
    """Stores the ends of runs as `owner`; each end makes a callback due `first_delay` seconds later.

    `callback_renderers`: renderers of callback bodies, for APIs other than Runward's own. `run_ended` is called before
    the end is stored. `keep_timelines` returns whether events are stored.
    """

    store: Store
    clock: Clock
    log: Logger
    owner: str
    render_response: ResponseRenderer
    first_delay: Callable[[], float] = no_delay
    callback_renderers: Mapping[ApiName, CallbackRenderer] = field(default_factory=dict)
    run_ended: Callable[[RunRecord, StoredRun], None] = ignore_end
    keep_timelines: Callable[[], bool] = always
    _unstored: dict[str, FinalState] = field(default_factory=dict)
    _store_retries: set[asyncio.Task[None]] = field(default_factory=set)

    async def run_to_end(self, run: DurableRun, execute: Callable[[], Awaitable[None]]) -> RunError | None:
        """Execute a run to its end; returns the error that it ended with, if any.

        It ends with RunCancelled once `DurableRun.stop_cancelled` is called.
        """
        record = run.record
        try:
            with run.interruption:
                await execute()
        except RunError as error:
            if isinstance(error, RunCancelled) and record.finished_at is None:
                record.finish(error.ending, self.clock)
                error.run = record.summary()
            return error
        except Exception as defect:  # noqa: BLE001 - a defect of the gateway must not leave the run without an end
            self.log.error("internal_error", run_id=record.id, **json_logging.describe_exception(defect))
            if record.finished_at is None:
                record.finish("not_run", self.clock)  # `unknown` if it may have been started
            internal = InternalError(ending=record.ending)
            internal.run = RunSummary(record.id)
            return internal
        return None

    async def complete(
        self, record: RunRecord, stored: StoredRun, error: RunError | None, *, maybe_keyed: bool = True
    ) -> None:
        """Store and log the end of a run that no request of this process waits for; its key keeps the response.

        `maybe_keyed`: False if the run is known to have no key.
        """
        response = self.stored_response(record, stored, error, maybe_keyed=maybe_keyed)
        await self.persist_result(record, stored, error, response)
        self.log_end(record)

    def log_end(self, record: RunRecord) -> None:
        """Log the end of a run."""
        self.log.info(
            "run_ended",
            run_id=record.id,
            client=record.spec.client,
            workflow=record.spec.workflow,
            provider=record.provider,
            attempts=record.attempts,
            outcome=record.status,
            **({} if record.span is None else record.span.log_fields),
        )

    async def persist_result(
        self, record: RunRecord, stored: StoredRun, error: RunError | None, response: StoredResponse | None
    ) -> None:
        """Store the end of a run; if the store is unavailable, a task retries and the client is answered anyway.

        If another replica has adopted the run meanwhile, because the lease expired, the provider's result replaces the
        end `unknown` that the replica may have stored; else the store keeps what that replica writes.
        """
        final_state = self.final_state(record, stored, error, response)
        hold = current_hold.get()
        if hold is not None:  # the output, read and parsed, is held already
            hold.add(len(final_state.document) + len(final_state.callback or b""))
        self.run_ended(record, stored)
        self._unstored[record.id] = final_state  # before the first await, so that `close` writes it
        try:
            owned = await self.store.finish(record.id, final_state)
            known = owned or await self._revise(record.id, final_state)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=record.id, phase="done")
            task = asyncio.create_task(self._retry_until_stored(record.id, final_state))
            self._store_retries.add(task)
            task.add_done_callback(self._store_retries.discard)
            return
        self._unstored.pop(record.id, None)
        if not owned:
            self.log.warning("lease_lost", run_id=record.id, outcome=record.status, stored=known)

    async def _revise(self, run_id: str, final_state: FinalState) -> bool:
        """Store the end of a run that is not this process's any more, if the provider reported it.

        Returns whether it is stored. Raises StoreUnavailable.
        """
        return final_state.status in {"succeeded", "failed"} and await self.store.revise(run_id, final_state)

    async def _store_end(self, run_id: str, final_state: FinalState) -> None:
        """Store the end of a run. Raises StoreUnavailable."""
        if not await self.store.finish(run_id, final_state):
            await self._revise(run_id, final_state)

    async def close(self) -> None:
        """Write what can be written now; the rest is left to the replicas that adopt the runs."""
        for task in self._store_retries:
            task.cancel()
        final_writes = (self._store_end(run_id, final_state) for run_id, final_state in self._unstored.items())
        await asyncio.gather(*self._store_retries, *final_writes, return_exceptions=True)
        self._unstored.clear()

    def stored_response(
        self, record: RunRecord, stored: StoredRun, error: RunError | None, *, maybe_keyed: bool = True
    ) -> StoredResponse | None:
        """Return the response that the key of the run keeps; None if it is known to have no key."""
        if not maybe_keyed:
            return None
        if record.spec.synchronous:
            return self.render_response(record, error, record.id)
        return rendering.render_accepted(stored)

    def final_state(
        self, record: RunRecord, stored: StoredRun, error: RunError | None, response: StoredResponse | None
    ) -> FinalState:
        """Return the end of a run for the store, with the body of its callback."""
        document = _document(record, error, response)
        render = self.callback_renderers.get(record.spec.api, render_callback)
        finished_at = record.created_at.timestamp() + record.duration
        return FinalState(
            owner=self.owner,
            status=record.status,
            document=document,
            finished_at=finished_at,
            attempts=record.attempts,
            provider_run_id=record.provider_run_id,
            response=response,
            callback=render(record.spec, document, self.clock.now()) if stored.callback_url else None,
            callback_due_at=finished_at + self.first_delay() if stored.callback_url else None,
            details=encode_end_details(record, None if error is None else (error.code, error.detail or None)),
            events=self._events(record, error),
            usage=usage_of(record),
        )

    def _events(self, record: RunRecord, error: RunError | None) -> bytes:
        """Return the events of a run that are not in its timeline yet, the last of which is its end."""
        if not self.keep_timelines():
            return b""
        ended = record.started_monotonic + record.duration
        return record.take_events(ended, "ended", record.status, error and error.code)

    async def _retry_until_stored(self, run_id: str, final_state: FinalState) -> None:
        while True:
            await self.clock.sleep(_STORE_RETRY)
            try:
                await self._store_end(run_id, final_state)
            except StoreUnavailable:
                continue
            self._unstored.pop(run_id, None)
            return


def _document(record: RunRecord, error: RunError | None, response: StoredResponse | None) -> bytes:
    """Return the document of a run that has ended; most final responses consist of it."""
    if error is None and response is not None and record.spec.synchronous and not record.raw_errors:
        return response.body
    return strict_json.write(rendering.finished_run_document(record, error))
