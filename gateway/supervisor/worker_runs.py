"""Runs that operators start and cancel at the operations port of a supervisor: a worker does that.

The supervisor sends a request as one line over the channel of a worker, and gets what came of it, or the problem. Any
worker cancels any run: it notifies the one to which the run belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

from gateway.api.operator_cancellations import OperatorCancellation, RunCanceller
from gateway.api.operator_runs import OperatorRun, OperatorRunRequest, OperatorRunStarter
from gateway.errors import GatewayError
from gateway.http.body import parse_json_body
from gateway.http.problem_mapping import problem_from_error
from gateway.json import strict_json
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.problems import FieldError, Problem
from gateway.store.contract import StoreUnavailable
from gateway.supervisor.worker_handle import CANCEL_RUN, START_RUN, WorkerGone, WorkerHandle
from gateway.supervisor.worker_pool import WorkerPool

_NO_WORKER = "No worker accepts runs now."
_NOT_STARTED = "The worker has not answered; a repetition with the same key starts nothing twice."
_NO_WORKER_ANSWERS = "No worker answers now."
_NOT_CANCELLED = "The worker has not answered; a repetition is safe."


@dataclass(frozen=True, slots=True)
class WorkerRunStarter:
    """Starts runs in the workers of a pool."""

    pool: WorkerPool

    async def start(self, body: bytes) -> OperatorRun:
        """Let a worker start the run of a body of `POST /api/run`. Raises Problem."""
        parse_json_body(OperatorRunRequest, body)
        worker = next((each for each in self.pool.workers.values() if each.ready), None)
        if worker is None:
            raise Problem("overloaded", _NO_WORKER, retry_after=1)
        line = strict_json.write(strict_json.read(body))
        return OperatorRun(**await _ask(worker, START_RUN, line, without_answer=_NOT_STARTED))


@dataclass(frozen=True, slots=True)
class WorkerRunCanceller:
    """Cancels runs through the workers of a pool. One that shuts down is asked if no other one is there."""

    pool: WorkerPool

    async def cancel(self, run_id: str, actor: str | None) -> OperatorCancellation:
        """Let a worker cancel a run. Raises Problem."""
        workers = sorted(self.pool.workers.values(), key=lambda each: not each.ready)
        worker = next((each for each in workers if not each.unresponsive), None)
        if worker is None:
            raise Problem("overloaded", _NO_WORKER_ANSWERS, retry_after=1)
        line = strict_json.write({"run_id": run_id, "actor": actor})
        return OperatorCancellation(**await _ask(worker, CANCEL_RUN, line, without_answer=_NOT_CANCELLED))


async def _ask(worker: WorkerHandle, command: bytes, line: bytes, *, without_answer: str) -> dict[str, Any]:
    try:
        answer = cast("dict[str, Any]", strict_json.read(await worker.ask(command, line)))
    except (WorkerGone, TimeoutError, strict_json.NotJson):
        raise Problem("store_unavailable", without_answer, retry_after=1) from None
    if "code" in answer:
        raise _decode_problem(answer)
    return answer


@dataclass(frozen=True, slots=True)
class RunCommands:
    """Commands of the supervisor about runs, in the worker that carries them out."""

    starter: OperatorRunStarter
    canceller: RunCanceller
    log: Logger
    names: ClassVar = frozenset({START_RUN, CANCEL_RUN})

    async def answer(self, command: bytes, value: bytes) -> bytes:
        """Carry out a command with a JSON value; returns the answer for the supervisor."""
        try:
            if command == START_RUN:
                return strict_json.write(asdict(await self.starter.start(value)))
            request = cast("dict[str, Any]", strict_json.read(value))
            return strict_json.write(asdict(await self.canceller.cancel(**request)))
        except Problem as problem:
            return _encode_problem(problem)
        except GatewayError as error:
            return _encode_problem(problem_from_error(error))
        except StoreUnavailable:
            return _encode_problem(Problem("store_unavailable", retry_after=1))
        except Exception as defect:  # noqa: BLE001 - the supervisor waits for an answer
            self.log.error("internal_error", **json_logging.describe_exception(defect))
            return _encode_problem(Problem("internal"))


def _encode_problem(problem: Problem) -> bytes:
    return strict_json.write(
        {
            "code": problem.code,
            "detail": problem.detail,
            "retry_after": problem.retry_after,
            "errors": [[error.pointer, error.detail] for error in problem.errors],
            "extra": dict(problem.extra),
        }
    )


def _decode_problem(answer: Mapping[str, Any]) -> Problem:
    errors = tuple(FieldError(*each) for each in answer["errors"])
    return Problem(answer["code"], answer["detail"], answer["retry_after"], errors, extra=answer["extra"])
