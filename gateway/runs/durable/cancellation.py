"""Cancellation of durable runs: ends a run of which no start was sent, in the store, whatever its owner.

The end is one transaction of the store, which then refuses the owner's start. So a crash or a race of replicas can
neither start a cancelled run nor cancel a started one. The owner's work on the run is stopped afterwards, at the latest
when it is about to send the start.

A run that was started ends as its provider reports, which is asked to stop it where its adapter can (see
`provider_cancellation`). The request for it is not stored: it tells the replicas to send no other start, should the
provider refuse the one that was sent, and to stop the run once the provider has acknowledged it. It is lost with their
processes. Before that of an operator, its name is notified, for the timeline of the run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.errors import RunCancelled, RunNotFound
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.catalog import Catalog
from gateway.runs.durable.cancel_request import CLIENT_REQUEST, CancelRequest
from gateway.runs.durable.codec import cancelled_error, decode_run, is_cancelled, unreadable_run
from gateway.runs.durable.journal import DurableRun
from gateway.runs.durable.provider_cancellation import ProviderCancellation
from gateway.runs.durable.recovery import MISSING_WORKFLOW
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord
from gateway.runs.rendering import requested_provider
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import CancelResult, Phase, RunOverview, StoredRun

_CANCELLATIONS = "runs:cancelled"  # name of the notification that follows that of a single run
_REQUEST = "cancel:"  # with the id of a run: name of the notification of a request for a run that was started
_OPERATOR = "cancel-by:"  # with the id of a run, a colon and the name of the operator: notified before `_REQUEST`
_WAIT = 60.0  # seconds
_MAX_READS = 4  # of a run that is started, refused and started again at this moment


@dataclass(slots=True)
class RunCancellation:
    """Cancels runs, and stops the work of this process on runs that other replicas have cancelled."""

    durable_runs: DurableRuns
    store: Store
    catalog: Catalog
    clock: Clock
    log: Logger
    at_provider: ProviderCancellation = field(init=False)

    def __post_init__(self) -> None:
        context = self.durable_runs.executor.context
        self.at_provider = ProviderCancellation(context, self.catalog, self.clock, self.log)

    async def cancel(self, client: str, run_id: str) -> RunOverview:
        """Cancel a run of a client if no start was sent; returns it as it is then.

        Raises RunNotFound, StoreUnavailable; whether the run was cancelled is then unknown, and a repetition is safe.
        """
        return await self._cancel(run_id, client, CLIENT_REQUEST)

    async def cancel_for_operator(self, run_id: str, actor: str | None) -> RunOverview:
        """Cancel a run of any client as `cancel` does. `actor`: name of the operator, for the timeline of the run."""
        return await self._cancel(run_id, None, CancelRequest.of_operator(actor))

    async def _cancel(self, run_id: str, client: str | None, request: CancelRequest) -> RunOverview:
        run, requested = await self._find(run_id, client), False
        for _ in range(_MAX_READS):
            if run.phase is Phase.QUEUED:
                await self._end_queued(run_id, request)
            elif run.phase is Phase.DONE or requested:
                break
            else:
                await self._request(run_id, request)
                requested = True
            run = await self._find(run_id, client)
        if is_cancelled(run):
            self._stop(run_id, cancelled_error(run))  # the answer to an earlier request may have been lost
        return run

    async def run_forever(self) -> None:
        """Stop the work on runs that other replicas cancel."""
        while self.store.shared:
            try:
                await self.store.wait_for_change([_CANCELLATIONS], _WAIT)
                await self.stop_cancelled()
            except StoreUnavailable:
                await self.clock.sleep(1)  # a run that was cancelled meanwhile ends when its start is refused
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))
                await self.clock.sleep(1)

    async def stop_cancelled(self) -> None:
        """Stop the work on the runs of this process of which a cancellation was notified in the last second."""
        for run_id, run in list(self.durable_runs.active.items()):
            if self.store.recently_notified(_REQUEST + run_id):
                self._note_request(run, self._notified_request(run_id))
            if run.stored.phase is Phase.QUEUED and self.store.recently_notified(run_id):
                found = await self.store.get_overview(run_id)
                if found is not None and is_cancelled(found):
                    self._stop(run_id, cancelled_error(found))

    async def _find(self, run_id: str, client: str | None) -> RunOverview:
        """Return a run of a client, or of any. Raises RunNotFound."""
        run = await self.store.get_overview(run_id)
        if client is None and run is None:
            raise RunNotFound("No run with this id is recorded.")
        if run is None or (client is not None and run.client != client):
            raise RunNotFound("The client has no run with this id.")
        return run

    async def _end_queued(self, run_id: str, request: CancelRequest) -> None:
        stored = await self.store.get_run(run_id)
        if stored is None or stored.phase is not Phase.QUEUED:
            return
        record, error = self._decode(stored), request.error()
        if request.by_operator:
            record.timeline.add(self.clock.monotonic(), "cancel_requested", *request.event_values)
        record.finish("not_run", self.clock)
        error.run = record.summary()
        completion = self.durable_runs.completion
        response = completion.stored_response(record, stored, error)
        final_state = completion.final_state(record, stored, error, response)
        if await self.store.cancel_queued(run_id, final_state) is not CancelResult.ENDED:
            return
        self._count(record, stored)
        self.durable_runs.settle_budgets(run_id, "not_run")
        self._stop(run_id, request.error())
        completion.log_end(record)
        await self._notify(_CANCELLATIONS)

    def _decode(self, stored: StoredRun) -> RunRecord:
        try:
            return decode_run(stored, self.clock)
        except (TypeError, ValueError, KeyError):  # another version wrote it
            return unreadable_run(stored, self.clock)

    def _count(self, record: RunRecord, stored: StoredRun) -> None:
        active = self.durable_runs.active.get(record.id)
        if active is not None and active.record.finished_at is not None:
            return  # it has been counted: it ended in this process, in the same moment
        workflow = self.catalog.find_stored(stored.workflow, requested_provider(stored))
        alias = MISSING_WORKFLOW if workflow is None else workflow.alias
        metrics = self.durable_runs.executor.context.metrics
        metrics.run_ended(record.spec.client, alias, record.provider, record.status, api=record.spec.api)
        metrics.run_error(record.provider, RunCancelled.code)

    def _stop(self, run_id: str, error: RunCancelled) -> None:
        active = self.durable_runs.active.get(run_id)
        if active is not None:
            active.stop_cancelled(error)

    async def _request(self, run_id: str, request: CancelRequest) -> None:
        active = self.durable_runs.active.get(run_id)
        if active is not None:
            self._note_request(active, request)
        else:
            if request.by_operator:
                await self._notify(f"{_OPERATOR}{run_id}:{request.actor}")
            await self._notify(_REQUEST + run_id)
            await self._notify(_CANCELLATIONS)

    def _notified_request(self, run_id: str) -> CancelRequest:
        actor = self.store.recent_suffix(f"{_OPERATOR}{run_id}:")
        return CLIENT_REQUEST if actor is None else CancelRequest.of_operator(actor)

    def _note_request(self, active: DurableRun, request: CancelRequest) -> None:
        active.note_request(request, self.clock)
        active.on_acknowledged = self.at_provider.stop_later

    async def _notify(self, name: str) -> None:
        if self.store.shared:
            with contextlib.suppress(StoreUnavailable):
                await self.store.notify(name)
