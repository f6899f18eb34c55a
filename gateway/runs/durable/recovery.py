"""Finds runs that nobody works on any more, after a crash here or of another replica, and takes them up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.errors import InternalError, ProviderError, RunError, WorkflowRemoved
from gateway.observability import logs
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.codec import decode_run, unreadable_run
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord
from gateway.runs.rendering import requested_provider
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable

REPLICA_LEFT = "replica:left"
"""Told in the store by a replica that leaves its runs to the others."""

_BATCH_SIZE = 100
_MIN_CHECK_INTERVAL = 0.5  # seconds between two looks at least
_FOLLOW_GRACE = 30.0  # seconds: what is followed again gets at least so long, however late it was found
_MISSING_WORKFLOW = "(gone)"  # what a workflow counts as that the configuration no longer has
_UNREADABLE_DETAIL = "This version of Runward can not read the order of this run."
_START_INTERRUPTED = "Runward stopped while this run was being started; whether it ran is not known."


@dataclass(slots=True)
class Recovery:
    """Renews the leases of this replica's runs, and adopts those whose lease is over."""

    durable_runs: DurableRuns
    store: Store
    catalog: Catalog
    clock: Clock
    log: FilteringBoundLogger
    _unreadable: dict[str, StoredRun] = field(default_factory=dict)
    _store_lost: bool = False  # the store, when it was asked last
    _adoption_allowed_at: float = 0.0  # from when on a lease that is over means that nobody renews it
    _batch_id: int = 1  # until the store's answer has come: what it took for us, and could not say, it says next time

    async def run_forever(self) -> None:
        """Do both for ever, three times within each lease, and when another replica leaves.

        A store that was away for longer than a lease comes back to leases that are over, of replicas that live: so they
        get the time to renew them before anything is adopted.
        """
        while True:
            await self._wait_for_next_check(self.durable_runs.lease / 3)
            try:
                await self.store.renew_leases(self.durable_runs.owner, self._lease_end())
                now = self.clock.monotonic()
                if self._store_lost:
                    self._store_lost, self._adoption_allowed_at = False, now + self.durable_runs.lease / 2
                if now >= self._adoption_allowed_at and not self.durable_runs.closing:
                    await self.adopt_expired_runs()
            except StoreUnavailable:
                self._store_lost = True
                self.log.warning("store_unavailable")
            except Exception as error:  # noqa: BLE001 - ours; every lease would run out if it ended the watch
                self.log.error("internal_error", **logs.describe_exception(error))

    async def _wait_for_next_check(self, seconds: float) -> None:
        """Wait for so long, or until a replica leaves."""
        end = self.clock.monotonic() + seconds
        await self.clock.sleep(min(seconds, _MIN_CHECK_INTERVAL))
        while (remaining := end - self.clock.monotonic()) > 0 and not self.store.recently_notified(REPLICA_LEFT):
            try:
                await self.store.wait_for_change([REPLICA_LEFT], remaining)
            except StoreUnavailable:
                await self.clock.sleep(remaining)

    async def adopt_expired_runs(self) -> None:
        """Adopt what there is. Raises StoreUnavailable."""
        while True:
            now, lease_end = self.clock.now().timestamp(), self._lease_end()
            found = await self.store.adopt(
                self.durable_runs.owner, now_at=now, until_at=lease_end, limit=_BATCH_SIZE, batch_id=self._batch_id
            )
            self._batch_id += 1
            await asyncio.gather(*(self._adopt(stored) for stored in found))
            if len(found) < _BATCH_SIZE:
                break
            await self.store.renew_leases(
                self.durable_runs.owner, self._lease_end()
            )  # what we work on does not wait for what is left
        await self._end_unreadable()

    async def _adopt(self, stored: StoredRun) -> None:
        if await self.durable_runs.still_owns(stored):
            return
        try:
            run = decode_run(stored, self.clock)
        except (TypeError, ValueError, KeyError):  # another version wrote it: nothing is sent, and others go on
            self.log.error("not_understood", run_id=stored.id, client=stored.client)
            self._unreadable[stored.id] = stored
            return
        self.log.info("adopted", run_id=run.id, client=stored.client, phase=stored.phase.name.lower())
        if stored.phase is Phase.QUEUED and run.spec.synchronous:
            await self.durable_runs.discard(run)  # its client got no answer, and its key is free to start it
        elif stored.phase is Phase.SENDING:
            await self._abandon(
                run, stored, ProviderError("upstream_disconnected", _START_INTERRUPTED, ending="unknown")
            )
        else:
            await self._resume(run, stored)

    async def _end_unreadable(self) -> None:
        """End what this version can not read, once its time is over."""
        now = self.clock.now().timestamp()
        for stored in [run for run in self._unreadable.values() if run.deadline_at + _FOLLOW_GRACE <= now]:
            del self._unreadable[stored.id]
            await self._abandon(unreadable_run(stored, self.clock), stored, InternalError(_UNREADABLE_DETAIL))

    async def _resume(self, run: RunRecord, stored: StoredRun) -> None:
        workflow = self._find_workflow(stored)
        if workflow is None:
            await self._abandon(run, stored, WorkflowRemoved("The configuration no longer has this workflow."))
        elif stored.phase is Phase.QUEUED:
            self.durable_runs.start_adopted(run, workflow, stored)
        else:
            run.deadline = max(run.deadline, self.clock.monotonic() + _FOLLOW_GRACE)
            self.durable_runs.follow_adopted(run, workflow, stored)

    async def _abandon(self, run: RunRecord, stored: StoredRun, error: RunError) -> None:
        run.finish("not_run", self.clock)  # "unknown", where it may have been started
        error.ending, error.run = run.ending, replace(run.summary(), provider_run_id=None)
        workflow = self._find_workflow(stored)
        await self.durable_runs.abandon(run, error, stored, workflow=workflow.alias if workflow else _MISSING_WORKFLOW)

    def _find_workflow(self, stored: StoredRun) -> Workflow | None:
        """What the run is about: from the first one on, where nothing was sent, else the one that it was sent to."""
        queued = stored.phase is Phase.QUEUED
        found = self.catalog.find_stored(stored.workflow, requested_provider(stored) if queued else stored.provider)
        return (
            self.catalog.placeholder_for(stored.provider)
            if found is None and stored.phase is Phase.FOLLOWING
            else found
        )

    def _lease_end(self) -> float:
        return self.clock.now().timestamp() + self.durable_runs.lease
