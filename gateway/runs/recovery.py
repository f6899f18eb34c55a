"""Finds runs that nobody works on any more, after a crash here or of another replica, and takes them up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs.answers import first_provider
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.desk import Desk
from gateway.runs.orders import brought_back, unread
from gateway.runs.record import RunRecord
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable

LEFT = "replica:left"
"""Told in the store by a replica that leaves its runs to the others."""

_BATCH = 100
_HEARD = 0.5  # seconds between two looks at least
_GRACE = 30.0  # seconds: what is followed again gets at least so long, however late it was found
_GONE = "(gone)"  # what a workflow counts as that the configuration no longer has
_UNREAD = "This version of Runward can not read the order of this run."
_LOST = "Runward stopped while this run was being started; whether it ran is not known."


@dataclass(slots=True)
class Recovery:
    """Renews the leases of this replica's runs, and adopts those whose lease is over."""

    desk: Desk
    store: Store
    catalog: Catalog
    clock: Clock
    log: FilteringBoundLogger
    _unread: dict[str, StoredRun] = field(default_factory=dict)
    _lost: bool = False  # the store, when it was asked last
    _sure_at: float = 0.0  # from when on a lease that is over means that nobody renews it
    _turn: int = 1  # until the store's answer has come: what it took for us, and could not say, it says next time

    async def keep_watch(self) -> None:
        """Do both for ever, three times within each lease, and when another replica leaves.

        A store that was away for longer than a lease comes back to leases that are over, of replicas that live: so they
        get the time to renew them before anything is adopted.
        """
        while True:
            await self._rest(self.desk.lease / 3)
            try:
                await self.store.renew(self.desk.owner, self._until())
                now = self.clock.monotonic()
                if self._lost:
                    self._lost, self._sure_at = False, now + self.desk.lease / 2
                if now >= self._sure_at and not self.desk.closing:
                    await self.look_once()
            except StoreUnavailable:
                self._lost = True
                self.log.warning("store_unavailable")
            except Exception as mistake:  # noqa: BLE001 - ours; every lease would run out if it ended the watch
                self.log.error("mistake", **logs.describe(mistake))

    async def _rest(self, seconds: float) -> None:
        """Wait for so long, or until a replica leaves."""
        end = self.clock.monotonic() + seconds
        await self.clock.sleep(min(seconds, _HEARD))
        while (left := end - self.clock.monotonic()) > 0 and not self.store.told(LEFT):
            try:
                await self.store.wait([LEFT], left)
            except StoreUnavailable:
                await self.clock.sleep(left)

    async def look_once(self) -> None:
        """Adopt what there is. Raises StoreUnavailable."""
        while True:
            now, until = self.clock.now().timestamp(), self._until()
            found = await self.store.adopt(self.desk.owner, now_at=now, until_at=until, limit=_BATCH, turn=self._turn)
            self._turn += 1
            await asyncio.gather(*(self._take_up(stored) for stored in found))
            if len(found) < _BATCH:
                break
            await self.store.renew(self.desk.owner, self._until())  # what we work on does not wait for what is left
        await self._end_unread()

    async def _take_up(self, stored: StoredRun) -> None:
        if await self.desk.still_holds(stored):
            return
        try:
            run = brought_back(stored, self.clock)
        except (TypeError, ValueError, KeyError):  # another version wrote it: nothing is sent, and others go on
            self.log.error("not_understood", run_id=stored.id, client=stored.client)
            self._unread[stored.id] = stored
            return
        self.log.info("adopted", run_id=run.id, client=stored.client, phase=stored.phase.name.lower())
        if stored.phase is Phase.QUEUED and run.order.waits:
            await self.desk.forget(run)  # its client got no answer, and its key is free to start it
        elif stored.phase is Phase.SENDING:
            await self._give_up(run, stored, Problem("upstream_disconnected", _LOST, extra={"outcome": "unknown"}))
        else:
            await self._go_on(run, stored)

    async def _end_unread(self) -> None:
        """End what this version can not read, once its time is over."""
        now = self.clock.now().timestamp()
        for stored in [run for run in self._unread.values() if run.deadline_at + _GRACE <= now]:
            del self._unread[stored.id]
            await self._give_up(unread(stored, self.clock), stored, Problem("internal", _UNREAD))

    async def _go_on(self, run: RunRecord, stored: StoredRun) -> None:
        workflow = self._workflow(stored)
        if workflow is None:
            gone = Problem("workflow_not_found", "The configuration no longer has this workflow.")
            await self._give_up(run, stored, gone)
        elif stored.phase is Phase.QUEUED:
            self.desk.resume(run, workflow, stored)
        else:
            run.deadline = max(run.deadline, self.clock.monotonic() + _GRACE)
            self.desk.follow(run, workflow, stored)

    async def _give_up(self, run: RunRecord, stored: StoredRun, problem: Problem) -> None:
        run.code = problem.code
        run.close("not_run", self.clock)  # "unknown", where it may have been started
        problem.extra = {"run_id": run.id, "provider": run.provider, "attempts": run.attempts, "outcome": run.status}
        workflow = self._workflow(stored)
        await self.desk.give_up(run, problem, stored, workflow=workflow.alias if workflow else _GONE)

    def _workflow(self, stored: StoredRun) -> Workflow | None:
        """What the run is about: from the first one on, where nothing was sent, else the one that it was sent to."""
        queued = stored.phase is Phase.QUEUED
        found = self.catalog.known(stored.workflow, first_provider(stored) if queued else stored.provider)
        return self.catalog.at(stored.provider) if found is None and stored.phase is Phase.FOLLOWING else found

    def _until(self) -> float:
        return self.clock.now().timestamp() + self.desk.lease
