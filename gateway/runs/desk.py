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
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.backlog import Backlog
from gateway.runs.catalog import Workflow
from gateway.runs.doubt import in_doubt, unavailable
from gateway.runs.endings import Endings, at_once
from gateway.runs.engine import Engine
from gateway.runs.forgetting import Forgetting
from gateway.runs.orders import stored_run
from gateway.runs.record import Face, RunRecord
from gateway.runs.told import Told
from gateway.runs.webhook import Payload
from gateway.store.contract import Answer, Claim, Key, Phase, Store, StoredRun, StoreUnavailable


@dataclass(slots=True)
class Desk:
    """Keeps runs in `store` as `owner`, under leases of `lease` seconds; `backlog` bounds those in the background.

    A callback is first tried `first_delay` seconds after its run ended. `payloads` are callbacks' bodies where a client
    speaks a provider's own API.
    """

    engine: Engine
    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    lease: float = 30.0
    backlog: Backlog = field(default_factory=Backlog)
    closing: bool = False
    first_delay: Callable[[], float] = at_once
    payloads: Mapping[Face, Payload] = field(default_factory=dict)
    endings: Endings = field(init=False)
    _tasks: dict[asyncio.Task[None], RunRecord] = field(default_factory=dict)
    _kept: dict[str, StoredRun] = field(default_factory=dict)
    _forgetting: Forgetting = field(init=False)

    def __post_init__(self) -> None:
        self._forgetting = Forgetting(self.store, self.clock, self.log, self.owner)
        self.endings = Endings(self.store, self.clock, self.log, self.owner, self.first_delay, self.payloads)

    async def keep(self, run: RunRecord, key: Key | None, *, callback_url: str | None) -> Claim | None:
        """Write a new run down, with its key. The claim that was there before, where the key was used already.

        Raises Problem: overloaded (the client has too many), store_unavailable (then a run whose client does not wait
        may have been kept: its outcome is unknown). ValueError where the id is taken.
        """
        until = self.clock.now().timestamp() + self.lease
        stored = stored_run(run, owner=self.owner, leased_until_at=until, callback_url=callback_url)
        if not run.order.waits:
            try:
                self.backlog.enter(run.order)  # before anything is awaited: others come in the meantime
            except Problem:
                if key is not None and (claim := await self._claim(key)) is not None:
                    return claim
                raise
        try:
            claim = None if self._forgetting.has(run.id) else await self.store.begin(stored, key)
            if self._forgetting.has(claim.run_id if claim else run.id):
                raise in_doubt(run, key)  # the first request was refused: its run is not promised now, dropped then
            if claim is None:
                self._take_over(run, stored)
        except StoreUnavailable:
            if not self.holds(run.id):  # else another request for it was promised it meanwhile
                self._forgetting.drop_later(run.id)  # nobody knows whether it was kept
            raise (unavailable() if run.order.waits else in_doubt(run, key)) from None
        finally:
            if run.journal is None and not run.order.waits:
                self.backlog.leave(run.order)
        return claim

    def kept(self, run: RunRecord) -> StoredRun:
        """The run as it was just written down."""
        return self._kept[run.id]

    def holds(self, run_id: str) -> bool:
        """Whether this process wrote a run down, or took it up, and it has not ended."""
        return run_id in self._kept

    async def still_holds(self, stored: StoredRun) -> bool:
        """Whether a run that was another replica's, and is ours again, is still being worked on here.

        Where the other one has brought it further, our work on it ends: it knew nothing of that.
        """
        ours = self._kept.get(stored.id)
        if ours is None or stored.phase <= ours.phase:
            return ours is not None
        stale = [task for task, run in self._tasks.items() if run.id == stored.id]
        for task in stale:
            task.cancel()
        await asyncio.gather(*stale, return_exceptions=True)
        return False

    async def find(self, run_id: str) -> StoredRun | None:
        """Read a run. Raises Problem("store_unavailable")."""
        try:
            return await self.store.run(run_id)
        except StoreUnavailable:
            raise unavailable() from None

    async def _claim(self, key: Key) -> Claim | None:
        try:
            return await self.store.claim(key.client, key.text)
        except StoreUnavailable:
            return None

    async def serve(self, run: RunRecord, workflow: Workflow, request_id: str) -> Answer:
        """Bring a run to its end while its client waits, and keep the answer.

        Raises Problem where nothing was run: then the key is free again.
        """
        problem = await self.endings.reach(run, self.engine.run(run, workflow))
        if run.status == "not_run" and problem is not None:
            await self.forget(run)
            raise problem
        answer = answers.answer_of(run, problem, request_id)
        await self.endings.write(run, self._kept.pop(run.id), problem, answer)
        return answer

    def start(self, run: RunRecord, workflow: Workflow, *, after: Told | None = None) -> None:
        """Bring a run that was kept to its end in the background, once its client was told of it."""
        begin = partial(self.engine.run, run, workflow)
        self._spawn(run, self._work(run, after.before(begin) if after else begin()))

    def resume(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Start a run that was kept and not sent, in the background."""
        self._take_over(run, stored)
        self.backlog.take_up(run.order)
        self.start(run, workflow)

    def follow(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Go on with a run that was started before, in the background."""
        self._take_over(run, stored)
        self.backlog.take_up(run.order)
        self._spawn(run, self._work(run, self.engine.follow(run, workflow)))

    def _take_over(self, run: RunRecord, stored: StoredRun) -> None:
        run.journal = self
        self._kept[run.id] = stored

    async def give_up(self, run: RunRecord, problem: Problem, stored: StoredRun, *, workflow: str) -> None:
        """End a run that nobody goes on with; it counts under this name of its `workflow`."""
        self.engine.means.metrics.run_ended(run.order.client, workflow, run.provider, run.status)
        await self.endings.conclude(run, stored, problem)

    async def forget(self, run: RunRecord) -> None:
        """Drop a run of which nothing was sent: its key is free again."""
        self._kept.pop(run.id, None)
        await self._forgetting.drop(run.id)

    async def settle(self) -> None:
        """Let starts that are on their way be answered; leave the rest to whoever adopts it."""
        self.closing = True
        for task, run in self._tasks.items():
            stored = self._kept.get(run.id)  # None: it has ended, and that is being written down
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
        await asyncio.gather(self._forgetting.close(), self.endings.close())

    # What the engine says of a run (`Journal`).

    async def sending(self, run: RunRecord) -> None:
        """See `Journal.sending`."""
        if self.closing and not run.order.waits:
            raise asyncio.CancelledError  # it is still queued in the store, and is started by whoever adopts it
        stored = self._kept[run.id]
        if stored.phase is not Phase.FOLLOWING:  # else a repeatable run is handed on: after a crash ask about the first
            stored = self._grown(run, Phase.SENDING, attempts=run.attempts + 1)
        try:
            ours = await self.store.advance(stored)
        except StoreUnavailable:
            raise unavailable() from None
        if not ours:
            raise Problem("store_unavailable", "Another replica works on this run.", extra={"outcome": "unknown"})

    async def refused(self, run: RunRecord) -> None:
        """See `Journal.refused`. Where that can not be written the run goes on: only a crash would make it unknown."""
        stored = self._kept[run.id]
        if stored.phase is not Phase.SENDING:
            return
        try:
            ours = await self.store.unsent(stored)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="queued")
            return
        if ours:
            self._kept[run.id] = replace(stored, phase=Phase.QUEUED)
            if self.closing and not run.order.waits:
                raise asyncio.CancelledError  # whoever adopts it starts it

    async def following(self, run: RunRecord) -> None:
        """See `Journal.following`. Where that can not be written the run goes on: only a crash could lose its id."""
        try:
            await self.store.advance(self._grown(run, Phase.FOLLOWING, attempts=run.attempts))
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="following")
        else:
            if self.closing and not run.order.waits:
                raise asyncio.CancelledError  # whoever adopts it goes on asking

    def _grown(self, run: RunRecord, phase: Phase, *, attempts: int) -> StoredRun:
        stored = self._kept[run.id] = replace(
            self._kept[run.id],
            phase=phase,
            status="running",
            provider=run.provider,
            attempts=attempts,
            provider_run_id=run.provider_run_id,
        )
        return stored

    async def _work(self, run: RunRecord, engine: Coroutine[object, object, None]) -> None:
        try:
            problem = await self.endings.reach(run, engine)
            await self.endings.conclude(run, self._kept.pop(run.id), problem)
        finally:
            self._kept.pop(run.id, None)
            self.backlog.leave(run.order)

    def _spawn(self, run: RunRecord, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = run
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
