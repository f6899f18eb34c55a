"""The desk where orders are kept: runs that have a key, or whose client does not wait, survive this process.

Before anything is sent, the store knows that it may have been (`SENDING`); as soon as the provider's own id is known,
the store knows that too (`FOLLOWING`). So whoever finds a run after a crash can tell three cases apart: nothing was
sent and it may be started; a start may have been sent and it must not be; it can be asked about.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace

from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.catalog import Workflow
from gateway.runs.engine import Engine
from gateway.runs.forgetting import Forgetting
from gateway.runs.orders import stored_run
from gateway.runs.record import RunRecord
from gateway.runs.webhook import payload
from gateway.store.contract import Answer, Claim, Finish, Key, Phase, Store, StoredRun, StoreUnavailable

_STORE_RETRY = 1.0  # seconds between attempts to write down how a run ended


@dataclass(slots=True)
class Desk:
    """Keeps runs in `store` as `owner`, under leases of `lease` seconds, at most `most_queued` of a client at once."""

    engine: Engine
    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    lease: float = 30.0
    most_queued: int = 1000
    closing: bool = False
    _tasks: dict[asyncio.Task[None], RunRecord] = field(default_factory=dict)
    _queued: Counter[str] = field(default_factory=Counter)
    _kept: dict[str, StoredRun] = field(default_factory=dict)
    _unwritten: dict[str, Finish] = field(default_factory=dict)
    _forgetting: Forgetting = field(init=False)

    def __post_init__(self) -> None:
        self._forgetting = Forgetting(self.store, self.clock, self.log, self.owner)

    async def keep(self, run: RunRecord, key: Key | None, *, callback_url: str | None) -> Claim | None:
        """Write a new run down, with its key. The claim that was there before, where the key was used already.

        Raises Problem: overloaded where the client has too many in the background, store_unavailable.
        """
        client = run.order.client
        if not run.order.waits and self._queued[client] >= self.most_queued:
            detail = "Too many runs of this client wait in the background."
            raise Problem("overloaded", detail, retry_after=5, extra={"outcome": "not_run"})
        until = self.clock.now().timestamp() + self.lease
        stored = stored_run(run, owner=self.owner, leased_until_at=until, callback_url=callback_url)
        self._queued[client] += not run.order.waits  # before anything is awaited: others come in the meantime
        try:
            claim = await self.store.begin(stored, key)
            if claim is None:
                self._take_over(run, stored)
        except StoreUnavailable:
            self._forgetting.drop_later(run.id)  # nobody knows whether it was kept
            raise _unavailable() from None
        finally:
            if run.journal is None:
                self._queued[client] -= not run.order.waits
        return claim

    def kept(self, run: RunRecord) -> StoredRun:
        """The run as it was just written down."""
        return self._kept[run.id]

    async def find(self, run_id: str) -> StoredRun | None:
        """Read a run. Raises Problem("store_unavailable")."""
        try:
            return await self.store.run(run_id)
        except StoreUnavailable:
            raise _unavailable() from None

    async def serve(self, run: RunRecord, workflow: Workflow, request_id: str) -> Answer:
        """Bring a run to its end while its client waits, and keep the answer.

        Raises Problem where nothing was run: then the key is free again.
        """
        problem = await self._run(run, self.engine.run(run, workflow))
        if run.status == "not_run" and problem is not None:
            await self.forget(run)
            raise problem
        answer = answers.answer_of(run, problem, request_id)
        await self._write_end(run, problem, answer)
        return answer

    def start(self, run: RunRecord, workflow: Workflow) -> None:
        """Bring a run that was kept to its end in the background."""
        self._spawn(run, self._work(run, self.engine.run(run, workflow)))

    def resume(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Start a run that was kept and not sent, in the background."""
        self._take_over(run, stored)
        self._queued[run.order.client] += 1
        self.start(run, workflow)

    def follow(self, run: RunRecord, workflow: Workflow, stored: StoredRun) -> None:
        """Go on with a run that was started before, in the background."""
        self._take_over(run, stored)
        self._queued[run.order.client] += 1
        self._spawn(run, self._work(run, self.engine.follow(run, workflow)))

    def _take_over(self, run: RunRecord, stored: StoredRun) -> None:
        run.journal = self
        self._kept[run.id] = stored

    async def give_up(self, run: RunRecord, problem: Problem, stored: StoredRun) -> None:
        """End a run of which nobody can say how it ended."""
        self._kept[run.id] = stored
        await self._write_end(run, problem, answers.answer_of(run, problem, run.id))

    async def forget(self, run: RunRecord) -> None:
        """Drop a run of which nothing was sent: its key is free again."""
        self._kept.pop(run.id, None)
        await self._forgetting.drop(run.id)

    async def settle(self) -> None:
        """Let starts that are on their way be answered; leave the rest to whoever adopts it."""
        self.closing = True
        for task, run in self._tasks.items():
            stored = self._kept.get(run.id)
            if stored is None or stored.phase is not Phase.SENDING or run.finished_at is not None:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Leave everything to whoever adopts it, but for ends that can be written down now."""
        self.closing = True
        self._forgetting.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        last_words = (self.store.finish(run_id, finish) for run_id, finish in self._unwritten.items())
        await asyncio.gather(*last_words, return_exceptions=True)
        self._unwritten.clear()

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
            raise _unavailable() from None
        if not ours:
            raise Problem("store_unavailable", "Another replica works on this run.", extra={"outcome": "unknown"})

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

    # How a run ends.

    async def _run(self, run: RunRecord, engine: Coroutine[object, object, None]) -> Problem | None:
        try:
            await engine
        except Problem as problem:
            return problem
        except Exception as mistake:  # noqa: BLE001 - ours; the run must end all the same
            self.log.error("mistake", run_id=run.id, **logs.describe(mistake))
            if run.finished_at is None:
                run.close("not_run", self.clock)  # "unknown", where it may have been started
            return Problem("internal", extra={"run_id": run.id, "outcome": run.status})
        return None

    async def _work(self, run: RunRecord, engine: Coroutine[object, object, None]) -> None:
        try:
            problem = await self._run(run, engine)
            await self._write_end(run, problem, answers.answer_of(run, problem, run.id))
            fields = {"run_id": run.id, "client": run.order.client, "workflow": run.order.workflow}
            self.log.info("run_ended", **fields, provider=run.provider, attempts=run.attempts, outcome=run.status)
        finally:
            self._queued[run.order.client] -= 1

    async def _write_end(self, run: RunRecord, problem: Problem | None, answer: Answer) -> None:
        """Write down how a run ended. Where the store can not, somebody keeps trying; the answer is given anyway.

        So it is where another replica has taken the run over, because our lease was over: what we have is the run's own
        result, and true. The store keeps what the other one says, which may know less.
        """
        document = answers.ended(run, problem)
        stored = self._kept[run.id]
        finish = Finish(
            owner=self.owner,
            status=run.status,
            document=document,
            finished_at=run.created_at.timestamp() + run.duration,
            attempts=run.attempts,
            provider_run_id=run.provider_run_id,
            answer=answer,
            callback=payload(document, self.clock.now()) if stored.callback_url else None,
        )
        try:
            ours = await self.store.finish(run.id, finish)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="done")
            self._unwritten[run.id] = finish
            self._spawn(run, self._insist(run, finish))
            return
        if not ours:
            self.log.warning("taken_over", run_id=run.id, outcome=run.status)
        self._kept.pop(run.id, None)

    async def _insist(self, run: RunRecord, finish: Finish) -> None:
        while True:
            await self.clock.sleep(_STORE_RETRY)
            try:
                await self.store.finish(run.id, finish)  # False: an attempt before was heard, or it was taken over
            except StoreUnavailable:
                continue
            self._kept.pop(run.id, None)
            self._unwritten.pop(run.id, None)
            return

    def _spawn(self, run: RunRecord, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = run
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


def _unavailable() -> Problem:
    return Problem("store_unavailable", retry_after=1, extra={"outcome": "not_run"})
