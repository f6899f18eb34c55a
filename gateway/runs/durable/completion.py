"""How kept runs end: with an answer for their key and a callback, written down however often the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.errors import InternalError, RunError, RunSummary
from gateway.observability import logs
from gateway.runs import rendering
from gateway.runs.callbacks.webhook import CallbackRenderer, render_callback
from gateway.runs.model import ApiName, RunRecord
from gateway.store.contract import FinalState, Store, StoredResponse, StoredRun, StoreUnavailable

_STORE_RETRY = 1.0  # seconds between attempts to write down how a run ended


ResponseRenderer: TypeAlias = Callable[[RunRecord, RunError | None, str], StoredResponse]
"""Makes the final response to the `POST /run` of a run, from its record, its error and the request id."""


def no_delay() -> float:
    """No delay."""
    return 0.0


@dataclass(slots=True)
class RunCompletion:
    """Writes ends into `store` as `owner`. A callback is due `first_delay` seconds after the end.

    Its body is that of `payloads` where the client speaks a provider's own API.
    """

    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    render_response: ResponseRenderer
    first_delay: Callable[[], float] = no_delay
    callback_renderers: Mapping[ApiName, CallbackRenderer] = field(default_factory=dict)
    _unstored: dict[str, FinalState] = field(default_factory=dict)
    _store_retries: set[asyncio.Task[None]] = field(default_factory=set)

    async def run_to_end(self, run: RunRecord, execution: Coroutine[object, object, None]) -> RunError | None:
        """Let the engine bring a run to its end; the problem that it met, if any."""
        try:
            await execution
        except RunError as error:
            return error
        except Exception as error:  # noqa: BLE001 - ours; the run must end all the same
            self.log.error("internal_error", run_id=run.id, **logs.describe_exception(error))
            if run.finished_at is None:
                run.finish("not_run", self.clock)  # "unknown", where it may have been started
            return internal_error(run)
        return None

    async def complete(self, run: RunRecord, stored: StoredRun, error: RunError | None) -> None:
        """End a run whose client is told later, and say so in the log."""
        answer = self.render_response(run, error, run.id) if run.spec.synchronous else rendering.accepted_answer(stored)
        await self.persist_result(run, stored, error, answer)
        fields = {"run_id": run.id, "client": run.spec.client, "workflow": run.spec.workflow}
        self.log.info("run_ended", **fields, provider=run.provider, attempts=run.attempts, outcome=run.status)

    async def persist_result(
        self, run: RunRecord, stored: StoredRun, error: RunError | None, answer: StoredResponse
    ) -> None:
        """Write down how a run ended. Where the store can not, somebody keeps trying; the answer is given anyway.

        So it is where another replica has taken the run over, because our lease was over: what we have is the run's own
        result, and true. The store keeps what the other one says, which may know less.
        """
        document, render = (
            rendering.finished_run(run, error),
            self.callback_renderers.get(run.spec.api, render_callback),
        )
        finished_at = run.created_at.timestamp() + run.duration
        finish = FinalState(
            owner=self.owner,
            status=run.status,
            document=document,
            finished_at=finished_at,
            attempts=run.attempts,
            provider_run_id=run.provider_run_id,
            response=answer,
            callback=render(run.spec, document, self.clock.now()) if stored.callback_url else None,
            callback_due_at=finished_at + self.first_delay(),
        )
        self._unstored[run.id] = finish  # before anything is awaited: nobody may let go of it unwritten
        try:
            owned = await self.store.finish(run.id, finish)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run.id, phase="done")
            task = asyncio.create_task(self._retry_until_stored(run.id, finish))
            self._store_retries.add(task)
            task.add_done_callback(self._store_retries.discard)
            return
        del self._unstored[run.id]
        if not owned:
            self.log.warning("lease_lost", run_id=run.id, outcome=run.status)

    async def close(self) -> None:
        """Write what can be written now, and leave the rest to whoever adopts it."""
        for task in self._store_retries:
            task.cancel()
        final_writes = (self.store.finish(run_id, finish) for run_id, finish in self._unstored.items())
        await asyncio.gather(*self._store_retries, *final_writes, return_exceptions=True)
        self._unstored.clear()

    async def _retry_until_stored(self, run_id: str, finish: FinalState) -> None:
        while True:
            await self.clock.sleep(_STORE_RETRY)
            try:
                await self.store.finish(run_id, finish)  # False: an attempt before was heard, or it was taken over
            except StoreUnavailable:
                continue
            self._unstored.pop(run_id, None)
            return


def internal_error(run: RunRecord) -> InternalError:
    """Return the error of a run that a defect of the gateway ended."""
    error = InternalError()
    error.ending, error.run = run.ending, RunSummary(run.id)
    return error
