"""Runs that operators request of a supervisor: what a worker refuses is refused as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gateway.api.operator_runs import OperatorRun
from gateway.errors import IdempotencyMismatch, Overloaded
from gateway.json import strict_json
from gateway.problems import FieldError, Problem
from gateway.store.contract import StoreUnavailable
from gateway.supervisor.worker_handle import WorkerGone
from gateway.supervisor.worker_runs import RunCommands, WorkerRunStarter

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = strict_json.write({"client": "one", "idempotency_key": "k", "run": {"workflow": "studio"}})


class Worker:
    """A worker that answers with what `outcome` returns or raises, or with bytes of its own."""

    ready = True

    def __init__(self, outcome: Callable[[], OperatorRun], line: bytes | None = None) -> None:
        self.outcome, self.line = outcome, line

    async def start(self, _body: bytes) -> OperatorRun:
        return self.outcome()

    async def ask(self, command: bytes, value: bytes) -> bytes:
        assert b"\n" not in value
        canceller: Any = None
        if self.line is not None:
            return self.line
        return await RunCommands(self, canceller, structlog.get_logger()).answer(command, value)


class Pool:
    """A pool with these workers."""

    def __init__(self, *workers: Any) -> None:
        self.workers = dict(enumerate(workers))


def fails_with(error: Exception) -> Callable[[], OperatorRun]:
    """Return a function that raises the error."""

    def fail() -> OperatorRun:
        raise error

    return fail


async def ask(*workers: Any, body: bytes = BODY) -> OperatorRun:
    """Start a run in a pool with these workers."""
    starter: Any = WorkerRunStarter(Pool(*workers))  # type: ignore[arg-type]
    run = await starter.start(body)
    assert isinstance(run, OperatorRun)
    return run


async def test_the_run_of_a_ready_worker_is_returned() -> None:
    run, busy = OperatorRun("run_1", "one", "studio", replayed=True), Worker(fails_with(AssertionError()))
    busy.ready = False
    assert run == await ask(
        busy, Worker(lambda: run), body=b'{\n"client":"one","idempotency_key":"k","run":{"workflow":"studio"}}'
    )


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (Problem("invalid_request", "No.", errors=(FieldError("/client", "is not"),)), "invalid_request", "No."),
        (IdempotencyMismatch("Another body."), "idempotency_mismatch", "Another body."),
        (Overloaded("Full.", retry_after=3), "overloaded", "Full."),
        (StoreUnavailable("secret"), "store_unavailable", ""),
        (ValueError("secret"), "internal", ""),
    ],
)
async def test_a_refusal_arrives_as_it_was(error: Exception, code: str, detail: str) -> None:
    with pytest.raises(Problem) as refused:
        await ask(Worker(fails_with(error)))
    assert (code, detail) == (refused.value.code, refused.value.detail)
    if isinstance(error, Problem):
        assert error.errors == refused.value.errors
    if isinstance(error, Overloaded):
        assert (3, "not_run") == (refused.value.retry_after, refused.value.extra["outcome"])


async def test_without_a_worker_or_an_answer_nothing_is_claimed() -> None:
    with pytest.raises(Problem) as refused:
        await ask()
    assert "overloaded" == refused.value.code

    class Gone(Worker):
        async def ask(self, _command: bytes, _value: bytes) -> bytes:
            raise WorkerGone

    for worker in (Gone(fails_with(AssertionError())), Worker(fails_with(AssertionError()), b"{")):
        with pytest.raises(Problem) as unanswered:
            await ask(worker)
        assert ("store_unavailable", True) == (unanswered.value.code, "same key" in unanswered.value.detail)


async def test_an_invalid_body_reaches_no_worker() -> None:
    with pytest.raises(Problem) as refused:
        await ask(Worker(fails_with(AssertionError())), body=b'{"client":"one"}')
    assert "invalid_request" == refused.value.code
