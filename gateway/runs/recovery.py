"""Finds runs that nobody works on any more, after a crash here or of another replica, and takes them up."""

from __future__ import annotations

from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs.catalog import Catalog
from gateway.runs.desk import Desk
from gateway.runs.orders import brought_back
from gateway.runs.record import RunRecord
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable

_BATCH = 100
_GRACE = 30.0  # seconds: what is followed again gets at least so long, however late it was found
_LOST = "Runward stopped while this run was being started; whether it ran is not known."


@dataclass(slots=True)
class Recovery:
    """Renews the leases of this replica's runs, and adopts those whose lease is over."""

    desk: Desk
    store: Store
    catalog: Catalog
    clock: Clock
    log: FilteringBoundLogger
    _turn: int = 1  # until the store's answer has come: what it took for us, and could not say, it says next time

    async def keep_watch(self) -> None:
        """Do both for ever, three times within each lease."""
        while True:
            await self.clock.sleep(self.desk.lease / 3)
            try:
                await self.store.renew(self.desk.owner, self._until())
                if not self.desk.closing:
                    await self.look_once()
            except StoreUnavailable:
                self.log.warning("store_unavailable")

    async def look_once(self) -> None:
        """Adopt what there is. Raises StoreUnavailable."""
        while True:
            now, until = self.clock.now().timestamp(), self._until()
            found = await self.store.adopt(self.desk.owner, now_at=now, until_at=until, limit=_BATCH, turn=self._turn)
            self._turn += 1
            for stored in found:
                await self._take_up(stored)
            if len(found) < _BATCH:
                return

    async def _take_up(self, stored: StoredRun) -> None:
        try:
            run = brought_back(stored, self.clock)
        except (TypeError, ValueError, KeyError):  # another version wrote it: nothing is sent, and others go on
            self.log.error("not_understood", run_id=stored.id, client=stored.client)
            return
        self.log.info("adopted", run_id=run.id, client=stored.client, phase=stored.phase.name.lower())
        if stored.phase is Phase.QUEUED and run.order.waits:
            await self.desk.forget(run)  # its client got no answer, and its key is free to start it
        elif stored.phase is Phase.SENDING:
            await self._give_up(run, stored, Problem("upstream_disconnected", _LOST, extra={"outcome": "unknown"}))
        else:
            await self._go_on(run, stored)

    async def _go_on(self, run: RunRecord, stored: StoredRun) -> None:
        workflow = self.catalog.known(stored.workflow, stored.provider)
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
        await self.desk.give_up(run, problem, stored)

    def _until(self) -> float:
        return self.clock.now().timestamp() + self.desk.lease
