"""How kept runs end: with an answer for their key and a callback, written down however often the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.record import Face, RunRecord
from gateway.runs.webhook import Payload, payload
from gateway.store.contract import Answer, Finish, Store, StoredRun, StoreUnavailable

_STORE_RETRY = 1.0  # seconds between attempts to write down how a run ended


def at_once() -> float:
    """No delay."""
    return 0.0


@dataclass(slots=True)
class Endings:
    """Writes ends into `store` as `owner`. A callback is due `first_delay` seconds after the end.

    Its body is that of `payloads` where the client speaks a provider's own API.
    """

    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    first_delay: Callable[[], float] = at_once
    payloads: Mapping[Face, Payload] = field(default_factory=dict)
    _unwritten: dict[str, Finish] = field(default_factory=dict)
    _insisting: set[asyncio.Task[None]] = field(default_factory=set)

    async def reach(self, run: RunRecord, engine: Coroutine[object, object, None]) -> Problem | None:
        """Let the engine bring a run to its end; the problem that it met, if any."""
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

    async def conclude(self, run: RunRecord, stored: StoredRun, problem: Problem | None) -> None:
        """End a run whose client is told later, and say so in the log."""
        kept = answers.answer_of(run, problem, run.id) if run.order.waits else answers.accepted(stored)
        await self.write(run, stored, problem, kept)
        fields = {"run_id": run.id, "client": run.order.client, "workflow": run.order.workflow}
        self.log.info("run_ended", **fields, provider=run.provider, attempts=run.attempts, outcome=run.status)

    async def write(self, run: RunRecord, stored: StoredRun, problem: Problem | None, answer: Answer) -> None:
        """Write down how a run ended. Where the store can not, somebody keeps trying; the answer is given anyway.

        So it is where another replica has taken the run over, because our lease was over: what we have is the run's own
        result, and true. The store keeps what the other one says, which may know less.
        """
        document, body = answers.ended(run, problem), self.payloads.get(run.order.face, payload)
        finished_at = run.created_at.timestamp() + run.duration
        finish = Finish(
            owner=self.owner,
            status=run.status,
            document=document,
            finished_at=finished_at,
            attempts=run.attempts,
            provider_run_id=run.provider_run_id,
            answer=answer,
            callback=body(run.order, document, self.clock.now()) if stored.callback_url else None,
            callback_due_at=finished_at + self.first_delay(),
        )
        self._unwritten[run.id] = finish  # before anything is awaited: nobody may let go of it unwritten
        try:
            ours = await self.store.finish(run.id, finish)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="done")
            task = asyncio.create_task(self._insist(run.id, finish))
            self._insisting.add(task)
            task.add_done_callback(self._insisting.discard)
            return
        del self._unwritten[run.id]
        if not ours:
            self.log.warning("taken_over", run_id=run.id, outcome=run.status)

    async def close(self) -> None:
        """Write what can be written now, and leave the rest to whoever adopts it."""
        for task in self._insisting:
            task.cancel()
        last_words = (self.store.finish(run_id, finish) for run_id, finish in self._unwritten.items())
        await asyncio.gather(*self._insisting, *last_words, return_exceptions=True)
        self._unwritten.clear()

    async def _insist(self, run_id: str, finish: Finish) -> None:
        while True:
            await self.clock.sleep(_STORE_RETRY)
            try:
                await self.store.finish(run_id, finish)  # False: an attempt before was heard, or it was taken over
            except StoreUnavailable:
                continue
            self._unwritten.pop(run_id, None)
            return
