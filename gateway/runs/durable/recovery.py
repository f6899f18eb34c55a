"""Recovery: renews the leases of this replica's runs (heartbeat), and adopts runs whose lease has expired."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from gateway.clock import Clock
from gateway.errors import InternalError, ProviderError, RunError, WorkflowRemoved
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.codec import decode_run, unreadable_run
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord
from gateway.runs.rendering import requested_provider
from gateway.store.content_cipher import is_encrypted
from gateway.store.contract import ContentUnreadable, Store, StoreUnavailable
from gateway.store.records import Phase, StoredRun

REPLICA_LEFT = "replica:left"
"""Name of the notification that a replica sends when it leaves its runs to the others."""
MISSING_WORKFLOW = "(gone)"
"""Label in the metrics of a workflow that the configuration no longer has."""

_BATCH_SIZE = 100
_MAX_FAILED_READS = 20  # of runs that cannot be decrypted, at each check
_MIN_CHECK_INTERVAL = 0.5  # seconds, at least, between two checks
_FOLLOW_GRACE = 30.0  # seconds that an adopted run may be followed, at least, whatever its deadline
_MAX_CLOCK_DRIFT = 0.1  # of a lease: a larger difference between two checks is a step of the wall clock
_UNREADABLE_DETAIL = "This version of Runward cannot read the specification of this run."
_UNDECRYPTED_DETAIL = "The specification of this run is encrypted with a key that is not configured."
_START_INTERRUPTED = "Runward stopped while the run was being started; it is not known whether the run was executed."


@dataclass(slots=True)
class Recovery:
    """Lease heartbeat of this replica, and adoption of runs whose lease has expired."""

    durable_runs: DurableRuns
    store: Store
    catalog: Catalog
    clock: Clock
    log: Logger
    _unreadable: dict[str, StoredRun] = field(default_factory=dict)
    _store_lost: bool = False  # whether the store was unavailable at the last check
    _adoption_allowed_at: float = 0.0  # monotonic: from then on an expired lease means that its owner has ended
    _clock_offset: float = field(init=False)  # seconds from the monotonic clock to the wall clock, at the last check
    _batch_id: int = 1  # repeated until the store has answered, so that runs of a lost answer are returned again

    def __post_init__(self) -> None:
        self._clock_offset = self.clock.now().timestamp() - self.clock.monotonic()

    async def run_forever(self) -> None:
        """Renew and adopt in a loop, three times within each lease, and when another replica leaves.

        After an outage of the store longer than a lease, or a step of the wall clock, the leases of live replicas have
        expired too; adoption pauses for half a lease, so that those replicas can renew them.
        """
        while True:
            await self._wait_for_next_check(self.durable_runs.lease / 3)
            try:
                await self.store.renew_leases(self.durable_runs.owner, self._lease_end())
                now = self.clock.monotonic()
                if self._store_lost or self._clock_stepped():
                    self._store_lost, self._adoption_allowed_at = False, now + self.durable_runs.lease / 2
                if now >= self._adoption_allowed_at and not self.durable_runs.closing:
                    await self.adopt_expired_runs()
            except StoreUnavailable:
                self._store_lost = True
                self.log.warning("store_unavailable")
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop: every lease would expire
                self.log.error("internal_error", **json_logging.describe_exception(error))

    def _clock_stepped(self) -> bool:
        """Return whether the wall clock was set since the last call, compared with the monotonic clock."""
        offset = self.clock.now().timestamp() - self.clock.monotonic()
        stepped = abs(offset - self._clock_offset) > self.durable_runs.lease * _MAX_CLOCK_DRIFT
        self._clock_offset = offset
        return stepped

    async def _wait_for_next_check(self, seconds: float) -> None:
        """Wait for `seconds`, or until a replica leaves."""
        end = self.clock.monotonic() + seconds
        await self.clock.sleep(min(seconds, _MIN_CHECK_INTERVAL))
        while (remaining := end - self.clock.monotonic()) > 0 and not self.store.recently_notified(REPLICA_LEFT):
            try:
                await self.store.wait_for_change([REPLICA_LEFT], remaining)
            except StoreUnavailable:
                await self.clock.sleep(remaining)

    async def adopt_expired_runs(self) -> None:
        """Adopt every run whose lease has expired. Raises StoreUnavailable."""
        while True:
            now, lease_end = self.clock.now().timestamp(), self._lease_end()
            found = await self.store.adopt(
                self.durable_runs.owner, now_at=now, until_at=lease_end, limit=_BATCH_SIZE, batch_id=self._batch_id
            )
            self._batch_id += 1
            await asyncio.gather(*(self._adopt(stored) for stored in found))
            if len(found) < _BATCH_SIZE:
                break
            # Leases of runs in progress do not wait for the remaining batches.
            await self.store.renew_leases(self.durable_runs.owner, self._lease_end())
        await self._read_again()
        await self._end_unreadable()

    async def _adopt(self, stored: StoredRun) -> None:
        if await self.durable_runs.still_owns(stored):
            return
        try:
            run = decode_run(stored, self.clock)
        except (TypeError, ValueError, KeyError):  # another version wrote it, or its key is missing
            self.log.error("not_understood", run_id=stored.id, client=stored.client)
            self._unreadable[stored.id] = stored
            return
        self.log.info("adopted", run_id=run.id, client=stored.client, phase=stored.phase.name.lower())
        if stored.phase is Phase.QUEUED and run.spec.synchronous:
            self.durable_runs.settle_budgets(run.id, "not_run")
            await self.durable_runs.discard(run.id)  # its client got no response, and may use its key again
        elif stored.phase is Phase.SENDING:
            await self._abandon(
                run, stored, ProviderError("upstream_disconnected", _START_INTERRUPTED, ending="unknown")
            )
        else:
            await self._resume(run, stored)

    async def _read_again(self) -> None:
        """Continue runs that could not be decrypted, if their key is configured meanwhile. Raises StoreUnavailable.

        After some failures the others wait for the next check, because each one is a read and a log line.
        """
        failures = 0
        for stored in [run for run in self._unreadable.values() if is_encrypted(run.order)]:
            try:
                found = await self.store.get_run(stored.id)
            except ContentUnreadable:
                self._unreadable[stored.id] = self._unreadable.pop(stored.id)  # behind the others
                failures += 1
                if failures == _MAX_FAILED_READS:
                    return
                continue
            del self._unreadable[stored.id]
            if found is not None and found.owner == self.durable_runs.owner and found.phase is not Phase.DONE:
                await self._adopt(found)

    async def _end_unreadable(self) -> None:
        """End runs that cannot be decoded, once their deadline has passed: `not_run` only if no start was sent."""
        now = self.clock.now().timestamp()
        for stored in [run for run in self._unreadable.values() if run.deadline_at + self._grace(run) <= now]:
            del self._unreadable[stored.id]
            detail = _UNDECRYPTED_DETAIL if is_encrypted(stored.order) else _UNREADABLE_DETAIL
            await self._abandon(unreadable_run(stored, self.clock), stored, InternalError(detail))

    def _grace(self, stored: StoredRun) -> float:
        """Return the seconds after its deadline for which a run is left as it is: its key may be configured again."""
        follows = stored.phase is Phase.FOLLOWING and is_encrypted(stored.order)
        return max(_FOLLOW_GRACE, self.durable_runs.executor.context.poll_schedule.follow_for if follows else 0)

    async def _resume(self, run: RunRecord, stored: StoredRun) -> None:
        workflow = self._find_workflow(stored)
        if workflow is None:
            await self._abandon(run, stored, WorkflowRemoved("The configuration no longer has this workflow."))
        elif stored.phase is Phase.QUEUED:
            self.durable_runs.start_adopted(run, workflow, stored)
        else:
            _set_price(run, workflow)
            if stored.status == "unknown":  # its client has been told that the deadline passed
                run = run.follow_on(self.durable_runs.executor.context.poll_schedule.follow_for)
            run.deadline = max(run.deadline, self.clock.monotonic() + _FOLLOW_GRACE)
            self.durable_runs.follow_adopted(run, workflow, stored)

    async def _abandon(self, run: RunRecord, stored: StoredRun, error: RunError) -> None:
        run.finish("not_run", self.clock)  # `finish` turns this into `unknown` if a start may have been sent
        error.ending, error.run = run.ending, replace(run.summary(), provider_run_id=None)
        workflow = self._find_workflow(stored)
        if workflow is not None:
            _set_price(run, workflow)
        await self.durable_runs.abandon(run, error, stored, workflow=workflow.alias if workflow else MISSING_WORKFLOW)

    def _find_workflow(self, stored: StoredRun) -> Workflow | None:
        """Return the requested workflow of a queued run, else the workflow that the start was sent to."""
        queued = stored.phase is Phase.QUEUED
        found = self.catalog.find_stored(stored.workflow, requested_provider(stored) if queued else stored.provider)
        return (
            self.catalog.placeholder_for(stored.provider)
            if found is None and stored.phase is Phase.FOLLOWING
            else found
        )

    def _lease_end(self) -> float:
        return self.clock.now().timestamp() + self.durable_runs.lease


def _set_price(run: RunRecord, workflow: Workflow) -> None:
    """Set what an adopted run cost, or may have cost, by the prices of this configuration."""
    run.price = workflow.price_of(run.spec.label, run.spec.version)
    if run.maybe_started and not run.maybe_paid:
        run.maybe_paid = run.price or 0
